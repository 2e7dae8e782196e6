"""What a run says of the printed absolute number: one rule, only where both have the same inputs.

    agree, differ        counts
    not testable here    the inputs are not those of the printed score (column `inputs`)
    equivalent           the interval of ours - printed lies inside +-delta (Schuirmann 1987); delta is the smallest
                         gain that the paper claims in that table
    lower, higher        the interval lies on one side of zero, and is not equivalent
    undecided            the rest: fewer than three seeds, or a fold missing, are undecided whatever they say

The interval (`statistics.against_printed`) is that of a mean over seeds beside a score of one run.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from merlib import declarations
from merlib.declarations import Cell, Paper
from merlib.declarations.schema import SHARES
from merlib.study import identity, likeness, outcomes
from merlib.study.statistics import Estimate, Pooled, against_printed, cluster_variance, pooled

COUNTS = ("agree", "differ")
OF_SCORES = ("equivalent", "lower", "higher", "undecided", "not testable here")
SEEDS = 3  # fewer say nothing of their spread
PERCENT = {"percent": 1.0, "fraction": 100.0}  # of the units of scores; mae and correlation have no percent


def percent(cell: Cell) -> float | None:
    """The printed score in percent; None for what is no share, or not printed."""
    share = cell.metric in SHARES and cell.printed is not None
    return float(cell.printed) * PERCENT[cell.unit] if share else None


@cache
def delta(paper: Paper, table: str) -> float:
    """The smallest difference between two systems of a table that the text claims as a number, in percentage points.

    In a table of which none is claimed, the smallest that is claimed in the paper; nan where none is.
    """
    known, gains = declarations.addresses(paper), {}
    for claim in paper.claims:
        cells = [known[address] for address in claim.of]
        compares = claim.kind == "difference" and None not in map(percent, cells) and not _one_system(paper, cells)
        if compares and float(claim.printed):
            for name in {cell.table for cell in cells}:
                gains.setdefault(name, []).append(abs(float(claim.printed)))
    return min(gains.get(table) or [gain for of in gains.values() for gain in of], default=float("nan"))


def _one_system(paper: Paper, cells: list[Cell]) -> bool:
    """Whether the cells are of one training, scored in several ways, such as under masks."""
    rows = [paper.row_of(cell) for cell in cells]
    recipes = [declarations.recipe(paper, row, cell.corpus) for row, cell in zip(rows, cells, strict=True)]
    return all(row.runs for row in rows) and len({identity.of_declared(recipe) for recipe in recipes}) == 1


def verdict(estimate: Estimate, margin: float) -> str:
    """equivalent, lower, higher or undecided, by the interval of ours - printed."""
    if -margin <= estimate.low and estimate.high <= margin:
        return "equivalent"
    return "lower" if estimate.high < 0 else "higher" if estimate.low > 0 else "undecided"


def by_seed(records: Iterable[Any]) -> dict[int, dict[int, Any]]:
    """seed -> fold -> record."""
    seeds: dict[int, dict[int, Any]] = {}
    for record in records:
        seeds.setdefault(record.seed, {})[record.fold] = record
    return dict(sorted(seeds.items()))


def complete(records: Iterable[Any], folds: int) -> list[float]:
    """The mean over folds of each seed that has all of them."""
    seeds = by_seed(records).values()
    return [float(np.mean([record.value for record in of.values()])) for of in seeds if len(of) == folds]


def spread(groups: Iterable[list[float]]) -> Pooled:
    """The variance between seeds, pooled over rows; a row that is equal for all seeds draws nothing by its seed."""
    return pooled(group for group in groups if len(group) > 1 and np.ptp(group) > 0)


def sampling(cell: Cell, records: Iterable[Any], data: str, selection: str) -> Pooled | None:
    """The variance of a score over samples of the test set's clusters, of all folds; None where a run left no outcomes.

    Clusters of all seeds are those of the first: they are the same utterances.
    """
    statistic, first = outcomes.score(cell), next(iter(by_seed(records).values()))
    of_folds = [outcomes.read(data, str(record.run), selection) for record in first.values()]
    if statistic is None or cell.fold is not None or None in of_folds:
        return None
    parts = [cluster_variance(of_fold.counts_of(cell), statistic) for of_fold in of_folds]
    folds = len(parts)
    return Pooled(sum(part.variance for part in parts) / folds**2, sum(part.df for part in parts))


def test_of(
    paper: Paper, cell: Cell, records: list[Any], *, folds: int, groups: Iterable[list[float]], data: str,
    selection: str,
) -> Estimate | None:  # fmt: skip
    """The interval of ours - printed, in percentage points or the metric's own unit; None where nothing can be said.

    records: of the cell at the selected epoch. groups: the means by seed of each row of the paper that is measured
    alike (`comparison.Measured`).
    """
    seeds, printed = complete(records, folds), float(cell.printed) * PERCENT.get(cell.unit, 1.0)
    if len(seeds) < SEEDS or len(seeds) < len(by_seed(records)):
        return None
    clusters = None
    if paper.printed_on.on(cell.corpus).get("redrawn"):
        clusters = sampling(cell, records, data, selection)
        if clusters is None:
            return None
    return against_printed(seeds, printed, spread(groups), clusters)


def inputs_of(paper: Paper, cell: Cell, records: list[Any], n: int) -> str:
    """The column `inputs` of a cell; several, where its runs differ."""
    relations = {}
    for record in records:
        named = str(record.substitutes)
        substitutes = None if named == "nan" else [] if named == "none" else named.split()
        options = {"features": str(record.features), "substitutes": substitutes, "n": n}
        relations[likeness.relation(paper, cell, **options)] = True
    return " or ".join(relations)
