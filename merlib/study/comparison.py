"""Printed beside reproduced: the join that notebooks, reports and the scoreboard all use."""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.data import official, splits
from merlib.declarations import Cell, Paper, Row
from merlib.declarations.schema import OF_CLASS
from merlib.study import likeness, outcomes, stale, verdicts
from merlib.study.records import PLAIN, read_records
from merlib.study.statistics import Z

READ = [
    "data", "row", "column", "fold", "seed", "selection", "value", "n", "features", "substitutes", "never_predicted",
    "recipe", "declared", "versions", "commit", "run",
]  # fmt: skip
COLUMNS = [
    "row", "label", "column", "score", "printed", "reproduced", "spread", "n_seeds", "n_folds", "n", "test_peak",
    "difference", "low", "high", "noise", "inputs", "verdict", "never_predicted", "data", "features", "doubt",
]  # fmt: skip
OfCell = dict[tuple[str, str], list[Any]]  # (row, column) -> records


def compare(paper: str, table: str, data: str = "twin") -> pd.DataFrame:
    """Every cell of a table, one per line, in the unit that is printed (percent, or fractions).

    label and score: the row and the column in words; reproduced: mean over seeds and folds, at the epoch selected on
    validation (rows that declare `protocol.select = "test_peak"`: at the test peak); spread: their standard deviation;
    n: test utterances of all folds together, or those of the validation split where a column is of it and runs have
    left outcomes; test_peak: the mean at the best test epoch; difference: reproduced - printed, with low and high, the
    ends of its interval where there is one; noise: half the width of the 95 % interval of a score on its utterances,
    those of the class where it is of one (empty where their number is not known, and for what is no share); inputs: how
    those of the runs relate to those of the printed score (`likeness`); verdict: what the runs say of the printed
    number (`verdicts`), `not run`, `quoted` where the paper quotes it and no run here is of it, or `` where nothing is
    printed; features: the passports of what was read, and the substitutes that stood in for the printed protocol;
    doubt: `partial` where a seed lacks folds of the protocol, `mixed` where seeds or folds come from more than one
    recipe, set of features or state of the code, `uncommitted` where a run's code is in no commit, `part-of-corpus`
    where the root holds a part of the official corpus only, `stale` where the present declarations or code would not
    give a record.
    """
    declared = declarations.load(paper)
    declared_table, spreads, lines = declared.table(table), Spreads(declared, data), []
    records = spreads.records(declared_table.id)
    for row in declared_table.row:
        for cell in declarations.row_cells(declared, declared_table, row):
            of_cell = records.get((row.id, cell.column), [])
            if cell.printed is not None or of_cell:
                score = declared_table.columns[cell.column].label or cell.column
                lines.append({"label": row.label, "score": score, **_line(row, cell, of_cell, spreads)})
    board = pd.DataFrame(lines, columns=COLUMNS)
    board[["n_seeds", "n_folds", "n"]] = board[["n_seeds", "n_folds", "n"]].astype("Int64")
    board["difference"] = (board["reproduced"].astype(float) - board["printed"].astype(float)).round(4)
    return board.astype({"low": float, "high": float, "noise": float})


def records_of(paper: str, table: str, data: str) -> OfCell:
    """The records of a table by cell: some thousands, that pandas would select slowly."""
    records: OfCell = {}
    for record in read_records(paper, table, data).reindex(columns=READ).itertuples(index=False):
        records.setdefault((record.row, record.column), []).append(record)
    return records


Measured = tuple[str | None, str, str | None, tuple[int | str | None, int, str], str]
"""What is pooled over the rows that share it: corpus, metric, class; fold, number of folds and name of the split; and
the modalities, since networks that hear only vary several times as much between seeds as those that also read."""


class Spreads:
    """The means by seed of all trained rows of a paper that are measured alike; read when a cell asks."""

    def __init__(self, paper: Paper, data: str):
        self.paper, self.data, self._records = paper, data, {}

    def records(self, table: str) -> OfCell:
        if table not in self._records:
            self._records[table] = records_of(self.paper.id, table, self.data)
        return self._records[table]

    def of(self, cell: Cell) -> list[list[float]]:
        return self.groups.get(self.measured(cell), [])

    def protocol(self, cell: Cell) -> dict:
        """By which a cell is scored; of a quoted row, that of the base recipe or of its other system."""
        return declarations.recipe(self.paper, self.paper.row_of(cell), cell.corpus)["protocol"]

    def measured(self, cell: Cell) -> Measured:
        recipe = declarations.recipe(self.paper, self.paper.row_of(cell), cell.corpus, modalities=cell.modalities)
        split = cell.fold, splits.folds(recipe["protocol"]), recipe["protocol"]["split"]
        return cell.corpus, cell.metric, cell.emotion, split, recipe["data"]["modalities"]

    @cached_property
    def groups(self) -> dict[Measured, list[list[float]]]:
        """What is measured -> the means by seed of each row.

        Once where several rows have the same runs, or the same scores: what a row changes may be no part of the network
        that a column asks for.
        """
        groups: dict[Measured, dict[frozenset[str], list[float]]] = {}
        for table in self.paper.tables.values():
            records = self.records(table.id)
            for row in table.row if records else ():
                for cell in declarations.row_cells(self.paper, table, row) if row.trains else ():
                    if of_cell := records.get((row.id, cell.column)):
                        protocol = self.protocol(cell)
                        chosen = [r for r in of_cell if r.selection == protocol["select"]]
                        runs = frozenset(str(record.run) for record in chosen)
                        means = verdicts.complete(chosen, splits.folds(protocol))
                        groups.setdefault(self.measured(cell), {})[runs] = means
        alone = lambda runs, rows: not any(runs < others for others in rows)  # no other row has these runs and more
        once = lambda rows: dict.fromkeys(tuple(means) for runs, means in rows.items() if alone(runs, rows))
        return {key: [list(means) for means in once(rows)] for key, rows in groups.items()}


