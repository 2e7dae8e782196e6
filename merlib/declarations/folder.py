"""The files of a paper's folder as they are written: TOML, tables whose digits are in a CSV file, and claims.

What is wrong with them is said in one line each, with the file.
"""

import csv
import difflib
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from merlib.declarations.schema import Claim, Column, Paper, Row, Table
from merlib.errors import DeclarationError, listed
from merlib.foreign import read_text, read_toml

OF_ROW = ("row", "emotion", "average", "corpus", "cited", "reference")  # columns of a CSV file that say what a row is
DASHES = ("", "-", "--", "–", "—")  # cells without a number
FILES = "see papers/README.md for the files of a paper; `merlib audit --new FOLDER` writes some to start from"


def toml(path: Path) -> dict:
    """A TOML file; fractions are Decimals, which keep the digits as printed."""
    try:
        return read_toml(path, parse_float=Decimal)
    except FileNotFoundError:
        raise DeclarationError(f"{path} is missing: {FILES}") from None
    except (OSError, ValueError) as error:
        raise DeclarationError(f"not valid TOML: {error}. Correct it: see papers/README.md") from None


def read(folder: Path) -> dict[str, Any]:
    """All that the files of a folder declare, as keywords of `Paper`, not checked yet."""
    own = toml(folder / "paper.toml")
    tables = {path.stem: _table(path) for path in sorted((folder / "tables").glob("table*.toml"))}
    return {"id": folder.name} | own | {"tables": tables, "claims": _one_by_one(folder / "claims.toml")}


def _table(path: Path) -> dict[str, Any]:
    """A table; where a CSV file of its name lies beside it, that has the rows."""
    table = {"id": path.stem, "caption": "", "where": f"Table {path.stem.removeprefix('table')}"} | toml(path)
    if path.with_suffix(".csv").exists():
        if "row" in table:
            raise DeclarationError(f"{path}: has [[row]] tables, and {path.stem}.csv has rows too: keep one of the two")
        columns = table.get("columns", {})
        table["row"] = _rows(path.with_suffix(".csv"), columns if isinstance(columns, dict) else {})
    return table


def _rows(path: Path, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a CSV file: a column `row` with their labels, and columns of printed digits."""
    try:
        header, *lines = csv.reader(read_text(path).splitlines(), strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise DeclarationError(f"{path}: not a CSV file with a header: {error}. Save the table as CSV.") from None
    header = [name.strip() for name in header]
    if unknown := [name for name in header if name not in OF_ROW and name not in columns]:
        near = difflib.get_close_matches(unknown[0], [*OF_ROW, *columns], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"write [columns.{unknown[0]}] into {path.stem}.toml"
        raise DeclarationError(
            f"{path}: the header names {unknown[0]!r}, which {path.stem}.toml does not declare; {hint}"
        )
    if header.count("row") != 1 or len(set(header)) < len(header):
        what = f"{path}: expected one column `row` with the labels, and no name twice"
        raise DeclarationError(f"{what}; found {listed(header)}")
    rows = []
    for number, line in enumerate((line for line in lines if any(line)), start=2):
        if len(line) != len(header):
            raise DeclarationError(f"{path}: line {number} has {len(line)} cells, the header {len(header)}: align them")
        cells = {name: text.strip() for name, text in zip(header, line, strict=True)}
        label = cells.pop("row")
        row = {name: text for name in OF_ROW if (text := cells.pop(name, ""))}
        if "cited" in row:
            row["cited"] = row["cited"].lower() in ("true", "yes", "1", "x")
        reported = {name: text for name, text in cells.items() if text not in DASHES}
        name = re.sub(r"\W+", "_", label.casefold()).strip("_")
        rows.append({"id": name, "label": label, "reported": reported} | row)
    return rows


def _one_by_one(path: Path) -> list[dict]:
    """The claims of a file; one that says the same of `each` of several rows or columns is one claim for each."""
    claims, single = toml(path) if path.exists() else {"claim": []}, []
    if list(claims) != ["claim"] or not all(isinstance(claim, dict) for claim in claims["claim"]):
        raise DeclarationError(f"{path}: expected only [[claim]] tables, found {listed(sorted(claims))}")
    for claim in claims["claim"]:
        shared = {key: value for key, value in claim.items() if key != "each"}
        sentence, names = claim.get("sentence") or claim.get("id", ""), claim.get("each", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DeclarationError(f"{path}: {sentence}: each = {names!r}: expected a list of names")
        for name in names:
            filled = {key: _filled(value, name) for key, value in shared.items()}
            single.append(filled | {"id": f"{claim.get('id')}_{name}", "sentence": sentence})
        if "each" not in claim:
            single.append(shared)
    return single


def _filled(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_filled(each, name) for each in value]
    return value.replace("{each}", name) if isinstance(value, str) else value


def mistakes(folder: Path, declared: dict[str, Any], error: ValidationError) -> DeclarationError:
    """What does not fit the grammar: one line for each key, with the file."""
    lines: dict[str, str] = {}
    for each in error.errors():
        lines.setdefault(*_mistake(folder, declared, each))
    return DeclarationError(*lines.values())


def _mistake(folder: Path, declared: dict[str, Any], error: Any) -> tuple[str, str]:
    """The place of a mistake and the line that tells it."""
    place, path, model = list(error["loc"]), folder / "paper.toml", Paper
    if place[0] == "tables" and len(place) > 2:
        path, model, place = folder / "tables" / f"{place[1]}.toml", Table, place[2:]
        if place[0] in ("columns", "row") and len(place) > 2:
            model = Column if place[0] == "columns" else Row
            place = place[:3] if model is Column else ["row", place[1] + 1, place[2]]  # people count from one
    elif place[0] == "claims" and len(place) > 2:
        path, model = folder / "claims.toml", Claim
        place = [declared["claims"][place[1]].get("id", f"claim {place[1] + 1}"), place[2]]
    name = ".".join(map(str, place))
    what = f"is {error['input']!r}: {error['msg'][:1].lower()}{error['msg'][1:]}"
    if error["type"] == "missing":
        what = "is missing. Add it: see papers/README.md"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), model.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(model.model_fields)}"
        what = f"is no key here; {hint} See papers/README.md"
    return f"{path}: {name}", f"{path}: {name} {what}"
