"""Figures: arrays and tables in, a matplotlib Figure out. `save` puts one into `results/<data>/figures/<paper>/`.

Every function takes `data`, the data root shown, and says in the title when that is the synthetic twin. Shapes: u
utterances, c classes. Scores are in percent, as the tables print them; `comparison` is what `report.compare` returns,
or some of its lines.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from threadpoolctl import threadpool_limits

from merlib.data.table import SPLITS, Corpus
from merlib.files import atomic
from merlib.places import TWINS, results_folder
from merlib.training import metrics

# One colour an emotion in all figures, told apart in the common forms of colour blindness (Okabe and Ito).
COLOURS = {
    "happy": "#E69F00", "joy": "#E69F00", "excited": "#F0E442", "sad": "#0072B2", "sadness": "#0072B2",
    "neutral": "#999999", "angry": "#D55E00", "anger": "#D55E00", "frustrated": "#CC79A7", "surprise": "#56B4E9",
    "surprised": "#56B4E9", "fear": "#000000", "fearful": "#000000", "disgust": "#009E73", "calm": "#B2DF8A",
    "-3": "#2166AC", "-2": "#67A9CF", "-1": "#D1E5F0", "0": "#999999", "1": "#FDDBC7", "2": "#EF8A62", "3": "#B2182B",
}  # fmt: skip
PRINTED, OURS, PEAK = "#999999", "#0072B2", "#D55E00"
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "axes.titlesize": 11}


def save(figure: Figure, data: str, paper: str, name: str) -> Path:
    """Write results/<data>/figures/<paper>/<name>.png, whole or not at all; equal figures give equal bytes."""
    path = results_folder(data) / "figures" / paper / f"{name}.png"
    with atomic(path) as part:
        figure.savefig(part, format="png", dpi=130, metadata={"Software": None})
    return path


def confusions(panels: Mapping[str, Mapping[str, Any]], *, data: str) -> Figure:
    """One confusion matrix a panel: share of each true class in colour and print, counts below (as MFCRE Fig. 6).

    panels: title -> y_true (u), y_pred (u) and labels (c); utterances labelled -1 do not count.
    """
    figure, axes = canvas("Confusion on the test split", data, len(panels), size=(5.6, 5.2))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        _matrix(ax, metrics.confusion(**panel), panel["labels"], counted=True)
        ax.set(title=title, xlabel="predicted", ylabel="true")
    return figure


def project(
    embedding: np.ndarray, *, method: Literal["tsne", "umap"], seed: int = 0, most: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (u d) in the plane: the rows shown (at most `most`, drawn by the seed) and their points (n 2).

    On one thread, so that the same seed gives the same points.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(embedding))[:most])
    chosen = np.asarray(embedding, dtype=np.float32)[rows]
    if method == "tsne":
        from sklearn.manifold import TSNE

        reducer = TSNE(random_state=seed, init="pca", perplexity=min(30.0, (len(rows) - 1) / 3))
    else:
        from umap import UMAP

        reducer = UMAP(random_state=seed, n_jobs=1, n_neighbors=min(15, len(rows) - 1))
    with threadpool_limits(1):
        return rows, reducer.fit_transform(chosen)


def embeddings(panels: Mapping[str, Mapping[str, Any]], *, data: str) -> Figure:
    """One scatter a panel, coloured by true emotion. panels: title -> points (n 2), y_true (n) and labels (c)."""
    figure, axes = canvas("Fused embeddings of the test split", data, len(panels), size=(5.2, 5.0))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        for index, label in enumerate(panel["labels"]):
            x, y = panel["points"][panel["y_true"] == index].T
            ax.scatter(x, y, s=14, c=COLOURS[label], label=label, edgecolors="black", linewidths=0.2)
        ax.set(title=title, xticks=[], yticks=[])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, markerscale=1.6, columnspacing=1)
    return figure


def learning_curves(run: Mapping[str, Any], *, data: str, title: str) -> Figure:
    """Losses, the selecting score and gradient norm by epoch, with selected epoch and test peak. run: a run.json."""
    metric = run["recipe"]["protocol"]["select_metric"]
    scale, unit = (1, "") if metric in metrics.LOWER_IS_BETTER else (100, " (%)")
    history = pd.DataFrame(run["history"])
    epoch = history.index + 1
    figure, (losses, scores, norm) = canvas(title, data, 3, size=(4.4, 3.6))
    for name in [n for n in history if n.startswith("train/") and n != "train/grad_norm"]:
        losses.plot(epoch, history[name], lw=2 if name == "train/loss" else 1, label=name.replace("_", " "))
    losses.plot(epoch, history["val/loss"], "k--", lw=2, label="val/loss")
    losses.set(title="loss", xlabel="epoch")
    if losses.dataLim.ymax > 10:
        losses.set_yscale("symlog")
        losses.yaxis.set_major_formatter("{x:.3g}")
    marks = (("val", "val", "selected on val", OURS, "o"), ("test", "test_peak", "test peak", PEAK, "*"))
    for split, selection, text, colour, marker in marks:
        at = run["selected"][selection]["epoch"]
        height = scale * history[f"test/{metric}"][at]
        scores.plot(epoch, scale * history[f"{split}/{metric}"], color=colour, label=split)
        scores.plot(at + 1, height, marker, color=colour, ms=11, mec="black", label=f"{text}: epoch {at + 1}")
        scores.axvline(at + 1, color=colour, lw=0.8, ls=":")
    scores.set(title=metric.replace("_", " ") + unit, xlabel="epoch")
    norm.plot(epoch, history["train/grad_norm"], color="black", label="gradient norm")
    norm.set(title="gradient norm before clipping", xlabel="epoch", ylim=(0, None))
    for ax in (losses, scores, norm):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(fontsize=8)
    return figure


def sweep(comparison: pd.DataFrame, *, data: str, x: str) -> Figure:
    """One panel a column of the table: how the score moves with a hyper-parameter, printed beside reproduced.

    Rows must be labelled `name = value`. Both lines are drawn around their own mean over the sweep (given in the
    legend), so that their shapes share one scale; the bars are one standard deviation over seeds and folds.
    """
    columns = list(dict.fromkeys(comparison["column"]))
    figure, axes = canvas(f"Sweep of {x}", data, len(columns), size=(3.9, 3.6), sharey=True)
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column]
        ticks = np.arange(len(lines))
        for name, colour, marker in (("printed", PRINTED, "s"), ("reproduced", OURS, "o")):
            value = lines[name].astype(float)
            bars = {"yerr": lines["spread"].astype(float), "capsize": 3} if name == "reproduced" else {}
            mean = f"mean {value.mean():.2f}" if value.notna().any() else "absent"
            ax.errorbar(ticks, value - value.mean(), color=colour, marker=marker, label=f"{name}: {mean}", **bars)
        ax.set_xticks(ticks, [label.split("=")[-1].strip() for label in lines["label"]], rotation=45)
        ax.set(title=column.replace("_", " "), xlabel=x)
        ax.axhline(0, color="black", lw=0.5)
        ax.legend(fontsize=8)
    for ax in axes[:1]:
        ax.set_ylabel("points above the mean of the sweep")
    return figure


def per_class(comparison: pd.DataFrame, *, data: str, rows: Sequence[str]) -> Figure:
    """F1 of each emotion (columns f1_<emotion>), printed (hatched) beside reproduced, one panel a row of the table."""
    figure, axes = canvas("F1 of each emotion", data, len(rows), size=(5.2, 3.6))
    for ax, row in zip(axes, rows, strict=True):
        lines = comparison[(comparison["row"] == row) & comparison["column"].str.startswith("f1_")]
        emotions = lines["column"].str.removeprefix("f1_").tolist()
        x, colours = np.arange(len(lines)), [COLOURS[emotion] for emotion in emotions]
        printed, reproduced, spread = (lines[name].astype(float) for name in ("printed", "reproduced", "spread"))
        ax.bar(x - 0.2, printed, 0.38, color="white", edgecolor=colours, hatch="///", label="printed")
        ours = {"color": colours, "edgecolor": "black", "label": "reproduced"}
        ax.bar(x + 0.2, reproduced, 0.38, yerr=spread, capsize=3, **ours)
        ax.set_xticks(x, emotions, rotation=30)
        ax.set(title=lines["label"].iloc[0], ylim=(0, 100), ylabel="F1 (%)")
        ax.legend(ncols=2, fontsize=8)
    return figure


def drops(comparison: pd.DataFrame, *, data: str, base: str = "ours") -> Figure:
    """What each ablation costs: its score less that of the row `base`, one panel a column of the table."""
    columns = list(dict.fromkeys(comparison.loc[comparison["row"] == base, "column"]))
    title = "Change of the score against the full model"
    # the labels stand beside the first panel
    width = 3.7 + 0.07 * max(map(len, comparison["label"]), default=0) / max(len(columns), 1)
    figure, axes = canvas(title, data, len(columns), size=(width, 3.8), sharex=True, sharey=True)
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column].set_index("row")
        whole, others = lines.loc[base], lines.drop(index=base)
        y = np.arange(len(others))[::-1]
        both = np.hypot(others["spread"].astype(float), float(whole["spread"]))
        for name, colour, shift, bars in (("printed", PRINTED, 0.2, None), ("reproduced", OURS, -0.2, both)):
            change = others[name].astype(float) - float(whole[name])
            ax.barh(y + shift, change, 0.38, xerr=bars, capsize=2, color=colour, label=name)
        ax.set_yticks(y, others["label"])
        ax.set(title=column.replace("_", " "), xlabel="points")
        ax.axvline(0, color="black", lw=0.8)
    for ax in axes[:1]:
        ax.legend(fontsize=8)
    return figure


def selection_gap(comparison: pd.DataFrame, *, data: str, column: str = "weighted_f1") -> Figure:
    """What choosing the epoch on the test set adds: both scores of every row that was run, and the printed one."""
    lines = comparison[(comparison["column"] == column) & comparison["test_peak"].notna()][::-1]
    title = f"{column.replace('_', ' ')}: selected on validation, or at the test peak"
    figure, axes = canvas(title, data, min(len(lines), 1), size=(8.5, 0.42 * len(lines) + 1.6))
    for ax in axes:
        _dumbbells(ax, np.arange(len(lines)), lines)
        ax.set_yticks(np.arange(len(lines)), lines["label"])
        ax.set(xlabel="%", ylim=(-0.6, len(lines) - 0.4))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def scoreboard(board: pd.DataFrame, *, data: str) -> Figure:
    """All of a scoreboard (`report.scoreboard`) that has printed scores, beside their floors, in two even columns."""
    groups = []
    for name, lines in board.groupby(["paper", "table", "column"], sort=False):
        if lines["printed"].notna().any():
            heading, gap = (pd.DataFrame({"label": [text]}) for text in (" ".join(name), ""))
            groups.append(pd.concat([heading, lines, gap]))
    ends = np.cumsum([len(lines) for lines in groups])
    first = int(np.abs(ends - ends[-1] / 2).argmin()) + 1 if groups else 0
    columns = [pd.concat(part) for part in (groups[:first], groups[first:]) if part]
    tall = max(map(len, columns), default=0)
    figure, axes = canvas("Printed, reproduced, floors", data, len(columns), size=(8.0, 0.2 * tall + 1.2), sharex=True)
    for ax, lines in zip(axes, columns, strict=True):
        _dumbbells(ax, np.arange(len(lines)), lines)
        ax.set_yticks(range(len(lines)), lines["label"], fontsize=8)
        for label, heads in zip(ax.get_yticklabels(), lines["paper"].isna(), strict=True):
            label.set_fontweight("bold" if heads else "normal")
        ax.tick_params("y", length=0)
        ax.grid(axis="x", lw=0.3)
        ax.set(xlabel="%", ylim=(tall - 0.5, -0.6))
    for ax in axes[:1]:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _dumbbells(ax: Axes, y: np.ndarray, lines: pd.DataFrame) -> None:
    """A comparison's lines at heights y: selected on validation, with the spread; the test peak; the printed score."""
    scores = lines[["reproduced", "spread", "test_peak", "printed"]].astype(float)
    ax.hlines(y, scores["reproduced"], scores["test_peak"], color="black", lw=1)
    ax.errorbar(scores["reproduced"], y, xerr=scores["spread"], fmt="none", ecolor=OURS, elinewidth=1, capsize=2)
    for name, colour, marker in (("reproduced", OURS, "o"), ("test_peak", PEAK, "*"), ("printed", PRINTED, "s")):
        ax.plot(scores[name], y, marker, color=colour, ms=8, mec="black", label=name.replace("_", " "))


