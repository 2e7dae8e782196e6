"""Low-rank Multimodal Fusion (Liu et al. 2018): TFN's tensor product, its weight in low-rank factors.

Shapes: b utterances, r rank, h width of one modality's vector, o outputs.
"""

import math

import torch
from torch import Tensor, nn

from merlib.baselines.fusion_parts import FusionEncoders

VERSION = 1


class Lmf(nn.Module):
    """sum_r w_r (F_a,r [1; a]) * (F_v,r [1; v]) * (F_t,r [1; t]) + bias, over the modalities present (eq. 6).

    The outputs are the scores: no layer follows. The embedding is the terms of the sum over ranks.
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
        rank: int,
        dropout: float,
    ):
        super().__init__()
        hidden = {"text": text_hidden, "audio": audio_hidden, "visual": visual_hidden}
        self.encode = FusionEncoders(dims=dims, hidden=hidden, text_out=text_out, dropout=dropout)
        self.sizes = {"logits": classes} | ({"logits_binary": 2} if sentiment else {})
        outputs = sum(self.sizes.values())
        widths = self.encode.widths.items()
        self.factors = nn.ParameterDict({name: nn.Parameter(torch.empty(rank, h, outputs)) for name, h in widths})
        self.weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(outputs))
        for parameter in (*self.factors.values(), self.weights):
            nn.init.xavier_normal_(parameter)  # the released code's initial values

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.encode(batch)
        ranks = math.prod(torch.einsum("bh,rho->bro", x[name], factor) for name, factor in self.factors.items())
        scores = torch.einsum("r,bro->bo", self.weights[0], ranks) + self.bias
        scores = dict(zip(self.sizes, scores.split(tuple(self.sizes.values()), dim=-1), strict=True))
        return scores | {"embedding": ranks.flatten(1)}
