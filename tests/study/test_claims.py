"""Claims of the text on runs of our own: each verdict and its reason, from records that are written here."""

import json
import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from merlib import cli, declarations, study
from merlib.places import results_folder
from merlib.study import claimed, pairs, stale, statistics, verdicts
from merlib.study import claims as module
from merlib.study.claims import VERDICTS
from merlib.study.statistics import Pooled

FEATURES = "text: x (3) | audio: y (2) | absent"
OURS = {"wo_multiattn": 3.0, "wo_simam": -3.0, "wo_swfc": 0.2}  # how far below ours each row is made to lie


def record(
    row: str, values: list[float], *, table="table4", column="iemocap_weighted_f1", paper="mfcre", seeds=(), **more
) -> None:
    """Records of a row, one value a seed: 0, 1, ... or the given ones."""
    key = {"data": "twin", "row": row, "column": column, "selection": "val", "n": 1623, "fold": 0}
    more = {"features": FEATURES, "substitutes": "none", "run": f"{zlib.crc32(row.encode()):x}"} | more
    seeds = seeds or range(len(values))
    fields = [key | {"seed": seed, "value": value} | more for seed, value in zip(seeds, values, strict=True)]
    study.write_records(paper, table, "twin", fields)


@pytest.fixture
def ours(places):
    record("ours", [60.0, 60.5, 59.5])
    for row, below in OURS.items():
        record(row, [60.2 - below, 59.6 - below, 60.2 - below])


def judged(claim: str, paper="mfcre") -> pd.Series:
    return study.judge_claims(paper).set_index("claim").loc[claim]


def test_a_difference_is_supported_contradicted_or_undecided(ours):
    supported = judged("wo_multiattn_iemocap_weighted_f1")
    assert supported["verdict"] == "supported" and supported["estimate"] == pytest.approx(3.0)
    assert supported["ratio"] == pytest.approx(3.0 / 4.65) and supported["printed"] == 4.65
    assert judged("wo_simam_iemocap_weighted_f1")["verdict"] == "contradicted"
    undecided = judged("wo_swfc_iemocap_weighted_f1")
    assert (
        undecided["verdict"] == "undecided" and undecided["note"] == "about 21 seeds would find the printed difference"
    )
    assert (undecided["pair"], undecided["covers"]) == (
        "table4/ours.iemocap_weighted_f1 - table4/wo_swfc.iemocap_weighted_f1", "seeds")  # fmt: skip


def test_p_is_adjusted_over_the_claims_of_the_paper_that_were_tested(ours):
    all_claims = study.judge_claims("mfcre")
    tested = all_claims[all_claims["p"].notna()]
    assert len(tested) == 3 and tested["p_holm"].min() == pytest.approx(3 * tested["p"].min())
    assert (tested["p_holm"] >= tested["p"]).all() and set(all_claims["verdict"]) <= set(VERDICTS)


def test_one_seed_decides_nothing_and_a_missing_side_names_its_command(ours):
    record("wo_soft_hgr", [40.0])
    line = judged("wo_soft_hgr_iemocap_weighted_f1")
    assert (line["verdict"], line["seeds"], line["estimate"]) == ("undecided", 1, 20.0)
    assert line[["low", "high", "p", "p_holm"]].isna().all(), "the spread of other rows says nothing of this one"
    missing = judged("wo_dialoguecrn_iemocap_weighted_f1")
    assert missing["verdict"] == "not run"
    assert missing["note"] == "`merlib run mfcre table4 wo_dialoguecrn --data twin --seeds 0,1,2`"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": FEATURES.replace("audio: y", "audio: z")}, "have read other features"),
        ({"n": 1600}, "or other test utterances"),
        ({"run": "abc"}, "are one run on this root"),
    ],
)
def test_unequal_inputs_and_equal_runs_test_nothing(ours, change, reason):
    record("ours", [60.0, 60.5, 59.5], run="abc")
    record("wo_multiattn", [57.0, 56.5, 57.0], **change)
    line = judged("wo_multiattn_iemocap_weighted_f1")
    assert line["verdict"] == "not testable" and reason in line["note"] and pd.isna(line["p"])


