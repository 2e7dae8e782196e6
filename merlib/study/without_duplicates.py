"""Every headline score once more, on test utterances whose line does not stand in training: `merlib leaks --scores`.

The rows and columns are those of the scoreboard (`report.headline_columns`). The scores are those of the recorded runs,
from their predictions where this machine has them in results/cache; else from the bits that runs leave for a clone
(`outcomes`), which tell accuracy and nothing else, to those who have the corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.data import duplicates, folders, official, splits
from merlib.data.table import Corpus
from merlib.declarations import Cell, Paper, Table
from merlib.files import is_as_written
from merlib.places import run_folder
from merlib.study import outcomes, report
from merlib.study.comparison import records_of

COLUMNS = [
    "paper", "table", "row", "label", "column", "metric", "seeds", "folds", "n", "score", "n_new", "score_new", "n_far",
    "score_far", "note",
]  # fmt: skip


class Scored(NamedTuple):
    """A run: its test utterances with a label, and its score on any of them (u bools -> percent)."""

    ids: np.ndarray
    score: Callable[[np.ndarray], float]
    bits: bool  # that tell accuracy, not the score of the cell


def scores(data: str, corpora: Sequence[str] = ()) -> pd.DataFrame:
    """One line for each row and headline score on these corpora, or all of the root: means over seeds and folds.

    In percent. n, score: of all test utterances; n_new, score_new: without those of five words or more whose line
    stands in training word for word; n_far, score_far: without those that are near one of training, too. seeds, folds:
    of the recorded runs that have left predictions or bits; note: the command that makes those of the others.
    """
    lines = []
    for corpus in corpora or folders.corpora(data):
        study = _Study(data, folders.dataset(data, corpus, features=()).corpus)
        for paper in map(declarations.load, declarations.papers()):
            for table in paper.tables.values() if corpus in paper.corpora and paper.recipe else ():
                lines += study.lines(paper, table)
    return pd.DataFrame(lines, columns=COLUMNS).astype(dict.fromkeys(("n", "n_new", "n_far"), "Int64"))


class _Study:
    """The recorded runs of a corpus on a data root."""

    def __init__(self, data: str, corpus: Corpus):
        self.data, self.corpus = data, corpus
        self.place = {utterance: i for i, utterance in enumerate(corpus.ids)}
        self.alike = duplicates.lines(corpus.table["text"])
        self.known = cache(self._known)

    def lines(self, paper: Paper, table: Table) -> Iterator[dict[str, Any]]:
        records, names = records_of(paper.id, table.id, self.data), report.headline_columns(paper, table)
        cells = [(row, cell) for row in table.row if row.runs for cell in declarations.row_cells(paper, table, row)]
        for row, cell in cells:
            if cell.column not in names or cell.corpus != self.corpus.name or outcomes.score(cell) is None:
                continue
            recipe = declarations.recipe_of(paper, cell)
            selection = recipe["protocol"]["select"]
            runs = [r for r in records.get((row.id, cell.column), ()) if r.selection == selection]
            if runs and not recipe["protocol"].get("mask_percent"):
                about = {"paper": paper.id, "table": table.id, "row": row.id, "label": row.label, "column": cell.column}
                yield about | self._line(cell, recipe, runs, f"{paper.id} {table.id} {row.id}")

    def _line(self, cell: Cell, recipe: dict[str, dict], runs: list[Any], place: str) -> dict[str, Any]:
        scored = [(run, self._scored(cell, recipe, str(run.run), run.selection, run.fold)) for run in runs]
        left = [(run, of) for run, of in scored if of]
        left = [(run, of) for run, of in left if not of.bits] or left
        bits = any(of.bits for _, of in left)
        line = {"metric": "accuracy" if bits else cell.metric, "note": "from bits, which tell accuracy only" * bits}
        line |= {"seeds": len({run.seed for run, _ in left}), "folds": len({run.fold for run, _ in left})}
        masks = [self._masks(of.ids, recipe["protocol"], run.fold) for run, of in left]
        for name, chosen in zip(("", "_new", "_far"), zip(*masks, strict=True), strict=False):
            of_folds = {run.fold: int(mask.sum()) for (run, _), mask in zip(left, chosen, strict=True)}
            values = [of.score(mask) if mask.any() else np.nan for (_, of), mask in zip(left, chosen, strict=True)]
            line |= {f"n{name}": sum(of_folds.values()), f"score{name}": float(np.mean(values))}
        if len(left) < len(runs):
            seeds = ",".join(map(str, sorted({run.seed for run in runs})))
            command = f"merlib run {place} --data {self.data} --seeds {seeds}"
            missing = f"{len(left)} of {len(runs)} runs have left predictions or bits: {command}"
            line["note"] = "; ".join(filter(None, (line["note"], missing)))
        return line

    def _masks(self, ids: np.ndarray, protocol: dict[str, Any], fold: int) -> tuple[np.ndarray, ...]:
        """Which test utterances are all, those that are new, and those that are not even near a line of training."""
        places = [self.place[utterance] for utterance in ids]
        known = self.known(tuple(protocol.items()), fold)
        return np.ones(len(ids), dtype=bool), *(~of[places] for of in known)

    def _known(self, protocol: tuple, fold: int) -> list[np.ndarray]:
        """Whether the line of each utterance has enough words and stands in training: word for word, nearly."""
        training = ~splits.members(splits.assign(self.corpus.table, dict(protocol), fold), "test")
        return [lines.long & lines.stands_in(training) for lines in self.alike]

    def _scored(self, cell: Cell, recipe: dict[str, dict], run: str, selection: str, fold: int) -> Scored | None:
        file = run_folder(run) / "predictions.npz"
        if run and is_as_written(file):
            with np.load(file) as saved:
                return _of_predictions(cell, recipe, dict(saved), selection)
        if (kept := outcomes.read(self.data, run, selection)) is None:
            return None
        table = self.corpus.table
        test = splits.members(splits.assign(table, recipe["protocol"], fold), "test")
        ids = table["utterance"].to_numpy()[test & table["label"].between(0, _classes(cell, recipe) - 1).to_numpy()]
        right = outcomes.right_of(kept, table, ids)
        return None if right is None else Scored(ids, lambda chosen: 100 * right[chosen].mean(), bits=True)


def _of_predictions(cell: Cell, recipe: dict[str, dict], saved: dict[str, np.ndarray], selection: str) -> Scored:
    """The score of a cell, by the confusion counts of the chosen utterances."""
    known = saved["y_true"] >= 0
    y_true, y_pred, classes = saved["y_true"], saved[f"{selection}_pred"], _classes(cell, recipe)
    if cell.metric in outcomes.BINARY:
        binary = recipe["protocol"].get("binary", "nonnegative")
        included, y_true = outcomes.binary_classes(saved["y_score"], binary)
        known, y_pred, classes = known & included, saved[f"{selection}_binary"], 2
    y_true, y_pred = y_true[known].astype(int), y_pred[known].astype(int)

    def score(chosen: np.ndarray) -> float:
        counts = np.bincount(y_true[chosen] * classes + y_pred[chosen], minlength=classes**2)
        return float(outcomes.score(cell)(counts.reshape(classes, classes)))

    return Scored(saved["ids"][known], score, bits=False)


def _classes(cell: Cell, recipe: dict[str, dict]) -> int:
    return recipe["data"].get("classes", len(official.LABELS[cell.corpus]))
