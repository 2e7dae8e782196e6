"""A feature array and its passport in one file, so that neither exists without the other.

`features/<name>.safetensors` holds the tensor `values`, for sequences also `lengths`, and the passport as JSON in its
header (`passports` has both). A file is written completely or not at all, read through a memory map, and refused unless
it agrees with its passport.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merlib.data.corpus import Array, Corpus
from merlib.data.passports import (
    AGAIN,
    Feature,
    FeatureError,
    Passport,
    check_array,
    digest,
    is_storable,
    passport,
)
from merlib.files import atomic

__all__ = [
    "Feature", "FeatureError", "Passport", "add", "check_array", "digest", "is_storable", "passport", "path", "read",
    "read_passport", "take", "write",
]  # fmt: skip


def path(folder: Path, name: str) -> Path:
    """The file of the feature `name` of the corpus in `folder`; FeatureError for a name that is no plain word."""
    if not re.fullmatch(r"\w[\w.-]*", name):
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
    with atomic(target) as part:
        try:
            save_file(tensors, part, {"passport": json.dumps(asdict(passport))})
        except SafetensorError as error:
            raise OSError(
                f"{target} could not be written ({error}): free space and run again; what is done is kept"
            ) from error
    return target


def add(folder: Path, corpus: Corpus, name: str, array: Array) -> Path:
    """Write `array`, in table order, as the feature `name` in `folder`.

    Raises FeatureError where a feature of that name is of another modality.
    """
    if (file := path(folder, name)).exists() and (present := read_passport(file)).modality != array.modality:
        raise FeatureError(f"{file} holds {present.summary()}: give the new array, of {array.modality}, another name.")
    return write(folder, array.values, passport(corpus, name, array), array.lengths)


def read(folder: Path, name: str, *, ids: tuple[str, ...], corpus: str | None = None) -> Feature:
    """Read the feature `name`, check it, and put its rows in the order of `ids`, which must be the same utterances.

    With `corpus`, a file whose passport names another corpus is an error.
    """
    file = path(folder, name)
    if not file.exists():
        names = sorted(p.stem for p in file.parent.glob("*.safetensors"))
        raise FeatureError(f"{file}: no such feature; {folder} has {names}. Import it, or encode it.")
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
        what = f"{len(missing)} utterances missing, first {missing[:1]}; {len(foreign)} foreign, first {foreign[:1]}"
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
    """The passport of a file and, if `values`, its tensors."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            stamp = json.loads((tensors.metadata() or {})["passport"])
            stamp = Passport(**{k: tuple(v) if isinstance(v, list) else v for k, v in stamp.items()})
            names = [n for n in ("values", "lengths") if n == "values" or n in tensors.keys()]  # noqa: SIM118
            return stamp, {n: tensors.get_tensor(n) for n in names} if values else {}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise FeatureError(f"{file}: truncated, or not a safetensors file ({error}). {AGAIN}") from None
    except (KeyError, TypeError) as error:
        raise FeatureError(f"{file}: has no complete passport ({error!r}). {AGAIN}") from None
