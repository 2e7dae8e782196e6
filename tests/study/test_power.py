"""Power before training: the smallest gains against an oracle and a simulation, and what a claim needs by records."""

import json
from statistics import variance
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from test_claims import record

from merlib import cli, declarations
from merlib.study import claims, statistics
from merlib.study import power as module
from merlib.study.comparison import Spreads
from merlib.study.statistics import Pooled

ROWS = {"ours": [60.0, 61.0, 59.0], "wo_multiattn": [55.0, 58.0], "wo_simam": [57.0] * 3, "wo_swfc": [59.9]}
SPREAD = ((2 * 1.0 + 4.5) / 3) ** 0.5  # of `ours` and `wo_multiattn`: the others do not differ between seeds


@pytest.fixture
def ours(places):
    for row, values in ROWS.items():
        record(row, values)


def of(claim: str, paper="mfcre", table=None):
    return module.power(paper, table).set_index("claim").loc[claim]


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 200])
@pytest.mark.parametrize("level", [0.95, 0.999])
def test_the_smallest_gain_is_found_with_eighty_percent_power(seeds, level):
    gain = statistics.smallest_gain(seeds, 2.0, level=level)
    edge = stats.t.isf((1 - level) / 2, seeds - 1)
    assert stats.nct.sf(edge, seeds - 1, gain / 2.0 * seeds**0.5) == pytest.approx(0.8, abs=1e-3)
    assert statistics.seeds_needed(1.001 * gain, 2.0, level=level) == seeds
    assert statistics.seeds_needed(0.999 * gain, 2.0, level=level) == seeds + 1


def test_studies_of_five_seeds_find_their_smallest_gain_in_four_of_five_cases():
    gain = statistics.smallest_gain(5, 2.0)
    differences = np.random.default_rng(0).normal(gain, 2.0, (20_000, 5))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_power_of_a_test_is_that_of_its_simulation():
    """Of a mean of 5 differences, their variance known from 12 others, and of a sample of 30 dialogues."""
    parts = (1 / 5, Pooled(4.0, 12)), (1, Pooled(1.0, 29))
    generator, studies = np.random.default_rng(0), 20_000
    means = generator.normal(3.5, statistics.added(*parts).variance ** 0.5, studies)
    known = [(factor, of.variance * generator.chisquare(of.df, studies) / of.df, of.df) for factor, of in parts]
    errors = sum(factor * variances for factor, variances, _ in known)
    df = errors**2 / sum((factor * variances) ** 2 / df for factor, variances, df in known)
    found = np.abs(means) / errors**0.5 > stats.t.isf(0.025, df)
    assert statistics.power(3.5, statistics.added(*parts)) == pytest.approx(found.mean(), abs=0.01)
    assert statistics.power(statistics.smallest_gain(12, 2.0), Pooled(4.0 / 12, 11)) == pytest.approx(0.8, abs=1e-6)
    assert statistics.power(-500.0, Pooled(1.0, 2)) == pytest.approx(1.0), "far away, in either direction"


def test_the_sample_of_dialogues_is_an_error_that_seeds_do_not_take_away():
    """The power of the judging test, seed by seed: its variance is that of rows with 12 degrees of freedom."""
    pair = SimpleNamespace(gain=3.0, spread=Pooled(4.0, 12))
    needed = claims._needed(pair, Pooled(0.5, 29))
    assert 3 < needed < 100 and claims._needed(pair, None) < needed
    at = lambda seeds: statistics.power(3.0, statistics.added((1 / seeds, pair.spread), (1, Pooled(0.5, 29))))
    assert at(needed - 1) < 0.8 <= at(needed) and needed < 13, "as many as the rows tell of"
    assert claims._needed(pair, Pooled(1.2, 29)) is None, "no number of seeds is enough"
    alone = SimpleNamespace(gain=3.0, spread=Pooled(4.0, 2))  # of three seeds; more would tell more
    assert claims._needed(alone, None) == statistics.seeds_needed(3.0, 2.0)


def test_runs_of_several_rows_count_once_and_rows_of_other_splits_are_not_pooled(places):
    column = {"table": "readings", "column": "iemocap6_weighted_f1"}
    for seed, (value, run) in enumerate(((60.0, "a"), (61.0, "b"), (59.0, "c"))):
        record("default", [value], run=run, seeds=(seed,), **column)
        if seed < 2:
            record("turns_three", [value], run=run, seeds=(seed,), **column)
    spreads = Spreads(declarations.load("mfcre"), "twin")
    (key,) = spreads.groups
    assert [sorted(means) for means in spreads.groups[key]] == [[59.0, 60.0, 61.0]]
    paper = declarations.load("mpaf_net")
    table = paper.tables["table5"]
    cells = lambda row: {cell.column: cell for cell in declarations.row_cells(paper, table, table.find(row))}
    spreads = Spreads(paper, "twin")
    rows = ("mpaf_net", "mpaf_net_all_rotations", "mpaf_net_random_811")
    one, ten, shared = (spreads.measured(cells(row)["validation_accuracy"]) for row in rows)
    assert one[:3] == ten[:3] == shared[:3] and one[3][:2] == shared[3][:2] and len({one, ten, shared}) == 3


