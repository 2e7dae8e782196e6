"""GIA-MIC: the equations against loops over one utterance, the loss against torch; masks, rows and readings."""

from itertools import combinations

import pytest
import torch
from building import alone, changed, network_of
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import declarations, registry
from merlib.layers.ragged import Joined, resampled
from merlib.papers.gia_mic.generators import Generator, Strided
from merlib.papers.gia_mic.interactive_attention import Gate, GatedAttention
from merlib.papers.gia_mic.loss import Invariant, by_position, symmetric_kl
from merlib.papers.gia_mic.network import ConcatPool, GiaMic

PAPER = declarations.load("gia_mic")
WIDTHS = {"text": 24, "audio": 7, "visual": 5}  # text is as wide as the network
LENGTHS = {"text": [4, 1, 3, 2], "audio": [6, 2, 1, 7], "visual": [1, 3, 5, 2]}  # joined: 11, 6, 9, 11
STEPS = {"text": 9, "audio": 8, "visual": 5}  # longest of the corpus
SMALL = {"model.dim": 24, "model.extractors.ff": 8}
NAMES = {"T": "text", "A": "audio", "V": "visual"}
exact = {"rtol": 1e-9, "atol": 1e-10}


def declared() -> dict[str, dict]:
    """The recipes of tables and readings that are networks of this paper, made small; each network and loss once."""
    recipes, seen = {}, []
    for table in ("table1", "table2", "readings"):
        for row in PAPER.table(table).row:
            if row.runs and row.base in (None, "baseline"):  # of an encoder that learns: test_encoders.py
                recipe = declarations.recipe(PAPER, row, "iemocap4", data="twin", change=SMALL)
                parts = [recipe["model"], recipe["loss"], recipe["data"]["modalities"]]
                if parts not in seen:
                    recipes[f"{table}/{row.id}"] = recipe
                    seen.append(parts)
    return recipes


RECIPES = declared()
DEFAULT = RECIPES["table1/gia_mic_asr"]  # its text is another array, its network the default
FULL = {k: r for k, r in RECIPES.items() if r["model"]["name"] == "gia_mic" and r["data"]["modalities"] == "TAV"}
EVERY = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
OURS = pytest.mark.parametrize("recipe", FULL.values(), ids=FULL)


def network(
    recipe: dict = DEFAULT, change: dict | None = None, *, seed: int = 0, modalities: str | None = None
) -> nn.Module:
    """The network of a recipe with other values of some leaves of its section `model`, and of other modalities."""
    names = [NAMES[k] for k in modalities or recipe["data"]["modalities"]]
    dims = {name: WIDTHS[name] for name in names}
    model = network_of(changed(recipe["model"], change or {}), seed=seed, dims=dims, steps=STEPS, classes=4)
    for parameter in model.parameters():  # biases and norms start at 0 and 1: make every one of them count
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def utterances(*, extra: int = 0, noise: float = 0.0, seed: int = 1) -> dict[str, Tensor]:
    """A batch in float64, padded by `extra` steps more than it needs; the padding may hold noise, not to be seen."""
    draw = torch.Generator().manual_seed(seed)
    batch = {"label": torch.tensor([0, 3, -1, 1])}
    for name, lengths in LENGTHS.items():
        rows = [torch.randn(n, WIDTHS[name], generator=draw).double() for n in lengths]
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        x = F.pad(x, (0, 0, 0, extra))
        mask = torch.arange(x.shape[1]) < torch.tensor(lengths)[:, None]
        batch |= {name: x + noise * torch.randn(x.shape).double() * ~mask[..., None]}
        batch[f"{name}_mask"] = mask
    return batch


