"""The substitutes of a paper: which of them the arrays of a root ask for, and which of them a recipe has."""

from collections.abc import Collection, Mapping
from typing import Any

from merlib.declarations.leaves import for_corpus
from merlib.declarations.schema import LETTERS, Paper


def standing_in(paper: Paper, corpus: str, recipe: Mapping[str, dict], arrays: Collection[str]) -> dict[str, bool]:
    """The choice `{"substitute.stored_speech": True}` of what stands in for printed arrays that a root lacks.

    recipe: of a row on the corpus, as printed. arrays: those that the root has. Of several substitutes for an array,
    the first whose own array is there, else the first. An array that the row names itself has none.
    """
    candidates: dict[str, dict[str, str]] = {}  # modality -> name -> its own array
    for name, substitute in paper.substitute.items():
        leaf = f"data.{substitute.modality}"
        printed, own = (paper.flat(tree).get(leaf, "") for tree in (paper.recipe, substitute.change))
        printed = for_corpus(printed, corpus)
        if own and recipe["data"][substitute.modality] == printed and printed not in arrays:
            candidates.setdefault(substitute.modality, {})[name] = for_corpus(own, corpus)
    best = (next((n for n, own in of.items() if own in arrays), next(iter(of))) for of in candidates.values())
    return {f"substitute.{name}": True for name in best}


def substitutes(paper: Paper, corpus: str, recipe: Mapping[str, dict]) -> list[str]:
    """The names of the substitutes among the inputs of a run on a corpus, however they came into its recipe.

    One that stands on an array of its own is there where this array is read, any other where all its leaves are set.
    """
    leaves, read = paper.flat(recipe), [LETTERS[letter] for letter in recipe["data"]["modalities"]]
    names = []
    for name, substitute in paper.substitute.items():
        change = {key: for_corpus(value, corpus) for key, value in paper.flat(substitute.change).items()}
        array = f"data.{substitute.modality}"
        expected: dict[str, Any] = {array: change[array]} if array in change else change
        if substitute.modality in read and expected.items() <= leaves.items():
            names.append(name)
    return names
