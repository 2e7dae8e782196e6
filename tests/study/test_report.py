"""The report, the summary and the scoreboard say what was recorded: read back line by line and number by number."""

import pandas as pd
import pytest

from merlib import declarations, study
from merlib.study import comparison, report, verdicts
from merlib.study.recorded import roots_of

PAPER = declarations.load("hff")
TABLE = PAPER.table("table3")  # 6 rows of 8 printed scores, and four rows of ours


def record(row: str, value: float, **more) -> dict:
    key = {"data": "lab", "row": row, "column": "weighted_f1", "fold": 0, "seed": 0, "selection": "val"}
    about = {"n": 1623, "features": "text: x (3)", "never_predicted": "", "recipe": "a", "commit": "1"}
    return key | {"value": value} | about | more


RECORDS = [
    record("hff", 61.0), record("hff", 63.0, seed=1, commit="1+"),
    record("hff", 64.0, selection="test_peak"), record("hff", 65.0, seed=1, selection="test_peak", commit="1+"),
    record("hff", 99.0, column="accuracy"),
    record("cogmen", 67.0), record("tfn", 70.0), record("logistic", 50.0, features="text: y (3)"),
    record("majority", 20.0, never_predicted="sad happy"),
]  # fmt: skip


@pytest.fixture
def board(places) -> report.Board:
    study.write_records("hff", "table3", "lab", RECORDS)
    return PAPER, TABLE, study.compare("hff", "table3", "lab")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_report_begins_with_what_the_central_claims_come_to(places):
    study.write_records("hff", "table3", "lab", [record("hff", 61.0, run="a"), record("cogmen", 67.0, run="b")])
    text = report.write("lab", [(PAPER, TABLE, study.compare("hff", "table3", "lab"))]).read_text()
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads[0] == "## What the central claims come to"
    findings = text.split(heads[1])[0]
    assert "- **HFF**: of 5 central claims, 1 undecided, 4 not run." in findings
    assert "Weighted F1 above COGMEN, in points (Abstract): **undecided**; our difference is -6.00 points" in findings


def test_a_section_has_the_features_the_scores_the_doubts_and_what_has_not_run(board):
    lines = "\n".join(report._section(*board)).split("\n")
    assert lines[:5] == [
        f"## hff/table3: {TABLE.caption}",
        "",
        "- features: text: x (3)",
        "- features: text: y (3)",
        "",
    ]
    header, rule, *rows = (cells(line) for line in lines[5:13])
    assert header == ["row", "label", "column", "printed", "reproduced", "spread", "n_seeds", "n_folds", "n",
                      "test_peak", "difference", "low", "high", "noise", "inputs", "verdict",
                      "never_predicted"]  # fmt: skip
    assert all(set(each) <= {":", "-"} for each in rule)
    assert rows[0][0] == "tfn"
    by_label = {(row[1], row[2]): row[3:] for row in rows}
    other = ["lacks AV, other encoder", "not testable here", ""]
    ours = ["69.70", "62.00", "1.41", "2", "1", "1623", "64.50", "-7.70", "", "", "2.36", *other]
    assert by_label["HFF", "weighted_f1"] == ours
    floor = ["", "20.00", "", "1", "1", "1623", "", "", "", "", "1.95", "", "", "happy sad"]
    assert by_label["Floor: majority class", "weighted_f1"] == floor and len(by_label) == 6
    assert lines[13:15] == ["", f"{report.DOUBTS['uncommitted']}: HFF."]
    assert lines[15:17] == ["", f"{report.DOUBTS['stale']}: {'; '.join(dict.fromkeys(row[1] for row in rows))}."]
    assert lines[17:] == ["", "44 further printed numbers of this table have no run here.", ""]  # fmt: skip


def test_counts_are_whole_numbers_and_what_is_missing_is_counted_in_words_that_fit(places):
    paper = declarations.load("attsf_net")
    table = paper.table("table1")
    cells_of = [cell for row in table.row for cell in declarations.row_cells(paper, table, row)]
    counts = [record(cell.row, 96.0, column=cell.column, n=1440) for cell in cells_of]
    study.write_records("attsf_net", "table1", "lab", counts[1:])
    *_, table_of_counts, _, last, _ = report._section(paper, table, study.compare("attsf_net", "table1", "lab"))
    happy = cells(table_of_counts.splitlines()[2])
    assert happy[3:9] == ["384", "96", "", "1", "1", "1440"] and happy[10:14] == ["-288", "", "", ""], "without noise"
    assert last == "1 further printed number of this table has no run here."
    study.write_records("attsf_net", "table1", "lab", counts)
    assert "further" not in "".join(report._section(paper, table, study.compare("attsf_net", "table1", "lab")))


