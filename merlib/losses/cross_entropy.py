"""Cross-entropy, plain or weighted by class. Shapes: N utterances, c classes. A label of -1 is no label."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def positive(class_counts: Sequence[float] | Tensor) -> Tensor:
    """The counts as a tensor, c; ValueError where a class has none."""
    counts = torch.as_tensor(class_counts, dtype=torch.get_default_dtype())
    if (counts <= 0).any():
        raise ValueError(
            f"weights by class need every class in training, found counts {counts.tolist()}: merge classes"
        )
    return counts


def labelled(label: Tensor) -> Tensor:
    """Which utterances have a label, N; ValueError where none has."""
    known = label >= 0
    if not known.any():
        raise ValueError(f"a batch of {len(label)} utterances has no label to learn from: leave such dialogues out")
    return known


class CrossEntropy(nn.Module):
    """Cross-entropy of the labelled utterances, a mean weighted by class: "none", or "inverse" to the training counts.

    With weights w the mean is sum_i w_{y_i} cost_i / sum_i w_{y_i}, as in DialogueRNN's released code.
    """

    def __init__(self, *, class_counts: Sequence[float] | Tensor, class_weights: str):
        super().__init__()
        if class_weights not in ("none", "inverse"):
            raise ValueError(f"class weights {class_weights!r} are unknown: choose none or inverse")
        weights = F.normalize(1 / positive(class_counts), p=1.0, dim=0) if class_weights == "inverse" else None
        self.register_buffer("class_weights", weights)

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c; target: `label` N. Returns `loss`, and the same as `cross_entropy`."""
        label = target["label"]
        labelled(label)
        loss = F.cross_entropy(outputs["logits"], label, weight=self.class_weights, ignore_index=-1)
        return {"loss": loss, "cross_entropy": loss}
