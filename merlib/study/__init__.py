"""A study: cells of a table -> runs -> records. The only place that writes records."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from tqdm.auto import tqdm

from merlib import declarations
from merlib.data import folders, inputs, splits
from merlib.data.table import CorpusError
from merlib.declarations import Cell, Paper, Row
from merlib.errors import MerlibError, RequestError
from merlib.files import atomic
from merlib.places import commit, results_folder
from merlib.study.runs import Run, execute

KEYS = ["data", "row", "column", "fold", "seed", "selection"]  # one record each
AS_THEY_ARE = ("mae", "correlation", "count")


class RecordsError(MerlibError, ValueError):
    """A file of records that is not what a run has written."""


def runs_of(
    paper: Paper,
    table: str,
    *,
    row: str | Sequence[str] = (),
    data: str = "twin",
    seed: int = 0,
    folds: Sequence[int] = (),
    change: dict[str, Any] | None = None,
) -> list[tuple[Row, str, Run]]:
    """The runs behind a table (or some rows of it) for one seed: (row, corpus, run), in that order, every fold or only
    `folds`.

    Raises ValueError where no row that was asked has such a fold.
    """
    return [(asked.row, asked.corpus, asked.run) for asked in _planned(paper, table, row, data, seed, change, folds)[0]]


@dataclass(frozen=True)
class Asked:
    """A run, and the cells of a row that it fills."""

    row: Row
    corpus: str
    cells: list[Cell]
    run: Run


def _rows(table: declarations.Table, row: str | Sequence[str]) -> list[Row]:
    """The row that is named, or those that are, in that order; where none is, all of the table."""
    return [table.find(name) for name in ([row] if isinstance(row, str) else row)] if row else table.row


def _planned(
    paper: Paper, table: str, row, data: str, seed: int, change, folds: Sequence[int] = ()
) -> tuple[list[Asked], list[str]]:
    """What is to run, and why some of it cannot: rows or columns that ask for a modality which the root does not have,
    or for a reading whose leaves a synthetic root sets itself.
    """
    found = paper.table(table)
    there = set(folders.corpora(data)) & set(paper.corpora)
    if not there:
        raise CorpusError(
            f"the root {data!r} ({folders.root_path(data)}) has none of {paper.corpora}: see `merlib doctor`"
        )
    planned, skipped = [], []
    for declared in _rows(found, row):
        groups: dict[tuple[str, str | None], list[Cell]] = {}
        for cell in declarations.row_cells(paper, found, declared) if declared.runs and declared.kind == "own" else ():
            if cell.corpus in there:
                groups.setdefault((cell.corpus, cell.modalities), []).append(cell)
        for (corpus, modalities), cells in groups.items():
            if ruled := declarations.overruled(paper, corpus, data, declared.change, change or {}):
                leaf, value = next(iter(ruled.items()))
                reason = f"{', '.join(ruled)}: this root has its own, which only a leaf overrules: --set {leaf}={value}"
                skipped.append(f"{declared.id} on {corpus} ({reason})")
                continue
            recipe = declarations.recipe(paper, declared, corpus, data=data, change=change, modalities=modalities)
            asked, here = inputs.arrays(recipe["data"]), folders.arrays(data, corpus)
            absent = [m for m, name in asked.items() if name not in here]
            named = {f"data.{m}" for m in absent} | {"data.modalities"}
            explicit = modalities or named & declarations.changed(paper, declared.change, change or {}).keys()
            changed = [
                name for m, name in inputs.augmented(recipe["data"]).items() if asked[m] in here and name not in here
            ]
            if changed:
                skipped.append(f"{declared.id} on {corpus} (augmentation): no {', '.join(changed)}")
                continue
            if absent and (explicit or len(absent) == len(asked)):
                skipped.append(
                    f"{declared.id} on {corpus} ({recipe['data']['modalities']}): no "
                    f"{', '.join(asked[m] for m in absent)}"
                )
                continue
            present = "".join(k for k, m in inputs.LETTERS.items() if m in asked and m not in absent)
            recipe["data"]["modalities"] = present  # the same run, whether a row asks for what is absent or not
            for fold in range(splits.folds(recipe["protocol"])):
                planned.append(Asked(declared, corpus, cells, Run(recipe, corpus, data, seed, fold)))
    if planned and folds:
        last = max(asked.run.fold for asked in planned)
        if not set(folds) <= set(range(last + 1)):
            raise RequestError(f"folds {', '.join(map(str, folds))}: what was asked has folds 0 to {last}")
        planned = [asked for asked in planned if asked.run.fold in folds]
    return planned, skipped


def run_table(
    paper: str, table: str, *, row: str | Sequence[str] = (), data: str = "twin", seeds: tuple[int, ...] = (0,),
    folds: Sequence[int] = (),
    device: str | None = None, change: dict[str, Any] | None = None, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train what is missing of a table, or of some of its rows, write their records, and return them.

    folds: only these of each row's, so that several processes or machines can share a row out (those that share
    `results/` write into the same records). change: leaves or readings laid over every row; then the result is yours
    alone and no record is written.
    """
    declared = declarations.load(paper)
    found = declared.table(table)
    plans = [_planned(declared, table, row, data, seed, change, folds) for seed in seeds]
    planned = [asked for plan, _ in plans for asked in plan]
    for reason in plans[0][1]:
        tqdm.write(f"skipped: {paper}/{found.id}/{reason} in the root {data!r}")
    records = [
        record for r in _rows(found, row) if r.kind == "fact" for record in _count_records(declared, r, found, data)
    ]
    bar = tqdm(planned, desc=f"{paper}/{found.id} on {data}", disable=not progress)
    for asked in bar:
        name, run = f"{asked.row.id} {asked.corpus}", asked.run
        bar.set_postfix_str(f"{name} seed {run.seed} fold {run.fold}")
        result = execute(run, device=device, progress=progress, label=name)
        records += _run_records(asked.cells, run, result)
        if change is None:
            write_records(paper, found.id, data, records)
    if not planned and change is None:
        write_records(paper, found.id, data, records)
    return pd.DataFrame(records)


