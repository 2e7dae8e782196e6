"""Checks of printed counts and hyper-parameters: totals, released corpora, attention heads, steps of the optimiser."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from merlib import declarations
from merlib.audit.evaluations import Evaluation
from merlib.audit.printed import Finding, Interval, finding, number, show
from merlib.data.official import BY_SPEAKER, CLASSES, DIALOGUES, LABELS
from merlib.declarations.schema import Cell, Paper, Row, Table

MERGED = {("iemocap4", "happy"): ("happy", "excited")}  # classes that a corpus joins
FEW_STEPS = 1000  # fewer steps of the optimiser than this are a note


def fact_findings(paper: Paper, evaluated: list[Evaluation]) -> Iterator[Finding]:
    """The findings of this module within one paper."""
    for table in paper.tables.values():
        for row in table.row:
            if row.kind == "fact":
                yield from totals(paper, table, row)
    yield from corpus_counts(paper)
    yield from test_sets(evaluated)
    yield from heads(paper)
    yield from steps(paper)


def totals(paper: Paper, table: Table, row: Row) -> Iterator[Finding]:
    """The splits of a row add up to its total, or the classes to the utterances of the corpus."""
    cells = [c for c in declarations.row_cells(paper, table, row) if c.metric == "count" and c.printed]
    parts = [c for c in cells if c.emotion] or [c for c in cells if c.column in ("train", "val", "test")]
    if len(parts) < 2:
        return
    utterances = declarations.addresses(paper).get(f"facts/{cells[0].corpus}.utterances")
    total = next((c for c in cells if c.column == "total"), utterances)
    addresses = {f"{table.id}/{row.id}.{c.column}" for c in parts}
    if total is None or any(claim.kind == "sum" and set(claim.of) == addresses for claim in paper.claims):
        return  # the check of that claim compares the same numbers
    value = sum(int(number(c.printed)) for c in parts)
    if value != number(total.printed):
        terms = " + ".join(c.printed for c in parts)
        message = f"{terms} = {value} ({table.where}, {row.label}); {show(total)} is printed."
        fact = f"counts {table.id}/{row.id}"
        yield finding(total, "total", "error", message, value=value, possible=Interval(value, value), fact=fact)


def corpus_counts(paper: Paper) -> Iterator[Finding]:
    """Counts of a class, of utterances and of dialogues are those of the released corpora."""
    for cell in declarations.cells(paper):
        released, counted = released_counts(cell)
        if released and int(number(cell.printed)) not in released:
            nearest = min(released, key=lambda n: abs(n - int(number(cell.printed))))
            possible = Interval(min(released), max(released))
            counts = " or ".join(map(str, sorted(released)))
            message = f"{show(cell)} {counted}; the released corpus has {counts}."
            fact = f"counts {cell.table}/{cell.row}"
            yield finding(cell, "corpus_count", "note", message, value=nearest, possible=possible, fact=fact)


def released_counts(cell: Cell) -> tuple[set[int], str]:
    """A cell's numbers in the releases, and what it counts, in words; no numbers where it is no count of a corpus."""
    if cell.metric == "count" and cell.kind == "fact" and cell.emotion:
        classes = set(MERGED.get((cell.corpus, cell.emotion), (cell.emotion,)))
        family = cell.corpus.rstrip("0123456789")  # iemocap6 and iemocap8 have the same classes in common
        names = [name for name in CLASSES if name.startswith(family) and classes <= set(LABELS[name])]
        counts = {sum(n[LABELS[name].index(c)] for n in CLASSES[name].values() for c in classes) for name in names}
        return counts, f"{cell.emotion} utterances in {cell.corpus}"
    corpus, _, counted = cell.row.partition(".")
    if cell.table != "facts" or corpus not in DIALOGUES or counted not in ("dialogues", "utterances"):
        return set(), ""
    by_split = DIALOGUES[corpus] if counted == "dialogues" else {k: sum(v) for k, v in CLASSES[corpus].items()}
    return {sum(by_split.values())}, f"{counted} in {corpus}"


