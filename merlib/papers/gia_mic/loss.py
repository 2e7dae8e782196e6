"""GIA-MIC's objective (eqs. 14-16, 18-19): cross-entropy, and a divergence between invariant representations.

Shapes: b utterances, m modalities, l steps, d features, c classes. A label of -1 marks an utterance without a label.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.cross_entropy import labelled

VERSION = 1


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """Eqs. (14)-(15) of log-probabilities: (KL(P|Q) + KL(Q|P)) / 2 = sum (P - Q) (log P - log Q) / 2. ... d -> ..."""
    return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2


def by_position(x: Tensor, mask: Tensor) -> Tensor:
    """Each step is a distribution over its features; the mean over the real steps: b m l d -> b. mask: b 1 l."""
    real = mask.squeeze(1)  # b l
    if x.is_cuda:  # taking the real steps out would make the host wait for the GPU
        return (over_pairs(x.log_softmax(-1).unbind(1)) * real).sum(1) / real.sum(1)
    log_p = x.transpose(1, 2)[real].log_softmax(-1)  # b l m d -> real steps m d
    steps = torch.zeros_like(real, dtype=x.dtype)
    steps[real] = over_pairs(log_p.unbind(1))
    return steps.sum(1) / real.sum(1)


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real steps is one distribution over features: b m l d -> b."""
    mean = (x * mask.unsqueeze(-1)).sum(2) / mask.sum(-1, keepdim=True)  # b m d
    return over_pairs(mean.log_softmax(-1).unbind(1))


def all_entries(x: Tensor, mask: Tensor) -> Tensor:
    """All entries of all real steps are one distribution: b m l d -> b."""
    real = mask.unsqueeze(-1).expand_as(x).flatten(2)  # b m (l d)
    log_p = x.flatten(2).masked_fill(~real, -torch.inf).log_softmax(-1)
    return over_pairs(log_p.masked_fill(~real, 0.0).unbind(1))  # P = Q on padding adds nothing


def over_pairs(log_p: Sequence[Tensor]) -> Tensor:
    """Eq. (16): the sum over all pairs of modalities."""
    return torch.stack([symmetric_kl(p, q) for p, q in combinations(log_p, 2)]).sum(0)


REDUCTIONS = {"mean": ("mean", "mean"), "sum": ("sum", "sum"), "as_printed": ("sum", "mean")}  # of eqs. (18) and (16)
DISTRIBUTIONS: dict[str, Callable] = {"position": by_position, "pooled": pooled, "all_entries": all_entries}


class Invariant(nn.Module):
    """L_ER + gamma L_MIR (eq. 19): cross-entropy, and the divergence between the outputs of the generators.

    A network without generators ("w/o MIR") has cross-entropy alone. With gamma 0 ("w/o MIC") the divergence is still
    measured, but nothing learns from it. reduction, over the utterances: "mean" or "sum" of both; "as_printed", the sum
    of L_ER and the mean of L_MIR.
    """

    def __init__(self, *, gamma: float, distribution: str, reduction: str):
        super().__init__()
        self.gamma = gamma
        self.divergence = one_of(DISTRIBUTIONS, distribution, "option of loss.distribution")
        self.reduce = one_of(REDUCTIONS, reduction, "option of loss.reduction")

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` b c; with generators `invariant` b m l d, `invariant_mask` b 1 l; target: `label` b."""
        labelled(target["label"])
        entropy = F.cross_entropy(outputs["logits"], target["label"], ignore_index=-1, reduction=self.reduce[0])
        if "invariant" not in outputs:
            return {"loss": entropy, "cross_entropy": entropy}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.gamma > 0):
            divergences = self.divergence(outputs["invariant"], outputs["invariant_mask"])  # b
            divergence = divergences.mean() if self.reduce[1] == "mean" else divergences.sum()
        return {"loss": entropy + self.gamma * divergence, "cross_entropy": entropy, "divergence": divergence}
