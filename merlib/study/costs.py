"""What a run will take, in seconds and memory: by what runs of its row took, here or on another root, or by a probe."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from merlib import declarations, registry
from merlib.declarations import Paper
from merlib.places import TWINS, results_folder
from merlib.study import identity
from merlib.study.planning import Planned
from merlib.study.recorded import records_path, roots_of
from merlib.study.records import read_made, read_records
from merlib.study.runs import Run

NO_RECORD = "no record"
PACE = ("epochs", "batch", "batch_unit", "precision", "optimizer")  # leaves of `train` on which seconds depend
OF_PROBE = {"recipe": str, "corpus": str, "seconds": float, "memory_mb": int, "device": str}  # columns of probes.csv
UNKNOWN = {  # seconds and MB where neither a record nor a probe says more
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
    synthetic root has smaller networks than a real one, so that only its own records say something of it. Records of
    other inputs than the run's (substitutes of what is printed) say nothing. A row without any has the computed cost of
    the encoder that learns in it, that of a probe of its recipe (`merlib.study.probes`), or that of UNKNOWN.
    """
    run, row = planned.run, planned.row
    learning = _learning(paper, run)
    names = " ".join(declarations.substitutes(paper, run.corpus, run.recipe)) or "none"
    estimator = registry.is_estimator(run.recipe["model"]["name"])
    columns = [cell.column for cell in planned.cells]
    alike = [root for root in roots_of(paper.id, table) if root == data or not {root, data} & set(TWINS)]
    for root in sorted(alike, key=lambda name: name != data):
        records = _read(paper.id, table, root, records_path(paper.id, table, root).stat().st_mtime_ns)
        of_row = records[(records["row"] == row.id) & records["column"].isin(columns)]
        inputs = of_row.get("substitutes", pd.Series("", of_row.index))  # an old record does not say: never as printed
        of_row = of_row[inputs.replace("", "as before" if learning else names) == names]
        if len(of_row):
            there = declarations.recipe(paper, row, run.corpus, data=root)
            epochs = 1 if estimator else run.recipe["train"]["epochs"] / there["train"]["epochs"]
            utterances = np.count_nonzero(run.split == "test") / of_row["n"].astype(float).mean()
            seconds, memory = of_row["seconds"].astype(float).mean(), of_row["peak_memory_mb"].astype(float).max()
            factor = 1.0 if root == data else epochs * utterances
            return Cost(round(float(factor * seconds), 1), int(memory), f"records of {root}")
    kind = "twin" if data in TWINS else "real", "estimator" if estimator else "network"
    probe = _probes(data).get((as_costly(run.recipe), run.corpus))
    return learning or probe or Cost(*UNKNOWN[kind], NO_RECORD)


def as_costly(recipe: dict[str, dict]) -> str:
    """What recipes share that cost the same: all but the numbers of the loss and of the optimiser."""
    train = {name: recipe["train"][name] for name in PACE if name in recipe["train"]}
    return identity.of_declared(recipe | {"loss": {"name": recipe["loss"]["name"]}, "train": train})


def probes_path(data: str) -> Path:
    return results_folder(data) / "probes.csv"


def _probes(data: str) -> dict[tuple[str, str], Cost]:
    """(`as_costly`, corpus) -> what its probe on a data root took."""
    path = probes_path(data)
    return _costs_of_probes(path, path.stat().st_mtime_ns) if path.is_file() else {}


@cache
def _costs_of_probes(path: Path, changed: int) -> dict[tuple[str, str], Cost]:
    lines = read_probes(path).itertuples(index=False)
    return {(line.recipe, line.corpus): Cost(line.seconds, line.memory_mb, "probe") for line in lines}


def read_probes(path: Path) -> pd.DataFrame:
    """One line for each probe that was made, with the columns of OF_PROBE; none where there is no such file."""
    if not path.is_file():
        return pd.DataFrame(columns=list(OF_PROBE)).astype(OF_PROBE)
    remedy = "delete it, and `merlib plan --probe` makes it anew"
    return read_made(path, OF_PROBE, remedy, dtype=OF_PROBE)


def _learning(paper: Paper, run: Run) -> Cost | None:
    """The computed cost, on a GPU, of the encoders that learn in a run as printed; None where none does."""
    train, printed = run.recipe["train"], declarations.base_recipe(paper, run.corpus)["data"]
    learns = [
        each.learns for each in paper.substitute.values()
        if each.learns and run.arrays.get(each.modality) == printed[each.modality]
    ]  # fmt: skip
    if not learns:
        return None
    seen = np.count_nonzero(run.split == "train") * train["epochs"]
    seconds = sum(each.seconds(seen, train["precision"]) for each in learns)
    return Cost(round(seconds, 1), round(1000 * sum(each.gigabytes(train["batch"]) for each in learns)), "computed")


@cache
def _read(paper: str, table: str, root: str, changed: int) -> pd.DataFrame:
    return read_records(paper, table, root)