def test_rows_of_other_modalities_are_not_pooled_and_equal_scores_count_once(places):
    """Weighting the modalities changes nothing where there is one: two recipes, two runs, and one row of scores."""
    for row in ("full", "wo_weighting_alpha"):
        record(row, [50.0, 44.0, 59.0], table="table4", column="a", paper="hff")
        record(row, [58.0, 60.0, 59.0], table="table4", column="ta", paper="hff", run=f"{len(row)}")
    groups = Spreads(declarations.load("hff"), "twin").groups
    assert {key[-1]: rows for key, rows in groups.items()} == {"A": [[50.0, 44.0, 59.0]], "TA": [[58.0, 60.0, 59.0]]}


def test_a_claim_needs_the_seeds_that_its_gain_and_the_pooled_spread_need(ours):
    line = of("wo_multiattn_iemocap_weighted_f1")
    assert variance(ROWS["ours"]) == 1 and line["spread"] == pytest.approx(SPREAD) and line["own"]
    assert (line["runs"], line["spread_of"]) == (5, "weighted_f1 on iemocap6 from TAV, mfcre")
    assert line["printed"] == 4.65 and line["seeds"] == statistics.seeds_needed(4.65, SPREAD * 2**0.5) == 4
    assert line["gain_5"] == pytest.approx(statistics.smallest_gain(5, SPREAD * 2**0.5))


def test_after_holm_a_claim_is_tested_at_five_percent_over_all_that_can_be(ours):
    board = module.power("mfcre")
    m = int((board["tested"] & (board["printed"] > 0)).sum())
    line = of("wo_multiattn_iemocap_weighted_f1")
    assert m > 50 and line["seeds_holm"] == statistics.seeds_needed(4.65, SPREAD * 2**0.5, level=1 - 0.05 / m) > 4
    quoted = of("gain_weighted_f1_iemocap")
    assert quoted["seeds_holm"] is None or quoted.isna()["seeds_holm"]
    assert not quoted["tested"] and quoted["note"] == "quoted, not trained here: SDT"


def test_rows_of_other_measures_stand_in_and_are_named(ours):
    same, other = of("wo_simam_meld_weighted_f1"), of("wo_simam_meld_accuracy")
    assert same["spread_of"] == "weighted_f1 on all corpora, mfcre" and not same["own"]
    assert other["spread_of"] == "all scores of whole test sets, mfcre" and other["spread"] == pytest.approx(SPREAD)
    assert np.isnan(of("best_meld_joy")["spread"]), "no record of any class"
    record("hff", [60.0, 64.0], table="table3", column="weighted_f1", paper="hff")
    elsewhere = of("gain_accuracy_iemocap")
    assert elsewhere["spread_of"] == "all scores of whole test sets, hff and mfcre" and elsewhere["runs"] == 7


def test_what_is_not_printed_needs_no_seeds_and_folds_are_told(ours):
    reversed_ = of("second_best_wa", "gia_mic")
    assert reversed_.isna()["seeds"] and reversed_["note"].endswith("no gain is printed")
    tiny = of("mu2_0_3_iemocap_weighted_f1")
    assert tiny["printed"] == 0.01 and tiny.isna()["seeds"] and tiny["note"] == "needs more than 1000 seeds"
    assert "seeds of the same 5 folds" in of("above_baseline_wa", "gia_mic")["note"]


def test_without_records_the_last_line_says_so(places, capsys):
    cli.main(["power", "hff", "4"])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "No claim can be judged before training: on 'twin' no row has two seeds on record that differ."
    )


def test_the_command_shows_a_table_of_claims_and_ends_with_a_sentence(ours, capsys):
    cli.main(["power", "mfcre", "table4", "--json"])
    lines = json.loads(capsys.readouterr().out)
    assert lines and all("table4/" in line["pair"] for line in lines)
    cli.main(["power", "mfcre/4"])
    *_, sentence = capsys.readouterr().out.splitlines()
    few = sum((line["seeds"] or 99) <= 3 for line in lines)
    assert sentence.startswith(f"Of {len(lines)} claimed gains, 3 seeds are enough for {few} and 10 seeds for ")
    assert f"For {sum(not line['own'] for line in lines)} of them the paper has no spread of its own" in sentence
    with pytest.raises(SystemExit) as stopped:
        cli.main(["power", "mfcre/table4/ours"])
    assert stopped.value.code == 2 and "`merlib power mfcre table4`" in capsys.readouterr().err
