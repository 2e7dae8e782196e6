"""Before training: how many seeds a claimed gain needs, and which gain some seeds can find. `merlib power`.

By a two-sided paired t-test at 5 % over seeds on one test set, with 80 % power (`statistics.seeds_needed`). The
standard deviation of a difference follows from the variance between seeds, pooled over the trained rows of the paper
with the same corpus, metric, class, split and modalities, as in `claims`: two runs differ by that of both. Where none
of these rows differs between seeds on record, rows of all papers on the data root stand in: those of the same corpus
and metric, or else of the metric on all corpora, or else all scores of a class or of a whole test set. `spread_of`
names them.

A test that other claims share a paper with is stricter: Holm's adjustment over m claims asks at most for 5 % / m, the
level of `seeds_holm`, with the m claims that can be tested here and print a gain.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.data import splits
from merlib.declarations import Cell, Claim, Paper
from merlib.study import claimed, statistics, verdicts
from merlib.study.comparison import Spreads
from merlib.study.records import PLAIN

MOST = 1000  # seeds that are tried; a gain that needs more is below every noise
SEEDS = (3, 5, 10)  # for which the smallest gain is told


@dataclass(frozen=True)
class Needed:
    """A claim and the seeds that it needs; scores in percentage points.

    printed: the gain, of the pair with the smallest of those that are trained here (of all, where no pair is `tested`).
    spread: standard deviation of one run between seeds, from so many `runs` of the rows `spread_of`, which are the
    paper's `own` or stand in. seeds, seeds_holm: None where no gain is printed, no spread is known, or more than 1000
    are needed. gain_3, gain_5, gain_10: the smallest gain that so many seeds find.
    """

    paper: str
    claim: str
    central: bool
    pair: str
    tested: bool
    printed: float
    spread: float
    runs: int
    own: bool
    spread_of: str
    seeds: int | None
    seeds_holm: int | None
    gain_3: float
    gain_5: float
    gain_10: float
    note: str


class Spread(NamedTuple):
    """The variance between the seeds of some rows, of how many runs it is, and which rows these are."""

    variance: float = np.nan
    runs: int = 0
    of: str = ""
    own: bool = False


def power(paper: str, table: str | None = None, data: str = "twin") -> pd.DataFrame:
    """Every claim of a paper that some scores lie above others, or those about one table: the fields of `Needed`."""
    study = _Study(paper, data)
    about = lambda pair: table is None or table in {cell.table for cell in pair}
    lines = [asdict(_of_claim(study, *each)) for each in study.claims if about(each[1])]
    board = pd.DataFrame(lines, columns=[field.name for field in fields(Needed)])
    return board.astype({"seeds": "Int64", "seeds_holm": "Int64"})


class _Study:
    """The claims of a paper, each with the pair that decides, and the spreads of the records of a data root."""

    def __init__(self, paper: str, data: str):
        self.paper, self.data, self.own = declarations.load(paper), data, Spreads(declarations.load(paper), data)
        self.claims, self._known = [], {}
        for claim, cells in claimed.pairs(self.paper):
            trained = claimed.trained(self.paper, cells)
            tested = claimed.testable(claim, cells, trained)
            pair = min(trained if tested else cells, key=lambda pair: claimed.gain([pair]))
            self.claims.append((claim, pair, tested))
        self.m = sum(tested and claimed.gain([pair]) > 0 for _, pair, tested in self.claims)

    def spread(self, cell: Cell) -> Spread:
        key = self.own.measured(cell)
        if key not in self._known:
            self._known[key] = self._of_own(cell) or self._of_others(*key) or Spread()
        return self._known[key]

    def _of_own(self, cell: Cell) -> Spread | None:
        of = " ".join(filter(None, (cell.emotion, cell.metric, "on", cell.corpus, "from", self.own.measured(cell)[-1])))
        return _pooled(of, [(self.paper.id, means) for means in self.own.of(cell)], own=True)

    def _of_others(self, corpus: str, metric: str, emotion: str | None, split: tuple, _: str) -> Spread | None:
        """That of the first group of rows, from like to unlike, of which some have two seeds; their splits may have
        other names, and their networks read other modalities."""
        one_class, folds = bool(emotion), split[:2]
        groups: dict[str, Callable[..., bool]] = {
            f"{metric} on {corpus}": lambda c, m, e, s, _: (c, m, e, s[:2]) == (corpus, metric, emotion, folds),
            f"{metric} on all corpora": lambda c, m, e, s, _: (m, bool(e), s[:2]) == (metric, one_class, folds),
            f"all scores of {'classes' if one_class else 'whole test sets'}": lambda c, m, e, s, _: (
                (bool(e), s[0]) == (one_class, split[0]) and m not in PLAIN
            ),
        }
        pooled = (_pooled(of, [(p, means) for p, key, means in self._all if like(*key)]) for of, like in groups.items())
        return next(filter(None, pooled), None)

    @cached_property
    def _all(self) -> list[tuple[str, tuple, list[float]]]:
        """Paper, what is measured and the means by seed, of every trained row of the data root."""
        spreads = [Spreads(declarations.load(name), self.data) for name in declarations.papers()]
        groups = [(of.paper.id, key, rows) for of in spreads for key, rows in of.groups.items()]
        return [(paper, key, means) for paper, key, rows in groups for means in rows]


def _pooled(of: str, rows: list[tuple[str, list[float]]], own: bool = False) -> Spread | None:
    """Of rows, each with its paper; None where none of them differs between seeds."""
    varied = [(paper, means) for paper, means in rows if len(means) > 1 and np.ptp(means) > 0]
    papers, runs = sorted({paper for paper, _ in varied}), sum(len(means) for _, means in varied)
    variance = verdicts.spread(means for _, means in varied).variance
    return Spread(variance, runs, f"{of}, {' and '.join(papers)}", own) if varied else None


def _of_claim(study: _Study, claim: Claim, pair: tuple[Cell, Cell], tested: bool) -> Needed:
    spreads = {spread.of: spread for spread in map(study.spread, pair)}
    deviation = sum(study.spread(cell).variance for cell in pair) ** 0.5  # of a difference between two runs
    gain, strictest = claimed.gain([pair]), 1 - (1 - statistics.LEVEL) / max(study.m, 1)
    needed = lambda level: statistics.seeds_needed(gain, deviation, MOST, level=level) if gain > 0 else None
    return Needed(
        paper=study.paper.id, claim=claim.id, central=claim.central, tested=tested, printed=gain,
        pair=" - ".join(f"{cell.table}/{cell.row}.{cell.column}" for cell in pair),
        spread=deviation / 2**0.5, runs=sum(spread.runs for spread in spreads.values()),
        own=all(spread.own for spread in spreads.values()), spread_of=" and ".join(spreads),
        seeds=needed(statistics.LEVEL), seeds_holm=needed(strictest) if tested else None,
        note="; ".join(_notes(study.paper, pair, tested, gain, deviation)),
        **{f"gain_{seeds}": statistics.smallest_gain(seeds, deviation) for seeds in SEEDS},
    )  # fmt: skip


def _notes(paper: Paper, pair: tuple[Cell, Cell], tested: bool, gain: float, deviation: float) -> Iterator[str]:
    rows = [paper.row_of(cell) for cell in pair]
    if not tested:
        yield f"quoted, not trained here: {'; '.join(row.label for row in rows if not row.runs)}"
    if gain <= 0:
        yield "no gain is printed"
    elif deviation > 0 and statistics.seeds_needed(gain, deviation, MOST) is None:
        yield f"needs more than {MOST} seeds"
    folds = splits.folds(declarations.recipe(paper, rows[0], pair[0].corpus)["protocol"]) if tested else 1
    if folds > 1:
        yield f"seeds of the same {folds} folds; whether folds agree is another question"


def sentence(board: pd.DataFrame, data: str) -> str:
    """What a table of `power` comes to."""
    known = board[(board["printed"] > 0) & board["spread"].notna()]
    if known.empty:
        return f"No claim can be judged before training: on {data!r} no row has two seeds on record that differ."
    few, more = SEEDS[0], SEEDS[-1]
    found = lambda column, most: int((known[column] <= most).sum())
    text = (
        f"Of {len(known)} claimed gains, {few} seeds are enough for {found('seeds', few)} and {more} seeds for "
        f"{found('seeds', more)}, by a two-sided paired t-test at 5 % with 80 % power; after Holm's adjustment, at "
        f"worst, {more} seeds for {found('seeds_holm', more)} of the {known['tested'].sum()} that can be tested here. "
        f"The median gain is {known['printed'].median():.1f} points, the median of the smallest that {few} seeds find "
        f"{known[f'gain_{few}'].median():.1f}."
    )
    if others := int((~known["own"]).sum()):
        text += f" For {others} of them the paper has no spread of its own on {data!r}: that of other rows stands in."
    return text
