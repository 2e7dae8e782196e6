"""The page of a table: every row printed beside reproduced; it unfolds into how the numbers came about (`rows`)."""

from typing import Any

import pandas as pd

from merlib import declarations
from merlib.audit import Finding
from merlib.declarations import Cell, Paper, Row, Table
from merlib.pages import markup, rows
from merlib.pages.markup import html
from merlib.study import verdicts
from merlib.study.records import read_records

DECIDED = (*verdicts.COUNTS, "equivalent", "lower", "higher")  # verdicts that a cell shows by itself
NONE = pd.DataFrame()
LEGEND = """\
In each cell the upper number is printed in the paper; the lower one, if there is one, is ours, with its standard
deviation over seeds and folds. Unfold a row for its command, its recipe, its runs and what they cost."""


def title(table: Table) -> str:
    """`Table VI: All modalities and one alone`; a table that this study adds has no place in the paper."""
    place = table.where.split(",")[0]
    return f"{place}: {table.caption}" if place.startswith(("Table", "Fig")) else f"Added: {table.caption}"


def page(paper: Paper, table: Table, board: pd.DataFrame, findings: list[Finding], data: str) -> str:
    """The page of one table. board: `compare` of it on the root `data`; findings: the audit's on its rows."""
    records = dict(list(read_records(paper.id, table.id, data).groupby("row")))
    columns = "".join(f'<th scope="col">{html(column.label or name)}</th>' for name, column in table.columns.items())
    lines = ['<table class="table unfolding">', f'<thead><tr><th scope="col">row</th>{columns}</tr></thead>']
    for row in table.row:
        cells = {cell.column: cell for cell in declarations.row_cells(paper, table, row)}
        ours = {line.column: line for line in board[board["row"] == row.id].itertuples()}
        shown = "".join(f"<td>{_cell(cells.get(name), ours.get(name))}</td>" for name in table.columns)
        of_row = {"records": records.get(row.id, NONE), "findings": [f for f in findings if f.row == row.id]}
        inside = "".join(rows.unfolded(paper, table, row, ours=ours, **of_row, data=data))
        head = f'<tr><th scope="row">{html(row.label)}{_kind(row)}</th>{shown}</tr>'
        summary = f"<summary><code>{html(f'{paper.id}/{table.id}/{row.id}')}</code></summary>"
        fold = f"<details>{summary}<div>{inside}</div></details>"
        lines.append(f'<tbody id="{html(row.id)}">{head}')
        lines.append(f'<tr class="fold"><td colspan="{len(table.columns) + 1}">{fold}</td></tr></tbody>')
    whole = [markup.scrolling("\n".join([*lines, "</table>"])), "<p>The same on the command line:</p>"]
    whole.append(markup.command(f"merlib compare {paper.id}/{table.id} --data {data}"))
    where = markup.markdown(f"{table.where}. {table.note}".strip())
    return markup.page(markup.markdown(title(table)), where, LEGEND, markup.raw(whole))


def _kind(row: Row) -> str:
    """What a row is, where it is not one of the paper's own systems."""
    kind = "quoted" if row.cited else "count" if row.kind == "fact" else "" if row.reported else "added"
    trained = ", trained here" if row.cited and row.base else ""
    return f' <span class="kind">{kind}{trained}</span>' if kind else ""


def _cell(cell: Cell | None, ours: Any) -> str:
    """The printed digits above our number."""
    printed = html(cell.printed) if cell and cell.printed is not None else "&ndash;"
    if ours is None or pd.isna(ours.reproduced):
        return f"<span>{printed}</span>"
    spread = "" if pd.isna(ours.spread) else f" <small>&plusmn;&nbsp;{ours.spread:.2f}</small>"
    reproduced = f"{ours.reproduced:.0f}" if cell.metric == "count" else f"{ours.reproduced:.2f}"
    decided = ours.verdict in DECIDED
    said = f' <span class="verdict">{ours.verdict}</span>' if decided else ""
    return f'<span>{printed}</span><span class="ours">{reproduced}{spread}{said}</span>'