def _run_records(cells: list[Cell], run: Run, result: dict[str, Any]) -> list[dict[str, Any]]:
    """One record a cell and selection, in percent (errors, correlations and counts as they are)."""
    common = {
        "n": result["n"], "run": result["id"], "recipe": run.recipe_id,
        "features": " | ".join(result["features"].values()), "seconds": result["seconds"],
        "peak_memory_mb": result["peak_memory_mb"], "device": result["device"], "torch": result["torch"],
        "commit": result["commit"],
    }  # fmt: skip
    records = []
    for cell in cells:
        metric = (
            f"{cell.metric}/{cell.emotion}" if cell.metric in ("f1", "precision", "recall", "count") else cell.metric
        )
        scale = 1 if cell.metric in AS_THEY_ARE else 100
        for selection, found in result["selected"].items():
            key = {"data": run.data, "row": cell.row, "column": cell.column, "fold": run.fold, "seed": run.seed}
            scores = found["val_scores"] if cell.fold == "val" else found["scores"]
            value = {
                "selection": selection,
                "value": round(scale * scores[metric], 4),
                "epoch": found["epoch"] + 1,
            }
            records.append(key | value | common | {"never_predicted": " ".join(found["never_predicted"])})
    return records


def _count_records(paper: Paper, row: Row, table: declarations.Table, data: str) -> list[dict[str, Any]]:
    """Facts that the corpus itself answers: how many utterances a class, a split or the whole corpus has."""
    records = []
    for cell in declarations.row_cells(paper, table, row):
        if cell.metric == "count" and cell.corpus in folders.corpora(data):
            corpus = folders.dataset(data, cell.corpus, features=()).corpus
            chosen = corpus.table
            if cell.emotion:
                chosen = chosen[chosen["label"] == corpus.labels.index(cell.emotion)]
            if cell.fold:
                chosen = chosen[chosen["split"] == cell.fold]
            key = {"data": data, "row": cell.row, "column": cell.column, "fold": 0, "seed": 0, "selection": "val"}
            about = {"n": len(corpus.table), "features": corpus.source, "commit": commit()}
            records.append(key | {"value": len(chosen)} | about)
    return records


def records_path(paper: str, table: str, data: str) -> Path:
    return results_folder(data) / "records" / paper / f"{table}.csv"


def read_records(paper: str, table: str, data: str) -> pd.DataFrame:
    """The records of a table, one line per (data, row, column, fold, seed, selection); empty where nothing has run.

    Raises RecordsError for a file that was cut, merged by hand, or is another root's.
    """
    path = records_path(paper, table, data)
    if not path.exists():
        return pd.DataFrame(columns=[*KEYS, "value", "n", "epoch", "run", "features", "never_predicted"])
    text = path.read_text(encoding="utf-8")
    try:
        if not text.endswith("\n"):
            raise RequestError("the last line is not whole")
        found = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values={"value": [""], "epoch": [""]})
        said = found.astype({"fold": int, "seed": int, "value": float})
        whole = said.drop(columns=["value", "epoch"], errors="ignore").notna().all(axis=1)  # a short line has NaN
        good = whole & (said["data"] == data) & said["selection"].isin(["val", "test_peak"])
        if not good.all() or said.duplicated(KEYS).any():
            line = 2 + int((~good | said.duplicated(KEYS)).argmax())
            raise RequestError(f"line {line} is no record of {data}, or a second one of the same run")
    except (ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        raise RecordsError(
            f"{path}: {error}. Expected the records that `merlib run` writes; take back a version that it wrote."
        ) from None
    return found


def recorded(paper: str) -> dict[tuple[str, str, str], set[str]]:
    """(table, row, column) -> the data roots that have records of it."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for path in results_folder(".").glob(f"*/records/{paper}/*.csv"):
        records = read_records(paper, path.stem, path.parents[2].name)
        for row, column in records[["row", "column"]].drop_duplicates().itertuples(index=False):
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


# The public calls of a study; they stand last because report and paired import this module.
from merlib.study.paired import against
from merlib.study.report import compare, scoreboard, summary

__all__ = [
    "against", "compare", "execute", "read_records", "records_path", "run_table", "runs_of", "scoreboard", "summary",
]  # fmt: skip
