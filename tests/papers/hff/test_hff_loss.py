"""HFF's loss: cross-entropy of both tasks, absolute error of a score, and the divergence of Gaussian weights."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from merlib import registry


def loss_of(outputs: dict[str, Tensor], target: dict[str, Tensor], **change) -> dict[str, Tensor]:
    recipe = {"name": "hff", "class_weights": "none", "kl": 0.0, "binary": "nonnegative"} | change
    loss = registry.build(
        "loss", recipe, class_counts=torch.tensor([4.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]), dim=16, sentiment=True
    )
    return loss(outputs, target)


TARGET = {"label": torch.tensor([0, 3, 3, -1, 6]), "score": torch.tensor([-2.6, -0.2, 0.0, 0.0, 3.0]).double()}


def test_the_loss_is_the_cross_entropy_of_both_tasks():
    torch.manual_seed(0)
    seven, two = torch.randn(5, 7).double(), torch.randn(5, 2).double()
    loss = loss_of({"logits": seven, "logits_binary": two}, TARGET)["loss"]
    real = [0, 1, 2, 4]
    sevenfold = -sum(seven[i].log_softmax(0)[TARGET["label"][i]] for i in real) / 4
    twofold = -sum(two[i].log_softmax(0)[above] for i, above in zip(real, (0, 0, 1, 1), strict=True)) / 4
    assert_close(loss, sevenfold + twofold)
    positive = loss_of({"logits": seven, "logits_binary": two}, TARGET, binary="positive")["loss"] - sevenfold
    assert_close(positive, -sum(two[i].log_softmax(0)[a] for i, a in zip(real, (0, 0, 0, 1), strict=True)) / 4)
    assert_close(loss_of({"logits": seven}, TARGET)["loss"], sevenfold)
    excluded = loss_of({"logits": seven, "logits_binary": two}, TARGET, binary="excluded")["binary"]
    assert_close(excluded, -sum(two[i].log_softmax(0)[a] for i, a in zip((0, 1, 4), (0, 0, 1), strict=True)) / 3)
    zero = TARGET | {"score": torch.zeros(5).double()}
    assert loss_of({"logits": seven, "logits_binary": two}, zero, binary="excluded")["binary"] == 0


def test_a_score_costs_its_distance():
    loss = loss_of({"logits": torch.tensor([[-2.0], [0.0], [1.0], [9.0], [3.0]]).double()}, TARGET)["loss"]
    assert_close(loss, torch.tensor((0.6 + 0.2 + 1.0 + 0.0) / 4).double())


def test_the_divergence_counts_once_for_the_whole_training_set():
    outputs = {"logits": torch.randn(5, 7).double(), "kl": torch.full((5,), 24.0).double()}
    plain, weighed = loss_of(outputs, TARGET), loss_of(outputs, TARGET, kl=0.5)
    assert_close(weighed["loss"] - plain["loss"], torch.tensor(0.5 * 24 / 12).double())  # 12 training utterances
    assert "kl" not in plain and weighed["kl"] == 24


def test_an_unknown_pair_of_classes_is_refused():
    with pytest.raises(ValueError, match="there are: nonnegative, positive, excluded"):
        loss_of({}, TARGET, binary="zero")
