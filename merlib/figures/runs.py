"""A run and its corpus: classes, learning curves, confusion matrices and embeddings in the plane."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from threadpoolctl import threadpool_limits

from merlib.data.official import NAMES, SPLITS
from merlib.data.table import Corpus
from merlib.figures.style import COLOURS, MARKERS, OURS, PEAK, canvas
from merlib.training import metrics

LINES = ("-", ":", "-.", (0, (5, 1)), (0, (1, 3)))  # of the parts of a loss; that on validation is a broken black line


def corpus_shape(corpus: Corpus, *, data: str) -> Figure:
    """Class shares of every split, and the lengths of the dialogues."""
    figure, (shares, lengths) = canvas(f"{NAMES[corpus.name]}: classes and dialogues", data, 2, size=(5.2, 3.6))
    table = corpus.table[corpus.table["label"] >= 0]
    x, style = np.arange(len(corpus.labels)), {"color": [COLOURS[e] for e in corpus.labels], "edgecolor": "black"}
    for k, split in enumerate(SPLITS):
        part = table.loc[table["split"] == split, "label"]
        share = 100 * np.bincount(part, minlength=len(x)) / max(len(part), 1)
        shares.bar(x + 0.27 * (k - 1), share, 0.25, alpha=1 - 0.3 * k, label=split, **style)
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
    figure, axes = canvas(f"{NAMES[corpus.name]}: where the next emotion comes from", data, 2, size=(5.4, 5.0))
    within = {"next utterance": ["dialogue"], "same speaker's next": ["dialogue", "speaker"]}
    for ax, (title, keys) in zip(axes, within.items(), strict=True):
        following = table.groupby(keys)["label"].shift(-1)
        now, following = table["label"][following.notna()].to_numpy(), following.dropna().to_numpy(int)
        counts = metrics.confusion(y_true=now, y_pred=following, labels=corpus.labels)
        matrix(ax, counts, corpus.labels, show_counts=False)
        ax.set(title=f"{title}: the same in {100 * np.mean(now == following):.0f}%", xlabel="next", ylabel="now")
    return figure


def learning_curves(run: Mapping[str, Any], *, data: str, title: str) -> Figure:
    """Losses, the score that selects and the gradient norm of a run.json by epoch; the selected epoch and test peak."""
    metric = run["recipe"]["protocol"]["select_metric"]
    scale, unit = (1, "") if metric in metrics.LOWER_IS_BETTER else (100, " (%)")
    history = pd.DataFrame(run["history"])
    epoch = history.index + 1
    figure, (losses, scores, norm) = canvas(title, data, 3, size=(4.4, 3.6))
    names = [n for n in history if n.startswith("train/") and n != "train/grad_norm"]
    for name, style in zip(names, cycle(LINES)):
        losses.plot(epoch, history[name], ls=style, lw=2 if name == "train/loss" else 1, label=name.replace("_", " "))
    losses.plot(epoch, history["val/loss"], "k--", lw=2, label="val/loss")
    losses.set(title="loss", xlabel="epoch")
    if losses.dataLim.ymax > 10:
        losses.set_yscale("symlog")
        losses.yaxis.set_major_formatter("{x:.3g}")
    marks = (("val", "val", "selected on val", OURS, "o", "-"), ("test", "test_peak", "test peak", PEAK, "*", "--"))
    for split, selection, text, colour, marker, style in marks:
        selected = run["selected"][selection]["epoch"]
        score = scale * history[f"test/{metric}"][selected]
        scores.plot(epoch, scale * history[f"{split}/{metric}"], style, color=colour, label=split)
        label = f"{text}: epoch {selected + 1}"
        scores.plot(selected + 1, score, marker, color=colour, ms=11, mec="black", label=label)
        scores.axvline(selected + 1, color=colour, lw=0.8, ls=":")
    scores.set(title=metric.replace("_", " ") + unit, xlabel="epoch")
    norm.plot(epoch, history["train/grad_norm"], color="black", label="gradient norm")
    norm.set(title="gradient norm before clipping", xlabel="epoch", ylim=(0, None))
    for ax in (losses, scores, norm):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(fontsize=8)
    return figure


def confusions(panels: Mapping[str, Mapping[str, Any]], *, data: str) -> Figure:
    """One confusion matrix per panel: the share of each true class as colour and in print, the count below it.

    panels: title -> y_true (u), y_pred (u) and labels (c); utterances labelled -1 do not count.
    """
    figure, axes = canvas("Confusion on the test split", data, len(panels), size=(5.6, 5.2))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        matrix(ax, metrics.confusion(**panel), panel["labels"], show_counts=True)
        ax.set(title=title, xlabel="predicted", ylabel="true")
    return figure


def matrix(ax: Axes, counts: np.ndarray, labels: Sequence[str], *, show_counts: bool) -> None:
    """Draw counts (c c) as shares of their row; `show_counts` prints the counts too."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(share):
        text = f"{100 * value:.0f}%" + (f"\n{counts[i, j]}" if show_counts else "")
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if value > 0.5 else "black")
    ax.set_xticks(range(len(labels)), labels, rotation=30)
    ax.set_yticks(range(len(labels)), labels)


def project(
    embedding: np.ndarray, *, method: Literal["tsne", "umap"], seed: int = 0, most: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Project embeddings (u d) onto the plane: chosen rows (at most `most`, drawn by the seed) and their points (n 2).

    It runs on one thread, so that the same seed gives the same points.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(embedding))[:most])
    sample = np.asarray(embedding, dtype=np.float32)[rows]
    if method == "tsne":
        from sklearn.manifold import TSNE

        reducer = TSNE(random_state=seed, init="pca", perplexity=min(30.0, (len(rows) - 1) / 3))
    else:
        from umap import UMAP

        reducer = UMAP(random_state=seed, n_jobs=1, n_neighbors=min(15, len(rows) - 1))
    with threadpool_limits(1):
        return rows, reducer.fit_transform(sample)


def embeddings(panels: Mapping[str, Mapping[str, Any]], *, data: str) -> Figure:
    """One scatter plot per panel, a colour and a marker for each true emotion.

    panels: title -> points (n 2), y_true (n) and labels (c).
    """
    figure, axes = canvas("Fused embeddings of the test split", data, len(panels), size=(5.2, 5.0))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        for index, (label, marker) in enumerate(zip(panel["labels"], cycle(MARKERS))):
            x, y = panel["points"][panel["y_true"] == index].T
            ax.scatter(x, y, s=14, c=COLOURS[label], marker=marker, label=label, edgecolors="black", linewidths=0.2)
        ax.set(title=title, xticks=[], yticks=[])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, markerscale=1.6, columnspacing=1)
    return figure
