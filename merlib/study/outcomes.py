"""Outcomes: what a clone without data needs to compute intervals anew, a few kB a run.

They lie in results/<data>/outcomes/<run>.npz:

    counts_val, counts_test_peak   confusion counts of each cluster and selection, k c c, true x predicted. A cluster is
                   a dialogue, a video or, where every clip is a dialogue of its own, an actor: utterances inside one
                   are not independent.
    binary_val ... the same of the two classes of acc2, k 2 2, on the sentiment corpora
    right_val, right_test_peak     one bit an utterance: whether its class is right
    order          a hash of the order of the utterances; runs with the same hash have the same test utterances
    val_n          utterances in the validation split with a label that counts

No text, feature, id or label of an utterance is kept, and the true label of no utterance follows from what is: bits and
clusters stand in an order that is drawn with a key made of the ids and labels of the whole corpus, which only those who
have all labels can draw again. So no bit belongs to a known utterance, in one run or in many. A cluster is known by its
size at most; one whose utterances all have the same true label is joined with others until two labels occur, so that a
size tells no label either. A corpus of so few labels that they could all be guessed leaves no outcomes.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from merlib.data import official
from merlib.data.table import COPY
from merlib.declarations import Cell
from merlib.declarations.schema import OF_CLASS
from merlib.files import atomic
from merlib.places import results_folder
from merlib.study.records import RecordsError
from merlib.study.statistics import Statistic

if TYPE_CHECKING:
    from merlib.study.runs import Run

KEY_BITS = 128  # of labels, so that nobody finds the key by trying
BINARY = ("acc2", "f1_acc2")  # metrics of two classes, on the sentiment corpora
SELECTIONS = ("val", "test_peak")
DAMAGED = (OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of a run at one selection."""

    counts: np.ndarray  # k c c
    binary: np.ndarray | None  # k 2 2
    right: np.ndarray  # u, bools
    order: str
    val_n: int

    def counts_of(self, cell: Cell) -> np.ndarray | None:
        """The confusion counts that the score of a cell follows from."""
        return self.binary if cell.metric in BINARY else self.counts


def path_of(data: str, run: str) -> Path:
    return results_folder(data) / "outcomes" / f"{run}.npz"


def read(data: str, run: str, selection: str = "val") -> Outcomes | None:
    """None where a run has left none: records of before, and scores under a mask. RecordsError for a damaged file."""
    path = path_of(data, run)
    if not run or not path.is_file():
        return None
    try:
        with np.load(path) as kept:
            counts = kept[f"counts_{selection}"].astype(np.int64)
            right = np.unpackbits(kept[f"right_{selection}"], count=int(counts.sum())).astype(bool)
            binary = kept[f"binary_{selection}"].astype(np.int64) if f"binary_{selection}" in kept else None
            return Outcomes(counts, binary, right, str(kept["order"]), int(kept["val_n"]))
    except DAMAGED as error:
        remedy = "take back a version that a run wrote, or delete it, and `merlib run` of its row writes it anew"
        raise RecordsError(f"{path} is damaged ({type(error).__name__}: {error}): {remedy}") from None


def keep(run: "Run") -> None:
    """Write the outcomes of a finished run from its predictions; none under a mask, or if labels could be guessed."""
    corpus = run.dataset.corpus
    if _bits(corpus.table["label"]) < KEY_BITS or run.recipe["protocol"].get("mask_percent"):
        return
    with np.load(run.folder / "predictions.npz") as saved:
        predicted = {name: saved[f"{name}_pred"] for name in SELECTIONS if f"{name}_pred" in saved}
        val_n = run.labelled_counts()["val"]
        about = {"ids": saved["ids"], "y_true": saved["y_true"], "predicted": predicted}
        if "y_score" in saved:
            true = binary_classes(saved["y_score"], run.judge.binary)
            about["binary"] = {name: (*true, saved[f"{name}_binary"]) for name in predicted}
        write(path_of(run.data, run.id), table=corpus.table, classes=len(run.judge.labels), val_n=val_n, **about)


def binary_classes(score: np.ndarray, binary: str) -> tuple[np.ndarray, np.ndarray]:
    """Which utterances acc2 includes, and their true class, as `training.metrics.sentiment` has them."""
    included = score != 0 if binary == "excluded" else np.ones(len(score), dtype=bool)
    return included, official.ABOVE[binary](score).astype(int)


def write(
    path: Path, *, table: pd.DataFrame, ids: np.ndarray, y_true: np.ndarray, predicted: dict[str, np.ndarray],
    classes: int, val_n: int, binary: Mapping[str, tuple[np.ndarray, ...]] | None = None,
) -> None:  # fmt: skip
    """Keep outcomes. table: of the whole corpus; ids, y_true and predicted (by selection): of its test utterances.

    classes: how many there are. binary: by selection, whether acc2 includes an utterance, its true and its predicted
    class. Utterances without a label (-1) are left out.
    """
    key = _key(table)
    known = y_true >= 0
    ids, y_true = ids[known], y_true[known]
    order, digest = _order(key, ids)
    clusters = _clusters(key, table, ids, y_true)
    kept = {"order": digest, "val_n": val_n}
    for selection, y_pred in predicted.items():
        kept[f"counts_{selection}"] = _counts(clusters, y_true, y_pred[known], classes)
        kept[f"right_{selection}"] = np.packbits((y_pred[known] == y_true)[order])
    for selection, (included, true, y_pred) in (binary or {}).items():
        chosen = included[known]
        kept[f"binary_{selection}"] = _counts(clusters, true[known], y_pred[known], 2, chosen)
    with atomic(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **kept)


