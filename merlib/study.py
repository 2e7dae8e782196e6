"""A study: cells of a table -> runs -> records. The only place that writes records."""

from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from tqdm.auto import tqdm

from merlib import declarations
from merlib.corpora.files import atomic
from merlib.corpora.table import CorpusError
from merlib.declarations import Cell, Paper, Row
from merlib.features import roots
from merlib.places import commit, results_folder
from merlib.runs import Run, execute

KEYS = ["data", "row", "column", "fold", "seed", "selection"]  # one record each


def runs_of(
    paper: Paper,
    table: str,
    *,
    row: str | None = None,
    data: str = "twin",
    seed: int = 0,
    change: dict[str, Any] | None = None,
) -> list[tuple[Row, str, Run]]:
    """The runs behind a table (or one row of it) for one seed: (row, corpus, run), in the table's order."""
    found = paper.table(table)
    there = set(roots.corpora(data)) & set(paper.corpora)
    if not there:
        raise CorpusError(
            f"the root {data!r} ({roots.root_path(data)}) has none of {paper.corpora}: see `merlib doctor`"
        )
    result = []
    for declared in [found.find(row)] if row else found.row:
        if declared.runs and declared.kind == "own":
            for corpus in dict.fromkeys(
                c.corpus for c in declarations.row_cells(paper, found, declared) if c.corpus in there
            ):
                recipe = declarations.recipe(paper, declared, corpus, twin=data == "twin", change=change)
                result.append((declared, corpus, Run(recipe, corpus, data, seed)))
    return result


def run_table(
    paper: str, table: str, *, row: str | None = None, data: str = "twin", seeds: tuple[int, ...] = (0,),
    device: str | None = None, change: dict[str, Any] | None = None, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train what is missing of a table, write its records, and return them.

    change: leaves or readings laid over every row; then the result is yours alone and no record is written.
    """
    declared = declarations.load(paper)
    found = declared.table(table)
    planned = [
        item for seed in seeds for item in runs_of(declared, table, row=row, data=data, seed=seed, change=change)
    ]
    rows = [found.find(row)] if row else found.row
    records = [record for r in rows if r.kind == "fact" for record in _count_records(declared, r, found, data)]
    bar = tqdm(planned, desc=f"{paper}/{found.id} on {data}", disable=not progress)
    for declared_row, corpus, run in bar:
        bar.set_postfix_str(f"{declared_row.id} {corpus} seed {run.seed}")
        result = execute(run, device=device, progress=progress, label=f"{declared_row.id} {corpus}")
        records += _run_records(declarations.row_cells(declared, found, declared_row), corpus, run, result)
        if change is None:
            write_records(paper, found.id, data, records)
    if not planned and change is None:
        write_records(paper, found.id, data, records)
    return pd.DataFrame(records)


def _run_records(cells: list[Cell], corpus: str, run: Run, result: dict[str, Any]) -> list[dict[str, Any]]:
    """One record a cell and selection, in the unit of the tables (percent)."""
    common = {
        "n": result["n"], "run": result["id"], "features": " | ".join(result["features"].values()), "seconds": result["seconds"],
        "peak_memory_mb": result["peak_memory_mb"], "device": result["device"], "torch": result["torch"], "commit": result["commit"],
    }  # fmt: skip
    records = []
    for cell in cells:
        metric = f"f1/{cell.emotion}" if cell.metric == "f1" else cell.metric
        for selection, found in result["selected"].items() if cell.corpus == corpus else ():
            key = {"data": run.data, "row": cell.row, "column": cell.column, "fold": run.fold, "seed": run.seed}
            value = {
                "selection": selection,
                "value": round(100 * found["scores"][metric], 4),
                "epoch": found["epoch"] + 1,
            }
            records.append(key | value | common | {"never_predicted": " ".join(found["never_predicted"])})
    return records


def _count_records(paper: Paper, row: Row, table: declarations.Table, data: str) -> list[dict[str, Any]]:
    """Facts that the corpus itself answers: how many utterances of a class there are."""
    records = []
    for cell in declarations.row_cells(paper, table, row):
        if cell.metric == "count" and cell.emotion and cell.corpus in roots.corpora(data):
            corpus = roots.dataset(data, cell.corpus, features=()).corpus
            count = int((corpus.table["label"] == corpus.labels.index(cell.emotion)).sum())
            key = {"data": data, "row": cell.row, "column": cell.column, "fold": 0, "seed": 0, "selection": "val"}
            records.append(
                key | {"value": count, "n": len(corpus.table), "features": corpus.source, "commit": commit()}
            )
    return records


def records_path(paper: str, table: str, data: str) -> Path:
    return results_folder(data) / "records" / paper / f"{table}.csv"


def read_records(paper: str, table: str, data: str) -> pd.DataFrame:
    """The records of a table, one line per (data, row, column, fold, seed, selection); empty where nothing has run."""
    path = records_path(paper, table, data)
    if not path.exists():
        return pd.DataFrame(columns=[*KEYS, "value", "n", "epoch", "run", "features", "never_predicted"])
    return pd.read_csv(path, keep_default_na=False, na_values={"value": [""], "epoch": [""]})


def recorded(paper: str) -> dict[tuple[str, str, str], set[str]]:
    """(table, row, column) -> the data roots that have records of it."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for path in results_folder(".").glob(f"*/records/{paper}/*.csv"):
        for row, column in pd.read_csv(path, usecols=["row", "column"]).drop_duplicates().itertuples(index=False):
            found.setdefault((path.stem, row, column), set()).add(path.parents[2].name)
    return found


def write_records(paper: str, table: str, data: str, records: list[dict[str, Any]]) -> None:
    """Lay new records over the ones that are there: atomic, and safe for two batches at once."""
    path = records_path(paper, table, data)
    if not records:
        return
    lock = results_folder("cache") / f"{data}-{paper}-{table}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        together = pd.concat([read_records(paper, table, data), pd.DataFrame(records)])
        together = together.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
        with atomic(path) as part:
            together.to_csv(part, index=False)