def corpus_shape(corpus: Corpus, *, data: str) -> Figure:
    """Class shares of every split, and how long the dialogues are."""
    figure, (shares, lengths) = canvas(f"{corpus.name}: classes and dialogues", data, 2, size=(5.2, 3.6))
    table = corpus.table[corpus.table["label"] >= 0]
    x, look = np.arange(len(corpus.labels)), {"color": [COLOURS[e] for e in corpus.labels], "edgecolor": "black"}
    for k, split in enumerate(SPLITS):
        part = table.loc[table["split"] == split, "label"]
        share = 100 * np.bincount(part, minlength=len(x)) / max(len(part), 1)
        shares.bar(x + 0.27 * (k - 1), share, 0.25, alpha=1 - 0.3 * k, label=split, **look)
    shares.set_xticks(x, corpus.labels, rotation=30)
    shares.set(title=f"share of the split (left to right: {', '.join(SPLITS)})", ylabel="%")
    turns = corpus.table.groupby("dialogue").size()
    lengths.hist(turns, bins=min(30, turns.max()), color=OURS, edgecolor="white")
    lengths.axvline(turns.mean(), color=PEAK, label=f"mean {turns.mean():.1f}, longest {turns.max()}")
    lengths.set(title=f"{len(turns)} dialogues", xlabel="utterances", ylabel="dialogues")
    lengths.legend()
    return figure


