"""Figures that the notebooks of several papers show. Each is written to results/<data>/figures/<paper>, too."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from sklearn.metrics import silhouette_score

from merlib import figures
from merlib.data.folders import Dataset
from merlib.declarations import Paper
from merlib.study.notebook.results import Trained
from merlib.training import metrics


def shown(figure: Figure, data: str, place: str) -> Figure:
    """Write the figure as `place`, such as "hff/table3_per_class" (`figures.save`), and return it to be displayed."""
    figures.save(figure, data, *place.split("/"))
    return figure


def classes(paper: Paper, held: Mapping[str, Dataset], data: str) -> None:
    """Display the shares of the classes of each corpus, split by split, and the lengths of its dialogues."""
    for name, dataset in held.items():
        display(shown(figures.corpus_shape(dataset.corpus, data=data), data, f"{paper.id}/{name}_classes"))


def transitions(paper: Paper, held: Mapping[str, Dataset], data: str) -> None:
    """Display how often each emotion follows each other one."""
    for name, dataset in held.items():
        display(shown(figures.transitions(dataset.corpus, data=data), data, f"{paper.id}/{name}_transitions"))


def lengths(dataset: Dataset, arrays: Mapping[str, str], data: str, place: str) -> Figure:
    """How many steps the utterances of a corpus have, a panel a modality; arrays: modality -> name of its array."""
    features = {modality: dataset.features[name] for modality, name in arrays.items() if name in dataset.features}
    figure, axes = figures.canvas("Lengths of the sequences", data, len(features), size=(4.2, 2.8))
    for ax, (modality, feature) in zip(axes, features.items(), strict=True):
        steps = np.ones(len(feature.values)) if feature.lengths is None else feature.lengths
        ax.hist(steps, bins=min(30, len(set(steps))), color=figures.OURS, edgecolor="white")
        title = f"{modality}: {feature.values.shape[-1]} values a step"
        ax.set(title=title, xlabel="steps of an utterance", ylabel="utterances")
    return shown(figure, data, place)


def sequences(panels: Mapping[str, np.ndarray], data: str, place: str) -> Figure:
    """Sequences (t d) as images: time runs to the right, a row is one value of a step; standardised values."""
    figure, axes = figures.canvas("Sequences", data, len(panels), size=(4.0, 3.2))
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        ax.imshow(np.asarray(values, np.float32).T, aspect="auto", origin="lower", cmap="RdBu", vmin=-3, vmax=3)
        ax.set(title=title, xlabel="step", ylabel="value")
    return shown(figure, data, place)


def curves(paper: Paper, table: str, trained: Sequence[Trained], rows: Sequence[str], data: str) -> None:
    """Display the learning curves of those of the rows that have run, of the first fold."""
    for each in trained:
        if each.row.id in rows and each.run.fold == 0:
            title = f"{each.row.label}, {each.run.corpus}, seed {each.run.seed}"
            figure = figures.learning_curves(each.result, data=data, title=title)
            display(shown(figure, data, f"{paper.id}/{table}_{each.row.id}_{each.run.corpus}_curves"))


def panel(trained: Sequence[Trained]) -> dict[str, Any]:
    """The test utterances of several runs (folds, seeds) together: y_true (u), y_pred (u), labels (c)."""
    predictions = [each.predictions for each in trained]
    y_true, y_pred = (np.concatenate([p[name] for p in predictions]) for name in ("y_true", "val_pred"))
    return {"y_true": y_true, "y_pred": y_pred, "labels": tuple(trained[0].result["labels"])}


def confusions(panels: Mapping[str, Mapping[str, Any]], data: str, place: str) -> Figure:
    """One confusion matrix a panel; a row is a true class, and its diagonal the recall."""
    return shown(figures.confusions(panels, data=data), data, place)


def pairs(panels: Mapping[str, Mapping[str, Any]], *, most: int = 5) -> pd.DataFrame:
    """The largest confusions of each panel, both directions together, as a share of the utterances of both classes."""
    lines = []
    for title, each in panels.items():
        matrix, names = metrics.confusion(**each), each["labels"]
        total = matrix.sum(axis=1)
        for j, k in zip(*np.triu_indices(len(names), 1), strict=True):
            mixed = matrix[j, k] + matrix[k, j]
            lines.append((title, f"{names[j]} / {names[k]}", mixed, 100 * mixed / max(total[j] + total[k], 1)))
    table = pd.DataFrame(lines, columns=["panel", "pair", "utterances", "% of both"])
    return table.sort_values(["panel", "% of both"], ascending=[True, False]).groupby("panel").head(most).round(1)


def plane(trained: Trained, *, most: int, method: Literal["tsne", "umap"] = "tsne") -> dict[str, Any]:
    """The embeddings of a run's test utterances in the plane: points (n 2), y_true (n), labels (c)."""
    predictions = trained.predictions
    rows, points = figures.project(predictions["embedding"], method=method, seed=trained.run.seed, most=most)
    return {"points": points, "y_true": predictions["y_true"][rows], "labels": trained.result["labels"]}


def silhouettes(trained: Mapping[str, Trained]) -> pd.DataFrame:
    """The silhouette of each run's embeddings, in their own space, by true and by predicted emotion.

    The mean of (b - a) / max(a, b), with a the mean distance to the own class and b that to the nearest other one: 1
    well apart, 0 overlapping. Not a number where all utterances are of one class.
    """
    lines = {}
    for title, each in trained.items():
        predictions = each.predictions
        known = predictions["y_true"] >= 0
        z, by = predictions["embedding"].astype(np.float32)[known], {}
        for name, key in (("true emotion", "y_true"), ("predicted emotion", "val_pred")):
            labels = predictions[key][known]
            by[name] = silhouette_score(z, labels) if 1 < len(set(labels)) < len(labels) else np.nan
        lines[title] = by
    return pd.DataFrame(lines).T.round(3)