# --- the equations, one utterance at a time --------------------------------------------------------------------------


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Position by position and head by head. q: t d; k, v: s d."""
    wide = q.shape[1] // heads
    rows = []
    for query in q:
        parts = []
        for h in range(heads):
            at = slice(h * wide, (h + 1) * wide)
            weight = torch.stack([(query[at] * key[at]).sum() / wide**0.5 for key in k]).exp()
            parts.append(sum(w * value[at] for w, value in zip(weight / weight.sum(), v, strict=True)))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def gated(attention: GatedAttention, a: Tensor, b: Tensor, r: dict) -> Tensor:
    """Eqs. (2)-(4) without a batch. a: t d; b: s d; r: the section `model`."""
    w, gate, options = attention.projections, attention.gate, r["specific"]["gate"]
    attended = softmax_attention(a @ w.query.weight.T, b @ w.key.weight.T, b @ w.value.weight.T, r["heads"])
    if options["pool"] == "time":
        x = attended.mean(0, keepdim=True)
    elif options["pool"] == "local3":
        x = torch.stack([attended[max(i - 1, 0) : i + 2].mean(0) for i in range(len(attended))])
    else:
        value = attended.mean(1)
        value = (value - value.mean()) / (value.var(unbiased=False) + 1e-5).sqrt()
        x = value[:, None].expand(-1, attended.shape[1])
    if options["pool"] != "features":
        x = layer_norm(x, gate.norm)
    inside = options["bias"] == "inside"
    g = ((x + gate.bias) @ gate.weight.weight.T if inside else x @ gate.weight.weight.T + gate.bias).sigmoid()
    return g * attended + (1 - g) * a


def generated(generator: Generator, joint: Tensor, x: Tensor, r: dict) -> Tensor:
    """Eqs. (9)-(11) without a batch; batch norm in its trained state. joint: l d; x: t d; r: the section `model`."""
    shared, m, options = softmax_attention(joint, x, x, r["heads"]), generator.feature_mask, r["invariant"]
    mirgan = options["mask"]["name"] == "mirgan"
    if mirgan:
        shared = F.prelu(frozen_batch_norm(shared @ m.value.weight.T, m.value_norm.norm), m.prelu.weight)
    beside = {
        "attended": lambda: torch.cat([shared, joint], 1),
        "interpolated": lambda: torch.cat([F.interpolate(x.T[None], len(joint), mode="linear")[0].T, joint], 1),
        "time_slice": lambda: torch.cat([x, joint])[: len(joint)],
    }[options["mask"]["inputs"]]()
    if mirgan:
        mask = frozen_batch_norm(beside @ m.convolve.weight.T, m.mask_norm.norm).sigmoid()
    else:
        mask = F.prelu(beside @ m.convolve.weight.T + m.convolve.bias, m.prelu.weight).sigmoid()
    residual = refined(generator.refine.convolve, shared * mask, options["refine"]["name"])
    return layer_norm(joint + residual, generator.norm)


def frozen_batch_norm(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def refined(conv: nn.Conv1d, x: Tensor, how: str) -> Tensor:
    """The convolution of eq. (11), step by step. x: l d."""
    zero = torch.zeros_like(x[:1])
    around = torch.cat([zero, x, zero])  # step i stands at i + 1

    def at(first: int) -> Tensor:
        return sum(conv.weight[:, :, k] @ around[first + 1 + k] for k in range(conv.kernel_size[0])) + conv.bias

    if how != "stride2_upsample":
        return torch.stack([at(i) for i in range(len(x))])
    samples = {i: at(i - 1) for i in range(0, len(x), 2)}
    odd = {i: (samples[i - 1] + samples.get(i + 1, samples[i - 1])) / 2 for i in range(1, len(x), 2)}
    return torch.stack([(samples | odd)[i] for i in range(len(x))])


def naive(model: GiaMic, r: dict, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network on one utterance without padding, written from the equations; only the extractors are torch's own."""
    x = {}
    for name in ("visual", "audio", "text"):
        projected = model.extractors.project[name](batch[name][0])
        x[name] = model.extractors.extract[name](projected[None])[0]  # t d
    specific = x
    if r["specific"]["name"] == "gia":
        direction = model.specific.directions
        specific = {a: sum(gated(direction[f"{a}_{b}"], x[a], x[b], r) for b in x if b != a) for a in x}
    joint = torch.cat([x["visual"], x["audio"], x["text"]])
    blocks = [torch.cat([specific["visual"], specific["audio"], specific["text"]])]
    if r["invariant"]["name"] == "mig":
        blocks += [generated(model.invariant.generators[name], joint, specific[name], r) for name in x]
    fused = torch.cat(blocks)  # eq. (13): 4 l d
    if r["join"] == "sum" and r["invariant"]["name"] == "mig":
        fused = torch.cat([block + blocks[0] for block in blocks[1:]])
    steps = sum(STEPS.values()) * len(fused) / len(joint) if r["pool_padding"] else len(fused)
    z = fused.sum(0) / steps
    outputs = {"logits": model.head(z), "embedding": z}
    return outputs | ({"invariant": torch.stack(blocks[1:])} if blocks[1:] else {})


