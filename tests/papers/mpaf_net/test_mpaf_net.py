"""MPAF-Net, its baselines and the focal loss: equations by hand, what each row removes, and invisible padding."""

import math
from types import SimpleNamespace

import pytest
import torch
from building import alone, changed, network_of, recipe_of
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from merlib import declarations, registry
from merlib.baselines.lstm import average, truncate
from merlib.declarations.leaves import flat
from merlib.errors import DeclarationError
from merlib.papers.mpaf_net.encoders import Extend
from merlib.papers.mpaf_net.network import Pair
from merlib.pretrained.encoders import sha256_of
from merlib.training import fitting, optimisation

PAPER = declarations.load("mpaf_net")
DIMS = {"text": 7, "audio": 5, "visual": 16}  # a frame has 4 x 4 pixels
STEPS = {"text": 9, "audio": 12, "visual": 11}
LENGTHS = {"text": (3, 6, 1, 5, 2, 4), "audio": (7, 2, 9, 1, 4, 8), "visual": (1, 8, 3, 5, 2, 6)}
LABEL = torch.tensor([0, 3, 1, 2, 7, 3])
COUNTS = [4, 2, 1, 6, 3, 5, 4, 2]
SMALL = {
    "encoders.audio.dim": 6, "encoders.visual.dim": 4, "dim": 8, "pair.attention.hidden": 5, "head_dim": 6,
    "common_steps": 3, "text_hidden": 4, "audio_hidden": 8, "visual_hidden": 8, "text_out": 4, "fusion_dim": 8,
    "hidden": 6,
}  # fmt: skip
EXACT = {"rtol": 1e-9, "atol": 1e-9}
SUBSETS = pytest.mark.parametrize("names", ["TAV", "TA", "TV", "AV", "T", "A", "V"])
LETTERS = {"T": "text", "A": "audio", "V": "visual"}


def recipe(table: str, row: str, **change) -> dict[str, dict]:
    """The declared recipe of a row on stored text, with widths that a test can carry."""
    sections = recipe_of(f"mpaf_net/{table}/{row}", change={"substitute.stored_text": True} | change)
    declared = flat({"model": sections["model"]}, PAPER.corpora)
    small = {leaf: size for leaf, size in SMALL.items() if f"model.{leaf}" in declared}
    return sections | {"model": changed(sections["model"], small)}


def network(
    names: str = "TAV", change: dict | None = None, *, table: str = "table5", row: str = "mpaf_net"
) -> torch.nn.Module:
    """The network of a row with other values of some leaves of its section `model`."""
    return build(changed(recipe(table, row)["model"], change or {}), names)


def build(section: dict, names: str = "TAV") -> torch.nn.Module:
    dims = {LETTERS[k]: DIMS[LETTERS[k]] for k in names}
    return network_of(section, dims=dims, steps={m: STEPS[m] for m in dims}, classes=8)


def utterances(names: str = "TAV", *, longer: int = 0) -> dict[str, Tensor]:
    """A padded batch in float64, `longer` steps beyond its longest; the padding holds noise that must not be seen."""
    draw, batch = torch.Generator().manual_seed(0), {}
    for name, width in DIMS.items():
        lengths = torch.tensor(LENGTHS[name]).unsqueeze(1)
        real = torch.randn(6, STEPS[name], width, generator=draw).double()
        if name[0].upper() in names:
            longest = int(lengths.max()) + longer
            batch[name], batch[f"{name}_mask"] = real[:, :longest], torch.arange(longest) < lengths
    return batch


def all_rows() -> list[tuple[str, str]]:
    """Those of networks on stored text; a row that names an encoder of text is tested on a tiny one (`bert`)."""
    rows = [(table, row.id) for table in ("table5", "table_ablations", "readings") for row in PAPER.table(table).row]
    rows = [pair for pair in rows if recipe(*pair)["model"]["name"] in registry._table("NETWORKS")]
    own = {"model.encoders.text.encoder": "minilm"}
    return [
        (table, row)
        for table, row in rows
        if not own.items() <= PAPER.flat(PAPER.table(table).find(row).change).items()
    ]


ROWS = pytest.mark.parametrize(("table", "row"), all_rows(), ids=map("/".join, all_rows()))

# --- equations -----------------------------------------------------------------------------------------------------


