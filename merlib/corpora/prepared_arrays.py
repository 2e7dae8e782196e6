"""The feature arrays of a prepared corpus (`prepared`): npz, npy or csv files, in table order."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from merlib.corpora.reading import read_csv, require_keys
from merlib.data.table import MODALITIES, Array, CorpusError

PASSPORT = {"modality", "extractor", "version", "weights_sha256", "trained_on", "fitted_on"}
SHAPES = {None: "(n, ...)", 1: "(n, t, d)", 2: "(n, d, t)"}  # by `time_axis`


def array(spec: dict, ids: tuple[str, ...], folder: Path, where: str) -> Array:
    """The declared feature `spec` for the utterances `ids`, in that order; `where` names it in messages."""
    require_keys(spec, {"file", "ids"} | PASSPORT, {"values", "divide", "time_axis", "lengths"}, where)
    axis, divide = spec.get("time_axis"), spec.get("divide", 1)
    if spec["modality"] not in MODALITIES or axis not in [*SHAPES] or (axis is None and "lengths" in spec):
        declared = f"modality = {spec['modality']!r}, time_axis = {axis!r}"
        raise CorpusError(f"{where}: {declared}; expected {MODALITIES}, and 1 or 2 for sequences (`lengths` needs it).")
    if not (isinstance(divide, int | float) and 0 < divide < np.inf):
        raise CorpusError(f"{where}: divide = {divide!r}; expected a number above 0.")
    stored_ids, values, lengths = _read(folder / spec["file"], spec, where)
    fits = values.ndim >= 2 if axis is None else values.ndim == 3
    if not fits or values.dtype.kind not in "fiu" or len(stored_ids) != len(values):
        stored = f"{len(stored_ids)} ids for values of shape {values.shape} and type {values.dtype}"
        raise CorpusError(f"{where}: found {stored}; expected numbers of shape {SHAPES[axis]}, one row per id.")
    if lengths is not None and (lengths.shape != (len(values),) or lengths.dtype.kind not in "iu"):
        stored = f"lengths of shape {lengths.shape} and type {lengths.dtype}"
        raise CorpusError(f"{where}: found {stored}; expected one integer per id, ({len(values)},).")
    rows = _rows_of(ids, stored_ids, where)
    values, row_ids = values[rows], np.array(ids)
    if axis is not None:
        values = values if axis == 1 else values.swapaxes(1, 2)  # n d t -> n t d
        longest = values.shape[1]
        lengths = np.full(len(ids), longest) if lengths is None else lengths[rows].astype(np.int64)
        _check_lengths(lengths, longest, ids, where)
        row_ids = row_ids.repeat(lengths)
        values = values[np.arange(longest) < lengths[:, None]]  # n t d -> s d, the steps of all utterances
    values = values.astype(np.float32) / np.float32(divide)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        bad_ids = list(dict.fromkeys(row_ids[bad]))
        what = f"NaN or infinity in {len(bad_ids)} rows, first {bad_ids[0]}"
        raise CorpusError(f"{where}: {what}. Repair them, or leave the array out.")
    return Array(values, **{k: spec[k] for k in PASSPORT}, lengths=lengths)


def _rows_of(ids: tuple[str, ...], stored_ids: list[str], where: str) -> np.ndarray:
    """The row of each of `ids` among the stored ones."""
    index = pd.Index(stored_ids)
    if not index.is_unique:
        raise CorpusError(f"{where}: duplicate ids, first {list(index[index.duplicated()][:3])}. Keep one row of each.")
    rows = index.get_indexer(list(ids))
    if (rows < 0).any():
        first = ids[int((rows < 0).argmax())]
        raise CorpusError(f"{where}: {(rows < 0).sum()} utterances are not found, first {first}. Add their rows.")
    return rows


def _check_lengths(lengths: np.ndarray, longest: int, ids: tuple[str, ...], where: str) -> None:
    bad = (lengths < 1) | (lengths > longest)
    if bad.any():
        first = int(bad.argmax())
        what = f"{bad.sum()} lengths are not from 1 to {longest}, first {ids[first]} with {lengths[first]}"
        raise CorpusError(f"{where}: {what}. Give an utterance without steps one step of zeros.")


def _read(file: Path, spec: dict, where: str) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Ids, values and, where declared, lengths of an npz, npy or csv file."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                lengths = arrays[spec["lengths"]] if "lengths" in spec else None
                return [str(u) for u in arrays[spec["ids"]]], arrays[spec["values"]], lengths
        if file.suffix == ".npy":
            lines = [(file.parent / spec[k]).read_text().split() for k in ("ids", "lengths") if k in spec]
            lengths = np.array(lines[1], dtype=np.int64) if len(lines) > 1 else None
            return lines[0], np.load(file, allow_pickle=False), lengths
        table = read_csv(file)
        columns = spec.get("values", [c for c in table if c != spec["ids"]])
        return list(table[spec["ids"]]), table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(), None
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise CorpusError(f"{where}: cannot read {file}: {error!r}. Expected npz, npy or csv as declared.") from None
