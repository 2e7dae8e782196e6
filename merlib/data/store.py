"""A feature array and its passport in one file, so that neither is ever seen without the other.

`features/<name>.safetensors` holds the tensor `values`, n ..., one row per utterance; the passport is JSON in the
header. Sequences have a second tensor, `lengths` (n, int64, each 1 or more), and values (sum of lengths, ...): the
steps of one utterance one after the other. Numbers are floats, or the bytes of pictures (0 to 255). A file is written
whole or not at all, read through a memory map, and refused unless it is what its passport says.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merlib.data.table import MODALITIES, Array, Corpus
from merlib.errors import MerlibError
from merlib.files import atomic

AGAIN = "Delete the file and import or encode it again."
BLOCK = 1 << 22  # numbers that are looked at together, so that a check needs little memory beside the values


class FeatureError(MerlibError, ValueError):
    """A feature file that must not be used; the message names the file, the utterance and the remedy."""


@dataclass(frozen=True)
class Passport:
    """Where an array comes from: rows, extractor, what that had learned from, what was fitted on what, and a hash.

    `shape` is that of the values; `steps` is the length of the longest sequence, None where an utterance is one row;
    `failed` names the utterances whose recording could not be used, which have zeros; `inputs` is a hash of the
    recordings and settings that an extraction has read. `layers_above`: how many of an encoder's layers these states
    have yet to pass; a network that has them reads such states as they are.
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
        """One short line for records, e.g. `text: all-MiniLM-L6-v2 masked mean, alone (384)`; (t x 384) of steps."""
        time = "" if self.steps is None else "t x "
        lost = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.modality}: {self.extractor} ({time}{'x'.join(map(str, self.shape[1:]))}){lost}"


@dataclass(frozen=True, eq=False)
class Feature:
    """Values in the order that was asked for, and their passport (whose `ids` keep the order of the file).

    Values are (n, ...), one row per utterance; or, with `lengths` (n), sequences: (sum of lengths, ...). What is made
    in memory has no passport.
    """

    values: np.ndarray
    passport: Passport | None
    lengths: np.ndarray | None = None

    @property
    def layers_above(self) -> int:
        """How many of their encoder's layers its states have yet to pass (see `Passport`)."""
        return self.passport.layers_above if self.passport else 0


def numbers(dtype: np.dtype) -> bool:
    """Whether values of this type can be a feature: floats, or the bytes of pictures."""
    return dtype.kind == "f" or dtype == np.uint8


def digest(values: np.ndarray, lengths: np.ndarray | None = None) -> str:
    """sha256 of the bytes of the values, then of the lengths if there are any; row-major and little-endian."""
    found = hashlib.sha256()
    for array in (values, lengths):
        if array is not None:
            found.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))
    return found.hexdigest()


def passport(corpus: Corpus, name: str, array: Array) -> Passport:
    """The passport of `array` as the feature `name` of `corpus`; its rows are the corpus' utterances in order."""
    values, lengths = array.values, array.lengths
    origin = {k: v for k, v in vars(array).items() if k not in ("values", "lengths")}
    given = {"corpus": corpus.name, "name": name, "ids": corpus.ids, "sha256": digest(values, lengths)}
    steps = None if lengths is None else int(lengths.max(initial=0))
    return Passport(**given, **origin, shape=tuple(values.shape), dtype=str(values.dtype), steps=steps)


def check(values: np.ndarray, lengths: np.ndarray | None, passport: Passport, where: str) -> None:
    """Raise FeatureError unless values and lengths are what the passport says: finite, for every id, the same hash."""
    found, said = (tuple(values.shape), str(values.dtype)), (passport.shape, passport.dtype)
    if found != said:
        raise FeatureError(f"{where}: holds {found}, its passport says {said}. {AGAIN}")
    if passport.modality not in MODALITIES or not numbers(values.dtype) or values.ndim < 2:
        expected = f"one of {MODALITIES} and floats or bytes of shape (n, ...)"
        raise FeatureError(f"{where}: found {passport.modality} {found}, expected {expected}. Convert it first.")
    steps = None if lengths is None else int(lengths.max(initial=0))
    if steps != passport.steps:
        found, said = (f"sequences of up to {s} steps" if s is not None else "one row" for s in (steps, passport.steps))
        raise FeatureError(f"{where}: an utterance is {found}, its passport says {said}. {AGAIN}")
    rows = len(values) if lengths is None else len(lengths)
    if len(passport.ids) != rows or len(set(passport.ids)) != rows:
        raise FeatureError(f"{where}: {rows} rows for {len(set(passport.ids))} different ids. {AGAIN}")
    _check_lengths(values, lengths, passport, where)
    if bad := _not_finite(values, lengths):
        raise FeatureError(
            f"{where}: NaN or infinity at utterance {passport.ids[bad[0]]} and {len(bad) - 1} others. "
            "Extract them again."
        )
    if digest(values, lengths) != passport.sha256:
        raise FeatureError(
            f"{where}: the values' sha256 is not the passport's {passport.sha256[:12]}: damaged. {AGAIN}"
        )


def _check_lengths(values: np.ndarray, lengths: np.ndarray | None, passport: Passport, where: str) -> None:
    """Lengths are whole numbers of 1 or more and add up to the rows of `values`."""
    if lengths is None:
        return
    if lengths.dtype != np.int64 or lengths.ndim != 1:
        what = f"lengths are {lengths.dtype} of shape {lengths.shape}, expected int64 of shape (n,)"
        raise FeatureError(f"{where}: {what}. Convert them first.")
    if (short := np.flatnonzero(lengths < 1)).size:
        first = f"utterance {passport.ids[short[0]]} and {len(short) - 1} others"
        raise FeatureError(f"{where}: no step at {first}. Give each utterance one step or more.")
    if lengths.sum() != len(values):
        raise FeatureError(f"{where}: the lengths add up to {lengths.sum()} steps, found {len(values)}. {AGAIN}")


