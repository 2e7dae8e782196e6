"""Cross-entropy: the weighted mean of DialogueRNN's released code, and what is refused."""

import pytest
import torch
from oracles import load
from torch.testing import assert_close

from merlib import registry


def test_inverse_class_weights_give_dialoguernns_weighted_mean():
    arrays = {k.removeprefix("loss/"): v for k, v in load("dialoguernn").items() if k.startswith("loss/")}
    mask = arrays["umask"].bool().flatten()
    outputs, label = {"logits": arrays["log_prob_bl"][mask]}, arrays["labels"].flatten()[mask]
    for class_weights, expected in (("inverse", "masked_nll_weighted"), ("none", "masked_nll")):
        recipe = {"name": "cross_entropy", "class_weights": class_weights}
        loss = registry.build("loss", recipe, class_counts=1 / arrays["weights"]).double()  # the weights are 1 / share
        assert_close(loss(outputs, {"label": label})["loss"], arrays[expected], rtol=1e-5, atol=1e-6)


def test_a_batch_without_labels_is_refused():
    loss = registry.build("loss", {"name": "cross_entropy", "class_weights": "none"}, class_counts=[3, 3, 3])
    with pytest.raises(ValueError, match="no label"):
        loss({"logits": torch.randn(4, 3)}, {"label": torch.full((4,), -1)})


def test_unknown_class_weights_are_refused():
    with pytest.raises(ValueError, match="there are: none, inverse"):
        registry.build("loss", {"name": "cross_entropy", "class_weights": "both"}, class_counts=[3, 3])
