"""What every baseline promises: invisible padding, gradients everywhere, repeatable training, helpful refusals."""

import pytest
import torch
from building import alone, changed
from small_networks import (
    CLASSES,
    COGMEN,
    DIALOGUES,
    EMO,
    FUSION,
    GCN,
    LENGTHS,
    NETWORKS,
    PARTIES,
    RNN,
    SPEAKERS,
    WIDTHS,
    batch_of,
    network_of,
)  # fmt: skip
from torch.testing import assert_close

from merlib import registry
from merlib.baselines.dialoguegcn import relations, window_edges
from merlib.errors import DeclarationError
from merlib.training.prediction import autocast, has_bf16

EXACT = {"rtol": 1e-9, "atol": 1e-9}
CASES = [
    (network, names)
    for network in NETWORKS
    for names in (("text",), ("audio", "visual"), ("text", "audio"), tuple(WIDTHS))
    if network != "iccn" or "text" in names and len(names) > 1
]
EVERY = pytest.mark.parametrize(("network", "names"), CASES, ids=lambda x: x if isinstance(x, str) else "+".join(x))


@EVERY
def test_padding_and_batch_mates_are_invisible(network, names):
    net, batch = network_of(network, names), batch_of(network, names)
    together = net(batch)
    assert all(value.isfinite().all() for value in together.values())
    shape = batch["mask"].shape if network in DIALOGUES else (len(LENGTHS),)
    assert together["logits"].shape == (*shape, CLASSES)
    assert together["embedding"].shape[:-1] == shape
    assert ("fused" in together) == network.startswith("multiemo")
    for i, length in enumerate(LENGTHS):
        for name, value in net(alone(batch, i)).items():
            assert_close(value[0], together[name][i, :length] if network in DIALOGUES else together[name][i], **EXACT)


@EVERY
def test_every_parameter_receives_gradient(network, names):
    """From the scores, and from what the loss of MFM reads beside them."""
    net, batch = network_of(network, names), batch_of(network, names)
    outputs = {k: v for k, v in net(batch).items() if k.startswith(("logits", "code", "reconstruction"))}
    real = {name: value[batch["mask"]] if network in DIALOGUES else value for name, value in outputs.items()}
    sum((value**3).sum() for value in real.values()).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12]


@pytest.mark.parametrize("network", FUSION)
def test_one_vector_per_utterance_is_enough(network):
    net, batch = network_of(network), batch_of(network)
    first = {name: value[:, :1] for name, value in batch.items()}
    assert_close(net(first)["logits"][0], net(alone(first, 0))["logits"][0], **EXACT)
    net.train()
    one = {name: value[:1] for name, value in first.items()}
    assert net(one)["logits"].isfinite().all()  # a last batch of one utterance has no variance


@pytest.mark.parametrize("network", FUSION)
def test_on_sentiment_there_are_two_heads_or_one_score(network):
    outputs = network_of(network, sentiment=True)(batch_of(network))
    assert outputs["logits"].shape == (len(LENGTHS), 1 if network == "pooled_mlp" else 7)
    assert ("logits_binary" in outputs) == (network != "pooled_mlp")
    if "logits_binary" in outputs:
        assert outputs["logits_binary"].shape == (len(LENGTHS), 2)


@pytest.mark.parametrize("network", NETWORKS)
def test_training_is_repeatable(network):
    net, batch = as_trained(network)
    outputs = []
    for _ in range(2):
        torch.manual_seed(2)
        outputs.append(net(batch)["logits"])
    assert torch.equal(*outputs)


@pytest.mark.skipif(not has_bf16("cpu"), reason="this processor does not compute in bf16, and runs are in float32")
@pytest.mark.parametrize("network", NETWORKS)
def test_half_precision_stays_close(network):
    net, batch = as_trained(network)
    net.eval()
    with autocast("cpu", "bf16"):
        half = net(batch)["logits"]
    assert_close(half.float(), net(batch)["logits"], rtol=0.1, atol=0.1)


