"""The cells of a paper, each with an address, `paper/table/row`, and the recipe behind a row.

A recipe has the sections `model`, `loss`, `train`, `data` and `protocol`, resolved for one corpus. It is merged in this
order: the paper's leaves, the default readings, the base of another system, the readings that the row or the caller
chooses, the scale of a synthetic root, the leaves that the row sets, those that the caller sets.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from merlib.declarations.leaves import Typed, checked, for_corpus, nested, sourced
from merlib.declarations.schema import LETTERS, Cell, Paper, Row, Table
from merlib.errors import one_of

AVERAGED = {(m, a): f"{a}_{m}" for m in ("f1", "precision", "recall") for a in ("macro", "weighted")}
PRINTED = re.compile(r"(Sec\.|Table|eqs?\.|Fig\.|Abstract)")  # a source that starts so is a place in the paper
SECTIONS = ("model", "loss", "train", "data", "protocol")


def recipe(
    paper: Paper, row: Row, corpus: str, *, data: str = "", change: dict[str, Any] | None = None,
    modalities: str | None = None,
) -> dict[str, dict]:  # fmt: skip
    """The recipe of a row on a corpus.

    data: the data root; a paper declares smaller networks and fewer epochs for the synthetic ones (`places.TWINS`).
    modalities: those of the column, where it names them (`data.modalities`).
    change: leaves (`{"train.lr": 1e-3}`) or readings (`{"readings.cell": "slstm"}`) that override those of the row.
    Raises DeclarationError for an unknown key or reading, or a value of another type than the declared one.
    """
    of_column = {"data.modalities": modalities} if modalities else {}
    changes = of_column | paper.flat(row.change) | paper.flat(change or {})
    declared = _declared(paper)
    base = one_of(declared.bases, row.base, f"base of {paper.id}") if row.base else {}
    replaced = {key.split(".")[0] for key in base} & {"model", "loss"}
    shared = tuple(f"{leaf_or_section}." for leaf_or_section in paper.shares.get(row.base, ()))

    def own(leaves: Mapping[str, Any]) -> dict[str, Any]:
        """The leaves without those of a network or loss that the base replaces, except the shared ones."""
        if not replaced:
            return dict(leaves)
        return {k: v for k, v in leaves.items() if k.split(".")[0] not in replaced or f"{k}.".startswith(shared)}

    leaves = own(declared.recipe)
    for name, reading in paper.readings.items():
        leaves |= own(declared.options[name][reading.default])
    leaves |= base
    for name, option in _chosen(paper, changes).items():
        leaves |= own(declared.options[name][option])
    leaves |= {k: v for k, v in _scale(paper, data).items() if k in leaves}
    for key, value in changes.items():
        if not key.startswith("readings."):
            leaves[key] = checked(key, value, leaves)
    resolved = nested({key: for_corpus(value, corpus) for key, value in leaves.items()})
    return {section: resolved.get(section, {}) for section in SECTIONS}


def base_recipe(paper: Paper, corpus: str, *, data: str = "", change: dict[str, Any] | None = None) -> dict[str, dict]:
    """The paper's base recipe, all readings at their default; see `recipe`."""
    return recipe(paper, Row(id="base", label="the base recipe"), corpus, data=data, change=change)


def needs(papers: list[Paper]) -> dict[str, dict[str, list[str]]]:
    """{paper: {corpus: modalities}}: what the base recipe of each paper reads."""
    letters = {p.id: {corpus: base_recipe(p, corpus)["data"]["modalities"] for corpus in p.corpora} for p in papers}
    return {
        paper: {corpus: [m for letter, m in LETTERS.items() if letter in named] for corpus, named in of_corpus.items()}
        for paper, of_corpus in letters.items()
    }


@dataclass(frozen=True)
class _Declared:
    """The leaves of a paper's parts: its recipe, the options of each reading, its bases, and its synthetic roots."""

    recipe: dict[str, Any]
    options: dict[str, dict[str, dict[str, Any]]]
    bases: dict[str, dict[str, Any]]
    scales: dict[str, dict[str, Any]]


@cache
def _declared(paper: Paper) -> _Declared:
    options = {name: reading.options for name, reading in paper.readings.items()}
    twin = paper.flat(paper.twin)
    return _Declared(
        recipe=paper.flat(paper.recipe),
        options={name: {o: paper.flat(tree) for o, tree in trees.items()} for name, trees in options.items()},
        bases={name: paper.flat(tree) for name, tree in paper.base.items()},
        scales={"twin": twin, "twin_media": twin | paper.flat(paper.twin_media)},
    )


def _scale(paper: Paper, data: str) -> dict[str, Any]:
    return _declared(paper).scales.get(data, {})


