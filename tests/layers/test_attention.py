"""MultiAttn and the head: against numbers of the released MultiEMO code, and against what a mask promises."""

import pytest
import torch
from oracles import load, meta, multiattn_state
from torch import Tensor
from torch.testing import assert_close

from merlib.layers.attention import CrossAttention, MultiAttn, Rows
from merlib.layers.basics import Head

MODALITIES = ("text", "audio", "visual")
SMALL = {"dim": 8, "heads": 2, "ff": 12, "layers": 2, "dropout": 0.0}
SUBSETS = pytest.mark.parametrize("names", [("audio",), ("text", "visual"), MODALITIES], ids="+".join)
EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    return load("multiemo_multiattn")


@pytest.fixture
def released(original: dict[str, Tensor]) -> MultiAttn:
    """MultiAttn with the oracle's weights: without a mask, as the released code."""
    cfg = meta("multiemo_multiattn")["cfg"]
    sizes = {"dim": cfg["model_dim"], "heads": cfg["num_heads"], "ff": cfg["hidden_dim"], "layers": cfg["num_layers"]}
    net = MultiAttn(modalities=MODALITIES, **sizes, dropout=cfg["dropout"], mask_padding=False).double().eval()
    net.load_state_dict(multiattn_state(original, "w/"))
    return net


def test_multiattn_gives_the_released_values_and_gradients(original, released):
    x = {name: original[f"in/{name}"].requires_grad_() for name in MODALITIES}
    out = released(x, torch.ones(x["text"].shape[:2], dtype=torch.bool))
    for name in MODALITIES:
        assert_close(out[name], original[f"out64/{name}"], **EXACT)
    loss = sum((out[name] * original[f"r/{i}"]).sum() for i, name in enumerate(MODALITIES))
    assert_close(loss, original["loss"], **SINGLE)
    loss.backward()
    for name in MODALITIES:
        assert_close(x[name].grad, original[f"grad_in/{name}"], rtol=1e-4, atol=1e-4)
    first_head = original["grad_w/multiattn_text.multiattn_layers.0.attn_1.attention_heads.0.query_matrix.weight"]
    gradient = released.stacks["text"][0].attend[0].query.weight.grad[: len(first_head)]
    assert_close(gradient, first_head, rtol=1e-4, atol=1e-4)


def test_each_stage_gives_the_released_values(original, released):
    stages = []
    layer = released.stacks["text"][0]
    for norm in (*layer.norms, layer.last_norm):
        norm.register_forward_hook(lambda _module, _inputs, out: stages.append(out))
    rows = Rows(torch.ones(original["in/text"].shape[:2], dtype=torch.bool))
    x, audio, visual = (rows.pack(original[f"in/{name}"]).unsqueeze(0) for name in MODALITIES)
    layer(x, [audio, visual], rows, [None] * 3)
    for stage, value in enumerate(stages, start=1):
        assert_close(rows.unpack(value[0]), original[f"mid/text_layer0_stage{stage}"], **SINGLE)
    attend = layer.attend[0]
    with torch.no_grad():
        attend.out.weight.copy_(torch.eye(x.shape[-1]))
        attend.out.bias.zero_()
    head = original["mid/text_layer0_head0_attn1"]
    assert_close(rows.unpack(attend(x, audio, rows)[0])[..., : head.shape[-1]], head, **SINGLE)


def build(names, **change) -> MultiAttn:
    torch.manual_seed(0)
    return MultiAttn(modalities=names, **(SMALL | {"mask_padding": True} | change)).double().eval()


def inputs(names, lengths=(5, 2, 3)) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {name: torch.randn(*mask.shape, SMALL["dim"], dtype=torch.double) for name in names}, mask


@SUBSETS
def test_padding_is_invisible(names):
    net, (x, mask) = build(names), inputs(names)
    together = net(x, mask)
    for i, length in enumerate(mask.sum(1).tolist()):
        alone = net({name: v[i : i + 1, :length] for name, v in x.items()}, mask[i : i + 1, :length])
        for name in names:
            assert_close(alone[name][0], together[name][i, :length], **EXACT)
            assert together[name].isfinite().all()


def test_unmasked_padding_is_attended_as_published():
    net, (x, mask) = build(MODALITIES, mask_padding=False), inputs(MODALITIES)
    together = net(x, mask)["text"][1, :2]
    alone = net({name: v[1:2, :2] for name, v in x.items()}, mask[1:2, :2])["text"][0]
    assert (together - alone).abs().max() > 1e-3


@SUBSETS
def test_every_parameter_and_input_receives_gradient(names):
    net, (x, mask) = build(names), inputs(names)
    x = {name: v.requires_grad_() for name, v in x.items()}
    sum((v[mask] ** 3).sum() for v in net(x, mask).values()).backward()
    for name, tensor in [*net.named_parameters(), *x.items()]:
        if not name.endswith("key_value.bias"):
            assert tensor.grad.abs().max() > 1e-9, name
        else:  # a constant in all keys shifts every score alike: only the values' half can have a gradient
            assert tensor.grad[SMALL["dim"] :].abs().max() > 1e-9, name


@SUBSETS
def test_keys_and_values_are_the_unfused_inputs_at_every_layer(names):
    net, (x, mask) = build(names), inputs(names)
    rows = Rows(mask)
    packed = {name: rows.pack(v).unsqueeze(0) for name, v in x.items()}
    for query, fused in net(x, mask).items():
        expected = packed[query]
        for layer in net.stacks[query]:
            sources = [packed[o] for o in MODALITIES if o in names and o != query]
            expected = layer(expected, sources, rows, [None] * len(names))
        assert_close(fused[mask], expected[0], **EXACT)


def test_dialogues_attend_alike_alone_and_padded():
    """A CPU computes dialogue by dialogue, a GPU in one padded call."""
    (x, mask), rows = inputs(("text",)), Rows(torch.arange(5) < torch.tensor([5, 2, 3])[:, None])
    q, k, v = (rows.pack(x["text"]).unflatten(-1, (1, 2, 4)).transpose(0, 1) * scale for scale in (1, 2, 3))
    alone = rows.attention(q, k, v)
    rows.padded = True
    assert_close(rows.attention(q, k, v), alone, **EXACT)
    assert_close(rows.unpack(rows.pack(x["text"])), x["text"] * mask[..., None])


def test_dropout_sites_follow_the_released_code():
    """One dropout after each attention; two on the feed-forward output, so it survives with probability (1 - p)^2."""
    net = build(("text",), dropout=0.5, layers=1).train()
    net.stacks["text"][0].last_norm = torch.nn.Identity()
    x = torch.zeros(1, 4000, SMALL["dim"], dtype=torch.double)
    out = net({"text": x}, torch.ones(1, 4000, dtype=torch.bool))["text"]
    assert 0.23 < (out != 0).double().mean() < 0.27


def test_head_returns_scores_and_the_embedding_they_come_from():
    torch.manual_seed(0)
    head = Head(modalities=3, dim=4, hidden=6, classes=5, dropout=0.0).double()
    fused = torch.randn(2, 7, 3, 4, dtype=torch.double)
    logits, z = head(fused)
    hidden, _, _, out = head.classify
    assert_close(z, torch.cat(fused.unbind(2), dim=-1) @ head.embed.weight.T + head.embed.bias, **EXACT)  # eq. 6-7
    assert_close(logits, out((z @ hidden.weight.T + hidden.bias).clamp(min=0)), **EXACT)  # eq. 8-9


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="10 is not a multiple of 4"):
        CrossAttention(dim=10, heads=4)
