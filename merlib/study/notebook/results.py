"""Runs and scores, as the notebooks of a paper show them. Training is `study.run_table` and `study.execute`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from merlib import study
from merlib.data import folders
from merlib.declarations import Paper, Row
from merlib.study.runs import Run

SCORES = [
    "label", "column", "printed", "reproduced", "spread", "noise", "n_seeds", "n_folds", "test_peak", "difference",
    "verdict",
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
    if not corpora & set(folders.corpora(data)):
        return pd.DataFrame(columns=RECORD), []
    records = study.run_table(paper.id, table, row=rows, data=data, seeds=tuple(seeds))
    trained = results(paper, table, rows=rows, data=data, seeds=seeds[:1])
    return records.reindex(columns=list(dict.fromkeys([*records, *RECORD]))), trained


def results(
    paper: Paper, table: str, *, rows: Sequence[str] | str = (), data: str, seeds: Sequence[int]
) -> list[Trained]:
    """The runs of a table, or of some of its rows, with every seed; what is missing is trained, without a record."""
    planned = [each for seed in seeds for each in study.runs_of(paper, table, row=rows, data=data, seed=seed)]
    return [Trained(row, run, study.execute(run, label=f"{row.id} {corpus}")) for row, corpus, run in planned]


def runs(trained: Sequence[Trained]) -> pd.DataFrame:
    """One line a run: what it saw, its size and cost, when it was selected, and which classes it never predicts."""
    lines = []
    for each in trained:
        best, history = each.result["selected"]["val"], each.result["history"]
        lines.append({
            "row": each.row.id, "corpus": each.run.corpus, "fold": each.run.fold,
            "modalities": each.run.recipe["data"]["modalities"], "parameters": each.result["parameters"],
            "last loss": history[-1].get("train/loss") if history else None,
            "epoch": f"{best['epoch'] + 1} of {len(history)}", "seconds": each.result["seconds"],
            "MB": each.result["peak_memory_mb"], "device": each.result["device"],
            "never predicted": ", ".join(best["never_predicted"]),
        })  # fmt: skip
    columns = ["row", "corpus", "fold", "modalities", "parameters", "last loss", "epoch"]
    return pd.DataFrame(lines, columns=[*columns, "seconds", "MB", "device", "never predicted"])


def scores(comparison: pd.DataFrame) -> pd.DataFrame:
    """Printed beside reproduced (`study.compare`), without the columns that say how it was measured.

    `reproduced` is the mean over seeds and folds at the epoch selected on validation, `spread` their standard
    deviation, `noise` half the interval that the size of the test split alone allows; `within`: they explain the
    difference.
    """
    return comparison[SCORES].round(2)


def chance(paper: Paper, table: str, row: str, *, data: str, seeds: Sequence[int]) -> pd.DataFrame:
    """The row beside every other that has run, by McNemar's exact test (`study.against`); empty where it has not."""
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
    """Print which runs never predict a class that occurs, at the epoch of either selection."""
    for each in trained:
        for selection, scores in each.result["selected"].items():
            if scores["never_predicted"]:
                where = f"{each.row.label}, {each.run.corpus}, fold {each.run.fold} ({selection})"
                print(f"{where}: never predicts {', '.join(scores['never_predicted'])}")
    print(len(trained), "runs checked")


def ranges(comparison: pd.DataFrame, by: Any = "column") -> pd.DataFrame:
    """How far the scores of each group lie apart, beside what chance allows.

    `order` is Kendall's rank correlation between printed and reproduced: 1 the same order, 0 none.
    """
    lines = {}
    for key, cells in comparison.groupby(by, sort=False):
        score = {name: cells[name].astype(float) for name in ("printed", "reproduced", "noise", "spread")}
        lines[key] = {
            "printed range": score["printed"].max() - score["printed"].min(),
            "reproduced range": score["reproduced"].max() - score["reproduced"].min(),
            "noise ±": score["noise"].mean(),
            "spread": score["spread"].mean(),
            "order": score["printed"].corr(score["reproduced"], method="kendall", min_periods=3),
        }
    return pd.DataFrame(lines).T.round(2)


def winners(comparison: pd.DataFrame, by: Any = "column") -> pd.DataFrame:
    """The rows with the highest score of each group, in print and here."""
    lines = {}
    for key, cells in comparison.groupby(by, sort=False):
        best = {name: cells.loc[cells[name] == cells[name].max(), "label"] for name in ("printed", "reproduced")}
        lines[key] = {name: ", ".join(labels) or "absent" for name, labels in best.items()}
    return pd.DataFrame(lines).T
