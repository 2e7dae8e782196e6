"""The networks on dialogues against numbers of released codes."""

import pytest
import torch
from building import network_of
from oracles import below, dialoguernn_state, load, meta, multiattn_state
from torch import Tensor, nn
from torch.testing import assert_close

from merlib.baselines.dialoguernn import DialogueRnnContext

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32
KINDS = ("weight", "bias")
STATISTICS = (*KINDS, "running_mean", "running_var", "num_batches_tracked")


def released_dialoguernn(case: int) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """One variant with the oracle's weights, its batch, and its arrays."""
    arrays, cfg = below(load("dialoguernn"), f"case{case}/"), meta("dialoguernn")["cases"][case]
    context = {
        "global_dim": cfg["D_g"], "party_dim": cfg["D_p"], "emotion_dim": cfg["D_e"], "listener": cfg["listener_state"],
        "attention": {"name": cfg["context_attention"], "hidden": cfg["D_a"]}, "recurrent_dropout": 0.1,
    }  # fmt: skip
    recipe = {"context": context, "hidden_dim": 2 * cfg["D_h"], "emotion_attention": cfg["att2"], "dropout": 0.1}
    net = network_of({"name": "dialoguernn"} | recipe, dims={"text": cfg["D_m"]}, classes=cfg["n_classes"], speakers=2)
    weights = below(arrays, "w/")
    state = {f"context.{k}": v for k, v in dialoguernn_state(weights, ["dialog_rnn_f.", "dialog_rnn_r."]).items()}
    names = {"embed": "linear", "classify": "smax_fc"} | ({"match": "matchatt.transform"} if cfg["att2"] else {})
    state |= {f"{a}.{kind}": weights[f"{b}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
    net.load_state_dict(state)
    batch = {
        "text": arrays["in/U"].transpose(0, 1),
        "mask": arrays["in/umask"].bool(),
        "speaker": arrays["in/qmask"].argmax(-1).T,
    }
    return net, batch, arrays


@pytest.mark.parametrize("case", range(4))
def test_dialoguernn_gives_the_released_values(case):
    net, batch, arrays = released_dialoguernn(case)
    mask, log_probability = batch["mask"], net(batch)["logits"].log_softmax(-1)
    assert_close(log_probability[mask], arrays["out64/log_prob"].transpose(0, 1)[mask], **EXACT)
    half = net.context.emotion_cell.hidden
    forward = net.context(batch["text"][None], batch["speaker"], mask)[0, ..., :half]
    assert_close(forward[mask], arrays["mid/emotions_f"].transpose(0, 1)[mask], **SINGLE)


@pytest.mark.parametrize(("attention", "listener"), [("simple", False), ("general", False), ("concat", True)])
def test_gradients_of_the_loop_are_those_of_the_values(attention, listener):
    """Weight gradients are computed outside autograd's loop: compare with finite differences."""
    torch.manual_seed(0)
    widths = {"dim": 3, "global_dim": 2, "party_dim": 4, "emotion_dim": 3, "parties": 3}
    net = DialogueRnnContext(
        streams=2, directions=2, **widths, attention={"name": attention, "hidden": 2}, listener=listener,
        recurrent_dropout=0.0, through_padding=False,
    ).double()  # fmt: skip
    mask = torch.arange(5) < torch.tensor([3, 5, 1])[:, None]
    speaker = torch.randint(3, mask.shape)
    x = torch.randn(2, *mask.shape, 3, dtype=torch.double, requires_grad=True)
    names = [name for name, _ in net.named_parameters()]

    def run(x, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(net, values, (x, speaker, mask))

    assert torch.autograd.gradcheck(run, (x, *net.parameters()), fast_mode=True)


def released_multiemo(*, mask_padding: bool) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """The IEMOCAP network with the oracle's weights, its padded batch, and the oracle's arrays."""
    arrays, cfg = load("multiemo_full_iemocap"), meta("multiemo_full_iemocap")["cfg"]
    weights = below(arrays, "w/")
    context = {
        "name": "dialoguernn", "directions": 2, "global_dim": cfg["D_g"], "party_dim": cfg["D_p"],
        "emotion_dim": cfg["D_e"], "recurrent_dropout": 0.1,
    }  # fmt: skip
    recipe = {
        "name": "multiemo", "dim": cfg["model_dim"], "context": context, "text_context": True,
        "fusion": {"layers": cfg["num_layers"], "heads": cfg["num_heads"], "ff": cfg["hidden_dim"]},
        "head": {"hidden": cfg["model_dim"]}, "mask_padding": mask_padding, "dropout": 0.1,
    }  # fmt: skip
    dims = {"text": cfg["roberta_dim"], "audio": cfg["D_m_audio"], "visual": cfg["D_m_visual"]}
    net = network_of(recipe, dims=dims, classes=cfg["n_classes"], speakers=cfg["n_speakers"])
    names = ("text", "audio", "visual")
    directions = [f"{name}_dialoguernn.dialog_rnn_{r}." for name in names for r in "fr"]
    state = {f"context.rnn.{k}": v for k, v in dialoguernn_state(weights, directions).items()}
    state |= {f"fusion.{k}": v for k, v in multiattn_state(weights, "multiattn.").items()}
    linear = {"head.embed": "fc", "head.classify.0": "mlp.linear_1", "head.classify.3": "mlp.linear_2"}
    linear |= {f"project.{name}": f"{name}_fc" for name in names}
    linear |= {f"context.out.{name}": f"{name}_dialoguernn.linear" for name in names}
    state |= {f"{a}.{kind}": weights[f"{b}.{kind}"] for a, b in linear.items() for kind in ("weight", "bias")}
    net.load_state_dict(state)
    batch = {name: arrays[f"in/{name}s"].transpose(0, 1) for name in names}
    batch |= {"mask": arrays["in/utterance_masks"].bool(), "speaker": arrays["in/speaker_masks"].argmax(-1).T}
    return net, batch, arrays


def test_multiemo_gives_the_released_values_of_a_padded_batch():
    net, batch, arrays = released_multiemo(mask_padding=False)
    mask, out = batch["mask"], net(batch)
    assert_close(out["logits"][mask], arrays["out/logits"], **SINGLE)
    assert_close(out["embedding"][mask], arrays["out/fc"], **SINGLE)
    for i, name in enumerate(("text", "audio", "visual")):
        assert_close(out["fused"][mask][:, i], arrays[f"out/fused_{name}"], **SINGLE)
    x = {name: project(batch[name]) for name, project in net.project.items()}
    audio = net.context(x, batch["speaker"], mask)["audio"]
    assert_close(audio[mask], arrays["mid/audio_dialoguernn"].transpose(0, 1)[mask], **SINGLE)


def test_multiemo_with_a_mask_gives_the_released_values_of_a_dialogue_alone():
    net, batch, arrays = released_multiemo(mask_padding=True)
    alone = arrays["alone_dialogue1/logits"]
    assert_close(net(batch)["logits"][1, : len(alone)], alone, **SINGLE)
    published, _, _ = released_multiemo(mask_padding=False)
    assert (published(batch)["logits"][1, : len(alone)] - alone).abs().max() > 1e-3
    one = {name: value[1:2, : len(alone)] for name, value in batch.items()}
    assert_close(published(one)["logits"][0], alone, **SINGLE)


def renamed(weights: dict[str, Tensor], names: dict[str, str], kinds=KINDS) -> dict[str, Tensor]:
    return {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in kinds}


def ready(network: str, recipe: dict, state: dict[str, Tensor], **given) -> nn.Module:
    net = network_of({"name": network} | recipe, **given)
    net.load_state_dict(state)
    return net


def released_dialoguegcn(case: int, *, mask_padding: bool) -> tuple[nn.Module, dict[str, Tensor], dict]:
    arrays, cfg = below(load("dialoguegcn"), f"case{case}/"), meta("dialoguegcn")["cases"][case]
    weights, base = below(arrays, "w/"), cfg["base_model"].lower().replace("dialogrnn", "dialoguernn")
    recipe = {
        "context": {
            "name": base, "hidden": cfg["D_e"], "layers": 2, "global_dim": cfg["D_g"], "party_dim": cfg["D_p"],
            "recurrent_dropout": 0.1,
        },
        "graph": {
            "dim": cfg["graph_hidden"], "bases": 30, "positions": cfg["max_seq_len"],
            "window_past": cfg["window_past"], "window_future": cfg["window_future"],
        },
        "nodal_attention": cfg["nodal_attention"], "mask_padding": mask_padding, "dropout": 0.1,
    }  # fmt: skip
    states = dialoguernn_state(weights, ["dialog_rnn_f.", "dialog_rnn_r."]) if base == "dialoguernn" else None
    state = {f"context.rnn.{key}": value for key, value in (states or below(weights, f"{base}.")).items()}
    graph = below(weights, "graph_net.")
    state |= {
        "graph.edge.weight": weights["att_model.scalar.weight"], "graph.bases": graph["conv1.basis"],
        "graph.mix": graph["conv1.att"], "graph.itself.weight": graph["conv1.root"].T,
        "graph.itself.bias": graph["conv1.bias"], "graph.neighbours.weight": graph["conv2.weight"].T,
    }  # fmt: skip
    names = {"graph.itself_again": "conv2.lin", "embed": "linear", "classify": "smax_fc"}
    state |= renamed(graph, names | ({"match": "matchatt.transform"} if cfg["nodal_attention"] else {}))
    net = ready("dialoguegcn", recipe, state, dims={"text": cfg["D_m"]}, classes=6, speakers=cfg["n_speakers"])
    batch = {"text": arrays["in/U"].transpose(0, 1), "mask": arrays["in/umask"].bool()}
    return net, batch | {"speaker": arrays["in/qmask"].argmax(-1).T}, arrays


def released_cogmen(*, mask_padding: bool) -> tuple[nn.Module, dict[str, Tensor], dict]:
    arrays, cfg = load("cogmen"), meta("cogmen")["cfg"]
    weights = below(arrays, "w/")
    recipe = {
        "context_layers": cfg["seqcontext_nlayer"], "context_heads": 0, "context_ff": 2048, "dim": cfg["hidden_size"],
        "window_past": cfg["wp"], "window_future": cfg["wf"], "graph_heads": cfg["gnn_nheads"], "dropout": 0.1,
        "mask_padding": mask_padding,
    }  # fmt: skip
    state = {f"context.{key}": value for key, value in below(weights, "rnn.transformer_encoder.").items()}
    attend = {f"attend.{name}": f"gcn.conv2.lin_{name}" for name in ("query", "key", "value", "skip")}
    state |= renamed(weights, {"project": "rnn.transformer_out", "embed": "clf.lin1", "classify": "clf.lin2"} | attend)
    state |= renamed(weights, {"norm": "gcn.bn"}, STATISTICS)
    del state["attend.key.bias"]  # the same for all keys of a query
    conv = {"weight": "weight", "itself.weight": "root", "itself.bias": "bias"}
    state |= {f"relate.{ours}": weights[f"gcn.conv1.{theirs}"] for ours, theirs in conv.items()}
    state["relate.itself.weight"] = state["relate.itself.weight"].T
    net = ready("cogmen", recipe, state, dims={"text": arrays["in/x"].shape[-1]}, classes=6, speakers=2)
    mask = torch.arange(arrays["in/x"].shape[1]) < arrays["in/lens"][:, None]
    return net, {"text": arrays["in/x"], "mask": mask, "speaker": arrays["in/speaker"]}, arrays


RELEASED = {f"dialoguegcn {case}": lambda case=case, **mask: released_dialoguegcn(case, **mask) for case in range(3)}
RELEASED["cogmen"] = released_cogmen


@pytest.mark.parametrize("network", RELEASED)
def test_dialogue_graphs_give_the_released_values_of_a_padded_batch(network):
    net, batch, arrays = RELEASED[network](mask_padding=False)
    log_probability = net(batch)["logits"].log_softmax(-1)[batch["mask"]]
    assert_close(log_probability, arrays["out/log_prob"], **SINGLE)
    if "out64/log_prob" in arrays:
        assert_close(log_probability, arrays["out64/log_prob"], **EXACT)


@pytest.mark.parametrize("network", ["dialoguegcn 0", "dialoguegcn 2", "cogmen"])
def test_with_a_mask_they_give_the_released_values_of_a_dialogue_alone(network):
    published, batch, _ = RELEASED[network](mask_padding=False)
    masked, _, _ = RELEASED[network](mask_padding=True)
    i = int(batch["mask"].sum(1).argmin())
    one = {name: value[i : i + 1, : batch["mask"][i].sum()] for name, value in batch.items()}
    alone = published(one)["logits"][0]
    assert_close(masked(batch)["logits"][i, : len(alone)], alone, **EXACT)
    assert (published(batch)["logits"][i, : len(alone)] - alone).abs().max() > 1e-4
