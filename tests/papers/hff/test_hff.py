"""HFF: its equations written out for one utterance at a time, and what masks, rows and readings promise."""

import math
from typing import Any

import pytest
import torch
from building import alone, changed, network_of, recipe_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from merlib import declarations
from merlib.papers.hff.levels_two_and_three import Attention, EncoderLayer, Global, PaperGru, PerQuery

DIMS = {"text": 12, "audio": 5, "visual": 7}
LENGTHS = [6, 1, 4]  # utterances of the three dialogues of a batch
EXACT = {"rtol": 1e-9, "atol": 1e-9}
NONE = {"name": "none"}  # a part of the network that is left out
MODALITIES = pytest.mark.parametrize("names", [("audio",), ("text", "visual"), tuple(DIMS)], ids="+".join)

PAPER = declarations.load("hff")
SMALL = {
    "model.dim": 16, "model.alignment.text_dim": 6, "model.alignment.uncertainty.samples": 3,
    "model.attention.encoder.ff_ratio": 2, "model.classifier.hidden": 8,
}  # fmt: skip
RECIPE = recipe_of("hff/table4/full", change=SMALL | {"model.attention.heads": 4, "model.attention.encoder.layers": 2})[
    "model"
]
LAST_CORPUS = {"table4": "iemocap6", "table5": "mosei", "readings": "mosei"}
ROWS = {f"hff/{table}/{row.id}": corpus for table, corpus in LAST_CORPUS.items() for row in PAPER.table(table).row}
EVERY_ROW = pytest.mark.parametrize("address", ROWS)


def declared(address: str) -> dict[str, Any]:
    """The section `model` of a declared row, made small."""
    return recipe_of(address, ROWS[address], change=SMALL)["model"]


def network(
    names=tuple(DIMS), *, recipe: dict[str, Any] = RECIPE, sentiment: bool = False, **leaves: dict[str, Any]
) -> nn.Module:
    """A small network, with some leaves of its recipe changed: network(temporal={"cell": "paper"})."""
    task = {"classes": 7 if sentiment else 5, "sentiment": sentiment}
    return network_of(changed(recipe, leaves), dims={name: DIMS[name] for name in names}, **task)


def dialogues(names=tuple(DIMS), *, width: int = 1 + max(LENGTHS)) -> dict[str, Tensor]:
    """Three dialogues in float64, padded beyond the longest; the padding holds noise that must not be seen."""
    draw = torch.Generator().manual_seed(1)
    mask = torch.arange(width) < torch.tensor(LENGTHS).unsqueeze(1)
    x = {m: torch.randn(*mask.shape, DIMS[m], generator=draw, dtype=torch.double) for m in DIMS}
    return {name: x[name] for name in names} | {"mask": mask}


# --- the equations, written out ------------------------------------------------------------------------------------


