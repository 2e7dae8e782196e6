"""Intervals and tests of this study, each with its source; `tests/study/test_statistics.py` holds an oracle of each.

All of it is numpy, with the distributions of scipy.special, which loads in a tenth of the time of scipy.stats. Scores
are in one unit throughout a call.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95  # of every interval; a test is at 1 - LEVEL
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # half the width of a normal interval, in standard deviations
POWER = 0.8  # with which so many seeds find a difference


class Estimate(NamedTuple):
    """A difference, the ends of its interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


class Pooled(NamedTuple):
    """A variance, and its degrees of freedom."""

    variance: float
    df: float


def pooled(groups: Iterable[Sequence[float]]) -> Pooled:
    """The variance inside groups: the error of a one-way analysis of variance (Fisher 1925). Groups of one add nothing.

    The variance is nan where no group has two values.
    """
    groups = [np.asarray(group, float) for group in groups if len(group) > 1]
    df = sum(len(group) - 1 for group in groups)
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    return Pooled(float(squares / df) if df else math.nan, df)


def added(*parts: tuple[float, Pooled]) -> Pooled:
    """The variance of a sum of independent parts, each a factor and a variance; df by Satterthwaite (1946)."""
    terms = [(factor * of.variance, of.df) for factor, of in parts]
    total = sum(term for term, _ in terms)
    below = sum(term**2 / df for term, df in terms if df)
    return Pooled(total, total**2 / below if below else sum(df for _, df in terms))


def student(value: float, of: Pooled) -> Estimate:
    """A difference with the variance of its estimate, by Student's t. Without variance: the point, and p is 0 or 1."""
    from scipy.special import stdtr, stdtrit

    if of.variance == 0:
        return Estimate(value, value, value, float(value == 0))
    if not (of.variance > 0 and of.df > 0):
        return Estimate(value, math.nan, math.nan, math.nan)
    error = math.sqrt(of.variance)
    half = float(stdtrit(of.df, (1 + LEVEL) / 2)) * error
    return Estimate(value, value - half, value + half, float(2 * stdtr(of.df, -abs(value) / error)))


def paired(differences: np.ndarray, spread: Pooled | None = None, clusters: Pooled | None = None) -> Estimate:
    """The mean of paired differences (seeds x folds) beside no difference.

    Seeds of one test set are independent draws. spread: the variance of a difference between two runs, from those
    between the seeds of several systems; None: that of these differences, whose few seeds have few degrees of freedom
    (Student 1908). clusters: the variance that the sample of dialogues, videos or actors adds on one test set
    (`cluster_variance` of the difference). Folds are no independent draws, since their training sets overlap: with
    them, the means over seeds are compared fold by fold, by the corrected resampled t-test (Nadeau and Bengio 2003),
    with 1 / (folds - 1) for the ratio of test to training utterances.
    """
    (seeds, folds), value = differences.shape, float(differences.mean())
    if folds > 1:
        within = pooled([differences.mean(axis=0)])
        return student(value, Pooled((1 / folds + 1 / (folds - 1)) * within.variance, within.df))
    part = (1 / seeds, spread or pooled([differences[:, 0]]))
    return student(value, added(part, *([(1, clusters)] if clusters else [])))


