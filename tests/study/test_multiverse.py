"""Joint draws over all readings: balanced, the same each time, run like any other row, and what is said of them."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import tiny_study

from merlib import cli, declarations, study, twins
from merlib.declarations import Row
from merlib.errors import DeclarationError, RequestError
from merlib.places import results_folder
from merlib.study import multiverse, notebook, runs, statistics
from merlib.study.design import balanced

PAPER = declarations.load("mfcre")
TABLE = PAPER.table("multiverse")
SIZES = {
    "of mfcre": [4, 3, 2, 2, 4, 2, 2, 4, 2, 2, 2, 2, 3, 2],
    "few": [3, 2],
    "one reading": [4],
    "one option": [1, 3],
}


@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("draws", [1, 7, 24])
def test_every_option_is_drawn_equally_often_within_one(options, draws):
    design, replaced = balanced(options, draws, seed=3)
    assert design.shape == (draws, len(options)) and replaced == 0
    for reading, count in enumerate(options):
        drawn = np.bincount(design[:, reading], minlength=count)
        assert len(drawn) == count and np.ptp(drawn) <= 1


def test_pairs_of_readings_are_balanced_where_they_can_be():
    design, _ = balanced([2, 2, 2, 2], 8, seed=0)
    for a, b in combinations(design.T, 2):
        assert np.unique(2 * a + b, return_counts=True)[1].tolist() == [2, 2, 2, 2], "an orthogonal array of 8 exists"
    worst = max(np.unique(4 * a + b, return_counts=True)[1].max() for a, b in combinations(
        balanced(SIZES["of mfcre"], 24, seed=0)[0].T, 2))  # fmt: skip
    assert worst <= 8, "two readings of two options have 6 draws a pair; a random sample has up to 11"


def test_the_same_seed_gives_the_same_design():
    first, again, other = (balanced(SIZES["of mfcre"], 24, seed=seed)[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_what_is_refused_is_replaced_and_the_rest_stays_balanced():
    refuses = lambda draw: draw[0] == 0 and draw[1] == 0
    design, replaced = balanced([3, 2, 2], 12, seed=0, refuses=refuses)
    assert replaced == 2 and not any(map(refuses, design))
    assert [np.bincount(column).tolist() for column in design.T] == [[4, 4, 4], [6, 6], [6, 6]]
    with pytest.raises(RequestError, match="no design of 12 draws avoids what the recipe refuses"):
        balanced([3, 2, 2], 12, seed=0, refuses=lambda draw: draw[1] == 0)


def test_a_row_is_the_recipe_with_these_readings():
    options = {name: list(reading.options)[-1] for name, reading in TABLE.readings.items()} | {
        "loss_weights": "as_printed"
    }
    row = TABLE.find("+".join(options.values()))
    assert row.change == {f"readings.{name}": option for name, option in options.items()}
    by_hand = {}
    for name, option in options.items():
        by_hand |= PAPER.flat(PAPER.readings[name].options[option])
    hand = Row(id="hand", label="written by hand", change=by_hand)
    assert declarations.recipe(PAPER, row, "iemocap6") == declarations.recipe(PAPER, hand, "iemocap6")
    default = declarations.recipe(PAPER, TABLE.find(TABLE.default), "meld")
    assert default == declarations.base_recipe(PAPER, "meld") != declarations.recipe(PAPER, row, "meld")


@pytest.mark.parametrize("row", ["ours", TABLE.default + "+lstm", TABLE.default.replace("mlstm", "gru")])
def test_other_ids_are_no_rows(row):
    with pytest.raises(
        DeclarationError, match="is no row of multiverse: expected an option of each of cell, attention"
    ):
        TABLE.find(row)


def test_readings_that_no_run_of_the_base_network_reads_are_not_drawn():
    attsf, hff = (declarations.load(name).table("multiverse").readings for name in ("attsf_net", "hff"))
    assert "key" in attsf and not {"gate", "mask", "augmentation"} & attsf.keys(), "these need a context"
    assert "cell" in hff and "visual" not in hff, "this is settled when features are extracted"


def test_draws_leave_out_what_cannot_run_on_the_root(tiny):
    drawn = multiverse.draw(declarations.load("mpaf_net"), 12, data="twin")
    assert drawn == multiverse.draw(declarations.load("mpaf_net"), 12, data="twin")
    assert len(drawn.rows) == 13 and drawn.rows[0] == declarations.load("mpaf_net").table("multiverse").default
    assert any("widths_w512" in reason for reason in drawn.left_out)
    options = pd.DataFrame([row.split("+") for row in drawn.rows[1:]])
    named = dict(zip(declarations.load("mpaf_net").table("multiverse").readings, options, strict=True))
    assert set(options[named["widths"]]) == {"w256"} and set(options[named["augmentation"]]) == {"none"}
    assert options[named["class_weights"]].value_counts().tolist() == [4, 4, 4]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A draw and the default of MFCRE on one corpus of a tiny twin, with two seeds."""
    folder = tmp_path_factory.mktemp("multiverse")
    tiny_study.declare(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_study.environment(folder).items():
            patch.setenv(name, value)
        patch.setattr(twins, "SCALE", 0.04)
        runs._dataset.cache_clear()
        twins.ensure("twin", ["iemocap6"])
        study.run_table("mfcre", "table2", row="bigru", data="twin")
        yield multiverse.run("mfcre", 1, seeds=(0, 1))


def test_a_draw_is_recorded_like_any_run_and_runs_once(ran, monkeypatch):
    paper = declarations.load("mfcre")
    records = study.read_records("mfcre", "multiverse", "twin")
    assert set(records["row"]) == set(ran.rows) and set(records["seed"]) == {0, 1} and len(ran.rows) == 2
    base = study.runs_of(paper, "table2", row="ours", data="twin")[0][2]
    assert base.id in set(records.loc[records["row"] == paper.table("multiverse").default, "run"]), "the same identity"
    monkeypatch.setattr(runs, "_train", lambda *_: pytest.fail("it has run before"))
    before = study.records_path("mfcre", "multiverse", "twin").read_bytes()
    assert multiverse.run("mfcre", 1, seeds=(0, 1)) == ran
    assert study.records_path("mfcre", "multiverse", "twin").read_bytes() == before


def test_scores_are_read_from_the_records_beside_print_default_and_floor(ran):
    paper = declarations.load("mfcre")
    scores = multiverse.scores(paper, "iemocap6_weighted_f1", "twin")
    assert len(scores) == 4 and set(scores["row"]) == set(ran.rows)
    assert "cell" in scores and scores["cell"].tolist() == [row.split("+")[0] for row in scores["row"]]
    assert "text_context" not in scores, "its options are the same on IEMOCAP"
    lines = multiverse.beside(paper, "iemocap6_weighted_f1", "twin")
    board = study.compare("mfcre", "table2", "twin").set_index(["row", "column"])["reproduced"]
    floor = paper.table("table2").find("bigru").label
    assert list(lines) == ["printed", "default readings", floor]
    assert lines["printed"] == float(paper.table("table2").find("ours").reported["weighted_f1"])
    assert lines[floor] == pytest.approx(board["bigru", "weighted_f1"])
    assert multiverse.scores(paper, "meld_weighted_f1", "twin").empty


def test_the_command_prints_scores_what_stands_beside_them_and_shares(ran, capsys, monkeypatch):
    monkeypatch.setattr(twins, "ensure", lambda *_: None)  # else the other corpus would be made and run, too
    cli.main(["multiverse", "mfcre", "--draws", "1", "--seeds", "0,1", "--json"])
    (column,) = (shown := json.loads(capsys.readouterr().out))
    assert column == "iemocap6_weighted_f1" and len(shown[column]["scores"]) == 4
    assert list(shown[column]["beside"])[:2] == ["printed", "default readings"]
    assert sum(share["share"] for share in shown[column]["shares"].values()) == pytest.approx(100, abs=1)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["multiverse", "mfcre/table4"])
    assert "draws are of a whole paper: `merlib multiverse mfcre`" in capsys.readouterr().err


