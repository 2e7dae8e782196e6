"""Records whose recipe or code is not the present one, told without data: from declarations and sources alone.

The id of a recipe names the data too, which a clone does not have. So a record also has a hash of the recipe alone and
the versions of the code that trained it (`marks`). Which arrays the root had then follows from what the record says
that its run read. With the data at hand, the ids of runs tell the rest (`merlib.study.reruns`).
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

from merlib import declarations
from merlib.declarations import LETTERS, Cell, Paper
from merlib.declarations.leaves import for_corpus
from merlib.study import identity, likeness

Recipe = dict[str, dict]


def marks(recipe: Recipe) -> dict[str, str]:
    """What a record keeps of its recipe and code: the columns `declared` and `versions`."""
    versions = " ".join(f"{name} {number}" for name, number in identity.versions(recipe).items())
    return {"declared": identity.of_declared(recipe), "versions": versions}


def reason(paper: Paper, cell: Cell, record: Any) -> str:
    """Why the present declarations and code would not give a record; empty where they would, and for a count.

    record: with the columns recipe, declared, versions, features, substitutes and data; a missing value is NaN.
    """
    run, declared, versions = (text(getattr(record, name)) for name in ("recipe", "declared", "versions"))
    if cell.kind == "fact":
        return ""
    if not run:
        return "recorded before records named a recipe"
    if not declared:
        return "recorded before records named the versions of the code"
    present = [marks(recipe) for recipe in recipes(paper, cell, record)]
    same_recipe = [each["versions"] for each in present if each["declared"] == declared]
    if not same_recipe:
        return "the declarations now give another recipe"
    return "" if versions in same_recipe else f"trained by other code ({versions}; now {same_recipe[0]})"


def recipes(paper: Paper, cell: Cell, record: Any) -> list[Recipe]:
    """The recipe that the present declarations give a recorded run.

    Several, where the record does not tell whether the root had an array for which something stands in: of a modality
    that the run does not read, or of any, where an old record names no substitutes.
    """
    read = frozenset(likeness.passports(record.features))
    named = text(record.substitutes)
    substitutes = frozenset(named.split()) if named else None
    return _recipes(paper, cell.table, cell.row, cell.corpus, cell.modalities, record.data, read, substitutes)


@cache
def _recipes(
    paper: Paper, table: str, row: str, corpus: str, modalities: str | None, data: str, read: frozenset[str],
    substitutes: frozenset[str] | None,
) -> list[Recipe]:  # fmt: skip
    options = {"data": data, "modalities": modalities}
    declared_row = paper.table(table).find(row)
    printed = declarations.recipe(paper, declared_row, corpus, **options)
    possible = []
    for arrays in _arrays(paper, corpus, printed, read, substitutes):
        recipe = declarations.with_stand_ins(paper, declared_row, corpus, arrays, **options)
        letters = [k for k, modality in LETTERS.items() if k in recipe["data"]["modalities"] and modality in read]
        recipe["data"]["modalities"] = "".join(letters)
        possible += [recipe] if recipe not in possible else []
    return possible


def _arrays(
    paper: Paper, corpus: str, printed: Recipe, read: frozenset[str], substitutes: frozenset[str] | None
) -> Iterator[list[str]]:
    """The arrays that the root may have had when it was recorded, of the modalities that a recipe names."""
    choices = []
    for modality in filter(printed["data"].__contains__, LETTERS.values()):
        own = {
            name: for_corpus(array, corpus)
            for name, each in paper.substitute.items()
            if each.modality == modality and (array := paper.flat(each.change).get(f"data.{modality}"))
        }
        named = [array for name, array in own.items() if name in (substitutes or ())]
        known = modality in read and substitutes is not None
        choices.append((named or [printed["data"][modality]]) if known else [*own.values(), printed["data"][modality]])
    return map(list, product(*choices))


def text(value: Any) -> str:
    """A value of a table of records as text; empty where there is none."""
    return "" if str(value) == "nan" else str(value)
