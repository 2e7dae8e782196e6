"""Which runs there are: of a table on a data root, and of a batch of tables, each run once."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from merlib import declarations
from merlib.data import folders, inputs, splits
from merlib.data.table import CorpusError
from merlib.declarations import LETTERS, Cell, Paper, Row, Table
from merlib.errors import RequestError, listed
from merlib.places import TWINS
from merlib.study.runs import Run


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
        what = f"the root {data!r} ({folders.root_path(data)}) has none of {listed(paper.corpora)}"
        raise CorpusError(f"{what}: {remedy}")
    planned, skipped = [], []
    for each in rows_of(declared, row):
        for (corpus, modalities), cells in _groups(paper, declared, each, corpora).items():
            recipe, reason = _recipe(
                paper, each, corpus, data=data, change=change or {}, modalities=modalities, seed=seed
            )
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


def not_held(paper: Paper, table: str, data: str) -> list[str]:
    """The reason for every row of a table and corpus that the root does not have, of which `plan` says nothing."""
    declared, corpora = paper.table(table), set(paper.corpora) - set(folders.corpora(data))
    corpora_of = lambda row: dict.fromkeys(corpus for corpus, _ in _groups(paper, declared, row, corpora))
    return [f"{row.id} on {corpus}: the root has no {corpus}" for row in declared.row for corpus in corpora_of(row)]


def _groups(paper: Paper, table: Table, row: Row, corpora: set[str]) -> dict[tuple[str, str | None], list[Cell]]:
    """(corpus, modalities) of each run of a row, on the corpora of the root -> the cells whose values it gives."""
    groups: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in declarations.row_cells(paper, table, row) if row.trains else ():
        if cell.corpus in corpora:
            groups.setdefault((cell.corpus, cell.modalities), []).append(cell)
    return groups


def recipe_on(
    paper: Paper, row: Row, corpus: str, *, data: str, change: dict[str, Any] | None = None,
    modalities: str | None = None,
) -> dict[str, dict]:  # fmt: skip
    """The recipe of a row (`declarations.BASE`: of none) with the substitutes that the arrays of a root ask for.

    Arrays of each seed and fold have no substitute where the root has one of them: all seeds of a row read alike.
    """
    options, arrays = {"data": data, "modalities": modalities, "change": change}, folders.arrays(data, corpus)
    read = inputs.arrays(declarations.recipe(paper, row, corpus, **options)["data"]).values()
    own = {name for name in read if fnmatch.filter(arrays, name.format(seed="*", fold="*"))}
    return declarations.with_stand_ins(paper, row, corpus, own.union(arrays), **options)


def _recipe(
    paper: Paper, row: Row, corpus: str, *, data: str, change: dict[str, Any], modalities: str | None, seed: int
) -> tuple[dict[str, dict], str]:
    """The recipe of a row as it runs on the root, and ""; or the reason why it cannot run.

    `data.modalities` of the recipe are those that the root has, so that rows which differ only in absent modalities are
    the same run.
    """
    recipe = recipe_on(paper, row, corpus, data=data, change=change, modalities=modalities)
    if overruled := declarations.overruled(paper, corpus, data, row.change, change):
        leaf, value = next(iter(overruled.items()))
        remedy = f"this root has its own, which only a leaf overrules: --set {leaf}={value}"
        return recipe, f"({', '.join(overruled)}: {remedy})"
    arrays, names = folders.arrays(data, corpus), inputs.arrays(recipe["data"])
    lacking = _lacking(recipe, data, corpus, seed)
    copies = [n for m, n in inputs.augmented(recipe["data"]).items() if m not in lacking and n not in arrays]
    if copies:
        return recipe, f"(augmentation): no {', '.join(copies)}"
    leaves = {f"data.{modality}" for modality in lacking} | {"data.modalities"}
    explicit = modalities or leaves & declarations.changed(paper, row.change, change).keys()
    learned = any("{seed}" in recipe["data"][modality] for modality in lacking)
    if lacking and (explicit or learned or len(lacking) == len(names)):
        remedy = "; `merlib data fine-tune` makes what an encoder has learned" if learned else ""
        return recipe, f"({recipe['data']['modalities']}): no {', '.join(lacking.values())}{remedy}"
    recipe["data"]["modalities"] = "".join(k for k, m in LETTERS.items() if m in names and m not in lacking)
    return recipe, ""


def _lacking(recipe: dict[str, dict], data: str, corpus: str, seed: int) -> dict[str, str]:
    """modality -> the array that a recipe reads and the root has not; of those of each fold, the last."""
    arrays, folds = folders.arrays(data, corpus), range(splits.folds(recipe["protocol"]))
    by_fold = (inputs.arrays(inputs.resolved(recipe["data"], seed=seed, fold=fold)) for fold in folds)
    return {m: name for names in by_fold for m, name in names.items() if name not in arrays}
