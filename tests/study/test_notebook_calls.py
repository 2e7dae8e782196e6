"""What the notebooks of several papers show: the named calls of merlib.study.notebook, on a tiny twin."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny_study

from merlib import declarations, study, twins
from merlib.data import folders
from merlib.places import results_folder
from merlib.study import notebook
from merlib.training import metrics


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """HFF's declarations and the twin of one of its two corpora, below a folder of their own."""
    folder = tmp_path_factory.mktemp("calls")
    tiny_study.declare(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_study.environment(folder).items():
            patch.setenv(name, value)
        twins.ensure("twin", ["iemocap6"])
        yield notebook.load("hff")


@pytest.fixture(scope="module")
def trained(paper):
    return notebook.train(paper, "table3", rows=["logistic", "bigru"], data="twin", seeds=[0])


def test_a_loaded_paper_shows_its_modules(paper):
    from merlib.papers import hff

    assert hff.network.Hff and hff.loss.HffLoss and paper.id == "hff"


def test_an_absent_corpus_is_stated(paper, capsys):
    held = notebook.datasets(paper, "twin")
    assert list(held) == ["iemocap6"] and set(held["iemocap6"].features) == {"text", "audio", "visual"}
    assert capsys.readouterr().out.splitlines() == [
        f"iemocap6 | {held['iemocap6'].corpus.source}",
        "mosei | ABSENT from the data root 'twin': see merlib doctor",
    ]
    assert notebook.present(paper, "table2", "twin") == [] and notebook.present(paper, "table3", "twin") == ["iemocap6"]
    second, third = paper.table("table2"), paper.table("table3")
    assert capsys.readouterr().out.splitlines() == [
        " | ".join(filter(None, (second.caption, second.where, second.note))),
        "mosei is ABSENT from the data root 'twin': printed numbers only",
        f"{third.caption} | {third.where} | {third.note}",
        "iemocap6 is here",
    ]
    records, trained = notebook.train(paper, "table2", data="twin", seeds=[0])
    assert records.empty and not trained and notebook.runs(trained).empty
    assert list(records) == ["data", "row", "column", "fold", "seed", "selection", "value"]


def test_shares_of_counts_are_of_their_labels_sum(paper):
    counts = notebook.counts(paper, "table1", "twin").set_index(["label", "column"])
    corpus = folders.dataset("twin", "iemocap6", features=()).corpus
    ours = counts[counts["reproduced"].notna()]["reproduced %"]
    assert ours[ours.index.get_level_values("column") == "total"].tolist() == [100.0]
    assert ours[ours.index.get_level_values("column") != "total"].sum() == pytest.approx(100, abs=0.2)
    assert counts["reproduced"].max() == len(corpus.table)


def test_partitions_count_what_the_test_part_shares(paper):
    dataset = folders.dataset("twin", "iemocap6", features=())
    table = dataset.corpus.table
    (line,) = notebook.partitions(dataset, {"split": "corpus"}).to_dict("records")
    assert line["heard before"] == line["known dialogues"] == 0 and line["test speakers"] == "05F, 05M"
    assert line["train"] + line["val"] + line["test"] == len(table)
    (random,) = notebook.partitions(dataset, {"split": "random_811"}).to_dict("records")
    assert random["heard before"] == table["speaker"].nunique() and random["test speakers"] == "10 speakers"
    assert 0 < random["known dialogues"] <= table["dialogue"].nunique()


def test_splits_are_those_of_the_fold(tmp_path, monkeypatch):
    for name, value in tiny_study.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    tiny_study.declare(tmp_path)
    twins.ensure("twin", ["ravdess"])
    declared = notebook.load("attsf_net")
    held = {"ravdess": folders.dataset("twin", "ravdess")}
    first, second = (notebook.splits(declared, held, "twin", fold=fold)["ravdess"]["test"].ids for fold in (0, 1))
    assert first and second and not set(first) & set(second)
    lengths = {m: held["ravdess"].features[m].lengths for m in ("audio", "visual")}
    steps = notebook.steps(notebook.splits(declared, held, "twin")["ravdess"])
    assert list(steps) == ["values a step", "shortest", "mean", "longest"] and list(steps.index) == list(lengths)
    for m, of_all in lengths.items():
        width = held["ravdess"].features[m].values.shape[-1]
        assert steps.loc[m].tolist() == [width, of_all.min(), round(of_all.mean(), 1), of_all.max()]
    folds = notebook.partitions(held["ravdess"], {"split": "actors"})
    assert list(folds.index) == [("ravdess", fold) for fold in range(5)] and folds["heard before"].max() == 0
    assert folds["test speakers"].iloc[0] == "02, 05, 14, 15, 16" and folds["test"].sum() == len(lengths["audio"])


def test_a_passport_that_is_not_there_is_absent(paper, monkeypatch):
    lines = notebook.passports(paper, "twin").loc["iemocap6"]
    dataset = folders.dataset("twin", "iemocap6")
    assert list(lines.columns) == ["array", "extractor", "shape", "steps", "trained_on", "fitted_on"]
    for modality in ("text", "audio", "visual"):
        stamp = dataset.features[modality].passport
        assert lines.loc[modality].tolist() == [
            modality, stamp.extractor, stamp.shape, stamp.steps or "", stamp.trained_on, stamp.fitted_on]  # fmt: skip
    del dataset.features["visual"]
    monkeypatch.setattr(folders, "dataset", lambda *args, **keywords: dataset)
    assert notebook.passports(paper, "twin").loc[("iemocap6", "visual"), "extractor"] == "ABSENT"


def test_every_leaf_of_a_recipe_has_its_source(paper):
    row = paper.table("table3").find("hff")
    for data in ("real", "twin"):
        sources = notebook.sources(paper, row, "iemocap6", data)
        recipe = paper.flat(declarations.recipe(paper, row, "iemocap6", data=data))
        assert sources["value"].to_dict() == recipe and (sources["source"] != "").all()
        assert ("twin" in set(sources["source"])) == (data == "twin")
        reading = paper.readings["pooling"]
        (leaf, *_) = paper.flat(reading.options[reading.default])
        assert sources.loc[leaf, "source"] == "reading: pooling"
    assert sources.loc["train.epochs", "source"] == "twin"
    floor = notebook.sources(paper, paper.table("table3").find("bigru"), "iemocap6", "real")
    assert floor.loc["model.name", "source"] == paper.base["bigru"]["model"]["name"][1]
    assert notebook.sources(paper, row, "iemocap6", "real").loc["model.dim", "source"] == "Sec. 4.1"


def test_a_change_is_what_differs_from_the_base_recipe(paper):
    changes = notebook.changes(paper, "table4", "twin")["iemocap6"]
    labels = {row.id: row.label for row in paper.table("table4").row}
    assert changes[labels["full"]] == "as base"
    base = paper.flat(declarations.base_recipe(paper, "iemocap6", data="twin"))
    for row in paper.table("table4").row:
        own = paper.flat(declarations.recipe(paper, row, "iemocap6", data="twin"))
        differ = sorted(key for key in {*base, *own} if base.get(key) != own.get(key))
        said = [f"{key}: {base.get(key, '-')} -> {own.get(key, '-')}" for key in differ]
        assert changes[row.label] == (", ".join(said) or "as base")
    assert "model.attention.name: multihead -> none" in changes[labels["wo_attention"]]
    floor = notebook.changes(paper, "table3", "twin").loc[paper.table("table3").find("bigru").label, "iemocap6"]
    assert "model.hidden: - -> " in floor and "model.attention.name: multihead -> -, " in floor


def test_a_batch_holds_the_rows_that_are_named(paper):
    parts = notebook.splits(paper, notebook.datasets(paper, "twin"), "twin")["iemocap6"]
    batch = notebook.batch(parts["train"], [0, 2])
    assert batch["mask"].sum(1).tolist() == parts["train"].lengths[[0, 2]].tolist()


def test_runs_and_records_are_those_of_the_study(trained, capsys):
    records, runs = trained
    assert [each.row.id for each in runs] == ["logistic", "bigru"] and set(records["row"]) == {"logistic", "bigru"}
    for (_, line), each in zip(notebook.runs(runs).iterrows(), runs, strict=True):
        result, history, best = each.result, each.result["history"], each.result["selected"]["val"]
        assert line.drop("last loss").to_dict() == {
            "row": each.row.id, "corpus": "iemocap6", "fold": 0, "modalities": "TAV",
            "parameters": result["parameters"], "epoch": f"{best['epoch'] + 1} of {len(history)}",
            "seconds": result["seconds"], "MB": result["peak_memory_mb"], "device": result["device"],
            "never predicted": ", ".join(best["never_predicted"]),
        }  # fmt: skip
    losses = notebook.runs(runs)["last loss"]
    assert np.isnan(losses[0]) and losses[1] == runs[1].result["history"][-1]["train/loss"]
    never = {"selected": {"val": {"never_predicted": ["sad", "angry"]}}, "history": []}
    gone = runs[1].result | {"history": [{"train/loss": 1.0, "train/swfc": 10.0**epoch} for epoch in range(6)]}
    notebook.alarm([replace(runs[0], result=never), replace(runs[1], result=gone)])
    out = capsys.readouterr().out
    assert f"{runs[1].row.label}, iemocap6, fold 0: the term swfc of the loss runs away in epoch 4" in out
    assert f"{runs[0].row.label}, iemocap6, fold 0 (val): never predicts sad, angry" in out.splitlines()
    assert out.endswith("2 runs checked\n")


def test_records_are_of_every_seed_and_runs_of_the_first(paper):
    records, runs = notebook.train(paper, "table3", rows=["logistic"], data="twin", seeds=[3, 4])
    assert set(records["seed"]) == {3, 4} and [(each.row.id, each.run.seed) for each in runs] == [("logistic", 3)]
    both = notebook.results(paper, "table3", rows="logistic", data="twin", seeds=[4, 3])
    assert [each.run.seed for each in both] == [4, 3]


def test_panels_are_the_test_utterances_of_all_runs(trained):
    _, runs = trained
    one, both = notebook.panel(runs[:1]), notebook.panel(runs)
    assert len(both["y_true"]) == 2 * len(one["y_true"])
    pairs = notebook.pairs({"both": both}, most=3)
    matrix = metrics.confusion(**both)
    assert len(pairs) == 3 and pairs["utterances"].iloc[0] <= matrix.sum()
    assert pairs["% of both"].is_monotonic_decreasing


def test_the_selection_gap_is_test_peak_less_validation(trained):
    records, _ = trained
    gap = notebook.selection_gap(records, "weighted_f1")
    assert (
        (gap["gap"] >= 0).all()
        and list(gap) == ["val", "test_peak", "gap"]
        and list(gap.index) == ["logistic", "bigru"]
    )
    for row, line in gap.iterrows():
        values = records[(records["row"] == row) & (records["column"] == "weighted_f1")].set_index("selection")["value"]
        assert line["gap"] == pytest.approx(values["test_peak"] - values["val"], abs=0.01)


def test_scores_are_rounded_and_say_what_is_compared(paper, trained):
    comparison = study.compare("hff", "table3", "twin")
    scores = notebook.scores(comparison)
    assert list(scores) == ["label", "column", "printed", "reproduced", "spread", "noise", "n_seeds", "n_folds",
                            "test_peak", "difference", "inputs", "verdict"]  # fmt: skip
    pd.testing.assert_series_equal(scores["noise"], comparison["noise"].round(2))
    assert len(scores) == len(comparison)


def test_a_row_that_has_not_run_has_no_chance(paper, trained):
    assert notebook.chance(paper, "table3", "hff", data="twin", seeds=[0]).empty
    pairs = notebook.chance(paper, "table3", "bigru", data="twin", seeds=[0])
    pd.testing.assert_frame_equal(pairs, study.against("hff", "table3", "bigru").round(4))
    assert "logistic" in pairs["other"].tolist() and pairs["p"].between(0, 1).all()


def test_figures_are_kept_where_they_are_named(paper, trained, monkeypatch):
    _, runs = trained
    network = next(each for each in runs if each.row.id == "bigru")
    folder = results_folder("twin") / "figures" / "hff"
    figure = notebook.confusions({"bigru": notebook.panel([network])}, "twin", "hff/confusion")
    assert (folder / "confusion.png").exists() and figure.axes[0].get_title() == "bigru"
    displayed = []
    monkeypatch.setattr("merlib.study.notebook.trained.display", displayed.append)
    other_fold = replace(network, run=replace(network.run, fold=1))
    notebook.curves(paper, "table3", [*runs, other_fold], ["bigru", "hff"], "twin")
    (curves,) = displayed
    title = f"{network.row.label}, IEMOCAP-6, seed 0"
    assert curves.get_suptitle().splitlines()[0] == title and "SYNTHETIC" in curves.get_suptitle()
    assert (folder / "table3_bigru_iemocap6_curves.png").exists()
    plane = notebook.plane(network, most=50)
    assert plane["points"].shape == (50, 2) and len(plane["y_true"]) == 50
