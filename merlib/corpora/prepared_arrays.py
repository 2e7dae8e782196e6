"""The feature arrays of a prepared corpus (`prepared`): npz, npy or csv files, in table order."""

import re
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import suspicious
from merlib.corpora.reading import names_of, read_csv, require_keys, steps_between_zeros
from merlib.data.table import MODALITIES, Array, CorpusError
from merlib.errors import Notice, listed
from merlib.foreign import content, read_text, regular

PASSPORT = {"modality", "extractor", "version", "weights_sha256", "trained_on", "fitted_on"}
NEEDED, OPTIONAL = {"file", "ids"} | PASSPORT, {"values", "divide", "time_axis", "lengths", "padding"}
EXPECTED = "Expected npz, npy or csv as declared"
SHAPES = {None: "(n, d), or of sequences with `time_axis`", 1: "(n, t, d)", 2: "(n, d, t)"}  # by `time_axis`


def array(spec: dict, ids: tuple[str, ...], target: np.ndarray, folder: Path, where: str) -> Array:
    """The declared feature `spec` for the utterances `ids`, in that order; `where` names it in messages.

    target: the score or label of each utterance, which no column of an array may give away.
    """
    _check_spec(spec, where)
    stored_ids, values, lengths, columns = _read(folder / spec["file"], spec, where)
    axis = spec.get("time_axis")
    fits = values.ndim == (2 if axis is None else 3) and values[:1].size
    if not fits or values.dtype.kind not in "fiu" or len(stored_ids) != len(values):
        stored = f"{len(stored_ids)} ids for values of shape {values.shape} and type {values.dtype}"
        raise CorpusError(f"{where}: found {stored}; expected numbers of shape {SHAPES[axis]}, one row per id.")
    if lengths is not None and (lengths.shape != (len(values),) or lengths.dtype.kind not in "iu"):
        stored = f"lengths of shape {lengths.shape} and type {lengths.dtype}"
        raise CorpusError(f"{where}: found {stored}; expected one integer per id, ({len(values)},).")
    rows = _rows_of(ids, stored_ids, where)
    if axis is None:
        _check_columns(values, rows, target, columns, "values" in spec, where)
    values, row_ids = values[rows], np.array(ids)
    if axis is not None:
        values = values if axis == 1 else values.swapaxes(1, 2)  # n d t -> n t d
        values, lengths = _sequences(values, None if lengths is None else lengths[rows], spec, ids, where)
        row_ids = row_ids.repeat(lengths)
    values = values.astype(np.float32) / np.float32(spec.get("divide", 1))
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        bad_ids = list(dict.fromkeys(row_ids[bad]))
        what = f"NaN or infinity in {len(bad_ids)} rows, first {bad_ids[0]}"
        raise CorpusError(f"{where}: {what}. Repair them, or leave the array out.")
    note = suspicious.summary(values, row_ids)
    if note:
        warnings.warn(Notice(note, where), stacklevel=1)
    return Array(values, **{k: spec[k] for k in PASSPORT}, lengths=lengths, note=note)


def _check_spec(spec: dict, where: str) -> None:
    """CorpusError unless the section of an array has the keys and kinds of values that it needs."""
    require_keys(spec, NEEDED, OPTIONAL, where)
    names = sorted({"file", "ids"} | PASSPORT | {"lengths"} & set(spec))
    if bad := {name: spec[name] for name in names if not isinstance(spec[name], str)}:
        raise CorpusError(f"{where}: {listed(bad)}; expected text in quotes.")
    if spec["file"].endswith(".npz") and not isinstance(spec.get("values"), str):
        raise CorpusError(f"{where}: values = {spec.get('values')!r}; expected the name of an array in {spec['file']}.")
    axis, divide, padding = spec.get("time_axis"), spec.get("divide", 1), spec.get("padding")
    only_sequences = {"lengths", "padding"} & set(spec)
    if spec["modality"] not in MODALITIES or axis not in [*SHAPES] or (axis is None and only_sequences):
        declared = f"modality = {spec['modality']!r}, time_axis = {axis!r}"
        expected = f"{MODALITIES}, and 1 or 2 for sequences (`lengths` needs it, as `padding` does)"
        raise CorpusError(f"{where}: {declared}; expected {expected}.")
    if padding not in (None, "zeros", "none") or (padding and "lengths" in spec):
        raise CorpusError(f"{where}: padding = {padding!r}; expected 'zeros' or 'none', and not beside `lengths`.")
    if isinstance(divide, bool) or not (isinstance(divide, int | float) and 0 < divide < np.inf):
        raise CorpusError(f"{where}: divide = {divide!r}; expected a number above 0.")


def _check_columns(
    values: np.ndarray, rows: np.ndarray, target: np.ndarray, columns: list[str], named: bool, where: str
) -> None:
    """Refuse columns that are likely no features where a csv file has them and nobody named them; else say which."""
    names = columns or [f"column {i}" for i in range(values.shape[1])]
    reasons = suspicious.columns(values, values[rows], target, names)
    if columns and not named:
        if reasons:
            what = "; ".join(f"{name!r} {reason}" for name, reason in list(reasons.items())[:5])
            raise CorpusError(f"{where}: not every column looks like a feature: {what}. Name those wanted in `values`.")
        first = ", ".join(columns[:8]) + ", ..." * (len(columns) > 8)
        warnings.warn(Notice(f"takes {len(columns)} columns: {first}", where), stacklevel=1)
    elif odd := {name: reason for name, reason in reasons.items() if not reason.startswith(suspicious.CONSTANT)}:
        first = next(f"{name!r} {reason}" for name, reason in odd.items())
        warnings.warn(Notice(f"{len(odd)} columns are likely no features, first {first}", where), stacklevel=1)


