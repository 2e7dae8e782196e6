"""The recipe behind a row: sections `model`, `loss`, `train`, `data` and `protocol`, resolved for one corpus.

It is merged in this order: the paper's leaves, the default readings, the base of another system, the readings that the
row or the caller chooses, the scale of a synthetic root, the leaves that the row sets, those that the caller sets.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from merlib.declarations.leaves import checked, for_corpus, nested
from merlib.declarations.schema import LETTERS, Paper, Row
from merlib.errors import one_of

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
    changes = (
        ({"data.modalities": modalities} if modalities else {}) | paper.flat(row.change) | paper.flat(change or {})
    )
    base = one_of(paper.base, row.base, f"base of {paper.id}") if row.base else {}
    shared, replaced = tuple(paper.shares.get(row.base, ())), {"model", "loss"} & set(base)

    def own(tree: Mapping[str, Any]) -> dict[str, Any]:
        """The leaves without those of a network or loss that the base replaces, except the shared ones."""
        leaves = paper.flat(tree).items()
        return {k: v for k, v in leaves if k.split(".")[0] not in replaced or _within(k, shared)}

    leaves = own(paper.recipe)
    for reading in paper.readings.values():
        leaves |= own(reading.options[reading.default])
    leaves |= paper.flat(base)
    for name, option in _chosen(paper, changes).items():
        leaves |= own(paper.readings[name].options[option])
    leaves |= {k: v for k, v in _scale(paper, data).items() if k in leaves}
    for key, value in changes.items():
        if not key.startswith("readings."):
            leaves[key] = checked(key, value, leaves)
    resolved = nested({key: for_corpus(value, corpus) for key, value in leaves.items()})
    return {section: resolved.get(section, {}) for section in SECTIONS}


def _within(leaf: str, names: tuple[str, ...]) -> bool:
    """Whether a leaf is one of the names, or stands in a section that is."""
    return any(leaf == name or leaf.startswith(f"{name}.") for name in names)


def base_recipe(paper: Paper, corpus: str, *, data: str = "", change: dict[str, Any] | None = None) -> dict[str, dict]:
    """The paper's base recipe, all readings at their default; see `recipe`."""
    return recipe(paper, Row(id="base", label="the base recipe"), corpus, data=data, change=change)


def needs(papers: list[Paper]) -> dict[str, dict[str, list[str]]]:
    """{paper: {corpus: modalities}}: what the base recipe of each paper reads."""

    def modalities(paper: Paper, corpus: str) -> list[str]:
        letters = base_recipe(paper, corpus)["data"]["modalities"]
        return [modality for letter, modality in LETTERS.items() if letter in letters]

    return {paper.id: {corpus: modalities(paper, corpus) for corpus in paper.corpora} for paper in papers}


def _scale(paper: Paper, data: str) -> dict[str, Any]:
    """The leaves that a synthetic root sets for all rows (`places.TWINS`)."""
    twin = paper.flat(paper.twin)
    return {"twin": twin, "twin_media": twin | paper.flat(paper.twin_media)}.get(data, {})


def overruled(paper: Paper, corpus: str, data: str, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves of the readings in `changes` that a synthetic root overrides, so that the option would not run there.

    Leaves of the section `train` are left out: a synthetic root trains with its own rate and number of epochs.
    """
    leaves, scale = _leaves(paper, changes), _scale(paper, data)
    twin = {k: for_corpus(v, corpus) for k, v in scale.items() if not k.startswith("train.") and k not in leaves}
    result = {}
    for name, option in _chosen(paper, leaves).items():
        reading = paper.readings[name]
        default, chosen = (
            {k: for_corpus(v, corpus) for k, v in paper.flat(reading.options[o]).items()}
            for o in (reading.default, option)
        )
        result |= {k: v for k, v in chosen.items() if k in twin and v not in (default[k], twin[k])}
    return result


def _leaves(paper: Paper, changes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Dotted name -> value of all changes; of two for one leaf, the later."""
    return {key: value for change in changes for key, value in paper.flat(change).items()}


def _chosen(paper: Paper, leaves: dict[str, Any]) -> dict[str, str]:
    """Reading -> the option that the leaves `readings.*` of a change choose."""
    chosen = {k.split(".", 1)[1]: v for k, v in leaves.items() if k.startswith("readings.")}
    for name, option in chosen.items():
        one_of(one_of(paper.readings, name, f"reading of {paper.id}").options, option, f"option of reading {name}")
    return chosen


def changed(paper: Paper, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves that changes set, with those of the readings that they choose."""
    leaves = _leaves(paper, changes)
    options = [paper.readings[name].options[option] for name, option in _chosen(paper, leaves).items()]
    return _leaves(paper, options) | leaves
