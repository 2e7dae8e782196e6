"""Numbers that public modules produced, stored in tests/fixtures (how: the `meta_json` of each file)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"


def load(name: str) -> dict[str, Tensor]:
    """Every array of a fixture; floats in float64."""
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files if key != "meta_json"}
    return {key: value.double() if value.is_floating_point() else value for key, value in tensors.items()}


def meta(name: str) -> dict[str, Any]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return json.loads(bytes(arrays["meta_json"]))


def below(fixture: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The arrays whose key starts with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in fixture.items() if key.startswith(prefix)}


def multiattn_state(original: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of MultiEMO's MultiAttnModel in the names of merlib.layers.attention.MultiAttn, heads stacked."""
    state, weights = {}, below(original, prefix)

    def heads(key: str, matrix: str, kind: str) -> list[Tensor]:
        count = len({k for k in weights if k.startswith(f"{key}.attention_heads.") and k.endswith(f"{matrix}.{kind}")})
        return [weights[f"{key}.attention_heads.{h}.{matrix}.{kind}"] for h in range(count)]

    for layer in {key.rsplit(".attn_1", 1)[0] for key in weights if ".attn_1" in key}:
        stack, _, index = layer.split(".")
        ours = f"stacks.{stack.removeprefix('multiattn_')}.{index}"
        for kind in ("weight", "bias"):
            for i in (1, 2):
                key, attend = f"{layer}.attn_{i}", f"{ours}.attend.{i - 1}"
                state[f"{attend}.query.{kind}"] = torch.cat(heads(key, "query_matrix", kind))
                key_value = heads(key, "key_matrix", kind) + heads(key, "value_matrix", kind)
                state[f"{attend}.key_value.{kind}"] = torch.cat(key_value)
                state[f"{attend}.out.{kind}"] = weights[f"{key}.projection_matrix.{kind}"]
            for i, norm in enumerate(("norms.0", "norms.1", "last_norm"), start=1):
                state[f"{ours}.{norm}.{kind}"] = weights[f"{layer}.add_norm_{i}.layer_norm.{kind}"]
            for i, linear in {0: "linear_W1", 2: "linear_W2"}.items():
                state[f"{ours}.feed_forward.{i}.{kind}"] = weights[f"{layer}.ff.{linear}.{kind}"]
    return state


def dialoguernn_state(original: dict[str, Tensor], ways: list[str]) -> dict[str, Tensor]:
    """The weights of DialogueRNN networks, one below each prefix, stacked in the names of DialogueRnnContext."""
    networks = [below(original, f"{way}dialogue_cell.") for way in ways]
    stacked = {key: torch.stack([network[key] for network in networks]) for key in networks[0]}
    cells = {"g_cell": "global_cell", "p_cell": "party_cell", "e_cell": "emotion_cell", "l_cell": "listener_cell"}
    state = {
        f"{cells[cell]}.{name}": value
        for key, value in stacked.items()
        for cell, _, name in [key.partition(".")]
        if cell in cells
    }
    attention = below(stacked, "attention.")
    if "scalar.weight" in attention:
        return state | {"attention.weight": attention["scalar.weight"].mT}  # s 1 g -> s g 1
    if "vector_prod.weight" in attention:
        global_dim = stacked["g_cell.weight_hh"].shape[-1]
        parts = attention["transform.weight"].tensor_split([global_dim], dim=-1)  # [g_j; u_t]
        score = dict(zip(("state", "utterance"), parts, strict=True)) | {
            "vector": attention["vector_prod.weight"][:, 0]
        }
    else:
        score = {key.removeprefix("transform."): value for key, value in attention.items()}
    return state | {f"attention.score.{key}": value for key, value in score.items()}
