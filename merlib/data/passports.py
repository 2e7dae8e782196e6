"""The passport of a feature array, and the checks that its values must pass.

Values are n ..., one row per utterance; those of sequences have `lengths` (n, int64, each 1 or more) and are (sum of
lengths, ...), the steps of one utterance one after the other. They are floats, or the bytes of images (0 to 255).
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from merlib.data.corpus import MODALITIES, Array, Corpus
from merlib.errors import MerlibError

AGAIN = "Delete the file and import or encode it again."
BLOCK = 1 << 22  # values that are checked at a time, so that a check needs little memory beside them


class FeatureError(MerlibError, ValueError):
    """A feature file that must not be used; the message names the file, the utterance and the remedy."""


@dataclass(frozen=True)
class Passport:
    """The origin of an array: its utterances, its extractor, what that was trained and fitted on, and a hash.

    `shape` is that of the values; `steps` is the length of the longest sequence, None where an utterance is one row;
    `failed` names the utterances whose recording could not be used, which have zeros; `inputs` is a hash of the
    recordings and settings that an extraction read. `layers_above`: how many layers of the encoder come after the one
    that these states were taken from; a network that holds those layers reads such states without standardising them.
    """

    corpus: str
    modality: str
    name: str
    ids: tuple[str, ...]
    extractor: str
    version: str
    weights_sha256: str
    trained_on: str
    fitted_on: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    steps: int | None = None
    failed: tuple[str, ...] = ()
    inputs: str = ""
    layers_above: int = 0

    def summary(self) -> str:
        """One short line for records, e.g. `text: all-MiniLM-L6-v2 masked mean, alone (384)`; sequences: (t x 384)."""
        time = "" if self.steps is None else "t x "
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.modality}: {self.extractor} ({time}{'x'.join(map(str, self.shape[1:]))}){failed}"


@dataclass(frozen=True, eq=False)
class Feature:
    """Values in the order of the ids that a reader gave, and their passport (whose `ids` keep the order of the file).

    Values are (n, ...), one row per utterance; or, with `lengths` (n), sequences: (sum of lengths, ...). An array that
    comes from no file has no passport.
    """

    values: np.ndarray
    passport: Passport | None
    lengths: np.ndarray | None = None

    @property
    def layers_above(self) -> int:
        """How many layers of the encoder come after the one that the states were taken from (see `Passport`)."""
        return self.passport.layers_above if self.passport else 0


def is_storable(dtype: np.dtype) -> bool:
    """Whether values of this type can be a feature: floats, or the bytes of images."""
    return dtype.kind == "f" or dtype == np.uint8


def digest(values: np.ndarray, lengths: np.ndarray | None = None) -> str:
    """sha256 of the bytes of the values, then of the lengths if there are any; row-major and little-endian."""
    total = hashlib.sha256()
    for array in (values, lengths):
        if array is not None:
            total.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))
    return total.hexdigest()


def passport(corpus: Corpus, name: str, array: Array) -> Passport:
    """The passport of `array` as the feature `name` of `corpus`; its rows are the utterances of the corpus in order."""
    values, lengths = array.values, array.lengths
    origin = {k: v for k, v in vars(array).items() if k not in ("values", "lengths")}
    identity = {"corpus": corpus.name, "name": name, "ids": corpus.ids, "sha256": digest(values, lengths)}
    return Passport(**identity, **origin, shape=tuple(values.shape), dtype=str(values.dtype), steps=_longest(lengths))


def check_array(values: np.ndarray, lengths: np.ndarray | None, passport: Passport, file: str) -> None:
    """Raise FeatureError unless values and lengths agree with the passport: finite, for every id, the same hash."""
    actual, expected = (tuple(values.shape), str(values.dtype)), (passport.shape, passport.dtype)
    if actual != expected:
        raise FeatureError(f"{file}: holds {actual}, its passport says {expected}. {AGAIN}")
    if passport.modality not in MODALITIES or not is_storable(values.dtype) or values.ndim < 2:
        expected = f"one of {MODALITIES} and floats or bytes of shape (n, ...)"
        raise FeatureError(f"{file}: found {passport.modality} {actual}, expected {expected}. Convert it first.")
    if (steps := _longest(lengths)) != passport.steps:
        actual, expected = (
            f"sequences of up to {s} steps" if s is not None else "one row" for s in (steps, passport.steps)
        )
        raise FeatureError(f"{file}: an utterance is {actual}, its passport says {expected}. {AGAIN}")
    rows, ids = len(values) if lengths is None else len(lengths), len(set(passport.ids))
    if len(passport.ids) != rows or ids != rows:
        raise FeatureError(f"{file}: {rows} rows for {ids} different ids. {AGAIN}")
    if lengths is not None:
        _check_lengths(values, lengths, passport, file)
    if bad := _not_finite(values, lengths):
        others = f"utterance {passport.ids[bad[0]]} and {len(bad) - 1} others"
        raise FeatureError(f"{file}: NaN or infinity at {others}. Extract them again.")
    if digest(values, lengths) != passport.sha256:
        raise FeatureError(f"{file}: the values' sha256 is not the passport's {passport.sha256[:12]}: damaged. {AGAIN}")


def _longest(lengths: np.ndarray | None) -> int | None:
    return None if lengths is None else int(lengths.max(initial=0))


def _check_lengths(values: np.ndarray, lengths: np.ndarray, passport: Passport, file: str) -> None:
    """Raise FeatureError unless lengths are integers of 1 or more and add up to the rows of `values`."""
    if lengths.dtype != np.int64 or lengths.ndim != 1:
        actual = f"lengths are {lengths.dtype} of shape {lengths.shape}, expected int64 of shape (n,)"
        raise FeatureError(f"{file}: {actual}. Convert them first.")
    if (short := np.flatnonzero(lengths < 1)).size:
        others = f"utterance {passport.ids[short[0]]} and {len(short) - 1} others"
        raise FeatureError(f"{file}: no step at {others}. Give each utterance one step or more.")
    if lengths.sum() != len(values):
        raise FeatureError(f"{file}: the lengths add up to {lengths.sum()} steps, found {len(values)}. {AGAIN}")


def _not_finite(values: np.ndarray, lengths: np.ndarray | None) -> list[int]:
    """The indices of the utterances that have a value that is not finite."""
    if values.dtype == np.uint8:
        return []
    rows_of_block = max(1, BLOCK // max(1, math.prod(values.shape[1:])))
    blocks = (values[i : i + rows_of_block] for i in range(0, len(values), rows_of_block))
    bad = [~np.isfinite(block).all(axis=tuple(range(1, values.ndim))) for block in blocks]
    rows = np.flatnonzero(np.concatenate(bad or [np.zeros(0, bool)]))
    return np.unique(rows if lengths is None else np.searchsorted(lengths.cumsum(), rows, side="right")).tolist()
