"""What the readers share: files of a release, their hashes, CSV files, and the keys of a TOML table."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from merlib.data.table import CorpusError
from merlib.files import sha256


def required(file: Path, expected: str) -> Path:
    """The file itself; CorpusError where it does not exist."""
    if not file.exists():
        raise CorpusError(f"{file} is not there; expected {expected}")
    return file


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern in order, without hidden ones (macOS leaves `._name` beside a file)."""
    return [file for file in sorted(folder.glob(pattern)) if file.name[0] != "."]


def media_path(file: Path, source: Path) -> str:
    """The path of a recording below the folder `source`, "" where it does not exist: a cell of the table."""
    return file.relative_to(source).as_posix() if file.exists() else ""


def named_with_hash(path: Path) -> str:
    """A file's name and the beginning of its hash: the version of what was read from it."""
    return f"{path.name}, sha256 {sha256(path)[:12]}"


def read_csv(file: Path) -> pd.DataFrame:
    """A CSV file as text, with "" for empty cells."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{file}: {error}. Expected a CSV file in UTF-8 with a header line.") from None


def require_keys(section: Mapping, needed: set[str], optional: set[str], where: str) -> None:
    """CorpusError unless a section of a TOML file has the keys that it needs, and no others than the optional ones."""
    unknown, missing = sorted(set(section) - needed - optional), sorted(needed - set(section))
    if unknown or missing:
        allowed = sorted(needed | optional)
        raise CorpusError(f"{where}: unknown keys {unknown}, missing keys {missing}; allowed are {allowed}.")
