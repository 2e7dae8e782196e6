"""Sweeps beside the noise of training: the probability against oracles, noisy sweeps silent, smooth ones noted."""

from itertools import product
from math import factorial

import numpy as np
import pytest
from printed_scores import paper_of, sweep_of
from scipy.stats import binom

from merlib.audit.sweeps import at_least, one_peak, rises_once, smooth_sweeps


@pytest.mark.parametrize("n", [2, 4, 7])
def test_without_an_effect_one_peak_is_a_matter_of_counting(n):
    """Of the n! orders of n numbers, 2 to the power n - 1 rise to one peak and fall."""
    assert one_peak((70.0,) * n, 0.3) == pytest.approx(2 ** (n - 1) / factorial(n), rel=1e-3)


def test_the_probability_of_one_peak_is_that_of_a_simulation():
    means, noise = (74.2, 74.4, 74.5, 74.6, 74.5, 73.9), 0.3
    drawn = np.random.default_rng(0).normal(means, noise, (40_000, len(means)))
    share = np.mean([rises_once(tuple(row)) for row in drawn[:10_000]])
    assert one_peak(means, noise) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 10_000))
    assert one_peak((60.0, 65.0, 70.0, 66.0), 0.3) == pytest.approx(1, abs=1e-4)


def test_at_least_so_many_events_is_the_binomial_tail():
    assert at_least(3, [0.2] * 9) == pytest.approx(binom.sf(2, 9, 0.2))
    assert at_least(0, []) == 1


def test_what_rises_once():
    rising = [p for p in product(range(4), repeat=4) if len(set(p)) == 4 and rises_once(p)]
    assert len(rising) == 8 and not rises_once((1, 2, 2, 1))


SMOOTH = [70 - 0.05 * (i - 3.2) ** 2 for i in range(7)]


def test_sweeps_smoother_than_their_noise_are_one_note_with_its_probability():
    paper = paper_of(*(sweep_of([height + i for height in SMOOTH], f"table{i}") for i in range(2, 10)))
    first, *others = smooth_sweeps(paper)
    assert first.severity == "note" and len(others) == 7 and {f.fact for f in others} == {first.fact}
    assert "8 of 8 columns of sweeps rise to one peak" in first.message and "0.3 points p = " in first.message
    assert "The premise is that a cell is one run" in first.message


def test_a_few_smooth_sweeps_and_strong_effects_are_no_finding():
    assert not list(smooth_sweeps(paper_of(*(sweep_of(SMOOTH, f"table{i}") for i in (2, 3)))))
    strong = [60, 64, 69, 73, 70, 66, 61]
    assert not list(smooth_sweeps(paper_of(*(sweep_of(strong, f"table{i}") for i in range(2, 12)))))


def test_sweeps_with_the_noise_that_is_stated_are_no_finding():
    rng = np.random.default_rng(0)
    for effect in (0, 0.05, 0.3) * 6:
        heights = [[70 - effect * (i - 3) ** 2 for i in range(7)] for _ in range(10)]
        tables = [sweep_of(list(rng.normal(each, 0.3)), f"table{i + 2}") for i, each in enumerate(heights)]
        assert not list(smooth_sweeps(paper_of(*tables)))
