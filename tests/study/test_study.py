"""A study on a tiny twin: equal runs are trained once, records are complete, and the report joins them."""

import json
import math
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from merlib import cli, declarations, registry, study
from merlib.data import folders, inputs
from merlib.errors import DeclarationError
from merlib.places import results_folder
from merlib.study import report, runs
from merlib.study.records import KEYS
from merlib.training import fitting, loop

PAPER = declarations.load("mfcre")
FAST = {
    "model.dim": 16, "model.encoder.layers": 1, "model.fusion.layers": 1, "model.head.hidden": 16, "train.epochs": 1,
}  # fmt: skip


def planned(table: str, row: str, **options) -> dict[str, runs.Run]:
    return {corpus: run for _, corpus, run in study.runs_of(PAPER, table, row=row, **options)}


DAMAGE = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "merged by hand": lambda text: text.replace("\ntwin,", "\n<<<<<<< HEAD\ntwin,", 1),
    "every line twice": lambda text: text + text.split("\n", 1)[1],
    "of another root": lambda text: text.replace("\ntwin,", "\nreal,"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_records_that_no_run_has_written_are_refused(tiny, damage, capsys):
    study.run_table("mfcre", "table1", progress=False)
    path = study.records_path("mfcre", "table1", "twin")
    assert len(study.read_records("mfcre", "table1", "twin"))
    path.write_text(damage(path.read_text()))
    before = path.read_text()
    for command in (["compare", "mfcre", "table1"], ["run", "mfcre", "table1"]):
        with pytest.raises(SystemExit) as end:
            cli.main(command)
        assert end.value.code == 1 and f"{path}: " in capsys.readouterr().err
    assert path.read_text() == before, "nothing is lost"


def test_two_tables_that_ask_for_the_same_run_share_it(tiny):
    assert planned("table4", "ours")["meld"].id == planned("table3", "ours")["meld"].id
    assert planned("table5", "alpha_0_8")["meld"].id == planned("table3", "ours")["meld"].id


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"change": {"train.lr": 0.5}},
        {"change": {"readings.padding": "unmasked"}},
        {"change": {"protocol.validation": "random_5_percent"}},
    ],
)
def test_whatever_determines_the_numbers_is_in_the_identity(tiny, other):
    assert planned("table4", "ours", **other)["meld"].id != planned("table4", "ours")["meld"].id


def test_what_does_not_determine_them_is_not(tiny):
    run = planned("table4", "ours", change={"protocol.select": "test_peak"})["meld"]
    assert run.id == planned("table4", "ours")["meld"].id


def test_other_feature_values_are_another_run(tiny):
    before = planned("table4", "ours")["meld"].id
    folder = folders.root_path("twin") / "meld"
    feature = folders.dataset("twin", "meld").features["text"]
    from merlib.data import store

    values = np.array(feature.values)
    values[0, 0] += 1
    store.write(folder, values, replace(feature.passport, sha256=store.digest(values)))
    runs._dataset.cache_clear()
    assert planned("table4", "ours")["meld"].id != before


def test_the_peak_of_memory_is_that_of_a_run_and_not_of_what_ran_before():
    large = np.ones(200 << 17)  # 200 MiB
    before = runs._peak_memory_mb("cpu")
    del large
    runs._forget_peak("cpu")
    assert 0 < runs._peak_memory_mb("cpu") <= before - 190 and isinstance(before, int)


def test_seeds_share_a_recipe_and_other_rows_have_others(tiny):
    ours = planned("table4", "ours")["meld"]
    assert replace(ours, seed=1).recipe_id == ours.recipe_id and replace(ours, seed=1).id != ours.id
    assert planned("table4", "wo_simam")["meld"].recipe_id != ours.recipe_id


def test_a_new_version_of_the_network_loss_or_loop_makes_another_run(tiny, monkeypatch):
    ours = planned("table4", "ours")["meld"]
    ids = {ours.recipe_id}  # a run computes its id once: hence a new one each time
    for kind, name in (("model", "mfcre"), ("loss", "contrastive")):
        with monkeypatch.context() as patch:
            patch.setattr(registry.module_of(kind, name), "VERSION", 99)
            ids.add(replace(ours).recipe_id)
    for module in (loop, inputs):
        with monkeypatch.context() as patch:
            patch.setattr(module, "VERSION", 99)
            ids.add(replace(ours).recipe_id)
    assert len(ids) == 5 and replace(ours).recipe_id in ids


@pytest.mark.parametrize("kind", ["model", "loss"])
def test_every_network_and_loss_has_a_version(kind):
    versions = {name: registry.version(kind, name) for name in registry.offers(kind)}
    assert versions and all(isinstance(version, int) and version >= 1 for version in versions.values()), versions


