"""The recipe behind a row of a paper's tables.

A recipe has the sections `model`, `loss`, `train`, `data` and `protocol`, resolved for one corpus. It is merged in this
order: the paper's leaves, the default readings, the substitutes that are taken (`stand_ins`), the base of another
system, the readings that the row or the caller chooses, the scale of a synthetic root, the leaves that the row sets,
those that the caller sets.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from merlib.declarations.leaves import Typed, checked, for_corpus, nested
from merlib.declarations.schema import LETTERS, Cell, Paper, Row
from merlib.declarations.stand_ins import standing_in
from merlib.errors import one_of

SECTIONS = ("model", "loss", "train", "data", "protocol")
BASE = Row(id="base", label="the base recipe")
CHOICES = ("readings.", "substitute.")  # how those keys of a change begin that are no leaves


def recipe(
    paper: Paper, row: Row, corpus: str, *, data: str = "", change: dict[str, Any] | None = None,
    modalities: str | None = None,
) -> dict[str, dict]:  # fmt: skip
    """The recipe of a row on a corpus.

    data: the data root; a paper declares smaller networks and fewer epochs for the synthetic ones (`places.TWINS`).
    modalities: those of the column, where it names them (`data.modalities`).
    change: leaves (`{"train.lr": 1e-3}`), readings (`{"readings.cell": "slstm"}`) or substitutes
    (`{"substitute.stored_text": True}`) that override those of the row.
    Raises DeclarationError for an unknown key, or a value of another type than the declared one.
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
    for name in _taken(paper, _scale(paper, data) | changes, row.base):
        leaves |= own(declared.substitutes[name])
    leaves |= base
    for name, option in _chosen(paper, changes).items():
        leaves |= own(declared.options[name][option])
    leaves |= {k: v for k, v in _scale(paper, data).items() if k in leaves}
    for key, value in changes.items():
        if not key.startswith(CHOICES):
            leaves[key] = checked(key, value, leaves)
    resolved = nested({key: for_corpus(value, corpus) for key, value in leaves.items()})
    return {section: resolved.get(section, {}) for section in SECTIONS}


def with_stand_ins(
    paper: Paper, row: Row, corpus: str, arrays: Collection[str], *, data: str = "",
    change: dict[str, Any] | None = None, modalities: str | None = None,
) -> dict[str, dict]:  # fmt: skip
    """The recipe of a row with the substitutes that the arrays of a root ask for; see `recipe`.

    The printed protocol stands where the root has its arrays, and where `change` or the row refuses a substitute.
    """
    change, options = change or {}, {"data": data, "modalities": modalities}
    printed = recipe(paper, row, corpus, change=change, **options)
    stand_ins = standing_in(paper, corpus, printed, arrays)
    chosen = stand_ins.keys() - changed(paper, row.change, change).keys()
    return recipe(paper, row, corpus, change=dict.fromkeys(chosen, True) | change, **options) if chosen else printed


def recipe_of(paper: Paper, cell: Cell) -> dict[str, dict] | None:
    """The recipe behind a printed number; None where it is quoted or a fact."""
    row = paper.row_of(cell)
    if row is None or not paper.recipe or not row.trains:
        return None
    return recipe(paper, row, cell.corpus, modalities=cell.modalities)


def base_recipe(paper: Paper, corpus: str, *, data: str = "", change: dict[str, Any] | None = None) -> dict[str, dict]:
    """The paper's base recipe, the printed protocol with all readings at their default; see `recipe`."""
    return recipe(paper, BASE, corpus, data=data, change=change)


def needs(papers: list[Paper]) -> dict[str, dict[str, list[str]]]:
    """{paper: {corpus: modalities}}: what the base recipe of each paper reads."""
    letters = {p.id: {corpus: base_recipe(p, corpus)["data"]["modalities"] for corpus in p.corpora} for p in papers}
    return {
        paper: {corpus: [m for letter, m in LETTERS.items() if letter in named] for corpus, named in of_corpus.items()}
        for paper, of_corpus in letters.items()
    }


@dataclass(frozen=True)
class _Declared:
    """The leaves of a paper's parts: its recipe, the options of each reading, its substitutes, bases, and twins."""

    recipe: dict[str, Any]
    options: dict[str, dict[str, dict[str, Any]]]
    substitutes: dict[str, dict[str, Any]]
    bases: dict[str, dict[str, Any]]
    scales: dict[str, dict[str, Any]]


@cache
def _declared(paper: Paper) -> _Declared:
    options = {name: reading.options for name, reading in paper.readings.items()}
    twin = paper.flat(paper.twin)
    return _Declared(
        recipe=paper.flat(paper.recipe),
        options={name: {o: paper.flat(tree) for o, tree in trees.items()} for name, trees in options.items()},
        substitutes={name: paper.flat(each.change) for name, each in paper.substitute.items()},
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


def _taken(paper: Paper, leaves: dict[str, Any], base: str | None = None) -> list[str]:
    """The substitutes that the leaves `substitute.*` take, or that the other system `base` always has."""
    known = {f"substitute.{name}": False for name in paper.substitute}
    taken = {key: checked(key, value, known) for key, value in leaves.items() if key.startswith("substitute.")}
    return [n for n, each in paper.substitute.items() if base in each.always or taken.get(f"substitute.{n}")]


def changed(paper: Paper, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves that changes set, with those of the readings and substitutes that they choose or refuse."""
    leaves, printed = _leaves(paper, changes), _declared(paper).recipe
    options = [paper.readings[name].options[option] for name, option in _chosen(paper, leaves).items()]
    taken = _taken(paper, leaves)
    for name, substitute in paper.substitute.items():
        array = f"data.{substitute.modality}"
        if f"substitute.{name}" in leaves:
            options.append(substitute.change if name in taken else {array: printed[array]})
    return _leaves(paper, options) | leaves
