"""How the inputs of a run relate to those of the printed score: the column `inputs` of `compare` and of the claims.

`[printed_on]` of paper.toml says what the printed scores were measured with; passports, substitutes, the protocol and
the size of the test set say it of a run. A printed number tests a run only where both are `same`.
"""

import re
from collections.abc import Collection

from merlib import declarations
from merlib.declarations import LETTERS, Cell, Paper

SAME = "same"
QUOTED = "quoted"  # from another paper, and this one does not say what that score was measured with


def passports(features: str) -> dict[str, str]:
    """Modality -> the passport's summary, from the column `features` of a record; absent modalities are left out."""
    parts = (part.split(": ", 1) for part in str(features).split(" | "))
    return {part[0]: part[1] for part in parts if len(part) == 2 and part[0] in LETTERS.values()}


def printed_letters(paper: Paper, cell: Cell) -> str:
    """The modalities of a printed score, T, A, V: those of its row and column, before a root takes any away."""
    return declarations.recipe_of(paper, cell)["data"]["modalities"]


def relation(paper: Paper, cell: Cell, *, features: str, substitutes: Collection[str] | None, n: int) -> str:
    """`same`, `quoted`, or what differs, several joined: lacks V, other encoder, other split, selected otherwise.

    features, substitutes: of the runs of the cell (None: their records do not say; then no encoder is taken to have
    learned). n: utterances of their test sets, all folds together. Where the paper does not say by what its epoch was
    selected, or how many utterances test, nothing differs in it.
    """
    if paper.row_of(cell).cited:
        return QUOTED
    recipe = declarations.recipe_of(paper, cell)
    of, read = paper.printed_on.on(cell.corpus), passports(features)
    printed = {letter: LETTERS[letter] for letter in recipe["data"]["modalities"]}
    lacking = "".join(letter for letter, modality in printed.items() if modality not in read)
    replaced = {paper.substitute[name].modality for name in substitutes or () if name in paper.substitute}
    if substitutes is None:
        replaced.update(of.get("learns", ()))
    other = any(
        modality in replaced or modality not in of or not re.search(of[modality], read[modality])
        for modality in printed.values() if modality in read
    )  # fmt: skip
    partial = "partial: " in features
    other_split = recipe["protocol"]["split"] != of.get("split") or of.get("test", n) != n or partial
    expected = {"val": "val", "test": "test_peak"}.get(of.get("selected"))
    differs = {
        f"lacks {lacking}": lacking, "other encoder": other, "other split": other_split,
        "selected otherwise": expected and expected != recipe["protocol"]["select"],
    }  # fmt: skip
    return ", ".join(name for name, true in differs.items() if true) or SAME
