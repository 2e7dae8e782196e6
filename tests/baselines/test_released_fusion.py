"""The fusion networks on utterances against numbers of released codes."""

import pytest
import torch
from building import network_of
from oracles import below, load, meta
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from merlib.baselines.mfn import packed

SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32
KINDS = ("weight", "bias")
STATISTICS = (*KINDS, "running_mean", "running_var", "num_batches_tracked")


def renamed(weights: dict[str, Tensor], names: dict[str, str], kinds=KINDS) -> dict[str, Tensor]:
    return {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in kinds}


def ready(network: str, recipe: dict, state: dict[str, Tensor], **given) -> torch.nn.Module:
    net = network_of({"name": network} | recipe, **given)
    net.load_state_dict(state)
    return net


def released_batch(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch of an oracle, its vectors as sequences of one step."""
    names = {"text": "text", "audio": "audio", "visual": "video"}
    batch = {ours: arrays[f"in/{theirs}"] for ours, theirs in names.items()}
    batch = {name: x if x.ndim == 3 else x.unsqueeze(1) for name, x in batch.items()}
    return batch | {f"{name}_mask": torch.ones(x.shape[:2], dtype=torch.bool) for name, x in batch.items()}


def encoders_state(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {f"encode.encoders.text.rnn.{key}": value for key, value in below(weights, "text_subnet.rnn.").items()}
    state |= renamed(weights, {"encode.encoders.text.out": "text_subnet.linear_1"})
    for ours, theirs in (("audio", "audio"), ("visual", "video")):
        state |= renamed(weights, {f"encode.encoders.{ours}.norm": f"{theirs}_subnet.norm"}, STATISTICS)
        layers = {f"encode.encoders.{ours}.layers.{i}": f"{theirs}_subnet.linear_{i + 1}" for i in range(3)}
        state |= renamed(weights, layers)
    return state


def released_sizes(name: str) -> tuple[dict, dict]:
    cfg = meta(name)["cfg"]
    dims = dict(zip(("audio", "visual", "text"), cfg["input_dims"], strict=True))
    hidden = dict(zip(("audio_hidden", "visual_hidden", "text_hidden"), cfg["hidden_dims"], strict=True))
    return dims, hidden | {"dropout": 0.1}


@pytest.mark.parametrize(("variant", "classes"), [("orig", 1), ("mmsa", 6)])
def test_tfn_gives_the_released_values(variant, classes):
    arrays, cfg = load("tfn"), meta("tfn")["cfg"]
    weights, (dims, recipe) = below(arrays, f"{variant}/w/"), released_sizes("tfn")
    recipe |= {"text_out": cfg["text_out"], "fusion_dim": cfg["post_fusion_dim"], "fusion_dropout": 0.1}
    names = {
        "fuse.0": "post_fusion_layer_1",
        "fuse.1": "post_fusion_layer_2",
        "classify.classes": "post_fusion_layer_3",
    }
    state = encoders_state(weights) | renamed(weights, names)
    net = ready("tfn", recipe, state, dims=dims, classes=classes, sentiment=False)
    logits = net(released_batch(arrays))["logits"]
    assert_close(logits if variant == "mmsa" else 6 * logits.sigmoid() - 3, arrays[f"{variant}/out"], **SINGLE)


@pytest.mark.parametrize("variant", ["orig", "mmsa"])
def test_lmf_gives_the_released_values(variant):
    arrays = load("lmf")
    weights, (dims, recipe) = below(arrays, f"{variant}/w/"), released_sizes("lmf")
    rank, text_width, classes = weights["text_factor"].shape
    state = encoders_state(weights) | {"weights": weights["fusion_weights"], "bias": weights["fusion_bias"][0]}
    state |= {f"factors.{a}": weights[f"{b}_factor"] for a, b in (("text",) * 2, ("audio",) * 2, ("visual", "video"))}
    recipe |= {"rank": rank, "text_out": text_width - 1}
    net = ready("lmf", recipe, state, dims=dims, classes=classes, sentiment=False)
    assert_close(net(released_batch(arrays))["logits"], arrays[f"{variant}/out"], **SINGLE)


def test_mfn_gives_the_released_values():
    arrays, cfg = load("mfn"), meta("mfn")["cfg"]
    weights, parts = below(arrays, "w/"), {"text": "l", "audio": "a", "visual": "v"}
    inner = {"attend": "att1", "propose": "att2", "retain": "gamma1", "update": "gamma2"}
    state = {f"fuse.cells.{a}.{k}": v for a, b in parts.items() for k, v in below(weights, f"lstm_{b}.").items()}
    state |= renamed(weights, {f"fuse.{a}.{i}": f"{b}_fc{j}" for a, b in inner.items() for i, j in ((0, 1), (3, 2))})
    state |= renamed(weights, {"embed": "out_fc1", "classify.classes": "out_fc2"})
    keys = {"attention": "NN1Config", "proposal": "NN2Config", "retain": "gamma1Config", "update": "gamma2Config"}
    memory = {f"{ours}_dim": cfg[theirs]["shapes"] for ours, theirs in keys.items()} | {"dim": cfg["memsize"]}
    memory |= dict(zip((f"{name}_hidden" for name in parts), cfg["hidden_dims"], strict=True))
    recipe = {"memory": memory, "head_dim": cfg["outConfig"]["shapes"], "dropout": 0.1, "head_dropout": 0.1}
    dims = dict(zip(parts, cfg["feature_dims"], strict=True))
    net = ready("mfn", recipe, state, dims=dims, classes=cfg["num_classes"], sentiment=False)
    assert_close(net(released_batch(arrays))["logits"], arrays["out/logits"], **SINGLE)
    assert_close(net.fuse(*packed(released_batch(arrays), net.fuse.cells)), arrays["out/last"], **SINGLE)


def test_ef_lstm_gives_the_released_values_on_normalised_steps():
    """MMSA first normalises every step over the batch (channels are steps), which needs equal lengths."""
    arrays = load("ef_lstm")
    weights, batch = below(arrays, "w/"), released_batch(arrays)
    norm = [weights[f"norm.{kind}"] for kind in ("running_mean", "running_var", *KINDS)]
    batch |= {name: F.batch_norm(batch[name], *norm) for name in ("text", "audio", "visual")}
    state = {f"lstm.{key}": value for key, value in below(weights, "lstm.").items()}
    state |= renamed(weights, {"head.0": "linear", "head.3": "out"})
    recipe = {"dim": 8, "layers": 2, "align": "truncate", "common_steps": 6, "head_dim": 8, "dropout": 0.1}
    net = ready("ef_lstm", recipe, state, dims={"text": 9, "audio": 7, "visual": 6}, classes=6)
    assert_close(net(batch)["logits"], arrays["out/logits"], **SINGLE)
