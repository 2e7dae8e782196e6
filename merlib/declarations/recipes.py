"""The recipe behind a row: sections `model`, `loss`, `train`, `data` and `protocol`, resolved for one corpus.

It is merged in this order: the paper's leaves, the default readings, the base of another system, the readings that the
row or the caller chooses, the twin's scale, the leaves that the row sets, those that the caller sets.
"""

from collections.abc import Mapping
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

    data: the root that it is for; the paper has a scale of its own for the synthetic ones (`places.TWINS`).
    modalities: of the column, where it names them (`data.modalities`).
    change: further leaves (`{"train.lr": 1e-3}`) or readings (`{"readings.cell": "slstm"}`), laid over the row's own.
    Raises DeclarationError for an unknown key or reading, or a value of another type than the declared one.
    """
    asked = ({"data.modalities": modalities} if modalities else {}) | paper.flat(row.change) | paper.flat(change or {})
    base = one_of(paper.base, row.base, f"base of {paper.id}") if row.base else {}
    shared, replaced = tuple(paper.shares.get(row.base, ())), {"model", "loss"} & set(base)

    def own(tree: Mapping[str, Any]) -> dict[str, Any]:
        """Without what is the paper's network's or loss's alone, where another system takes their place."""
        leaves = paper.flat(tree).items()
        return {k: v for k, v in leaves if k.split(".")[0] not in replaced or _within(k, shared)}

    leaves = own(paper.recipe)
    for reading in paper.readings.values():
        leaves |= own(reading.options[reading.default])
    leaves |= paper.flat(base)
    for name, option in _chosen(paper, asked).items():
        leaves |= own(paper.readings[name].options[option])
    leaves |= {k: v for k, v in _scale(paper, data).items() if k in leaves}
    for key, value in asked.items():
        if not key.startswith("readings."):
            leaves[key] = checked(key, value, leaves)
    resolved = nested({key: for_corpus(value, corpus) for key, value in leaves.items()})
    return {section: resolved.get(section, {}) for section in SECTIONS}


def _within(leaf: str, names: tuple[str, ...]) -> bool:
    """Whether a leaf is one of those named, or in a section that is."""
    return any(leaf == name or leaf.startswith(f"{name}.") for name in names)


def base_recipe(paper: Paper, corpus: str, *, data: str = "", change: dict[str, Any] | None = None) -> dict[str, dict]:
    """The paper's base recipe, all readings at their default; see `recipe`."""
    return recipe(paper, Row(id="base", label="the base recipe"), corpus, data=data, change=change)


def needs(papers: list[Paper]) -> dict[str, dict[str, list[str]]]:
    """{paper: {corpus: modalities}}: what each paper reads."""
    letters = {p.id: {c: base_recipe(p, c)["data"]["modalities"] for c in p.corpora} for p in papers}
    return {
        name: {corpus: [m for k, m in LETTERS.items() if k in those] for corpus, those in by_corpus.items()}
        for name, by_corpus in letters.items()
    }


def _scale(paper: Paper, data: str) -> dict[str, Any]:
    """The leaves that a synthetic root sets for all rows (`places.TWINS`)."""
    return {"twin": paper.flat(paper.twin), "twin_media": paper.flat(paper.twin) | paper.flat(paper.twin_media)}.get(
        data, {}
    )


def overruled(paper: Paper, corpus: str, data: str, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves of readings chosen by `changes` that a synthetic root sets otherwise, so that the option is not what
    would run.

    How long and how fast one trains there (section `train`) is not what an option is about.
    """
    asked, scale = {k: v for change in changes for k, v in paper.flat(change).items()}, _scale(paper, data)
    twins = {k: for_corpus(v, corpus) for k, v in scale.items() if not k.startswith("train.") and k not in asked}
    found = {}
    for name, option in _chosen(paper, asked).items():
        reading = paper.readings[name]
        usual, wanted = (
            {k: for_corpus(v, corpus) for k, v in paper.flat(reading.options[o]).items()}
            for o in (reading.default, option)
        )
        found |= {k: v for k, v in wanted.items() if k in twins and v not in (usual[k], twins[k])}
    return found


def _chosen(paper: Paper, asked: dict[str, Any]) -> dict[str, str]:
    """Reading -> option, of flat changes."""
    chosen = {k.split(".", 1)[1]: v for k, v in asked.items() if k.startswith("readings.")}
    for name, option in chosen.items():
        one_of(one_of(paper.readings, name, f"reading of {paper.id}").options, option, f"option of reading {name}")
    return chosen


def changed(paper: Paper, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves that changes set, those of the readings they choose among them."""
    asked = {key: value for change in changes for key, value in paper.flat(change).items()}
    options = [paper.readings[name].options[option] for name, option in _chosen(paper, asked).items()]
    return {key: value for option in options for key, value in paper.flat(option).items()} | asked
