"""The networks by name. `build` turns the section `model` of a recipe into one; an unknown key is an error."""

import importlib
import inspect
from typing import Any

from merlib.declarations import DeclarationError

NETWORKS = {
    "mfcre": "merlib.models.mfcre:Mfcre",
    "multiemo": "merlib.models.baselines.multiemo:MultiEmo",
    "concat_mlp": "merlib.models.baselines.floors:ConcatMlp",
    "bigru": "merlib.models.baselines.floors:BiGru",
}
ESTIMATORS = {
    "majority": "merlib.models.baselines.floors:majority",
    "logistic": "merlib.models.baselines.floors:logistic",
}


def is_estimator(name: str) -> bool:
    """Whether the model is a scikit-learn estimator on concatenated vectors, with no epochs."""
    return name in ESTIMATORS


def module_of(name: str) -> str:
    return _place(name).split(":")[0]


def build(recipe: dict[str, Any], *, dims: dict[str, int], classes: int, speakers: int):
    """A network of random weights. dims: modality -> width of its vectors; speakers: most parties in a dialogue."""
    return _call(recipe, dims=dims, classes=classes, speakers=speakers)


def build_estimator(recipe: dict[str, Any], *, seed: int):
    return _call(recipe, seed=seed)


def _call(recipe: dict[str, Any], **given: Any):
    make = _attribute(recipe["name"])
    keys = {k: v for k, v in recipe.items() if k != "name"}
    known = set(inspect.signature(make).parameters) - set(given)
    if keys.keys() - known:
        raise DeclarationError(f"model {recipe['name']} has no {sorted(keys.keys() - known)}; it has {sorted(known)}")
    try:
        return make(**given, **keys)
    except ValueError as error:  # a constructor that refuses an option or a size
        raise DeclarationError(f"model {recipe['name']}: {error}") from error


def _attribute(name: str):
    module, attribute = _place(name).split(":")
    return getattr(importlib.import_module(module), attribute)


def _place(name: str) -> str:
    if name not in NETWORKS | ESTIMATORS:
        raise DeclarationError(f"no model {name!r}; there are {sorted(NETWORKS | ESTIMATORS)}")
    return (NETWORKS | ESTIMATORS)[name]
