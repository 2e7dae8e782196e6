"""Two systems on the same test utterances: does one really do better, or is it chance? (McNemar 1947, the exact test)

A mean of two scores hides that both were asked the same. What counts are the utterances that only one of the two gets
right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from merlib import declarations
from merlib.declarations import Paper
from merlib.errors import RequestError
from merlib.study.plan import runs_of
from merlib.study.runs import Run

COLUMNS = ["other", "corpus", "seed", "n_folds", "n", "accuracy", "accuracy_other", "only_this", "only_other", "p"]


def mcnemar(this: np.ndarray, other: np.ndarray) -> float:
    """p of the exact test, two-sided: that a fair coin gives so uneven a share of the utterances that one alone has
    right.

    this, other: whether each is right, u bools. 1 where they never differ. Utterances of one dialogue are not
    independent, so that p is rather too small; it knows nothing of other seeds.
    """
    alone = int((this & ~other).sum())
    differ = int((this != other).sum())
    return float(binomtest(alone, differ).pvalue) if differ else 1.0


def against(
    paper: str, table: str, row: str, *, others: Sequence[str] = (), data: str = "twin", seeds: Sequence[int] = (0,)
) -> pd.DataFrame:  # fmt: skip
    """A row of a table beside others (or all), a line for each, corpus and seed; runs are those in the cache, nothing
    is trained.

    n: test utterances with a label, of all folds that both have run; accuracy, accuracy_other: percent of them;
    only_this, only_other: how many only one of the two classifies rightly (of a sentiment corpus, into seven classes);
    p: see `mcnemar`. Left out are rows that are the same run, those with other test utterances, and those that score
    masked inputs. Raises FileNotFoundError where the row, or one that is named, has no run, ValueError where none that
    is named can stand beside it.
    """
    declared = declarations.load(paper)
    lines = []
    for seed in seeds:
        answers = _answers(declared, table, rows=[row, *others] if others else (), data=data, seed=seed)
        ran = {name for name, _ in answers}
        if missing := [name for name in (row, *others) if name not in ran]:
            command = f"merlib run {paper} {table} {' '.join(missing)} --data {data} --seeds {seed}"
            raise FileNotFoundError(f"no predictions of {', '.join(missing)}, seed {seed}, in results/cache: {command}")
        for (name, corpus), theirs in answers.items():
            ours = answers.get((row, corpus), {})
            folds = sorted(ours.keys() & theirs.keys())
            same_run = all(ours[k].run == theirs[k].run for k in folds)  # the row itself, or one that asks for the same
            if not same_run and all(ours[k].ids == theirs[k].ids for k in folds):
                pair = [np.concatenate([each[k].right for k in folds]) for each in (ours, theirs)]
                lines.append({"other": name, "corpus": corpus, "seed": seed, "n_folds": len(folds)} | _line(*pair))
    if others and not lines:
        raise RequestError(
            f"{row} and {', '.join(others)} cannot be compared: name rows of one corpus and protocol, and other runs"
        )
    return pd.DataFrame(lines, columns=COLUMNS)


@dataclass(frozen=True)
class Answers:
    """What a run predicted: the ids of the test utterances with a label, and whether it is right about each."""

    run: str
    ids: list[str]
    right: np.ndarray


def _answers(
    paper: Paper, table: str, *, rows: Sequence[str], data: str, seed: int
) -> dict[tuple[str, str], dict[int, Answers]]:
    """(row, corpus) -> the answers of each fold that has run; those that score masked inputs are left out."""
    answers: dict[tuple[str, str], dict[int, Answers]] = {}
    for each, corpus, run in runs_of(paper, table, row=rows, data=data, seed=seed):
        if (run.folder / "run.json").exists() and not run.recipe["protocol"].get("mask_percent"):
            answers.setdefault((each.id, corpus), {})[run.fold] = _right(run)
    return answers


def _right(run: Run) -> Answers:
    """The answers at the epoch that the run's row selects."""
    with np.load(run.folder / "predictions.npz") as saved:
        known = saved["y_true"] >= 0
        predicted = saved[f"{run.recipe['protocol'].get('select', 'val')}_pred"]
        return Answers(run.id, saved["ids"][known].tolist(), (predicted == saved["y_true"])[known])


def _line(this: np.ndarray, other: np.ndarray) -> dict[str, float]:
    return {
        "n": len(this), "accuracy": 100 * this.mean(), "accuracy_other": 100 * other.mean(),
        "only_this": int((this & ~other).sum()), "only_other": int((other & ~this).sum()), "p": mcnemar(this, other),
    }  # fmt: skip
