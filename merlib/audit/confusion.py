"""Which confusion matrices are possible: the ranges of accuracy and of weighted F1, and integer counts.

There are c classes. `supports` are the c numbers of true utterances, the row sums of the matrix. Scores are intervals
in percent, None where not printed.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np

from merlib.audit.printed import ANY, EPS, Interval

Scores = Sequence[Interval | None]


@cache
def _rows_and_columns(c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three selectors over the c x c entries n_ij, laid out row by row: the diagonal, the row sums, the column sums."""
    entries = np.eye(c * c).reshape(c, c, c * c)
    return np.einsum("iik->ik", entries), entries.sum(axis=1), entries.sum(axis=0)


def accuracy_range(
    supports: Sequence[int], *, f1: Scores, recall: Scores | None = None, precision: Scores | None = None
) -> tuple[Interval | None, np.ndarray | None, np.ndarray | None]:
    """The accuracies that a confusion matrix with these scores can have; the matrices of the lowest and the highest.

    All three are None where no matrix has these scores.

    The variables are n_ij >= 0, the utterances of class i predicted as j, with row sums r_i = supports and column sums
    c_i. A bound on a printed score is linear in them once its denominator is multiplied out: F1_i = 2 n_ii / (r_i +
    c_i) <= f becomes 2 n_ii - f (r_i + c_i) <= 0, and precision_i <= p becomes n_ii - p c_i <= 0. Accuracy is the sum
    of n_ii. Entries need not be integers here, so the range is a little wider than that of integer matrices, never
    narrower.
    """
    from scipy.optimize import linprog

    c = len(supports)
    diagonal, rows, columns = _rows_and_columns(c)
    fractions = {"f1": (2 * diagonal, rows + columns), "recall": (diagonal, rows), "precision": (diagonal, columns)}
    bounds = []
    for name, scores in (("f1", f1), ("recall", recall), ("precision", precision)):
        numerators, denominators = fractions[name]
        for i, score in enumerate(scores or ()):
            if score is not None:
                bounds.append(numerators[i] - (score.high + EPS) / 100 * denominators[i])
                bounds.append((score.low - EPS) / 100 * denominators[i] - numerators[i])
    n = sum(supports)
    shares = np.asarray(supports) / n
    ends = []
    for sign in (1, -1):
        solution = linprog(
            sign * diagonal.sum(axis=0), A_ub=np.array(bounds) if bounds else None,
            b_ub=np.zeros(len(bounds)) if bounds else None, A_eq=rows, b_eq=shares, method="highs",
        )  # fmt: skip
        if solution.status == 2:
            return None, None, None
        if solution.status != 0:
            raise ArithmeticError(f"linear program over {c} classes: {solution.message}")
        ends.append((100 * sign * solution.fun, solution.x.reshape(c, c) * n))
    (low, at_low), (high, at_high) = ends
    return Interval(low, high), at_low, at_high


def weighted_f1_range(supports: Sequence[int], *, recall: Scores, accuracy: Interval | None = None) -> Interval | None:
    """The weighted F1 that a confusion matrix with these recalls can have; None where they exclude the accuracy.

    Recalls fix the hits h_i (true positives), hence the misses m_i = r_i - h_i (false negatives), T in all. The false
    positives o_i are any split of T with o_i <= T - m_i, since the misses of a class are predicted as other classes.
    Each F1 = 2 h / (r + h + o) falls with o and is convex in it: the highest weighted F1 is at a vertex (at most one o
    strictly between its bounds), the lowest where all slopes are equal. More hits never lower it, so the two ends of
    the recalls give the two ends of the range. An unknown recall is bounded by what the accuracy leaves over.
    """
    r = np.asarray(supports, dtype=float)
    recalls = [score or ANY for score in recall]
    low, high = (r * np.array([getattr(s, end) for s in recalls]) / 100 for end in ("low", "high"))
    if accuracy is not None:
        hits = np.array([accuracy.low - EPS, accuracy.high + EPS]) * r.sum() / 100
        low, high = np.maximum(low, hits[0] - (high.sum() - high)), np.minimum(high, hits[1] - (low.sum() - low))
    if (low > high + 1e-9).any():
        return None
    return Interval(_lowest_weighted_f1(r, np.minimum(low, high)), _highest_weighted_f1(r, high))


def _weighted_f1(r: np.ndarray, hits: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """In percent, of supports, true positives and false positives by class, (..., c)."""
    return 100 * (r * 2 * hits / np.maximum(r + hits + wrong, 1e-12)).sum(axis=-1) / r.sum()


def _highest_weighted_f1(r: np.ndarray, hits: np.ndarray) -> float:
    missed = r - hits
    most = missed.sum() - missed  # o_i <= T - m_i
    full = np.array(list(product((0.0, 1.0), repeat=len(r)))) * most  # v c: every o at one of its bounds
    rest = missed.sum() - full.sum(axis=1)
    best = -np.inf
    for i in range(len(r)):  # the class that takes the rest of T
        wrong = full.copy()
        wrong[:, i] += rest
        fits = (wrong[:, i] >= -1e-9) & (wrong[:, i] <= most[i] + 1e-9)
        if fits.any():
            best = max(best, _weighted_f1(r, hits, wrong[fits]).max())
    return float(best)


def _lowest_weighted_f1(r: np.ndarray, hits: np.ndarray) -> float:
    missed = r - hits
    most, total = missed.sum() - missed, missed.sum()
    # bisection for the root of the common slope: 2 r h / (r + h + o)^2 = slope^2, hence o = sqrt(2 r h) / slope - r - h
    low, high = 0.0, 10.0
    for _ in range(100):
        slope = (low + high) / 2
        wrong = np.clip(np.sqrt(2 * r * hits) / max(slope, 1e-12) - r - hits, 0, most)
        low, high = (slope, high) if wrong.sum() > total else (low, slope)
    return float(_weighted_f1(r, hits, wrong))  # the rest of T goes to classes without hits, whose F1 is 0


def some_count(n: int, score: Interval) -> bool:
    """Whether k / n is within the interval (percent) for an integer k."""
    return np.ceil((score.low - EPS) * n / 100) <= np.floor((score.high + EPS) * n / 100)


def some_class_counts(n: int, others: int, *, precision=None, recall=None, f1=None) -> bool:
    """Whether integers k <= n (hits) and m <= k + others (predictions) give the scores of a class of n utterances."""
    k = np.arange(n + 1)
    share = 100 * k / n
    fits = np.ones(n + 1, dtype=bool) if recall is None else (share >= recall.low - EPS) & (share <= recall.high + EPS)
    least, most = k.astype(float), k + float(others)
    with np.errstate(divide="ignore", invalid="ignore"):
        # precision is k / m, F1 is 2 k / (m + n); both are 0 without hits
        for score, factor, offset in ((precision, 100, 0), (f1, 200, n)):
            if score is not None:
                fits &= (k > 0) | (score.low <= EPS)
                least = np.where(k > 0, np.maximum(least, factor * k / (score.high + EPS) - offset), least)
                bounded = (k > 0) & (score.low > 0)
                most = np.where(bounded, np.minimum(most, factor * k / (score.low - EPS) - offset), most)
    return bool((fits & (np.ceil(least - 1e-9) <= np.floor(most + 1e-9))).any())
