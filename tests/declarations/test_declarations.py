"""Declarations: every printed number is listed, every recipe resolves, every mistake is named."""

import tomllib
from collections import Counter

import pytest

from merlib import declarations, errors
from merlib.declarations.leaves import sourced
from merlib.errors import DeclarationError

PAPER = declarations.load("mfcre")
OURS = PAPER.table("4").find("ours")


def test_every_printed_number_of_the_tables_is_listed():
    counts = Counter((c.table, c.kind) for c in declarations.cells(PAPER) if c.table.startswith("table"))
    assert counts == {
        ("table1", "fact"): 13, ("table2", "cited"): 94, ("table2", "own"): 8, ("table3", "cited"): 95,
        ("table3", "own"): 9, ("table4", "own"): 28, ("table5", "own"): 42, ("table6", "own"): 24,
        ("table7", "own"): 24, ("table8", "own"): 24, ("table9", "own"): 32,
    }  # fmt: skip


def test_digits_stay_as_printed():
    printed = {(c.table, c.row, c.column): c.printed for c in declarations.cells(PAPER)}
    assert printed["table9", "layers_6", "iemocap_accuracy"] == "80.47"
    assert printed["table3", "zhang_et_al", "f1_neutral"] == "78.40"  # not 78.4
    assert printed["settings", "train.lr", "value"] == "0.00001"  # not 1e-05
    assert printed["settings", "train.batch", "meld"] == "100"


def test_a_printed_row_is_the_base_recipe_with_one_change():
    full = PAPER.flat(declarations.recipe(PAPER, OURS, "iemocap6"))
    for row in [row for row in PAPER.table("4").row[1:] if row.reported]:
        changed = PAPER.flat(declarations.recipe(PAPER, row, "iemocap6"))
        differs = [k for k in full if full[k] != changed[k]]
        assert len(differs) == 1, row.id


def test_leaves_differ_by_corpus():
    layers = {c: declarations.recipe(PAPER, OURS, c)["model"]["fusion"]["layers"] for c in PAPER.corpora}
    assert layers == {"iemocap6": 6, "meld": 2}


def test_a_base_replaces_the_model_and_keeps_the_rest():
    recipe = declarations.recipe(PAPER, PAPER.table("2").find("multiemo"), "meld")
    assert recipe["model"]["name"] == "multiemo" and "encoder" not in recipe["model"]
    assert recipe["loss"] == declarations.recipe(PAPER, OURS, "meld")["loss"]


