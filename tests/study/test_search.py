"""What validation selects of a system's settings: in each seed and fold by itself, and never by the test set."""

import pytest

from merlib import cli, declarations, study

ROWS = ("ours", "ours_lr_low", "ours_lr_high")


def record(row, seed, validation, test, *, metric="iemocap_weighted_f1", selection="val"):
    key = {"data": "lab", "row": row, "fold": 0, "seed": seed, "selection": selection, "n": 100, "epoch": 1}
    return [key | {"column": metric, "value": test}, key | {"column": f"{metric}_val", "value": validation}]


def write(*lines):
    study.write_records("mfcre", "table_controls", "lab", [each for line in lines for each in line])


@pytest.fixture
def recorded(places):
    """Two seeds of which validation prefers another row each, and a third that lacks a row."""
    write(
        record("ours", 0, 60.0, 50.0), record("ours_lr_low", 0, 64.0, 52.0), record("ours_lr_high", 0, 62.0, 70.0),
        record("ours", 1, 66.0, 54.0), record("ours_lr_low", 1, 61.0, 80.0), record("ours_lr_high", 1, 65.0, 60.0),
        record("ours", 2, 60.0, 10.0), record("ours_lr_low", 2, 99.0, 10.0),
        record("ours_lr_high", 0, 99.0, 99.0, selection="test_peak"),
    )  # fmt: skip


def test_validation_selects_and_the_test_set_does_not(recorded):
    (line,) = study.searched("mfcre", "table_controls", "lab").to_dict("records")
    assert line == {"search": "ours", "column": "iemocap_weighted_f1", "score": 53.0, "declared": 52.0, "runs": 2,
                    "selected": "ours_lr_low 1, ours 1"}  # fmt: skip


def test_equal_validation_scores_leave_the_declared_rate(places):
    write(record("ours_lr_low", 0, 60.0, 90.0), record("ours_lr_high", 0, 60.0, 90.0), record("ours", 0, 60.0, 50.0))
    (line,) = study.searched("mfcre", "table_controls", "lab").to_dict("records")
    assert line["score"] == 50.0 and line["selected"] == "ours 1"


def test_a_search_without_all_rows_or_another_table_has_none(places):
    write(record("ours", 0, 60.0, 50.0), record("ours_lr_low", 0, 60.0, 50.0))
    assert study.searched("mfcre", "table_controls", "lab").empty and study.searched("mfcre", "table4", "lab").empty


def test_compare_shows_it_below_the_table(recorded, capsys):
    cli.main(["compare", "mfcre", "table_controls", "--data", "lab"])
    shown = capsys.readouterr().out
    assert "what validation selects, in each seed and fold" in shown and "ours_lr_low 1, ours 1" in shown
    cli.main(["compare", "mfcre", "table4", "--data", "lab"])
    assert "validation selects" not in capsys.readouterr().out


@pytest.mark.parametrize("paper", declarations.papers())
def test_every_search_tries_three_rates_and_nothing_else(paper):
    declared = declarations.load(paper)
    table = declared.table("table_controls")
    searches = {}
    for row in (row for row in table.row if row.search):
        searches.setdefault(row.search, []).append(row)
    steps = set()
    for name, rows in searches.items():
        assert [row.id for row in rows] == [name, f"{name}_lr_low", f"{name}_lr_high"]
        for corpus in {cell.corpus for cell in declarations.row_cells(declared, table, rows[0])}:
            recipes = [declarations.recipe(declared, row, corpus) for row in rows]
            own, low, high = (recipe["train"].pop("lr") for recipe in recipes)
            assert recipes[0] == recipes[1] == recipes[2]
            steps.add((round(low / own, 3), round(high / own, 3)))
    assert len(searches) >= 2 and len(steps) == 1, "a system with more steps, or wider ones, is searched better"
    assert any(not row.base for row in table.row) and any(row.label.startswith("Floor") for row in table.row)
