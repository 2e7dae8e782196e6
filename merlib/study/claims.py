"""What the text of a paper claims of its scores, judged on our own runs: `merlib claims`.

A claim of kind difference, relative, order or best says that some scores lie above others. Both sides of a pair run
here on equal inputs, so that their differences over seeds and folds judge the claim whatever the features are:

    supported       all pairs differ as claimed: the largest p of them decides (intersection-union, Berger 1982)
    contradicted    a pair differs the other way: the smallest p of these, times the number of pairs (Bonferroni)
    undecided       neither, or fewer than three seeds of one test set, whatever they say; with the number of seeds
                    with which this test would find the printed difference in 80 % of studies, before p is adjusted
    not run         a side of it has no record, or two sides have no seed in common: with the command that runs them
    not testable    a side is quoted and not trained here, both sides are one run on this root, or their inputs differ

p is adjusted by Holm over the claims of a paper that are tested, a test that several of them share counted once, and a
verdict is at 5 % of the adjusted p; so claims that run later make it stricter. The error is the variance between seeds,
pooled over the trained rows of a paper, corpus, metric and modalities, as in `verdicts`: three seeds of one pair have
two degrees of freedom, which decide next to nothing once p is adjusted for thirty claims.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.declarations import Claim
from merlib.study import claimed, statistics, verdicts
from merlib.study.pairs import Pair, Pairs, Side
from merlib.study.statistics import Pooled

VERDICTS = ("supported", "contradicted", "undecided", "not run", "not testable")
SEEDS = "0,1,2"  # of the command that runs what is missing
MOST = 100  # seeds; beyond, no study will ever have so many
Numbers = dict[str, Any]  # fields of `Judged`


@dataclass(frozen=True)
class Judged:
    """A claim and what our runs say of it; numbers are percentage points, positive in the direction of the claim.

    printed: the difference as printed, of the pair that decides (of one that has not run: the smallest). ratio: ours /
    printed (the effect ratio of repro_eval, Breuer et al. 2020). pairs: how many are judged, of all that are claimed.
    covers: what the interval is over: `seeds` of one test set, `seeds and clusters` where runs have left outcomes, or
    `folds`. inputs: how those of the runs relate to those of the printed scores. doubt: `stale` where the present
    declarations or code would not give a record of the pair.
    """

    paper: str
    claim: str
    central: bool
    kind: str
    where: str
    says: str
    verdict: str
    printed: float
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    ratio: float | None = None
    seeds: int = 0
    folds: int = 0
    covers: str = ""
    pair: str = ""
    pairs: str = ""
    inputs: str = ""
    doubt: str = ""
    note: str = ""


def judge_claims(paper: str | None = None, data: str = "twin") -> pd.DataFrame:
    """Every claim between scores of a paper (or of all), one a line: the fields of `Judged`."""
    judged = [each for name in declarations.papers(paper) for each in _Claims(name, data).judged()]
    lines = pd.DataFrame([asdict(each) for each in judged], columns=[field.name for field in fields(Judged)])
    return lines.astype({"central": bool})  # also where there are no claims


class _Claims:
    """The claims of a paper on a data root."""

    def __init__(self, paper: str, data: str):
        self.paper, self.data = declarations.load(paper), data
        self.pairs = Pairs(self.paper, data)

    def judged(self) -> list[Judged]:
        tested = [self._tested(claim, cells) for claim, cells in claimed.pairs(self.paper)]
        test = lambda of: (of.get("pair"), of.get("p"))  # two claims may share one, such as one that is made twice
        distinct = list(dict.fromkeys(test(of) for _, of in tested if of.get("p") is not None))
        adjusted = dict(zip(distinct, statistics.holm([p for _, p in distinct]), strict=True))
        return [_decided(claim, of, adjusted.get(test(of), np.nan)) for claim, of in tested]

    def _tested(self, claim: Claim, cells: claimed.Cells) -> tuple[Judged, Numbers]:
        """A claim before p is adjusted: its verdict as far as it is known, and the numbers of a test, if there is one.

        Where some pairs have not run, that others differ as claimed is not enough; one that does not is.
        """
        side, own = self.pairs.side, claimed.trained(self.paper, cells)
        trained = [(side(high), side(low)) for high, low in own]
        same = {name: getattr(claim, name) for name in ("central", "kind", "where", "says")}
        about = {"paper": self.paper.id, "claim": claim.id, "printed": claimed.gain(cells), **same}
        run = [(high, low) for high, low in trained if high.records and low.records]
        pairs = [self.pairs.pair(*pair) for pair in run if not self.pairs.unequal(*pair)]
        tested = [pair for pair in pairs if len(pair.differences)]
        about["pairs"] = f"{len(tested)} of {len(cells)}"
        if not claimed.testable(claim, cells, own):
            quoted = dict.fromkeys(end.row.label for pair in cells for end in map(side, pair) if not end.row.runs)
            return Judged(**about, verdict="not testable", note=f"quoted, not trained here: {'; '.join(quoted)}"), {}
        reasons = dict.fromkeys(filter(None, (self.pairs.unequal(*pair) for pair in run)))
        missing = [side for pair in trained for side in pair if not side.records]
        missing += [side for pair in pairs if not len(pair.differences) for side in (pair.high, pair.low)]
        numbers = _numbers(tested, claim.kind) | {"inputs": self._inputs(tested[0].high)} if tested else {}
        if missing:
            judged = Judged(**about, verdict="not run", note=self._command(missing))
        elif reasons:
            judged = Judged(**about, verdict="not testable", note="; ".join(reasons))
        else:
            return Judged(**about, verdict="undecided"), numbers
        return judged, numbers if numbers and numbers["estimate"] < 0 else {}

    def _inputs(self, side: Side) -> str:
        n = sum(int(record.n) for record in next(iter(verdicts.by_seed(side.records).values())).values())
        return verdicts.inputs_of(self.paper, side.cell, side.records, n)

    def _command(self, sides: Iterable[Side]) -> str:
        rows: dict[str, dict[str, bool]] = {}
        for side in sides:
            rows.setdefault(side.cell.table, {})[side.cell.row] = True
        end = f"--data {self.data} --seeds {SEEDS}"
        return "; ".join(f"`merlib run {self.paper.id} {table} {' '.join(ids)} {end}`" for table, ids in rows.items())


def _numbers(pairs: list[Pair], kind: str) -> Numbers:
    """The numbers of the pair that decides a claim, and p over all pairs; the note says how many seeds would do."""
    certain = lambda pair: np.nan_to_num(pair.estimate.p, nan=1.0)
    if against := [pair for pair in pairs if pair.estimate.value < 0]:
        pair = min(against, key=lambda pair: (certain(pair), pair.estimate.value))
        p = float(np.minimum(1.0, len(pairs) * pair.estimate.p))  # nan stays nan
    else:
        pair = max(pairs, key=lambda pair: (certain(pair), -pair.estimate.value))
        p = pair.estimate.p
    (seeds, folds), of, gain = pair.differences.shape, pair.estimate, pair.gain
    known = {name: None if np.isnan(value) else value for name, value in (("low", of.low), ("high", of.high), ("p", p))}
    return known | {
        "printed": round(gain, 4),
        "estimate": of.value,
        "seeds": seeds,
        "folds": folds,
        "ratio": of.value / gain if kind in ("difference", "relative") and gain else None,
        "covers": pair.covers,
        "pair": f"{pair.high.address} - {pair.low.address}",
        "doubt": "stale" if pair.stale else "",
        "note": _seeds(pair, seeds) if pair.spread and pair.spread.variance > 0 and gain > 0 else "",
    }


def _seeds(pair: Pair, have: int) -> str:
    """How many seeds would find the printed difference, in words."""
    needed = _needed(pair, pair.clusters)
    if needed is None:
        larger = f"it takes a larger test set: {MOST} seeds of this one would not find the printed difference"
        many = f"more than {MOST} seeds would find the printed difference"
        return larger if _needed(pair, None) else many
    if needed <= have:
        return f"{needed} seeds would have found the printed difference in most studies"
    return f"about {needed} seeds would find the printed difference"


def _needed(pair: Pair, clusters: Pooled | None) -> int | None:
    """The fewest seeds with which the test of the pair finds the printed difference in 80 % of studies."""
    of_clusters = [(1, clusters)] if clusters else []
    for seeds in range(verdicts.SEEDS, MOST + 1):
        spread = Pooled(pair.spread.variance, max(pair.spread.df, seeds - 1))  # which further seeds would tell as well
        if statistics.power(pair.gain, statistics.added((1 / seeds, spread), *of_clusters)) >= statistics.POWER:
            return seeds
    return None


def _decided(judged: Judged, numbers: Numbers, p_holm: float) -> Judged:
    """A claim with its verdict by the adjusted p; what has not run whole has no numbers, unless it is contradicted."""
    if p_holm < 1 - statistics.LEVEL:
        verdict = "supported" if numbers["estimate"] > 0 else "contradicted"
        return replace(judged, **numbers | {"p_holm": p_holm, "verdict": verdict, "note": ""})
    if judged.verdict != "undecided":
        return judged
    return replace(judged, **numbers, p_holm=None if np.isnan(p_holm) else p_holm)
