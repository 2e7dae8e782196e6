"""What a finished run leaves, and what records say of it: each number again from the network, the data or the clock."""

import json
import platform
import threading
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from merlib import declarations, registry, study
from merlib.data import folders, official
from merlib.errors import RequestError
from merlib.places import commit
from merlib.study import identity, planning, runs, tables
from merlib.training import fitting

PAPER = declarations.load("mfcre")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a tiny twin of MELD."""
    from merlib import twins

    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERLIB_DATA", str(folder))
        patch.setattr(twins, "SCALE", 0.04)
        twins.ensure("twin", ["meld"])
    return folder


@pytest.fixture
def meld(data, places, monkeypatch) -> None:
    monkeypatch.setenv("MERLIB_DATA", str(data))


@pytest.fixture
def trained(meld):
    """A run of a recurrent network, its cells, and its run.json."""
    planned = planning.plan(PAPER, "table3", row="bigru", seed=1)[0][0]
    return planned.run, planned.cells, runs.execute(planned.run, progress=False)


def test_run_json_says_what_was_run_on_what_and_by_whom(trained):
    run, _, result = trained
    about = {
        "id": run.id, "corpus": "meld", "data": "twin", "seed": 1, "fold": 0, "labels": list(official.LABELS["meld"]),
        "torch": torch.__version__, "commit": commit(), "device": runs.processor(),
        "n": int((run.split == "test").sum()), "recipe": json.loads(json.dumps(run.recipe)),
        "features": {m: run.dataset.features[m].passport.summary() for m in ("text", "audio", "visual")},
    }  # fmt: skip
    assert {name: result[name] for name in about} == about
    network = registry.build("model", run.recipe["model"], **fitting.given(run.splits(), run.judge))
    assert result["parameters"] == sum(p.numel() for p in network.parameters())
    assert isinstance(result["peak_memory_mb"], int) and 0 < result["seconds"] == round(result["seconds"], 1)
    assert len(result["history"]) == run.recipe["train"]["epochs"]
    assert json.loads((run.folder / "run.json").read_text()) == result
    assert sorted(path.name for path in run.folder.iterdir() if not path.name.startswith(".")) == [
        "predictions.npz", "predictions.npz.sha256", "run.json", "run.json.sha256"]  # fmt: skip


def test_the_device_names_the_processor_and_the_caps_on_its_instructions(monkeypatch):
    for cap in runs.CAPS:
        monkeypatch.delenv(cap, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "Intel Xeon", "amx_bf16": True})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert runs.processor() == "CPU, 1 threads, Intel Xeon, AVX512 AMX"
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    assert runs.processor() == "CPU, 1 threads, Intel Xeon, AVX512 AMX, MKL_CBWR=AVX2"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert runs.processor().startswith(f"CPU, 1 threads, {platform.machine()}, AVX512")


def test_float32_in_place_of_bf16_is_said(meld, monkeypatch, capsys):
    change = {"train.precision": "bf16", "train.epochs": 1}
    floor, run = (planning.plan(PAPER, "table3", row=row, change=change)[0][0].run for row in ("logistic", "bigru"))
    monkeypatch.setattr(runs, "has_bf16", lambda device: False)
    assert runs.execute(floor, progress=False)["device"] == runs.processor(), "an estimator has no precision"
    assert not capsys.readouterr().err
    assert runs.execute(run, progress=False)["device"] == f"{runs.processor()}, float32 for bf16"
    assert "run: this processor does not compute in bf16, so the forward pass is in float32" in capsys.readouterr().err


def test_the_predictions_have_the_scores_that_run_json_states(trained):
    run, _, result = trained
    test = run.splits()["test"]
    with np.load(run.folder / "predictions.npz") as saved:
        arrays = dict(saved)
    assert arrays["ids"].tolist() == list(test.ids) and arrays["y_true"].dtype == np.int16
    assert arrays["y_true"].tolist() == test.label.tolist() and "y_label" not in arrays
    np.testing.assert_array_equal(arrays["probability"].argmax(1), arrays["val_pred"])
    np.testing.assert_allclose(arrays["probability"].sum(1), 1, atol=5e-3)
    for selection, chosen in result["selected"].items():
        predicted = {"class": arrays[f"{selection}_pred"]}
        assert chosen["scores"] == run.judge.scores(test.target, predicted)
        epoch = result["history"][chosen["epoch"]]
        assert chosen["val_scores"] == {n.removeprefix("val/"): v for n, v in epoch.items() if n.startswith("val/")}
        seen = set(arrays[f"{selection}_pred"].tolist())
        occurring = sorted(set(arrays["y_true"].tolist()) - seen)
        assert chosen["never_predicted"] == [official.LABELS["meld"][c] for c in occurring]
    assert set(result["selected"]) == {"val", "test_peak"}


def test_a_record_holds_what_run_json_says(trained):
    run, cells, result = trained
    share = cells[0].model_copy(update={"metric": "accuracy", "column": "share", "emotion": None})
    count = cells[0].model_copy(update={"metric": "count", "column": "count", "emotion": "joy"})
    on_val = share.model_copy(update={"column": "on_val", "fold": "val"})
    records = tables.records_of_run([*cells, share, count, on_val], run, result)
    assert len(records) == 2 * (len(cells) + 3)
    substitutes = " ".join(declarations.substitutes(PAPER, "meld", run.recipe)) or "none"
    by_key = {(record["column"], record["selection"]): record for record in records}
    for cell, selection in product(cells, ("val", "test_peak")):
        chosen = result["selected"][selection]
        name = f"{cell.metric}/{cell.emotion}" if cell.emotion else cell.metric
        assert by_key[cell.column, selection] == {
            "data": "twin", "row": "bigru", "column": cell.column, "fold": 0, "seed": 1, "selection": selection,
            "value": round(100 * chosen["scores"][name], 4), "epoch": chosen["epoch"] + 1,
            "n": result["n"], "run": run.id, "recipe": run.recipe_id, "substitutes": substitutes,
            "declared": identity.of_declared(run.recipe), "versions": "network 1 loss 1 inputs 1 loop 1",
            "features": " | ".join(result["features"].values()),
            "seconds": result["seconds"], "peak_memory_mb": result["peak_memory_mb"], "device": result["device"],
            "torch": torch.__version__, "commit": commit(), "never_predicted": " ".join(chosen["never_predicted"]),
        }  # fmt: skip
    scores = result["selected"]["val"]
    assert by_key["share", "val"]["value"] == round(100 * scores["scores"]["accuracy"], 4)
    assert by_key["count", "val"]["value"] == scores["scores"]["count/joy"] >= 1
    assert by_key["on_val", "val"]["value"] == round(100 * scores["val_scores"]["accuracy"], 4)


def test_what_a_run_does_not_read_is_absent(meld):
    change = {"data.modalities": "T"}
    ((_, _, run),) = study.runs_of(PAPER, "table3", row="majority", change=change)
    features = runs.execute(run, progress=False)["features"]
    assert list(features) == ["text", "audio", "visual"] and features["text"].startswith("text: ")
    assert features["audio"] == features["visual"] == "absent"


def test_a_batch_waits_for_the_run_that_another_one_trains(meld, capsys):
    ((_, _, run),) = study.runs_of(PAPER, "table3", row="majority", seed=7)
    run.folder.mkdir(parents=True)
    results = []
    thread = threading.Thread(target=lambda: results.append(runs.execute(run, progress=False, label="majority meld")))
    with FileLock(run.folder / ".lock"):
        assert runs.execute(run, progress=False, wait=False) is None
        thread.start()
        time.sleep(0.2)
        assert not results
    thread.join()
    assert results[0]["id"] == run.id
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"majority meld: another batch trains this run ({run.id}); waiting for it"


def test_each_count_is_of_its_class_and_split_and_needs_no_array(tiny):
    (tiny / "data/twin/mosei/features/text.safetensors").write_bytes(b"damaged")
    records = study.run_table("hff", "table1", row="mosei", progress=False)
    corpus = folders.dataset("twin", "mosei", features=()).corpus
    counts = {s: int((corpus.table["split"] == s).sum()) for s in ("train", "val", "test")}
    assert dict(zip(records["column"], records["value"], strict=True)) == counts | {"total": len(corpus.table)}
    about = {"data": "twin", "fold": 0, "seed": 0, "selection": "val", "n": len(corpus.table),
             "features": corpus.source, "commit": commit()}  # fmt: skip
    assert all({name: record[name] for name in about} == about for record in records.to_dict("records"))
    board = study.compare("hff", "table1").set_index("row").loc["mosei"]
    doubt = "uncommitted" if commit().endswith("+") else ""
    assert set(board["doubt"]) == {doubt}, "counts have no folds that could be missing"


def test_a_table_says_what_it_skips_and_where_it_is(twin, capsys, monkeypatch):
    calls = []

    def execute(run, **options):
        calls.append(options)
        return runs.execute(run, progress=False)

    monkeypatch.setattr(tables, "execute", execute)
    (twin / "data/twin/meld/features/visual.safetensors").rename(twin / "visual.safetensors")
    change = {"data.modalities": "TV"}
    assert study.run_table("mfcre", "table3", row="majority", change=change).empty
    assert capsys.readouterr().out == "skipped: mfcre/table3/majority on meld (TV): no visual in the root 'twin'\n"
    study.run_table("mfcre", "table3", row="majority", device="cpu", seeds=(3,))
    err = capsys.readouterr().err
    assert "mfcre/table3 on twin" in err and "majority meld seed 3 fold 0" in err
    assert calls == [{"device": "cpu", "progress": True, "label": "majority meld"}]
    study.run_table("mfcre", "table3", row="majority", progress=False)
    assert capsys.readouterr().err == ""


def test_an_error_under_a_change_is_blamed_on_its_values(tiny, monkeypatch):
    def failing(*_, **__):
        raise KeyError("shape")

    monkeypatch.setattr(tables, "execute", failing)
    change = {"train.lr": 0.5, "train.epochs": 1}
    with pytest.raises(
        RequestError, match="^no run can be made with train.lr = 0.5, train.epochs = 1: KeyError: 'shape'$"
    ):
        study.run_table("mfcre", "table3", row="majority", change=change, progress=False)
    with pytest.raises(KeyError):
        study.run_table("mfcre", "table3", row="majority", progress=False)
    with pytest.raises(tables.RunsFailed, match="^2 runs failed: "):
        monkeypatch.setattr(tables, "execute", lambda run, **_: {}[run.seed])
        study.run_table("mfcre", "table3", row="majority", seeds=(0, 1), progress=False)
