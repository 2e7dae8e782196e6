"""Cross-entropy, plain or weighted by class, and the further losses of a sentiment corpus.

Shapes: N utterances, c classes. A label of -1 means no label.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.data.official import ABOVE
from merlib.errors import RequestError, one_of

VERSION = 1


def positive(class_counts: Sequence[float] | Tensor) -> Tensor:
    """The class counts as a tensor, c. Raises RequestError if a class has no utterance."""
    counts = torch.as_tensor(class_counts, dtype=torch.get_default_dtype())
    if (counts <= 0).any():
        raise RequestError(
            f"class weights need every class in the training set; its counts are {counts.tolist()}: merge classes"
        )
    return counts


def labelled(label: Tensor) -> Tensor:
    """Which utterances have a label, N. Raises RequestError if none has.

    A GPU is not asked, since the host would wait for it: a mean over no label is no number, and the loop refuses that.
    """
    known = label >= 0
    if not known.is_cuda and not known.any():
        raise RequestError(f"a batch of {len(label)} utterances has no label to learn from: leave such dialogues out")
    return known


class CrossEntropy(nn.Module):
    """Mean cross-entropy of the labelled utterances, with class_weights "none" or "inverse" to the training counts.

    With weights w the mean is sum_i w_{y_i} loss_i / sum_i w_{y_i}, as in DialogueRNN's released code.
    """

    def __init__(self, *, class_counts: Sequence[float] | Tensor, class_weights: str):
        super().__init__()
        one_of(("none", "inverse"), class_weights, "option of loss.class_weights")
        weights = F.normalize(1 / positive(class_counts), p=1.0, dim=0) if class_weights == "inverse" else None
        self.register_buffer("class_weights", weights)

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c; target: `label` N. Returns `loss`, and the same as `cross_entropy`."""
        label = target["label"]
        labelled(label)
        loss = F.cross_entropy(outputs["logits"], label, weight=self.class_weights, ignore_index=-1)
        return {"loss": loss, "cross_entropy": loss}


class TaskLoss(nn.Module):
    """The loss of a network's predictions: classes, a sentiment score, and the binary task of a sentiment corpus.

    Which parts there are follows from the outputs: `logits` N c have a cross-entropy, `logits` N 1 are scores with a
    mean absolute error, and `logits_binary` N 2 add a cross-entropy of two classes. binary: the second of these is
    "nonnegative" or "positive" scores; with "excluded" it is positive ones, and scores of zero do not count.
    class_counts: labels of each class in the training set, c; class_weights ("none" or "inverse") are for the c classes
    only.
    """

    def __init__(self, *, class_counts: Sequence[float] | Tensor, class_weights: str, binary: str):
        super().__init__()
        self.above = one_of(ABOVE, binary, "option of loss.binary")
        self.classify = CrossEntropy(class_counts=class_counts, class_weights=class_weights)
        self.binary = binary

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """target: `label` N and, on a sentiment corpus, `score` N. Returns `loss`, the sum of the other parts."""
        known = labelled(target["label"])
        parts = {}
        if outputs["logits"].shape[-1] == 1:
            parts["absolute_error"] = F.l1_loss(outputs["logits"][known, 0], target["score"][known])
        else:
            parts["cross_entropy"] = self.classify(outputs, target)["loss"]
        if "logits_binary" in outputs:
            counted = known & (target["score"] != 0) if self.binary == "excluded" else known
            above = self.above(target["score"][counted]).long()
            entropy = F.cross_entropy(outputs["logits_binary"][counted], above, reduction="sum")
            parts["binary"] = entropy / counted.sum().clamp(min=1)
        return {"loss": sum(parts.values()), **parts}
