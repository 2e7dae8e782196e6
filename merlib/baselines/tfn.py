"""Tensor Fusion Network (Zadeh et al. 2017): the outer product of all modalities, then three layers.

Shapes: b utterances, h width of one modality's vector, c classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.fusion_parts import FusionEncoders, Scores

VERSION = 1


class Tfn(nn.Module):
    """[1; a] x [1; v] x [1; t] of the modalities present, two layers, scores.

    The released code ends in one unit, scaled to [-3, 3] by a sigmoid; this one in class scores.
    """

    def __init__(
        self,
        *,
        dims: dict[str, int],
        classes: int,
        sentiment: bool,
        text_hidden: int,
        audio_hidden: int,
        visual_hidden: int,
        text_out: int,
        fusion_dim: int,
        dropout: float,
        fusion_dropout: float,
    ):
        super().__init__()
        hidden = {"text": text_hidden, "audio": audio_hidden, "visual": visual_hidden}
        self.encode = FusionEncoders(dims=dims, hidden=hidden, text_out=text_out, dropout=dropout)
        self.drop = nn.Dropout(fusion_dropout)
        self.fuse = nn.ModuleList(
            nn.Linear(width, fusion_dim) for width in (math.prod(self.encode.widths.values()), fusion_dim)
        )
        self.classify = Scores(dim=fusion_dim, classes=classes, sentiment=sentiment)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        first, *others = self.encode(batch).values()
        z = first
        for x in others:
            z = torch.einsum("bi,bj->bij", z, x).flatten(1)  # b (h h' ...)
        z = self.drop(z)
        for layer in self.fuse:
            z = F.relu(layer(z))
        return self.classify(z) | {"embedding": z}
