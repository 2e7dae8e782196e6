"""A feature array and its passport in one file, so that neither exists without the other.

`features/<name>.safetensors` holds the tensor `values` (n d, one row per utterance) and the passport as JSON in its
header. Sequences also have `lengths` (n, int64, each 1 or more); their values are (sum of lengths, d), the steps of
one utterance one after the other. Values are floats, or the bytes of images (0 to 255). A file is written completely or
not at all, read through a memory map, and refused unless it agrees with its passport.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merlib.data.table import MODALITIES, Array, Corpus
from merlib.errors import FeatureError, listed
from merlib.files import atomic
from merlib.foreign import regular
from merlib.places import is_word

AGAIN = "Delete the file and import or encode it again."
BLOCK = 1 << 22  # values that are checked at a time, so that a check needs little memory beside them


@dataclass(frozen=True)
class Passport:
    """The origin of an array: its utterances, its extractor, what that was trained and fitted on, and a hash.

    `trained_on` names the data and labels that the extractor was trained on; `fitted_on` the split on which any further
    fit, such as a projection, was made; both are "unknown" when a release does not say. `shape` and `dtype` are those
    of the values as stored, whatever the extractor computed in (a frozen encoder: float32); `steps` is the length of
    the longest sequence, None where an utterance is one row. `failed` names the utterances whose recording could not be
    used: their rows are zeros. `inputs` is a hash of what an extraction read and of its settings, so that nothing is
    computed twice. `layers_above` counts the layers of the encoder above the one that these states come from (0: its
    last states): a network that holds those layers reads them without standardising. `learned_from` names the
    utterances of this corpus whose labels the extractor was trained on, `selected_on` those whose labels chose its
    epoch: no run may test or validate on the first, or test on the second.
    `max_tokens` is the longest input of a text encoder, and `cut` counts the texts that were longer; 0 and 0 in files
    of an earlier version, which do not say.
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
    max_tokens: int = 0
    cut: int = 0
    learned_from: tuple[str, ...] = ()
    selected_on: tuple[str, ...] = ()
    note: str = ""
    partial: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    def summary(self) -> str:
        """One short line for records, e.g. `text: all-MiniLM-L6-v2 masked mean, alone (384)`; sequences: (t x 384)."""
        time = "" if self.steps is None else "t x "
        failed = f", {len(self.failed)} failed" if self.failed else ""
        part = f", {self.partial}" if self.partial else ""
        return f"{self.modality}: {self.extractor} ({time}{'x'.join(map(str, self.shape[1:]))}){failed}{part}"


PASSPORT = TypeAdapter(Passport)  # checks a passport as it is read


@dataclass(frozen=True, eq=False)
class Feature:
    """Values in the order of the ids that a reader gave, and the passport of their file, whose `ids` have its order."""

    values: np.ndarray
    passport: Passport | None
    lengths: np.ndarray | None = None

    @property
    def layers_above(self) -> int:
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
    identity = {"corpus": corpus.name, "partial": corpus.partial, "name": name, "ids": corpus.ids}
    identity["sha256"] = digest(values, lengths)
    return Passport(**identity, **origin, shape=tuple(values.shape), dtype=str(values.dtype), steps=_longest(lengths))


def check_array(values: np.ndarray, lengths: np.ndarray | None, passport: Passport, file: str) -> None:
    """Raise FeatureError unless values and lengths agree with the passport: finite, for every id, the same hash."""
    actual, expected = (tuple(values.shape), str(values.dtype)), (passport.shape, passport.dtype)
    if actual != expected:
        raise FeatureError(f"{file}: holds {actual}, its passport says {expected}. {AGAIN}")
    if passport.modality not in MODALITIES or not is_storable(values.dtype) or values.ndim != 2:
        expected = f"one of {MODALITIES} and floats or bytes of shape (n, d)"
        raise FeatureError(f"{file}: found {passport.modality} {actual}, expected {expected}. Convert it first.")
    if (steps := _longest(lengths)) != passport.steps:
        both = (steps, passport.steps)
        actual, expected = ("one row" if n is None else f"sequences of up to {n} steps" for n in both)
        raise FeatureError(f"{file}: an utterance is {actual}, its passport says {expected}. {AGAIN}")
    rows, ids = len(values) if lengths is None else len(lengths), len(set(passport.ids))
    if len(passport.ids) != rows or ids != rows:
        raise FeatureError(f"{file}: {rows} rows for {ids} different ids. {AGAIN}")
    if lengths is not None:
        if lengths.dtype != np.int64 or lengths.ndim != 1:
            actual = f"lengths are {lengths.dtype} of shape {lengths.shape}, expected int64 of shape (n,)"
            raise FeatureError(f"{file}: {actual}. Convert them first.")
        if (short := np.flatnonzero(lengths < 1)).size:
            others = f"utterance {passport.ids[short[0]]} and {len(short) - 1} others"
            raise FeatureError(f"{file}: no step at {others}. Give each utterance one step or more.")
        if lengths.sum() != len(values):
            raise FeatureError(f"{file}: the lengths add up to {lengths.sum()} steps, found {len(values)}. {AGAIN}")
    if bad := _not_finite(values, lengths):
        others = f"utterance {passport.ids[bad[0]]} and {len(bad) - 1} others"
        raise FeatureError(f"{file}: NaN or infinity at {others}. Extract them again.")
    if digest(values, lengths) != passport.sha256:
        raise FeatureError(f"{file}: the values' sha256 is not the passport's {passport.sha256[:12]}: damaged. {AGAIN}")


