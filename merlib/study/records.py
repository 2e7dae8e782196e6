"""Records: the scores of runs, one line per (data, row, column, fold, seed, selection), one CSV file per table.

A file of records is sealed (`merlib.files`), so that an edit by hand is told, and every line is checked when it is
written and when it is read: known columns, rows and columns of the table, and values in their range.
"""

import csv
import io
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merlib import declarations, origins
from merlib.errors import DeclarationError, MerlibError
from merlib.files import atomic, is_as_written, seal_of
from merlib.foreign import read_text
from merlib.places import results_folder
from merlib.study.recorded import records_path

KEYS = ["data", "row", "column", "fold", "seed", "selection"]  # identify a record
PLAIN = {"mae": (0, 6), "correlation": (-1, 1), "count": (0, 1e7)}  # metrics not recorded in percent, and their ranges
PERCENT = (0, 100)
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{0,16}$")]


class RecordsError(MerlibError, ValueError):
    """A file of records that no run wrote in this form."""


class Record(BaseModel):
    """One line of a file of records. Counts of a corpus have no epoch and no run; old records lack the last columns."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    data: str
    row: str
    column: str
    fold: int = Field(ge=0, lt=1000)
    seed: int = Field(ge=0)
    selection: Literal["val", "test_peak"]
    value: float
    n: int = Field(gt=0)  # utterances that were scored
    epoch: int | None = Field(None, ge=1)
    run: Id = ""
    features: str = ""
    never_predicted: str = ""
    seconds: float | None = Field(None, ge=0, lt=1e8)  # three years
    peak_memory_mb: float | None = Field(None, ge=0, lt=1e8)
    device: str = ""
    torch: str = ""
    commit: str = ""
    recipe: Id = ""
    substitutes: str = ""  # names of [substitute.*] of paper.toml, or none; old records do not say
    declared: Id = ""  # the recipe alone, without data and code (`identity.of_declared`); old records have none
    versions: str = ""  # of the code that trained: "network 1 loss 1 inputs 1 loop 1"


COLUMNS = [*KEYS, "value", "n", "epoch", "run", "features", "never_predicted"]  # of an empty table


def read_records(paper: str, table: str, data: str) -> pd.DataFrame:
    """The records of a table; empty where nothing has run.

    Raises RecordsError for a file that was cut, edited or merged by hand, or belongs to another root.
    """
    path = records_path(paper, table, data)
    origins.note(path)
    if not os.path.lexists(path):
        return pd.DataFrame(columns=COLUMNS)
    try:
        _check_seal(path)
        text = read_text(path)
        if not text.endswith("\n"):
            raise ValueError("the last line is not whole")
        lines = csv.DictReader(io.StringIO(text), strict=True)
        if unknown := [name for name in lines.fieldnames if name not in Record.model_fields]:
            raise ValueError(f"the columns {', '.join(unknown)} are unknown")
        records = [{name: value for name, value in line.items() if value != ""} for line in lines]
        checked = _checked(records, paper, table, data, first_line=2)
    except (ValueError, OSError, csv.Error) as error:
        expected = "Expected the records that `merlib run` writes; take back a version that it wrote."
        raise RecordsError(f"{path}: {error}. {expected}") from None
    table_of_records = pd.DataFrame([record.model_dump() for record in checked], columns=lines.fieldnames)
    return table_of_records.astype({"epoch": "Int64"} if "epoch" in table_of_records else {})


def read_made(path: Path, columns: Collection[str], remedy: str, **options: Any) -> pd.DataFrame:
    """A table of results that a command makes from records or data; RecordsError, with the remedy, where it is damaged.

    options: as of `pandas.read_csv`.
    """
    try:
        text = read_text(path)
        if not text.endswith("\n"):
            raise ValueError("the last line is not whole")
        made = pd.read_csv(io.StringIO(text), **options)
        if lacking := sorted(set(columns) - set(made)):
            raise ValueError(f"the columns {', '.join(lacking)} are missing")
    except (ValueError, OSError) as error:
        raise RecordsError(f"{path} is damaged ({error}): {remedy}") from None
    return made


def lock(name: str) -> FileLock:
    """Of two processes that add lines to one table of results, the second reads what the first wrote."""
    file = results_folder("cache") / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file)


def write_records(paper: str, table: str, data: str, records: list[dict[str, Any]]) -> None:
    """Add records to the file of a table, in place of those with equal keys; two batches may write at the same time.

    Raises RecordsError for a record whose values are not in their range.
    """
    if not records:
        return
    try:
        new = pd.DataFrame([each.model_dump(exclude_unset=True) for each in _checked(records, paper, table, data)])
    except ValueError as error:
        raise RecordsError(f"{paper}/{table} on {data}: {error}: this is not written") from None
    with lock(f"{data}-{paper}-{table}"):
        merged = pd.concat([read_records(paper, table, data), new])
        merged = merged.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
        save(records_path(paper, table, data), merged)


def save(path: Path, records: pd.DataFrame) -> None:
    """Write a file of records and its seal; a table of counts has no decimal points."""
    whole = (records["value"].astype(float) % 1 == 0).all()
    records = records.astype({"value": int if whole else float})
    with atomic(path, sealed=True) as part:
        records.to_csv(part, index=False)


def _checked(
    records: Iterable[Mapping[str, Any]], paper: str, table: str, data: str, *, first_line: int | None = None
) -> list[Record]:
    """The records as their types; ValueError for the first that is wrong, and how.

    first_line: the line of a file that the first of them stands in; only a file must not repeat a key.
    """
    declared, keys, checked = declarations.load(paper), set(), []
    for at, fields in enumerate(records, first_line or 1):
        where = f"line {at}" if first_line else f"record {at}"
        try:
            record = Record.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "record"
            raise ValueError(f"{where}: {name} is {first['input']!r}: {first['msg']}") from None
        metrics, key = _metrics_of(declared, table, record.row), tuple(getattr(record, name) for name in KEYS)
        if record.data != data:
            raise ValueError(f"{where} is a record of the data root {record.data!r}, not of {data!r}")
        if record.column not in metrics:
            raise ValueError(f"{where}: {paper}/{table} has no row {record.row!r} with a column {record.column!r}")
        least, most = PLAIN.get(metrics[record.column], PERCENT)
        if not least <= record.value <= most:
            expected = f"expected {metrics[record.column]} from {least:g} to {most:g}"
            raise ValueError(f"{where}: value is {record.value!r}, {expected}")
        if first_line and key in keys:
            raise ValueError(f"{where} is a second record of the same run")
        keys.add(key)
        checked.append(record)
    return checked


@cache
def _metrics_of(declared: declarations.Paper, table: str, row: str) -> dict[str, str]:
    of_table = declared.table(table)
    try:
        cells = declarations.row_cells(declared, of_table, of_table.find(row))
    except DeclarationError:
        return {}
    return {cell.column: cell.metric for cell in cells}


def _check_seal(path: Path) -> None:
    """ValueError for a file that was edited since it was written; a line on standard error where none could tell."""
    if not path.is_file():
        raise ValueError("this is no file")
    as_written = is_as_written(path)
    if as_written is False:
        remedy = f"if you mean the edit, delete {seal_of(path).name} beside it"
        raise ValueError(f"this is not what was written there, but edited or damaged ({remedy})")
    if as_written is None:
        _tell_unsealed(path)


@cache
def _tell_unsealed(path: Path) -> None:
    print(f"merlib: {path} has no {seal_of(path).name} beside it: an edit by hand could not be told", file=sys.stderr)