def linear(layer: torch.nn.Linear, x: list[float]) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def relu(x: list[float]) -> list[float]:
    return [max(v, 0.0) for v in x]


def test_a_pair_is_equations_2_to_6():
    torch.manual_seed(1)
    attention = {"name": "score", "hidden": 5, "layers": 2}
    pair = Pair(widths=(3, 2), dim=4, attention=attention, dropout=0.2).double().eval()
    f1, f2 = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    for i, out in enumerate(pair(f1, f2)):
        one, two = f1[i].tolist(), f2[i].tolist()
        p1, p2 = relu(linear(pair.project[0][0], one)), relu(linear(pair.project[1][0], two))
        (s,) = linear(pair.weigh.mlp[-1], relu(linear(pair.weigh.mlp[0], one + two + p1 + p2)))
        alpha = 1 / (1 + math.exp(-s))
        expected = [alpha * a + (1 - alpha) * b for a, b in zip(p1, p2, strict=True)]
        assert_close(out, torch.tensor(expected, dtype=torch.double), **EXACT)


def last_state(lstm: torch.nn.LSTM, x: Tensor) -> Tensor:
    """The last state of an LSTM, computed step by step. x: t d."""
    h = c = x.new_zeros(lstm.hidden_size)
    for step in x:
        gates = lstm.weight_ih_l0 @ step + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return h


@pytest.mark.parametrize("pack", [False, True], ids=["padded", "packed"])
def test_six_paths_are_joined(pack):
    """Eq. 7, with the encoders of Sec. 2.2; audio ends in silence and the last frame is repeated unless packed."""
    net, batch = network(change={"encoders.pack": pack}), utterances()
    outputs = net(batch)
    for i in range(6):
        one = alone(batch, i)
        audio, visual = one["audio"][0], one["visual"][0]
        if not pack:
            audio = torch.cat([audio, audio.new_zeros(STEPS["audio"] - len(audio), 5)])
            visual = torch.cat([visual, visual[-1:].expand(STEPS["visual"] - len(visual), -1)])
        h_t = one["text"][0, 0]
        h_a, h_v = (last_state(net.encoders[m].last.lstm, x) for m, x in (("audio", audio), ("visual", visual)))
        pairs = {"text_audio": (h_t, h_a), "text_visual": (h_t, h_v), "audio_visual": (h_a, h_v)}
        f = [net.pairs[name](a[None], b[None])[0] for name, (a, b) in pairs.items()]
        assert_close(outputs["embedding"][i], torch.cat([h_t, h_a, h_v, *f]), **EXACT)
    assert outputs["logits"].shape == (6, 8)
    assert_close(outputs["logits"], net.head(outputs["embedding"]))


def test_the_baseline_is_the_network_without_pairs():
    """Eq. 1."""
    baseline, ours = network(row="baseline"), network(change={"paths": "t a v"})
    ours.load_state_dict(baseline.state_dict())
    assert_close(ours(utterances()), baseline(utterances()), **EXACT)


@pytest.mark.parametrize("names", ["TA", "TAV"])
def test_pairs_see_vectors_before_or_after_dropout(names):
    for pair_input, same in (("before_dropout", True), ("after_dropout", False)):
        net = network(names, {"pair_input": pair_input, "pair.dropout": 0.0, "dropout": 0.5})
        pairs = 8 * len(net.pairs)
        calm, dropped = (mode(utterances(names))["embedding"] for mode in (net.eval(), net.train()))
        assert torch.allclose(calm[:, -pairs:], dropped[:, -pairs:]) is same
        assert not torch.allclose(calm[:, :-pairs], dropped[:, :-pairs])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("class_weights", "weight"),
    [
        ("balanced", lambda n: sum(COUNTS) / (len(COUNTS) * n)),
        ("sum_one", lambda n: (1 / n) / sum(1 / m for m in COUNTS)),
        ("inverse_count", lambda n: 1 / n),
        ("none", lambda n: 1.0),
    ],
)
def test_focal_loss_is_equation_8(class_weights, weight, reduction, gamma):
    section = {"name": "focal", "class_weights": class_weights, "gamma": gamma, "reduction": reduction}
    loss, logits = registry.build("loss", section, class_counts=COUNTS).double(), torch.randn(6, 8).double()
    label = LABEL.where(torch.arange(6) != 4, -1)
    total = 0.0
    for row, y in zip(logits.tolist(), label.tolist(), strict=True):
        if y >= 0:
            p = math.exp(row[y]) / sum(map(math.exp, row))
            total -= weight(COUNTS[y]) * (1 - p) ** gamma * math.log(p)
    expected = total / 5 if reduction == "mean" else total
    assert_close(float(loss({"logits": logits}, {"label": label})["loss"]), expected, rtol=1e-6, atol=1e-6)


