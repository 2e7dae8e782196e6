"""Runs, scores and figures of them, as the notebooks of a paper show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from sklearn.metrics import silhouette_score

from merlib import figures, origins, study
from merlib.data import folders
from merlib.data.official import NAMES
from merlib.declarations import Paper, Row
from merlib.study.notebook.inputs import shown
from merlib.study.recorded import records_path
from merlib.study.runs import Run
from merlib.training import metrics
from merlib.training.runaway import ran_away

SCORES = [
    "label", "column", "printed", "reproduced", "spread", "noise", "n_seeds", "n_folds", "test_peak", "difference",
    "inputs", "verdict",
]  # fmt: skip
RECORD = ["data", "row", "column", "fold", "seed", "selection", "value"]  # of a record, what the notebooks read


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run of a table, the row that it belongs to, and its result (run.json)."""

    row: Row
    run: Run
    result: dict[str, Any]

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """predictions.npz: ids, y_true, val_pred, embedding and the like of the test split (u ...)."""
        with np.load(self.run.folder / "predictions.npz") as arrays:
            return dict(arrays)


def train(
    paper: Paper, table: str, *, rows: Sequence[str] = (), data: str, seeds: Sequence[int]
) -> tuple[pd.DataFrame, list[Trained]]:
    """Train what is missing of a table, or of some of its rows, and write its records.

    Returns the records, and the runs of the first seed. Both are empty where the root has no corpus of the table.
    """
    corpora = {column.corpus or paper.corpora[0] for column in paper.table(table).columns.values()}
    if corpora.isdisjoint(folders.corpora(data)):
        return pd.DataFrame(columns=RECORD), []
    records = study.run_table(paper.id, table, row=rows, data=data, seeds=tuple(seeds))
    trained = results(paper, table, rows=rows, data=data, seeds=seeds[:1])
    return records.reindex(columns=list(dict.fromkeys([*records, *RECORD]))), trained


def results(
    paper: Paper, table: str, *, rows: Sequence[str] | str = (), data: str, seeds: Sequence[int]
) -> list[Trained]:
    """The runs of a table, or of some of its rows, with every seed; what is missing is trained, without a record."""
    origins.note(records_path(paper.id, table, data))
    planned = [each for seed in seeds for each in study.runs_of(paper, table, row=rows, data=data, seed=seed)]
    return [Trained(row, run, study.execute(run, label=f"{row.id} {corpus}")) for row, corpus, run in planned]


def runs(trained: Sequence[Trained]) -> pd.DataFrame:
    """One line a run: what it saw, its size and cost, when it was selected, and which classes it never predicts."""
    columns = [
        "row", "corpus", "fold", "modalities", "parameters", "last loss", "epoch", "seconds", "MB", "device",
        "never predicted",
    ]  # fmt: skip
    lines = []
    for each in trained:
        run, result, best, history = each.run, each.result, each.result["selected"]["val"], each.result["history"]
        lines.append([
            each.row.id, run.corpus, run.fold, run.recipe["data"]["modalities"], result["parameters"],
            history[-1].get("train/loss") if history else None, f"{best['epoch'] + 1} of {len(history)}",
            result["seconds"], result["peak_memory_mb"], result["device"], ", ".join(best["never_predicted"]),
        ])  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def scores(comparison: pd.DataFrame) -> pd.DataFrame:
    """Printed beside reproduced, without the columns that say how it was measured; `study.compare` explains them."""
    return comparison[SCORES].round(2)


def chance(paper: Paper, table: str, row: str, *, data: str, seeds: Sequence[int]) -> pd.DataFrame:
    """The row beside every other that has run, by a test and an interval (`study.against`); empty where it has not."""
    try:
        return study.against(paper.id, table, row, data=data, seeds=seeds).round(4)
    except FileNotFoundError:
        return pd.DataFrame()


def selection_gap(records: pd.DataFrame, column: str) -> pd.DataFrame:
    """What choosing the epoch on the test set adds to the scores of a column: the mean over seeds and folds."""
    chosen = records[records["column"] == column].astype({"value": float})
    wide = chosen.pivot_table(index="row", columns="selection", values="value", sort=False)
    wide = wide.reindex(columns=["val", "test_peak"])
    return wide.assign(gap=wide["test_peak"] - wide["val"]).round(2)


def alarm(trained: Sequence[Trained]) -> None:
    """Print which runs never predict a class that occurs, at the epoch of either selection, and what ran away."""
    for each in trained:
        where = f"{each.row.label}, {each.run.corpus}, fold {each.run.fold}"
        for selection, scores in each.result["selected"].items():
            if scores["never_predicted"]:
                print(f"{where} ({selection}): never predicts {', '.join(scores['never_predicted'])}")
        for term, epoch in ran_away(each.result["history"]).items():
            print(f"{where}: the term {term} of the loss runs away in epoch {epoch + 1}")
    print(len(trained), "runs checked")


def ranges(comparison: pd.DataFrame, by: Any = "column") -> pd.DataFrame:
    """How far the scores of each group lie apart, beside what chance allows.

    `order` is Kendall's rank correlation between printed and reproduced: 1 the same order, 0 none.
    """
    lines = {}
    for key, cells in comparison.groupby(by, sort=False):
        score = cells[["printed", "reproduced", "noise", "spread"]].astype(float)
        span, mean = score.max() - score.min(), score.mean()
        order = score["printed"].corr(score["reproduced"], method="kendall", min_periods=3)
        lines[key] = {
            "printed range": span["printed"], "reproduced range": span["reproduced"], "noise ±": mean["noise"],
            "spread": mean["spread"], "order": order,
        }  # fmt: skip
    return pd.DataFrame(lines).T.round(2)


def winners(comparison: pd.DataFrame, by: Any = "column") -> pd.DataFrame:
    """The rows with the highest score of each group, in print and here."""
    lines = {}
    for key, cells in comparison.groupby(by, sort=False):
        best = {name: cells.loc[cells[name] == cells[name].max(), "label"] for name in ("printed", "reproduced")}
        lines[key] = {name: ", ".join(labels) or "absent" for name, labels in best.items()}
    return pd.DataFrame(lines).T


def curves(paper: Paper, table: str, trained: Sequence[Trained], rows: Sequence[str], data: str) -> None:
    """Display the learning curves of those of the rows that have run, of the first fold."""
    for each in trained:
        if each.row.id in rows and each.run.fold == 0:
            title = f"{each.row.label}, {NAMES[each.run.corpus]}, seed {each.run.seed}"
            figure = figures.learning_curves(each.result, data=data, title=title)
            display(shown(figure, data, f"{paper.id}/{table}_{each.row.id}_{each.run.corpus}_curves"))


def multiverse(paper: Paper, data: str) -> pd.DataFrame:
    """Display the specification curve of each headline score; returns the share of its variance by reading.

    Only draws that have run are shown; where none has, it prints what to run.
    """
    shares = {}
    for column in study.multiverse.headlines(paper):
        scores = study.multiverse.scores(paper, column, data)
        if len(scores):
            title = f"{column}: {scores['row'].nunique()} joint choices of readings"
            lines = study.multiverse.beside(paper, column, data)
            figure = figures.specification_curve(scores, data=data, title=title, lines=lines)
            display(shown(figure, data, f"{paper.id}/multiverse_{column}"))
            shares[column] = study.multiverse.shares(scores)
    if not shares:
        command = f"merlib multiverse {paper.id} --draws {study.multiverse.DRAWS} --seeds 0,1 --data {data}"
        print(f"no draw has run on {data!r}: run `{command}`, then this cell again")
    return pd.concat(shares, axis=1) if shares else pd.DataFrame()


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
