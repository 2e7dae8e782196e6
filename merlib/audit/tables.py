"""Checks between cells of tables: bold type, one quantity printed in two places, sweeps, quoted systems."""

import re
from collections.abc import Iterator

from merlib import declarations
from merlib.audit.evaluations import key_of
from merlib.audit.printed import Finding, finding, is_score, percent, point, show
from merlib.declarations.schema import SCORES, Cell, Paper, Row, Table

LOWER_IS_BETTER = ("mae", "loss", "seconds", "parameters")


def table_findings(paper: Paper) -> Iterator[Finding]:
    """The findings of this module within one paper."""
    for table in paper.tables.values():
        yield from bold(paper, table)
        yield from sweeps(paper, table)
    yield from same_configuration(paper)


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


def sweeps(paper: Paper, table: Table) -> Iterator[Finding]:
    """The base recipe's value of a hyper-parameter is the best of the sweep over it."""
    rows_of: dict[tuple[str, str | None], list[Row]] = {}  # (the one leaf that a row changes, its base)
    for row in table.row:
        leaves = list(paper.flat(row.change))
        if len(leaves) == 1 and row.reported and not row.cited:
            rows_of.setdefault((leaves[0], row.base), []).append(row)
    for (leaf, base), rows in rows_of.items():
        in_rows = [c for row in rows for c in declarations.row_cells(paper, table, row) if c.printed]
        for name in table.columns if len(rows) > 2 else ():
            cells = [c for c in in_rows if c.column == name]
            if len(cells) < 3 or not is_score(cells[0]):
                continue
            falling = table.columns[name].metric in LOWER_IS_BETTER
            recipe = declarations.recipe(paper, Row(id="base", label="base", base=base), cells[0].corpus)
            chosen = next((c for c in cells if declarations.recipe_of(paper, c) == recipe), None)
            best = (min if falling else max)(cells, key=lambda c: percent(c).middle)
            if chosen and not percent(chosen).meets(percent(best)):
                message = f"The paper settles on {_label(paper, chosen)}, which has {show(chosen)}; the sweep over "
                message += f"{leaf} is {'lowest' if falling else 'highest'} at {_label(paper, best)}: {show(best)}."
                yield _unlike(chosen, "sweep", message, best)


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
    return paper.tables[cell.table].find(cell.row).label


def _system(label: str) -> str:
    """A quoted system's name without the modalities that some tables append to it."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[,(\[]", label)[0].casefold())
