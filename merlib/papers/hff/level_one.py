"""Level 1 of HFF: project the modalities to a common width, weigh them, add them up (Sec. 3.2 (1), eqs. 16-18).

Shapes: b dialogues, n utterances, m modalities, d = dim. The modalities' vectors x are b n m d; their weighted sum is
f0, b n d. The uncertainty of the modalities (eqs. 19-20), which gives f1, b n d, stands in uncertainty.py.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from merlib.errors import one_of
from merlib.papers.hff.uncertainty import UNCERTAINTIES, Unaligned
from merlib.registry import part


class First(nn.Module):
    """The first `width` values: of a concatenated text vector, BERT's vector at its first token (eq. 10)."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.width]


def projection(name: str, width: int, *, dim: int, text_dim: int, text_vector: str) -> nn.Module:
    """Eq. (16): a linear map of a modality's features to the common width.

    A text array that is 2 text_dim wide holds both vectors of eq. (12), and text_vector says how they are read.
    """
    readings = {
        "reduced": lambda: nn.Sequential(nn.Linear(width, text_dim), nn.Linear(text_dim, dim)),
        "concat": lambda: nn.Linear(width, dim),
        "single": lambda: nn.Sequential(First(text_dim), nn.Linear(text_dim, dim)),
    }
    read = one_of(readings, text_vector, "option of model.alignment.text_vector")
    return read() if name == "text" and width == 2 * text_dim else nn.Linear(width, dim)


class Dynamic(nn.Module):
    """alpha (eq. 17): a softmax over the modalities, computed from all of them, b n m d -> b n m."""

    def __init__(self, *, modalities: int, dim: int):
        super().__init__()
        self.score = nn.Linear(modalities * dim, modalities, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x.flatten(-2)).softmax(-1)


class Uniform(nn.Module):
    """Equal weights, b n m d -> b n m (Table 4, "Without dynamic weighting")."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full(x.shape[:-1], 1 / x.shape[-2])


def dynamic(*, modalities: int, dim: int) -> nn.Module:
    """Eq. (17). A single modality has the weight 1 whatever its score, so nothing is learned for it."""
    return Dynamic(modalities=modalities, dim=dim) if modalities > 1 else Uniform()


WEIGHTINGS = {"dynamic": dynamic, "uniform": Uniform}


class Weighted(nn.Module):
    """Level 1. Returns `tokens` b n m d (alpha_m f_m, whose sum is f0), `weights` b n m, and what `uncertain` returns.

    Without residual nothing reads f1, so its uncertainty is not estimated either.
    """

    def __init__(
        self, *, dims: dict[str, int], dim: int, dropout: float, text_dim: int, text_vector: str,
        weighting: dict[str, Any], uncertainty: dict[str, Any], residual: bool = True,
    ):  # fmt: skip
        super().__init__()
        common = {"dim": dim, "text_dim": text_dim, "text_vector": text_vector}
        self.project = nn.ModuleDict({name: projection(name, width, **common) for name, width in dims.items()})
        self.drop = nn.Dropout(dropout)
        size = {"modalities": len(dims), "dim": dim}
        self.weigh = part(WEIGHTINGS, weighting, "model.alignment.weighting", **size)
        estimate = partial(part, UNCERTAINTIES, uncertainty, "model.alignment.uncertainty", **size, dropout=dropout)
        self.uncertain = estimate() if residual else Unaligned()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = torch.stack([project(batch[name]) for name, project in self.project.items()], dim=-2)  # eq. 16: b n m d
        x = self.drop(x)
        weights = self.weigh(x)
        tokens = weights.unsqueeze(-1) * x
        return {"tokens": tokens, "weights": weights} | self.uncertain(x, tokens.sum(-2))  # eqs. 18-20


class Concatenated(nn.Module):
    """One linear map of all concatenated features in place of level 1 (row `wo_alignment_level1`): f1 = f0.

    The modalities are one vector from here on: `tokens` is b n 1 d.
    """

    def __init__(self, *, dims: dict[str, int], dim: int, dropout: float):
        super().__init__()
        self.names = tuple(dims)
        self.project = nn.Linear(sum(dims.values()), dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.drop(self.project(torch.cat([batch[name] for name in self.names], dim=-1)))
        return {"tokens": x.unsqueeze(-2), "aligned": x}


ALIGNMENTS = {"residual": Weighted, "none": partial(Weighted, residual=False), "concat": Concatenated}
