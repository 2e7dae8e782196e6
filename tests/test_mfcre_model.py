"""MFCRE: its parts against numbers from the modules they come from; the network against what a mask promises."""

import pytest
import torch
from oracles import below, load
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.papers.mfcre.dialoguecrn import DialogueCRN, PartyBiLstm, Reasoning, simam
from merlib.papers.mfcre.network import Gate, Mfcre, Transformer, sinusoid

WIDTHS = {"text": 7, "audio": 5, "visual": 6}
LENGTHS = [7, 1, 4]  # utterances of the three dialogues of a batch
RECIPE = {
    "dim": 16, "context": "dialoguecrn", "text_context": True, "cell": "mlstm", "cell_heads": 2, "turns": 3,
    "attention": "softmax_simam",
    "simam_axis": "channels", "perception": True, "perception_layers": 2, "speaker_branch": False,
    "encoder": "transformers",
    "encoder_layers": 2, "encoder_heads": 2, "encoder_ff": 8, "merge": "concat", "position": "sinusoid",
    "fusion": "multiattn", "fusion_layers": 2, "fusion_heads": 2, "fusion_ff": 8, "head_dim": 8,
    "mask_padding": True, "dropout": 0.1,
}  # fmt: skip
READINGS = {
    "default": {},
    "no context": {"context": "none"},
    "text without context": {"text_context": False},
    "slstm": {"cell": "slstm"},
    "lstm": {"cell": "lstm"},
    "vil": {"cell": "vil"},
    "one turn": {"turns": 1},
    "two turns": {"turns": 2},
    "simam gate": {"attention": "simam_gate"},
    "simam sum": {"attention": "simam_sum"},
    "softmax alone": {"attention": "softmax"},
    "no attention": {"attention": "none"},
    "simam over utterances": {"simam_axis": "utterances"},
    "no perception": {"perception": False},
    "speakers": {"speaker_branch": True},
    "speakers, no perception": {"speaker_branch": True, "perception": False},
    "no encoder": {"encoder": "none"},
    "gated merge": {"merge": "gate"},
    "summed merge": {"merge": "sum"},
    "intra only": {"merge": "intra"},
    "no position": {"position": "none"},
    "no fusion": {"fusion": "concat"},
}
CHANGES = pytest.mark.parametrize("change", READINGS.values(), ids=READINGS)
MODALITIES = pytest.mark.parametrize("names", [["text"], ["text", "visual"], list(WIDTHS)], ids="+".join)
exact = {"rtol": 1e-10, "atol": 1e-10}


def network(names=tuple(WIDTHS), *, seed: int = 0, **change) -> Mfcre:
    torch.manual_seed(seed)
    model = Mfcre(dims={name: WIDTHS[name] for name in names}, classes=4, speakers=3, **(RECIPE | change))
    return model.double().eval()


def dialogues(lengths=LENGTHS, *, seed: int = 0) -> dict[str, Tensor]:
    """A padded batch in float64, with three parties."""
    draw = torch.Generator().manual_seed(seed)
    b, n = len(lengths), max(lengths)
    mask = torch.arange(n) < torch.tensor(lengths).unsqueeze(1)
    batch = {m: torch.randn(b, n, d, generator=draw).double() * mask.unsqueeze(-1) for m, d in WIDTHS.items()}
    return batch | {"mask": mask, "speaker": torch.randint(3, (b, n), generator=draw) * mask}