def test_a_row_of_other_modalities_has_the_spread_of_its_own(places):
    """That text is above audio, by the two spreads: Welch's test of two samples of three."""
    of = {"paper": "hff", "table": "table4"}
    text, audio = [58.0, 60.0, 62.0], [55.0, 49.0, 38.0]
    record("full", text, column="t", run="a", **of)
    record("full", audio, column="a", run="b", **of)
    for i, row in enumerate(("full", "wo_attention", "wo_temporal", "wo_alignment")):
        record(row, [60.0, 60.1, 60.2], column="ta", run=f"c{i}", **of)
    line = judged("ablation_text_audio", "hff")
    assert line["verdict"] == "undecided" and line["p"] == pytest.approx(ttest_ind(text, audio, equal_var=False).pvalue)


def test_the_seeds_that_would_find_a_printed_gain_are_three_or_more(ours, monkeypatch):
    note = lambda claim: judged(claim)["note"]
    monkeypatch.setattr(pairs.Pair, "gain", 50.0)
    record("wo_soft_hgr", [60.0])
    assert note("wo_swfc_iemocap_weighted_f1") == "3 seeds would have found the printed difference in most studies"
    assert note("wo_soft_hgr_iemocap_weighted_f1") == "about 3 seeds would find the printed difference"
    monkeypatch.setattr(pairs.Pair, "gain", -2.0)
    assert note("wo_swfc_iemocap_weighted_f1") == "", "no seeds find a gain that is not printed"


def test_a_claim_says_that_older_code_trained_a_side_of_it(ours):
    claim, paper = "wo_multiattn_iemocap_weighted_f1", declarations.load("mfcre")
    assert judged(claim)["doubt"] == "stale", "these records do not name their recipe"
    cells = {address: cell for address, cell in declarations.addresses(paper).items() if cell.table == "table4"}
    for row, values in (("ours", [60.0, 60.5, 59.5]), ("wo_multiattn", [57.2, 56.6, 57.2])):
        (cell,) = (c for c in cells.values() if (c.row, c.column) == (row, "iemocap_weighted_f1"))
        recipe = stale.recipes(paper, cell, SimpleNamespace(features=FEATURES, substitutes="none", data="twin"))[0]
        record(row, values, recipe="1a", **stale.marks(recipe))
    assert judged(claim)["doubt"] == ""


def test_only_seeds_of_equal_inputs_are_compared(ours):
    fields = {"data": "twin", "row": "wo_multiattn", "column": "iemocap_weighted_f1", "fold": 0, "selection": "val"}
    other = {"seed": 2, "n": 1623, "value": 10.0, "features": "text: other (3) | absent | absent"}
    study.write_records("mfcre", "table4", "twin", [fields | other])
    line = judged("wo_multiattn_iemocap_weighted_f1")
    assert line["seeds"] == 2 and line["estimate"] == pytest.approx(3.35)


def test_a_claim_about_modalities_takes_a_root_that_has_them(places):
    column = {"paper": "gia_mic", "table": "table2", "column": "wa"}
    read = {"features": "text: x (3) | audio: y (2) | absent"}
    for row, value, run in (("gia_mic_vst", 70.0, "a"), ("baseline_st", 69.0, "b"), ("wo_msr", 68.0, "c")):
        for fold in range(5):
            record(row, [value + fold], fold=fold, run=f"{run}{fold}", **column, **read)
    line = judged("wo_msr_wa", "gia_mic")
    assert (line["folds"], line["estimate"], line["covers"]) == (5, 2.0, "folds"), "both lack V: the claim is of a part"
    for row in ("baseline_vs", "baseline_vt"):
        for fold in range(5):
            record(row, [60.0], fold=fold, run=f"d{fold}", **column, **read)
    note = judged("above_baseline_wa", "gia_mic")["note"]
    assert "it compares modalities, and V was not read on this root" in note


