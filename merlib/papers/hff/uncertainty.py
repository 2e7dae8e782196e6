"""How certain each modality is, and the sum of the modalities that follows from it (HFF, Sec. 3.2 (1), eqs. 19-20).

Shapes: b dialogues, n utterances, m modalities, d = dim, s forward passes. Every module here takes x, the modalities'
vectors, b n m d, and f0, their weighted sum, b n d. It returns `aligned`, the f1 of eq. (20), b n d, and, where it
estimates one, `variance`, b n m, the mean over d of sigma_m^2 + epsilon. Noise is added in training only.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError


class Each(nn.Module):
    """A separate linear map for each modality: ... m d -> ... m o."""

    def __init__(self, *, modalities: int, dim: int, out: int):
        super().__init__()
        self.of = nn.ModuleList(nn.Linear(dim, out) for _ in range(modalities))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([linear(one) for linear, one in zip(self.of, x.unbind(-2), strict=True)], dim=-2)


def trusted(mean: Tensor, log_variance: Tensor, *, noise: bool) -> dict[str, Tensor]:
    """f1 = mu + noise sigma (eq. 20): mu = sum_m w_m mu_m / sum_m w_m, sigma^2 = 1 / sum_m w_m, w of eq. (19).

    mean: b n m d; log_variance, of sigma_m^2 + epsilon: b n m d, or b n m 1.
    """
    log_w = -log_variance  # eq. 19
    mu = (log_w.softmax(-2) * mean).sum(-2)  # b n m d -> b n d
    sigma = (-log_w.logsumexp(-2) / 2).exp()
    aligned = mu + torch.randn_like(mu) * sigma if noise else mu
    return {"aligned": aligned, "variance": log_variance.exp().mean(-1)}


class Gaussian(nn.Module):
    """mu_m and log sigma_m^2 are linear maps of modality m's vector.

    width: how many values sigma_m^2 has, one for each of the d features (None) or 1 for the whole modality.
    """

    def __init__(self, *, modalities: int, dim: int, epsilon: float, width: int | None = None):
        super().__init__()
        self.mean = Each(modalities=modalities, dim=dim, out=dim)
        self.log_variance = Each(modalities=modalities, dim=dim, out=width or dim)
        self.epsilon = epsilon

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        log_variance = self.log_variance(x)  # added to epsilon in logs: exp() may overflow, and then has no gradient
        log_variance = log_variance.logaddexp(log_variance.new_tensor(self.epsilon).log())
        return trusted(self.mean(x), log_variance, noise=self.training)


class McDropout(nn.Module):
    """mu_m, sigma_m^2: mean and variance over `samples` passes of a linear map under dropout (Gal & Ghahramani 2016).

    In training every pass draws a new mask for every utterance. Outside training the masks are fixed, so that the same
    `samples` networks predict every utterance, whatever its batch.
    """

    def __init__(self, *, modalities: int, dim: int, dropout: float, samples: int, epsilon: float):
        super().__init__()
        if not 0 < dropout < 1 or samples < 2:
            raise RequestError(f"mc_dropout takes a dropout in (0, 1) and 2 samples or more, not {dropout}, {samples}")
        self.mean = Each(modalities=modalities, dim=dim, out=dim)
        self.dropout, self.samples, self.epsilon = dropout, samples, epsilon
        drawn = torch.rand(samples, 1, 1, modalities, dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("masks", (drawn >= dropout) / (1 - dropout))  # s 1 1 m d

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        passes = x.expand(self.samples, *x.shape)  # b n m d -> s b n m d
        passes = F.dropout(passes, self.dropout) if self.training else passes * self.masks
        variance, mean = torch.var_mean(self.mean(passes), dim=0, correction=0)
        return trusted(mean, (variance + self.epsilon).log(), noise=self.training)


class BayesByBackprop(nn.Module):
    """A linear map for each modality with Gaussian weights, N(M, S^2); their prior is N(0, 1/d) (Blundell et al. 2015).

    Gaussian weights make Gaussian outputs, of mean x M + c and variance x^2 S^2 (Kingma et al. 2015), so eq. (20) draws
    outputs instead of weights. `kl`, b n: divergence of all weights from the prior, the same for every utterance.
    """

    def __init__(self, *, modalities: int, dim: int, epsilon: float):
        super().__init__()
        self.mean = Each(modalities=modalities, dim=dim, out=dim)
        self.log_variance = nn.Parameter(torch.full((modalities, dim, dim), math.log(0.1 / dim)))  # S^2 as m out in
        self.epsilon = epsilon

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        variance = torch.einsum("bnmi,moi->bnmo", x.square(), self.log_variance.exp())
        kl = self.divergence().expand(x.shape[:2])
        return trusted(self.mean(x), (variance + self.epsilon).log(), noise=self.training) | {"kl": kl}

    def divergence(self) -> Tensor:
        """KL(N(M, S^2) || N(0, 1/d)), summed over all weights; biases have no prior."""
        m, dim = torch.stack([linear.weight for linear in self.mean.of]), self.log_variance.shape[-1]
        log_ratio = self.log_variance + math.log(dim)  # log of S^2 over the prior's variance
        return (log_ratio.exp() + m.square() * dim - 1 - log_ratio).sum() / 2


class Certain(nn.Module):
    """No uncertainty: f1 = f0 (Table 4, "Without dynamic weighting")."""

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        return {"aligned": f0}


class Unaligned(nn.Module):
    """f1 = 0, so that eq. (23) has no residual (Table 4, "Without cross-modality alignment")."""

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        return {"aligned": torch.zeros_like(f0)}


UNCERTAINTIES = {
    "precision": Gaussian, "scalar": partial(Gaussian, width=1), "mc_dropout": McDropout,
    "bayes_by_backprop": BayesByBackprop, "none": Certain,
}  # fmt: skip
