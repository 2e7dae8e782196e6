"""Checks against the world outside the tables: counts, widths of layers, steps of the optimiser, sampling noise."""

import math
from collections.abc import Iterator

from merlib import declarations
from merlib.audit.evaluations import Evaluation, evaluations, size_of
from merlib.audit.printed import Finding, Interval, finding, is_score, number, percent, point, scale, show
from merlib.audit.relations import rivals
from merlib.data.official import CLASSES, DIALOGUES, LABELS
from merlib.declarations.schema import Cell, Claim, Paper

FEW_STEPS = 1000  # fewer optimiser steps than this are worth a note
MERGED = {("iemocap4", "happy"): ("happy", "excited")}  # classes that a corpus joins


def check(paper: Paper) -> Iterator[Finding]:
    yield from totals(paper)
    yield from corpus_counts(paper)
    yield from heads(paper)
    yield from steps(paper)
    found = evaluations(paper)
    told = set()
    for claim in paper.claims:  # a gain that the text claims twice is noted once
        pair = gain(paper, claim)
        if pair and pair not in told:
            told.add(pair)
            yield from power(paper, claim, pair, found)


def totals(paper: Paper) -> Iterator[Finding]:
    """Splits add up to the total, classes to the utterances of the corpus."""
    for table in paper.tables.values():
        for row in table.row:
            cells = [c for c in declarations.row_cells(paper, table, row) if c.metric == "count" and c.printed]
            if row.kind != "fact" or not cells:
                continue
            parts = [c for c in cells if c.emotion] or [c for c in cells if c.column in ("train", "val", "test")]
            total = next((c for c in cells if c.column == "total"), None) or _fact(paper, cells[0].corpus, "utterances")
            said = {f"{table.id}/{row.id}.{c.column}" for c in parts}
            if (
                total is None
                or len(parts) < 2
                or any(claim.kind == "sum" and set(claim.of) == said for claim in paper.claims)
            ):
                continue
            found = sum(int(number(c.printed)) for c in parts)
            if found != number(total.printed):
                yield finding(
                    total, "total", "error", value=found, possible=Interval(found, found),
                    message=f"{' + '.join(c.printed for c in parts)} = {found} ({table.where}, {row.label}); "
                    f"{show(total)} is printed.",
                )  # fmt: skip


def _fact(paper: Paper, corpus: str | None, name: str) -> Cell | None:
    return declarations.addresses(paper).get(f"facts/{corpus}.{name}")


def corpus_counts(paper: Paper) -> Iterator[Finding]:
    """Counts of a class, of utterances and of dialogues against the released corpora."""
    for cell in declarations.cells(paper):
        if cell.metric == "count" and cell.kind == "fact" and cell.emotion:
            known = _released(cell.corpus, MERGED.get((cell.corpus, cell.emotion), (cell.emotion,)))
            told = f"{cell.emotion} utterances in {cell.corpus}"
        elif (
            cell.table == "facts"
            and cell.row.split(".")[0] in DIALOGUES
            and cell.row.endswith((".dialogues", ".utterances"))
        ):
            corpus, what = cell.row.split(".")
            counts = DIALOGUES[corpus] if what == "dialogues" else {k: sum(v) for k, v in CLASSES[corpus].items()}
            known, told = {sum(counts.values())}, f"{what} in {corpus}"
        else:
            continue
        if known and int(number(cell.printed)) not in known:
            value = min(known, key=lambda n: abs(n - int(number(cell.printed))))
            listed = " or ".join(map(str, sorted(known)))
            yield finding(
                cell, "corpus_count", "note", value=value, possible=Interval(min(known), max(known)),
                message=f"{show(cell)} {told}; the released corpus has {listed}.",
            )  # fmt: skip


def _released(corpus: str, classes: tuple[str, ...]) -> set[int]:
    """A class's utterances in the releases of a corpus (`iemocap6` and `iemocap8` have the same classes in common)."""
    family = corpus.rstrip("0123456789")
    found = set()
    for name, by_split in CLASSES.items():
        if name.startswith(family) and set(classes) <= set(LABELS[name]):
            found.add(sum(split[LABELS[name].index(c)] for split in by_split.values() for c in classes))
    return found