def test_without_focus_it_is_weighted_cross_entropy_times_the_mean_weight():
    section = {"name": "focal", "class_weights": "balanced", "gamma": 0.0, "reduction": "mean"}
    loss, logits = registry.build("loss", section, class_counts=COUNTS), torch.randn(6, 8)
    mean = F.cross_entropy(logits, LABEL, weight=loss.class_weights)
    assert_close(loss({"logits": logits}, {"label": LABEL})["loss"], mean * loss.class_weights[LABEL].mean())
    training = torch.repeat_interleave(torch.arange(8), torch.tensor(COUNTS))
    assert_close(loss.class_weights[training].mean(), torch.tensor(1.0))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_and_its_gradient_are_finite_where_a_network_is_sure(gamma):
    loss = registry.build(
        "loss", {"name": "focal", "class_weights": "none", "gamma": gamma, "reduction": "mean"}, class_counts=COUNTS
    )
    logits = torch.zeros(2, 8).index_put((torch.tensor([0, 1]), torch.tensor([3, 3])), torch.tensor([200.0, -200.0]))
    logits.requires_grad_()
    value = loss({"logits": logits}, {"label": torch.tensor([3, 3])})["loss"]
    value.backward()
    assert_close(value.item(), (200 + math.log(7)) / 2, rtol=1e-5, atol=0.0)
    assert logits.grad.isfinite().all()


# --- baselines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 7, 20])
def test_sequences_meet_in_common_steps(steps):
    batch = utterances()
    x, mask = batch["audio"], batch["audio_mask"]
    for i, (averaged, cut) in enumerate(zip(average(x, mask, steps), truncate(x, mask, steps), strict=True)):
        one = alone(batch, i)["audio"][0]
        assert_close(averaged, F.adaptive_avg_pool1d(one.T, steps).T, **EXACT)
        assert_close(cut[: len(one)], one[:steps], **EXACT)
        assert not cut[len(one) :].any()


def test_early_fusion_is_one_lstm_over_the_joined_steps():
    net, batch = network(row="ef_lstm"), utterances()
    embedding = net(batch)["embedding"]
    for i in range(6):
        joined = torch.cat([F.adaptive_avg_pool1d(alone(batch, i)[name][0].T, 3).T for name in DIMS], dim=-1)
        assert_close(embedding[i], last_state(net.lstm, joined), **EXACT)


@pytest.mark.parametrize("decision", ["mean_logits", "mean_probabilities"])
def test_late_fusion_is_the_mean_of_decisions(decision):
    net, batch = network(change={"decision": decision}, row="lf_lstm"), utterances()
    scores = [
        torch.stack([net.heads[name](last_state(net.lstms[name].lstm, alone(batch, i)[name][0])) for i in range(6)])
        for name in DIMS
    ]
    logits = net(batch)["logits"]
    if decision == "mean_logits":
        assert_close(logits, sum(scores) / 3, **EXACT)
    else:
        assert_close(logits.exp(), sum(s.softmax(-1) for s in scores) / 3, **EXACT)


# --- rows ----------------------------------------------------------------------------------------------------------


@ROWS
def test_every_declared_row_builds_and_every_parameter_receives_gradient(table, row):
    sections = recipe(table, row)
    torch.manual_seed(0)
    loss = registry.build("loss", sections["loss"], class_counts=COUNTS, dim=8, sentiment=False)
    net, batch = build(sections["model"]), utterances()
    if registry.is_pooled(sections["model"]["name"]):  # an utterance is one vector
        batch = {name: values[:, :1] for name, values in batch.items()}
    loss.double()(net(batch), {"label": LABEL})["loss"].backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0]