def test_a_small_difference_has_no_sign_once_it_is_rounded_to_zero():
    assert "-0.00" not in report._markdown(pd.DataFrame({"difference": [-0.001]}))


def test_a_table_without_runs_has_no_section(places):
    assert report._section(PAPER, TABLE, study.compare("hff", "table3", "lab")) == []


def test_a_summary_counts_verdicts_and_means_differences(board):
    (line,) = report.summary("lab", [board]).to_dict("records")
    differences, peak = [62.0 - 69.7, 67.0 - 67.6, 70.0 - 58.5, 99.0 - 69.2], 64.5 - 62.0
    assert line.pop("mean difference") == pytest.approx(sum(differences) / 4)
    assert line.pop("mean test peak - val") == pytest.approx(peak)
    counted = dict.fromkeys((*verdicts.OF_SCORES, *verdicts.COUNTS), 0) | {"not testable here": 4, "not run": 44}
    assert line == {"paper": "hff", "table": "table3", "printed": 48, "ours to reproduce": 48, **counted}


def test_what_is_quoted_without_a_system_of_ours_is_printed_and_not_to_reproduce(places):
    paper = declarations.load("mfcre")
    table = paper.table("table3")
    printed = {row.id: len(row.reported) for row in table.row}
    (line,) = report.summary("lab", [(paper, table, study.compare("mfcre", "table3", "lab"))]).to_dict("records")
    ours = sum(printed[row.id] for row in table.row if not row.cited or row.base)
    assert line["printed"] == sum(printed.values()) > line["ours to reproduce"] == line["not run"] == ours > 0


@pytest.mark.parametrize(("paper", "table"), [("attsf_net", "table2"), ("hff", "readings")])
def test_settings_and_added_tables_are_in_no_summary(places, paper, table):
    declared = declarations.load(paper)
    assert report.summary("lab", [(declared, declared.table(table), study.compare(paper, table, "lab"))]).empty


def test_the_scoreboard_has_the_rows_that_ran_of_the_score_that_selects(board):
    other = (PAPER, PAPER.table("table4"), board[2].assign(reproduced=1.0))  # a table without floors
    lines = report.scoreboard("lab", [board, other])
    assert list(lines.columns) == ["paper", "table", "heading", "kind", "label", "column", "printed", "reproduced",
                                   "spread", "n_seeds", "n_folds", "test_peak", "inputs", "verdict",
                                   "doubt", "features"]  # fmt: skip
    assert set(lines["heading"]) == {"HFF on IEMOCAP-6: Avg F1 (Table 3)"}
    assert lines["kind"].tolist() == ["other", "other", "proposed", "floor", "floor"]
    assert set(zip(lines["paper"], lines["table"], lines["column"], strict=True)) == {("hff", "table3", "weighted_f1")}
    labels = ["TFN", "COGMEN", "HFF", "Floor: majority class", "Floor: logistic regression on the concatenated vectors"]
    assert lines["label"].tolist() == labels and lines["reproduced"].tolist() == [70.0, 67.0, 62.0, 20.0, 50.0]
    assert lines["doubt"].tolist() == ["stale", "stale", "uncommitted stale", "stale", "stale"]
    empty = report.scoreboard("lab", [other])
    assert empty.empty and list(empty.columns) == list(lines.columns)


@pytest.mark.parametrize(
    ("paper", "table", "headlines"),
    [
        ("attsf_net", "table9", {"acc2", "acc7", "f1"}),
        ("mpaf_net", "table5", {"test_macro_f1"}),
        ("gia_mic", "table1", {"ua"}),
    ],
)
def test_headlines_are_of_test_sets_and_all_those_of_a_sentiment_corpus(places, paper, table, headlines):
    declared = declarations.load(paper)
    of_all = study.compare(paper, table, "lab").assign(reproduced=1.0)
    columns = set(report.scoreboard("lab", [(declared, declared.table(table), of_all)])["column"])
    assert columns == headlines