def test_sets(evaluated: list[Evaluation]) -> Iterator[Finding]:
    """The counts beside the scores are those of one speaker or of several, who are whole in the test set."""
    printed = {}  # the table and its counts -> the first of their cells
    for evaluation in evaluated:
        cells = [c for c in evaluation.cells if c.metric == "count" and c.emotion]
        if cells and cells[0].corpus in BY_SPEAKER and evaluation.supports.keys() <= set(LABELS[cells[0].corpus]):
            printed.setdefault((cells[0].table, tuple(evaluation.supports.items())), cells[0])
    for (table, counts), cell in printed.items():
        classes = [LABELS[cell.corpus].index(emotion) for emotion, _ in counts]
        wanted = np.array([count for _, count in counts])
        speakers = {speaker: np.array(n)[classes] for speaker, n in BY_SPEAKER[cell.corpus].items()}
        sums = np.array([sum(chosen) for chosen in product(*([0 * n, n] for n in speakers.values()))])
        if (sums == wanted).all(axis=1).any():
            continue
        nearest = min(speakers, key=lambda name: np.abs(speakers[name] - wanted).sum())
        listed, near = (", ".join(f"{e} {n}" for (e, _), n in zip(counts, of)) for of in (wanted, speakers[nearest]))
        message = (
            f"{table} counts {listed}, {wanted.sum()} in all: no set of the {len(speakers)} speakers of {cell.corpus} "
            f"has these classes. The nearest single one is {nearest}: {near}. The premises are that speakers are whole "
            "in the test set, and that the labels are those of the release."
        )
        yield finding(cell, "supports", "note", message, fact="supports")


def heads(paper: Paper) -> Iterator[Finding]:
    """The number of attention heads divides the width that they share."""
    first_of_row: dict[tuple[str, str], Cell] = {}
    for cell in declarations.cells(paper):
        if cell.table in paper.tables:
            first_of_row.setdefault((cell.table, cell.row), cell)
    for cell in first_of_row.values():
        recipe = declarations.recipe_of(paper, cell) or {}
        model = paper.flat({"model": recipe.get("model", {})})
        for key, count in model.items():
            section, leaf = key.rsplit(".", 1)
            if leaf != "heads" and not leaf.endswith("_heads"):
                continue
            widths = key.replace("heads", "dim"), f"{section}.dim", "model.dim", f"{section}.hidden", "model.hidden"
            name = next((width for width in widths if width in model), None)
            if name and count and model[name] % count:
                width = model[name]
                message = (
                    f"{count:g} attention heads do not divide the width {width:g} ({name}): {width:g} / {count:g} = "
                    f"{width / count:.2f}. The standard layer refuses this; {show(cell)} and the rest of its row need "
                    "another one."
                )
                yield finding(cell, "heads", "note", message, value=width / count)


def steps(paper: Paper) -> Iterator[Finding]:
    """The printed batch size and epochs allow enough steps of the optimiser, where a batch may be of dialogues."""
    known = declarations.addresses(paper)
    for corpus in paper.corpora:
        train = next((name for name in DIALOGUES.get(corpus, ()) if name.startswith("train")), None)
        batch, epochs, lr = (
            known.get(f"settings/train.{name}.{corpus}") or known.get(f"settings/train.{name}")
            for name in ("batch", "epochs", "lr")
        )
        if train is None or batch is None or epochs is None:
            continue
        size, n_epochs = int(number(batch.printed)), int(number(epochs.printed))
        dialogues, utterances = DIALOGUES[corpus][train], sum(CLASSES[corpus][train])
        per_epoch = math.ceil(dialogues / size)
        total = per_epoch * n_epochs
        if total < FEW_STEPS:
            message = (
                f"{dialogues} training dialogues of {corpus}, {size} a batch, are {per_epoch} steps an epoch, {total} "
                f"in {n_epochs} epochs."
            )
            if lr:
                reach = f"{total} x {lr.printed} = {total * float(lr.printed):.4g} at most"
                message += f" Adam moves a weight by about its learning rate a step: {reach}."
            message += f" If {size} counts utterances: {math.ceil(utterances / size) * n_epochs} steps."
            yield finding(batch, "steps", "note", message, value=total)
