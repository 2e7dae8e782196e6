"""The columns `inputs` and `verdict` of `compare`: what a run may say of a printed number, and what it says."""

import pandas as pd
import pytest

from merlib import declarations, study
from merlib.declarations import loading
from merlib.errors import DeclarationError
from merlib.study import likeness, report, verdicts

PAPER = declarations.load("mfcre")
TEXT, AUDIO = "text: roberta-base CLS (256)", "audio: openSMILE ComParE_2016 functionals, 16000 Hz (512)"
VISUAL = "visual: mean ResNet-101 scores of every face (1000)"
SAME = f"{TEXT} | {AUDIO} | {VISUAL}"


def relation(row="ours_as_published", *, features=SAME, substitutes=(), n=2610, paper=PAPER, table="3") -> str:
    declared = paper.table(table)
    cell = declarations.row_cells(paper, declared, declared.find(row))[-1]
    return likeness.relation(paper, cell, features=features, substitutes=substitutes, n=n)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "same"),
        ({"row": "ours"}, "selected otherwise"),  # the released code selects on test, this row on validation
        ({"row": "multiemo"}, "quoted"),
        ({"features": f"{TEXT} | {AUDIO} | absent"}, "lacks V"),
        ({"features": f"{TEXT} | absent | absent"}, "lacks AV"),
        ({"features": SAME.replace("roberta-base", "all-MiniLM-L6-v2")}, "other encoder"),
        ({"substitutes": ["frozen_text"]}, "other encoder"),
        ({"substitutes": None}, "other encoder"),  # RoBERTa learns, and an old record does not say whether ours did
        ({"features": f"{SAME}, partial: 4 of 13708 utterances"}, "other split"),
        ({"row": "ours", "features": f"text: x (3) | {AUDIO} | absent"}, "lacks V, other encoder, selected otherwise"),
    ],
)
def test_inputs_are_the_same_or_what_differs(options, expected):
    assert relation(**options) == expected


def test_another_number_of_test_utterances_is_another_split():
    features = "text: bert-base-uncased CLS and masked mean, alone (1536) | absent | absent"
    options = {"row": "hff", "features": features, "paper": declarations.load("hff")}
    assert relation(n=1623, **options) == "lacks AV"
    assert relation(n=1622, **options) == "lacks AV, other split"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("selected", "vale", "value of printed_on.selected"),
        ("learns", ["speech"], "modality in printed_on.learns"),
        ("test", {"mosi": 3}, "corpus in printed_on.test"),
    ],
)
def test_a_slip_in_printed_on_is_refused(name, value, message):
    printed_on = PAPER.printed_on.model_copy(update={name: (value, "Sec. 1")})
    with pytest.raises(DeclarationError, match=message):
        loading._check_printed_on(PAPER.model_copy(update={"printed_on": printed_on}))


def record(table: str, row: str, column: str, values: list[float], **more) -> None:
    key = {"data": "twin", "row": row, "column": column, "fold": 0, "selection": "test_peak", "n": 2610}
    more = {"features": SAME, "substitutes": "none"} | more
    records = [key | {"seed": seed, "value": value, "run": f"{seed:x}a"} | more for seed, value in enumerate(values)]
    study.write_records("mfcre", table, "twin", records)


def judged(column="weighted_f1") -> pd.Series:
    return study.compare("mfcre", "3").set_index(["row", "column"]).loc["ours_as_published", column]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([69.7, 69.8, 69.9], "equivalent"),  # 69.78 is printed, the smallest gain that the text claims is 1.11
        ([65.0, 65.5, 64.5], "lower"),
        ([75.0, 75.5, 74.5], "higher"),
        ([60.0, 70.0, 65.0], "undecided"),  # a wide spread says nothing
        ([65.0, 65.5], "undecided"),  # nor do two seeds
    ],
)
def test_the_verdict_is_that_of_the_interval_and_takes_three_seeds(places, values, expected):
    record("table3", "ours_as_published", "weighted_f1", values)
    line = judged()
    assert (line["inputs"], line["verdict"]) == ("same", expected)
    assert pd.isna(line["low"]) if len(values) < 3 else line["low"] < line["difference"] < line["high"]