def test_the_scoreboard_compares_only_tables_that_have_floors(places, monkeypatch):
    compared = []

    def compare(*address):
        compared.append(address)
        return pd.DataFrame(columns=comparison.COLUMNS)

    monkeypatch.setattr(report, "compare", compare)
    report.scoreboard("lab")
    tables = [
        (paper, table) for paper in map(declarations.load, declarations.papers()) for table in paper.tables.values()
    ]
    assert {t.id for _, t in tables if t.when_named} == {"readings", "multiverse", "table_controls"}
    floors = {"majority", "logistic", "ridge"}
    with_floors = [(p.id, t.id, "lab") for p, t in tables
                   if floors & {row.base for row in t.row} and not t.when_named]  # fmt: skip
    assert compared == with_floors and len(compared) > 5
    compared.clear()
    assert [(p.id, t.id) for p, t, _ in report.boards_of("lab")] == [
        (p.id, t.id) for p, t in tables if not t.when_named
    ]
    readings = PAPER.table("readings")
    cell = declarations.row_cells(PAPER, readings, readings.row[0])[0]
    study.write_records("hff", "readings", "lab", [record(cell.row, 50.0, column=cell.column)])
    assert ("hff", "readings") in [(p.id, t.id) for p, t, _ in report.boards_of("lab")]


@pytest.mark.parametrize(("data", "caveat"), [("lab", report.CAVEAT), ("twin", report.TWIN_CAVEAT)])
def test_the_report_is_a_caveat_a_summary_sections_and_figures(board, places, data, caveat):
    figure = places / "results" / data / "figures" / "hff" / "drawn.png"
    figure.parent.mkdir(parents=True)
    figure.touch()
    file = report.write(data, [board])
    assert file == places / "results" / data / "report.md"
    lines, section = file.read_text().split("\n"), "\n".join(report._section(*board)).split("\n")
    start = lines.index(section[0])
    assert lines[:4] == [f"# Printed beside reproduced, on `{data}`", "", caveat, ""]
    board_at = lines.index("## Scoreboard: the headline scores that have run, with their floors")
    headlines = [cells(line) for line in lines[board_at + 2 : start - 1]]
    assert headlines[0][:4] == ["paper", "table", "label", "column"] and len(headlines) == 2 + 5
    assert headlines[4][:6] == ["hff", "table3", "HFF", "weighted_f1", "69.70", "62.00"]
    summary_at = lines.index("## How many numbers have run, and what they say of the printed ones")
    summary = [cells(line) for line in lines[summary_at + 2 : board_at - 1]]
    assert len(summary) == 3 and summary[0][:2] == ["paper", "table"] and summary[2][:3] == ["hff", "table3", "48"]
    assert lines[start - 1] == "" and lines[start : start + len(section)] == section
    paths = ("hff/drawn", "hff/scoreboard", "scoreboard")
    figures = [line for path in paths for line in (f"![{path.split('/')[-1]}](figures/{path}.png)", "")]
    assert lines[start + len(section) :] == figures and (file.parent / "figures" / "scoreboard.png").exists()


def test_it_is_known_which_numbers_have_records_and_where(places):
    record = {"row": "ours", "column": "weighted_f1", "fold": 0, "seed": 0, "selection": "val", "value": 60.0, "n": 9}
    for data in ("lab", "field"):
        study.write_records("mfcre", "table3", data, [record | {"data": data}])
    study.write_records("mfcre", "table4", "lab", [record | {"data": "lab", "column": "meld_accuracy"}])
    assert study.records_path("mfcre", "table3", "lab") == places / "results/lab/records/mfcre/table3.csv"
    assert study.recorded("mfcre") == {
        ("table3", "ours", "weighted_f1"): {"lab", "field"}, ("table4", "ours", "meld_accuracy"): {"lab"},
    }  # fmt: skip
    assert roots_of("mfcre", "table3") == ["field", "lab"] and roots_of("mfcre", "table9") == []


def test_means_of_several_features_and_classes_are_joined(places):
    key = {"data": "lab", "row": "ours", "column": "weighted_f1", "fold": 0, "selection": "val", "n": 100}
    records = [
        key | {"seed": 0, "value": 60.0, "features": "text: x (3)", "never_predicted": "joy fear", "recipe": "a"},
        key | {"seed": 1, "value": 62.23456, "features": "text: y (3)", "never_predicted": "", "recipe": "a"},
        key | {"seed": 2, "value": 62.0, "features": "text: x (3)", "never_predicted": "disgust joy", "recipe": "a"},
    ]  # fmt: skip
    study.write_records("mfcre", "table3", "lab", records)
    line = study.compare("mfcre", "table3", "lab").set_index(["row", "column"]).loc[("ours", "weighted_f1")]
    assert line["features"] == "text: x (3) or text: y (3)" and line["never_predicted"] == "disgust fear joy"
    assert line["doubt"] == "mixed stale" and line["n"] == 100 and line["data"] == "lab"
    assert line["difference"] == round((60.0 + 62.23456 + 62.0) / 3 - 69.78, 4)
    assert pd.isna(line["test_peak"])
