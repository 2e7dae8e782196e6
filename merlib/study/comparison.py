"""Printed beside reproduced: the join that notebooks, reports and the scoreboard of the README all use."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.data import splits
from merlib.declarations import Cell
from merlib.study.records import PLAIN, read_records

READ = [
    "row", "column", "fold", "seed", "selection", "value", "n", "features", "substitutes", "never_predicted", "recipe",
    "commit",
]  # fmt: skip
COLUMNS = [
    "row", "label", "column", "printed", "reproduced", "spread", "n_seeds", "n_folds", "n", "test_peak", "difference",
    "noise", "verdict", "never_predicted", "data", "features", "doubt",
]  # fmt: skip


def compare(paper: str, table: str, data: str = "twin") -> pd.DataFrame:
    """Every cell of a table, one per line, in the unit that is printed (percent, or fractions).

    reproduced: mean over seeds and folds, at the epoch selected on validation (rows that declare `protocol.select =
    "test_peak"`: at the test peak); spread: their standard deviation; n: test utterances of all folds together;
    test_peak: the mean at the best test epoch; noise: half the width of the 95 % interval of a score on n utterances;
    verdict: `within` when printed and reproduced differ by no more than noise plus two spreads, else `below` or
    `above`, `not run`, or `` where nothing is printed; features: the passports of what was read, and the substitutes
    that stood in for the printed protocol; doubt: `partial` where a seed lacks folds of the protocol, `mixed` where
    seeds or folds come from more than one recipe, set of features or state of the code, `uncommitted` where a run's
    code is in no commit, `part-of-corpus` where the root holds a part of the official corpus only.
    """
    declared = declarations.load(paper)
    declared_table = declared.table(table)
    records: dict[tuple[str, str], list[Any]] = {}  # by row and column: some thousands, that pandas would select slowly
    for record in read_records(paper, declared_table.id, data).reindex(columns=READ).itertuples(index=False):
        records.setdefault((record.row, record.column), []).append(record)
    lines = []
    for row in declared_table.row:
        for cell in declarations.row_cells(declared, declared_table, row):
            of_cell = records.get((row.id, cell.column), [])
            if cell.printed is None and not of_cell:
                continue
            printed = float("nan") if cell.printed is None else float(cell.printed)
            line = {"row": row.id, "label": row.label, "column": cell.column, "data": data, "printed": printed}
            if row.runs:
                has_protocol = of_cell and row.kind != "fact"
                protocol = declarations.recipe(declared, row, cell.corpus)["protocol"] if has_protocol else {}
                line |= _reproduced(of_cell, protocol, cell)
            lines.append(line)
    board = pd.DataFrame(lines, columns=COLUMNS)
    board[["n_seeds", "n_folds", "n"]] = board[["n_seeds", "n_folds", "n"]].astype("Int64")
    board["difference"] = (board["reproduced"].astype(float) - board["printed"].astype(float)).round(4)
    board["verdict"] = [_verdict(line) for line in board.itertuples()]
    return board


def _reproduced(records: list[Any], protocol: dict, cell: Cell) -> dict:
    """Mean, spread and origin of the records of a cell, in the columns of `compare`."""
    selected = [record for record in records if record.selection == protocol.get("select", "val")]
    if not selected:
        return {"n_seeds": 0, "n_folds": 0}
    scale = 0.01 if cell.unit == "fraction" else 1.0
    value = scale * np.array([record.value for record in selected])
    peak = scale * np.array([record.value for record in records if record.selection == "test_peak"])
    n = sum({record.fold: int(record.n) for record in reversed(selected)}.values())  # of all folds together
    share = min(max(value.mean() / (100 * scale), 0.0), 1.0)
    never = {name for record in selected for name in str(record.never_predicted).split()} - {"nan"}
    return {
        "reproduced": value.mean(), "spread": value.std(ddof=1) if len(value) > 1 else math.nan,
        "test_peak": peak.mean() if len(peak) else math.nan, "n": n,
        "n_seeds": len({record.seed for record in selected}), "n_folds": len({record.fold for record in selected}),
        "noise": 0.0 if cell.metric in PLAIN else 196 * scale * math.sqrt(share * (1 - share) / n),
        "never_predicted": " ".join(sorted(never)),
        "features": _features(selected),
        "doubt": " ".join(_doubts(selected, splits.folds(protocol) if protocol else 1)),
    }  # fmt: skip


def _features(records: list[Any]) -> str:
    """The passports of what the runs of a cell read, and the names of the substitutes among their inputs."""
    passports = " or ".join(dict.fromkeys(str(record.features) for record in records))
    named = dict.fromkeys(name for record in records for name in str(record.substitutes).split())
    substitutes = " ".join(name for name in named if name not in ("none", "nan"))
    return f"{passports} | substitutes: {substitutes}" if substitutes else passports


def _doubts(records: list[Any], folds: int) -> Iterator[str]:
    """Why a mean of these records may mislead; old records have no recipe, so their commit stands for it."""
    folds_of_seed: dict[int, set[int]] = {}
    for record in records:
        folds_of_seed.setdefault(record.seed, set()).add(record.fold)
    if min(map(len, folds_of_seed.values())) < folds:
        yield "partial"
    commits = [str(record.commit) for record in records]
    recipes = {str(record.commit if str(record.recipe) in ("", "nan") else record.recipe) for record in records}
    if len(recipes) > 1 or len({str(record.features) for record in records}) > 1:
        yield "mixed"
    if any(commit.endswith("+") for commit in commits):
        yield "uncommitted"
    if any("partial: " in str(record.features) for record in records):
        yield "part-of-corpus"


def _verdict(line) -> str:
    if pd.isna(line.printed):
        return ""
    if pd.isna(line.reproduced):
        return "not run"
    allowed = line.noise + 2 * (0.0 if pd.isna(line.spread) else line.spread)
    return "within" if abs(line.difference) <= allowed + 1e-9 else "below" if line.difference < 0 else "above"