def heads(paper: Paper) -> Iterator[Finding]:
    """Attention splits its width among its heads."""
    a_row = {(cell.table, cell.row): cell for cell in reversed(declarations.cells(paper)) if cell.table in paper.tables}
    for cell in reversed(a_row.values()):  # the first cell of each row
        recipe = declarations.recipe_of(paper, cell)
        model = paper.flat({"model": (recipe or {}).get("model", {})})
        for key, count in model.items():
            section, leaf = key.rsplit(".", 1)
            if leaf != "heads" and not leaf.endswith("_heads"):
                continue
            widths = key.replace("heads", "dim"), f"{section}.dim", "model.dim", f"{section}.hidden", "model.hidden"
            name = next((width for width in widths if width in model), None)
            if name and count and model[name] % count:
                yield finding(
                    cell, "heads", "note", value=model[name] / count,
                    message=f"{count:g} attention heads do not divide the width {model[name]:g} ({name}): "
                    f"{model[name]:g} / {count:g} = {model[name] / count:.2f}. The standard layer refuses this; "
                    f"{show(cell)} and the rest of its row need another one.",
                )  # fmt: skip


def steps(paper: Paper) -> Iterator[Finding]:
    """How many steps of the optimiser the printed batch size and epochs allow, where a batch may be of dialogues."""
    known = declarations.addresses(paper)
    for corpus in (c for c in paper.corpora if any(g.startswith("train") for g in DIALOGUES.get(c, ()))):
        batch, epochs, lr = (
            known.get(f"settings/train.{name}.{corpus}") or known.get(f"settings/train.{name}")
            for name in ("batch", "epochs", "lr")
        )
        if batch is None or epochs is None:
            continue
        size, times = int(number(batch.printed)), int(number(epochs.printed))
        dialogues = next(n for name, n in DIALOGUES[corpus].items() if name.startswith("train"))
        utterances = next(sum(n) for name, n in CLASSES[corpus].items() if name.startswith("train"))
        each = math.ceil(dialogues / size)
        if each * times < FEW_STEPS:
            far = f" Adam moves a weight by about its learning rate a step: {each * times} x {lr.printed} = " \
                  f"{each * times * float(lr.printed):.4g} at most." if lr else ""  # fmt: skip
            yield finding(
                batch, "steps", "note", value=each * times,
                message=f"{dialogues} training dialogues of {corpus}, {size} a batch, are {each} steps an epoch, "
                f"{each * times} in {times} epochs.{far} If {size} counts utterances: "
                f"{math.ceil(utterances / size) * times} steps.",
            )  # fmt: skip


def wilson(score: float, n: int) -> Interval:
    """The 95 % interval of a share (percent) of n independent utterances (Wilson 1927); roughly that of F1."""
    p, z2 = score / 100, 1.96**2
    centre, half = p + z2 / (2 * n), 1.96 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(100 * (centre - half) / (1 + z2 / n), 100 * (centre + half) / (1 + z2 / n))


def gain(paper: Paper, claim: Claim) -> tuple[Cell, Cell] | None:
    """The two scores that a claimed gain compares: of a difference, or the best and its runner-up."""
    known = declarations.addresses(paper)
    cells = [known[address] for address in claim.of]
    if claim.kind == "best" and is_score(cells[0]) and not claim.lowest:
        cells += sorted(rivals(paper, claim, cells[0]), key=lambda c: percent(c).middle, reverse=True)[:1]
    elif claim.kind not in ("difference", "relative"):
        return None
    if len(cells) != 2 or not all(is_score(c) and c.metric not in ("mae", "correlation") for c in cells):
        return None
    high, low = sorted(cells, key=lambda c: percent(c).middle, reverse=True)
    return (high, low) if claim.kind != "best" or high == cells[0] else None


def power(paper: Paper, claim: Claim, pair: tuple[Cell, Cell], found: list[Evaluation]) -> Iterator[Finding]:
    """A claimed gain beside the sampling noise of the higher score."""
    n = size_of(paper, pair[0], found)
    if n is None:
        return
    other, by = point(pair[1]), scale(pair[0])
    noise = wilson(point(pair[0]), n)
    if noise.low <= other <= noise.high:
        ends = " to ".join(f"{end / by:.{2 if by == 1 else 4}f}" for end in noise)
        here = pair[0].model_copy(
            update={"table": "claims", "row": claim.id, "column": "value", "printed": claim.printed}
        )
        yield finding(
            here, "power", "note", value=other, possible=noise,
            message=f"{claim.where}: {claim.says}. The other score, {show(pair[1])}, lies within {ends}, the 95 % "
            f"interval that {n} utterances leave around {show(pair[0])}.",
        )  # fmt: skip
