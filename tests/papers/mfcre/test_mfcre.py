"""The network of MFCRE: padding is invisible, every parameter learns, every reading makes a difference."""

import pytest
import torch
from building import alone, changed, network_of, recipe_of
from torch import Tensor, nn

from merlib.papers.mfcre.network import Mfcre

WIDTHS = {"text": 7, "audio": 5, "visual": 6}
LENGTHS = [7, 1, 4]  # utterances of the three dialogues of a batch
SMALL = {
    "dim": 16, "context.cell.heads": 2, "encoder.heads": 2, "encoder.ff": 8, "fusion.layers": 2, "fusion.heads": 2,
    "fusion.ff": 8, "head.hidden": 8,
}  # fmt: skip
READINGS = {
    "default": {},
    "no context": {"context.name": "none"},
    "text without context": {"text_context": False},
    "slstm": {"context.cell.name": "slstm"},
    "lstm": {"context.cell.name": "lstm"},
    "vil": {"context.cell.name": "vil"},
    "one turn": {"context.turns": 1},
    "two turns": {"context.turns": 2},
    "simam gate": {"context.attention": "simam_gate"},
    "simam sum": {"context.attention": "simam_sum"},
    "softmax alone": {"context.attention": "softmax"},
    "no attention": {"context.attention": "none"},
    "simam over utterances": {"context.simam_axis": "utterances"},
    "no perception": {"context.perception.name": "none"},
    "speakers": {"context.speaker_branch": True},
    "speakers, no perception": {"context.speaker_branch": True, "context.perception.name": "none"},
    "no encoder": {"encoder.name": "none"},
    "gated merge": {"encoder.merge": "gate"},
    "summed merge": {"encoder.merge": "sum"},
    "intra only": {"encoder.merge": "intra"},
    "no position": {"encoder.position": "none"},
    "no fusion": {"fusion.name": "normalised"},
    "no fusion, no norm": {"fusion.name": "concat"},
}
CHANGES = pytest.mark.parametrize("change", READINGS.values(), ids=READINGS)
MODALITIES = pytest.mark.parametrize("names", [["text"], ["text", "visual"], list(WIDTHS)], ids="+".join)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def network(names=tuple(WIDTHS), change=None) -> Mfcre:
    section = changed(recipe_of("mfcre/table4/ours")["model"], SMALL | (change or {}))
    return network_of(section, dims={name: WIDTHS[name] for name in names}, classes=4, speakers=3)


def dialogues(lengths=LENGTHS, *, seed: int = 0) -> dict[str, Tensor]:
    """A padded batch in float64, with three parties."""
    draw = torch.Generator().manual_seed(seed)
    b, n = len(lengths), max(lengths)
    mask = torch.arange(n) < torch.tensor(lengths).unsqueeze(1)
    batch = {m: torch.randn(b, n, d, generator=draw).double() * mask.unsqueeze(-1) for m, d in WIDTHS.items()}
    return batch | {"mask": mask, "speaker": torch.randint(3, (b, n), generator=draw) * mask}


def single_precision(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.float() if value.is_floating_point() else value for key, value in batch.items()}


@MODALITIES
def test_outputs_have_their_declared_shapes(names):
    out = network(names)(dialogues())
    shapes = {key: tuple(value.shape) for key, value in out.items()}
    assert shapes == {"logits": (3, 7, 4), "embedding": (3, 7, 16), "fused": (3, 7, len(names), 16)}
    assert network(names).float()(single_precision(dialogues()))["logits"].dtype == torch.float32


@MODALITIES
@CHANGES
def test_padding_and_batch_mates_are_invisible(names, change):
    model, batch = network(names, change), dialogues()
    together = model(batch)
    assert all(value.isfinite().all() for value in together.values())
    for index, length in enumerate(LENGTHS):
        for key, value in model(alone(batch, index)).items():
            torch.testing.assert_close(together[key][index, :length], value[0], **EXACT)


@pytest.mark.parametrize("change", [{}, {"fusion.name": "concat"}, {"context.perception.name": "none"}], ids=str)
def test_padding_is_visible_as_published(change):
    model, batch = network(change={"mask_padding": False} | change), dialogues()
    short = model(alone(batch, 2))["logits"][0]
    assert not torch.allclose(model(batch)["logits"][2, : LENGTHS[2]], short, rtol=0.0, atol=1e-4)


@CHANGES
def test_every_parameter_receives_gradient(change):
    model = network(change=change)
    out = model(dialogues())
    draw = torch.Generator().manual_seed(1)
    sum((x * torch.randn(x.shape, generator=draw)).sum() for x in out.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("change", [c for c in READINGS.values() if c], ids=[k for k in READINGS if k != "default"])
def test_every_reading_differs_from_the_default(change):
    default, other = network(), network(change=change)
    same_parts = {k: v.shape for k, v in default.state_dict().items()} == {
        k: v.shape for k, v in other.state_dict().items()
    }
    if same_parts:
        other.load_state_dict(default.state_dict())
        assert not torch.allclose(default(dialogues())["logits"], other(dialogues())["logits"], rtol=0.0, atol=1e-5)


def test_three_modalities_have_nine_transformers_and_one_has_one():
    assert len(network().encoder.transformers) == 9
    assert len(network(change={"encoder.merge": "intra"}).encoder.transformers) == 3
    assert len(network(["audio"]).encoder.transformers) == 1


def test_modalities_reach_each_other_through_attention_only():
    """Audio reaches text only through attention, and not at all through the released code's merge."""
    names, plain = ["text", "audio"], {"context.name": "none", "fusion.name": "concat", "encoder.merge": "sum"}
    batch = dialogues()
    other = batch | {"audio": batch["audio"].flip(-1)}

    def change_of_text(model: Mfcre) -> float:
        with torch.no_grad():
            return float((model(batch)["fused"] - model(other)["fused"])[:, :, 0].abs().max())

    without_attention = network(names, plain)
    for layer in without_attention.encoder.transformers["audio_to_text"]:
        for parameter in layer.attend.out.parameters():
            nn.init.zeros_(parameter)
    assert change_of_text(network(names, plain)) > 1e-4
    assert change_of_text(without_attention) == 0.0
    assert change_of_text(network(names, plain | {"encoder.merge": "intra"})) == 0.0


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
    model, batch = network(change={"context.cell.name": cell}).float(), single_precision(dialogues())
    full = model(batch)["logits"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)["logits"]
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("leaf", "default"),
    {
        "context.name": "dialoguecrn", "context.cell.name": "mlstm", "context.attention": "softmax_simam",
        "context.simam_axis": "channels", "context.perception.name": "bilstm", "encoder.name": "transformers",
        "encoder.merge": "concat", "encoder.position": "sinusoid", "fusion.name": "multiattn",
    }.items(),
)  # fmt: skip
def test_an_unknown_reading_is_refused_with_the_known_ones(leaf, default):
    with pytest.raises(ValueError, match=f"'typo' is no .*model.{leaf}; there are: .*{default}"):
        network(change={leaf: "typo"})