@OURS
def test_the_network_is_the_equations_read_literally(recipe):
    model, batch = network(recipe), utterances()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    together = model(batch)
    for i in range(4):
        expected = naive(model, recipe["model"], alone(batch, i))
        length = sum(n[i] for n in LENGTHS.values())
        for name, value in expected.items():
            mine = together[name][i]
            torch.testing.assert_close(mine[:, :length] if name == "invariant" else mine, value, **exact)
        if "invariant" in expected:
            means = together["invariant_embedding"][i].view(3, -1)
            torch.testing.assert_close(means, expected["invariant"].mean(1), **exact)
            assert not together["invariant"][i, :, length:].any()


def test_batch_norm_in_training_sees_the_real_steps_of_the_batch():
    """MIR-GAN's layer: S = softmax(x m^T / sqrt(d)) m; S <- PReLU(BN(W S)); S <- S * sigmoid(BN(V [S; x])); x + U S."""
    torch.manual_seed(0)
    options = {"mask": {"name": "mirgan", "inputs": "attended"}, "refine": {"name": "pointwise"}}
    generator = Generator(dim=8, heads=1, **options).double().train()
    masks = [torch.arange(5) < torch.tensor([[5], [2], [3]]), torch.arange(4) < torch.tensor([[1], [4], [2]])]
    x, other = torch.randn(3, 5, 8).double(), torch.randn(3, 4, 8).double()
    joined = Joined(masks)
    joint = joined([x, other])
    output = generator(joint, joined.mask, x, masks[0])

    def norm(rows: list[Tensor], by: nn.BatchNorm1d) -> list[Tensor]:
        whole = torch.cat(rows)
        whole = (whole - whole.mean(0)) / (whole.var(0, unbiased=False) + by.eps).sqrt() * by.weight + by.bias
        return list(whole.split([len(row) for row in rows]))

    queries = [torch.cat([x[i, masks[0][i]], other[i, masks[1][i]]]) for i in range(3)]
    shared = [softmax_attention(q, *2 * (x[i, masks[0][i]],), 1) for i, q in enumerate(queries)]
    m = generator.feature_mask
    shared = [F.prelu(h, m.prelu.weight) for h in norm([h @ m.value.weight.T for h in shared], m.value_norm.norm)]
    beside = [torch.cat([h, q], 1) @ m.convolve.weight.T for h, q in zip(shared, queries, strict=True)]
    for i, mask in enumerate(norm(beside, m.mask_norm.norm)):
        residual = refined(generator.refine.convolve, shared[i] * mask.sigmoid(), "pointwise")
        expected = layer_norm(queries[i] + residual, generator.norm)
        torch.testing.assert_close(output[i, : len(queries[i])], expected, **exact)


@pytest.mark.parametrize("length", range(1, 8))
def test_stride_two_goes_back_to_full_length_whatever_the_padding(length):
    torch.manual_seed(length)
    strided, x = Strided(dim=3).double(), torch.randn(length, 3).double()
    expected = refined(strided.convolve, x, "stride2_upsample")
    for more in (0, 1, 2, 5):
        mask = (torch.arange(length + more) < length)[None]
        torch.testing.assert_close(strided(F.pad(x, (0, 0, 0, more))[None], mask)[0, :length], expected, **exact)


def test_resampling_is_linear_interpolation_row_by_row():
    x, mask = torch.randn(3, 6, 2).double(), torch.arange(6) < torch.tensor([[6], [1], [4]])
    target = torch.arange(9) < torch.tensor([[9], [5], [3]])
    stretched = resampled(x, mask, target)
    for i in range(3):
        expected = F.interpolate(x[i, mask[i]].T[None], int(target[i].sum()), mode="linear")[0].T
        torch.testing.assert_close(stretched[i, target[i]], expected, **exact)
        assert not stretched[i, ~target[i]].any()


# --- masks -----------------------------------------------------------------------------------------------------------


