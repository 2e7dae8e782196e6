"""The loss of HFF (eq. 31), with what its readings add. Shapes: N utterances, c classes. A label of -1 is no label."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from merlib.corpora.official import ABOVE
from merlib.losses.cross_entropy import CrossEntropy, labelled


class HffLoss(nn.Module):
    """Cross-entropy (eq. 31), plus that of the binary task, plus `kl` times the divergence per training utterance.

    Outputs decide what there is: `logits_binary` N 2 has a cross-entropy of its own (binary: what its second class is,
    "nonnegative" or "positive" scores; "excluded": positive ones, and those of zero do not count), `kl` a divergence,
    and `logits` N 1 are a score, whose cost is the mean absolute error. class_counts: labels of the training set, c;
    class_weights: "none" or "inverse", of the c classes only.
    """

    def __init__(self, *, class_counts: Sequence[float] | Tensor, class_weights: str, kl: float, binary: str):
        super().__init__()
        if binary not in ABOVE:
            raise ValueError(f"binary {binary!r} is unknown: choose one of {', '.join(ABOVE)}")
        self.classify = CrossEntropy(class_counts=class_counts, class_weights=class_weights)
        self.kl, self.binary = kl / float(sum(class_counts)), binary

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """target: `label` N and, on a sentiment corpus, `score` N. Returns `loss` and every part of it, unweighted."""
        known = labelled(target["label"])
        parts = {}
        if outputs["logits"].shape[-1] == 1:
            parts["absolute_error"] = F.l1_loss(outputs["logits"][known, 0], target["score"][known])
        else:
            parts["cross_entropy"] = self.classify(outputs, target)["loss"]
        if "logits_binary" in outputs:
            counted = known & (target["score"] != 0) if self.binary == "excluded" else known
            above = ABOVE[self.binary](target["score"][counted]).long()
            entropy = F.cross_entropy(outputs["logits_binary"][counted], above, reduction="sum")
            parts["binary"] = entropy / counted.sum().clamp(min=1)
        loss = sum(parts.values())
        if "kl" in outputs and self.kl:
            parts["kl"] = outputs["kl"].mean()
            loss = loss + self.kl * parts["kl"]
        return {"loss": loss, **parts}
