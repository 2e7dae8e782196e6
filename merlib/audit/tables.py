"""Checks between cells of tables: bold type, one quantity printed in two places, quoted systems."""

import re
from collections.abc import Iterator

from merlib import declarations
from merlib.audit.evaluations import key_of
from merlib.audit.printed import Finding, finding, is_score, percent, point, show
from merlib.audit.sweeps import smooth_sweeps, sweeps
from merlib.declarations.schema import LOWER_IS_BETTER, SCORES, Cell, Paper, Row, Table

FEWEST_ALIKE = 2  # scores of a quoted row that can be those of another system


def table_findings(paper: Paper) -> Iterator[Finding]:
    """The findings of this module within one paper."""
    for table in paper.tables.values():
        yield from bold(paper, table)
        yield from sweeps(paper, table)
        yield from quoted_alike(paper, table)
    yield from same_configuration(paper)
    yield from smooth_sweeps(paper)


def bold(paper: Paper, table: Table) -> Iterator[Finding]:
    """No cell of a column is better than its bold cells, other bold cells excepted."""
    by_column: dict[str, list[Cell]] = {}
    for cell in declarations.cells(paper, table.id):
        by_column.setdefault(cell.column, []).append(cell)
    for name, cells in by_column.items():
        marked = [c for c in cells if name in table.find(c.row).bold]
        unmarked = [c for c in cells if c not in marked]
        falling = table.columns[name].metric in LOWER_IS_BETTER
        for cell in marked:
            low, high = percent(cell)
            better = [c for c in unmarked if (percent(c).high < low if falling else percent(c).low > high)]
            if better:
                relation = f"{show(better[0])} is {'lower' if falling else 'higher'}"
                yield finding(cell, "bold", "note", f"{show(cell)} is marked as best; {relation}.")


def same_configuration(paper: Paper) -> Iterator[Finding]:
    """One configuration (equal recipes by our reading), corpus and metric has one number, wherever it is printed."""
    first: dict[tuple, Cell] = {}
    for cell in declarations.cells(paper):
        if cell.table in paper.tables and cell.kind == "own" and is_score(cell):
            other = first.setdefault((*key_of(paper, cell), cell.metric, cell.emotion), cell)
            if not percent(cell).meets(percent(other)):
                message = f"{show(cell)}, {_label(paper, cell)}, is the configuration that is printed as {show(other)} "
                message += f"elsewhere, {abs(point(cell) - point(other)):.2f} points away. Two runs could differ so."
                yield _unlike(cell, "same_configuration", message, other)


def quoted_alike(paper: Paper, table: Table) -> Iterator[Finding]:
    """Systems with different names are quoted with different scores: not all scores of two rows are the same digits."""
    first: dict[tuple, tuple[Row, list[Cell]]] = {}
    for row in (row for row in table.row if row.cited):
        scores = [c for c in declarations.row_cells(paper, table, row) if c.printed and is_score(c)]
        if len(scores) < FEWEST_ALIKE:
            continue
        key = tuple((c.column, c.corpus, c.emotion, c.printed) for c in scores)
        other, cells = first.setdefault(key, (row, scores))
        if _system(other.label) != _system(row.label):
            digits = ", ".join(c.printed for c in scores)
            message = (
                f"{row.label} {row.reference or ''} is quoted with the same digits in all {len(scores)} scores as "
                f"{other.label} {other.reference or ''}: {digits}. One may be a copy of the other."
            )
            yield _unlike(scores[0], "quoted_alike", " ".join(message.split()), cells[0])


def quotation_findings(papers: list[Paper]) -> Iterator[Finding]:
    """A quoted system has one number for each corpus and metric, whichever paper quotes it."""
    by_id, quoted = {paper.id: paper for paper in papers}, {}  # (system, corpus, metric, emotion): {table: its cells}
    for paper in papers:
        for cell in declarations.cells(paper):
            if cell.kind == "cited" and cell.metric in (*SCORES, "f1") and cell.modalities is None:
                key = (_system(_label(paper, cell)), cell.corpus, cell.metric, cell.emotion)
                quoted.setdefault(key, {}).setdefault((paper.id, cell.table), []).append(cell)
    for by_table in quoted.values():
        # several rows of one name in a table are variants of the system, which are not compared
        first, *others = [cells[0] for cells in by_table.values() if len(cells) == 1] or [None]
        for cell in others:
            if not percent(cell).meets(percent(first)):
                system, places = _label(by_id[cell.paper], cell), [f"{show(c)} in {c.paper}" for c in (cell, first)]
                yield _unlike(cell, "quoted_twice", f"{system} is quoted with {', with '.join(places)}.", first)


def _unlike(cell: Cell, check: str, message: str, other: Cell) -> Finding:
    return finding(cell, check, "note", message, value=point(other), possible=percent(other))


def _label(paper: Paper, cell: Cell) -> str:
    return paper.row_of(cell).label


def _system(label: str) -> str:
    """A quoted system's name without the modalities that some tables append to it."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[,(\[]", label)[0].casefold())
