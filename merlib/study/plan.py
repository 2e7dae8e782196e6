"""Which runs the declared rows of a table ask for on a data root, and why some of them cannot be run there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from merlib import declarations
from merlib.data import folders, inputs, splits
from merlib.data.table import CorpusError
from merlib.declarations import LETTERS, Cell, Paper, Row, Table
from merlib.errors import RequestError
from merlib.places import TWINS
from merlib.study.runs import Run


@dataclass(frozen=True)
class Planned:
    """A run, and the cells of a row that it fills."""

    row: Row
    corpus: str
    cells: list[Cell]
    run: Run


def runs_of(paper: Paper, table: str, *, folds: Sequence[int] = (), **asked: Any) -> list[tuple[Row, str, Run]]:
    """The runs behind a table for one seed: (row, corpus, run), in that order, every fold or only `folds`.

    asked: `row`, `data`, `seed` and `change`, as of `plan`. Raises RequestError where no row has such a fold.
    """
    return [(planned.row, planned.corpus, planned.run) for planned in plan(paper, table, folds=folds, **asked)[0]]


def rows_of(table: Table, row: str | Sequence[str]) -> list[Row]:
    """The row that is named, or those that are, in that order; where none is, all of the table."""
    return [table.find(name) for name in ([row] if isinstance(row, str) else row)] if row else table.row


def plan(
    paper: Paper, table: str, *, row: str | Sequence[str] = (), data: str = "twin", seed: int = 0,
    change: dict[str, Any] | None = None, folds: Sequence[int] = (),
) -> tuple[list[Planned], list[str]]:  # fmt: skip
    """The runs of a table (or of the rows that are named) for one seed, and for every row that cannot run the reason.

    A row is skipped where it asks for a modality that the root does not have, or for a reading whose leaves a synthetic
    root sets itself; a modality that no row named is left out instead. change: leaves or readings laid over every row.
    Raises CorpusError where the root has none of the paper's corpora, RequestError where no row has such a fold.
    """
    declared = paper.table(table)
    corpora = set(folders.corpora(data)) & set(paper.corpora)
    if not corpora:
        remedy = f"call merlib.twins.ensure({data!r}, {paper.corpora})" if data in TWINS else "see `merlib doctor`"
        raise CorpusError(f"the root {data!r} ({folders.root_path(data)}) has none of {paper.corpora}: {remedy}")
    planned, skipped = [], []
    for asked in rows_of(declared, row):
        for corpus, modalities, cells in _groups(paper, declared, asked, corpora):
            recipe, reason = _recipe(paper, asked, corpus, data=data, change=change or {}, modalities=modalities)
            if reason:
                skipped.append(f"{asked.id} on {corpus} {reason}")
                continue
            for fold in range(splits.folds(recipe["protocol"])):
                planned.append(Planned(asked, corpus, cells, Run(recipe, corpus, data, seed, fold)))
    if planned and folds:
        last = max(each.run.fold for each in planned)
        if not set(folds) <= set(range(last + 1)):
            raise RequestError(f"folds {', '.join(map(str, folds))}: what was asked has folds 0 to {last}")
        planned = [each for each in planned if each.run.fold in folds]
    return planned, skipped


def _groups(paper: Paper, table: Table, row: Row, corpora: set[str]) -> Iterator[tuple[str, str | None, list[Cell]]]:
    """(corpus, modalities, cells) of a row that we run: its cells that one run fills, on the corpora that are there."""
    groups: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in declarations.row_cells(paper, table, row) if row.runs and row.kind == "own" else ():
        if cell.corpus in corpora:
            groups.setdefault((cell.corpus, cell.modalities), []).append(cell)
    for (corpus, modalities), cells in groups.items():
        yield corpus, modalities, cells


def _recipe(
    paper: Paper, row: Row, corpus: str, *, data: str, change: dict[str, Any], modalities: str | None
) -> tuple[dict[str, dict], str]:
    """The recipe of a row as the root can run it, and "", or the reason why it cannot.

    The recipe's `data.modalities` are those that the root has: the same run, whether a row asks for what is absent or
    not.
    """
    recipe = declarations.recipe(paper, row, corpus, data=data, change=change, modalities=modalities)
    if overruled := declarations.overruled(paper, corpus, data, row.change, change):
        leaf, value = next(iter(overruled.items()))
        only = f"this root has its own, which only a leaf overrules: --set {leaf}={value}"
        return recipe, f"({', '.join(overruled)}: {only})"
    wanted, arrays = inputs.arrays(recipe["data"]), folders.arrays(data, corpus)
    copies = [n for m, n in inputs.augmented(recipe["data"]).items() if wanted[m] in arrays and n not in arrays]
    if copies:
        return recipe, f"(augmentation): no {', '.join(copies)}"
    absent = [modality for modality, name in wanted.items() if name not in arrays]
    named = {f"data.{modality}" for modality in absent} | {"data.modalities"}
    explicit = modalities or named & declarations.changed(paper, row.change, change).keys()
    if absent and (explicit or len(absent) == len(wanted)):
        return recipe, f"({recipe['data']['modalities']}): no {', '.join(wanted[m] for m in absent)}"
    recipe["data"]["modalities"] = "".join(k for k, m in LETTERS.items() if m in wanted and m not in absent)
    return recipe, ""
