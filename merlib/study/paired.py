"""Two systems on the same test utterances: is one of them better, or is it chance? (McNemar 1947, the exact test)

Two mean scores do not show that both systems had the same utterances. The test counts the utterances that only one of
them classifies correctly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.declarations import Paper
from merlib.errors import RequestError
from merlib.study.planning import runs_of
from merlib.study.runs import Run
from merlib.study.statistics import mcnemar

COLUMNS = ["other", "corpus", "seed", "n_folds", "n", "accuracy", "accuracy_other", "only_this", "only_other", "p"]


def against(
    paper: str, table: str, row: str, *, others: Sequence[str] = (), data: str = "twin", seeds: Sequence[int] = (0,)
) -> pd.DataFrame:  # fmt: skip
    """A row of a table against others (or all): one line for each row, corpus and seed, from cached runs only.

    n: test utterances with a label, of all folds that both have run; accuracy, accuracy_other: percent of them;
    only_this, only_other: how many only one of the two classifies correctly (on a sentiment corpus, into seven
    classes); p: see `mcnemar`. Left out are rows that are the same run, rows with other test utterances, and rows that
    score masked inputs. Raises FileNotFoundError where the row, or one of `others`, has no run, and RequestError where
    none of `others` can be compared with it.
    """
    declared = declarations.load(paper)
    lines = []
    for seed in seeds:
        predictions = _predictions(declared, table, rows=[row, *others] if others else (), data=data, seed=seed)
        finished = {name for name, _ in predictions}
        if missing := [name for name in (row, *others) if name not in finished]:
            command = f"merlib run {paper} {table} {' '.join(missing)} --data {data} --seeds {seed}"
            raise FileNotFoundError(f"no predictions of {', '.join(missing)}, seed {seed}, in results/cache: {command}")
        for (name, corpus), other in predictions.items():
            this = predictions.get((row, corpus), {})
            folds = sorted(this.keys() & other.keys())
            same_run = all(this[k].run == other[k].run for k in folds)  # the row itself, or a row with the same recipe
            if not same_run and all(this[k].ids == other[k].ids for k in folds):
                a, b = (np.concatenate([system[k].correct for k in folds]) for system in (this, other))
                scores = [100 * a.mean(), 100 * b.mean(), int((a & ~b).sum()), int((b & ~a).sum()), mcnemar(a, b)]
                lines.append([name, corpus, seed, len(folds), len(a), *scores])
    if others and not lines:
        raise RequestError(
            f"{row} and {', '.join(others)} cannot be compared: name rows of one corpus and protocol, and other runs"
        )
    return pd.DataFrame(lines, columns=COLUMNS)


@dataclass(frozen=True)
class Predictions:
    """The ids of the test utterances with a label, and whether a run classifies each correctly."""

    run: str
    ids: list[str]
    correct: np.ndarray


def _predictions(
    paper: Paper, table: str, *, rows: Sequence[str], data: str, seed: int
) -> dict[tuple[str, str], dict[int, Predictions]]:
    """(row, corpus) -> the predictions of each fold that has run, without rows that score masked inputs."""
    predictions: dict[tuple[str, str], dict[int, Predictions]] = {}
    for declared, corpus, run in runs_of(paper, table, row=rows, data=data, seed=seed):
        if run.finished and not run.recipe["protocol"].get("mask_percent"):
            predictions.setdefault((declared.id, corpus), {})[run.fold] = _of_run(run)
    return predictions


def _of_run(run: Run) -> Predictions:
    """The predictions at the epoch that the run's row selects."""
    with np.load(run.folder / "predictions.npz") as saved:
        known = saved["y_true"] >= 0
        predicted = saved[f"{run.recipe['protocol'].get('select', 'val')}_pred"]
        return Predictions(run.id, saved["ids"][known].tolist(), (predicted == saved["y_true"])[known])
