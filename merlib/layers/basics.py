"""Small parts of many networks: a perceptron, a classifier of concatenated modalities, a stand-in for omitted parts.

Shapes: b dialogues, n utterances (padded), m modalities, d = dim, c classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def perceptron(*, width: int, hidden: int, out: int, dropout: float, layers: int = 1) -> nn.Sequential:
    """`layers` hidden layers with ReLU and dropout, then a linear layer: ... width -> ... out."""
    widths = [width] + layers * [hidden]
    below = [m for i in range(layers) for m in (nn.Linear(widths[i], hidden), nn.ReLU(), nn.Dropout(dropout))]
    return nn.Sequential(*below, nn.Linear(widths[-1], out))


class Head(nn.Module):
    """Concatenated modalities -> embedding z, which the contrastive loss reads -> class scores (MFCRE eq. 6-9).

    The released MultiEMO code applies its dropout (0 by default) to the class scores; this one to the hidden layer.
    """

    def __init__(self, *, modalities: int, dim: int, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.embed = nn.Linear(modalities * dim, dim)  # eq. 7
        self.classify = perceptron(width=dim, hidden=hidden, out=classes, dropout=dropout)  # eq. 8-9

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """fused: b n m d. Returns the class scores b n c and the embedding z b n d."""
        z = self.embed(torch.flatten(fused, start_dim=-2))  # b n m d -> b n (m d), eq. 6
        return self.classify(z), z


def normalise(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch normalisation, b d; a training batch of one row has no variance and uses the running statistics."""
    if norm.training and len(x) == 1:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


class Scores(nn.Module):
    """`logits` b c of an embedding b d; on sentiment corpora also `logits_binary` b 2, negative against the rest."""

    def __init__(self, *, dim: int, classes: int, sentiment: bool):
        super().__init__()
        self.classes = nn.Linear(dim, classes)
        self.binary = nn.Linear(dim, 2) if sentiment else None

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        scores = {"logits": self.classes(z)}
        return scores if self.binary is None else scores | {"logits_binary": self.binary(z)}


class Unchanged(nn.Module):
    """Stands in for a part that is left out: returns its first input and ignores the others."""

    def __init__(self, *, dim: int | None = None):
        super().__init__()
        self.width = dim

    def forward(self, x: Any, *others: Any) -> Any:
        return x
