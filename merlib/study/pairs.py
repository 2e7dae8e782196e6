"""Pairs of rows that a claim sets beside each other: their records on equal inputs, and the difference between them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from merlib.data import splits
from merlib.declarations import LETTERS, Cell, Paper, Row
from merlib.study import likeness, outcomes, stale, statistics, verdicts
from merlib.study.comparison import Spreads
from merlib.study.statistics import Estimate, Pooled

UNEQUAL = "have read other features, or other test utterances"  # which both sides run again on one root would mend


@dataclass(frozen=True)
class Side:
    """One end of a pair: a cell, and its records at the epoch that its row selects."""

    row: Row
    cell: Cell
    records: list[Any]
    protocol: dict

    @property
    def address(self) -> str:
        return f"{self.cell.table}/{self.cell.row}.{self.cell.column}"

    @cached_property
    def seeds(self) -> dict[int, dict[int, Any]]:
        """seed -> fold -> record, of the seeds that have all folds of the protocol."""
        folds = splits.folds(self.protocol)
        return {seed: of for seed, of in verdicts.by_seed(self.records).items() if len(of) == folds}

    def runs_as(self, other: "Side") -> bool:
        """Whether both are the same runs, scored on the same inputs."""
        runs = ({str(record.run) for record in side.records} for side in (self, other))
        return next(runs) == next(runs) and self.protocol == other.protocol


@dataclass(frozen=True)
class Pair:
    """Two sides, of which the first is claimed to be higher: their difference (seeds x folds), in percentage points."""

    high: Side
    low: Side
    differences: np.ndarray
    estimate: Estimate
    covers: str  # folds, seeds, or seeds and clusters
    spread: Pooled | None = None  # of a difference between two runs of one test set, over seeds
    clusters: Pooled | None = None  # what the sample of dialogues, videos or actors adds, where that is known
    stale: bool = False  # whether the present declarations or code would not give a record of it

    @property
    def gain(self) -> float:
        """The printed difference."""
        return verdicts.percent(self.high.cell) - verdicts.percent(self.low.cell)


class Pairs:
    """The pairs of a paper on a data root."""

    def __init__(self, paper: Paper, data: str):
        self.paper, self.data, self.spreads = paper, data, Spreads(paper, data)

    def side(self, cell: Cell) -> Side:
        """The side of a cell; without records where its row is quoted, or has not run."""
        row = self.paper.row_of(cell)
        if not row.runs:
            return Side(row, cell, [], {})
        protocol = self.spreads.protocol(cell)
        records = self.spreads.records(cell.table).get((cell.row, cell.column), [])
        return Side(row, cell, [r for r in records if r.selection == protocol["select"]], protocol)

    def unequal(self, high: Side, low: Side) -> str:
        """Why the difference of two sides that have run is not that of the claim; `` where it is."""
        names = f"{high.row.label} and {low.row.label}"
        if high.runs_as(low) and high.cell.emotion == low.cell.emotion:
            return f"{names} are one run on this root"
        both = high.seeds.keys() & low.seeds.keys()
        if both and not self._equal_seeds(high, low):
            return f"{names} {UNEQUAL}"
        printed = [likeness.printed_letters(self.paper, side.cell) for side in (high, low)]
        read = [likeness.passports(side.records[0].features) for side in (high, low)]
        lacking = {k for letters, of in zip(printed, read, strict=True) for k in letters if LETTERS[k] not in of}
        if printed[0] != printed[1] and lacking:
            return f"it compares modalities, and {''.join(sorted(lacking))} was not read on this root"
        return ""

    def _equal_seeds(self, high: Side, low: Side) -> list[int]:
        """The seeds that both sides have run in all folds, on the same passports and numbers of utterances."""

        def equal(a: Any, b: Any) -> bool:
            of_a, of_b = likeness.passports(a.features), likeness.passports(b.features)
            return a.n == b.n and all(of_a[modality] == of_b[modality] for modality in of_a.keys() & of_b.keys())

        both = high.seeds.keys() & low.seeds.keys()
        return [s for s in sorted(both) if all(equal(high.seeds[s][f], low.seeds[s][f]) for f in high.seeds[s])]

    def pair(self, high: Side, low: Side) -> Pair:
        seeds, folds = self._equal_seeds(high, low), splits.folds(high.protocol)
        if not seeds:
            return Pair(high, low, np.empty((0, folds)), Estimate(*[np.nan] * 4), "")
        a, b = ([[side.seeds[s][f].value for f in range(folds)] for s in seeds] for side in (high, low))
        differences = np.array(a) - np.array(b)
        old = any(stale.reason(self.paper, side.cell, record) for side in (high, low) for record in side.records)
        if folds > 1:
            return Pair(high, low, differences, statistics.paired(differences), "folds", stale=old)
        spread = self._spread(high, low) or statistics.pooled([differences[:, 0]])
        clusters = self._clusters(high, low, seeds)
        estimate = statistics.paired(differences, spread, clusters)
        if len(seeds) < verdicts.SEEDS:
            estimate = Estimate(estimate.value, *[np.nan] * 3)
        covers = "seeds and clusters" if clusters else "seeds"
        return Pair(high, low, differences, estimate, covers, spread, clusters, old)

    def _spread(self, high: Side, low: Side) -> Pooled | None:
        """The variance of a difference between two runs of one test set, from those between the seeds of their rows.

        None where no row that is measured like a side has two seeds, and of two classes, whose scores of one run are
        not independent: then the differences alone tell it.
        """
        if high.cell.emotion != low.cell.emotion:
            return None
        alike = {self.spreads.measured(side.cell): verdicts.spread(self.spreads.of(side.cell)) for side in (high, low)}
        of = statistics.added(*((2 / len(alike), each) for each in alike.values()))
        return of if of.variance > 0 else None

    def _clusters(self, high: Side, low: Side, seeds: list[int]) -> Pooled | None:
        """The variance of the difference over samples of dialogues, videos or actors; None without outcomes."""
        scores = [outcomes.score(side.cell) for side in (high, low)]
        kept = [
            [outcomes.read(self.data, str(side.seeds[seed][0].run), side.protocol["select"]) for seed in seeds]
            for side in (high, low)
        ]
        flat = [each for of_side in kept for each in of_side]
        if None in (*scores, *flat) or high.cell.fold is not None or len({each.order for each in flat}) > 1:
            return None
        counts = [
            np.stack([each.counts_of(side.cell) for each in of_side], axis=1)
            for side, of_side in zip((high, low), kept, strict=True)
        ]  # of each side: clusters x seeds x c x c
        difference = lambda sums: (scores[0](sums[:, 0]) - scores[1](sums[:, 1])).mean(-1)  # draws 2 seeds c c -> draws
        return statistics.cluster_variance(np.stack(counts, axis=1), difference)
