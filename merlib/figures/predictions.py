"""Predictions of a run on its test split: confusion matrices and embeddings in the plane."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from merlib.figures.style import COLOURS, canvas
from merlib.training import metrics


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
    """One scatter plot per panel, coloured by true emotion.

    panels: title -> points (n 2), y_true (n) and labels (c).
    """
    figure, axes = canvas("Fused embeddings of the test split", data, len(panels), size=(5.2, 5.0))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        for index, label in enumerate(panel["labels"]):
            x, y = panel["points"][panel["y_true"] == index].T
            ax.scatter(x, y, s=14, c=COLOURS[label], label=label, edgecolors="black", linewidths=0.2)
        ax.set(title=title, xticks=[], yticks=[])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, markerscale=1.6, columnspacing=1)
    return figure
