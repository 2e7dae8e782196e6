"""The systems that HFF compares itself with: against numbers of released codes, and what masks and losses promise."""

import numpy as np
import pytest
import torch
from oracles import below, dialoguernn_state, load, meta
from scipy.linalg import inv, sqrtm
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from merlib import registry
from merlib.baselines.dialoguegcn import relations, window_edges
from merlib.baselines.floors import pool
from merlib.baselines.iccn import mean_correlation
from merlib.baselines.mfm import mmd_to_normal
from merlib.errors import DeclarationError

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32
KINDS = ("weight", "bias")
STATISTICS = (*KINDS, "running_mean", "running_var", "num_batches_tracked")


def renamed(weights: dict[str, Tensor], names: dict[str, str], kinds=KINDS) -> dict[str, Tensor]:
    return {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in kinds}


def ready(network: str, recipe: dict, state: dict[str, Tensor], **given) -> torch.nn.Module:
    net = registry.build("model", {"name": network} | recipe, **given)
    net.load_state_dict(state)
    return net.double().eval()


# Released values, by utterance


def released_batch(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Vectors are sequences of one step here."""
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
    found = net(released_batch(arrays))["logits"]
    assert_close(found if variant == "mmsa" else 6 * found.sigmoid() - 3, arrays[f"{variant}/out"], **SINGLE)


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
    recipe = {f"{ours}_dim": cfg[theirs]["shapes"] for ours, theirs in (keys | {"head": "outConfig"}).items()}
    recipe |= dict(zip((f"{name}_hidden" for name in parts), cfg["hidden_dims"], strict=True))
    recipe |= {"memory_dim": cfg["memsize"], "dropout": 0.1, "head_dropout": 0.1}
    dims = dict(zip(parts, cfg["feature_dims"], strict=True))
    net = ready("mfn", recipe, state, dims=dims, classes=cfg["num_classes"], sentiment=False)
    assert_close(net(released_batch(arrays))["logits"], arrays["out/logits"], **SINGLE)
    assert_close(net.fuse(released_batch(arrays)), arrays["out/last"], **SINGLE)


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


# Released values, by dialogue


def released_dialoguegcn(case: int, *, mask_padding: bool) -> tuple[torch.nn.Module, dict[str, Tensor], dict]:
    arrays, cfg = below(load("dialoguegcn"), f"case{case}/"), meta("dialoguegcn")["cases"][case]
    weights, base = below(arrays, "w/"), cfg["base_model"].lower().replace("dialogrnn", "dialoguernn")
    recipe = {
        "base": base, "base_dim": cfg["D_e"], "base_layers": 2, "global_dim": cfg["D_g"], "party_dim": cfg["D_p"],
        "recurrent_dropout": 0.1, "window_past": cfg["window_past"], "window_future": cfg["window_future"],
        "bases": 30, "graph_dim": cfg["graph_hidden"], "positions": cfg["max_seq_len"], "dropout": 0.1,
        "nodal_attention": cfg["nodal_attention"], "mask_padding": mask_padding,
    }  # fmt: skip
    if base == "dialoguernn":
        context = dialoguernn_state(weights, ["dialog_rnn_f.", "dialog_rnn_r."])
    else:
        context = below(weights, "base_linear." if base == "none" else f"{base}.")
    state = {f"context.{'linear' if base == 'none' else 'rnn'}.{key}": value for key, value in context.items()}
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


def released_cogmen(*, mask_padding: bool) -> tuple[torch.nn.Module, dict[str, Tensor], dict]:
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


RELEASED = {f"dialoguegcn {case}": lambda case=case, **way: released_dialoguegcn(case, **way) for case in range(4)}
RELEASED["cogmen"] = released_cogmen


@pytest.mark.parametrize("network", RELEASED)
def test_dialogue_graphs_give_the_released_values_of_a_padded_batch(network):
    net, batch, arrays = RELEASED[network](mask_padding=False)
    found = net(batch)["logits"].log_softmax(-1)[batch["mask"]]
    assert_close(found, arrays["out/log_prob"], **SINGLE)
    if "out64/log_prob" in arrays:
        assert_close(found, arrays["out64/log_prob"], **EXACT)


@pytest.mark.parametrize("network", ["dialoguegcn 0", "dialoguegcn 2", "cogmen"])
def test_with_a_mask_they_give_the_released_values_of_a_dialogue_alone(network):
    published, batch, _ = RELEASED[network](mask_padding=False)
    masked, _, _ = RELEASED[network](mask_padding=True)
    i = int(batch["mask"].sum(1).argmin())
    one = {name: value[i : i + 1, : batch["mask"][i].sum()] for name, value in batch.items()}
    alone = published(one)["logits"][0]
    assert_close(masked(batch)["logits"][i, : len(alone)], alone, **EXACT)
    assert (published(batch)["logits"][i, : len(alone)] - alone).abs().max() > 1e-4


# What every network promises

WIDTHS = {"text": 6, "audio": 5, "visual": 4}
CLASSES, PARTIES, LENGTHS = 5, 3, (5, 1, 3, 4)
HIDDEN = {"text_hidden": 7, "audio_hidden": 5, "visual_hidden": 6}
MEMORY = HIDDEN | {
    "memory_dim": 5, "attention_dim": 6, "proposal_dim": 7, "retain_dim": 6, "update_dim": 5, "dropout": 0.1,
    "head_dropout": 0.1,
}  # fmt: skip
CODES = {f"{name}_{part}": size for name, size in WIDTHS.items() for part in ("code", "factor")}
GCN = {
    "base": "lstm", "base_dim": 4, "base_layers": 2, "global_dim": 5, "party_dim": 6, "recurrent_dropout": 0.1,
    "window_past": 1, "window_future": 2, "bases": 3, "graph_dim": 5, "positions": 8, "nodal_attention": True,
    "mask_padding": True, "dropout": 0.1,
}  # fmt: skip
COGMEN = {
    "context_layers": 1, "context_heads": 0, "context_ff": 8, "dim": 6, "window_past": 2, "window_future": 1,
    "graph_heads": 2, "mask_padding": True, "dropout": 0.1,
}  # fmt: skip
RNN = {
    "global_dim": 5, "party_dim": 6, "emotion_dim": 4, "hidden_dim": 7, "attention": "general", "attention_dim": 3,
    "listener": False, "emotion_attention": True, "recurrent_dropout": 0.1, "dropout": 0.1,
}  # fmt: skip
FUSION = {
    "tfn": HIDDEN | {"text_out": 4, "fusion_dim": 6, "dropout": 0.1, "fusion_dropout": 0.1},
    "lmf": HIDDEN | {"text_out": 4, "rank": 3, "dropout": 0.1},
    "mfn": MEMORY | {"head_dim": 6},
    "mfm": MEMORY | CODES | {"code_dim": 5, "factor_dim": 6},
    "iccn": HIDDEN | {"kernel": 3, "channels": 2, "view_dim": 4, "dropout": 0.1},
    "pooled_mlp": {"hidden": 6, "dropout": 0.1},
}
GRAPHS = {
    "dialoguernn": RNN,
    "dialoguegcn": GCN,
    "dialoguegcn, gru": GCN | {"base": "gru", "nodal_attention": False},
    "dialoguegcn, dialoguernn": GCN | {"base": "dialoguernn", "window_past": -1},
    "dialoguegcn, none": GCN | {"base": "none", "window_past": -1, "window_future": -1},
    "cogmen": COGMEN,
}
STEPPING = ("mfn", "mfm")  # the modalities step together
CASES = [
    (network, names)
    for network in FUSION | GRAPHS
    for names in (("text",), ("audio", "visual"), ("text", "audio"), tuple(WIDTHS))
    if network != "iccn" or "text" in names and len(names) > 1
]
EVERY = pytest.mark.parametrize(("network", "names"), CASES, ids=lambda x: x if isinstance(x, str) else "+".join(x))


def network_of(network: str, names=tuple(WIDTHS), *, sentiment=False) -> torch.nn.Module:
    torch.manual_seed(0)
    recipe = {"name": network.split(",")[0]} | (FUSION | GRAPHS)[network]
    dims = {name: WIDTHS[name] for name in names}
    net = registry.build(
        "model", recipe, dims=dims, classes=7 if sentiment else CLASSES, speakers=PARTIES, sentiment=sentiment
    )
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):  # as after some training
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return net.double()


def batch_of(network: str, names=tuple(WIDTHS)) -> dict[str, Tensor]:
    """Four dialogues or utterances padded beyond the longest; the padding holds noise that must not be seen."""
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS) + 1) < torch.tensor(LENGTHS)[:, None]
    x = {name: torch.randn(*mask.shape, WIDTHS[name], dtype=torch.double) for name in names}
    if network in GRAPHS:
        return x | {"mask": mask, "speaker": torch.randint(PARTIES, mask.shape) * mask}
    shift = {name: 0 if network in STEPPING else i for i, name in enumerate(names)}
    return x | {f"{name}_mask": mask.roll(shift[name], dims=0) for name in names}


def alone(network: str, batch: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """The i-th dialogue or utterance, without padding."""
    if network in GRAPHS:
        return {name: value[i : i + 1, : LENGTHS[i]] for name, value in batch.items()}
    ends = {name: int(batch[f"{name.removesuffix('_mask')}_mask"][i].sum()) for name in batch}
    return {name: value[i : i + 1, : ends[name]] for name, value in batch.items()}


@EVERY
def test_padding_and_batch_mates_are_invisible(network, names):
    net, batch = network_of(network, names).eval(), batch_of(network, names)
    together = net(batch)
    assert all(value.isfinite().all() for value in together.values())
    shape = batch["mask"].shape if network in GRAPHS else (len(LENGTHS),)
    assert together["logits"].shape == (*shape, CLASSES)
    assert together["embedding"].shape[:-1] == shape
    for i in range(len(LENGTHS)):
        for name, value in net(alone(network, batch, i)).items():
            assert_close(value[0], together[name][i, : LENGTHS[i]] if network in GRAPHS else together[name][i], **EXACT)


@EVERY
def test_every_parameter_receives_gradient(network, names):
    net, batch = network_of(network, names).eval(), batch_of(network, names)
    outputs = net(batch)
    real = {name: value[batch["mask"]] if network in GRAPHS else value for name, value in outputs.items()}
    sum((value**3).sum() for value in real.values()).backward()
    unused = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12]
    assert not unused


@pytest.mark.parametrize("network", FUSION)
def test_one_vector_an_utterance_is_enough(network):
    net, batch = network_of(network), batch_of(network)
    first = {name: value[:, :1] for name, value in batch.items()}
    net.eval()
    assert_close(net(first)["logits"][0], net(alone(network, first, 0))["logits"][0], **EXACT)
    net.train()
    one = {name: value[:1] for name, value in first.items()}
    assert net(one)["logits"].isfinite().all()  # a last batch of one utterance has no variance


@pytest.mark.parametrize("network", FUSION)
def test_on_sentiment_there_are_two_heads_or_one_score(network):
    outputs = network_of(network, sentiment=True)(batch_of(network))
    assert outputs["logits"].shape == (len(LENGTHS), 1 if network == "pooled_mlp" else 7)
    assert ("logits_binary" in outputs) == (network != "pooled_mlp")
    if "logits_binary" in outputs:
        assert outputs["logits_binary"].shape == (len(LENGTHS), 2)


@pytest.mark.parametrize("network", FUSION | GRAPHS)
def test_training_is_repeatable_and_half_precision_stays_close(network):
    net, batch = network_of(network).float(), batch_of(network)
    batch = {name: value.float() if value.is_floating_point() else value for name, value in batch.items()}
    outputs = []
    for _ in range(2):
        torch.manual_seed(2)
        outputs.append(net(batch)["logits"])
    assert torch.equal(*outputs)
    net.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = net(batch)["logits"]
    assert_close(half.float(), net(batch)["logits"], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("network", GRAPHS)
def test_who_speaks_matters(network):
    net, batch = network_of(network).eval(), batch_of(network)
    other = batch | {"speaker": batch["speaker"].roll(1, dims=1) * batch["mask"]}
    assert (net(batch)["logits"] - net(other)["logits"])[0].abs().max() > 1e-6


def test_the_window_ends_the_view():
    """Sender i reaches i - past to i + future, and weighs within that; two convolutions, so two such steps."""
    net = network_of("dialoguegcn, none", ("text",)).graph
    net.window = {"past": 0, "future": 1}
    x = torch.randn(1, 6, 8, dtype=torch.double, requires_grad=True)
    net(x, torch.zeros(1, 6, dtype=torch.long), torch.ones(1, 6, dtype=torch.bool))[0, 3].sum().backward()
    seen = x.grad[0].abs().amax(-1) > 1e-12
    assert seen.tolist() == [False, True, True, True, True, False]  # 4: in the weight that 3 gives to itself


@pytest.mark.parametrize("convolution", ["relate", "attend"])
def test_cogmens_convolutions_hear_those_who_send(convolution):
    net, batch = network_of("cogmen").eval(), batch_of("cogmen")
    edges = window_edges(batch["mask"], past=2, future=0)[:1, :5, :5]
    kind = (relations(batch["speaker"], parties=PARTIES)[:1, :5, :5],) if convolution == "relate" else ()
    x = torch.randn(1, 5, COGMEN["dim"], dtype=torch.double, requires_grad=True)
    for j, received in enumerate(getattr(net, convolution)(x, edges, *kind)[0]):
        (heard,) = torch.autograd.grad(received.sum(), x, retain_graph=True)
        assert torch.equal(heard[0].abs().amax(-1) > 1e-12, edges[0, :, j])


def test_impossible_networks_are_refused():
    with pytest.raises(DeclarationError, match="choose TA, TV or TAV"):
        network_of("iccn", ("audio", "visual"))
    with pytest.raises(DeclarationError, match="choose lstm, gru, dialoguernn or none"):
        registry.build(
            "model", {"name": "dialoguegcn"} | GCN | {"base": "rnn"}, dims=WIDTHS, classes=CLASSES, speakers=PARTIES
        )
    with pytest.raises(DeclarationError, match="4 heads do not divide .* 15: set context_heads = 0"):
        registry.build(
            "model", {"name": "cogmen"} | COGMEN | {"context_heads": 4}, dims=WIDTHS, classes=CLASSES, speakers=PARTIES
        )
    longer = {name: x[:, [*range(6), 5, 5, 5]] for name, x in batch_of("cogmen").items()}
    with pytest.raises(ValueError, match="set positions = 9"):
        network_of("dialoguegcn")(longer)
    batch = batch_of("mfn")
    with pytest.raises(ValueError, match="aligned to the words, or one vector an utterance"):
        network_of("mfn")(batch | {"audio_mask": batch["audio_mask"].roll(1, dims=0)})


# Floors and losses


def test_pooling_is_numpys_mean_and_deviation_and_passes_finite_gradients():
    batch = batch_of("pooled_mlp")
    x, mask = batch["audio"].requires_grad_(), batch["audio_mask"]
    found = pool(x, mask)
    for row, steps, real in zip(found.detach(), x.detach().numpy(), mask.numpy(), strict=True):
        assert_close(row.numpy(), np.concatenate([steps[real].mean(0), steps[real].std(0)]), **EXACT)
    found.sum().backward()
    assert x.grad.isfinite().all()


def test_ridge_finds_a_line():
    x = np.random.default_rng(0).normal(size=(50, 3))
    estimator = registry.build("model", {"name": "ridge", "alpha": 1e-9}, seed=0).fit(x, x @ [1.0, 2.0, -1.0])
    assert_close(estimator.coef_, np.array([1.0, 2.0, -1.0]), rtol=1e-6, atol=1e-6)


def test_the_discrepancy_is_the_integral_over_the_normal_distribution():
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    y = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    w = np.outer(weight, weight).ravel() / weight.sum() ** 2
    x = np.random.default_rng(0).normal(size=(6, 2)) * 2 + 1

    def kernel(a, b):
        return np.exp(-((a[:, None] - b) ** 2).mean(-1) / 2)  # the released code's, in two dimensions

    expected = kernel(x, x).mean() - 2 * (kernel(x, y) @ w).mean() + w @ kernel(y, y) @ w
    assert_close(mmd_to_normal(torch.from_numpy(x)).item(), expected, **EXACT)


def test_correlation_is_that_of_the_roots_of_the_covariances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x @ rng.normal(size=(3, 3)) + rng.normal(size=(40, 3))
    covariance = np.cov(x.T, y.T)
    roots = [inv(sqrtm(covariance[part, part] + 0.1 * np.eye(3))) for part in (slice(0, 3), slice(3, 6))]
    expected = np.linalg.svd(roots[0] @ covariance[:3, 3:] @ roots[1], compute_uv=False).mean()
    views = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y).requires_grad_()
    assert_close(mean_correlation(*views, ridge=0.1).item(), expected, **EXACT)
    assert torch.autograd.gradcheck(lambda a, b: mean_correlation(a, b, ridge=0.1), views)
    assert_close(
        mean_correlation(views[0], views[0] @ torch.randn(3, 3).double(), ridge=1e-9).item(), 1.0, rtol=0, atol=1e-6
    )


LOSSES = {
    "mfm": {"reconstruction_text": 5.0, "reconstruction_audio": 2.0, "reconstruction_visual": 3.0, "mmd": 10.0},
    "iccn": {"correlation": 0.5, "ridge": 0.01},
}
TARGET = {"label": torch.tensor([0, 3, 6, 4]), "score": torch.tensor([-3.0, -0.2, 3.0, 0.6]).double()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("names", [("text", "audio"), tuple(WIDTHS)], ids="+".join)
def test_a_loss_adds_its_weighted_parts_and_reaches_the_whole_network(name, names):
    recipe = {"name": name, "class_weights": "none", "binary": "nonnegative"} | LOSSES[name]
    loss = registry.build("loss", recipe, class_counts=[1.0] * 7, sentiment=True, dim=None)
    net, batch = network_of(name, names, sentiment=True).eval(), batch_of(name, names)
    outputs = net(batch)
    parts = loss(outputs, TARGET)
    rest = torch.tensor([0, 0, 1, 1])
    expected = F.cross_entropy(outputs["logits"], TARGET["label"]) + F.cross_entropy(outputs["logits_binary"], rest)
    if name == "mfm":
        for m in names:
            expected = expected + LOSSES["mfm"][f"reconstruction_{m}"] * outputs[f"reconstruction_{m}"].mean()
        expected = expected + 10 * sum(mmd_to_normal(outputs[f"code_{m}"]) for m in ("label", *names))
    elif len(names) == 3:
        expected = expected - 0.5 * mean_correlation(outputs["view_audio"], outputs["view_visual"], ridge=0.01)
    assert_close(parts["loss"], expected, **EXACT)
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-12 for p in net.parameters())


def test_mfm_rebuilds_what_it_sees():
    batch = batch_of("mfm")
    net = network_of("mfm").eval()
    error = net(batch)["reconstruction_audio"]
    with torch.no_grad():
        for p in net.decode["audio"].out.parameters():
            p.zero_()  # zeros are rebuilt, so the error is the mean square of the steps
    squares = [x[real].square().mean() for x, real in zip(batch["audio"], batch["audio_mask"], strict=True)]
    assert_close(net(batch)["reconstruction_audio"], torch.stack(squares), **EXACT)
    assert (error - torch.stack(squares)).abs().min() > 1e-6