def as_trained(network):
    """The network in float32 and in training, and a batch of that precision."""
    batch = batch_of(network)
    batch = {name: value.float() if value.is_floating_point() else value for name, value in batch.items()}
    return network_of(network).float().train(), batch


@pytest.mark.parametrize("network", SPEAKERS)
def test_who_speaks_matters(network):
    net, batch = network_of(network), batch_of(network)
    other = batch | {"speaker": batch["speaker"].roll(1, dims=1) * batch["mask"]}
    assert (net(batch)["logits"] - net(other)["logits"])[0].abs().max() > 1e-6


def test_one_direction_does_not_see_the_future():
    context = network_of("multiemo, as on meld").context.rnn
    batch = batch_of("multiemo", ("audio",))
    x = torch.randn(2, *batch["mask"].shape, 8, dtype=torch.double, requires_grad=True)
    context(x, batch["speaker"], batch["mask"])[:, 0, 2].sum().backward()
    assert x.grad[:, 0, :3].abs().amax(dim=(0, 2)).min() > 1e-12
    assert not x.grad[:, 0, 3:].any()
    assert not x.grad[:, 1:].any()


def test_the_window_ends_the_view():
    """Sender i reaches i - past to i + future, and weighs within that; two convolutions, so two such steps."""
    net = network_of("dialoguegcn", ("text",)).graph
    net.window = {"past": 0, "future": 1}
    x = torch.randn(1, 6, 8, dtype=torch.double, requires_grad=True)
    net(x, torch.zeros(1, 6, dtype=torch.long), torch.ones(1, 6, dtype=torch.bool))[0, 3].sum().backward()
    seen = x.grad[0].abs().amax(-1) > 1e-12
    assert seen.tolist() == [False, True, True, True, True, False]  # 4: in the weight that 3 gives to itself


@pytest.mark.parametrize("convolution", ["relate", "attend"])
def test_cogmens_convolutions_read_the_senders_only(convolution):
    net, batch = network_of("cogmen"), batch_of("cogmen")
    edges = window_edges(batch["mask"], past=2, future=0)[:1, :5, :5]
    kind = (relations(batch["speaker"], parties=PARTIES)[:1, :5, :5],) if convolution == "relate" else ()
    x = torch.randn(1, 5, COGMEN["dim"], dtype=torch.double, requires_grad=True)
    for j, received in enumerate(getattr(net, convolution)(x, edges, *kind)[0]):
        (gradient,) = torch.autograd.grad(received.sum(), x, retain_graph=True)
        assert torch.equal(gradient[0].abs().amax(-1) > 1e-12, edges[0, :, j])


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (EMO, {"context.directions": 1, "context.emotion_dim": 4}, "set it to dim = 8"),
        (EMO, {"context.name": "lstm"}, "'lstm' is no model.context.name; there are: dialoguernn, none"),
        (RNN, {"context.attention.name": "dot"}, "attention.name; there are: simple, general, concat"),
        (GCN, {"context.name": "rnn"}, "'rnn' is no model.context.name; there are: lstm, gru, dialoguernn"),
        (COGMEN, {"context_heads": 4}, "4 heads do not divide .* 15: set context_heads = 0"),
        (FUSION["mfm"], {"codes.labels": 4}, r"model.codes has no labels"),
    ],
)
def test_impossible_networks_are_refused(section, change, message):
    given = {"dims": WIDTHS, "classes": CLASSES, "speakers": PARTIES, "sentiment": False}
    with pytest.raises(DeclarationError, match=message):
        registry.build("model", changed(section, change), **given)


def test_impossible_modalities_and_batches_are_refused():
    with pytest.raises(DeclarationError, match="choose TA, TV or TAV"):
        network_of("iccn", ("audio", "visual"))
    longer = {name: x[:, [*range(6), 5, 5, 5]] for name, x in batch_of("cogmen").items()}
    with pytest.raises(ValueError, match="set graph.positions = 9"):
        network_of("dialoguegcn")(longer)
    batch = batch_of("mfn")
    with pytest.raises(ValueError, match="aligned to the words, or one vector per utterance"):
        network_of("mfn")(batch | {"audio_mask": batch["audio_mask"].roll(1, dims=0)})