def against_printed(seeds: Sequence[float], printed: float, spread: Pooled, clusters: Pooled | None = None) -> Estimate:
    """Our mean over seeds minus one printed score, whose run had a seed as well.

    spread: the variance between seeds, pooled over the trained rows of a paper, corpus and metric. clusters: the
    variance of one score over samples of dialogues, videos or actors; only where the paper's test set is another sample
    than ours, and then it counts twice, once for each.
    """
    parts = [(1 + 1 / len(seeds), spread)] + ([(2, clusters)] if clusters else [])
    return student(float(np.mean(seeds)) - printed, added(*parts))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of several tests (Holm 1979); nan stays nan and is no test."""
    values = np.asarray(p, float)
    adjusted, highest = np.full(len(values), math.nan), 0.0
    order = [i for i in np.argsort(values) if not math.isnan(values[i])]
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[i]))
        adjusted[i] = highest
    return adjusted.tolist()


def power(difference: float, of: Pooled) -> float:
    """How probably `student` finds a difference at 1 - LEVEL, by the noncentral t distribution (Cohen 1988)."""
    from scipy.special import nctdtr, stdtrit

    return 1 - float(nctdtr(of.df, abs(difference) / math.sqrt(of.variance), stdtrit(of.df, (1 + LEVEL) / 2)))


def seeds_needed(difference: float, deviation: float, most: int = 1000, *, level: float = LEVEL) -> int | None:
    """How many pairs a two-sided paired t-test at 1 - level needs to find a difference; None for more than `most`.

    deviation: standard deviation of the paired differences.
    """
    if not (difference and deviation > 0):
        return None
    enough = np.flatnonzero(_smallest_effects(most, level) * deviation <= abs(difference))
    return int(enough[0]) + 2 if len(enough) else None


def smallest_gain(seeds: int, deviation: float, *, level: float = LEVEL) -> float:
    """The difference that a two-sided paired t-test at 1 - level of so many pairs finds with `POWER`.

    deviation: standard deviation of the paired differences.
    """
    return float(_smallest_effects(seeds, level)[-1]) * deviation


@cache
def _smallest_effects(most: int, level: float) -> np.ndarray:
    """`smallest_gain` of 2 to `most` pairs for a deviation of 1, by the noncentral t distribution (Cohen 1988)."""
    from scipy.special import nctdtrinc, stdtrit

    n = np.arange(2, most + 1)
    return nctdtrinc(n - 1, 1 - POWER, stdtrit(n - 1, (1 + level) / 2)) / np.sqrt(n)


def mcnemar(this: np.ndarray, other: np.ndarray) -> float:
    """p of the exact two-sided test of McNemar (1947): how likely so uneven a division is by a fair coin.

    this, other: whether each system is right, u bools. p is 1 where they never differ. Utterances of one dialogue are
    not independent, so that p is rather too small; it does not account for other seeds.
    """
    from scipy.special import bdtr

    alone, differ = int((this & ~other).sum()), int((this != other).sum())
    return min(1.0, float(2 * bdtr(min(alone, differ - alone), differ, 0.5)))


Statistic = Callable[[np.ndarray], np.ndarray]  # sums of what is counted, draws x ..., -> a score of each draw


def cluster_variance(counts: np.ndarray, statistic: Statistic, *, draws: int = 1000, seed: int = 0) -> Pooled:
    """The variance of a score over samples of clusters, by the bootstrap (Davison and Hinkley 1997, Sec. 3.8).

    counts: clusters x ..., such as confusion counts. The factor n / (n - 1) makes it unbiased for a mean.
    """
    clusters = len(counts)
    if clusters < 2:
        return Pooled(math.nan, 0)
    scores = statistic(_sums(counts, _weights(np.random.default_rng(seed), clusters, draws)))
    return Pooled(float(scores.var() * clusters / (clusters - 1)), clusters - 1)


def hierarchical(runs: np.ndarray, statistic: Statistic, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Scores of `draws` samples over seeds and clusters together (the crossed bootstrap of Owen 2007), sorted.

    runs: seeds x clusters x ... of counts on one test set. Each draw takes seeds and, apart from them, clusters with
    replacement; the clusters are the same for all seeds. A draw's score is the mean over its seeds. The part of s seeds
    is too narrow by (s - 1) / s, as that of every bootstrap of few; verdicts and claims rest on `paired`.
    """
    generator = np.random.default_rng(seed)
    seeds, clusters = runs.shape[:2]
    of_clusters, of_seeds = _weights(generator, clusters, draws), _weights(generator, seeds, draws)
    scores = np.stack([statistic(_sums(run, of_clusters)) for run in runs], axis=1)  # draws x seeds
    return np.sort((scores * of_seeds).sum(axis=1) / seeds)


def shares(factors: Sequence[np.ndarray], values: Sequence[float], *, orders: int = 100) -> np.ndarray:
    """The share of the variance of n values that each factor explains, and the residual's as the last; they sum to 1.

    factors: of each, its level at every value (n). A factor's share is what it takes off the squared residuals of a fit
    of main effects when it enters, averaged over drawn orders of entry (Lindeman, Merenda and Gold 1980). In a balanced
    design every order gives the sums of squares of the analysis of variance. All nan where the values do not vary.
    """
    values = np.asarray(values, float)
    effects = [(np.unique(levels) == np.asarray(levels)[:, None]).astype(float) for levels in factors]
    total = left = ((values - values.mean()) ** 2).sum()
    taken, generator = np.zeros(len(effects)), np.random.default_rng(0)
    for _ in range(orders):
        fit, left = np.ones((len(values), 1)), total
        for factor in generator.permutation(len(effects)):
            fit = np.hstack([fit, effects[factor]])
            after = ((values - fit @ np.linalg.lstsq(fit, values)[0]) ** 2).sum()
            taken[factor] += left - after
            left = after
    return np.append(taken / orders, left) / (total or math.nan)


def ends(sample: np.ndarray) -> tuple[float, float]:
    """The percentile interval of a bootstrap sample (Efron 1979)."""
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _weights(generator: np.random.Generator, n: int, draws: int) -> np.ndarray:
    """How often each of n is drawn: draws x n."""
    return generator.multinomial(n, np.full(n, 1 / n), size=draws)


def _sums(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, counts, axes=1)
