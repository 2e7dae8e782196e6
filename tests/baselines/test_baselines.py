"""DialogueRNN, MultiEMO and the floors: against numbers of the released code, and against what a mask promises."""

import pytest
import torch
from oracles import below, dialoguernn_state, load, meta, multiattn_state
from torch import Tensor
from torch.testing import assert_close

from merlib.baselines.dialoguernn import DialogueRnn, DialogueRnnContext
from merlib.baselines.floors import BiGru, ConcatMlp
from merlib.baselines.multiemo import MultiEmo

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32


def released_dialoguernn(case: int) -> tuple[DialogueRnn, dict[str, Tensor], dict[str, Tensor]]:
    """One variant with the oracle's weights, its batch, and its arrays."""
    arrays, cfg = below(load("dialoguernn"), f"case{case}/"), meta("dialoguernn")["cases"][case]
    net = DialogueRnn(
        dims={"text": cfg["D_m"]}, classes=cfg["n_classes"], speakers=2, global_dim=cfg["D_g"], party_dim=cfg["D_p"],
        emotion_dim=cfg["D_e"], hidden_dim=2 * cfg["D_h"], attention=cfg["context_attention"],
        attention_dim=cfg["D_a"], listener=cfg["listener_state"], emotion_attention=cfg["att2"],
        recurrent_dropout=0.1, dropout=0.1,
    )  # fmt: skip
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
    return net.double().eval(), batch, arrays


@pytest.mark.parametrize("case", range(5))
def test_dialoguernn_gives_the_released_values(case):
    net, batch, arrays = released_dialoguernn(case)
    mask, found = batch["mask"], net(batch)["logits"].log_softmax(-1)
    assert_close(found[mask], arrays["out64/log_prob"].transpose(0, 1)[mask], **EXACT)
    half = net.context.emotion_cell.hidden
    forward = net.context(batch["text"][None], batch["speaker"], mask)[0, ..., :half]
    assert_close(forward[mask], arrays["mid/emotions_f"].transpose(0, 1)[mask], **SINGLE)


@pytest.mark.parametrize(("attention", "listener"), [("simple", False), ("general2", False), ("concat", True)])
def test_gradients_of_the_loop_are_those_of_the_values(attention, listener):
    """Weight gradients leave the loop by a way of their own: compare with finite differences."""
    torch.manual_seed(0)
    widths = {"dim": 3, "global_dim": 2, "party_dim": 4, "emotion_dim": 3, "attention_dim": 2, "parties": 3}
    net = DialogueRnnContext(
        streams=2, directions=2, **widths, attention=attention, listener=listener, dropout=0.0, through_padding=False
    ).double()
    mask = torch.arange(5) < torch.tensor([3, 5, 1])[:, None]
    speaker = torch.randint(3, mask.shape)
    x = torch.randn(2, *mask.shape, 3, dtype=torch.double, requires_grad=True)
    names = [name for name, _ in net.named_parameters()]

    def run(x, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(net, values, (x, speaker, mask))

    assert torch.autograd.gradcheck(run, (x, *net.parameters()), fast_mode=True)


def released_multiemo(*, mask_padding: bool) -> tuple[MultiEmo, dict[str, Tensor], dict[str, Tensor]]:
    """The IEMOCAP network with the oracle's weights, its padded batch, and the oracle's arrays."""
    arrays, cfg = load("multiemo_full_iemocap"), meta("multiemo_full_iemocap")["cfg"]
    weights = below(arrays, "w/")
    net = MultiEmo(
        dims={"text": cfg["roberta_dim"], "audio": cfg["D_m_audio"], "visual": cfg["D_m_visual"]},
        classes=cfg["n_classes"], speakers=cfg["n_speakers"], dim=cfg["model_dim"], context="dialoguernn",
        text_context=True, directions=2, global_dim=cfg["D_g"], party_dim=cfg["D_p"], emotion_dim=cfg["D_e"],
        fusion_layers=cfg["num_layers"], fusion_heads=cfg["num_heads"], fusion_ff=cfg["hidden_dim"],
        head_dim=cfg["model_dim"], mask_padding=mask_padding, recurrent_dropout=0.1, dropout=0.1,
    )  # fmt: skip
    names = ("text", "audio", "visual")
    ways = [f"{name}_dialoguernn.dialog_rnn_{way}." for name in names for way in "fr"]
    state = {f"context.rnn.{k}": v for k, v in dialoguernn_state(weights, ways).items()}
    state |= {f"fusion.{k}": v for k, v in multiattn_state(weights, "multiattn.").items()}
    linear = {"head.embed": "fc", "head.classify.0": "mlp.linear_1", "head.classify.3": "mlp.linear_2"}
    linear |= {f"project.{name}": f"{name}_fc" for name in names}
    linear |= {f"context.out.{name}": f"{name}_dialoguernn.linear" for name in names}
    state |= {f"{a}.{kind}": weights[f"{b}.{kind}"] for a, b in linear.items() for kind in ("weight", "bias")}
    net.load_state_dict(state)
    batch = {name: arrays[f"in/{name}s"].transpose(0, 1) for name in names}
    batch |= {"mask": arrays["in/utterance_masks"].bool(), "speaker": arrays["in/speaker_masks"].argmax(-1).T}
    return net.double().eval(), batch, arrays


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


WIDTHS = {"text": 6, "audio": 5, "visual": 4}
CLASSES, PARTIES, LENGTHS = 5, 3, (5, 1, 3)
RNN = {
    "global_dim": 5, "party_dim": 6, "emotion_dim": 4, "hidden_dim": 7, "attention": "simple", "attention_dim": 3,
    "listener": False, "emotion_attention": True, "recurrent_dropout": 0.1, "dropout": 0.1,
}  # fmt: skip
EMO = {
    "dim": 8, "context": "dialoguernn", "text_context": True, "directions": 2, "global_dim": 5, "party_dim": 6,
    "emotion_dim": 8, "fusion_layers": 2, "fusion_heads": 2, "fusion_ff": 8, "head_dim": 8, "mask_padding": True,
    "recurrent_dropout": 0.1, "dropout": 0.1,
}  # fmt: skip
NETWORKS = {
    "dialoguernn": (DialogueRnn, RNN),
    "dialoguernn, general": (DialogueRnn, RNN | {"attention": "general"}),
    "dialoguernn, concat, listeners": (DialogueRnn, RNN | {"attention": "concat", "listener": True}),
    "dialoguernn, no emotion attention": (DialogueRnn, RNN | {"emotion_attention": False}),
    "multiemo": (MultiEmo, EMO),
    "multiemo, as on meld": (MultiEmo, EMO | {"text_context": False, "directions": 1}),
    "multiemo, no context": (MultiEmo, EMO | {"context": "none"}),
    "concat_mlp": (ConcatMlp, {"hidden": 6, "dropout": 0.1}),
    "bigru": (BiGru, {"hidden": 4, "layers": 2, "dropout": 0.1}),
}
EVERY = pytest.mark.parametrize("network", NETWORKS)
MODALITIES = pytest.mark.parametrize("names", [("text",), ("audio", "visual"), tuple(WIDTHS)], ids="+".join)


def build(network: str, names=tuple(WIDTHS)) -> torch.nn.Module:
    torch.manual_seed(0)
    make, recipe = NETWORKS[network]
    return make(dims={name: WIDTHS[name] for name in names}, classes=CLASSES, speakers=PARTIES, **recipe).double()


def padded(names=tuple(WIDTHS)) -> dict[str, Tensor]:
    """Three dialogues in a batch padded beyond the longest; the padding holds noise that must not be seen."""
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS) + 1) < torch.tensor(LENGTHS)[:, None]
    x = {name: torch.randn(*mask.shape, WIDTHS[name], dtype=torch.double) for name in names}
    return x | {"mask": mask, "speaker": torch.randint(PARTIES, mask.shape) * mask}


