"""What the notebooks of several papers show: the named calls of merlib.study.notebook, on a tiny twin."""

from dataclasses import replace

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
    assert list(notebook.datasets(paper, "twin")) == ["iemocap6"]
    assert notebook.present(paper, "table2", "twin") == [] and notebook.present(paper, "table3", "twin") == ["iemocap6"]
    assert capsys.readouterr().out.count("ABSENT") == 2
    records, trained = notebook.train(paper, "table2", data="twin", seeds=[0])
    assert records.empty and not trained and notebook.runs(trained).empty


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
    assert random["heard before"] == table["speaker"].nunique() and random["known dialogues"] > 0


def test_splits_are_those_of_the_fold(tmp_path, monkeypatch):
    for name, value in tiny_study.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    tiny_study.declare(tmp_path)
    twins.ensure("twin", ["ravdess"])
    declared = notebook.load("attsf_net")
    held = {"ravdess": folders.dataset("twin", "ravdess")}
    first, second = (notebook.splits(declared, held, "twin", fold=fold)["ravdess"]["test"].ids for fold in (0, 1))
    assert first and second and not set(first) & set(second)


def test_a_passport_that_is_not_there_is_absent(paper, monkeypatch):
    lines = notebook.passports(paper, "twin").loc["iemocap6"]
    assert set(lines.index) == {"text", "audio", "visual"} and "ABSENT" not in set(lines["extractor"])
    dataset = folders.dataset("twin", "iemocap6")
    del dataset.features["visual"]
    monkeypatch.setattr(folders, "dataset", lambda *args, **keywords: dataset)
    assert notebook.passports(paper, "twin").loc[("iemocap6", "visual"), "extractor"] == "ABSENT"


def test_every_leaf_of_a_recipe_has_its_source(paper):
    row = paper.table("table3").find("hff")
    for data in ("real", "twin"):
        sources = notebook.sources(paper, row, "iemocap6", data)
        recipe = paper.flat(declarations.recipe(paper, row, "iemocap6", data=data))
        assert sources["value"].to_dict().keys() == recipe.keys() and (sources["source"] != "").all()
        assert ("twin" in set(sources["source"])) == (data == "twin")
    assert sources.loc["train.epochs", "source"] == "twin"


def test_a_change_is_what_differs_from_the_base_recipe(paper):
    changes = notebook.changes(paper, "table4", "twin")["iemocap6"]
    labels = {row.id: row.label for row in paper.table("table4").row}
    assert changes[labels["full"]] == "as base"
    assert "model.attention" in changes[labels["wo_attention"]] and " -> none" in changes[labels["wo_attention"]]


def test_a_batch_holds_the_rows_that_are_named(paper):
    parts = notebook.splits(paper, notebook.datasets(paper, "twin"), "twin")["iemocap6"]
    batch = notebook.batch(parts["train"], [0, 2])
    assert batch["mask"].sum(1).tolist() == parts["train"].lengths[[0, 2]].tolist()


def test_runs_and_records_are_those_of_the_study(trained, capsys):
    records, runs = trained
    assert [each.row.id for each in runs] == ["logistic", "bigru"] and set(records["row"]) == {"logistic", "bigru"}
    lines = notebook.runs(runs).set_index("row")
    assert lines["parameters"].to_dict() == {each.row.id: each.result["parameters"] for each in runs}
    never = {"selected": {"val": {"never_predicted": ["sad", "angry"]}}, "history": []}
    gone = runs[1].result | {"history": [{"train/loss": 1.0, "train/swfc": 10.0**epoch} for epoch in range(6)]}
    notebook.alarm([replace(runs[0], result=never), replace(runs[1], result=gone)])
    out = capsys.readouterr().out
    assert f"{runs[1].row.label}, iemocap6, fold 0: the term swfc of the loss runs away in epoch 4" in out
    assert f"{runs[0].row.label}, iemocap6, fold 0 (val): never predicts sad, angry" in out and "2 runs checked" in out


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
    assert (gap["gap"] >= 0).all()
    for row, line in gap.iterrows():
        values = records[(records["row"] == row) & (records["column"] == "weighted_f1")].set_index("selection")["value"]
        assert line["gap"] == pytest.approx(values["test_peak"] - values["val"], abs=0.01)


def test_ranges_and_winners_are_those_of_the_columns(paper, trained):
    comparison = study.compare("hff", "table3", "twin")
    assert list(notebook.scores(comparison).columns)[:4] == ["label", "column", "printed", "reproduced"]
    lines, best = notebook.ranges(comparison), notebook.winners(comparison)
    own = comparison[comparison["column"] == "weighted_f1"]
    ours = own["reproduced"].astype(float)
    assert lines.loc["weighted_f1", "reproduced range"] == pytest.approx(ours.max() - ours.min(), abs=0.01)
    assert best.loc["weighted_f1", "reproduced"] == own.loc[ours.idxmax(), "label"]


def test_a_row_that_has_not_run_has_no_chance(paper, trained):
    assert notebook.chance(paper, "table3", "hff", data="twin", seeds=[0]).empty
    pairs = notebook.chance(paper, "table3", "bigru", data="twin", seeds=[0])
    assert pairs["other"].tolist() == ["logistic"] and 0 <= pairs["p"].iloc[0] <= 1


def test_figures_are_kept_where_they_are_named(trained):
    _, runs = trained
    network = next(each for each in runs if each.row.id == "bigru")
    notebook.confusions({"bigru": notebook.panel([network])}, "twin", "hff/confusion")
    assert (results_folder("twin") / "figures" / "hff" / "confusion.png").exists()
    assert -1 <= notebook.silhouettes({"bigru": network}).loc["bigru", "true emotion"] <= 1
    plane = notebook.plane(network, most=50)
    assert plane["points"].shape == (50, 2) and len(plane["y_true"]) == 50