def _line(row: Row, cell: Cell, of_cell: list[Any], spreads: Spreads) -> dict[str, Any]:
    """The columns of a cell but for its words; of_cell: its records."""
    printed = math.nan if cell.printed is None else float(cell.printed)
    unrun = "not run" if row.runs else "quoted"
    line = {"row": row.id, "column": cell.column, "data": spreads.data, "printed": printed}
    line["verdict"] = "" if cell.printed is None else unrun
    if row.runs:
        protocol = spreads.protocol(cell) if of_cell and row.trains else {}
        selected = [record for record in of_cell if record.selection == protocol.get("select", "val")]
        line |= _reproduced(of_cell, selected, protocol, cell, spreads.data)
        if any(stale.reason(spreads.paper, cell, record) for record in selected):
            line["doubt"] = f"{line['doubt']} stale".strip()
        if selected and cell.printed is not None:
            line |= _judged(cell, selected, protocol, spreads)
    return line


def _judged(cell: Cell, selected: list[Any], protocol: dict, spreads: Spreads) -> dict:
    """The columns inputs, low, high and verdict of a cell that is printed and has run."""
    if cell.metric in ("count", "setting"):
        agrees = all(record.value == float(cell.printed) for record in selected)
        return {"inputs": "", "verdict": "agree" if agrees else "differ"}
    inputs = verdicts.inputs_of(spreads.paper, cell, selected, _tested(selected))
    if inputs != likeness.SAME:
        return {"inputs": inputs, "verdict": "not testable here"}
    options = {"folds": splits.folds(protocol), "data": spreads.data, "selection": protocol["select"]}
    estimate = verdicts.test_of(spreads.paper, cell, selected, groups=spreads.of(cell), **options)
    if estimate is None:
        return {"inputs": inputs, "verdict": "undecided"}
    scale = 1 / verdicts.PERCENT.get(cell.unit, 1.0)
    ends = {"low": scale * estimate.low, "high": scale * estimate.high}
    return {"inputs": inputs, "verdict": verdicts.verdict(estimate, verdicts.delta(spreads.paper, cell.table))} | ends


def _reproduced(records: list[Any], selected: list[Any], protocol: dict, cell: Cell, data: str) -> dict:
    """Mean, spread and origin of the records of a cell, in the columns of `compare`."""
    if not selected:
        return {"n_seeds": 0, "n_folds": 0}
    scale = 1 / verdicts.PERCENT.get(cell.unit, 1.0)
    value = scale * np.array([record.value for record in selected])
    peak = scale * np.array([record.value for record in records if record.selection == "test_peak"])
    n = _tested(selected)
    never = {name for record in selected for name in str(record.never_predicted).split()} - {"nan"}
    return {
        "reproduced": value.mean(), "spread": value.std(ddof=1) if len(value) > 1 else math.nan,
        "test_peak": peak.mean() if len(peak) else math.nan,
        "n": n if cell.fold is None else _size(cell, selected, n, data),
        "n_seeds": len({record.seed for record in selected}), "n_folds": len({record.fold for record in selected}),
        "noise": scale * _noise(cell, selected, n, protocol, data),
        "never_predicted": " ".join(sorted(never)),
        "features": _features(selected),
        "doubt": " ".join(_doubts(selected, splits.folds(protocol) if protocol else 1)),
    }  # fmt: skip


def _tested(selected: list[Any]) -> int:
    """The test utterances of all folds together."""
    return sum({record.fold: int(record.n) for record in reversed(selected)}.values())


def _noise(cell: Cell, selected: list[Any], n: int, protocol: dict, data: str) -> float:
    """Half the width of the interval that the sample of utterances leaves around a score, in percent.

    By the bootstrap of dialogues, videos or actors where runs have left outcomes; else as if utterances were
    independent, for the number that the score is of.
    """
    if cell.metric in PLAIN:
        return math.nan
    sampled = verdicts.sampling(cell, selected, data, protocol.get("select", "val"))
    if sampled is not None:
        return Z * math.sqrt(sampled.variance)
    share = min(max(float(np.mean([record.value for record in selected])) / 100, 0.0), 1.0)
    size = _size(cell, selected, n, data)
    return 100 * Z * math.sqrt(share * (1 - share) / size) if size else math.nan


def _size(cell: Cell, selected: list[Any], n: int, data: str) -> int | None:
    """How many utterances a score is of: of the class, of the validation split, or n; None where that is not known."""
    if cell.fold is not None:
        of_folds = {record.fold: outcomes.read(data, str(record.run)) for record in selected}.values()
        return None if None in of_folds else sum(of_fold.val_n for of_fold in of_folds)
    if cell.metric not in OF_CLASS:
        return n
    of_group = official.classes_of(cell.corpus, n)
    return of_group and of_group[official.LABELS[cell.corpus].index(cell.emotion)]


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
    recipes = {str(record.commit if str(record.recipe) in ("", "nan") else record.recipe) for record in records}
    if len(recipes) > 1 or len({str(record.features) for record in records}) > 1:
        yield "mixed"
    if any(str(record.commit).endswith("+") for record in records):
        yield "uncommitted"
    if any("partial: " in str(record.features) for record in records):
        yield "part-of-corpus"