def test_a_notebook_shows_the_curve_or_says_what_to_run(ran, capsys):
    paper = notebook.load("mfcre")
    shares = notebook.multiverse(paper, "twin")
    assert list(shares.columns.get_level_values(0).unique()) == ["iemocap6_weighted_f1"] and "cell" in shares.index
    assert (results_folder("twin") / "figures" / "mfcre" / "multiverse_iemocap6_weighted_f1.png").exists()
    capsys.readouterr()
    assert notebook.multiverse(paper, "lab").empty
    command = "merlib multiverse mfcre --draws 24 --seeds 0,1 --data lab"
    assert capsys.readouterr().out == f"no draw has run on 'lab': run `{command}`, then this cell again\n"


def test_shares_of_a_balanced_design_are_those_of_the_analysis_of_variance():
    a, b = np.repeat([0, 1], 6), np.tile(np.repeat([0, 1, 2], 2), 2)
    values = np.array([4.0, 6, 6, 8, 4, 8, 8, 10, 13, 15, 9, 13])  # cell means 5 7 6, 9 14 11
    # squares of a: 12 (10 / 3 ...)^2 by hand from the means of rows, columns and cells
    grand, rows, columns = values.mean(), values.reshape(2, 6).mean(1), values.reshape(2, 3, 2).mean((0, 2))
    squares = [6 * ((rows - grand) ** 2).sum(), 4 * ((columns - grand) ** 2).sum()]
    total = ((values - grand) ** 2).sum()
    shares = statistics.shares([a, b], values)
    assert shares == pytest.approx([squares[0] / total, squares[1] / total, 1 - sum(squares) / total])
    assert shares.sum() == pytest.approx(1)


def test_shares_of_correlated_factors_are_the_mean_over_the_orders_of_entry():
    a, b, values = [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1], [0.0, 0, 1, 0, 1, 1]  # the values are b
    first = np.corrcoef(a, values)[0, 1] ** 2  # of a, where it enters first; nothing is left for it after b
    assert statistics.shares([a, b], values, orders=2000) == pytest.approx([first / 2, 1 - first / 2, 0], abs=0.01)
    assert np.isnan(statistics.shares([a], np.ones(6))).all()


def test_the_rest_is_what_readings_do_together():
    options = [("x", "p"), ("x", "q"), ("y", "p"), ("y", "q")]
    lines = [{"row": f"{a}+{b}", "seed": seed, "score": float(a == "x") + 3.0 * ((a == "x") == (b == "p")), "one": a,
              "two": b} for a, b in options for seed in (0, 1)]  # fmt: skip
    shares = multiverse.shares(pd.DataFrame(lines))
    assert shares["share"].tolist() == [10.0, 0.0, 90.0] and shares["by chance"].tolist() == [33.3, 33.3, 33.3]
    assert shares.index.tolist() == ["one", "two", "rest"]
