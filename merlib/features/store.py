"""A feature array and its passport in one file, so that neither is ever seen without the other.

`features/<name>.safetensors` holds the tensor `values`, n ..., one row per utterance; the passport is JSON in the
header. A file is written whole or not at all, read through a memory map, and refused unless it is what its passport
says.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merlib.corpora.files import atomic
from merlib.corpora.table import MODALITIES, Array, Corpus

AGAIN = "Delete the file and import or encode it again."


class FeatureError(ValueError):
    """A feature file that must not be used; the message names the file, the utterance and the remedy."""


@dataclass(frozen=True)
class Passport:
    """Where an array comes from: rows, extractor, what that had learned from, what was fitted on what, and a hash."""

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

    def summary(self) -> str:
        """One short line for records, e.g. `text: all-MiniLM-L6-v2 masked mean, alone (384)`."""
        return f"{self.modality}: {self.extractor} ({'x'.join(map(str, self.shape[1:]))})"


@dataclass(frozen=True, eq=False)
class Feature:
    """Values (n, ...) in the order that was asked for, and their passport (whose `ids` keep the order of the file)."""

    values: np.ndarray
    passport: Passport


def digest(values: np.ndarray) -> str:
    """sha256 of the values' bytes, row-major and little-endian."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))).hexdigest()


def passport(corpus: Corpus, name: str, array: Array) -> Passport:
    """The passport of `array` as the feature `name` of `corpus`; its rows are the corpus' utterances in order."""
    origin = {k: v for k, v in vars(array).items() if k != "values"}
    shape, dtype = tuple(array.values.shape), str(array.values.dtype)
    given = {"corpus": corpus.name, "name": name, "ids": corpus.ids, "sha256": digest(array.values)}
    return Passport(**given, **origin, shape=shape, dtype=dtype)


def check(values: np.ndarray, passport: Passport, where: str) -> None:
    """Raise FeatureError unless the values are what the passport says: finite floats, one row per id, the same hash."""
    found, said = (tuple(values.shape), str(values.dtype)), (passport.shape, passport.dtype)
    if found != said:
        raise FeatureError(f"{where}: holds {found}, its passport says {said}. {AGAIN}")
    if passport.modality not in MODALITIES or values.dtype.kind != "f" or values.ndim < 2:
        expected = f"one of {MODALITIES} and floats of shape (n, ...)"
        raise FeatureError(f"{where}: found {passport.modality} {found}, expected {expected}. Convert it first.")
    if len(passport.ids) != len(values) or len(set(passport.ids)) != len(values):
        raise FeatureError(f"{where}: {len(values)} rows for {len(set(passport.ids))} different ids. {AGAIN}")
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        first = passport.ids[int(bad.argmax())]
        raise FeatureError(
            f"{where}: NaN or infinity at utterance {first} and {bad.sum() - 1} others. Extract them again."
        )
    if digest(values) != passport.sha256:
        raise FeatureError(
            f"{where}: the values' sha256 is not the passport's {passport.sha256[:12]}: damaged. {AGAIN}"
        )


def path(folder: Path, name: str) -> Path:
    """The file of the feature `name` of the corpus in `folder`."""
    return Path(folder) / "features" / f"{name}.safetensors"


def write(folder: Path, values: np.ndarray, passport: Passport) -> Path:
    """Check `values` and write them with `passport` under the corpus folder; safe beside other writers and readers."""
    target = path(folder, passport.name)
    check(values, passport, str(target))
    with atomic(target) as part:
        save_file({"values": np.ascontiguousarray(values)}, part, {"passport": json.dumps(asdict(passport))})
    return target


def read(folder: Path, name: str, *, ids: tuple[str, ...], corpus: str | None = None) -> Feature:
    """Read the feature `name`, check it, and put its rows in the order of `ids`, which must be the same utterances.

    With `corpus`, a file whose passport names another corpus is an error.
    """
    file = path(folder, name)
    if not file.exists():
        here = sorted(p.stem for p in file.parent.glob("*.safetensors"))
        raise FeatureError(f"{file}: no such feature; {folder} has {here}. Import it, or encode it.")
    stamp, values = _opened(file, values=True)
    wanted = (corpus or stamp.corpus, name)
    if (stamp.corpus, stamp.name) != wanted:
        what = f"its passport is of {stamp.corpus}/{stamp.name}, not of {'/'.join(wanted)}"
        raise FeatureError(f"{file}: {what}. Put the right file there, or delete it and import again.")
    check(values, stamp, str(file))
    place = {u: i for i, u in enumerate(stamp.ids)}
    missing, foreign = [u for u in ids if u not in place], sorted(set(stamp.ids) - set(ids))
    if missing or foreign:
        what = f"{len(missing)} utterances missing, first {missing[:1]}; {len(foreign)} foreign, first {foreign[:1]}"
        raise FeatureError(f"{file}: {what}. Corpus and feature must be of one release: import both again.")
    return Feature(values if stamp.ids == tuple(ids) else values[[place[u] for u in ids]], stamp)


def read_passport(file: Path) -> Passport:
    """The passport alone, from the header of `file`; the values are neither read nor checked."""
    return _opened(file, values=False)[0]


def _opened(file: Path, *, values: bool) -> tuple[Passport, np.ndarray | None]:
    try:
        with safe_open(file, framework="numpy") as tensors:
            stamp = json.loads((tensors.metadata() or {})["passport"])
            stamp = Passport(**{k: tuple(v) if isinstance(v, list) else v for k, v in stamp.items()})
            return stamp, tensors.get_tensor("values") if values else None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise FeatureError(f"{file}: truncated, or not a safetensors file ({error}). {AGAIN}") from None
    except (KeyError, TypeError) as error:
        raise FeatureError(f"{file}: has no complete passport ({error!r}). {AGAIN}") from None
