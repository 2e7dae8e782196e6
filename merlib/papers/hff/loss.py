"""The loss of HFF (eq. 31), and what its readings add. Shapes: N utterances, c classes. A label of -1: no label."""

from collections.abc import Sequence

from torch import Tensor, nn

from merlib.layers.cross_entropy import TaskLoss

VERSION = 1


class HffLoss(nn.Module):
    """The loss of the class scores (eq. 31: cross-entropy), plus kl times the divergence per training utterance.

    class_counts, class_weights and binary: see `TaskLoss`. A network that returns no `kl` adds nothing.
    """

    def __init__(self, *, class_counts: Sequence[float] | Tensor, class_weights: str, kl: float, binary: str):
        super().__init__()
        self.task = TaskLoss(class_counts=class_counts, class_weights=class_weights, binary=binary)
        self.kl = kl / float(sum(class_counts))

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """target: `label` N and, on a sentiment corpus, `score` N. Returns `loss` and its parts, without weights."""
        parts = self.task(outputs, target)
        if "kl" not in outputs or not self.kl:
            return parts
        kl = outputs["kl"].mean()
        return parts | {"loss": parts["loss"] + self.kl * kl, "kl": kl}