def test_records_hold_every_column_both_selections_and_what_was_run(tiny):
    records = study.run_table("mfcre", "table3", row="bigru", seeds=(0, 1), progress=False)
    saved = study.read_records("mfcre", "table3", "twin")
    assert len(records) == len(saved) == 9 * 2 * 2 and not saved.duplicated(KEYS).any()
    result = json.loads(next((tiny / "results/cache/runs").glob("*/run.json")).read_text())
    mine = saved[(saved["run"] == result["id"]) & (saved["selection"] == "val")].set_index("column")["value"]
    assert mine["f1_joy"] == pytest.approx(100 * result["selected"]["val"]["scores"]["f1/joy"], abs=1e-4)
    peaks = saved[saved["column"] == "weighted_f1"].pivot(index="seed", columns="selection", values="value")
    assert (peaks["test_peak"] >= peaks["val"]).all()
    history = [row["test/weighted_f1"] for row in result["history"]]
    peak = result["selected"]["test_peak"]
    assert peak["epoch"] == int(np.argmax(history)) and peak["scores"]["weighted_f1"] == max(history)


def test_several_rows_of_a_table_can_be_asked_for_and_none_means_all(tiny):
    def named(**options):
        return [row.id for row, corpus, _ in study.runs_of(PAPER, "table4", **options) if corpus == "meld"]

    assert named(row=["wo_swfc", "ours"]) == ["wo_swfc", "ours"]
    assert named() == named(row=[]) == [row.id for row in PAPER.table("table4").row if row.runs and row.kind == "own"]
    with pytest.raises(DeclarationError, match="oops"):
        study.runs_of(PAPER, "table4", row=["ours", "oops"])


def test_a_run_leaves_the_embeddings_of_its_network(tiny):
    _, _, run = study.runs_of(declarations.load("mfcre"), "table3", row="bigru", data="twin")[0]
    study.execute(run, progress=False)
    with np.load(run.folder / "predictions.npz") as kept:
        shapes = {name: kept[name].shape for name in kept if name.endswith("embedding")}
        assert shapes and all(shape[0] == len(kept["ids"]) for shape in shapes.values())


@pytest.mark.parametrize(("row", "whole"), [("cogmen", True), ("bigru", False)])
def test_a_network_that_looks_at_its_whole_batch_is_trained_on_whole_batches(tiny, monkeypatch, row, whole):
    asked = {}

    def stop(*_, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting.loop, "fit", stop)
    _, _, run = study.runs_of(declarations.load("hff"), "table3", row=row, data="twin")[0]
    with pytest.raises(KeyboardInterrupt):
        study.execute(run, progress=False)
    assert asked["whole_batches"] is whole and asked["checkpoint"].parent == run.folder


def test_a_finished_run_is_not_trained_again(tiny):
    first = study.run_table("mfcre", "table3", row="logistic", progress=False)
    file = next((tiny / "results/cache/runs").glob("*/run.json"))
    before = file.stat().st_mtime_ns
    again = study.run_table("mfcre", "table3", row="logistic", progress=False)
    assert file.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(first, again)


def test_a_twin_trains_with_one_thread_however_many_there_are(tiny):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        result = study.execute(planned("table3", "majority")["meld"], progress=False)
    finally:
        torch.set_num_threads(before)
    assert result["device"].startswith("CPU, 1 threads")


def test_a_changed_recipe_is_shown_and_not_recorded(tiny):
    records = study.run_table("mfcre", "table3", row="ours", change=FAST, progress=False)
    assert len(records) and not study.records_path("mfcre", "table3", "twin").exists()


def test_facts_are_counted_in_the_corpus(tiny):
    study.run_table("mfcre", "table1", progress=False)
    board = study.compare("mfcre", "table1").set_index(["row", "column"])
    corpus = folders.dataset("twin", "meld").corpus
    assert board.loc[("meld", "joy"), "reproduced"] == (corpus.table["label"] == corpus.labels.index("joy")).sum()


def records_of(row: str, values: dict[str, list[float]], **more) -> list[dict]:
    return [
        {"data": "twin", "row": row, "column": "weighted_f1", "fold": 0, "seed": seed, "selection": selection,
        "value": value}
        | {"n": 2610, "features": "text: x (3)", "never_predicted": ""} | more
        for selection, scores in values.items() for seed, value in enumerate(scores)
    ]  # fmt: skip


