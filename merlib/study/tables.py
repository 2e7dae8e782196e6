"""The runs of a table on a data root, trained, and the records of their scores."""

import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from merlib import declarations
from merlib.data import folders
from merlib.declarations import Cell, Paper, Row, Table
from merlib.declarations.schema import OF_CLASS
from merlib.errors import MerlibError, RequestError
from merlib.places import commit
from merlib.study import outcomes, stale
from merlib.study.planning import plan, rows_of
from merlib.study.records import PLAIN, write_records
from merlib.study.runs import Run, execute

LABEL = 60  # characters of a run's name that a bar of progress has room for


class RunsFailed(MerlibError, RuntimeError):
    """Several runs of a table failed, each for a reason that the message names; the others are recorded."""


def run_table(
    paper: str, table: str, *, row: str | Sequence[str] = (), data: str = "twin", seeds: Sequence[int] = (0,),
    folds: Sequence[int] = (), only: Collection[str] = (), device: str | None = None,
    change: dict[str, Any] | None = None, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train the missing runs of a table or of some of its rows, write their records, and return them.

    folds: only these folds of each row, so that several processes or machines can share a row (those that share
    `results/` write into the same records). only: the ids of runs, as `merlib plan` lists them; other runs of the table
    are left alone. change: leaves or readings that override those of every row; then no record is written, only
    returned.
    A run that fails stops no other one; the errors are raised at the end, different ones as RunsFailed.
    """
    declared = declarations.load(paper)
    declared_table = declared.table(table)
    name = f"{paper}/{declared_table.id}"
    with _blamed_on(change):
        plans = [plan(declared, table, row=row, data=data, seed=seed, change=change, folds=folds) for seed in seeds]
    for reason in plans[0][1]:
        tqdm.write(f"skipped: {name}/{reason} in the root {data!r}")
    facts = [each for each in rows_of(declared_table, row) if each.kind == "fact"]
    records = [record for fact in facts for record in _count_records(declared, fact, declared_table, data)]
    if change is None:
        write_records(paper, declared_table.id, data, records)
    planned = [item for runs, _ in plans for item in runs if not only or item.run.id in only]
    if unknown := set(only) - {item.run.id for item in planned}:
        raise RequestError(f"{name} on {data!r} has no run {', '.join(sorted(unknown))}: see `merlib plan {name}`")
    failed = {}
    bar = tqdm(planned, desc=f"{name} on {data}", disable=not progress)
    for item in bar:
        label, run = f"{item.row.id} {item.run.corpus}", item.run
        bar.set_postfix_str(f"{label[-LABEL:]} seed {run.seed} fold {run.fold}")
        try:
            with _blamed_on(change):
                result = execute(run, device=device, progress=progress, label=label[-LABEL:])
        except Exception as error:  # noqa: BLE001, a fault of one network is none of the others
            failed[f"{label} seed {run.seed} fold {run.fold}"] = error
            continue
        records += records_of_run(item.cells, run, result)
        if change is None:
            outcomes.keep(run)
            write_records(paper, declared_table.id, data, records)
    _raise(failed)
    return pd.DataFrame(records)


@contextmanager
def _blamed_on(change: dict[str, Any] | None) -> Iterator[None]:
    """With a change of the recipe, an error that merlib does not know is said to come from its values."""
    try:
        yield
    except (MerlibError, OSError):
        raise
    except Exception as error:
        if not change:
            raise
        values = ", ".join(f"{leaf} = {value}" for leaf, value in change.items())
        raise RequestError(f"no run can be made with {values}: {type(error).__name__}: {error}") from error


def _raise(failed: dict[str, Exception]) -> None:
    """The error, if all runs failed for the same reason; else one that names each run and its reason."""
    errors = list(failed.values())
    if len({str(error) for error in errors}) == 1:
        raise errors[0]
    if errors:
        for error in errors:
            if not isinstance(error, (MerlibError, OSError)):
                traceback.print_exception(error)  # of a fault in the code, where it is
        reasons = "; ".join(f"{run}: {error}" for run, error in failed.items())
        wrong = all(isinstance(error, RequestError) for error in errors)
        raise (RequestError if wrong else RunsFailed)(f"{len(errors)} runs failed: {reasons}")


def records_of_run(cells: list[Cell], run: Run, result: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per cell and selection, in percent (except errors, correlations and counts)."""
    declared = declarations.load(cells[0].paper)
    substitutes = " ".join(declarations.substitutes(declared, run.corpus, run.recipe)) or "none"
    common = {
        "n": result["n"], "run": result["id"], "recipe": run.recipe_id, "substitutes": substitutes,
        **stale.marks(run.recipe),
        "features": " | ".join(result["features"].values()), "seconds": result["seconds"],
        "peak_memory_mb": result["peak_memory_mb"], "device": result["device"], "torch": result["torch"],
        "commit": result["commit"],
    }  # fmt: skip
    records = []
    for cell in cells:
        of_class = cell.metric in (*OF_CLASS, "count")
        metric = f"{cell.metric}/{cell.emotion}" if of_class else cell.metric
        scale = 1 if cell.metric in PLAIN else 100
        for selection, selected in result["selected"].items():
            key = {"data": run.data, "row": cell.row, "column": cell.column, "fold": run.fold, "seed": run.seed}
            scores = selected["val_scores"] if cell.fold == "val" else selected["scores"]
            value = {"selection": selection, "value": round(scale * scores[metric], 4), "epoch": selected["epoch"] + 1}
            records.append(key | value | common | {"never_predicted": " ".join(selected["never_predicted"])})
    return records


def _count_records(paper: Paper, row: Row, table: Table, data: str) -> list[dict[str, Any]]:
    records = []
    for cell in declarations.row_cells(paper, table, row):
        if cell.metric == "count" and cell.corpus in folders.corpora(data):
            corpus = folders.dataset(data, cell.corpus, features=()).corpus
            rows = corpus.table
            if cell.emotion:
                rows = rows[rows["label"] == corpus.labels.index(cell.emotion)]
            if cell.fold:
                rows = rows[rows["split"] == cell.fold]
            key = {"data": data, "row": cell.row, "column": cell.column, "fold": 0, "seed": 0, "selection": "val"}
            about = {"n": len(corpus.table), "features": corpus.source, "commit": commit()}
            records.append(key | {"value": len(rows)} | about)
    return records