def linear(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    y = state[f"{key}.weight"] @ x
    return y + state[f"{key}.bias"] if f"{key}.bias" in state else y


def naive_level_one(s: dict[str, Tensor], x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """f0 and f1 of one utterance, outside training (eqs. 16-20)."""
    f = {m: linear(s, f"align.project.{m}", x[m]) for m in ("audio", "visual")}
    f["text"] = linear(s, "align.project.text.1", linear(s, "align.project.text.0", x["text"]))
    f = [f[m] for m in DIMS]
    score = (s["align.weigh.score.weight"] @ torch.cat(f)).exp()
    f0 = sum(score[m] / score.sum() * f[m] for m in range(3))
    mu, w = [], []
    for m in range(3):
        mu.append(linear(s, f"align.uncertain.mean.of.{m}", f[m]))
        w.append(1 / (linear(s, f"align.uncertain.log_variance.of.{m}", f[m]).exp() + 1e-6))
    return f0, sum(w[m] * mu[m] for m in range(3)) / sum(w)


def naive_attention(s: dict[str, Tensor], key: str, x: list[Tensor], heads: int) -> list[Tensor]:
    """Eqs. (21)-(22) for each step and head."""
    q, k, v = zip(*(linear(s, f"{key}.query_key_value", step).chunk(3) for step in x), strict=True)
    width, out = len(q[0]) // heads, []
    for t in range(len(x)):
        attended = []
        for h in range(heads):
            head = slice(h * width, (h + 1) * width)
            weight = torch.stack([(q[t][head] @ other[head] / math.sqrt(width)).exp() for other in k])
            attended.append(sum(weight[i] * v[i][head] for i in range(len(x))) / weight.sum())
        out.append(linear(s, f"{key}.out", torch.cat(attended)))
    return out


def naive_encoder(s: dict[str, Tensor], key: str, x: list[Tensor], *, layers: int, heads: int) -> list[Tensor]:
    for i in range(layers):
        layer = f"{key}.layers.{i}"
        norm = [(s[f"{layer}.norms.{k}.weight"], s[f"{layer}.norms.{k}.bias"]) for k in range(2)]
        attended = naive_attention(s, f"{layer}.attend", x, heads)
        x = [F.layer_norm(a + b, a.shape, *norm[0]) for a, b in zip(x, attended, strict=True)]
        ff = [linear(s, f"{layer}.feed_forward.3", linear(s, f"{layer}.feed_forward.0", step).relu()) for step in x]
        x = [F.layer_norm(a + b, a.shape, *norm[1]) for a, b in zip(x, ff, strict=True)]
    return x


def naive_gru(s: dict[str, Tensor], key: str, x: list[Tensor]) -> list[Tensor]:
    """Eqs. (24)-(27) as they are printed, with W_z, W_r and W_h acting on [h, x]."""
    (xz, xr, xh), (hz, hr) = s[f"{key}.read.weight"].chunk(3), s[f"{key}.gate.weight"].chunk(2)
    w_z, w_r, w_h = (torch.cat(pair, 1) for pair in ((hz, xz), (hr, xr), (s[f"{key}.recall.weight"], xh)))
    h, states = torch.zeros_like(x[0]), []
    for step in x:
        z = torch.sigmoid(w_z @ torch.cat([h, step]))
        r = torch.sigmoid(w_r @ torch.cat([h, step]))
        candidate = torch.tanh(w_h @ torch.cat([r * h, step]))
        h = (1 - z) * h + z * candidate
        states.append(h)
    return states


def naive_pool(h: list[Tensor]) -> list[Tensor]:
    """Eq. (28) for each step."""
    pooled = []
    for query in h:
        beta = torch.stack([(query @ other).exp() for other in h])
        pooled.append(sum(b * other for b, other in zip(beta / beta.sum(), h, strict=True)))
    return pooled


@torch.no_grad()
@pytest.mark.parametrize("heads", [4, 6])
def test_the_network_is_the_equations_one_utterance_at_a_time(heads):
    model, batch = network(temporal={"cell": "paper"}, attention={"heads": heads}), dialogues()
    s, out = model.state_dict(), model(batch)
    for b, length in enumerate(LENGTHS):
        both = [naive_level_one(s, {m: batch[m][b, t] for m in DIMS}) for t in range(length)]
        attended = naive_encoder(s, "interact.attend", [f0 for f0, _ in both], layers=2, heads=heads)
        f2 = [a + f1 for a, (_, f1) in zip(attended, both, strict=True)]  # eq. 23
        final = naive_pool(naive_gru(s, "temporal", f2))
        for t in range(length):
            assert_close(out["embedding"][b, t], final[t], **EXACT)
            z = linear(s, "classify.logits.3", linear(s, "classify.logits.0", final[t]).relu()).relu()  # eq. 29
            assert_close(out["logits"][b, t], linear(s, "classify.logits.6", z), **EXACT)


@torch.no_grad()
def test_modalities_are_a_sequence_of_their_own():
    """The weighted modalities of one utterance attend to one another, f1 is added to each, the last state is read."""
    encoder = {"name": "single", "layers": 1}
    model = network(sequence="modality", attention={"encoder": encoder}, temporal={"cell": "paper"})
    batch = dialogues()
    s, out = model.state_dict(), model(batch)
    align = model.align(batch)
    for b, t in ((0, 0), (0, 5), (2, 3)):
        x = list(align["tokens"][b, t].unbind(0))
        f2 = [a + align["aligned"][b, t] for a in naive_attention(s, "interact.attend", x, 4)]
        assert_close(out["embedding"][b, t], naive_pool(naive_gru(s, "temporal", f2))[-1], **EXACT)


@pytest.mark.parametrize("heads", [4, 8])
@pytest.mark.parametrize("split", ["floor", "pad"])
def test_heads_that_divide_the_width_are_pytorchs_attention_and_encoder(heads, split):
    theirs = nn.TransformerEncoderLayer(16, heads, 32, 0.0, batch_first=True).double()
    ours = EncoderLayer(dim=16, heads=heads, head_split=split, ff=32, dropout=0.0).double()
    names = {"attend.query_key_value": "self_attn.in_proj_", "attend.out": "self_attn.out_proj.", "norms.0": "norm1."}
    names |= {"norms.1": "norm2.", "feed_forward.0": "linear1.", "feed_forward.3": "linear2."}
    state = theirs.state_dict()
    ours.load_state_dict({f"{a}.{kind}": state[b + kind] for a, b in names.items() for kind in ("weight", "bias")})
    x, mask = torch.randn(3, 7, 16).double(), dialogues()["mask"]
    assert_close(ours(x, mask)[mask], theirs(x, src_key_padding_mask=~mask)[mask], **EXACT)
    attended = theirs.self_attn(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
    assert_close(ours.attend(x, mask)[mask], attended[mask], **EXACT)


@pytest.mark.parametrize(
    ("split", "widths"), [("floor", (32, 21, 16, 12)), ("fixed", (16, 16, 16, 16)), ("pad", (32, 22, 16, 13))]
)
def test_any_number_of_heads_has_the_width_of_its_reading(split, widths):
    for heads, width in zip((4, 6, 8, 10), widths, strict=True):
        attention = Attention(dim=128, heads=heads, head_split=split, dropout=0.0)
        assert attention.out.in_features == heads * width
        assert attention(torch.randn(1, 3, 128), torch.ones(1, 3, dtype=torch.bool)).shape == (1, 3, 128)


def test_padding_the_width_is_attention_on_vectors_with_zeros_appended():
    """6 heads on 16 values: "pad" is PyTorch's attention 18 wide, on inputs with two zeros, cut back to 16."""
    ours = Attention(dim=16, heads=6, head_split="pad", dropout=0.0).double()
    theirs = nn.MultiheadAttention(18, 6, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight[:, :16], theirs.in_proj_bias[:] = ours.query_key_value.weight, ours.query_key_value.bias
        theirs.out_proj.weight[:16], theirs.out_proj.bias[:16] = ours.out.weight, ours.out.bias
    x = torch.randn(2, 5, 16).double()
    wide = F.pad(x, (0, 2))
    attended = ours(x, torch.ones(2, 5, dtype=torch.bool))
    assert_close(attended, theirs(wide, wide, wide, need_weights=False)[0][..., :16], **EXACT)


def test_the_papers_gru_is_its_equations_and_not_pytorchs():
    gru, x = PaperGru(dim=4).double(), torch.randn(2, 9, 4).double()
    mask = torch.ones(2, 9, dtype=torch.bool)
    for line, states in zip(x, gru(x, mask), strict=True):
        naive = naive_gru({f"gru.{k}": v for k, v in gru.state_dict().items()}, "gru", list(line))
        assert_close(states, torch.stack(naive), **EXACT)
    theirs = nn.GRU(4, 4, bias=False, batch_first=True).double()
    (xz, xr, xh), (hz, hr) = gru.read.weight.chunk(3), gru.gate.weight.chunk(2)
    with torch.no_grad():
        theirs.weight_ih_l0[:] = torch.cat([xr, -xz, xh])  # PyTorch's z keeps the old state
        theirs.weight_hh_l0[:] = torch.cat([hr, -hz, gru.recall.weight])
    assert_close(gru(x, mask)[:, 0], theirs(x)[0][:, 0], **EXACT)  # no state to reset yet
    assert (gru(x, mask) - theirs(x)[0])[:, 1:].abs().max() > 1e-4


def test_the_readings_of_the_sum_over_steps():
    h, mask = torch.randn(2, 5, 4).double(), torch.arange(5) < torch.tensor([[5], [2]])
    pool = Global(dim=4).double()
    pooled = pool(h, mask)
    for b, length in enumerate((5, 2)):
        beta = (h[b, :length] @ pool.score.weight[0]).softmax(0)
        assert_close(pooled[b], (beta @ h[b, :length]).expand(5, 4), **EXACT)
    each = PerQuery()(h, mask)
    for b, length in enumerate((5, 2)):
        assert_close(each[b, :length], torch.stack(naive_pool(list(h[b, :length]))), **EXACT)


# --- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uncertainty", ["precision", "scalar", "mc_dropout", "bayes_by_backprop", "none"])
def test_noise_is_for_training_only(uncertainty):
    model, batch = network(alignment={"uncertainty": {"name": uncertainty}}), dialogues()
    assert torch.equal(model(batch)["logits"], model(batch)["logits"])
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    noisy = not torch.equal(*(model.train()(batch)["logits"][batch["mask"]] for _ in range(2)))
    assert noisy or uncertainty == "none"
    assert ("variance" in model(batch)) == (uncertainty != "none")
    assert ("kl" in model(batch)) == (uncertainty == "bayes_by_backprop")


@MODALITIES
@EVERY_ROW
def test_padding_and_batch_mates_are_invisible(names, address):
    model, batch = network(names, recipe=declared(address), sentiment=ROWS[address] == "mosei"), dialogues(names)
    together = model(batch)
    assert all(value.isfinite().all() for value in together.values())
    assert all(value.shape[:2] == batch["mask"].shape for value in together.values())
    for index, length in enumerate(LENGTHS):
        for key, value in model(alone(batch, index)).items():
            assert_close(together[key][index, :length], value[0], **EXACT)


@MODALITIES
@EVERY_ROW
def test_every_parameter_receives_gradient(names, address):
    """In training, through the loss, and also where a part has little to do because there is one modality."""
    model, batch = network(names, recipe=declared(address), sentiment=ROWS[address] == "mosei"), dialogues(names)
    for seed in range(3):  # a rectifier or a dropout may shut one unit in one draw
        torch.manual_seed(seed)
        out = model.train()(batch)
        real = {key: value[batch["mask"]] for key, value in out.items() if key != "variance"}
        sum((value * torch.randn(value.shape).double()).sum() for value in real.values()).backward()
    missing = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9}
    one_step = "sequence_modality" in address and len(names) == 1  # no state before it
    assert missing == ({"temporal.rnn.weight_hh_l0"} if one_step else set())
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("address", "gone"),
    [
        ("hff/table4/wo_attention", {"interact"}),
        ("hff/table4/wo_weighting", {"align.weigh", "align.uncertain"}),
        ("hff/table4/wo_weighting_alpha", {"align.weigh"}),
        ("hff/table4/wo_temporal", {"temporal"}),
        ("hff/table4/wo_alignment", {"align.uncertain"}),
        ("hff/table4/wo_alignment_level1", {"align.weigh", "align.uncertain"}),
    ],
)
def test_a_row_takes_out_what_it_names_and_that_part_mattered(address, gone):
    full, ablated = network(recipe=declared("hff/table4/full")), network(recipe=declared(address))
    parts = {name: sum(p.numel() for p in full.get_submodule(name).parameters()) for name in (*gone, "classify")}
    assert all(parts.values())
    left = {name for name, _ in ablated.named_parameters()}
    assert not [name for name in left for part in gone if name.startswith(part + ".")]
    batch = dialogues()
    for part in gone:
        model = network(recipe=declared("hff/table4/full"))
        before = model(batch)["logits"]
        for p in model.get_submodule(part).parameters():
            nn.init.normal_(p)
        assert not torch.allclose(before, model(batch)["logits"], rtol=0, atol=1e-6), part


@pytest.mark.parametrize("address", ["hff/table4/full", "hff/table4/wo_weighting_alpha"])
def test_what_figures_show_is_returned(address):
    model = network(recipe=declared(address))
    assert model.SHOWN == ("weights", "variance") and set(model.SHOWN) <= model(dialogues()).keys()


def test_attention_taken_out_leaves_both_vectors_of_level_one():
    model, batch = network(attention=NONE, temporal=NONE, pooling={"name": "state"}), dialogues()
    align = model.align(batch)
    assert_close(model(batch)["embedding"], align["tokens"].sum(-2) + align["aligned"], **EXACT)


def test_without_uncertainty_or_level_one_both_vectors_are_one():
    batch = dialogues()
    for alignment in {"uncertainty": NONE}, {"name": "concat"}:
        align = network(alignment=alignment).align(batch)
        assert_close(align["aligned"], align["tokens"].sum(-2), **EXACT)
    together = torch.cat([batch[name] for name in DIMS], dim=-1)
    assert_close(align["aligned"], network(alignment={"name": "concat"}).align.project(together), **EXACT)


def test_alignment_taken_out_leaves_the_attention_alone():
    model, batch = network(alignment=NONE, temporal=NONE, pooling={"name": "state"}), dialogues()
    f0 = model.align(batch)["tokens"].sum(-2)
    assert_close(model(batch)["embedding"], model.interact.attend(f0, batch["mask"]), **EXACT)


def test_weights_are_shares_and_equal_where_they_are_taken_out():
    batch = dialogues()
    alpha = network()(batch)["weights"]
    assert_close(alpha.sum(-1), torch.ones_like(alpha[..., 0]))
    assert alpha.std(-1).min() > 0
    assert (network(alignment={"weighting": {"name": "uniform"}})(batch)["weights"] == 1 / 3).all()
    assert (network(("audio",))(dialogues(("audio",)))["weights"] == 1).all()


@pytest.mark.parametrize("reading", ["reduced", "concat", "single"])
def test_text_is_read_as_the_reading_says(reading):
    """An array of twice text_dim holds both vectors of eq. (12); of any other width it enters as it is."""
    model, batch = network(alignment={"text_vector": reading}), dialogues()
    other = batch | {"text": torch.cat([batch["text"][..., :6], -batch["text"][..., 6:]], -1)}
    assert torch.equal(model(batch)["logits"], model(other)["logits"]) == (reading == "single")
    project = network(alignment={"text_vector": reading, "text_dim": 5}).align.project["text"]
    assert isinstance(project, nn.Linear) and project.in_features == 12


def test_context_is_the_dialogue_or_nothing():
    batch = dialogues()
    other = batch | {"audio": batch["audio"].clone()}
    other["audio"][0, 5] += 1.0
    for change, seen in ({}, True), ({"sequence": "modality"}, False):
        model = network(**change)
        moved = (model(batch)["logits"] - model(other)["logits"]).abs().amax(-1)
        assert moved[0, 5] > 1e-6 and not moved[1:].any()
        assert bool(moved[0, :5].any()) == seen
    causal = network(attention=NONE, pooling={"name": "state"})  # the GRU runs forward
    moved = (causal(batch)["logits"] - causal(other)["logits"]).abs().amax(-1)
    assert not moved[0, :5].any() and moved[0, 5] > 1e-6


@pytest.mark.parametrize(
    ("change", "shapes"),
    [
        ({}, {"logits": 7, "logits_binary": 2}),
        ({"classifier": {"mosei_output": "regression"}}, {"logits": 1}),
    ],
)
def test_sentiment_has_two_heads_or_a_score(change, shapes):
    out = network(sentiment=True, **change)(dialogues())
    assert {key: value.shape[-1] for key, value in out.items() if key.startswith("logits")} == shapes
    assert {key for key in network(**change)(dialogues()) if key.startswith("logits")} == {"logits"}


@pytest.mark.parametrize("key", [
    "alignment.text_vector", "alignment.weighting.name", "alignment.uncertainty.name", "alignment.name", "sequence",
    "attention.name", "attention.encoder.name", "attention.head_split", "temporal.name", "temporal.cell",
    "pooling.name", "classifier.mosei_output",
])  # fmt: skip
def test_an_unknown_option_is_refused_with_the_options(key):
    with pytest.raises(ValueError, match=f"'neither' is no (option of )?model.{key}; there are: [a-z]"):
        network(sentiment=True, **{key: "neither"})


def test_impossible_networks_are_refused():
    with pytest.raises(ValueError, match="no sequence of modalities"):
        network(sequence="modality", alignment={"name": "concat"})
    with pytest.raises(ValueError, match="mc_dropout takes a dropout"):
        network(alignment={"uncertainty": {"name": "mc_dropout"}}, dropout=0.0)
    with pytest.raises(ValueError, match="fewer heads"):
        network(attention={"heads": 20})


def test_two_runs_are_the_same_to_the_last_bit():
    first, second = (network().train() for _ in range(2))
    losses = []
    for model in (first, second):
        torch.manual_seed(7)
        losses.append(model(dialogues())["logits"].square().sum())
        losses[-1].backward()
    assert losses[0].equal(losses[1])
    assert all(a.grad.equal(b.grad) for a, b in zip(first.parameters(), second.parameters(), strict=True))
