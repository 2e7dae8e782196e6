"""Searches: rows that are one system at several settings, such as rates, of which validation selects one."""

from collections import Counter

import pandas as pd

from merlib import declarations
from merlib.declarations import Table
from merlib.declarations.schema import LOWER_IS_BETTER
from merlib.study.records import read_records

COLUMNS = ["search", "column", "score", "declared", "selected", "runs"]


def searched(paper: str, table: str, data: str = "twin") -> pd.DataFrame:
    """Each search of a table by its scores: a line a search and column of the test set.

    score: the mean test score of the runs that validation selects, in each seed and fold by itself among the rows that
    have all run there; `declared` is that of the first row in the same seeds and folds. selected: how often which row.
    The test set decides nothing. A column takes part where another has the same score of the validation split.
    """
    declared = declarations.load(paper).table(table)
    records = read_records(paper, declared.id, data)
    records = records[records["selection"] == "val"].astype({"value": float})
    wide = records.pivot_table(index=["seed", "fold"], columns=["column", "row"], values="value")
    lines = []
    for search, rows in _searches(declared).items():
        for test, validation in _pairs(declared).items():
            cells = [(column, row) for column in (test, validation) for row in rows]
            if not set(cells) <= set(wide):
                continue
            complete = wide[cells].dropna()
            sign = -1 if declared.columns[test].metric in LOWER_IS_BETTER else 1
            chosen = (sign * complete[validation][rows]).idxmax(axis=1)
            scores = [complete.loc[at, (test, row)] for at, row in chosen.items()]
            selected = ", ".join(f"{row} {count}" for row, count in Counter(chosen).most_common())
            mean = pd.Series(scores, dtype=float).mean()
            lines.append([search, test, mean, complete[test, rows[0]].mean(), selected, len(scores)])
    return pd.DataFrame(lines, columns=COLUMNS)


def _searches(table: Table) -> dict[str, list[str]]:
    """The name of each search -> the ids of its rows."""
    searches: dict[str, list[str]] = {}
    for row in table.row:
        if row.search:
            searches.setdefault(row.search, []).append(row.id)
    return searches


def _pairs(table: Table) -> dict[str, str]:
    """Column of the test set -> the column of the same score of the validation split."""
    measured = {(c.corpus, c.metric, c.fold): name for name, c in table.columns.items()}
    tested = {name: (c.corpus, c.metric, "val") for name, c in table.columns.items() if c.fold is None}
    return {name: measured[key] for name, key in tested.items() if key in measured}