def test_the_best_is_judged_against_the_rivals_that_are_trained(places):
    record("ours", [60.0, 60.5, 59.5], table="table2", column="weighted_f1")
    record("multiemo", [65.0, 65.2, 64.8], table="table2", column="weighted_f1")
    line = judged("best_weighted_f1_iemocap")
    assert (line["verdict"], line["pairs"]) == ("contradicted", "1 of 12") and line["estimate"] == pytest.approx(-5.0)
    quoted = judged("gain_weighted_f1_iemocap")
    assert quoted["verdict"] == "not testable" and quoted["note"] == "quoted, not trained here: SDT"


def test_one_rival_above_contradicts_and_some_below_do_not_support(places):
    for row, value in (("mpaf_net", 60.0), ("tfn", 70.0), ("baseline", 50.0)):
        record(row, [value, value + 0.5, value - 0.5], paper="mpaf_net", table="table5", column="test_accuracy")
    assert judged("best_accuracy", "mpaf_net")["verdict"] == "contradicted", "TFN alone is enough"
    record("tfn", [50.0, 50.5, 49.5], paper="mpaf_net", table="table5", column="test_accuracy")
    line = judged("best_accuracy", "mpaf_net")
    assert line["verdict"] == "not run" and "table5 ef_lstm lf_lstm" in line["note"] and pd.isna(line["estimate"])


def test_a_rival_without_a_seed_in_common_has_not_been_compared(places):
    values = {"mpaf_net": 70.0, "tfn": 69.0, "baseline": 50.0, "ef_lstm": 49.0, "lf_lstm": 48.0}
    for row, value in values.items():
        seeds = (3, 4, 5) if row == "tfn" else (0, 1, 2)
        of = {"paper": "mpaf_net", "table": "table5", "column": "test_accuracy"}
        record(row, [value, value + 0.5, value - 0.5], seeds=seeds, **of)
    line = judged("best_accuracy", "mpaf_net")
    assert line["verdict"] == "not run" and line["pairs"] == "3 of 4"
    assert line["note"] == "`merlib run mpaf_net table5 mpaf_net tfn --data twin --seeds 0,1,2`"


def test_a_difference_within_the_noise_does_not_hide_that_rivals_have_not_run(places):
    for row, value in (("mpaf_net", 60.0), ("tfn", 60.1)):
        record(row, [value, value + 2, value - 2], paper="mpaf_net", table="table5", column="test_accuracy")
    line = judged("best_accuracy", "mpaf_net")
    assert line["verdict"] == "not run" and "baseline ef_lstm lf_lstm" in line["note"] and pd.isna(line["p"])


def test_one_seed_has_no_p_whatever_its_sign(places):
    for row, value in (("mpaf_net", 60.0), ("tfn", 61.0), ("baseline", 50.0), ("ef_lstm", 49.0), ("lf_lstm", 48.0)):
        record(row, [value], paper="mpaf_net", table="table5", column="test_accuracy")
    line = judged("best_accuracy", "mpaf_net")
    assert line["verdict"] == "undecided" and line["estimate"] == -1.0 and pd.isna(line["p"])
    assert pd.isna(line["p_holm"])


def test_the_lowest_is_claimed_the_other_way_round(places):
    for row, value in (("ef_lstm", 50.0), ("lf_lstm", 60.0), ("tfn", 61.0), ("baseline", 62.0), ("mpaf_net", 63.0)):
        record(row, [value, value + 0.5, value - 0.5], paper="mpaf_net", table="table5", column="test_accuracy")
    line = judged("ef_lstm_worst_accuracy", "mpaf_net")
    assert line["verdict"] == "supported" and line["estimate"] == pytest.approx(10.0) and line["printed"] == 5.46


def test_that_one_is_above_two_says_nothing_of_these_two(places):
    for row, value in (("ef_lstm", 55.0), ("lf_lstm", 50.0), ("tfn", 61.0)):
        record(row, [value, value + 0.5, value - 0.5], paper="mpaf_net", table="table5", column="test_accuracy")
    line = judged("hybrid_above_late_accuracy", "mpaf_net")
    assert (line["verdict"], line["pairs"]) == ("supported", "2 of 2") and line["estimate"] == pytest.approx(6.0)
    assert judged("late_above_early_accuracy", "mpaf_net")["verdict"] == "contradicted"