@pytest.mark.parametrize(
    ("row", "corpus", "tau", "alpha", "gamma", "mu_swfc", "mu_hgr", "epochs"),
    [
        ("ours_as_published", "iemocap6", 0.9, 1.1, 2.4, 0.4, 0.4, 100),
        ("ours_as_published", "meld", 1.4, 1.2, 3.0, 0.3, 0.3, 600),
        ("multiemo_as_published", "iemocap6", 0.8, 1.1, 2.4, 0.4, 0.4, 100),
        ("multiemo_as_published", "meld", 1.4, 1.2, 2.0, 0.3, 0.3, 15),
    ],
)
def test_a_row_as_published_has_the_values_of_its_released_scripts(
    row, corpus, tau, alpha, gamma, mu_swfc, mu_hgr, epochs
):
    recipe = declarations.recipe(PAPER, PAPER.table("2").find(row), corpus)
    loss = {"tau": tau, "alpha": alpha, "gamma": gamma, "mu_swfc": mu_swfc, "mu_hgr": mu_hgr}
    assert recipe["loss"] == {"name": "contrastive", "variant": "code"} | loss
    assert recipe["model"]["dropout"] == 0.0 and not recipe["model"]["mask_padding"]
    adam = {"lr": 1e-4, "beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-5}
    plateau = {"schedule": "plateau", "schedule_factor": 0.95, "schedule_every": 10}
    batch = {"batch": {"iemocap6": 64, "meld": 100}[corpus], "epochs": epochs}
    assert recipe["train"].items() >= (adam | plateau | batch).items() and recipe["train"]["patience"] >= epochs
    assert recipe["protocol"]["select"] == "test_peak" and recipe["protocol"]["validation"] == "random_5_percent"


def test_both_headline_rows_are_one_reading_apart_and_the_printed_one_is_one_run_in_all_tables():
    ours, printed = (declarations.recipe(PAPER, PAPER.table("2").find(r), "meld") for r in ("ours", "ours_as_printed"))
    assert printed["train"].items() >= {"lr": 1e-5, "beta2": 0.99, "schedule": "step", "epochs": 200}.items()
    assert ours == declarations.base_recipe(PAPER, "meld") and printed | {"train": ours["train"]} == ours
    for table, row in (("3", "ours_as_printed"), ("readings", "optimiser_as_printed")):
        assert declarations.recipe(PAPER, PAPER.table(table).find(row), "meld") == printed


def test_readings_switch_and_their_table_runs_each_option():
    switched = declarations.recipe(PAPER, OURS, "meld", change={"readings.optimiser": "as_printed"})
    assert (switched["train"]["lr"], switched["train"]["schedule"]) == (1e-5, "step")
    options = {row.id for row in PAPER.table("readings").row}
    assert {"default", "cell_slstm", "cell_lstm", "cell_vil", "padding_unmasked"} <= options


def test_readings_that_need_a_context_are_run_in_it_with_their_default():
    attsf = declarations.load("attsf_net")
    rows = {row.id: row for row in attsf.table("readings").row}
    models = {
        k: declarations.recipe(attsf, rows[f"gate_{k}"], "ravdess")["model"] for k in ("softmax", "sigmoid", "raw")
    }
    assert {k: m["fusion"] for k, m in models.items()} == {k: {"name": "gate", "gate": k} for k in models}
    assert "heads_one_and_four" not in rows, "the default of a reading without a context is the row `default`"


def test_what_a_change_sets_includes_what_its_readings_set():
    attsf = declarations.load("attsf_net")
    leaves = declarations.changed(attsf, {"readings.tokens": "length"}, {"train.lr": 0.1})
    assert leaves["model.sab.tokens"] == "length" and leaves["train.lr"] == 0.1 and "model.fusion.gate" not in leaves


def test_readings_reach_another_system_where_it_shares_their_leaves():
    gia = declarations.load("gia_mic")
    change = {"readings.pooling": "all", "readings.extractor_size": "pytorch", "readings.heads": "twelve"}
    baseline, floor = (
        declarations.recipe(gia, gia.table("2").find(name), "iemocap4", change=change)["model"]
        for name in ("baseline_vs", "pooled_mlp_s")
    )
    assert baseline["pool_padding"] and baseline["extractors"]["ff"] == 2048 and "heads" not in baseline
    assert floor.keys() == {"name", "hidden", "dropout"}


def test_readings_of_what_the_twin_sets_itself_are_known():
    mpaf, change = declarations.load("mpaf_net"), {"readings.widths": "w512", "readings.pair_input": "before"}
    leaves = declarations.overruled(mpaf, "iemocap8", "twin", change)
    assert leaves == {"model.dim": 512, "model.pair.attention.hidden": 512, "model.head_dim": 512}
    assert declarations.overruled(mpaf, "iemocap8", "real", change) == {}
    assert "model.dim" not in declarations.overruled(mpaf, "iemocap8", "twin", change, {"model.dim": 512})
    mfcre = {"readings.optimiser": "as_printed"}
    assert declarations.overruled(PAPER, "meld", "twin", mfcre) == {}, "the twin has its own number of epochs"


def test_no_table_asks_for_what_the_twin_does_not_run():
    for paper in map(declarations.load, declarations.papers()):
        changes = [row.change for name, table in paper.tables.items() if name != "readings" for row in table.row]
        for corpus in paper.corpora:
            assert not any(declarations.overruled(paper, corpus, "twin", change) for change in changes)


def test_the_twin_changes_only_keys_that_the_recipe_has():
    recipe = declarations.recipe(PAPER, PAPER.table("2").find("majority"), "iemocap6", data="twin")
    assert recipe["model"] == {"name": "majority"}
    assert declarations.recipe(PAPER, OURS, "meld", data="twin")["model"]["dim"] < 256


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model.context.cel.name": "lstm"}, "did you mean .*model.context.cell.name"),
        ({"readings.cell": "gru"}, "no option of reading cell; there are: mlstm, slstm, lstm, vil"),
        ({"readings.cells": "lstm"}, "no reading of mfcre"),
        ({"model.context.turns": "3"}, "expected an integer, such as"),
        ({"train.epochs": 2.5}, "expected an integer, such as"),
        ({"train.epochs": [3, 7]}, "is a list; expected an integer"),
        ({"lr": 1e-3}, "'lr' is no leaf: write section.name"),
        ({"model.mask_padding": 1}, "is an integer; expected true or false"),
    ],
)
def test_a_wrong_change_is_refused_with_what_would_be_right(change, says):
    with pytest.raises(DeclarationError, match=says):
        declarations.recipe(PAPER, OURS, "iemocap6", change=change)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("paper.toml", 'default = "mlstm"', 'default = "gru"', "gru"),
        ("paper.toml", 'title = "', 'titel = "', "title"),
        ("paper.toml", "slstm = { model.context.cell.name", "slstm = { model.dim", "must change the same leaves"),
        ("tables/table4.toml", 'model.context.name = "none"', 'model.contxt.name = "none"', "contxt"),
        ("tables/table4.toml", 'id = "wo_simam"', 'id = "ours"', "repeat"),
        ("tables/table4.toml", "meld_accuracy = ", "meld_acc = ", "meld_acc"),
        ("tables/table4.toml", "caption = ", "caption ", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_declaration_is_named(tmp_path, monkeypatch, file, old, new, says):
    source = declarations.folders()["mfcre"]
    for path in source.rglob("*.toml"):
        target = tmp_path / "mfcre" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        if str(path.relative_to(source)) == file:
            assert old in text
            text = text.replace(old, new, 1)
        target.write_text(text)
    monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
    with pytest.raises(DeclarationError, match=says):
        declarations.load("mfcre")


def test_unknown_paper_table_and_row_say_what_there_is():
    for look_up in (
        lambda: declarations.load("mfcr"),
        lambda: PAPER.table("12"),
        lambda: PAPER.table("4").find("wo_everything"),
    ):
        with pytest.raises(DeclarationError, match="there are: "):
            look_up()


def test_every_leaf_of_the_recipe_has_a_source():
    tree = tomllib.loads((declarations.folders()["mfcre"] / "paper.toml").read_text())
    leaves = sourced(tree["recipe"], PAPER.corpora)
    assert leaves and all(len(source) > 5 for _, source in leaves.values()), leaves


def test_names_in_a_message_are_a_sentence_and_no_list():
    assert errors.listed(["a", "b.c", "two words"]) == "a, b.c, 'two words'"
    assert errors.listed({"lr": 0.1, "name": "x y"}) == "lr: 0.1, name: 'x y'"
    assert errors.listed([]) == "none"