def overruled(paper: Paper, corpus: str, data: str, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves of the readings in `changes` that a synthetic root overrides, so that the option would not run there.

    Leaves of the section `train` are left out: a synthetic root trains with its own rate and number of epochs.
    """
    leaves, scale = _leaves(paper, changes), _scale(paper, data)
    twin = {k: for_corpus(v, corpus) for k, v in scale.items() if not k.startswith("train.") and k not in leaves}
    result = {}
    for name, option in _chosen(paper, leaves).items():
        reading = paper.readings[name]
        options = (paper.flat(reading.options[name]) for name in (reading.default, option))
        default, chosen = ({k: for_corpus(v, corpus) for k, v in leaves.items()} for leaves in options)
        result |= {k: v for k, v in chosen.items() if k in twin and v not in (default[k], twin[k])}
    return result


def _leaves(paper: Paper, changes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for change in changes for key, value in paper.flat(change).items()}


def _chosen(paper: Paper, leaves: dict[str, Any]) -> dict[str, str]:
    """Reading -> the option that the leaves `readings.*` of a change choose."""
    chosen = {k.split(".", 1)[1]: v for k, v in leaves.items() if k.startswith("readings.")}
    chosen = {name: v.like("") if isinstance(v, Typed) else v for name, v in chosen.items()}
    for name, option in chosen.items():
        one_of(one_of(paper.readings, name, f"reading of {paper.id}").options, option, f"option of reading {name}")
    return chosen


def changed(paper: Paper, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves that changes set, with those of the readings that they choose."""
    leaves = _leaves(paper, changes)
    options = [paper.readings[name].options[option] for name, option in _chosen(paper, leaves).items()]
    return _leaves(paper, options) | leaves


def cells(paper: Paper, table: str | None = None) -> list[Cell]:
    """Every printed number of a paper: its tables, those of paper.toml (tables `settings`, `facts`), and `claims`."""
    if table is None:
        return [c for name in paper.tables for c in cells(paper, name)] + _setting_cells(paper) + _claim_cells(paper)
    t = paper.table(table)
    return [cell_of(paper, t, row, name, printed) for row in t.row for name, printed in row.reported.items()]


def row_cells(paper: Paper, table: Table, row: Row) -> list[Cell]:
    """The cells of a row, one per column; also those without a printed number, since a run fills the whole row."""
    reported = table.find(row.same_as).reported if row.same_as else row.reported
    names = row.reported if row.kind == "fact" else table.columns
    return [cell_of(paper, table, row, name, reported.get(name)) for name in names]


def recipe_of(paper: Paper, cell: Cell) -> dict[str, dict] | None:
    """The recipe behind a printed number; None where it is quoted or a fact."""
    row = paper.tables[cell.table].find(cell.row) if cell.table in paper.tables else None
    if row is None or not row.runs or row.kind != "own":
        return None
    return recipe(paper, row, cell.corpus, modalities=cell.modalities)


def addresses(paper: Paper) -> dict[str, Cell]:
    """{address within the paper: printed number}: `table4/ours.meld_accuracy`, `settings/train.batch.meld`."""
    named = {"settings", "facts", "claims"}  # a single value of these needs no column
    columns = (("" if c.table in named and c.column == "value" else f".{c.column}", c) for c in cells(paper))
    return {f"{c.table}/{c.row}{column}": c for column, c in columns}


def cell_of(paper: Paper, table: Table, row: Row, name: str, printed: str | None) -> Cell:
    """The cell of a row in the column `name`."""
    column = one_of(table.columns, name, f"column of {table.id}")
    corpus = column.corpus or row.corpus or (paper.corpora[0] if len(paper.corpora) == 1 else None)
    kind = "cited" if row.cited else "fact" if row.kind == "fact" else "own" if row.reported else "added"
    emotion = one_of(column.emotion, corpus, "corpus") if isinstance(column.emotion, dict) else column.emotion
    return Cell(
        paper=paper.id, table=table.id, row=row.id, column=name, printed=printed, kind=kind, corpus=corpus,
        metric=AVERAGED.get((column.metric, row.average), column.metric), emotion=emotion or row.emotion,
        modalities=column.modalities, fold=column.fold, unit=column.unit,
    )  # fmt: skip


def _setting_cells(paper: Paper) -> list[Cell]:
    """The numbers of recipe, readings and facts whose source is a place in the paper."""
    settings = [("settings", paper.recipe), ("facts", paper.facts)]
    settings += [("settings", option) for reading in paper.readings.values() for option in reading.options.values()]
    cell_by_leaf = {}
    for table, tree in settings:
        for key, (value, source) in sourced(tree, paper.corpora).items():
            for corpus, number in (value if isinstance(value, dict) else {None: value}).items():
                if PRINTED.match(source) and isinstance(number, (int, Decimal)) and not isinstance(number, bool):
                    cell_by_leaf[table, key, corpus] = Cell(
                        paper=paper.id, table=table, row=key, column=corpus or "value", printed=format(number, "f")
                        if isinstance(number, Decimal) else str(number), kind="fact", corpus=corpus, metric="setting",
                    )  # fmt: skip
    return list(cell_by_leaf.values())


def _claim_cells(paper: Paper) -> list[Cell]:
    shared = {"paper": paper.id, "table": "claims", "column": "value", "kind": "fact", "corpus": None}
    return [Cell(**shared, row=c.id, printed=c.printed, metric=c.kind) for c in paper.claims if c.printed is not None]
