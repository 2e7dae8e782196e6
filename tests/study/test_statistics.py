"""Each statistical function against an oracle (scipy, an enumeration, a worked example); the rate of false verdicts."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from merlib.study import statistics, verdicts
from merlib.study.statistics import Pooled

GROUPS = [[60.1, 61.3, 59.8], [55.0, 57.2], [70.0]]


def test_the_pooled_variance_is_that_of_an_analysis_of_variance():
    of, groups = statistics.pooled(GROUPS), [g for g in GROUPS if len(g) > 1]
    between = sum(len(g) * (np.mean(g) - np.mean(np.concatenate(groups))) ** 2 for g in groups) / (len(groups) - 1)
    assert between / of.variance == pytest.approx(stats.f_oneway(*groups).statistic) and of.df == 3
    assert math.isnan(statistics.pooled([[1.0]]).variance)


def test_one_row_alone_is_the_usual_t_test_of_a_further_value():
    seeds, printed = [60.1, 61.3, 59.8], 62.0
    estimate = statistics.against_printed(seeds, printed, statistics.pooled([seeds]))
    expected = stats.ttest_ind(seeds, [printed])  # the second sample is of one: its variance is that of the first
    assert estimate.p == pytest.approx(expected.pvalue) and estimate.value == pytest.approx(np.mean(seeds) - printed)
    ends = expected.confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((ends.low, ends.high))


def test_two_parts_have_the_degrees_of_freedom_of_welchs_test():
    a, b = [1.0, 2.0, 4.0, 4.5], [2.0, 7.0, 9.0]
    parts = [(1 / len(x), statistics.pooled([x])) for x in (a, b)]
    estimate = statistics.student(np.mean(a) - np.mean(b), statistics.added(*parts))
    assert estimate.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_seeds_of_one_test_set_are_the_paired_t_test():
    a, b = np.array([60.0, 62.0, 61.0, 65.0]), np.array([58.0, 61.5, 57.0, 63.0])
    estimate, expected = statistics.paired((a - b)[:, None]), stats.ttest_rel(a, b)
    ends = expected.confidence_interval(0.95)
    assert (estimate.p, estimate.low, estimate.high) == pytest.approx((expected.pvalue, ends.low, ends.high))


def test_folds_are_corrected_for_the_training_utterances_that_they_share():
    """Nadeau and Bengio (2003): the plain t times sqrt((1/k) / (1/k + 1/(k - 1)))."""
    a, b = np.array([60.0, 62.0, 61.0, 65.0, 64.0]), np.array([58.0, 61.5, 57.0, 63.0, 64.5])
    t = stats.ttest_rel(a, b).statistic * math.sqrt(0.2 / (0.2 + 0.25))
    assert statistics.paired((a - b)[None]).p == pytest.approx(2 * stats.t.sf(t, 4))
    assert statistics.paired(np.stack([a - b, a - b])).p == pytest.approx(2 * stats.t.sf(t, 4)), "equal seeds add none"


def test_a_difference_that_never_varies_is_certain():
    assert statistics.paired(np.full((3, 1), 2.0)) == (2.0, 2.0, 2.0, 0.0)
    assert statistics.paired(np.zeros((3, 1))).p == 1.0 and math.isnan(statistics.paired(np.ones((1, 1))).p)


def test_holm_is_the_worked_example_of_r():
    """As p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") of R; and in another order, with a gap."""
    assert statistics.holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    adjusted = statistics.holm([0.04, math.nan, 0.01])
    assert adjusted[::2] == pytest.approx([0.04, 0.02]) and math.isnan(adjusted[1])


@pytest.mark.parametrize(("effect", "expected"), [(0.5, 34), (1.0, 10), (2.0, 5)])
def test_the_seeds_that_are_needed_are_those_of_published_tables(effect, expected):
    """n of a two-sided paired t-test of level 0.05 and power 0.8, as G*Power gives it."""
    assert statistics.seeds_needed(effect, 1.0) == expected
    assert statistics.seeds_needed(0.001, 1.0) is None and statistics.seeds_needed(0.0, 1.0) is None


