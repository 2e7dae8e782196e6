"""Checks of printed counts: splits and classes add up, and the counts are those of the released corpora."""

from collections.abc import Iterator

from merlib import declarations
from merlib.audit.printed import Finding, Interval, finding, number, show
from merlib.data.official import CLASSES, DIALOGUES, LABELS
from merlib.declarations.schema import Cell, Paper, Row, Table

MERGED = {("iemocap4", "happy"): ("happy", "excited")}  # classes that a corpus joins


def count_findings(paper: Paper) -> Iterator[Finding]:
    """The findings of this module within one paper."""
    for table in paper.tables.values():
        for row in (row for row in table.row if row.kind == "fact"):
            yield from totals(paper, table, row)
    yield from corpus_counts(paper)


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
        yield finding(
            total, "total", "error", value=value, possible=Interval(value, value),
            message=f"{' + '.join(c.printed for c in parts)} = {value} ({table.where}, {row.label}); {show(total)} is "
            "printed.",
        )  # fmt: skip


def corpus_counts(paper: Paper) -> Iterator[Finding]:
    """Counts of a class, of utterances and of dialogues are those of the released corpora."""
    for cell in declarations.cells(paper):
        released, counted = _released(cell)
        if released and int(number(cell.printed)) not in released:
            nearest = min(released, key=lambda n: abs(n - int(number(cell.printed))))
            yield finding(
                cell, "corpus_count", "note", value=nearest, possible=Interval(min(released), max(released)),
                message=f"{show(cell)} {counted}; the released corpus has {' or '.join(map(str, sorted(released)))}.",
            )  # fmt: skip


def _released(cell: Cell) -> tuple[set[int], str]:
    """What a cell counts, in words, and its numbers in the releases; no numbers where it is no count of a corpus."""
    if cell.metric == "count" and cell.kind == "fact" and cell.emotion:
        classes = MERGED.get((cell.corpus, cell.emotion), (cell.emotion,))
        return _released_class(cell.corpus, classes), f"{cell.emotion} utterances in {cell.corpus}"
    corpus, _, counted = cell.row.partition(".")
    if cell.table != "facts" or corpus not in DIALOGUES or counted not in ("dialogues", "utterances"):
        return set(), ""
    by_split = DIALOGUES[corpus] if counted == "dialogues" else {k: sum(v) for k, v in CLASSES[corpus].items()}
    return {sum(by_split.values())}, f"{counted} in {corpus}"


def _released_class(corpus: str, classes: tuple[str, ...]) -> set[int]:
    """A class's utterances in the releases of a corpus (`iemocap6` and `iemocap8` have the same classes in common)."""
    family = corpus.rstrip("0123456789")
    return {
        sum(split[LABELS[name].index(c)] for split in by_split.values() for c in classes)
        for name, by_split in CLASSES.items()
        if name.startswith(family) and set(classes) <= set(LABELS[name])
    }
