"""The cells of a paper: its printed numbers, each with an address, `paper/table/row`."""

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from merlib.declarations.leaves import sourced
from merlib.declarations.schema import OF_CLASS, Cell, Claim, Paper, Row, Table
from merlib.errors import one_of

AVERAGED = {(m, a): f"{a}_{m}" for m in OF_CLASS for a in ("macro", "weighted")}
LARGEST = 10**15  # what is printed is below
PRINTED = re.compile(r"(Sec\.|Table|eqs?\.|Fig\.|Abstract)")  # a source that starts so is a place in the paper


def number(text: str) -> Decimal | None:
    """The printed number, without a percent sign or separators of thousands; None where the text is no number."""
    text = text.strip().rstrip("%").strip()
    try:
        value = Decimal(re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", text))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value) < LARGEST else None


def cells(paper: Paper, table: str | None = None) -> list[Cell]:
    """Every printed number of a paper: its tables, those of paper.toml (tables `settings`, `facts`), and `claims`."""
    if table is None:
        return [c for name in paper.tables for c in cells(paper, name)] + _setting_cells(paper) + _claim_cells(paper)
    t = paper.table(table)
    return [cell_of(paper, t, row, name, printed) for row in t.row for name, printed in row.reported.items()]


def row_cells(paper: Paper, table: Table, row: Row) -> list[Cell]:
    """The cells of a row, one per column; also those without a printed number, since a run fills the whole row."""
    reported = table.find(row.same_as).reported if row.same_as else row.reported
    names = row.reported if row.kind == "fact" else table.columns
    return [cell_of(paper, table, row, name, reported.get(name)) for name in names]


def rivals(paper: Paper, claim: Claim, cell: Cell) -> list[Cell]:
    """The cells that a `best` claim compares its cell with: the same column of the rows `among`."""
    among = claim.among
    known = {row.id for row in paper.tables[cell.table].row if among == "all" or (among == "cited" and row.cited)}
    rows = (known if isinstance(among, str) else {*among}) - {cell.row}
    return [other for other in cells(paper, cell.table) if other.column == cell.column and other.row in rows]


@lru_cache(maxsize=16)
def addresses(paper: Paper) -> dict[str, Cell]:
    """{address within the paper: printed number}: `table4/ours.meld_accuracy`, `settings/train.batch.meld`."""
    named = {"settings", "facts", "claims"}  # a single value of these needs no column
    columns = (("" if c.table in named and c.column == "value" else f".{c.column}", c) for c in cells(paper))
    return {f"{c.table}/{c.row}{column}": c for column, c in columns}


def cell_of(paper: Paper, table: Table, row: Row, name: str, printed: str | None) -> Cell:
    """The cell of a row in the column `name`."""
    column = one_of(table.columns, name, f"column of {table.id}")
    corpus = column.corpus or row.corpus or (paper.corpora[0] if len(paper.corpora) == 1 else None)
    kind = "cited" if row.cited else "fact" if row.kind == "fact" else "own" if row.reported else "added"
    emotion = one_of(column.emotion, corpus, "corpus") if isinstance(column.emotion, dict) else column.emotion
    return Cell(
        paper=paper.id, table=table.id, row=row.id, column=name, printed=printed, kind=kind, corpus=corpus,
        metric=AVERAGED.get((column.metric, row.average), column.metric), emotion=emotion or row.emotion,
        modalities=column.modalities, fold=column.fold, unit=column.unit,
    )  # fmt: skip


def _setting_cells(paper: Paper) -> list[Cell]:
    """The numbers of recipe, readings and facts whose source is a place in the paper."""
    settings = [("settings", paper.recipe), ("facts", paper.facts)]
    settings += [("settings", option) for reading in paper.readings.values() for option in reading.options.values()]
    cell_by_leaf = {}
    for table, tree in settings:
        for key, (value, source) in sourced(tree, paper.corpora).items():
            for corpus, number in (value if isinstance(value, dict) else {None: value}).items():
                if PRINTED.match(source) and isinstance(number, (int, Decimal)) and not isinstance(number, bool):
                    cell_by_leaf[table, key, corpus] = Cell(
                        paper=paper.id, table=table, row=key, column=corpus or "value", printed=format(number, "f")
                        if isinstance(number, Decimal) else str(number), kind="fact", corpus=corpus, metric="setting",
                    )  # fmt: skip
    return list(cell_by_leaf.values())


def _claim_cells(paper: Paper) -> list[Cell]:
    shared = {"paper": paper.id, "table": "claims", "column": "value", "kind": "fact", "corpus": None}
    return [Cell(**shared, row=c.id, printed=c.printed, metric=c.kind) for c in paper.claims if c.printed is not None]
