"""The recorded runs of a root whose recipe, code or data are not the present ones, by the ids of runs; trained anew.

This needs the root; `merlib.study.stale` tells without it as much as declarations and sources allow.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from merlib import declarations
from merlib.data import folders
from merlib.declarations import Paper
from merlib.study.comparison import records_of
from merlib.study.planning import Planned, plan
from merlib.study.tables import run_table


def present(paper: Paper, table: str, data: str, row: Sequence[str] = ()) -> Iterator[tuple[Planned, set[str]]]:
    """The runs that the root gives today where a table has records, each with the ids that these records name."""
    recorded = records_of(paper.id, table, data)
    if not recorded or set(paper.corpora).isdisjoint(folders.corpora(data)):
        return
    named: dict[tuple, set[str]] = {}
    for address, records in recorded.items():
        for record in records:
            named.setdefault((*address, record.seed, record.fold), set()).add(str(record.run))
    for seed in sorted({key[2] for key in named}):
        for each in plan(paper, table, row=row, data=data, seed=int(seed))[0]:
            at = [(cell.row, cell.column, seed, each.run.fold) for cell in each.cells]
            if ids := set().union(*(named.get(key, ()) for key in at)):
                yield each, ids


def ids(papers: Sequence[str], data: str) -> dict[tuple, str]:
    """(paper, table, row, column, seed, fold) of each recorded number -> the id of the run that gives it today."""
    return {
        (cell.paper, cell.table, cell.row, cell.column, each.run.seed, each.run.fold): each.run.id
        for paper in map(declarations.load, papers)
        for table in paper.tables
        for each, _ in present(paper, table, data)
        for cell in each.cells
    }


def rerun(paper: str, table: str, data: str, *, row: Sequence[str] = (), device: str | None = None) -> pd.DataFrame:
    """Train the runs of a table whose records are of other runs, as `run_table` does, and return their new records."""
    of_table = present(declarations.load(paper), table, data, row)
    due = [each.run for each, recorded in of_table if recorded != {each.run.id}]
    if not due:
        return pd.DataFrame()
    seeds = sorted({run.seed for run in due})
    return run_table(paper, table, row=row, data=data, seeds=seeds, only={run.id for run in due}, device=device)
