"""The networks by name. `build` turns the section `model` of a recipe into one; an unknown key is an error."""

import importlib
import inspect
from typing import Any

from merlib.declarations import DeclarationError

NETWORKS = {
    "mfcre": "merlib.models.mfcre:Mfcre",
    "mpaf_net": "merlib.models.mpaf_net:MpafNet",
    "concat_lstm": "merlib.models.mpaf_net:ConcatLstm",
    "hff": "merlib.models.hff:Hff",
    "attsf_net": "merlib.models.attsf_net:AttsfNet",
    "gia_mic": "merlib.models.gia_mic:GiaMic",
    "concat_pool": "merlib.models.gia_mic:ConcatPool",
    "multiemo": "merlib.models.baselines.multiemo:MultiEmo",
    "dialoguernn": "merlib.models.baselines.dialoguernn:DialogueRnn",
    "dialoguegcn": "merlib.models.baselines.dialoguegcn:DialogueGcn",
    "cogmen": "merlib.models.baselines.cogmen:Cogmen",
    "ef_lstm": "merlib.models.baselines.lstm:EfLstm",
    "lf_lstm": "merlib.models.baselines.lstm:LfLstm",
    "tfn": "merlib.models.baselines.tfn:Tfn",
    "lmf": "merlib.models.baselines.lmf:Lmf",
    "mfn": "merlib.models.baselines.mfn:Mfn",
    "mfm": "merlib.models.baselines.mfm:Mfm",
    "iccn": "merlib.models.baselines.iccn:Iccn",
    "concat_mlp": "merlib.models.baselines.floors:ConcatMlp",
    "pooled_mlp": "merlib.models.baselines.floors:PooledMlp",
    "bigru": "merlib.models.baselines.floors:BiGru",
}
ESTIMATORS = {
    "majority": "merlib.models.baselines.floors:majority",
    "logistic": "merlib.models.baselines.floors:logistic",
    "ridge": "merlib.models.baselines.floors:ridge",
}


def is_estimator(name: str) -> bool:
    """Whether the model is a scikit-learn estimator on concatenated vectors, with no epochs."""
    return name in ESTIMATORS


def module_of(name: str) -> str:
    return _place(name).split(":")[0]


def build(recipe: dict[str, Any], **given: Any):
    """A network of random weights. given: what the data settle; a constructor takes those that it names.

    dims: modality -> width of its vectors; steps: modality -> longest sequence of the corpus, in steps; classes;
    speakers: most parties in a dialogue; sentiment: whether the target is a score in [-3, 3] (then classes counts its
    seven whole steps).
    """
    return _call(recipe, **given)


def build_estimator(recipe: dict[str, Any], *, seed: int):
    return _call(recipe, seed=seed)


def _call(recipe: dict[str, Any], **given: Any):
    make = _attribute(recipe["name"])
    keys = {k: v for k, v in recipe.items() if k != "name"}
    parameters = inspect.signature(make).parameters
    takes = set(parameters)
    known, given = takes - set(given), {k: v for k, v in given.items() if k in takes}
    if keys.keys() - known:
        raise DeclarationError(f"model {recipe['name']} has no {sorted(keys.keys() - known)}; it has {sorted(known)}")
    if missing := sorted(k for k, p in parameters.items() if p.default is p.empty and k not in keys | given):
        raise DeclarationError(f"model {recipe['name']} needs {missing} in the section model of its recipe")
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
