"""The parts of MFCRE against numbers from the modules that they come from."""

import pytest
import torch
from oracles import below, load
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.layers.attention import Rows, sinusoid
from merlib.papers.mfcre.dialoguecrn import DialogueCRN, PartyBiLstm, Reasoning, simam
from merlib.papers.mfcre.network import Gate, transformer

EXACT = {"rtol": 1e-10, "atol": 1e-10}
ORIGINAL = {"cell": {"name": "lstm"}, "attention": "softmax", "simam_axis": "channels"}  # DialogueCRN's own reasoning


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
        real = x[dialogue, :length]
        energy = (real - real.mean(0)).square() / (4 * (real.var(0) + 1e-4)) + 0.5
        torch.testing.assert_close(padded[dialogue, :length], real * energy.sigmoid(), **EXACT)
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
    module = Reasoning(dim=8, turns=3, **ORIGINAL).double()
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
    rows, queries = Rows(mask), F.pad(q0.unsqueeze(1), (0, 0, 0, max(lengths) - 1))  # one query, at the first utterance
    for module.turns in (1, 2, 3):
        out = rows.unpack(module(rows.pack(queries)[None], rows.pack(memory)[None], rows)[0])[:, 0]
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
        dim=12, speakers=q.shape[-1], turns=3, perception={"name": "bilstm", "layers": 2}, speaker_branch=True,
        mask_padding=False, dropout=0.0, **ORIGINAL,
    )  # fmt: skip
    for perceive, name in zip((crn.perceive[0].rnn, crn.perceive[1]), ("rnn_parties", "rnn"), strict=True):
        perceive.rnn = nn.LSTM(10, 6, 2, batch_first=True, bidirectional=True)
        perceive.rnn.load_state_dict(below(fixture, f"case{case}/w/{name}."))
    crn.query.load_state_dict(below(fixture, f"case{case}/w/cognition_net.fc."))
    for place, steps, reason in zip((0, 1), turns, reversed(crn.reason), strict=True):  # theirs starts with situation
        reason.turns = steps
        state = lstm_cell(fixture, f"case{case}/w/cognition_net.reason_modules.{place}.lstm.")
        reason.load_state_dict(state or reason.state_dict())
    hidden = crn.double()(x, mask, q.argmax(-1)).relu()
    classifier = below(fixture, f"case{case}/w/cognition_net.smax_fc.")
    scores = F.linear(hidden, classifier["weight"], classifier["bias"]).log_softmax(-1)[mask]
    torch.testing.assert_close(scores, fixture[f"case{case}/out/log_prob"], rtol=1e-4, atol=2e-5)


def test_each_party_is_perceived_as_a_dialogue_of_its_own():
    crn = DialogueCRN(
        dim=16, speakers=3, turns=1, perception={"name": "none", "layers": 1}, speaker_branch=True, mask_padding=True,
        dropout=0.0, **ORIGINAL,
    )  # fmt: skip
    parties: PartyBiLstm = crn.perceive[0].double()
    x, mask = torch.randn(2, 9, 16).double(), torch.arange(9) < torch.tensor([[9], [6]])
    speaker = torch.randint(3, (2, 9)) * mask
    y = parties(x, mask, speaker)
    for dialogue in range(2):
        for party in range(3):
            own = mask[dialogue] & (speaker[dialogue] == party)
            sequence = x[dialogue, own].unsqueeze(0)
            if len(sequence[0]):
                torch.testing.assert_close(y[dialogue, own], parties.rnn.rnn(sequence)[0][0], **EXACT)


def sdt_transformer(fixture: dict[str, Tensor]) -> nn.ModuleList:
    module = transformer(layers=2, dim=16, heads=4, ff=20).double()
    state = {}
    for i in range(2):
        w = below(fixture, f"sdt/w/transformer_inter.{i}.")
        for p in ("weight", "bias"):
            state[f"{i}.attend.query.{p}"] = w[f"self_attn.linear_q.{p}"]
            state[f"{i}.attend.key_value.{p}"] = torch.cat([w[f"self_attn.linear_{x}.{p}"] for x in "kv"])
            state[f"{i}.attend.out.{p}"] = w[f"self_attn.linear.{p}"]
            for place, name in (("up.0", "layer_norm"), ("up.1", "w_1"), ("down", "w_2")):
                state[f"{i}.{place}.{p}"] = w[f"feed_forward.{name}.{p}"]
            if i:
                state[f"{i}.norm.{p}"] = w[f"layer_norm.{p}"]
    module.load_state_dict(state)
    return module


@pytest.mark.parametrize("published", ["mfcre", "sdt"])
def test_transformer_and_position_are_those_of_sdt(published):
    """MFCRE's edited copy adds no position and has the exact GELU; SDT adds position and speaker, and approximates."""
    fixture = load("sdt_encoder")
    layers, keys = sdt_transformer(fixture), fixture["in/mask"].bool()
    a, b = fixture["in/x_a"], fixture["in/x_b"]
    if published == "sdt":
        a, b = (x + sinusoid(x) + fixture["in/speaker_emb"] for x in (a, b))
        for layer in layers:
            layer.up[2] = nn.GELU(approximate="tanh")
    rows = Rows(torch.ones_like(keys), keys=keys)  # padding asks, but is never asked

    def transformed(x: Tensor, source: Tensor, own: bool) -> Tensor:
        x, source = (rows.pack(y).unsqueeze(0) for y in (x, source))
        for layer in layers:
            x = layer(x, source, torch.tensor(own), rows)
        return rows.unpack(x[0])

    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(transformed(b, a, own=False), fixture[f"{published}/inter"], **close)
    intra = [transformed(x, x, own=True) for x in (a, b)]
    assert any(torch.allclose(x, fixture[f"{published}/intra"], **close) for x in intra)
