"""The runs of a table on a data root: which there are, why some rows cannot run, and the records of their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from merlib import declarations
from merlib.data import folders, inputs, splits
from merlib.data.table import CorpusError
from merlib.declarations import LETTERS, Cell, Paper, Row, Table
from merlib.errors import RequestError
from merlib.places import TWINS, commit
from merlib.study.records import PLAIN, write_records
from merlib.study.runs import Run, execute


@dataclass(frozen=True)
class Planned:
    """A run, and the cells of a row whose values it gives."""

    row: Row
    cells: list[Cell]
    run: Run


def runs_of(paper: Paper, table: str, **options: Any) -> list[tuple[Row, str, Run]]:
    """The runs of a table for one seed, (row, corpus, run). options: `row`, `data`, `seed` and so on, as of `plan`."""
    return [(planned.row, planned.run.corpus, planned.run) for planned in plan(paper, table, **options)[0]]


def rows_of(table: Table, row: str | Sequence[str]) -> list[Row]:
    """The row or rows of a name or names, in that order; all rows of the table where none is named."""
    return [table.find(name) for name in ([row] if isinstance(row, str) else row)] if row else table.row


def plan(
    paper: Paper, table: str, *, row: str | Sequence[str] = (), data: str = "twin", seed: int = 0,
    change: dict[str, Any] | None = None, folds: Sequence[int] = (),
) -> tuple[list[Planned], list[str]]:  # fmt: skip
    """The runs of a table (or of the named rows) for one seed, and the reason for every row that cannot run.

    A row is skipped where it names a modality that the root does not have, or a reading whose leaves a synthetic root
    overrides; a missing modality that no row names is left out instead. change: as of `run_table`.
    Raises CorpusError where the root has none of the paper's corpora, RequestError where no row has such a fold.
    """
    declared = paper.table(table)
    corpora = set(folders.corpora(data)) & set(paper.corpora)
    if not corpora:
        remedy = f"call merlib.twins.ensure({data!r}, {paper.corpora})" if data in TWINS else "see `merlib doctor`"
        raise CorpusError(f"the root {data!r} ({folders.root_path(data)}) has none of {paper.corpora}: {remedy}")
    planned, skipped = [], []
    for each in rows_of(declared, row):
        for (corpus, modalities), cells in _groups(paper, declared, each, corpora).items():
            recipe, reason = _recipe(paper, each, corpus, data=data, change=change or {}, modalities=modalities)
            if reason:
                skipped.append(f"{each.id} on {corpus} {reason}")
                continue
            folds_of_row = range(splits.folds(recipe["protocol"]))
            planned += [Planned(each, cells, Run(recipe, corpus, data, seed, fold)) for fold in folds_of_row]
    if planned and folds:
        last = max(item.run.fold for item in planned)
        if not set(folds) <= set(range(last + 1)):
            raise RequestError(f"folds {', '.join(map(str, folds))}: these rows have folds 0 to {last}")
        planned = [item for item in planned if item.run.fold in folds]
    return planned, skipped


def _groups(paper: Paper, table: Table, row: Row, corpora: set[str]) -> dict[tuple[str, str | None], list[Cell]]:
    """(corpus, modalities) of each run of a row, on the corpora of the root -> the cells whose values it gives."""
    groups: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in declarations.row_cells(paper, table, row) if row.runs and row.kind == "own" else ():
        if cell.corpus in corpora:
            groups.setdefault((cell.corpus, cell.modalities), []).append(cell)
    return groups


def _recipe(
    paper: Paper, row: Row, corpus: str, *, data: str, change: dict[str, Any], modalities: str | None
) -> tuple[dict[str, dict], str]:
    """The recipe of a row as it runs on the root, and ""; or the reason why it cannot run.

    `data.modalities` of the recipe are those that the root has, so that rows which differ only in absent modalities are
    the same run.
    """
    recipe = declarations.recipe(paper, row, corpus, data=data, change=change, modalities=modalities)
    if overruled := declarations.overruled(paper, corpus, data, row.change, change):
        leaf, value = next(iter(overruled.items()))
        remedy = f"this root has its own, which only a leaf overrules: --set {leaf}={value}"
        return recipe, f"({', '.join(overruled)}: {remedy})"
    names, arrays = inputs.arrays(recipe["data"]), folders.arrays(data, corpus)
    copies = [n for m, n in inputs.augmented(recipe["data"]).items() if names[m] in arrays and n not in arrays]
    if copies:
        return recipe, f"(augmentation): no {', '.join(copies)}"
    absent = [modality for modality, name in names.items() if name not in arrays]
    leaves = {f"data.{modality}" for modality in absent} | {"data.modalities"}
    explicit = modalities or leaves & declarations.changed(paper, row.change, change).keys()
    if absent and (explicit or len(absent) == len(names)):
        return recipe, f"({recipe['data']['modalities']}): no {', '.join(names[m] for m in absent)}"
    recipe["data"]["modalities"] = "".join(k for k, m in LETTERS.items() if m in names and m not in absent)
    return recipe, ""


def run_table(
    paper: str, table: str, *, row: str | Sequence[str] = (), data: str = "twin", seeds: Sequence[int] = (0,),
    folds: Sequence[int] = (), device: str | None = None, change: dict[str, Any] | None = None, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train the missing runs of a table or of some of its rows, write their records, and return them.

    folds: only these folds of each row, so that several processes or machines can share a row (those that share
    `results/` write into the same records). change: leaves or readings that override those of every row; then no record
    is written, only returned.
    """
    declared = declarations.load(paper)
    declared_table = declared.table(table)
    name = f"{paper}/{declared_table.id}"
    plans = [plan(declared, table, row=row, data=data, seed=seed, change=change, folds=folds) for seed in seeds]
    for reason in plans[0][1]:
        tqdm.write(f"skipped: {name}/{reason} in the root {data!r}")
    facts = [each for each in rows_of(declared_table, row) if each.kind == "fact"]
    records = [record for fact in facts for record in _count_records(declared, fact, declared_table, data)]
    if change is None:
        write_records(paper, declared_table.id, data, records)
    bar = tqdm([item for planned, _ in plans for item in planned], desc=f"{name} on {data}", disable=not progress)
    for item in bar:
        label, run = f"{item.row.id} {item.run.corpus}", item.run
        bar.set_postfix_str(f"{label} seed {run.seed} fold {run.fold}")
        records += records_of_run(item.cells, run, execute(run, device=device, progress=progress, label=label))
        if change is None:
            write_records(paper, declared_table.id, data, records)
    return pd.DataFrame(records)


def records_of_run(cells: list[Cell], run: Run, result: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per cell and selection, in percent (except errors, correlations and counts)."""
    common = {
        "n": result["n"], "run": result["id"], "recipe": run.recipe_id,
        "features": " | ".join(result["features"].values()), "seconds": result["seconds"],
        "peak_memory_mb": result["peak_memory_mb"], "device": result["device"], "torch": result["torch"],
        "commit": result["commit"],
    }  # fmt: skip
    records = []
    for cell in cells:
        of_class = cell.metric in ("f1", "precision", "recall", "count")
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
