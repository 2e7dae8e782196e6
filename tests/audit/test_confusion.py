"""The ranges of possible scores are those of brute force over all confusion matrices."""

from itertools import product

import numpy as np
import pytest
from printed_scores import true_scores

from merlib.audit import confusion
from merlib.audit.printed import Interval, interval


def matrices(supports: tuple[int, ...]):
    """All confusion matrices with these row sums."""
    c = len(supports)
    rows = [[row for row in product(range(n + 1), repeat=c) if sum(row) == n] for n in supports]
    return (np.array(m) for m in product(*rows))


@pytest.mark.parametrize("supports", [(40, 30), (7, 6, 5)])
def test_the_linear_program_is_as_tight_as_brute_force(supports):
    """Integer matrices lie inside; those with fractions reach at most two utterances further."""
    n, rng = sum(supports), np.random.default_rng(0)
    every = [(true_scores(m), m) for m in matrices(supports)]
    for pick in rng.integers(len(every), size=6):
        wide = [
            Interval(100 * every[pick][0]["f1", f"e{i}"] - 8, 100 * every[pick][0]["f1", f"e{i}"] + 8)
            for i in range(len(supports))
        ]
        inside = [
            100 * s["accuracy", None]
            for s, _ in every
            if all(w.low <= 100 * s["f1", f"e{i}"] <= w.high for i, w in enumerate(wide))
        ]
        possible, at_low, at_high = confusion.accuracy_range(supports, f1=wide)
        assert possible.low <= min(inside) + 1e-4 and max(inside) - 1e-4 <= possible.high
        assert max(min(inside) - possible.low, possible.high - max(inside)) < 200 / n
        for end, matrix in zip(possible, (at_low, at_high), strict=True):
            assert 100 * np.trace(matrix) / n == pytest.approx(end)
            assert matrix.sum(axis=1) == pytest.approx(supports)


def test_with_exact_f1_the_linear_program_meets_the_sum_written_by_hand():
    """accuracy = sum of F1_i (r_i + c_i) / 2 N for the c_i of its own matrix: the identity that the page uses."""
    f1 = [Interval(s, s) for s in (68.75, 87.02, 71.98, 71.56, 80.23, 73.84)]
    supports = np.array([144, 245, 384, 170, 299, 381])
    possible, _, matrix = confusion.accuracy_range(supports.tolist(), f1=f1)
    by_hand = sum(f.low * (r + c) for f, r, c in zip(f1, supports, matrix.sum(axis=0), strict=True)) / (
        2 * supports.sum()
    )
    assert by_hand == pytest.approx(possible.high, abs=1e-3) and possible.high < 80.59


@pytest.mark.parametrize("supports", [(12, 9), (5, 4, 6)])
def test_the_range_of_weighted_f1_is_that_of_brute_force(supports):
    rng, every = np.random.default_rng(1), [true_scores(m) for m in matrices(supports)]
    for pick in rng.integers(len(every), size=6):
        names = [("recall", f"e{i}") for i in range(len(supports))]
        same = [100 * s["weighted_f1", None] for s in every if all(s[k] == every[pick][k] for k in names)]
        recall = [Interval(100 * every[pick][k], 100 * every[pick][k]) for k in names]
        possible = confusion.weighted_f1_range(supports, recall=recall)
        assert possible.high == pytest.approx(max(same), abs=1e-6)  # a vertex is an integer matrix
        assert possible.low <= min(same) + 1e-6 and min(same) - possible.low < 200 / sum(supports)
        assert confusion.weighted_f1_range(supports, recall=recall, accuracy=Interval(101, 102)) is None


def test_integers_of_hits_and_predictions_are_those_of_brute_force():
    rng, n, others, seen = np.random.default_rng(2), 9, 14, set()
    for _ in range(300):
        digits = [f"{x:.1f}" for x in rng.uniform(5, 100, 3)]
        if rng.random() < 0.5:  # one that exists
            k, m = int(rng.integers(1, n + 1)), int(rng.integers(0, others + 1))
            digits = [f"{x:.1f}" for x in (100 * k / (k + m), 100 * k / n, 200 * k / (n + k + m))]
        wanted = dict(zip(("precision", "recall", "f1"), map(interval, digits), strict=True))
        given = {name: wanted[name] for name in wanted if rng.random() < 0.7}
        exists = any(
            all(given[name].low <= value <= given[name].high for name, value in values.items() if name in given)
            for k in range(1, n + 1)
            for m in range(k, k + others + 1)
            for values in [{"precision": 100 * k / m, "recall": 100 * k / n, "f1": 200 * k / (n + m)}]
        )
        assert confusion.some_class_counts(n, others, **given) == (exists or not given)
        seen.add(exists)
    assert seen == {True, False}
