"""The parts of ATTSF-Net: its equations against loops and oracles, and what makes l vectors of a sequence."""

import math

import pytest
import torch
from oracles import below, load, meta
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.layers.ragged import attend
from merlib.papers.attsf_net.cross_attention import Cmb, CmbLayer, PreNormBlock, Sab, SimilarityEnhancement
from merlib.papers.attsf_net.dropout import Dropout
from merlib.papers.attsf_net.encoders import AudioCnn, FrameConv, Interpolate, TimeAxis
from merlib.papers.attsf_net.network import FUSIONS
from merlib.papers.attsf_net.transformer import Attention, SingleAttention, TransformerLayer
from merlib.papers.attsf_net.video import Augment, Faces

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32
LAYER = {"dim": 8, "dropout": 0.1}
TRANSFORMER = {"heads": 2, "activation": "gelu", "residual_dropout": 0.1}


# --- blocks --------------------------------------------------------------------------------------------------------


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double)


def attention_loop(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Eq. (6), number by number. q: k d; k, v: l d."""
    out = torch.zeros(len(q), v.shape[1], dtype=torch.double)
    for i in range(len(q)):
        scores = [
            math.exp(sum(float(a * b) for a, b in zip(q[i], row, strict=True)) / math.sqrt(q.shape[1])) for row in k
        ]
        for j, score in enumerate(scores):
            out[i] += score / sum(scores) * v[j]
    return out


def test_cross_attention_is_equation_6_head_by_head():
    torch.manual_seed(0)
    x, source = draw(2, 3, 8), draw(2, 5, 8)
    for heads in (1, 4):
        attend = Attention(dim=8, heads=heads, output=heads > 1).double()
        for b in range(2):
            q, k, v = attend.query(x[b]).detach(), attend.key(source[b]).detach(), attend.value(source[b])
            loops = [
                attention_loop(*parts) for parts in zip(*(p.split(8 // heads, dim=1) for p in (q, k, v)), strict=True)
            ]
            torch.testing.assert_close(attend(x, source, source)[b], attend.output(torch.cat(loops, dim=1)), **EXACT)


def test_self_attention_is_torchs_multi_head_attention_and_of_one_vector_a_linear_map():
    torch.manual_seed(0)
    mine = Attention(dim=8, heads=2, output=True).double()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in (mine.query, mine.key, mine.value)]))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.load_state_dict(mine.output.state_dict())
    x = draw(3, 5, 8)
    torch.testing.assert_close(mine(x, x, x), theirs(x, x, x)[0], **EXACT)
    single = SingleAttention(dim=8).double()
    single.value, single.output = mine.value, mine.output
    first = (x[:, :1],) * 3
    torch.testing.assert_close(single(*first), mine(*first), **EXACT)


def normed(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("key", ["own", "other"])
def test_a_layer_of_the_cmb_is_equations_7_to_9(key):
    torch.manual_seed(0)
    layer = CmbLayer(ff=6, cross_heads=1, key=key, **LAYER, **TRANSFORMER).double().eval()
    x, source = draw(2, 5, 8), draw(2, 5, 8)
    attended = layer.cross(x, {"own": x, "other": source}[key], source)
    bar = normed(x + attended)  # eq. (7)
    tilde = normed(layer.encode.attend(bar, bar, bar) + bar)  # eq. (8)
    torch.testing.assert_close(layer(x, source), normed(layer.encode.feed_forward(tilde) + tilde), **EXACT)  # eq. (9)


@pytest.mark.parametrize(("tokens", "heads"), [(1, 1), (1, 4), (2, 2)])
def test_few_queries_need_no_key_and_value_of_every_step(tokens, heads):
    torch.manual_seed(0)
    attention = Attention(dim=8, heads=heads, output=True).double()
    query, source = draw(3, tokens, 8), draw(3, 9, 8)
    expected = attend(attention.query(query), attention.key(source), attention.value(source), None, heads)
    torch.testing.assert_close(attention(query, source, source), attention.output(expected), **EXACT)


def test_dropout_keeps_its_share_and_the_mean_and_draws_each_value_anew():
    torch.manual_seed(0)
    x, p = torch.ones(7, 30_001), 0.4
    y = Dropout(p)(x)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-4)
    assert float((y == 0).double().mean()) == pytest.approx(p, abs=0.005)  # four standard deviations
    kept = (y > 0).double().flatten()[:210_000].view(-1, 4)  # the four values of one draw
    assert torch.corrcoef(kept.T).fill_diagonal_(0).abs().max() < 0.02
    assert (Dropout(p)(x) != y).any() and torch.equal(Dropout(p).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x) and not Dropout(1.0)(x).any()


def test_dropout_reaches_the_main_path_as_well():
    torch.manual_seed(0)
    for dropout, residual in ((0.5, 0.0), (0.0, 0.5)):
        layer = TransformerLayer(
            dim=8, heads=2, ff=6, activation="gelu", dropout=dropout, residual_dropout=residual
        ).double()
        add = layer.after_attention
        x, zero = draw(1, 1, 8), torch.zeros(1, 1, 8).double()
        torch.manual_seed(1)
        dropped = Dropout(residual)(x)
        torch.manual_seed(1)
        torch.testing.assert_close(add(x, zero), normed(dropped), **EXACT)
        assert layer.feed_forward[2].p == dropout == add.drop_part.p


def test_static_sources_stay_and_coupled_ones_move():
    torch.manual_seed(0)
    x = {"audio": draw(2, 5, 8), "visual": draw(2, 5, 8)}
    for kv in ("static", "coupled"):
        block = Cmb(
            names=["audio", "visual"], unimodal="self", layers=2, ff=6, kv=kv, key="other", cross_heads=1,
            transformer=TRANSFORMER, **LAYER,
        ).double().eval()  # fmt: skip
        (a1, a2), (v1, v2) = block.stacks["audio"], block.stacks["visual"]
        a, v = a1(x["audio"], x["visual"]), v1(x["visual"], x["audio"])
        sources = (x["audio"], x["visual"]) if kv == "static" else (a, v)
        expected = {"audio": a2(a, sources[1]), "visual": v2(v, sources[0])}
        torch.testing.assert_close(block(x), expected, **EXACT)


def small_sab(*, tokens: str, query: str) -> Sab:
    section = {"layers": 2, "ff": 6, "query": query, "tokens": tokens, "classify": True, "cross_heads": 1}
    return Sab(length=5, transformer=TRANSFORMER, **section, **LAYER).double().eval()


@pytest.mark.parametrize("query", ["nested", "nested_residual", "sum"])
def test_the_sab_is_equations_11_to_13(query):
    torch.manual_seed(0)
    sab = small_sab(tokens="one", query=query)
    a, v = draw(2, 5, 8), draw(2, 4, 8)
    u = sab.token.expand(2, 1, 8)
    for layer in sab.layers:
        visual = layer.visual(u, v, v)
        audio = layer.audio(u if query == "sum" else visual, a, a)
        tilde = normed(audio + {"nested": 0, "nested_residual": u, "sum": visual}[query])  # eq. (11)
        tilde = normed(layer.encode.attend(tilde, tilde, tilde) + tilde)  # eq. (12)
        u = normed(layer.encode.feed_forward(tilde) + tilde)  # eq. (13)
    torch.testing.assert_close(sab({"audio": a, "visual": v})["token"], u[:, 0], **EXACT)


def test_many_tokens_become_one_where_nothing_keeps_them_apart():
    """Two attentions in a row without a residual leave next to nothing of the difference between tokens."""
    torch.manual_seed(0)
    spread = {}
    for query in ("nested", "nested_residual"):
        sab = small_sab(tokens="length", query=query)
        u, v = sab.token.expand(2, -1, -1), draw(2, 5, 8)
        for layer in sab.layers:
            u = layer(u, v, v)
        spread[query] = u.detach().std(1).mean()
    assert spread["nested"] < 1e-3 and spread["nested_residual"] > 0.1


@pytest.mark.parametrize("case", [1, 2])
def test_the_block_of_reference_27_is_chumachenkos(case):
    """Case 0 has three different widths; here all are one."""
    arrays, heads = (
        below(load("chumachenko_attention"), f"case{case}/"),
        meta("chumachenko_attention")["cases"][case]["heads"],
    )
    w = below(arrays, "w/")
    block = PreNormBlock(dim=16, heads=heads, ff=32).double()
    key, value = w["attn.kv.weight"].chunk(2)
    state = {"attend.query.weight": w["attn.q.weight"], "attend.key.weight": key, "attend.value.weight": value}
    names = {"norm_query": "norm1_q", "norm_source": "norm1_k", "norm": "norm2", "attend.output": "attn.proj"}
    names |= {"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    state |= {f"{ours}.{kind}": w[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in ("weight", "bias")}
    block.load_state_dict(state)
    torch.testing.assert_close(block(arrays["in/xq"], arrays["in/xk"]), arrays["out"], **SINGLE)


def test_similarity_enhancement_has_one_block_for_both_directions():
    torch.manual_seed(0)
    block = SimilarityEnhancement(names=["audio", "visual"], unimodal="self", dim=8, cross_heads=2, ff=6)
    block = block.double()
    a, v = draw(2, 5, 8), draw(2, 5, 8)
    enhanced = block.own["audio"](a, a)
    expected = {"audio": block.shared(enhanced, v), "visual": block.shared(v, enhanced)}
    torch.testing.assert_close(block({"audio": a, "visual": v}), expected, **EXACT)


@pytest.mark.parametrize("gate", ["softmax", "sigmoid", "raw"])
def test_fusions_are_equations_19_to_21_and_figure_3(gate):
    torch.manual_seed(0)
    main, auxiliary = draw(3, 8), draw(3, 8)
    sections = {name: {"name": name, "gate": gate} for name in FUSIONS}
    fuse = {name: registry.part(FUSIONS, each, "model.fusion", dim=8).double() for name, each in sections.items()}
    torch.testing.assert_close(fuse["sum"](main, auxiliary), main + auxiliary)
    for i in range(3):
        h, m = (math.sqrt(sum(float(x) ** 2 for x in values[i])) for values in (main, auxiliary))
        expected = h / (h + m) * main[i] + m / (h + m) * auxiliary[i]
        torch.testing.assert_close(fuse["l2"](main, auxiliary)[i], expected, **EXACT)
        scores = fuse["gate"].learn(torch.cat([main[i], auxiliary[i]]))
        w = {"softmax": scores.softmax(0), "sigmoid": scores.sigmoid(), "raw": scores}[gate]
        torch.testing.assert_close(fuse["gate"](main, auxiliary)[i], w[0] * main[i] + w[1] * auxiliary[i], **EXACT)


# --- encoders ------------------------------------------------------------------------------------------------------

CNN = {"kernel": 3, "stride": 1, "padding": 0, "pool": 2, "pool_stride": 1}


def test_the_audio_cnn_shortens_by_twelve_steps():
    for steps in (121, 13):
        cnn = AudioCnn(width=5, steps=steps, channels=[6, 7, 6, 4], **CNN).eval()
        x, mask = cnn(torch.randn(2, steps, 5), torch.ones(2, steps, dtype=torch.bool))
        assert x.shape == (2, steps - 12, 4) and mask.shape == (2, steps - 12) and cnn.steps == steps - 12  # 121 -> 109
    with pytest.raises(ValueError, match='found 12 steps at most: set model.encoder.audio.name to "vectors"'):
        AudioCnn(width=5, steps=12, channels=[6, 7, 6, 4], **CNN)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_a_step_of_the_cnn_is_real_where_it_sees_a_real_step(stride, padding):
    """What a loud step moves is called real in an utterance that ends with that step; the last real step is moved."""
    torch.manual_seed(0)
    cnn = AudioCnn(width=1, steps=120, channels=[4, 4, 4, 4], **CNN | {"stride": stride, "padding": padding})
    cnn = cnn.double().eval()
    silence = torch.zeros(1, 120, 1).double()
    for step in range(0, 60, 7):
        mask = torch.arange(120).unsqueeze(0) <= step
        quiet, real = cnn(silence, mask)
        assert quiet.shape == (1, cnn.steps, 4) and real.shape == (1, cnn.steps)
        moved = torch.zeros(cnn.steps, dtype=torch.bool)
        for value in (-300.0, 300.0):
            moved |= (cnn(silence.index_fill(1, torch.tensor([step]), value), mask)[0] != quiet).any(-1)[0]
        assert not (moved & ~real[0]).any() and real[0].sum() == real[0].nonzero().max() + 1
        assert moved.nonzero().max() == real[0].nonzero().max()


def test_frame_convolution_mixes_all_steps():
    torch.manual_seed(0)
    module, x = FrameConv(width=4, steps=6, dim=3, length=5, temporal="lstm", kernel=1).double(), draw(2, 6, 4)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    h = module.over_time.rnn(x)[0]
    for b, length in enumerate((6, 2)):
        for i in range(5):
            mixed = sum(module.conv.weight[i, t, 0] * h[b, t] for t in range(length)) + module.conv.bias[i]
            torch.testing.assert_close(module(x, mask)[b, i], mixed, **EXACT)


def test_interpolation_is_torchs_on_the_real_steps():
    torch.manual_seed(0)
    module, x = Interpolate(width=4, dim=3, length=5, temporal="lstm", kernel=3).double(), draw(3, 6, 4)
    result = module(x, torch.arange(6) < torch.tensor([[6], [2], [1]]))
    for b, length in enumerate((6, 2, 1)):
        h = module.conv(module.over_time.rnn(x[b : b + 1, :length])[0].transpose(1, 2))
        torch.testing.assert_close(result[b], F.interpolate(h, 5, mode="linear")[0].T, **EXACT)


def test_the_time_axis_reading_maps_each_channel_over_time():
    torch.manual_seed(0)
    module, x = TimeAxis(width=4, steps=6, dim=3, length=5, temporal="linear", kernel=3).double(), draw(2, 6, 4)
    lines = [module.over_channels(x[0, :, c]) for c in range(4)]  # t -> l for each channel
    expected = F.conv1d(torch.stack(lines)[None], module.conv.weight, module.conv.bias, padding=1)[0].T
    torch.testing.assert_close(module(x, torch.ones(2, 6, dtype=torch.bool))[0], expected, **EXACT)


AUGMENT = {"flip_horizontal": True, "flip_vertical": True, "rotate_degrees": 0.0, "center_crop": 1.0}
STILL = AUGMENT | {"flip_horizontal": False, "flip_vertical": False}


def test_flips_are_drawn_once_a_clip_and_only_in_training():
    torch.manual_seed(0)
    frames, clip = torch.rand(24, 3, 32, 32), torch.arange(24) // 2
    frames[1::2] = frames[::2]  # both frames of a clip are equal
    augment = Augment(**AUGMENT)
    augmented = augment(frames, clip, 12)
    flips = {(): 0, (3,): 0, (2,): 0, (2, 3): 0}
    for i in range(0, 24, 2):
        torch.testing.assert_close(augmented[i], augmented[i + 1])
        for axes in flips:
            expected = frames[i].flip([a - 1 for a in axes]) if axes else frames[i]
            flips[axes] += torch.allclose(augmented[i], expected, atol=1e-4)
    assert sum(flips.values()) == 12 and all(flips.values())
    assert augment.eval()(frames, clip, 12) is frames
    assert Augment(**STILL)(frames, clip, 12) is frames


def test_a_centre_crop_enlarges_and_a_turn_keeps_the_centre():
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    clip = torch.zeros(1, dtype=torch.long)
    cropped = Augment(**STILL | {"center_crop": 0.5}).eval()(ramp, clip, 1)
    torch.testing.assert_close(cropped, ramp / 2, rtol=0.0, atol=1e-5)
    torch.manual_seed(0)
    turned = Augment(**STILL | {"rotate_degrees": 90.0})(ramp, clip, 1)
    assert (turned - ramp).abs().max() > 0.3
    torch.testing.assert_close(turned[..., 15:17, 15:17].mean(), torch.tensor(0.0), rtol=0.0, atol=1e-5)


def faces(*, freeze: bool) -> Faces:
    torch.manual_seed(0)
    return Faces(width=3 * 32 * 32, steps=3, weights="none", freeze=freeze, augment=STILL)


def test_frames_pass_through_efficientface_where_they_are_real():
    module = faces(freeze=False).eval()
    x, mask = torch.rand(2, 3, 3 * 32 * 32), torch.tensor([[True, True, True], [True, False, False]])
    vectors, same = module(x, mask)
    assert same is mask and vectors.shape == (2, 3, 1024) and not vectors[1, 1:].any()
    frame = x[1, 0].view(1, 3, 32, 32)
    torch.testing.assert_close(vectors[1, :1], module.network(frame), rtol=1e-4, atol=1e-5)


def test_a_frozen_efficientface_learns_nothing():
    module = faces(freeze=True).train()
    x, mask = torch.rand(2, 3, 3 * 32 * 32), torch.ones(2, 3, dtype=torch.bool)
    before = {k: v.clone() for k, v in module.network.state_dict().items()}
    assert not module(x, mask)[0].requires_grad
    assert all(v.equal(before[k]) for k, v in module.network.state_dict().items())  # not its batch norms either
    assert faces(freeze=False).train()(x, mask)[0].requires_grad
