"""Level 1 of HFF: how far to trust each modality (Sec. 3.2 (1), eqs. 16-20).

Shapes: b dialogues, n utterances, m modalities, d = dim, s samples. The modalities' vectors x are b n m d, and their
weighted sum f0 is b n d. An uncertainty turns both into `aligned`, the f1 of eq. (20), b n d; where it estimates a
variance it also gives `variance`, b n m, the mean over d of sigma_m^2 + epsilon. Noise is drawn in training only.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of


class First(nn.Module):
    """The first `width` values: of a concatenated text vector, BERT's vector at its first token (eq. 10)."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.width]


def projection(name: str, width: int, *, dim: int, text_dim: int, text_vector: str) -> nn.Module:
    """Eq. (16), a modality's features in the common width. Text of 2 text_dim values holds both vectors of eq. (12)."""
    readings = {
        "reduced": lambda: nn.Sequential(nn.Linear(width, text_dim), nn.Linear(text_dim, dim)),
        "concat": lambda: nn.Linear(width, dim),
        "single": lambda: nn.Sequential(First(text_dim), nn.Linear(text_dim, dim)),
    }
    read = one_of(readings, text_vector, "text_vector")
    return read() if name == "text" and width == 2 * text_dim else nn.Linear(width, dim)


class Dynamic(nn.Module):
    """alpha (eq. 17): a softmax over the modalities that reads all of them, b n m d -> b n m."""

    def __init__(self, *, modalities: int, dim: int):
        super().__init__()
        self.score = nn.Linear(modalities * dim, modalities, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x.flatten(-2)).softmax(-1)


class Uniform(nn.Module):
    """Equal weights, b n m d -> b n m ("Without dynamic weighting"); of one modality, eq. (17) gives nothing else."""

    def __init__(self, *, modalities: int, dim: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full(x.shape[:-1], 1 / x.shape[-2])


class Each(nn.Module):
    """A linear map of its own for every modality: ... m d -> ... m o."""

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
    """mu_m and log sigma_m^2 are linear maps of modality m's vector; sigma_m^2 has `width` values, d or 1 (scalar)."""

    def __init__(self, *, modalities: int, dim: int, width: int, epsilon: float):
        super().__init__()
        self.mean = Each(modalities=modalities, dim=dim, out=dim)
        self.log_variance = Each(modalities=modalities, dim=dim, out=width)
        self.epsilon = epsilon

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        log_variance = self.log_variance(x)  # exp() overflows, and then has no gradient
        log_variance = log_variance.logaddexp(log_variance.new_tensor(self.epsilon).log())
        return trusted(self.mean(x), log_variance, noise=self.training)


class McDropout(nn.Module):
    """mu_m, sigma_m^2: mean and variance over `samples` passes of a linear map under dropout (Gal & Ghahramani 2016).

    In training every pass of every utterance draws its own mask. Outside training the masks are drawn once and for all:
    the same `samples` networks judge every utterance, whatever its batch.
    """

    def __init__(self, *, modalities: int, dim: int, dropout: float, samples: int, epsilon: float):
        super().__init__()
        if not 0 < dropout < 1 or samples < 2:
            raise RequestError(
                f"mc_dropout takes a dropout in (0, 1) and 2 samples or more, not {dropout} and {samples}"
            )
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
    """A linear map a modality whose weights are Gaussian, N(M, S^2), with the prior N(0, 1/d) (Blundell et al. 2015).

    Gaussian weights make Gaussian outputs, of mean x M + c and variance x^2 S^2 (Kingma et al. 2015), so eq. (20) draws
    outputs and not weights. `kl`: divergence of all weights from the prior, the same number for every utterance, b n.
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
    """f1 = 0: nothing passes the attention by (Table 4, "Without cross-modality alignment")."""

    def forward(self, x: Tensor, f0: Tensor) -> dict[str, Tensor]:
        return {"aligned": torch.zeros_like(f0)}


class Weighted(nn.Module):
    """Level 1. Returns `tokens` b n m d (alpha_m f_m, whose sum is f0), `weights` b n m, and what `uncertain` gives."""

    def __init__(
        self, *, dims: dict[str, int], dim: int, text_dim: int, text_vector: str, weigh: Callable[[], nn.Module],
        uncertain: Callable[[], nn.Module], dropout: float,
    ):  # fmt: skip
        super().__init__()
        common = {"dim": dim, "text_dim": text_dim, "text_vector": text_vector}
        self.project = nn.ModuleDict({name: projection(name, width, **common) for name, width in dims.items()})
        self.drop = nn.Dropout(dropout)
        self.weigh, self.uncertain = weigh(), uncertain()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = torch.stack([project(batch[name]) for name, project in self.project.items()], dim=-2)  # eq. 16: b n m d
        x = self.drop(x)
        weights = self.weigh(x)
        tokens = weights.unsqueeze(-1) * x
        return {"tokens": tokens, "weights": weights} | self.uncertain(x, tokens.sum(-2))  # eqs. 18-20


class Concatenated(nn.Module):
    """One linear map of all features for level 1 (row `wo_alignment_level1`): f1 = f0, and no modalities after it."""

    def __init__(self, *, dims: dict[str, int], dim: int, dropout: float):
        super().__init__()
        self.names = tuple(dims)
        self.project = nn.Linear(sum(dims.values()), dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.drop(self.project(torch.cat([batch[name] for name in self.names], dim=-1)))
        return {"tokens": x.unsqueeze(-2), "aligned": x}


def level_one(
    *, dims: dict[str, int], dim: int, text_dim: int, text_vector: str, weighting: str, uncertainty: str, samples: int,
    epsilon: float, alignment: str, dropout: float,
) -> nn.Module:  # fmt: skip
    """The module of a reading. With alignment "none" nothing reads f1, so nothing estimates an uncertainty either."""
    m = {"modalities": len(dims), "dim": dim}
    uncertainties = {
        "precision": partial(Gaussian, **m, width=dim, epsilon=epsilon),
        "scalar": partial(Gaussian, **m, width=1, epsilon=epsilon),
        "mc_dropout": partial(McDropout, **m, dropout=dropout, samples=samples, epsilon=epsilon),
        "bayes_by_backprop": partial(BayesByBackprop, **m, epsilon=epsilon),
        "none": Certain,
    }
    uncertain = one_of(uncertainties, uncertainty, "uncertainty")
    weightings = {"dynamic": Dynamic if len(dims) > 1 else Uniform, "uniform": Uniform}
    weigh = partial(one_of(weightings, weighting, "weighting"), **m)
    text = {"text_dim": text_dim, "text_vector": text_vector}
    weighted = partial(Weighted, dims=dims, dim=dim, **text, weigh=weigh, dropout=dropout)
    alignments = {
        "residual": partial(weighted, uncertain=uncertain),
        "none": partial(weighted, uncertain=Unaligned),
        "concat": partial(Concatenated, dims=dims, dim=dim, dropout=dropout),
    }
    return one_of(alignments, alignment, "alignment")()
