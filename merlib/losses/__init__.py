"""The losses by name. `build_loss` turns the section `loss` of a recipe into one; an unknown key is an error.

A loss is a module: `forward(outputs, target)` takes what a network returned for the utterances of a step (u ...), and
`target`: `label` (u, -1 where there is none) and, on the sentiment corpora, `score` (u). It returns `loss` and its
named parts.
"""

import importlib
import inspect
from typing import Any

LOSSES = {
    "cross_entropy": "merlib.losses.cross_entropy:CrossEntropy",
    "contrastive": "merlib.losses.contrastive:Contrastive",  # MFCRE, MultiEMO
    "focal": "merlib.losses.focal:Focal",  # MPAF-Net
    "hff": "merlib.losses.hff:HffLoss",
    "mfm": "merlib.losses.mfm:MfmLoss",
    "iccn": "merlib.losses.iccn:IccnLoss",
    "attsf_net": "merlib.losses.attsf_net:AttsfLoss",
    "invariant": "merlib.losses.invariant:Invariant",  # GIA-MIC
}


def module_of(name: str) -> str:
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is unknown: choose one of {', '.join(LOSSES)}")
    return LOSSES[name].split(":")[0]


def build_loss(recipe: dict[str, Any], **given: Any):
    """The loss that a recipe's section `loss` names: {"name": ..., and its constructor's keywords}.

    given: what the corpus and the network settle: `class_counts` (c, labels of the training set), `dim` (width of the
    network), `sentiment` (whether the target is a score); a loss takes those that its constructor names.
    """
    make = getattr(importlib.import_module(module_of(recipe["name"])), LOSSES[recipe["name"]].split(":")[1])
    parameters = inspect.signature(make).parameters
    takes = set(parameters)
    keywords = {key: value for key, value in recipe.items() if key != "name"}
    if unknown := keywords.keys() - takes:
        raise ValueError(f"loss {recipe['name']} has no {sorted(unknown)}; it has {sorted(takes - given.keys())}")
    given = {key: value for key, value in given.items() if key in takes}
    if missing := sorted(k for k, p in parameters.items() if p.default is p.empty and k not in keywords | given):
        raise ValueError(f"loss {recipe['name']} needs {missing} in the section loss of its recipe")
    return make(**keywords, **given)
