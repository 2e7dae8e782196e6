"""A floor without order in time: an MLP on the means and standard deviations of an utterance's steps.

Shapes: b utterances, i = sum of the widths of the pooled features (twice that of the steps), c classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VERSION = 2


class PooledMlp(nn.Module):
    """One hidden layer on pooled features, which are computed once for a split: class scores, or one score
    (sentiment)."""

    POOLED = True

    def __init__(self, *, dims: dict[str, int], classes: int, sentiment: bool, hidden: int, dropout: float):
        super().__init__()
        self.modalities = tuple(dims)
        self.embed = nn.Linear(sum(dims.values()), hidden)
        self.classify = nn.Linear(hidden, 1 if sentiment else classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """batch: each modality b 1 d."""
        x = torch.cat([batch[name].flatten(1) for name in self.modalities], dim=-1)  # b i
        z = F.relu(self.embed(self.drop(x)))
        return {"logits": self.classify(self.drop(z)), "embedding": z}