@pytest.mark.parametrize("row", ["baseline", "ef_lstm", "lf_lstm", "mpaf_net"])
@SUBSETS
def test_any_modalities_will_do(row, names):
    net, batch = network(names, row=row), utterances(names)
    outputs = net(batch)
    (outputs["logits"] ** 3).sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert outputs["logits"].shape == (6, 8) and outputs["embedding"].shape[0] == 6
    if row == "mpaf_net":
        assert len(net.pairs) == {1: 0, 2: 1, 3: 3}[len(names)]


WITHOUT = {"text": "wo_text_path", "audio": "wo_audio_path", "visual": "wo_visual_path"}
WITHOUT |= {"text_audio": "wo_text_audio", "text_visual": "wo_text_visual", "audio_visual": "wo_audio_visual"}


@pytest.mark.parametrize(("path", "row"), WITHOUT.items())
def test_a_row_removes_one_path_and_no_other(path, row):
    """With the same weights, the joined vector is the whole network's without the columns of one path."""
    whole, without = network(), network(table="table_ablations", row=row)
    weights = whole.state_dict()
    without.load_state_dict(
        {k: v for k, v in weights.items() if k in without.state_dict() and "head." not in k}, strict=False
    )
    widths = {"text": 7, "audio": 6, "visual": 4, "text_audio": 8, "text_visual": 8, "audio_visual": 8}
    start = sum(list(widths.values())[: list(widths).index(path)])
    z = whole(utterances())["embedding"]
    removed = torch.arange(start, start + widths[path])
    others = torch.tensor([i for i in range(z.shape[1]) if i not in removed])
    assert_close(without(utterances())["embedding"], z[:, others], **EXACT)
    assert (path in without.pairs) is False and (path in whole.pairs) == ("_" in path)
    before = whole(utterances())["logits"]
    with torch.no_grad():
        whole.head[0].weight[:, removed] += 0.1
    assert (whole(utterances())["logits"] - before).abs().max() > 1e-6


@pytest.mark.parametrize(
    "module", ["pairs.text_audio", "pairs.text_visual.weigh", "encoders.audio", "encoders.visual.last", "head"]
)
def test_every_part_of_the_network_reaches_its_output(module):
    net, batch = network(), utterances()
    before = net(batch)["logits"]
    with torch.no_grad():
        for parameter in net.get_submodule(module).parameters():
            parameter += 0.1
    assert (net(batch)["logits"] - before).abs().max() > 1e-6


def test_without_attention_a_pair_is_the_mean_of_its_projections():
    net, batch = network(table="table_ablations", row="wo_attention"), utterances()
    assert not [name for name, _ in net.named_parameters() if ".weigh." in name]
    h = [batch["text"][:, 0], net.encoders["audio"](batch["audio"], batch["audio_mask"])]
    projected = [project(x) for project, x in zip(net.pairs["text_audio"].project, h, strict=True)]
    assert_close(net(batch)["embedding"][:, 17:25], sum(projected) / 2, **EXACT)


def test_the_rows_of_training_change_the_loss_or_its_course():
    net, values = network(table="table_ablations", row="full"), {}
    for row in ("full", "cross_entropy", "wo_focus", "wo_class_weights"):
        loss = registry.build("loss", recipe("table_ablations", row)["loss"], class_counts=COUNTS).double()
        values[row] = loss(net(utterances()), {"label": LABEL})["loss"].item()
    assert len({round(v, 6) for v in values.values()}) == 4
    course = [recipe("table_ablations", row)["train"] for row in ("full", "constant", "plateau", "wo_weight_decay")]
    assert [t["schedule"] for t in course] == ["warmup_cosine", "constant", "plateau", "warmup_cosine"]
    net = network(table="table_ablations", row="wo_dropout").train()
    assert torch.equal(net(utterances())["logits"], net(utterances())["logits"])


CHANGING = [
    (name, option)
    for name, reading in PAPER.readings.items()
    for option, change in reading.options.items()
    if option != reading.default and {key.split(".")[0] for key in PAPER.flat(change)} & {"model", "loss"}
]