def alone(batch: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """One dialogue of the batch without its padding."""
    length = int(batch["mask"][index].sum())
    return {key: value[index : index + 1, :length] for key, value in batch.items()}


# --- parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "axis"), [(3, -1), (4, (2, 3))])
def test_simam_is_the_official_module(rank, axis):
    fixture = load("simam")
    x = fixture[f"in{rank}"].requires_grad_()
    y = simam(x, axis=axis)
    torch.testing.assert_close(y, fixture[f"out{rank}"], rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad((y * fixture[f"r{rank}"]).sum(), x)
    torch.testing.assert_close(gradient, fixture[f"grad{rank}"], rtol=1e-5, atol=1e-5)


def test_simam_takes_its_lambda():
    fixture = load("simam")
    torch.testing.assert_close(
        simam(fixture["in4"], axis=(2, 3), floor=0.1), fixture["out4_lam01"], rtol=1e-5, atol=1e-6
    )


def test_simam_over_utterances_leaves_padding_out():
    x = torch.randn(2, 6, 3).double()
    padded = simam(x, axis=1, mask=torch.arange(6) < torch.tensor([[6], [2]]))
    for dialogue, length in enumerate((6, 2)):
        line = x[dialogue, :length]
        energy = (line - line.mean(0)).square() / (4 * (line.var(0) + 1e-4)) + 0.5
        torch.testing.assert_close(padded[dialogue, :length], line * energy.sigmoid(), **exact)
    one = x[:, :1]
    torch.testing.assert_close(simam(one, axis=1), one * torch.tensor(0.5).double().sigmoid())


def test_an_undecided_gate_halves_its_stream():
    gate, x = Gate(streams=3, dim=4), torch.randn(2, 5, 3, 4)
    for linear in gate.gates:
        nn.init.zeros_(linear.weight)
    torch.testing.assert_close(gate(x), gate.concat(x / 2))


@pytest.fixture
def reasoning() -> tuple[Reasoning, dict[str, Tensor]]:
    """DialogueCRN's own reasoning: an LSTM cell and plain softmax attention."""
    fixture = load("dialoguecrn")
    module = Reasoning(dim=8, turns=3, cell="lstm", cell_heads=1, attention="softmax", simam_axis="channels").double()
    module.load_state_dict(lstm_cell(fixture, "reason/w/lstm."))
    return module, fixture


def lstm_cell(fixture: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"cell.cell.{key.removesuffix('_l0')}": value for key, value in below(fixture, prefix).items()}


def test_reasoning_is_that_of_dialoguecrn_turn_by_turn(reasoning):
    module, fixture = reasoning
    lengths = fixture["reason/in/batch_index"].bincount().tolist()
    bank = fixture["reason/in/bank"].requires_grad_()
    q0 = fixture["reason/in/q_star0"].requires_grad_()
    memory = nn.utils.rnn.pad_sequence(bank.split(lengths), batch_first=True)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    for module.turns in (1, 2, 3):
        out = module(q0.unsqueeze(1), memory, mask)[:, 0]
        turn = torch.cat([fixture[f"reason/trace/{part}_{module.turns - 1}"] for part in "qr"], dim=-1)
        torch.testing.assert_close(out, turn, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out, fixture["reason/out/q_star"], rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad((out * fixture["reason/r"]).sum(), [bank, q0])
    for mine, name in zip(gradients, ("bank", "q0"), strict=True):
        torch.testing.assert_close(mine, fixture[f"reason/grad_{name}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("case", "turns"), [(0, (3, 2)), (1, (2, 0))])
def test_dialoguecrn_is_the_original_with_both_branches(case, turns):
    """Both perceptions and both reasonings, with the original's classifier on top; it runs over padding."""
    fixture = load("dialoguecrn")
    x, q = (fixture[f"case{case}/in/{name}"].transpose(0, 1) for name in ("U", "qmask"))
    mask = fixture[f"case{case}/in/umask"].bool()
    crn = DialogueCRN(
        dim=12, speakers=q.shape[-1], turns=3, cell="lstm", cell_heads=1, attention="softmax", simam_axis="channels",
        perception=True, perception_layers=2, speaker_branch=True, mask_padding=False, dropout=0.0,
    )  # fmt: skip
    for perceive, name in zip((crn.perceive[0].rnn, crn.perceive[1]), ("rnn_parties", "rnn"), strict=True):
        perceive.rnn = nn.LSTM(10, 6, 2, batch_first=True, bidirectional=True)
        perceive.rnn.load_state_dict(below(fixture, f"case{case}/w/{name}."))
    crn.query.load_state_dict(below(fixture, f"case{case}/w/cognition_net.fc."))
    for place, steps, reason in zip((0, 1), turns, reversed(crn.reason), strict=True):  # the situation is their first
        reason.turns = steps
        found = lstm_cell(fixture, f"case{case}/w/cognition_net.reason_modules.{place}.lstm.")
        reason.load_state_dict(found or reason.state_dict())
    hidden = crn.double()(x, mask, q.argmax(-1)).relu()
    classifier = below(fixture, f"case{case}/w/cognition_net.smax_fc.")
    scores = F.linear(hidden, classifier["weight"], classifier["bias"]).log_softmax(-1)[mask]
    torch.testing.assert_close(scores, fixture[f"case{case}/out/log_prob"], rtol=1e-4, atol=2e-5)


def test_each_party_is_perceived_as_a_dialogue_of_its_own():
    crn = DialogueCRN(
        dim=16, speakers=3, turns=1, cell="lstm", cell_heads=1, attention="softmax", simam_axis="channels",
        perception=False, perception_layers=1, speaker_branch=True, mask_padding=True, dropout=0.0,
    )  # fmt: skip
    parties: PartyBiLstm = crn.perceive[0].double()
    x, mask = torch.randn(2, 9, 16).double(), torch.arange(9) < torch.tensor([[9], [6]])
    speaker = torch.randint(3, (2, 9)) * mask
    y = parties(x, mask, speaker)
    for dialogue in range(2):
        for party in range(3):
            own = mask[dialogue] & (speaker[dialogue] == party)
            line = x[dialogue, own].unsqueeze(0)
            if len(line[0]):
                torch.testing.assert_close(y[dialogue, own], parties.rnn.rnn(line)[0][0], **exact)


def sdt_transformer(fixture: dict[str, Tensor]) -> Transformer:
    module = Transformer(layers=2, dim=16, heads=4, ff=20, dropout=0.0).double()
    state = {}
    for i in range(2):
        w = below(fixture, f"sdt/w/transformer_inter.{i}.")
        for p in ("weight", "bias"):
            state[f"layers.{i}.attend.query.{p}"] = w[f"self_attn.linear_q.{p}"]
            state[f"layers.{i}.attend.key_value.{p}"] = torch.cat([w[f"self_attn.linear_{x}.{p}"] for x in "kv"])
            state[f"layers.{i}.attend.out.{p}"] = w[f"self_attn.linear.{p}"]
            for place, name in ((0, "layer_norm"), (1, "w_1"), (4, "w_2")):
                state[f"layers.{i}.feed_forward.{place}.{p}"] = w[f"feed_forward.{name}.{p}"]
            if i:
                state[f"layers.{i}.norm.{p}"] = w[f"layer_norm.{p}"]
    module.load_state_dict(state)
    return module


@pytest.mark.parametrize("published", ["mfcre", "sdt"])
def test_transformer_and_position_are_those_of_sdt(published):
    """MFCRE's edited copy adds no position and has the exact GELU; SDT adds position and speaker, and approximates."""
    fixture = load("sdt_encoder")
    module, keys = sdt_transformer(fixture), fixture["in/mask"].bool()[:, None, None]
    a, b = fixture["in/x_a"], fixture["in/x_b"]
    if published == "sdt":
        a, b = (x + sinusoid(x) + fixture["in/speaker_emb"] for x in (a, b))
        for layer in module.layers:
            layer.feed_forward[2] = nn.GELU(approximate="tanh")
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(module(b, a, keys), fixture[f"{published}/inter"], **close)
    intra = [module(x, None, keys) for x in (a, b)]
    assert any(torch.allclose(x, fixture[f"{published}/intra"], **close) for x in intra)


# --- the network ---------------------------------------------------------------------------------------------------


@MODALITIES
def test_outputs_have_their_declared_shapes(names):
    out = network(names)(dialogues())
    shapes = {key: tuple(value.shape) for key, value in out.items()}
    assert shapes == {"logits": (3, 7, 4), "embedding": (3, 7, 16), "fused": (3, 7, len(names), 16)}
    assert (
        network(names)
        .float()({k: v.float() if v.is_floating_point() else v for k, v in dialogues().items()})["logits"]
        .dtype
        == torch.float32
    )


@MODALITIES
@CHANGES
def test_padding_and_batch_mates_are_invisible(names, change):
    model, batch = network(names, **change), dialogues()
    together = model(batch)
    assert all(value.isfinite().all() for value in together.values())
    for index, length in enumerate(LENGTHS):
        for key, value in model(alone(batch, index)).items():
            torch.testing.assert_close(together[key][index, :length], value[0], **exact)


@pytest.mark.parametrize("change", [{}, {"fusion": "concat"}, {"perception": False}], ids=str)
def test_padding_is_visible_as_published(change):
    model, batch = network(mask_padding=False, **change), dialogues()
    short = model(alone(batch, 2))["logits"][0]
    assert not torch.allclose(model(batch)["logits"][2, : LENGTHS[2]], short, rtol=0.0, atol=1e-4)


@CHANGES
def test_every_parameter_receives_gradient(change):
    model = network(**change)
    out = model(dialogues())
    draw = torch.Generator().manual_seed(1)
    sum((x * torch.randn(x.shape, generator=draw)).sum() for x in out.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("change", [c for c in READINGS.values() if c], ids=[k for k in READINGS if k != "default"])
def test_every_reading_differs_from_the_default(change):
    default, other = network(), network(**change)
    same_parts = {k: v.shape for k, v in default.state_dict().items()} == {
        k: v.shape for k, v in other.state_dict().items()
    }
    if same_parts:
        other.load_state_dict(default.state_dict())
        assert not torch.allclose(default(dialogues())["logits"], other(dialogues())["logits"], rtol=0.0, atol=1e-5)


def test_three_modalities_have_nine_transformers_and_one_has_one():
    assert len(network().encoder.transformers) == 9
    assert len(network(merge="intra").encoder.transformers) == 3
    assert len(network(["audio"]).encoder.transformers) == 1


def test_a_modality_asks_and_the_others_answer():
    """Text's streams read audio, through attention only; the released code's merge lets nothing of audio through."""
    plain = {"names": ["text", "audio"], "context": "none", "fusion": "concat", "merge": "sum"}
    batch = dialogues()
    other = batch | {"audio": batch["audio"].flip(-1)}

    def change_of_text(model: Mfcre) -> float:
        with torch.no_grad():
            return float((model(batch)["fused"] - model(other)["fused"])[:, :, 0].abs().max())

    deaf = network(**plain)
    for layer in deaf.encoder.transformers["audio_to_text"].layers:
        for parameter in layer.attend.out.parameters():
            nn.init.zeros_(parameter)
    assert change_of_text(network(**plain)) > 1e-4
    assert change_of_text(deaf) == 0.0
    assert change_of_text(network(**plain | {"merge": "intra"})) == 0.0


def test_two_runs_are_the_same_to_the_last_bit():
    first, second = (network().train() for _ in range(2))
    losses = []
    for model in (first, second):
        torch.manual_seed(7)
        loss = model(dialogues())["logits"].square().sum()
        loss.backward()
        losses.append(loss)
    assert losses[0].equal(losses[1])
    assert all(a.grad.equal(b.grad) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("cell", ["mlstm", "slstm", "lstm", "vil"])
def test_bfloat16_autocast_stays_near(cell):
    model, batch = network(cell=cell).float(), dialogues()
    batch = {key: value.float() if value.is_floating_point() else value for key, value in batch.items()}
    full = model(batch)["logits"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)["logits"]
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "key", ["context", "cell", "attention", "simam_axis", "encoder", "merge", "position", "fusion"]
)
def test_an_unknown_reading_is_refused_with_the_known_ones(key):
    with pytest.raises(ValueError, match=f"{key} = 'typo' is unknown: choose one of {RECIPE[key]}|{RECIPE[key]}"):
        network(**{key: "typo"})
