"""The contrastive objective of MultiEMO, which MFCRE uses (Sec. 3.5, eq. 11-15).

Shapes: N utterances of a batch (all its dialogues), d features, m modalities, c classes. Label -1 means unlabelled.
Equation numbers are MFCRE's. The code of MultiEMO, which MFCRE's repeats, differs from them, so there are two variants:

             "code" (as released)                               "paper" (eq. 11-15)
z            normalised to length 1                             unchanged
weights      (sum n / n_c)^alpha over the training set,         (N / n_c)^alpha over the batch
             then divided by their sum
SWFC, CE     means over the N utterances                        sums; the whole objective is divided by N (eq. 15)
Soft-HGR     3 unordered pairs, divided by N; covariances       6 ordered pairs; covariances d x d, of features
             N x N, of utterances over the d features, their    over the N utterances; features centred over
             trace divided by N again; E[Q] = 0 not imposed     the batch (E[Q] = 0)
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of
from merlib.layers.cross_entropy import labelled, positive

VERSION = 1


def class_weights_swfc(counts: Tensor, alpha: float) -> Tensor:
    """(sum n / n_c)^alpha for each class, divided by their sum: the released weights. counts: c."""
    return F.normalize((counts.sum() / counts) ** alpha, p=1.0, dim=0)


def class_weights_batch(label: Tensor, *, classes: int, alpha: float) -> Tensor:
    """(N / n_c)^alpha for each class, counted in the batch (eq. 12). label: N, all labelled."""
    return (len(label) / torch.bincount(label, minlength=classes).clamp(min=1).double()) ** alpha


def swfc(z: Tensor, label: Tensor, class_weights: Tensor, *, tau: float, gamma: float, variant: str) -> Tensor:
    """Sample-weighted focal contrastive loss (eq. 11-12) over the labelled utterances, from all dialogues together.

    With s_ig the softmax of z_i . z_g / tau over all other utterances, the loss of utterance i is
    -w_{y_i} mean_g (1 - s_ig)^gamma log s_ig over the others g of its class, or 0 if there are none.
    z: N d; label: N; class_weights: c. Returns the mean over utterances ("code") or the sum ("paper").
    """
    z, label = z[label >= 0], label[label >= 0]
    if variant == "code":
        z = F.normalize(z, dim=-1)
    diagonal = torch.eye(len(z), dtype=torch.bool, device=z.device)
    score = ((z / tau) @ z.T).masked_fill_(diagonal, -torch.inf)
    positive = (label[:, None] == label) & ~diagonal
    log_s = score.log_softmax(dim=1).masked_select(positive)  # N N -> only the pairs of one class, to save memory
    focal = (-torch.expm1(log_s)) ** gamma * log_s  # (1 - s)^gamma log s, exact where s is near 0 or 1
    share = class_weights.to(z)[label] / positive.sum(1).clamp(min=1)  # w_{y_i} / |R_i|
    total = -(share[:, None].expand_as(positive).masked_select(positive) * focal).sum()
    return total / len(z) if variant == "code" else total


def soft_hgr(fused: Tensor, *, variant: str) -> Tensor:
    """Soft Hirschfeld-Gebelein-Renyi loss (eq. 13): it rewards the inner product of two modalities' features, and
    penalises the trace of the product of their covariances.

    fused: N m d. The trace tr(cov(Q) cov(V)) of the N x N covariances in the code is |Qc^T Vc|^2 / (d - 1)^2 with every
    utterance centred over its features, so no N x N matrix is needed. That penalty does not see a constant added to all
    features of an utterance, and the inner product grows with its square: "code" has a lower bound only for vectors
    of bounded mean, such as those that leave a layer norm. "paper" centres both, so it has one for all vectors.
    """
    n, _, d = fused.shape
    if variant == "paper":
        fused = fused - fused.mean(0)  # E[Q] = 0
        covariance = torch.einsum("nmi,nmj->mij", fused, fused) / max(n - 1, 1)
    total = fused.new_zeros(())
    for i, j in combinations(range(fused.shape[1]), 2):
        q, v = fused[:, i], fused[:, j]
        agreement = (q * v).sum() / n
        if variant == "paper":
            total = total + 2 * (agreement - (covariance[i] * covariance[j]).sum() / 2)
        else:
            cross = (q - q.mean(1, keepdim=True)).T @ (v - v.mean(1, keepdim=True))  # d d
            total = total + (agreement - cross.square().sum() / (d - 1) ** 2 / n / 2) / n
    return -total


class Contrastive(nn.Module):
    """mu_swfc SWFC + mu_hgr Soft-HGR + (1 - mu_swfc - mu_hgr) cross-entropy (eq. 15); a part with weight 0 is skipped.

    In the "paper" variant the parts are sums, and their total is divided by the number of labelled utterances in the
    batch. The term lambda |theta|^2 of eq. 15 is the optimiser's weight decay. class_counts: labels of the training
    set, c.
    """

    def __init__(
        self, *, class_counts: Sequence[float] | Tensor, mu_swfc: float, mu_hgr: float, tau: float, alpha: float,
        gamma: float, variant: str,
    ):  # fmt: skip
        super().__init__()
        if min(mu_swfc, mu_hgr, 1 - mu_swfc - mu_hgr) < -1e-9:
            raise RequestError(f"mu_swfc {mu_swfc} and mu_hgr {mu_hgr} must not be negative, nor exceed 1 together")
        self.mu = {"swfc": mu_swfc, "soft_hgr": mu_hgr, "cross_entropy": round(1 - mu_swfc - mu_hgr, 9)}
        self.tau, self.alpha, self.gamma = tau, alpha, gamma
        self.variant = one_of(("code", "paper"), variant, "option of loss.variant")
        weights = class_weights_swfc(positive(class_counts), alpha) if variant == "code" else None
        self.register_buffer("class_weights", weights)  # None: counted in each batch (eq. 12)

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c, `embedding` N d, `fused` N m d; target: `label` N. Returns `loss` and its parts."""
        label = target["label"]
        has_label = labelled(label)
        weights = self.class_weights
        if weights is None:
            weights = class_weights_batch(label[has_label], classes=outputs["logits"].shape[1], alpha=self.alpha)
        settings = {"tau": self.tau, "gamma": self.gamma, "variant": self.variant}
        reduction = "mean" if self.variant == "code" else "sum"  # eq. 14
        parts = {
            "swfc": lambda: swfc(outputs["embedding"], label, weights, **settings),
            "soft_hgr": lambda: soft_hgr(outputs["fused"], variant=self.variant),
            "cross_entropy": lambda: F.cross_entropy(outputs["logits"], label, ignore_index=-1, reduction=reduction),
        }
        named = {name: part() for name, part in parts.items() if self.mu[name]}
        loss = sum(self.mu[name] * part for name, part in named.items())
        return {"loss": loss if self.variant == "code" else loss / has_label.sum(), **named}