@pytest.mark.parametrize(("name", "option"), CHANGING)
def test_every_reading_of_network_and_loss_changes_a_training_step(name, option):
    values = []
    for chosen in (PAPER.readings[name].default, option):
        change = {"substitute.stored_text": True, f"readings.{name}": chosen}
        sections = recipe_of("mpaf_net/table5/mpaf_net", change=change)
        net = build(sections["model"]).train()
        loss = registry.build("loss", sections["loss"], class_counts=COUNTS).double()
        torch.manual_seed(3)
        values.append(loss(net(utterances()), {"label": LABEL})["loss"].item())
    assert abs(values[0] - values[1]) > 1e-6


# --- padding -------------------------------------------------------------------------------------------------------

PACKED, FRAMES = {"encoders.pack": True}, "encoders.visual.frame_encoder.name"
NETWORKS = {
    "padded": ("mpaf_net", {}),
    "packed": ("mpaf_net", PACKED),
    "packed, two directions": ("mpaf_net", PACKED | {"encoders.lstm.directions": 2, "encoders.lstm.layers": 2}),
    "padded, cnn": ("mpaf_net", {FRAMES: "cnn"}),
    "packed, cnn, pooler": ("mpaf_net", PACKED | {FRAMES: "cnn", "encoders.text.pool": "pooler"}),
    "linear, mean": ("mpaf_net", {FRAMES: "linear", "encoders.text.pool": "mean"}),
    "baseline": ("baseline", {}),
    "early, average": ("ef_lstm", {}),
    "early, truncated": ("ef_lstm", {"align": "truncate"}),
    "late": ("lf_lstm", {}),
}


@pytest.mark.parametrize("longer", [0, 3])
@pytest.mark.parametrize(("row", "change"), NETWORKS.values(), ids=NETWORKS)
def test_padding_and_batch_mates_are_invisible(row, change, longer):
    net = network(change=change, row=row)
    together = net(utterances(longer=longer))
    for i in range(6):
        for name, value in net(alone(utterances(), i)).items():
            assert_close(value[0], together[name][i], **EXACT)


def test_only_the_padded_reading_runs_to_the_end_of_the_corpus():
    """A corpus whose longest sequence has 9 steps: that one is the same in both readings, the others are not."""
    padded, packed = network(), network(change=PACKED)
    padded.encoders["audio"].extend.steps = 9
    differ = (padded(utterances())["embedding"] - packed(utterances())["embedding"])[:, 7:13].abs().amax(1) > 1e-9
    assert differ.tolist() == [length < 9 for length in LENGTHS["audio"]]
    with pytest.raises(ValueError, match="12 steps; the longest"):
        Extend(steps=9, repeat=False)(torch.zeros(1, 12, 5), torch.ones(1, 12, dtype=torch.bool))


# --- a text encoder that learns ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> tuple[BertModel, str]:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=10,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    return BertModel.from_pretrained(folder).eval(), str(folder)


def stored(model: BertModel, layers: int) -> tuple[dict[str, Tensor], object]:
    """The states below the last `layers` layers as a text array, zero on padding, and the whole encoder's outputs."""
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]])
    ids = torch.randint(1, 30, (3, 6), generator=torch.Generator().manual_seed(1)) * mask
    whole = model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True)
    states = whole.hidden_states[4 - layers].detach() * mask.unsqueeze(-1)
    return {"text": states, "text_mask": mask}, whole


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("pool", ["hidden", "pooler", "mean"])
def test_tuned_layers_on_stored_states_are_the_whole_encoder(bert, layers, pool):
    model, path = bert
    batch, whole = stored(model, layers)
    text = {"encoders.text.encoder": path, "encoders.text.tuned_layers": layers, "encoders.text.pool": pool}
    section = changed(recipe("table5", "mpaf_net")["model"], text)
    net = registry.build("model", section, dims={"text": 8}, steps={"text": 6}, classes=8).eval()
    means = [states[real].mean(0) for states, real in zip(whole.last_hidden_state, batch["text_mask"], strict=True)]
    expected = {"pooler": whole.pooler_output, "hidden": whole.last_hidden_state[:, 0], "mean": torch.stack(means)}[
        pool
    ]
    assert_close(net(batch)["embedding"], expected)
    net(batch)["embedding"].pow(3).sum().backward()
    expected.pow(3).sum().backward()
    theirs, ours = (
        model.encoder.layer[-1].output.dense.weight,
        net.encoders["text"].pretrained["encoder"].layer[-1].output.dense.weight,
    )
    assert_close(ours.grad, theirs.grad)
    model.zero_grad()
    named = dict(net.named_parameters())
    assert not [name for name, p in named.items() if p.grad is None and not name.startswith("head.")]
    blocks = {name.split(".")[5] for name in named if name.startswith("encoders.text.pretrained.encoder.layer.")}
    assert len(blocks) == layers and all(name.startswith(("encoders.text.", "head.")) for name in named)