def transitions(corpus: Corpus, *, data: str) -> Figure:
    """How emotions follow one another: to the next utterance of the dialogue, and to the next of the same speaker."""
    table = corpus.table[corpus.table["label"] >= 0]
    figure, axes = canvas(f"{corpus.name}: where the next emotion comes from", data, 2, size=(5.4, 5.0))
    within = {"next utterance": ["dialogue"], "same speaker's next": ["dialogue", "speaker"]}
    for ax, (title, keys) in zip(axes, within.items(), strict=True):
        after = table.groupby(keys)["label"].shift(-1)
        now, after = table["label"][after.notna()].to_numpy(), after.dropna().to_numpy(int)
        _matrix(ax, metrics.confusion(y_true=now, y_pred=after, labels=corpus.labels), corpus.labels, counted=False)
        ax.set(title=f"{title}: the same in {100 * np.mean(now == after):.0f}%", xlabel="next", ylabel="now")
    return figure


def canvas(
    title: str, data: str, panels: int, *, size: tuple[float, float], sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A row of `panels` axes of `size` inches each, or a note when there is nothing to show.

    The figure is closed, so that no backend shows it by itself: it is displayed as the value of its cell.
    """
    where = "SYNTHETIC TWIN: no real data" if data in TWINS else f"data: {data}"
    note = "" if panels else "\nnothing to show: not in this data root, or not run yet"
    width, height = size if panels else (8.0, 1.2)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width * max(panels, 1), height), layout="constrained")
        plt.close(figure)
        axes = figure.subplots(1, panels, squeeze=False, sharex=sharex, sharey=sharey).ravel() if panels else []
        figure.suptitle(f"{title}\n{where}{note}", fontsize=12)
    return figure, list(axes)


def _matrix(ax: Axes, counts: np.ndarray, labels: Sequence[str], *, counted: bool) -> None:
    """Counts (c c) as shares of their row; `counted` prints the counts too."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(share):
        text = f"{100 * value:.0f}%" + (f"\n{counts[i, j]}" if counted else "")
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if value > 0.5 else "black")
    ax.set_xticks(range(len(labels)), labels, rotation=30)
    ax.set_yticks(range(len(labels)), labels)
