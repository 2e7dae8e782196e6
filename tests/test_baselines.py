"""DialogueRNN, MultiEMO and the floors: against numbers of the released code, and against what a mask promises."""

import pytest
import torch
from oracles import below, dialoguernn_state, load, meta, multiattn_state
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from merlib.losses import CrossEntropy
from merlib.models.baselines.dialoguernn import DialogueRnn, DialogueRnnContext
from merlib.models.baselines.floors import BiGru, ConcatMlp
from merlib.models.baselines.multiemo import MultiEmo

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


@pytest.mark.parametrize("listener", [False, True], ids=["speaker", "listener"])
@pytest.mark.parametrize("attention", ["simple", "general", "general2", "concat"])
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
