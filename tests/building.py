"""What tests of networks share: a declared recipe, a change inside its sections, a network, one item of a batch."""

from typing import Any

import torch
from torch import Tensor, nn

from merlib import declarations, registry
from merlib.declarations.leaves import nested


def recipe_of(address: str, corpus: str | None = None, *, data: str = "", **change: Any) -> dict[str, dict]:
    """The recipe behind `paper/table/row`, on the paper's first corpus unless another is named."""
    paper, table, row = address.split("/")
    declared = declarations.load(paper)
    found = declared.table(table).find(row)
    return declarations.recipe(declared, found, corpus or found.corpus or declared.corpora[0], data=data, **change)


def changed(section: dict[str, Any], leaves: dict[str, Any]) -> dict[str, Any]:
    """A section with other values of some leaves, by their dotted names: {"encoder.layers": 1}."""
    result = {key: changed(value, {}) if isinstance(value, dict) else value for key, value in section.items()}
    for key, value in nested(leaves).items():
        inner = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = changed(result[key], value) if inner else value
    return result


def network_of(section: dict[str, Any], *, seed: int = 0, **given: Any) -> nn.Module:
    """A network in float64, ready to be asked, from the section `model` of a recipe and what data would settle."""
    torch.manual_seed(seed)
    settled = {"sentiment": False, "speakers": 1, "steps": dict.fromkeys(given["dims"], 1)} | given
    return registry.build("model", section, **settled).double().eval()


def alone(batch: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """One dialogue (with `mask`) or utterance (with a mask for each modality) of a padded batch, without padding."""

    def cut(name: str, value: Tensor) -> Tensor:
        mask = batch.get(name if name.endswith("mask") else f"{name}_mask", batch.get("mask"))
        one = value[index : index + 1]
        return one if mask is None or value.shape[:2] != mask.shape else one[:, : int(mask[index].sum())]

    return {name: cut(name, value) for name, value in batch.items()}