def test_compare_joins_printed_and_reproduced_with_the_spread(tiny):
    study.write_records("mfcre", "table3", "twin", records_of("ours", {"val": [60.0, 62.0], "test_peak": [63.0, 65.0]}))
    study.write_records(
        "mfcre", "table3", "twin", records_of("ours_as_published", {"val": [60.0], "test_peak": [66.0]})
    )
    study.write_records(
        "mfcre", "table3", "twin", records_of("bigru", {"val": [58.0], "test_peak": [58.5]}, never_predicted="fear")
    )
    board = study.compare("mfcre", "3").set_index(["row", "column"])
    ours = board.loc[("ours", "weighted_f1")]
    assert (ours["printed"], ours["reproduced"], ours["test_peak"], ours["n_seeds"]) == (69.78, 61.0, 64.0, 2)
    assert ours["spread"] == pytest.approx(math.sqrt(2)) and ours["difference"] == pytest.approx(-8.78)
    assert (
        ours["noise"] == pytest.approx(195.9964 * math.sqrt(0.61 * 0.39 / 2610))
        and ours["verdict"] == "not testable here"
    )
    assert ours["inputs"] == "lacks AV, other encoder, selected otherwise"
    published = board.loc[("ours_as_published", "weighted_f1")]
    assert (published["printed"], published["reproduced"]) == (69.78, 66.0)  # the test peak is what the row declares
    assert board.loc[("bigru", "weighted_f1"), "never_predicted"] == "fear"
    assert (
        pd.isna(board.loc[("bigru", "weighted_f1"), "printed"]) and board.loc[("bigru", "weighted_f1"), "verdict"] == ""
    )
    assert all(board[name].dtype == "Int64" for name in ("n_seeds", "n_folds", "n")) and ours["doubt"] == "stale"
    cited = board.loc[("sdt", "accuracy")]
    assert cited["printed"] == 67.55 and pd.isna(cited["reproduced"])


def test_a_mean_over_more_than_one_state_of_the_code_is_said_to_be_one(tiny):
    old, new = ({"recipe": "a", "commit": "1"}, {"recipe": "b", "commit": "2+"})
    records = records_of("ours", {"val": [60.0, 62.0]}, **old) + records_of("multiemo", {"val": [60.0]}, **old)
    records[1] |= new
    study.write_records("mfcre", "table3", "twin", records)
    board = study.compare("mfcre", "3").set_index(["row", "column"])["doubt"]
    assert board["ours", "weighted_f1"] == "mixed uncommitted stale" and board["multiemo", "weighted_f1"] == "stale"
    file = report.write("twin")
    assert file == results_folder("twin") / "report.md"
    text = file.read_text()
    label = declarations.load("mfcre").table("3").find("ours").label
    assert all(f"{report.DOUBTS[doubt]}: {label}.\n" in text for doubt in ("mixed", "uncommitted"))
    # of before recipes were recorded
    study.write_records("mfcre", "table3", "twin", records_of("ours", {"val": [60.0]}, commit="3"))
    study.write_records("mfcre", "table2", "twin", records_of("ours", {"val": [60.0, 61.0]}, commit="3"))
    doubts = study.compare("mfcre", "3").set_index(["row", "column"])["doubt"]
    assert doubts["ours", "weighted_f1"] == "mixed uncommitted stale"
    assert study.compare("mfcre", "2").set_index(["row", "column"])["doubt"]["ours", "weighted_f1"] == "stale"
    study.write_records("mfcre", "table2", "twin", [records_of("ours", {"val": [0.0, 61.0]}, commit="4")[1]])
    assert study.compare("mfcre", "2").set_index(["row", "column"])["doubt"]["ours", "weighted_f1"] == "mixed stale"


def test_new_records_replace_old_ones_of_the_same_address_only(tiny):
    study.write_records("mfcre", "table3", "twin", records_of("ours", {"val": [60.0, 62.0]}))
    study.write_records("mfcre", "table3", "twin", records_of("ours", {"val": [59.0]}))
    assert study.read_records("mfcre", "table3", "twin")["value"].tolist() == [59.0, 62.0]


def test_two_batches_that_write_at_once_lose_nothing(tiny):
    def write(seed):
        study.write_records(
            "mfcre", "table3", "twin", [records_of("ours", {"val": [1.0]})[0] | {"seed": seed, "value": seed}]
        )

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert study.read_records("mfcre", "table3", "twin")["value"].tolist() == list(range(12))


def test_the_report_and_the_scoreboard_say_what_was_recorded(tiny):
    study.write_records("mfcre", "table3", "twin", records_of("ours", {"val": [61.0], "test_peak": [64.0]}))
    file = report.write("twin")
    assert file == results_folder("twin") / "report.md"
    text = file.read_text()
    assert "Synthetic twin" in text and "69.78" in text and "61.00" in text and "text: x (3)" in text
    summary = report.summary("twin").set_index(["paper", "table"]).loc["mfcre"]
    assert summary.loc["table3", "not testable here"] == 1 and summary.loc["table4", "not run"] == 28


@pytest.mark.parametrize(
    "module",
    ["declarations", "study.records", "study.comparison", "study.report", "study.claims", "study.paired", "figures"],
)
def test_reading_records_and_declarations_imports_no_heavy_library(module):
    heavy = "torch sklearn scipy librosa matplotlib".split()
    check = f"import sys, merlib.{module}; print(*[name for name in {heavy} if name in sys.modules])"
    imported = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout
    assert imported.split() == []


def test_a_report_compares_every_table_once(tiny, monkeypatch):
    compared = []
    monkeypatch.setattr(report, "compare", lambda *address: compared.append(address) or study.compare(*address))
    report.write("twin")
    assert len(compared) == len(set(compared)) > len(declarations.papers())