@EVERY
def test_padding_and_batch_mates_are_invisible(recipe):
    model = network(recipe)
    plain, padded = model(utterances()), model(utterances(extra=3, noise=5.0))
    assert plain.keys() == padded.keys()
    for i in range(4):
        one = model(alone(utterances(), i))
        for name in plain.keys() - {"invariant_mask"}:
            for out in (plain[name][i], padded[name][i]):
                real = out[:, : one[name].shape[2]] if name == "invariant" else out  # m l d
                torch.testing.assert_close(real, one[name][0], **exact)


def test_counted_padding_is_that_of_the_corpus():
    """The reading `pooling: all` divides by the longest sequences of the corpus: another corpus, another average."""
    valid, counted = network(), network(RECIPES["readings/pooling_all"])
    share = torch.tensor([11, 6, 9, 11]).double()[:, None] / sum(STEPS.values())
    torch.testing.assert_close(valid(utterances())["embedding"] * share, counted(utterances())["embedding"], **exact)
    recipe = RECIPES["table2/clip"]
    valid, counted = network(recipe), network(recipe, {"pool_padding": True})
    share = torch.tensor(LENGTHS["visual"]).double()[:, None] / STEPS["visual"]
    torch.testing.assert_close(valid(utterances())["embedding"] * share, counted(utterances())["embedding"], **exact)


# --- rows and readings -----------------------------------------------------------------------------------------------


@EVERY
def test_every_parameter_receives_gradient(recipe):
    model = network(recipe).train()
    loss = registry.build("loss", recipe["loss"], class_counts=torch.tensor([3, 2, 4, 5]), dim=24, sentiment=False)
    batch = utterances()
    loss(model(batch), batch)["loss"].backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12]
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("row", "part"), [("wo_msr", "specific."), ("wo_mir", "invariant.")])
def test_what_a_row_takes_out_does_something_in_the_full_network(row, part):
    full, without = network(), network(RECIPES[f"table2/{row}"])
    assert {n for n, _ in full.named_parameters() if not n.startswith(part)} == {
        n for n, _ in without.named_parameters()
    }
    before = full(utterances())["logits"]
    for name, parameter in full.named_parameters():
        if name.startswith(part):
            original = parameter.detach().clone()
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter))
                assert (full(utterances())["logits"] - before).abs().max() > 1e-6, name
                parameter.copy_(original)


def test_without_mic_nothing_learns_from_the_divergence():
    recipe = RECIPES["table2/wo_mic"]
    model, batch = network(recipe), utterances()
    losses_of = {
        g: registry.build("loss", recipe["loss"] | {"gamma": g}, class_counts=torch.ones(4)) for g in (0.0, 0.1)
    }
    parts = {g: loss(model(batch), batch) for g, loss in losses_of.items()}
    assert parts[0.0]["loss"] == parts[0.0]["cross_entropy"] == parts[0.1]["cross_entropy"]
    assert parts[0.1]["divergence"] == parts[0.0]["divergence"] > 0
    assert not parts[0.0]["divergence"].requires_grad


@pytest.mark.parametrize("name", [k for k, r in RECIPES.items() if "readings" in k and r["model"] != DEFAULT["model"]])
def test_every_reading_of_the_network_changes_what_it_says(name):
    recipe = RECIPES[name]
    difference = network(recipe)(utterances())["logits"] - network()(utterances())["logits"]
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize("pair", ["TA", "AV", "TV"])
def test_two_modalities_have_one_block_and_two_generators(pair):
    model = network(modalities=pair)
    names = sorted(NAMES[k] for k in pair)
    assert {frozenset(key.split("_")) for key in model.specific.directions} == {frozenset(names)}
    assert sorted(model.invariant.generators) == names
    out = model(utterances())
    assert out["invariant"].shape[1] == 2 and out["invariant_embedding"].shape == (4, 48)


@pytest.mark.parametrize("few", ["T", "A", "V"])
def test_one_modality_is_for_the_baseline_only(few):
    with pytest.raises(ValueError, match="relates modalities to each other"):
        network(modalities=few)
    baseline = network(RECIPES["table2/clip"], modalities=few)
    assert baseline(utterances())["embedding"].shape == (4, 24)


def test_the_baseline_is_averages_and_a_linear_map():
    model, batch = network(RECIPES["table2/baseline_vt"]), utterances()
    outputs = model(batch)
    assert isinstance(model, ConcatPool)
    for i in range(4):
        one = alone(batch, i)
        means = [model.extractors.extract[m](model.extractors.project[m](one[m])).mean(1) for m in ("visual", "text")]
        z = torch.cat(means, 1)[0]
        torch.testing.assert_close(outputs["embedding"][i], z, **exact)
        torch.testing.assert_close(outputs["logits"][i], z @ model.head.weight.T + model.head.bias, **exact)


