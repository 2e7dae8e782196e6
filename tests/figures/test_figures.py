"""Figures show what they are given: numbers are read back from the artists, and the twin is named as such."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from merlib import figures
from merlib.data.official import LABELS
from merlib.data.table import build

NAMES = ("happy", "sad", "neutral")


def comparison(printed, reproduced, *, columns=("weighted_f1",), labels=None, spread=np.nan, test_peak=np.nan):
    """Lines as `report.compare` returns them: rows r0, r1, ... by column, the same scores in each."""
    lines = [
        {"row": f"r{i}", "label": (labels or [f"row {i}" for i in range(len(printed))])[i], "column": column}
        | {
            "score": column.replace("_", " "),
            "features": "",
            "printed": p,
            "reproduced": r,
            "spread": spread,
            "test_peak": r + test_peak,
        }
        for i, (p, r) in enumerate(zip(printed, reproduced, strict=True))
        for column in columns
    ]
    return pd.DataFrame(lines)


def corpus(labels, speakers, name="iemocap6"):
    """One training dialogue with these labels and speakers."""
    n = len(labels)
    rows = {"utterance": [f"u{i}" for i in range(n)], "dialogue": "d", "speaker": speakers, "label": labels}
    return build(name, pd.DataFrame(rows | {"split": "train"}), source="test")


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("name", sorted(LABELS))
def test_every_emotion_of_a_corpus_has_a_colour_of_its_own(name):
    colours = [figures.COLOURS[label] for label in LABELS[name]]
    assert len(set(colours)) == len(colours)


def test_confusion_shows_shares_of_the_true_class_and_counts():
    y_true, y_pred = np.array([0, 0, 0, 0, 1, 2, -1]), np.array([0, 0, 0, 1, 1, 0, 2])
    panel = {"y_true": y_true, "y_pred": y_pred, "labels": NAMES}
    figure = figures.confusions({"a": panel, "b": panel}, data="real")
    assert len(figure.axes) == 2
    assert texts(figure.axes[0]) == [
        "75%\n3",
        "25%\n1",
        "0%\n0",
        "0%\n0",
        "100%\n1",
        "0%\n0",
        "100%\n1",
        "0%\n0",
        "0%\n0",
    ]
    shares = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_a_projection_is_repeatable_and_keeps_clusters_together(method):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 30)
    z = (rng.normal(size=(60, 8)) + 20 * label[:, None]).astype(np.float16)
    rows, points = figures.project(z, method=method, seed=1, most=40)
    again, same = figures.project(z, method=method, seed=1, most=40)
    assert len(rows) == 40 and points.shape == (40, 2)
    np.testing.assert_array_equal(rows, again)
    np.testing.assert_array_equal(points, same)
    centres = [points[label[rows] == k].mean(0) for k in (0, 1)]
    nearest = np.argmin([np.linalg.norm(points - c, axis=1) for c in centres], axis=0)
    assert (nearest == label[rows]).mean() > 0.9


def test_a_scatter_has_one_colour_and_one_marker_an_emotion():
    points = np.arange(12.0).reshape(6, 2)
    panel = {"points": points, "y_true": np.array([0, 0, 1, 1, 1, 2]), "labels": NAMES}
    (ax,) = figures.embeddings({"a": panel}, data="real").axes
    assert [len(c.get_offsets()) for c in ax.collections] == [2, 3, 1]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(NAMES)
    assert len({c.get_paths()[0].vertices.tobytes() for c in ax.collections}) == len(NAMES)


def test_there_is_a_marker_for_every_class_of_every_corpus():
    assert len(set(figures.MARKERS)) == len(figures.MARKERS) >= max(map(len, LABELS.values()))


def test_learning_curves_mark_the_selected_epoch_and_the_test_peak():
    losses = ("train/loss", "train/swfc", "train/grad_norm", "val/loss", "val/weighted_f1")
    history = [dict.fromkeys(losses, 1.0) | {"test/weighted_f1": 0.1 * e} for e in range(4)]
    run = {"history": history, "selected": {"val": {"epoch": 1}, "test_peak": {"epoch": 3}}}
    run["recipe"] = {"protocol": {"select_metric": "weighted_f1"}}
    losses, scores, _ = figures.learning_curves(run, data="real", title="t").axes
    for ax in (losses, scores):
        curves = [line for line in ax.lines if len(line.get_xdata()) == 4]
        assert len({repr(line._dash_pattern) for line in curves}) == len(curves) > 1, "told apart in grey"
    marks = {line.get_label(): line.get_xydata()[0].tolist() for line in scores.lines if len(line.get_xydata()) == 1}
    assert marks == {"selected on val: epoch 2": [2, pytest.approx(10)], "test peak: epoch 4": [4, pytest.approx(30)]}


def test_a_sweep_draws_both_lines_around_their_means():
    labels = ["mu = 0.1", "mu = 0.2", "mu = 0.3"]
    lines = comparison([70, 71, 75], [50, 53, 53], columns=("accuracy", "weighted_f1"), labels=labels, spread=1.0)
    figure = figures.sweep(lines, data="real", x="mu")
    for ax in figure.axes:
        printed, reproduced = (container.lines[0].get_ydata(orig=False) for container in ax.containers)
        np.testing.assert_allclose(printed, [-2, -1, 3])
        np.testing.assert_allclose(reproduced, [-2, 1, 1])
        assert [t.get_text() for t in ax.get_xticklabels()] == ["0.1", "0.2", "0.3"]
        assert "reproduced: mean 52.00" in [t.get_text() for t in ax.get_legend().get_texts()]


def test_drops_are_differences_from_the_full_model():
    lines = comparison([75, 70, 74], [60, 61, 55], columns=("accuracy", "weighted_f1"), spread=0.3)
    for ax in figures.drops(lines, data="real", base="r0").axes:
        widths = [
            [bar.get_width() for bar in container] for container in ax.containers if hasattr(container, "patches")
        ]
        assert widths == [[-5, -1], [1, -5]]


def test_bars_of_a_row_stand_beside_each_other():
    lines = comparison([80], [60], columns=("f1_happy", "f1_sad", "accuracy"), spread=2.0)
    (ax,) = figures.per_class(lines, data="real", rows=["r0"]).axes
    heights = [[bar.get_height() for bar in container] for container in ax.containers if hasattr(container, "patches")]
    assert heights == [[80, 80], [60, 60]]


def test_the_gap_shows_rows_that_were_run():
    lines = comparison([75, 70, 74], [60, np.nan, 55], test_peak=2.0)
    (ax,) = figures.selection_gap(lines, data="real").axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["row 2", "row 0"]
    assert drawn(ax) == {"reproduced": [55, 60], "test peak": [57, 62], "printed": [74, 75]}


def drawn(ax) -> dict[str, list[float]]:
    return {line.get_label(): line.get_xdata().tolist() for line in ax.lines if not line.get_label().startswith("_")}


def board_of(printed, reproduced, *, kinds, table="table1"):
    lines = comparison(printed, reproduced, test_peak=2.0)
    return lines.assign(paper="a", table=table, heading=f"A: {table}", kind=kinds)


def test_the_scoreboard_of_a_paper_shows_what_has_printed_scores_beside_its_floors():
    kinds = ["proposed", "floor"]
    tables = [board_of([75, np.nan], [60, 66], kinds=kinds, table=table) for table in ("table1", "table2")]
    floors_only = board_of([np.nan], [66], kinds=["floor"], table="table3")
    (ax,) = figures.scoreboard(pd.concat([*tables, floors_only]), data="real").axes
    bold = [t.get_text() for t in ax.get_yticklabels() if t.get_fontweight() == "bold" and t.get_text()]
    assert bold == ["A: table1", "A: table2"]
    assert [t.get_text() for t in ax.get_yticklabels()][:4] == ["A: table1", "row 0", "row 1", ""]
    np.testing.assert_array_equal(drawn(ax)["reproduced"][:4], [np.nan, 60, 66, np.nan])
    np.testing.assert_array_equal(drawn(ax)["printed"][:4], [np.nan, 75, np.nan, np.nan])


def test_the_headlines_have_the_proposed_network_of_each_table_and_its_best_floor():
    kinds = ["other", "proposed", "proposed", "proposed", "floor", "floor"]
    one = board_of([80, 70, 75, 75, np.nan, np.nan], [50, 51, 52, 53, 54, 56], kinds=kinds)
    other = board_of([np.nan], [99], kinds=["floor"]).assign(features="text: x | absent | absent")  # on other inputs
    one = one.assign(features="absent | audio: y | absent or absent | audio: z | absent")
    one.loc[4:, "features"] = "absent | audio: z | absent | substitutes: frozen"  # the floors
    one = pd.concat([one, other])
    two = board_of([90], [60], kinds=["proposed"], table="table2").assign(label="A", heading="A on B", doubt="stale")
    none = board_of([np.nan], [60], kinds=["floor"], table="table3")
    (ax,) = figures.headlines(pd.concat([one, two, none]), data="real").axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["A: table1\nrow 2", "A on B"]
    np.testing.assert_array_equal(drawn(ax)["in doubt (stale, partial, ...)"], [np.nan, 60])
    assert drawn(ax)["printed"] == [75, 90] and drawn(ax)["reproduced"] == [52, 60]  # the first of equals
    np.testing.assert_array_equal(drawn(ax)["best floor"], [56, np.nan])


def test_panels_without_any_run_are_left_out_and_named():
    run = comparison([75, 70], [60, 61], columns=("accuracy",), spread=1.0)
    unrun = comparison([75, 70], [np.nan, np.nan], columns=("macro_f1",))
    both = pd.concat([run, unrun])
    for figure in (figures.drops(both, data="real", base="r0"), figures.sweep(both, data="real", x="mu")):
        assert [ax.get_title() for ax in figure.axes] == ["accuracy"]
        assert "not run here: macro f1" in figure.get_suptitle()
    assert [ax.get_title() for ax in figures.drops(unrun, data="real", base="r0").axes] == ["macro f1"]


@pytest.mark.parametrize(
    "features, said",
    [
        (["text: MiniLM (384) | audio: 47 numbers | absent"] * 2, "(text: MiniLM (384); audio: 47 numbers; no visual)"),
        (["text: a | absent | absent", "text: b | absent | absent"], "(2 sets of features)"),
        (["text: a | absent | absent or text: b | absent | absent"] * 2, "(2 sets of features)"),
    ],
)  # fmt: skip
def test_a_figure_names_the_features_behind_reproduced_scores(features, said):
    lines = comparison([75, 70], [60, 61], spread=1.0, test_peak=1.0).assign(features=features)
    drawn = [figures.drops(lines, data="lab", base="r0"), figures.selection_gap(lines, data="lab")]
    drawn += [figures.sweep(lines, data="lab", x="mu")]
    assert all(f"data: lab {said}" in " ".join(figure.get_suptitle().split()) for figure in drawn)


def test_class_shares_and_dialogue_lengths():
    shares, lengths = figures.corpus_shape(corpus([0, 0, 0, 1], ["01F", "01M", "01F", "01M"]), data="real").axes
    train = [bar.get_height() for bar in shares.containers[0]]
    assert train == [75, 25, 0, 0, 0, 0]
    assert sum(bar.get_height() for bar in lengths.patches) == 1


def test_transitions_follow_the_dialogue_and_the_speaker():
    # each speaker keeps an emotion, neighbours never share it
    alternating = corpus([0, 1, 0, 1, 0, 1], ["01F", "01M"] * 3)
    dialogue, speaker = figures.transitions(alternating, data="real").axes
    assert "the same in 0%" in dialogue.get_title() and "the same in 100%" in speaker.get_title()
    np.testing.assert_array_equal(dialogue.images[0].get_array()[:2, :2], [[0, 1], [1, 0]])


@pytest.mark.parametrize("data, title", [("twin", "SYNTHETIC TWIN"), ("lab", "data: lab")])
def test_a_figure_says_what_data_it_shows(data, title):
    assert title in figures.confusions({}, data=data).get_suptitle()


def test_nothing_to_show_is_said_and_no_error():
    nothing = comparison([], [], columns=()).reindex(
        columns=["row", "label", "column", "score", "printed", "reproduced", "test_peak", "features"]
    )
    empty = [figures.confusions({}, data="lab"), figures.embeddings({}, data="lab")]
    empty += [figures.per_class(nothing, data="lab", rows=[]), figures.selection_gap(nothing, data="lab")]
    board = nothing.assign(paper="", table="", heading="", kind="")
    empty += [figures.scoreboard(board, data="lab"), figures.headlines(board, data="lab")]
    empty += [figures.drops(nothing, data="lab", base="r0"), figures.sweep(nothing, data="lab", x="mu")]
    assert all(isinstance(f, Figure) and "nothing to show" in f.get_suptitle() for f in empty)


def test_save_writes_equal_figures_as_equal_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path))
    saved = []
    for _ in range(2):
        path = figures.save(figures.confusions({}, data="lab"), "lab", "paper", "name")
        saved.append(path.read_bytes())
    assert path == tmp_path / "lab" / "figures" / "paper" / "name.png"
    assert saved[0] == saved[1] and saved[0].startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["name.png"]


def test_a_specification_curve_has_the_draws_in_order_above_their_options():
    lines = [("x+p", 0, 50.0), ("x+p", 1, 54.0), ("y+q", 0, 40.0), ("y+q", 1, 42.0), ("x+q", 0, 60.0)]
    scores = pd.DataFrame(lines, columns=["row", "seed", "score"])
    scores[["one", "two"]] = [row.split("+") for row in scores["row"]]
    named = {"printed": 70.0, "default readings": 52.0, "Floor: x": 45.0}
    figure = figures.specification_curve(scores, data="twin", title="draws", lines=named)
    curve, options = figure.axes
    seeds, means = curve.lines[:2]
    assert means.get_ydata().tolist() == [41.0, 52.0, 60.0] and means.get_xdata().tolist() == [0, 1, 2]
    assert list(zip(seeds.get_xdata(), seeds.get_ydata(), strict=True)) == [(1, 50), (1, 54), (0, 40), (0, 42), (2, 60)]
    assert [text.get_text() for text in curve.get_legend().get_texts()][2:] == [
        "printed: 70.0", "default readings: 52.0", "Floor: x: 45.0"
    ]  # fmt: skip
    assert [line.get_ydata()[0] for line in curve.lines[2:]] == [70.0, 52.0, 45.0]
    marks = [line.get_xdata().tolist() for line in options.lines if line.get_marker() == "s"]
    taken = dict(zip([label.get_text() for label in options.get_yticklabels()], marks, strict=True))
    assert taken == {"one: x": [1, 2], "one: y": [0], "two: p": [1], "two: q": [0, 2]}
    assert "SYNTHETIC TWIN" in figure.get_suptitle()
    assert "nothing to show" in figures.specification_curve(scores[:0], data="x", title="", lines={}).get_suptitle()