def test_the_spread_is_that_of_all_rows_of_a_paper_and_of_runs_in_two_tables_once(places):
    record("table3", "ours_as_published", "weighted_f1", [65.0, 65.5, 64.5])
    alone = judged()
    record("table3", "multiemo_as_published", "weighted_f1", [60.0, 70.0, 65.0], run="b")
    both = judged()
    assert both["high"] - both["low"] > alone["high"] - alone["low"] and both["difference"] == alone["difference"]
    record("readings", "default", "meld_weighted_f1", [60.0, 70.0, 65.0], run="b", selection="val")
    assert judged()["high"] == both["high"]


def test_other_inputs_give_no_verdict_on_the_number(places):
    record("table3", "ours_as_published", "weighted_f1", [65.0, 65.5, 64.5], substitutes="frozen_text")
    line = judged()
    assert (line["inputs"], line["verdict"]) == ("other encoder", "not testable here") and pd.isna(line["low"])


def test_counts_agree_or_differ_and_are_in_no_mean(places):
    key = {"data": "twin", "row": "iemocap", "fold": 0, "seed": 0, "selection": "val", "n": 7433, "features": ""}
    records = [key | {"column": name, "value": value} for name, value in (("happy", 648), ("sad", 10))]
    study.write_records("mfcre", "table1", "twin", records)
    board = study.compare("mfcre", "1").set_index(["row", "column"])["verdict"]
    assert (board["iemocap", "happy"], board["iemocap", "sad"]) == ("agree", "differ")
    line = report.summary("twin").set_index(["paper", "table"]).loc["mfcre", "table1"]
    assert (line["agree"], line["differ"], line["equivalent"]) == (1, 1, 0) and pd.isna(line["mean difference"])


def test_means_are_of_shares_in_percentage_points(places):
    key = {"data": "twin", "fold": 0, "seed": 0, "selection": "val", "n": 790, "features": ""}
    records = [
        key | {"row": "sad", "column": "f1", "value": 65.56},  # 0.5556 is printed
        key | {"row": "sad", "column": "support", "value": 999},
    ]
    study.write_records("mpaf_net", "table4", "twin", records)
    line = report.summary("twin").set_index(["paper", "table"]).loc["mpaf_net", "table4"]
    assert line["mean difference"] == pytest.approx(10.0)


def test_the_margin_is_the_smallest_gain_that_the_text_claims_in_a_table():
    assert verdicts.delta(PAPER, "table3") == 1.11 and verdicts.delta(PAPER, "table4") == 1.18
    assert verdicts.delta(PAPER, "table9") == 1.11, "no gain is claimed there: the smallest of the paper"
    assert verdicts.delta(declarations.load("hff"), "table3") == 2.1
    assert verdicts.delta(declarations.load("attsf_net"), "table5") == 0.21, "a loss under two masks is of one system"
    assert verdicts.delta(declarations.load("mpaf_net"), "table5") == 2.5


def test_a_class_has_the_noise_of_its_own_utterances(places):
    key = {"data": "twin", "row": "hff", "fold": 0, "seed": 0, "selection": "val", "n": 1623, "features": ""}
    study.write_records("hff", "table_fig5", "twin", [key | {"column": "recall_happy", "value": 50.0}])
    line = study.compare("hff", "table_fig5").set_index("column").loc["recall_happy"]
    assert line["noise"] == pytest.approx(100 * 1.959964 * (0.25 / 144) ** 0.5), "144 happy utterances test"
    key |= {"row": "mpaf_net", "column": "validation_macro_f1"}
    study.write_records("mpaf_net", "table5", "twin", [key | {"value": 50.0}])
    line = study.compare("mpaf_net", "5").set_index(["row", "column"]).loc["mpaf_net", "validation_macro_f1"]
    assert pd.isna(line["noise"]) and pd.isna(line["n"]), "how many validated is not known"