def test_the_bootstrap_of_clusters_is_the_enumeration_of_all_samples():
    counts = np.array([[1, 4], [5, 6], [2, 2], [0, 3]])  # right, all
    share = lambda sums: sums[:, 0] / sums[:, 1]
    samples = np.array([counts[list(i)].sum(0) for i in product(range(4), repeat=4)])
    of = statistics.cluster_variance(counts, share, draws=40_000)
    assert of.variance == pytest.approx(share(samples).var() * 4 / 3, rel=0.03) and of.df == 3
    assert math.isnan(statistics.cluster_variance(counts[:1], share).variance)


def test_the_bootstrap_of_seeds_and_clusters_is_the_enumeration_of_all_samples():
    runs = np.array([[[3], [9], [4]], [[5], [1], [4]]])  # seeds x clusters x right
    mean = lambda sums: sums[:, 0] / 3
    samples = sorted(
        np.mean([runs[s, list(c), 0].mean() for s in seeds])
        for seeds in product(range(2), repeat=2) for c in product(range(3), repeat=3)
    )  # fmt: skip
    drawn = statistics.hierarchical(runs, mean, draws=40_000)
    assert (drawn.mean(), drawn.std()) == pytest.approx((np.mean(samples), np.std(samples)), rel=0.02)
    assert statistics.ends(drawn) == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.2)


def test_the_bootstrap_of_a_mean_agrees_with_scipys():
    values = np.random.default_rng(1).normal(60, 5, 40)
    ours = statistics.cluster_variance(values[:, None], lambda sums: sums[:, 0] / 40, draws=20_000).variance
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=2).standard_error
    assert math.sqrt(ours * 39 / 40) == pytest.approx(theirs, rel=0.03)


def false_verdicts(studies: int, seeds: int, clusters: bool, rows: int = 6, margin: float = 1.0) -> float:
    """The share of `lower` and `higher` in studies that repeat a paper's run truly: its score has seeds of its own.

    clusters: the paper tests on another sample of 30 dialogues of 40 utterances, which differ in how hard they are.
    """
    generator, wrong = np.random.default_rng(seeds + 100 * clusters), 0
    share = lambda sums: sums[:, 0] / 12
    for _ in range(studies):
        of_rows = generator.normal(60, 1.5, (rows, seeds))
        printed, variance = generator.normal(60, 1.5), None
        if clusters:
            ours, theirs = generator.binomial(40, generator.beta(6, 4, (2, 30))) - 24
            of_rows[0] += ours.sum() / 12
            printed += theirs.sum() / 12
            variance = statistics.cluster_variance(ours[:, None], share, draws=200)
        spread = verdicts.spread(of_rows.tolist())
        estimate = statistics.against_printed(of_rows[0], printed, spread, variance)
        wrong += verdicts.verdict(estimate, margin) in ("lower", "higher")
    return wrong / studies


CASES = [(seeds, clusters) for seeds in (3, 5) for clusters in (False, True)]


@pytest.mark.parametrize(("seeds", "clusters"), CASES)
def test_a_true_repetition_is_seldom_called_lower_or_higher(seeds, clusters):
    """At most the nominal 5 %, with the margin of 300 studies: 23 of them have a chance of 2 % at 5 %."""
    assert false_verdicts(300, seeds, clusters) <= 23 / 300


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "clusters"), CASES)
def test_at_most_five_percent_of_true_repetitions_are(seeds, clusters):
    """10,000 studies: a rate of 5 % has a standard error of 0.22 %."""
    assert false_verdicts(10_000, seeds, clusters) <= 0.05 + 2 * 0.0022


def test_a_run_that_is_truly_worse_is_found_and_a_like_one_is_equivalent():
    spread = Pooled(1.0, 20)
    of = lambda seeds, margin: verdicts.verdict(statistics.against_printed(seeds, 60.0, spread), margin)
    assert of([55.0, 56.0, 54.0], 1.0) == "lower" and of([65.0, 66.0, 64.0], 1.0) == "higher"
    assert of([60.1, 60.0, 59.9], 3.0) == "equivalent" and of([60.1, 60.0, 59.9], 1.0) == "undecided"