def _rows_of(ids: tuple[str, ...], stored_ids: list[str], where: str) -> np.ndarray:
    """The row of each of `ids` among the stored ones."""
    index = pd.Index(stored_ids)
    if not index.is_unique:
        what = f"{where}: duplicate ids, first {listed(index[index.duplicated()][:3])}"
        raise CorpusError(f"{what}. Keep one row of each.")
    rows = index.get_indexer(list(ids))
    if (rows < 0).any():
        first = ids[int((rows < 0).argmax())]
        stored = f"the file has {len(index)} others, first {listed(index[:1])}"
        what = f"{(rows < 0).sum()} utterances are not found, first {first}; {stored}"
        raise CorpusError(f"{where}: {what}. Add their rows.")
    return rows


def _sequences(
    values: np.ndarray, lengths: np.ndarray | None, spec: dict, ids: tuple[str, ...], where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences n t d without their padding: the steps of all utterances, s d, and their numbers, n."""
    longest = values.shape[1]
    start, stop = np.zeros(len(ids), np.int64), np.full(len(ids), longest)
    if lengths is not None:
        stop = lengths.astype(np.int64)
        bad = (stop < 1) | (stop > longest)
        if bad.any():
            what = (
                f"{bad.sum()} lengths are not from 1 to {longest}, first {ids[bad.argmax()]} with {stop[bad.argmax()]}"
            )
            raise CorpusError(f"{where}: {what}. Give an utterance without steps one step of zeros.")
    elif spec.get("padding") != "none":
        start, stop = steps_between_zeros(values)
        padded = (stop - start < longest) & (values != 0).any(axis=(1, 2))
        if padded.any() and "padding" not in spec:
            first = ids[padded.argmax()]
            what = f"{padded.sum()} of {len(ids)} sequences begin or end with steps of zeros, first {first}"
            remedy = 'Give their `lengths`, or say whether zeros are padding: padding = "zeros", or "none"'
            raise CorpusError(f"{where}: {what}. {remedy}.")
        if "padding" not in spec:
            start, stop = np.zeros_like(start), np.full_like(stop, longest)
    steps = np.arange(longest)
    return values[(steps >= start[:, None]) & (steps < stop[:, None])], stop - start


def _read(file: Path, spec: dict, where: str) -> tuple[list[str], np.ndarray, np.ndarray | None, list[str]]:
    """Ids, values and, where declared, lengths of an npz, npy or csv file; of csv also the names of the columns."""
    try:
        if file.suffix == ".npz":
            with np.load(regular(file), allow_pickle=False) as arrays:
                _demand([spec[k] for k in ("ids", "values", "lengths") if k in spec], arrays, file, where)
                lengths = arrays[spec["lengths"]] if "lengths" in spec else None
                return names_of(arrays[spec["ids"]].ravel().tolist()), arrays[spec["values"]], lengths, []
        if file.suffix == ".npy":
            values = np.load(regular(file), allow_pickle=False)
            lengths = _integers(file.parent / spec["lengths"]) if "lengths" in spec else None
            return _lines(file.parent / spec["ids"]), values, lengths, []
        table = read_csv(file)
        columns = spec.get("values", [c for c in table if c != spec["ids"]])
        columns = [columns] if isinstance(columns, str) else list(columns)
        _demand([spec["ids"], *columns], table, file, where)
        return names_of(table[spec["ids"]]), _numbers(table[columns], file), None, columns
    except CorpusError:
        raise
    except OSError as error:
        raise CorpusError(f"{where}: {str(error).rstrip('.')}. {EXPECTED}.") from None
    except Exception as error:  # noqa: BLE001, damaged bytes make numpy raise almost anything
        remedy = "Save texts by .astype(str), numbers by .astype(float)" if "Object arrays" in str(error) else EXPECTED
        raise CorpusError(f"{where}: cannot read {file}: {_other(file) or repr(error)}. {remedy}.") from None


def _demand(names: list, there: Collection[str], file: Path, where: str) -> None:
    """CorpusError unless a file has the arrays or columns of these names."""
    if missing := [name for name in names if name not in there]:
        what = f"{where}: {file} has no {listed(missing)}; it has {listed(list(there))}"
        raise CorpusError(f"{what}. Correct `ids`, `values` or `lengths`.")


def _other(file: Path) -> str:
    """What a file is by its first bytes, where its name promises something else."""
    kind, promised = content(file), {".npz": "a zip", ".npy": "an npy"}.get(file.suffix, "a CSV")
    return "" if not kind or kind.startswith(promised) else f"it is {kind}"


def _numbers(table: pd.DataFrame, file: Path) -> np.ndarray:
    """The columns as numbers, NaN for an empty cell; CorpusError for those that hold anything else."""
    numbers = table.apply(pd.to_numeric, errors="coerce")
    odd = {name: table[name][numbers[name].isna()] for name in numbers.columns[numbers.isna().any()]}
    wrong = {name: cells[~cells.str.strip().str.lower().isin(["", "nan"])] for name, cells in odd.items()}
    if first := {name: cells.iloc[0] for name, cells in wrong.items() if len(cells)}:
        some = dict(list(first.items())[:5])
        raise CorpusError(
            f"{file}: {len(first)} columns are no numbers, first {listed(some)}. Name the features in `values`."
        )
    return numbers.to_numpy(dtype=np.float64)


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    return [line.strip() for line in read_text(file).split("\n") if line.strip()]


def _integers(file: Path) -> np.ndarray:
    """The lines of a text file that hold an integer each."""
    lines = _lines(file)
    if wrong := [line for line in lines if not re.fullmatch(r"-?[0-9]{1,9}", line)]:
        raise CorpusError(f"{file}: {wrong[0]!r} is no number of steps; expected one integer a line.")
    return np.array(lines, dtype=np.int64)
