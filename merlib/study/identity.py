"""What a run is known by: a hash of all that determines its numbers, and of nothing else.

That is the recipe, the values of the corpus and of its features, the weights that a network starts from, and the
versions of the code that computes: VERSION in the file of the network, of the loss, of what a run reads
(`data/inputs.py`) and of the loop (`training/loop.py`). Renaming a variable leaves a run what it is; a change that
moves numbers has to raise the version of its file, and a test holds the numbers of each version. The versions are read
without importing what computes.
"""

import hashlib
import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from merlib import files, registry
from merlib.data import folders
from merlib.errors import DeclarationError

SCORED_AFTER = (  # leaves of `protocol` that no training reads
    "select", "average", "mask_modality", "mask_percent", "mask_unit", "mask_noise",
)  # fmt: skip
READ = ["utterance", "dialogue", "speaker", "label", "split", "score"]  # columns of a corpus that a fit reads


def of_recipe(
    recipe: dict[str, dict], dataset: folders.Dataset, modalities: Collection[str], own: Collection[str] = ()
) -> str:
    """What all runs of a recipe on a corpus share, whatever their seed and fold.

    modalities: those that are read. own: the arrays that are made for one seed and fold.
    """
    determines = _trained_by(recipe) | {
        "corpus": _of_corpus(dataset),
        "features": {name: feature.passport.sha256 for name, feature in dataset.features.items() if name not in own},
        "weights": of_weights(recipe["model"], modalities),
        "versions": versions(recipe),
    }
    return of_text(json.dumps(determines, sort_keys=True))


def of_declared(recipe: dict[str, dict]) -> str:
    """A recipe without the data and the code: what a clone that has no data can compare."""
    return of_text(json.dumps(_trained_by(recipe), sort_keys=True))


def versions(recipe: dict[str, dict]) -> dict[str, int]:
    """The versions of the code that trains a recipe."""
    return {
        "network": registry.version("model", recipe["model"]["name"]),
        "loss": registry.version("loss", recipe["loss"]["name"]),
        "inputs": registry.version_of("merlib.data.inputs"),
        "loop": registry.version_of("merlib.training.loop"),
    }


def _trained_by(recipe: dict[str, dict]) -> dict[str, dict]:
    """The recipe without the leaves that no training reads."""
    return recipe | {"protocol": {k: value for k, value in recipe["protocol"].items() if k not in SCORED_AFTER}}


def of_run(recipe_id: str, seed: int, fold: int, split: Collection[str], own: Collection[str] = ()) -> str:
    """One training of a recipe. split: of each utterance of the corpus; own: hashes of the arrays made for this run."""
    return of_text(" ".join([recipe_id, str(seed), str(fold), "".join(name[1] for name in split), *own]))


def of_weights(model: dict[str, Any], modalities: Collection[str]) -> dict[str, str]:
    """Leaf of the section `model` -> a hash of the pretrained files that the network starts from there.

    A network that starts from files says which with a static method `starting_weights(section, modalities)`. Files are
    read once a process, unless they change. Raises DeclarationError where a name leads to no weights.
    """
    files_of = getattr(registry.constructor("model", model["name"]), "starting_weights", None)
    try:
        paths: dict[str, list[Path]] = files_of(model, modalities) if files_of else {}
    except ValueError as error:
        raise DeclarationError(f"model {model['name']}: {error}") from error
    return {leaf: of_text("".join(map(_of_file, listed))) for leaf, listed in paths.items()}


def of_text(text: str) -> str:
    """The first 16 hex digits of the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _of_file(path: Path) -> str:
    about = path.stat()
    return _sha256(path.resolve(), about.st_size, about.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    return files.sha256(path)


@cache
def _of_corpus(dataset: folders.Dataset) -> str:
    return of_text(dataset.corpus.table[READ].to_csv(index=False))