def _longest(lengths: np.ndarray | None) -> int | None:
    return None if lengths is None else int(lengths.max(initial=0))


def _not_finite(values: np.ndarray, lengths: np.ndarray | None) -> list[int]:
    """The indices of the utterances that have a value that is not finite."""
    if values.dtype == np.uint8:
        return []
    rows_of_block = max(1, BLOCK // max(1, values.shape[1]))
    blocks = (values[i : i + rows_of_block] for i in range(0, len(values), rows_of_block))
    bad = [~np.isfinite(block).all(axis=1) for block in blocks]
    rows = np.flatnonzero(np.concatenate(bad or [np.zeros(0, bool)]))
    return np.unique(rows if lengths is None else np.searchsorted(lengths.cumsum(), rows, side="right")).tolist()


def path(folder: Path, name: str) -> Path:
    """The file of the feature `name` of the corpus in `folder`; FeatureError for a name that is no plain word."""
    if not is_word(name):
        raise FeatureError(f"{name!r} is no name for an array: take letters, digits and _, such as audio_wavlm.")
    return Path(folder) / "features" / f"{name}.safetensors"


def write(folder: Path, values: np.ndarray, passport: Passport, lengths: np.ndarray | None = None) -> Path:
    """Check `values` (and `lengths`) and write them with `passport` under the corpus folder.

    Other processes may write and read at the same time. Raises OSError when the disk is full; the old file stays.
    """
    target = path(folder, passport.name)
    check_array(values, lengths, passport, str(target))
    tensors = {"values": np.ascontiguousarray(values)}
    if lengths is not None:
        tensors["lengths"] = np.ascontiguousarray(lengths)
    with atomic(target, when_full=SafetensorError) as part:
        save_file(tensors, part, {"passport": json.dumps(asdict(passport))})
    return target


def add(folder: Path, corpus: Corpus, name: str, array: Array) -> Path:
    """Write `array`, in table order, as the feature `name` in `folder`.

    Raises FeatureError where a feature of that name is of another modality.
    """
    if (file := path(folder, name)).exists() and (present := read_passport(file)).modality != array.modality:
        raise FeatureError(f"{file} holds {present.summary()}: give the new array, of {array.modality}, another name.")
    return write(folder, array.values, passport(corpus, name, array), array.lengths)


def check_origin(file: Path, about: Mapping[str, Any]) -> None:
    """Raise FeatureError where the passport of the array in `file` says otherwise; `about` has some of its fields."""
    present = read_passport(file)
    if other := [field for field in sorted(about) if getattr(present, field) != about[field]]:
        what = f"{file} holds {present.summary()}, of another {' and '.join(other)}"
        raise FeatureError(f"{what}. Give this one ({about['extractor']}) another --name, or delete the file.")


def read(folder: Path, name: str, *, ids: tuple[str, ...], corpus: str | None = None) -> Feature:
    """Read the feature `name`, check it, and put its rows in the order of `ids`, which must be the same utterances.

    With `corpus`, a file whose passport names another corpus is an error.
    """
    file = path(folder, name)
    if not file.exists():
        names = sorted(p.stem for p in file.parent.glob("*.safetensors"))
        raise FeatureError(f"{file}: no such feature; {folder} has {listed(names)}. Import it, or encode it.")
    stamp, tensors = _opened(file, values=True)
    values, lengths = tensors["values"], tensors.get("lengths")
    expected = (corpus or stamp.corpus, name)
    if (stamp.corpus, stamp.name) != expected:
        what = f"its passport is of {stamp.corpus}/{stamp.name}, not of {'/'.join(expected)}"
        raise FeatureError(f"{file}: {what}. Put the right file there, or delete it and import again.")
    check_array(values, lengths, stamp, str(file))
    row_of = {u: i for i, u in enumerate(stamp.ids)}
    missing, foreign = [u for u in ids if u not in row_of], sorted(set(stamp.ids) - set(ids))
    if missing or foreign:
        what = f"{len(missing)} utterances missing, first {listed(missing[:1])}"
        what += f"; {len(foreign)} foreign, first {listed(foreign[:1])}"
        raise FeatureError(f"{file}: {what}. Corpus and feature must be of one release: import both again.")
    if stamp.ids != tuple(ids):
        values, lengths = take(values, lengths, np.array([row_of[u] for u in ids]))
    return Feature(values, stamp, lengths)


def take(values: np.ndarray, lengths: np.ndarray | None, order: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and lengths of the utterances with the indices `order`, in that order."""
    if lengths is None:
        return values[order], None
    begin, new = (lengths.cumsum() - lengths)[order], lengths[order]
    return values[np.arange(new.sum()) + np.repeat(begin - (new.cumsum() - new), new)], new


def read_passport(file: Path) -> Passport:
    """The passport alone, from the header of `file`; the values are neither read nor checked."""
    return _opened(file, values=False)[0]


def _opened(file: Path, *, values: bool) -> tuple[Passport, dict[str, np.ndarray]]:
    try:
        with safe_open(regular(file), framework="numpy") as tensors:
            stamp = PASSPORT.validate_json((tensors.metadata() or {}).get("passport", ""))
            names = [n for n in ("values", "lengths") if n == "values" or n in tensors.keys()]  # noqa: SIM118
            return stamp, {n: tensors.get_tensor(n) for n in names} if values else {}
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
        raise FeatureError(f"{file}: has no complete passport ({what}). {AGAIN}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise FeatureError(f"{file}: truncated, or not a safetensors file ({error}). {AGAIN}") from None