def test_a_width_that_fits_is_not_projected():
    kinds = {m: type(p).__name__ for m, p in network().extractors.project.items()}
    assert kinds == {"visual": "Linear", "audio": "Linear", "text": "Identity"}


def test_projections_and_extractors_are_shared_as_said():
    for sharing, number in {"direction": 6, "block": 3, "shared": 1}.items():
        directions = network(change={"specific.projections": sharing}).specific.directions.values()
        assert len({id(direction.projections) for direction in directions}) == number
        assert len({id(direction.gate) for direction in directions}) == 6
    assert len({id(e) for e in network(change={"extractors.shared": True}).extractors.extract.values()}) == 1


def test_a_closed_gate_lets_nothing_of_the_others_in():
    model, batch = network(), utterances()
    other = batch | {"audio": batch["audio"].flip(-1)}

    def change_of_text() -> float:
        x, mask = model.extractors(batch)
        y, _ = model.extractors(other)
        moved = model.specific(x, mask)["text"] - model.specific(y, mask)["text"]
        return moved[mask["text"]].abs().max().item()

    assert change_of_text() > 1e-4
    for direction in model.specific.directions.values():
        nn.init.constant_(direction.gate.bias, -800.0)
    assert change_of_text() == 0.0
    x, mask = model.extractors(batch)
    torch.testing.assert_close(model.specific(x, mask)["text"], 2 * x["text"], **exact)  # the sum of two blocks


def test_gates_hold_for_a_step_or_for_all():
    attended, mask = torch.randn(2, 5, 8).double(), torch.arange(5) < torch.tensor([[5], [3]])
    for pool, steps in (("time", 1), ("local3", 5), ("features", 5)):
        gate = Gate(dim=8, pool=pool, bias="outside").double()
        assert gate(attended, mask).shape == (2, steps, 8)


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        ("specific.name", "attention"), ("invariant.name", "gan"), ("specific.gate.pool", "max"),
        ("specific.gate.bias", "none"), ("specific.projections", "own"), ("invariant.mask.inputs", "query"),
        ("invariant.mask.name", "conv"), ("invariant.refine.name", "stride2"), ("join", "add"),
    ],
)  # fmt: skip
def test_an_unknown_option_is_refused_with_those_there_are(leaf, value):
    with pytest.raises(ValueError, match=f"'{value}' is no (option of )?model.{leaf}; there are: "):
        network(change={leaf: value})


@pytest.mark.parametrize(("leaf", "says"), [("heads", "change dim or heads"), ("extractors.heads", "extractors.heads")])
def test_heads_must_divide_the_width(leaf, says):
    with pytest.raises(ValueError, match=says):
        network(change={leaf: 7})


@OURS
def test_training_is_repeatable_and_half_precision_stays_close(recipe):
    model = network(recipe).float().train()
    batch = {k: v.float() if v.is_floating_point() else v for k, v in utterances().items()}
    outputs = []
    for _ in range(2):
        torch.manual_seed(2)
        outputs.append(model(batch)["logits"])
    assert torch.equal(*outputs)
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch)
    assert half["logits"].isfinite().all()
    torch.testing.assert_close(half["logits"].float(), model(batch)["logits"], rtol=0.1, atol=0.1)


# --- the loss --------------------------------------------------------------------------------------------------------


def objective(**change) -> Invariant:
    recipe = DEFAULT["loss"] | change
    return registry.build("loss", recipe, class_counts=torch.tensor([3, 2, 4, 1]), dim=24, sentiment=False).double()


def test_divergence_is_torch_s_kl_both_ways():
    p, q = (torch.randn(5, 7).double().log_softmax(-1) for _ in range(2))
    both = sum(F.kl_div(a, b, reduction="none", log_target=True).sum(-1) for a, b in ((p, q), (q, p))) / 2
    torch.testing.assert_close(symmetric_kl(p, q), both, **exact)
    assert not symmetric_kl(p, p).any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "as_printed"])
