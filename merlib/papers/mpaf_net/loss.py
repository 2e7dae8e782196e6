"""Focal loss with class weights (MPAF-Net, eq. 8).

Shapes: N utterances, c classes. A label of -1 marks an utterance without a label.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.layers.cross_entropy import labelled, positive

VERSION = 1

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {  # of the training counts n_c, c
    "balanced": lambda n: n.sum() / (len(n) * n),  # N / (C n_c): its mean over the training set is 1
    "sum_one": lambda n: (1 / n) / (1 / n).sum(),
    "inverse_count": lambda n: 1 / n,
    "none": torch.ones_like,
}
REDUCTIONS = {"mean": torch.mean, "sum": torch.sum}


class Focal(nn.Module):
    """-alpha_y (1 - p_y)^gamma log p_y (eq. 8), the mean or the sum over the labelled utterances.

    With gamma 0 and equal weights this is cross-entropy. The mean divides by N, and not by the sum of the weights, as
    PyTorch's weighted cross-entropy does: the scale of the weights is the scale of the loss.
    """

    def __init__(self, *, class_counts: Sequence[float] | Tensor, class_weights: str, gamma: float, reduction: str):
        super().__init__()
        if class_weights not in WEIGHTS or reduction not in REDUCTIONS or gamma < 0:
            raise RequestError(
                f"focal loss: class_weights {class_weights!r} of {', '.join(WEIGHTS)}; reduction {reduction!r} of "
                f"{', '.join(REDUCTIONS)}; gamma {gamma}, which must be 0 or more"
            )
        self.register_buffer("class_weights", WEIGHTS[class_weights](positive(class_counts)))
        self.gamma, self.reduce = gamma, REDUCTIONS[reduction]

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c; target: `label` N. Returns `loss`, and the same as `focal`."""
        known = labelled(target["label"])
        label = target["label"][known]
        log_p = -F.cross_entropy(outputs["logits"][known], label, reduction="none")  # N c -> N
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)  # 1 - p, exact where p is near 0 or 1
        loss = self.reduce(-self.class_weights[label] * rest**self.gamma * log_p)
        return {"loss": loss, "focal": loss}