def test_a_text_encoder_that_does_not_fit_the_array_is_refused(bert):
    section = recipe("table5", "baseline")["model"]
    for dims, layers in (({"text": 7}, 2), ({"text": 8}, 5), ({"text": 8}, 0)):
        with pytest.raises(DeclarationError, match="store the states below"):
            text = {"encoders.text.encoder": bert[1], "encoders.text.tuned_layers": layers}
            registry.build("model", changed(section, text), dims=dims, steps={"text": 6}, classes=8)


def test_a_text_encoder_that_is_not_built_as_bert_is_refused(tmp_path):
    sizes = {"vocab_size": 30, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 10}
    DistilBertModel(DistilBertConfig(**sizes)).save_pretrained(tmp_path)
    text = {"encoders.text.encoder": str(tmp_path), "encoders.text.tuned_layers": 1, "encoders.text.pool": "hidden"}
    section = changed(recipe("table5", "baseline")["model"], text)
    with pytest.raises(
        DeclarationError, match="1 of 0 layers, states of 8, stored ones of 8. Choose an encoder built as"
    ):
        registry.build("model", section, dims={"text": 8}, steps={"text": 6}, classes=8)


def test_only_what_is_pretrained_has_the_rate_of_bert(bert):
    sections, given = recipe("table5", "mpaf_net"), {"dims": {"text": 8}, "steps": {"text": 6}, "classes": 8}
    for encoder, slow in ((bert[1], True), ("vectors", False)):
        text = {"encoders.text.encoder": encoder, "encoders.text.pool": "pooler"}
        net = registry.build("model", changed(sections["model"], text), **given)
        groups = optimisation.optimizer(net, sections["train"]).param_groups
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        of_text = {rates[id(p)] for name, p in net.named_parameters() if name.startswith("encoders.text.")}
        assert of_text == {sections["train"]["lr"] * (0.1 if slow else 1)}


def test_stored_states_that_are_not_below_the_tuned_layers_are_refused(bert):
    model = changed(recipe("table5", "mpaf_net")["model"], {"encoders.text.encoder": bert[1]})
    own = {"weights_sha256": sha256_of(bert[1]), "summary": lambda: "text: another encoder"}
    two_below, last = (SimpleNamespace(layers_above=layers, **own) for layers in (2, 0))
    fitting.check_states(model, {"text": two_below})
    fitting.check_states(changed(model, {"encoders.text.encoder": "vectors"}), {"text": last})
    with pytest.raises(DeclarationError, match="learns its last 2 layers, but the stored states of text have 0"):
        fitting.check_states(model, {"text": last})
    two_below.weights_sha256 = "another"
    with pytest.raises(DeclarationError, match="are not of the encoder .*, but text: another encoder"):
        fitting.check_states(model, {"text": two_below})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": "t a x"}, "'x' is no path of model.paths"),
        ({"paths": "v"}, "need other modalities"),
        ({"pair.attention.name": "max"}, "score, mean"),
        ({"pair_input": "during"}, "after_dropout"),
        ({"encoders.text.pool": "max"}, "hidden, pooler, mean"),
        ({"encoders.lstm.directions": 3}, "1 or 2"),
    ],
)
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(DeclarationError, match=message):
        network("TA", change)


def test_impossible_frames_and_losses_are_refused():
    dims = {"visual": 12}
    for kind, message in (("cnn", "12 values make none"), ("mean", "flatten, linear, cnn")):
        with pytest.raises(DeclarationError, match=message):
            section = changed(recipe("table5", "mpaf_net")["model"], {FRAMES: kind})
            registry.build("model", section, dims=dims, steps=STEPS, classes=8)
    for change in ({"class_weights": "sqrt"}, {"gamma": -1.0}, {"reduction": "max"}):
        with pytest.raises(ValueError, match="focal loss"):
            registry.build("loss", recipe("table5", "mpaf_net")["loss"] | change, class_counts=COUNTS)
