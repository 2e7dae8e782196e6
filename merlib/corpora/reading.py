"""What the readers share: files of a release, their hashes, CSV files, and the keys of a TOML table."""

import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data.table import CorpusError
from merlib.errors import Notice, listed
from merlib.files import sha256
from merlib.foreign import decode, regular


def required(file: Path, expected: str) -> Path:
    """The file itself; CorpusError where there is none."""
    if not file.exists():
        raise CorpusError(f"{file} is not there; expected {expected}")
    try:
        return regular(file)
    except OSError as error:
        raise CorpusError(f"{error} Expected {expected}") from None


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern in order, without hidden ones (macOS leaves `._name` beside a file)."""
    return [file for file in sorted(folder.glob(pattern)) if file.name[0] != "."]


def media_path(file: Path, source: Path) -> str:
    """The path of a recording below the folder `source`, "" where there is none: a cell of the table.

    Of `clip.wav`, `clip.WAV` is found as well.
    """
    spelled = (file, file.with_suffix(file.suffix.upper()))
    return next((each.relative_to(source).as_posix() for each in spelled if each.is_file()), "")


def named_with_hash(path: Path) -> str:
    """A file's name and the beginning of its hash: the version of what was read from it."""
    return f"{path.name}, sha256 {sha256(path)[:12]}"


def read_csv(file: Path) -> pd.DataFrame:
    """A CSV file as text, "" for empty cells; rows of another length, and names that are there twice, are refused."""
    try:
        text = decode(regular(file).read_bytes(), file)
        _check_cells(csv.reader(io.StringIO(text)), file)
        return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
    except OSError as error:
        raise CorpusError(f"{str(error).rstrip('.')}. Expected a CSV file in UTF-8 with a header line.") from None
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{file}: {error}. Expected a CSV file in UTF-8 with a header line.") from None


def _check_cells(rows: Iterator[list[str]], file: Path) -> None:
    """CorpusError unless a header with names that differ is followed by rows of the same length."""
    names = next((row for row in rows if row), [])
    if len(names) == 1 and (other := next((s for s in ";\t|" if s in names[0]), "")):
        raise CorpusError(f"{file}: its columns are separated by {other!r}; expected commas. Save it so.")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise CorpusError(f"{file}: several columns are named {listed(twice)}. Rename or remove all but one of each.")
    for number, row in enumerate(filter(None, rows), 1):
        if len(row) != len(names):
            what = f"row {number} below the header has {len(row)} cells, the header {len(names)}, first {row[:1]}"
            raise CorpusError(f"{file}: {what}. Is the file whole, and is text with commas in quotes?")


def stripped(values: pd.Series, where: object) -> pd.Series:
    """Names without blanks at their ends; a `Notice` counts those that had some."""
    bare = values.str.strip("\ufeff\u200b \t\r\n\xa0").str.strip()
    if (changed := bare != values).any():
        what = f"{changed.sum()} cells of {values.name!r} lose blanks at their ends, first {values[changed].iloc[0]!r}"
        warnings.warn(Notice(what, where), stacklevel=2)
    return bare


def names_of(stored: Iterable) -> list[str]:
    """Ids as text without blanks at their ends, however they are stored: as bytes, or padded."""
    return [_text(name).strip("\0 \t\r\n") for name in stored]


def texts_of(stored: Iterable, where: object) -> list[str]:
    """Texts that may be stored as bytes, or of Python 2, where a `Notice` counts those that are no ASCII."""
    pairs = [(each, _text(each)) for each in stored]
    if changed := [text for each, text in pairs if isinstance(each, str) and text != each]:
        what = f"{len(changed)} texts of Python 2 are read as UTF-8, or else as cp1252, first {changed[0][:60]!r}"
        warnings.warn(Notice(what, where), stacklevel=2)
    return [text for _, text in pairs]


def _text(stored: object) -> str:
    """A text that may be stored as bytes; those of Python 2 leave the unpickler as Latin-1."""
    if isinstance(stored, str):
        try:
            stored = stored.encode("latin-1")
        except UnicodeEncodeError:
            return stored
    return stored.decode("utf-8", errors="cp1252") if isinstance(stored, bytes) else str(stored)


def steps_between_zeros(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last step (exclusive) between the zeros that pad n sequences, (n, t, d), at one end; one step or more.

    Zeros in front are padding only where there are none at the end.
    """
    real, longest = (values != 0).any(axis=2), values.shape[1]  # n t
    front = ~real[:, 0] & real[:, -1]
    start = np.where(front, real.argmax(axis=1), 0)
    stop = np.where(real.any(axis=1), longest - real[:, ::-1].argmax(axis=1), 1)
    return start, stop


def require_keys(section: Mapping, needed: set[str], optional: set[str], where: str) -> None:
    """CorpusError unless a section of a TOML file has the keys that it needs, and no others than the optional ones."""
    if not isinstance(section, Mapping):
        raise CorpusError(f"{where}: found {section!r}; expected a table with the keys {listed(sorted(needed))}.")
    unknown, missing = sorted(set(section) - needed - optional), sorted(needed - set(section))
    if unknown or missing:
        allowed = sorted(needed | optional)
        what = f"{where}: unknown keys {listed(unknown)}, missing keys {listed(missing)}"
        raise CorpusError(f"{what}; allowed are {listed(allowed)}.")
