"""Records: the scores of runs, one line per (data, row, column, fold, seed, selection), one CSV file per table."""

import io
from typing import Any

import pandas as pd
from filelock import FileLock

from merlib.errors import MerlibError
from merlib.files import atomic, read_text
from merlib.places import results_folder
from merlib.study.recorded import records_path

KEYS = ["data", "row", "column", "fold", "seed", "selection"]  # identify a record
COLUMNS = [*KEYS, "value", "n", "epoch", "run", "features", "never_predicted"]  # of an empty table
PLAIN = ("mae", "correlation", "count")  # metrics that are not recorded in percent


class RecordsError(MerlibError, ValueError):
    """A file of records that no run wrote in this form."""


def read_records(paper: str, table: str, data: str) -> pd.DataFrame:
    """The records of a table; empty where nothing has run.

    Raises RecordsError for a file that was cut, was merged by hand, or belongs to another root.
    """
    path = records_path(paper, table, data)
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    text = read_text(path)
    try:
        if not text.endswith("\n"):
            raise ValueError("the last line is not whole")
        records = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values={"value": [""], "epoch": [""]})
        typed = records.astype({"fold": int, "seed": int, "value": float})
        complete = typed.drop(columns=["value", "epoch"], errors="ignore").notna().all(axis=1)  # a short line has NaN
        good = complete & (typed["data"] == data) & typed["selection"].isin(["val", "test_peak"])
        if (bad := ~good | typed.duplicated(KEYS)).any():
            raise ValueError(f"line {2 + int(bad.argmax())} is no record of {data}, or a second one of the same run")
    except (ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        expected = "Expected the records that `merlib run` writes; take back a version that it wrote."
        raise RecordsError(f"{path}: {error}. {expected}") from None
    return records


def write_records(paper: str, table: str, data: str, records: list[dict[str, Any]]) -> None:
    """Add records to the file of a table, in place of those with equal keys; two batches may write at the same time."""
    if not records:
        return
    lock = results_folder("cache") / f"{data}-{paper}-{table}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        merged = pd.concat([read_records(paper, table, data), pd.DataFrame(records)])
        merged = merged.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
        with atomic(records_path(paper, table, data)) as part:
            merged.to_csv(part, index=False)