def _counts(
    clusters: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray, classes: int, chosen: np.ndarray | slice = slice(None)
) -> np.ndarray:  # fmt: skip
    """Confusion counts of each cluster, k c c, in the smallest type that holds them."""
    counts = np.zeros((clusters.max() + 1, classes, classes), np.int64)
    np.add.at(counts, (clusters[chosen], y_true[chosen], y_pred[chosen]), 1)
    return counts.astype(np.min_scalar_type(counts.max()))


def cluster_names(table: pd.DataFrame) -> pd.Series:
    """The cluster of every utterance of a corpus: its dialogue or video, or its actor where no dialogue has two."""
    single = table["dialogue"].nunique() == len(table)
    return table["speaker" if single else "dialogue"]


def _bits(labels: pd.Series) -> float:
    """How many bits the labels of a corpus hold: its size times the entropy of its classes (Shannon 1948)."""
    share = labels.value_counts(normalize=True).to_numpy()
    return float(-len(labels) * (share * np.log2(share)).sum())


def _key(table: pd.DataFrame) -> bytes:
    lines = "\n".join(f"{i} {label}" for i, label in zip(table["utterance"], table["label"], strict=True))
    return hashlib.sha256(lines.encode()).digest()


def _drawn(key: bytes, name: str) -> str:
    return hashlib.blake2b(name.encode(), key=key, digest_size=16).hexdigest()


def _order(key: bytes, ids: np.ndarray) -> tuple[np.ndarray, str]:
    """The order in which the bits of these utterances stand, as indices, and its hash."""
    drawn = np.array(sorted(range(len(ids)), key=lambda i: _drawn(key, ids[i])), dtype=int)
    return drawn, _drawn(key, "\n".join(sorted(ids)))


def right_of(kept: Outcomes, table: pd.DataFrame, ids: np.ndarray) -> np.ndarray | None:
    """Whether each of the labelled test utterances `ids` (u) is right, for those who have the table of the corpus.

    None where the run had other test utterances, or the corpus other labels.
    """
    order, digest = _order(_key(table), ids)
    if digest != kept.order:
        return None
    right = np.empty(len(ids), dtype=bool)
    right[order] = kept.right
    return right


def _clusters(key: bytes, table: pd.DataFrame, ids: np.ndarray, y_true: np.ndarray) -> np.ndarray:
    """The number of the cluster of each utterance, in drawn order, those of a single label joined with the next.

    An augmented copy that tests is in the cluster of its original.
    """
    names = dict(zip(table["utterance"], cluster_names(table), strict=True))
    names = np.array([str(names[i.removesuffix(COPY)]) for i in ids])
    drawn = sorted(set(names), key=lambda name: _drawn(key, f"cluster {name}"))
    number, at, held = {}, 0, set()
    for name in drawn:
        number[name] = at
        held |= set(y_true[names == name].tolist())
        if len(held) > 1:
            at, held = at + 1, set()
    if held and at:  # the last ones have a single label: they join the cluster before
        number = {name: min(n, at - 1) for name, n in number.items()}
    return np.array([number[name] for name in names])


def score(cell: Cell) -> Statistic | None:
    """The function from `counts_of` the cell (... c c) to its score, in percent; None where counts do not tell it."""
    name, average = cell.metric, ""
    if name.startswith(("macro_", "weighted_")):
        average, name = name.split("_", 1)
    if name in OF_CLASS and not average:
        at = official.LABELS[cell.corpus].index(cell.emotion)
        return lambda counts: 100 * _of_classes(name, counts)[..., at]
    of_all = {
        "macro": lambda counts: 100 * _of_classes(name, counts).mean(-1),
        "weighted": lambda counts: 100 * _weighted(_of_classes(name, counts), counts.sum(-1)),
    }
    plain = {
        "accuracy": _accuracy, "acc7": _accuracy, "acc2": _accuracy, "balanced_accuracy": _balanced,
        "f1_acc2": lambda counts: 100 * _weighted(_of_classes("f1", counts), counts.sum(-1)),
    }  # fmt: skip
    return of_all.get(average) if average else plain.get(name)


def _of_classes(name: str, counts: np.ndarray) -> np.ndarray:
    """Precision, recall or F1 of each class, 0 where it is not defined (as scikit-learn's zero_division = 0)."""
    right = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    true, said = counts.sum(-1), counts.sum(-2)
    below = {"precision": said, "recall": true, "f1": (true + said) / 2}[name]
    return np.divide(right, below, out=np.zeros_like(right), where=below > 0)


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (values * weights).sum(-1) / weights.sum(-1)


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return 100 * np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))


def _balanced(counts: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that occur."""
    occur = counts.sum(-1) > 0
    return 100 * (_of_classes("recall", counts) * occur).sum(-1) / occur.sum(-1)