@EVERY
@MODALITIES
def test_padding_and_batch_mates_are_invisible(network, names):
    net, batch = build(network, names).eval(), padded(names)
    together = net(batch)
    for i, length in enumerate(LENGTHS):
        alone = net({name: value[i : i + 1, :length] for name, value in batch.items()})
        for name, value in alone.items():
            assert_close(value[0], together[name][i, :length], **EXACT)
    assert all(value.isfinite().all() for value in together.values())
    assert together["logits"].shape == (*batch["mask"].shape, CLASSES)
    assert ("fused" in together) == network.startswith("multiemo")


@EVERY
@MODALITIES
def test_every_parameter_receives_gradient(network, names):
    net, batch = build(network, names).eval(), padded(names)
    (net(batch)["logits"][batch["mask"]] ** 3).sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12]


@pytest.mark.parametrize("network", [name for name in NETWORKS if "rnn" in name or name == "multiemo"])
def test_who_speaks_matters(network):
    net, batch = build(network).eval(), padded()
    other = batch | {"speaker": batch["speaker"].roll(1, dims=1) * batch["mask"]}
    assert (net(batch)["logits"] - net(other)["logits"])[0].abs().max() > 1e-6


def test_one_direction_does_not_see_the_future():
    context = build("multiemo, as on meld").eval().context.rnn
    batch = padded(("audio",))
    x = torch.randn(2, *batch["mask"].shape, 8, dtype=torch.double, requires_grad=True)
    context(x, batch["speaker"], batch["mask"])[:, 0, 2].sum().backward()
    assert x.grad[:, 0, :3].abs().amax(dim=(0, 2)).min() > 1e-12
    assert not x.grad[:, 0, 3:].any()
    assert not x.grad[:, 1:].any()


@EVERY
def test_training_is_repeatable_and_half_precision_stays_close(network):
    net, batch = build(network).float(), padded()
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


def test_impossible_networks_are_refused():
    sizes = {"dims": WIDTHS, "classes": CLASSES, "speakers": PARTIES}
    with pytest.raises(ValueError, match="set it to dim = 8"):
        MultiEmo(**sizes, **(EMO | {"directions": 1, "emotion_dim": 4}))
    with pytest.raises(ValueError, match="choose dialoguernn or none"):
        MultiEmo(**sizes, **(EMO | {"context": "lstm"}))
    with pytest.raises(ValueError, match="choose simple, general, general2 or concat"):
        DialogueRnn(**sizes, **(RNN | {"attention": "dot"}))