def test_a_test_that_two_claims_share_counts_once(places):
    """MFCRE says a gain over MultiEMO in disgust twice; that it is the best there rests on the same pair here."""
    for row, value in (("ours", 40.0), ("multiemo", 36.0)):
        record(row, [value, value + 1, value - 1], table="table3", column="f1_disgust")
    claims = study.judge_claims("mfcre")
    tested = claims[claims["p"].notna()]
    assert len(tested) == 3 and (tested["p_holm"] == tested["p"]).all()


def test_equal_systems_are_seldom_called_different(places, monkeypatch):
    """500 pairs of ten equal systems, three seeds each: at most 5 % of p are below 5 %, with its margin."""
    generator, low = np.random.default_rng(0), 0
    for _ in range(500):
        rows = generator.normal(60, 1.5, (10, 3))
        difference, spread = (rows[0] - rows[1])[:, None], verdicts.spread(rows.tolist())
        low += statistics.paired(difference, Pooled(2 * spread.variance, spread.df)).p < 0.05
    assert low / 500 <= 0.05 + 2 * (0.05 * 0.95 / 500) ** 0.5


def test_the_page_tells_each_claim_in_a_sentence_and_the_file_has_its_numbers(ours, capsys):
    cli.main(["claims", "mfcre", "--json"])
    lines = json.loads(capsys.readouterr().out)
    assert list(lines[0]) == [field.name for field in module.fields(module.Judged)]
    cli.main(["claims", "--write"])
    printed = capsys.readouterr().out
    assert "mfcre supported wo_multiattn_iemocap_weighted_f1 (Sec. 4.4): weighted F1 on IEMOCAP lost" in printed
    saved = pd.read_csv(results_folder("twin") / "claims.csv").set_index("claim")
    assert saved.loc["wo_simam_iemocap_weighted_f1", "verdict"] == "contradicted"
    page = (results_folder("twin") / "claims.md").read_text()
    assert "Synthetic twin" in page and all(declarations.load(paper).title in page for paper in declarations.papers())
    assert "ours +3.00 points, 95 % interval" in page
    assert "over 3 seeds, without video, older code, where +4.65 is printed." in page


def test_what_is_not_judged_stands_folded_behind_what_is(ours):
    cli.main(["claims", "--write"])
    page = (results_folder("twin") / "claims.md").read_text()
    central, rest = page[page.index("Contextual xLSTM") :].split("### The rest")[0:2]
    assert "- **not testable** `gain_weighted_f1_meld`" in central and "<details>" not in central, "all are read"
    open_, *folded = rest.split("## Research")[0].split("<details><summary>")
    assert "- **contradicted** `wo_simam" in open_ and "**not run**" not in open_
    assert [part.split("</summary>")[0].split(" ", 1)[1] for part in folded] == ["not run", "not testable"]
    for part in folded:
        number, verdict = part.split("</summary>")[0].split(" ", 1)
        assert part.count(f"- **{verdict}** ") == int(number) and "</details>" in part


def test_claims_are_of_a_paper_and_not_of_a_table(places, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["claims", "mfcre", "table4"])
    assert stopped.value.code == 2 and "claims are of a whole paper" in capsys.readouterr().err


@pytest.mark.parametrize("paper", declarations.papers())
def test_three_to_five_claims_of_a_paper_are_central(paper):
    central = [claim for claim in declarations.load(paper).claims if claim.central]
    assert 3 <= len(central) <= 5 and all(claim.kind in claimed.KINDS for claim in central)


@pytest.mark.parametrize(
    ("paper", "claims"),
    [
        ("attsf_net", {"sab", "similarity_loss"}),  # Sec. VI names both ablations
        ("gia_mic", {"above_baseline_wa"}),  # Sec. 4
        ("hff", {"iemocap_accuracy_best"}),  # Sec. 5
        ("mpaf_net", {"validation_above_baseline", "best_macro_f1"}),  # Abstract, Sec. 4.1
    ],
)
def test_what_an_abstract_or_a_conclusion_says_outright_is_central(paper, claims):
    assert claims <= {claim.id for claim in declarations.load(paper).claims if claim.central}
