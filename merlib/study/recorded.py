"""Which numbers have records, and where these lie; read without pandas, since a light command needs no more."""

import csv
from pathlib import Path

from merlib.places import results_folder


def records_path(paper: str, table: str, data: str) -> Path:
    """results/<data>/records/<paper>/<table>.csv"""
    return results_folder(data) / "records" / paper / f"{table}.csv"


def roots_of(paper: str, table: str) -> list[str]:
    """The data roots that have a file of records of a table."""
    return sorted(path.parents[2].name for path in results_folder(".").glob(f"*/records/{paper}/{table}.csv"))


def recorded(paper: str) -> dict[tuple[str, str, str], set[str]]:
    """(table, row, column) -> the data roots that have records of it."""
    roots: dict[tuple[str, str, str], set[str]] = {}
    for path in sorted(results_folder(".").glob(f"*/records/{paper}/*.csv")):
        table, data = path.stem, path.parents[2].name
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for record in csv.DictReader(file):  # what is damaged is left for `records.read_records` to refuse
                roots.setdefault((table, record.get("row"), record.get("column")), set()).add(data)
    return roots
