"""EfficientFace: its values against those of the published code, and what loading refuses."""

import math
from functools import cache

import pytest
import torch
from oracles import load, meta
from torch import Tensor

from merlib.pretrained.efficientface import EfficientFace, load_weights

SINGLE = {"rtol": 1e-4, "atol": 2e-5}  # the oracle ran in float32


def by_formula(k: int, shape: list[int], *, offset: float, scale: float) -> Tensor:
    """Tensor k of a fixture that stores none: a sine over the flat index."""
    i = torch.arange(math.prod(shape), dtype=torch.double)
    return (offset + scale * (0.731 * (k + 1) + 1.2345 * i + 0.0173 * (i % 97) ** 2).sin()).float().view(shape)


def published() -> dict[str, Tensor]:
    """The state dict of the published network, in its own names, with the oracle's weights."""
    return dict(_published())


@cache
def _published() -> dict[str, Tensor]:
    state = {}
    for entry in meta("efficientface")["table"]:
        values = by_formula(entry["index"], entry["shape"], offset=entry["offset"], scale=entry["scale"])
        state[entry["key"]] = values.long() if entry["rule"] == "zero" else values
    return state


def images() -> Tensor:
    """The oracle's input, its tensor number 2."""
    return by_formula(1002, [2, 3, 224, 224], offset=0.5, scale=0.5)


@pytest.fixture
def saved(tmp_path):
    """A function that saves a state dict as it is published, and gives the path."""

    def save(state: dict) -> str:
        torch.save(
            {"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "weights.pth.tar"
        )
        return str(tmp_path / "weights.pth.tar")

    return save


def test_it_gives_the_published_values(saved):
    network, fixture = EfficientFace(classes=7), load("efficientface")
    load_weights(network, saved(published()))
    assert sum(p.numel() for p in network.parameters()) == meta("efficientface")["n_params"]
    network.eval()
    with torch.no_grad():
        first = network.maxpool(network.conv1(images()))
        stage2 = network.stage2(first)
        found = {"stage2": stage2, "modulated": network.modulator(stage2), "local": network.local(first)}
        for name, value in found.items():
            torch.testing.assert_close(value.mean((2, 3)).double(), fixture[f"mid/{name}_mean"], **SINGLE)
        torch.testing.assert_close(network(images()).double(), fixture["out/logits"], **SINGLE)


def test_as_an_encoder_it_leaves_the_published_classifier_out(saved):
    state = published()
    encoder, classifier = EfficientFace(classes=None).eval(), EfficientFace(classes=7).eval()
    for network in (encoder, classifier):
        load_weights(network, saved(state))
    with torch.no_grad():
        seen = encoder(images()[:, :, ::7, ::7])  # 32 x 32
        torch.testing.assert_close(classifier.fc(seen), classifier(images()[:, :, ::7, ::7]))
    assert seen.shape == (2, EfficientFace.width)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("stage3.0.branch1.0.weight"), r"this: 1 missing \(stage3.0.branch1.0.weight\). Name"),
        (lambda s: s.update({"stage9.weight": torch.ones(1)}), r"this: 1 unexpected \(stage9.weight\). Name"),
        (
            lambda s: s.update({"conv5.0.weight": torch.ones(2, 464, 1, 1)}),
            r"this: 1 of another shape \(conv5.0.weight \(2, 464, 1, 1\)\)",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_weights_that_do_not_fit_are_named(saved, change, says):
    state = published()
    change(state)
    with pytest.raises(ValueError, match=says):
        load_weights(EfficientFace(classes=None), saved(state))


def test_a_name_is_looked_up_below_the_data_folder(data_folder):
    with pytest.raises(
        ValueError, match="weights/nowhere.tar is not there: get these weights from zengqunzhao/EfficientFace"
    ):
        load_weights(EfficientFace(classes=None), "nowhere.tar")
    (data_folder / "weights").mkdir(parents=True)
    torch.save(published(), data_folder / "weights" / "some.tar")
    network = EfficientFace(classes=None)
    load_weights(network, "some.tar")
    torch.testing.assert_close(network.conv1[0].weight, published()["conv1.0.weight"])


class Meter:
    """Something of a training script that a checkpoint may hold."""


def test_a_file_with_code_is_not_read(tmp_path):
    torch.save({"state_dict": published(), "meter": Meter()}, tmp_path / "weights.pth.tar")
    with pytest.raises(ValueError, match="more than tensors"):
        load_weights(EfficientFace(classes=None), str(tmp_path / "weights.pth.tar"))


def test_images_must_be_squares_that_halve_five_times():
    for shape in ((1, 3, 64, 32), (1, 3, 48, 48)):
        with pytest.raises(ValueError, match="multiple of 32"):
            EfficientFace(classes=None)(torch.zeros(shape))


def test_every_parameter_receives_gradient():
    torch.manual_seed(0)
    network = EfficientFace(classes=3).double().eval()
    network(torch.rand(3, 3, 64, 64).double()).square().sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() < 1e-12]
