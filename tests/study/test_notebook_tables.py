"""What notebooks show of scores, predictions and sequences: the named calls on numbers that are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from merlib import declarations
from merlib.data.folders import Dataset
from merlib.data.store import Feature
from merlib.places import results_folder
from merlib.study import notebook
from merlib.study.notebook import inputs

NAN = float("nan")
COMPARISON = pd.DataFrame(
    [
        ("a", "f1", 1.0, 10.0, 1.0, 0.5), ("b", "f1", 2.0, 30.0, 2.0, 0.5), ("c", "f1", 4.0, 20.0, 3.0, 2.0),
        ("a", "accuracy", 7.0, NAN, NAN, NAN), ("b", "accuracy", 7.0, NAN, NAN, NAN),
    ],
    columns=["label", "column", "printed", "reproduced", "noise", "spread"],
)  # fmt: skip


def test_ranges_are_how_far_scores_lie_apart_and_whether_their_order_is_the_same():
    ranges = notebook.ranges(COMPARISON)
    assert list(ranges) == ["printed range", "reproduced range", "noise ±", "spread", "order"]
    assert ranges.loc["f1"].tolist() == [3.0, 20.0, 2.0, 1.0, 0.33]  # two pairs in order, one in reverse
    assert list(ranges.index) == ["f1", "accuracy"] and np.isnan(ranges.loc["accuracy", "order"])
    assert ranges.loc["accuracy", "printed range"] == 0.0
    assert list(notebook.ranges(COMPARISON, by="label").index) == ["a", "b", "c"]


def test_the_order_of_two_scores_is_no_correlation():
    assert np.isnan(notebook.ranges(COMPARISON.iloc[:2]).loc["f1", "order"])


def test_winners_are_all_that_have_the_highest_score():
    winners = notebook.winners(COMPARISON)
    assert winners.loc["f1"].to_dict() == {"printed": "c", "reproduced": "b"}
    assert winners.loc["accuracy"].to_dict() == {"printed": "a, b", "reproduced": "absent"}
    assert list(notebook.winners(COMPARISON, by="label").index) == ["a", "b", "c"]


def test_the_gap_is_a_mean_over_seeds_of_one_column_in_the_order_of_the_rows():
    lines = [("late", 0, "val", "60"), ("late", 1, "val", "62.5"), ("late", 0, "test_peak", "70"),
             ("late", 1, "test_peak", "70"), ("early", 0, "val", "50")]  # fmt: skip
    records = pd.DataFrame(lines, columns=["row", "seed", "selection", "value"]).assign(column="f1")
    gap = notebook.selection_gap(pd.concat([records, records.assign(column="other", value="1")]), "f1")
    assert list(gap.index) == ["late", "early"] and gap.loc["late"].tolist() == [61.25, 70.0, 8.75]
    assert gap.loc["early"].isna().tolist() == [False, True, True]


def test_pairs_are_the_confusions_of_both_directions():
    y_true = np.array([0] * 10 + [1] * 10 + [2] * 5 + [-1])
    y_pred = np.array([0] * 6 + [1] * 4 + [1] * 8 + [0] * 2 + [0] + [2] * 4 + [0])
    panel = {"y_true": y_true, "y_pred": y_pred, "labels": ("happy", "sad", "angry", "calm")}
    pairs = notebook.pairs({"one": panel, "another": panel})
    assert list(pairs) == ["panel", "pair", "utterances", "% of both"]
    first = pairs[pairs["panel"] == "one"].to_numpy().tolist()
    assert first[:2] == [["one", "happy / sad", 6, 30.0], ["one", "happy / angry", 1, 6.7]]
    assert len(first) == 5 and pairs["panel"].tolist() == ["another"] * 5 + ["one"] * 5
    assert pairs["% of both"].iloc[2:5].tolist() == [0.0, 0.0, 0.0]
    assert len(notebook.pairs({"one": panel}, most=1)) == 1
    never = {"y_true": np.array([0]), "y_pred": np.array([0]), "labels": ("a", "b", "c")}
    assert notebook.pairs({"never": never})["% of both"].tolist() == [0.0, 0.0, 0.0], "classes that never occur"


def test_silhouettes_are_near_one_for_clusters_and_of_labelled_utterances():
    centres = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], [4, 4, 2], axis=0)
    embedding = centres + np.random.default_rng(0).normal(scale=0.1, size=centres.shape)
    saved = {"embedding": embedding.astype(np.float16), "y_true": np.repeat([0, 1, -1], [4, 4, 2])}
    good = SimpleNamespace(predictions=saved | {"val_pred": np.array([0, 1] * 5)})
    flat = SimpleNamespace(predictions=saved | {"val_pred": np.zeros(10, int)})
    lines = notebook.silhouettes({"good": good, "flat": flat})
    assert list(lines) == ["true emotion", "predicted emotion"] and list(lines.index) == ["good", "flat"]
    assert (lines["true emotion"] > 0.95).all() and lines.loc["good", "predicted emotion"] < 0
    assert (
        np.isnan(lines.loc["flat", "predicted emotion"])
        and (lines["true emotion"].round(3) == lines["true emotion"]).all()
    )
    two = {"embedding": embedding[[0, 4]], "y_true": np.array([0, 1]), "val_pred": np.array([0, 1])}
    assert lines.shape == (2, 2) and notebook.silhouettes({"two": SimpleNamespace(predictions=two)}).isna().all(
        axis=None
    )


def test_panels_of_several_folds_are_one_after_the_other():
    saved = [{"y_true": np.array([k]), "val_pred": np.array([1 - k]), "ids": np.array(["u"])} for k in (0, 1)]
    folds = [SimpleNamespace(predictions=each, result={"labels": ["no", "yes"]}) for each in saved]
    panel = notebook.panel(folds)
    assert (
        panel["y_true"].tolist() == [0, 1] and panel["y_pred"].tolist() == [1, 0] and panel["labels"] == ("no", "yes")
    )


def test_a_plane_is_of_the_runs_own_seed_and_of_the_rows_that_were_drawn(monkeypatch):
    asked = []

    def project(embedding, **options):
        assert embedding is saved["embedding"]
        asked.append(options)
        return np.array([2, 0]), np.eye(2)

    monkeypatch.setattr("merlib.figures.project", project)
    saved = {"embedding": np.zeros((3, 4)), "y_true": np.array([5, 6, 7])}
    run = SimpleNamespace(predictions=saved, run=SimpleNamespace(seed=3), result={"labels": ["a", "b"]})
    plane = notebook.plane(run, most=2, method="umap")
    assert plane["y_true"].tolist() == [7, 5] and plane["labels"] == ["a", "b"] and (plane["points"] == np.eye(2)).all()
    notebook.plane(run, most=9)
    assert asked == [{"method": "umap", "seed": 3, "most": 2}, {"method": "tsne", "seed": 3, "most": 9}]


@pytest.fixture
def kept(places, monkeypatch) -> list:
    """The figures that were displayed."""
    displayed = []
    monkeypatch.setattr(inputs, "display", displayed.append)
    return displayed


def titles(figures: list) -> list[str]:
    return [figure.get_suptitle().splitlines()[0] for figure in figures]


def test_classes_and_transitions_of_each_corpus_are_displayed_and_kept(kept, small):
    paper, held = declarations.load("mfcre"), {name: Dataset(small[name], {}) for name in ("iemocap6", "meld")}
    notebook.classes(paper, held, "lab")
    notebook.transitions(paper, held, "twin")
    shapes, follows = "classes and dialogues", "where the next emotion comes from"
    assert titles(kept) == [f"{name}: {what}" for what in (shapes, follows) for name in ("IEMOCAP-6", "MELD")]
    assert ["SYNTHETIC" in figure.get_suptitle() for figure in kept] == [False, False, True, True]
    for data, kind in (("lab", "classes"), ("twin", "transitions")):
        files = (results_folder(data) / "figures" / "mfcre").iterdir()
        assert sorted(path.name for path in files) == [f"{name}_{kind}.png" for name in held]


def test_lengths_are_counted_in_a_panel_a_modality(kept, small):
    features = {
        "text": Feature(np.zeros((12, 7)), None, np.array([1, 3, 3, 5])),
        "sound": Feature(np.zeros((4, 2)), None),
    }
    arrays = {"text": "text", "audio": "sound", "visual": "absent"}
    figure = notebook.lengths(Dataset(small["meld"], features), arrays, "lab", "hff/lengths")
    text, audio = figure.axes
    assert titles([figure]) == ["Lengths of the sequences"] and "data: lab" in figure.get_suptitle()
    assert tuple(figure.get_size_inches()) == pytest.approx((2 * 4.2, 2.8))
    assert [bar.get_height() for bar in text.patches] == [1, 2, 1] and [bar.get_height() for bar in audio.patches] == [
        4
    ]
    assert [ax.get_title() for ax in figure.axes] == ["text: 7 values a step", "audio: 2 values a step"]
    assert {(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes} == {("steps of an utterance", "utterances")}
    assert (results_folder("lab") / "figures" / "hff" / "lengths.png").exists()
    many = Feature(np.zeros((1275, 1)), None, np.arange(1, 51))
    (ax,) = notebook.lengths(Dataset(small["meld"], {"text": many}), {"text": "text"}, "lab", "hff/many").axes
    assert len(ax.patches) == 30


def test_sequences_are_images_of_standardised_values_with_time_to_the_right(kept):
    panels = {"one": np.arange(15.0).reshape(5, 3), "two": np.zeros((2, 4))}
    figure = notebook.sequences(panels, "lab", "hff/sequences")
    assert titles([figure]) == ["Sequences"] and tuple(figure.get_size_inches()) == pytest.approx((2 * 4.0, 3.2))
    for ax, (title, values) in zip(figure.axes, panels.items(), strict=True):
        (image,) = ax.images
        np.testing.assert_array_equal(image.get_array(), values.T)
        assert (image.origin, image.get_cmap().name, image.get_clim()) == ("lower", "RdBu", (-3, 3))
        assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == (title, "step", "value", "auto")
    assert (results_folder("lab") / "figures" / "hff" / "sequences.png").exists()