@pytest.mark.parametrize("distribution", ["position", "pooled", "all_entries"])
def test_the_constraint_is_the_sum_over_pairs_of_what_it_says(distribution, reduction):
    torch.manual_seed(0)
    lengths, logits = [4, 1, 3], torch.randn(3, 4).double()
    x, label = torch.randn(3, 3, 5, 6).double(), torch.tensor([1, -1, 2])
    mask = (torch.arange(5) < torch.tensor(lengths)[:, None])[:, None]  # b 1 l
    outputs = {"logits": logits, "invariant": x, "invariant_mask": mask}
    losses = objective(distribution=distribution, reduction=reduction, gamma=0.3)(outputs, {"label": label})

    def both_ways(a: Tensor, b: Tensor) -> Tensor:
        pairs = ((a, b), (b, a))
        return sum(F.kl_div(m.log_softmax(-1), n.softmax(-1), reduction="sum") for m, n in pairs) / 2

    costs = []
    for i, length in enumerate(lengths):
        real = x[i, :, :length]  # m l d
        for a, b in combinations(range(3), 2):
            if distribution == "position":
                costs.append(sum(both_ways(real[a, t], real[b, t]) for t in range(length)) / length)
            elif distribution == "pooled":
                costs.append(both_ways(real[a].mean(0), real[b].mean(0)))
            else:
                costs.append(both_ways(real[a].flatten(), real[b].flatten()))
    expected = sum(costs) / (1 if reduction == "sum" else 3)
    torch.testing.assert_close(losses["divergence"], expected, **exact)
    entropy = F.cross_entropy(logits[[0, 2]], label[[0, 2]], reduction="mean" if reduction == "mean" else "sum")
    torch.testing.assert_close(losses["cross_entropy"], entropy, **exact)
    torch.testing.assert_close(losses["loss"], entropy + 0.3 * losses["divergence"], **exact)


@pytest.mark.parametrize("distribution", ["position", "pooled", "all_entries"])
def test_the_constraint_sees_no_padding_and_has_finite_gradients(distribution):
    x = torch.randn(2, 2, 4, 6, requires_grad=True)
    mask = (torch.arange(4) < torch.tensor([[4], [2]]))[:, None]
    target = {"label": torch.tensor([0, 1])}
    values = []
    for noise in (0.0, 9.0):
        noisy = x + noise * ~mask.unsqueeze(-1)
        outputs = {"logits": torch.zeros(2, 4), "invariant": noisy, "invariant_mask": mask}
        values.append(objective(distribution=distribution)(outputs, target)["divergence"])
    torch.testing.assert_close(*values)
    (gradient,) = torch.autograd.grad(values[1], x)
    assert gradient.isfinite().all() and not gradient[1, :, 2:].any() and gradient[0].any()


def test_descending_the_constraint_brings_the_representations_together():
    torch.manual_seed(0)
    model, batch = network(), utterances()
    loss = objective(gamma=100.0)
    optimizer, seen = torch.optim.Adam(model.parameters(), lr=0.003), []
    for _ in range(15):
        optimizer.zero_grad()
        parts = loss(model(batch), batch)
        parts["loss"].backward()
        optimizer.step()
        seen.append(float(parts["divergence"]))
    assert seen[-1] < 0.7 * seen[0]


def test_a_network_without_generators_has_cross_entropy_alone():
    logits, label = torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 3, 1, -1])
    losses = objective()({"logits": logits}, {"label": label})
    torch.testing.assert_close(losses["loss"], F.cross_entropy(logits[:5], label[:5]), rtol=1e-6, atol=1e-7)
    assert losses.keys() == {"loss", "cross_entropy"}


@pytest.mark.parametrize(("key", "value"), [("distribution", "step"), ("reduction", "max")])
def test_an_unknown_option_of_the_loss_is_refused(key, value):
    with pytest.raises(ValueError, match="there are: "):
        objective(**{key: value})


def test_the_divergence_by_position_is_the_same_where_a_gpu_takes_no_steps_out(monkeypatch):
    torch.manual_seed(0)
    x, mask = torch.randn(3, 2, 7, 5, dtype=torch.double), torch.arange(7) < torch.tensor([[7], [4], [1]])
    expected = by_position(x, mask.unsqueeze(1))
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    torch.testing.assert_close(by_position(x, mask.unsqueeze(1)), expected, rtol=1e-12, atol=0.0)
