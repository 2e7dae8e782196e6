"""The loss of ATTSF-Net (eq. 18): the task, the auxiliary tasks, and the divergence of the branches from the token.

Shapes: N utterances of a batch, d = dim, c classes (1 where the target is a score). A label of -1 means none; `share`
(N) is what an utterance counts in a mean over those that have one.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of
from merlib.layers.cross_entropy import labelled

VERSION = 2


def symmetric_kl(mean_p: Tensor, var_p: Tensor, mean_q: Tensor, var_q: Tensor) -> Tensor:
    """D(P || Q) + D(Q || P) of normal distributions, entry by entry (eqs. 15-16); their logarithms cancel."""
    distance = (mean_p - mean_q).square()
    return ((var_p + distance) / var_q + (var_q + distance) / var_p) / 2 - 1


def batch(p: Tensor, q: Tensor, share: Tensor, *, eps: float) -> Tensor:
    """Mean and variance of each dimension over the batch (eq. 14); 0 for a single utterance, which has no variance."""
    moments = []
    for x in (p, q):
        mean = share @ x  # N, N d -> d
        moments += [mean, share @ (x - mean).square() + eps]
    return symmetric_kl(*moments).mean() * (share.max() < 1)


def sample(p: Tensor, q: Tensor, share: Tensor, *, eps: float) -> Tensor:
    """One mean and one variance for each utterance, over its d entries; a mean over utterances."""
    return share @ symmetric_kl(*(m for x in (p, q) for m in (x.mean(1), x.var(1, unbiased=False) + eps)))


def softmax(p: Tensor, q: Tensor, share: Tensor) -> Tensor:
    """The d entries as logits of a categorical distribution; a mean over utterances."""
    log_p, log_q = p.log_softmax(1), q.log_softmax(1)
    return share @ ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1)


class Learned(nn.Module):
    """A linear map of each vector to the means and log-variances of d dimensions, as in a VAE; the same map for all."""

    def __init__(self, *, dim: int, eps: float):
        super().__init__()
        self.eps, self.moments = eps, nn.Linear(dim, 2 * dim)

    def forward(self, p: Tensor, q: Tensor, share: Tensor) -> Tensor:
        moments = []
        for x in (p, q):
            mean, log_var = self.moments(x).chunk(2, dim=1)
            moments += [mean, log_var.exp() + self.eps]
        return share @ symmetric_kl(*moments).mean(1)


SIMILARITIES = {  # of branch and token, N d each, and the share of each utterance, N -> a scalar
    "batch": lambda dim, eps: partial(batch, eps=eps),
    "sample": lambda dim, eps: partial(sample, eps=eps),
    "softmax": lambda dim, eps: softmax,
    "learned": lambda dim, eps: Learned(dim=dim, eps=eps),
}
TASKS = {
    "cross_entropy": lambda logits, target, share: F.cross_entropy(logits, target["label"], ignore_index=-1),
    "l1": lambda logits, target, share: share @ (logits.squeeze(-1) - target["score"]).abs(),
}


class AttsfLoss(nn.Module):
    """L_av + lambda_a L_a + lambda_v L_v + lambda_t L_t + lambda_sim L_sim (eq. 18, which has no term for text).

    L_sim is the symmetric divergence of a branch from the token, as a mean over the branches (eqs. 15-17). A term whose
    weight is 0, or whose outputs the network does not return (Table VII, one modality, another system), is left out.
    """

    def __init__(
        self, *, dim: int | None, sentiment: bool, task: str, lambda_a: float, lambda_v: float, lambda_t: float,
        lambda_sim: float, similarity: str, similarity_eps: float,
    ):  # fmt: skip
        super().__init__()
        if (task == "l1") != sentiment:
            raise RequestError(
                f"loss.task {task!r}: scores need l1 and classes need cross_entropy; this corpus has "
                + ("scores" if sentiment else "classes")
            )
        self.task = one_of(TASKS, task, "option of loss.task")
        self.weights = {"audio": lambda_a, "visual": lambda_v, "text": lambda_t}
        self.lambda_sim = lambda_sim
        self.similarity = one_of(SIMILARITIES, similarity, "option of loss.similarity")(dim=dim, eps=similarity_eps)

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: of AttsfNet, N ...; target: `label` N, `score` N. Returns `loss` and its terms."""
        share = labelled(target["label"]).to(outputs["logits"].dtype)  # N, selects nothing, so a GPU need not wait
        share = share / share.sum()
        terms = {"task": self.task(outputs["logits"], target, share)}
        loss = terms["task"]
        for name, weight in self.weights.items():
            if weight and f"logits_{name}" in outputs:
                terms[f"task_{name}"] = self.task(outputs[f"logits_{name}"], target, share)
                loss = loss + weight * terms[f"task_{name}"]
        branches = [value for name, value in outputs.items() if name.startswith("main_")]
        if self.lambda_sim and branches and "token" in outputs:
            divergences = [self.similarity(outputs["token"], branch, share) for branch in branches]
            terms["similarity"] = torch.stack(divergences).mean()
            loss = loss + self.lambda_sim * terms["similarity"]
        return {"loss": loss, **terms}