def _not_finite(values: np.ndarray, lengths: np.ndarray | None) -> list[int]:
    """The utterances, by their number, that have a value that is not finite."""
    if values.dtype == np.uint8:
        return []
    some = max(1, BLOCK // max(1, math.prod(values.shape[1:])))
    blocks = (values[i : i + some] for i in range(0, len(values), some))
    bad = np.concatenate(
        [~np.isfinite(b).all(axis=tuple(range(1, values.ndim))) for b in blocks] or [np.zeros(0, bool)]
    )
    rows = np.flatnonzero(bad)
    return np.unique(rows if lengths is None else np.searchsorted(lengths.cumsum(), rows, side="right")).tolist()


def path(folder: Path, name: str) -> Path:
    """The file of the feature `name` of the corpus in `folder`; FeatureError for a name that is no plain word."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise FeatureError(f"{name!r} is no name for an array: take letters, digits and _, such as audio_wavlm.")
    return Path(folder) / "features" / f"{name}.safetensors"


def write(folder: Path, values: np.ndarray, passport: Passport, lengths: np.ndarray | None = None) -> Path:
    """Check `values` (and `lengths`) and write them with `passport` under the corpus folder.

    Safe beside other writers and readers. Raises OSError when the disk is full; what was there stays.
    """
    target = path(folder, passport.name)
    check(values, lengths, passport, str(target))
    tensors = {"values": np.ascontiguousarray(values)}
    if lengths is not None:
        tensors["lengths"] = np.ascontiguousarray(lengths)
    with atomic(target) as part:
        try:
            save_file(tensors, part, {"passport": json.dumps(asdict(passport))})
        except SafetensorError as error:
            raise OSError(
                f"{target} could not be written ({error}): free space and run again; what is done is kept"
            ) from error
    return target


def add(folder: Path, corpus: Corpus, name: str, array: Array) -> Path:
    """Write `array`, in table order, as the feature `name` in `folder`, unless that is of another modality."""
    if (file := path(folder, name)).exists() and (here := read_passport(file)).modality != array.modality:
        raise FeatureError(f"{file} holds {here.summary()}: give the new array, of {array.modality}, another name.")
    return write(folder, array.values, passport(corpus, name, array), array.lengths)


def read(folder: Path, name: str, *, ids: tuple[str, ...], corpus: str | None = None) -> Feature:
    """Read the feature `name`, check it, and put its rows in the order of `ids`, which must be the same utterances.

    With `corpus`, a file whose passport names another corpus is an error.
    """
    file = path(folder, name)
    if not file.exists():
        here = sorted(p.stem for p in file.parent.glob("*.safetensors"))
        raise FeatureError(f"{file}: no such feature; {folder} has {here}. Import it, or encode it.")
    stamp, tensors = _opened(file, values=True)
    values, lengths = tensors["values"], tensors.get("lengths")
    wanted = (corpus or stamp.corpus, name)
    if (stamp.corpus, stamp.name) != wanted:
        what = f"its passport is of {stamp.corpus}/{stamp.name}, not of {'/'.join(wanted)}"
        raise FeatureError(f"{file}: {what}. Put the right file there, or delete it and import again.")
    check(values, lengths, stamp, str(file))
    place = {u: i for i, u in enumerate(stamp.ids)}
    missing, foreign = [u for u in ids if u not in place], sorted(set(stamp.ids) - set(ids))
    if missing or foreign:
        what = f"{len(missing)} utterances missing, first {missing[:1]}; {len(foreign)} foreign, first {foreign[:1]}"
        raise FeatureError(f"{file}: {what}. Corpus and feature must be of one release: import both again.")
    if stamp.ids != tuple(ids):
        values, lengths = take(values, lengths, np.array([place[u] for u in ids]))
    return Feature(values, stamp, lengths)


def take(values: np.ndarray, lengths: np.ndarray | None, order: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and lengths of the utterances with the numbers `order`, in that order."""
    if lengths is None:
        return values[order], None
    begin, new = (lengths.cumsum() - lengths)[order], lengths[order]
    return values[np.arange(new.sum()) + np.repeat(begin - (new.cumsum() - new), new)], new


def read_passport(file: Path) -> Passport:
    """The passport alone, from the header of `file`; the values are neither read nor checked."""
    return _opened(file, values=False)[0]


def _opened(file: Path, *, values: bool) -> tuple[Passport, dict[str, np.ndarray]]:
    try:
        with safe_open(file, framework="numpy") as tensors:
            stamp = json.loads((tensors.metadata() or {})["passport"])
            stamp = Passport(**{k: tuple(v) if isinstance(v, list) else v for k, v in stamp.items()})
            there = [n for n in ("values", "lengths") if n == "values" or n in tensors.keys()]  # noqa: SIM118
            return stamp, {n: tensors.get_tensor(n) for n in there} if values else {}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise FeatureError(f"{file}: truncated, or not a safetensors file ({error}). {AGAIN}") from None
    except (KeyError, TypeError) as error:
        raise FeatureError(f"{file}: has no complete passport ({error!r}). {AGAIN}") from None
