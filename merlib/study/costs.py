"""What a run will take, in seconds and memory, by what runs of the same row took on this data root or another."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from merlib import declarations, registry
from merlib.declarations import Paper
from merlib.places import TWINS
from merlib.study.planning import Planned
from merlib.study.recorded import records_path, roots_of
from merlib.study.records import read_records

UNKNOWN = {  # seconds and MB where no record says more
    ("real", "network"): (300.0, 3000), ("real", "estimator"): (30.0, 3000),
    ("twin", "network"): (3.0, 1500), ("twin", "estimator"): (0.5, 1500),
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """seconds: of one thread of the processor, or of the GPU, that made the records; basis: which records those are."""

    seconds: float
    memory_mb: int
    basis: str


def predict(paper: Paper, table: str, planned: Planned, data: str) -> Cost:
    """The cost of a planned run on the root `data`.

    Records of the root itself count as they are, those of another one in proportion to epochs and test utterances. A
    synthetic root has smaller networks than a real one, so that only its own records say something of it. A row without
    any has the cost of UNKNOWN.
    """
    run, row = planned.run, planned.row
    estimator = registry.is_estimator(run.recipe["model"]["name"])
    columns = [cell.column for cell in planned.cells]
    alike = [root for root in roots_of(paper.id, table) if root == data or not {root, data} & set(TWINS)]
    for root in sorted(alike, key=lambda name: name != data):
        records = _records(paper.id, table, root)
        of_row = records[(records["row"] == row.id) & records["column"].isin(columns)]
        if len(of_row):
            there = declarations.recipe(paper, row, run.corpus, data=root)
            epochs = 1 if estimator else run.recipe["train"]["epochs"] / there["train"]["epochs"]
            utterances = np.count_nonzero(run.split == "test") / of_row["n"].astype(float).mean()
            seconds, memory = of_row["seconds"].astype(float).mean(), of_row["peak_memory_mb"].astype(float).max()
            factor = 1.0 if root == data else epochs * utterances
            return Cost(round(float(factor * seconds), 1), int(memory), f"records of {root}")
    return Cost(*UNKNOWN["twin" if data in TWINS else "real", "estimator" if estimator else "network"], "no record")


def _records(paper: str, table: str, root: str) -> pd.DataFrame:
    return _read(paper, table, root, records_path(paper, table, root).stat().st_mtime_ns)


@cache
def _read(paper: str, table: str, root: str, changed: int) -> pd.DataFrame:
    return read_records(paper, table, root)
