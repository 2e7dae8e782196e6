"""Tensor Fusion Network (TFN, Zadeh et al. 2017) and Low-rank Multimodal Fusion (LMF, Liu et al. 2018).

Both multiply one vector per modality with each other; LMF's weight of the product is in low-rank factors.
Shapes: b utterances, t steps (padded), d features, h width of one modality's vector, r rank, o outputs, c classes.
Masks are True on real steps; every utterance has at least one.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.packed_lstm import final_state
from merlib.layers.basics import Scores, normalise
from merlib.layers.ragged import masked_mean

VERSION = 2  # other masks of TFN's product; the LSTM's products in another order


class MeanEncoder(nn.Module):
    """TFN's network for audio and video: the mean over steps, batch-normalised, then three layers. b t d -> b h."""

    def __init__(self, *, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(width, hidden) for width in (dim, hidden, hidden))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.drop(normalise(self.norm, masked_mean(x, mask)))
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class LstmEncoder(nn.Module):
    """TFN's network for text: the last state of an LSTM over the steps, then one linear layer. b t d -> b o."""

    def __init__(self, *, dim: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.rnn = nn.LSTM(dim, hidden, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.drop(final_state(self.rnn, x, mask)))


class FusionEncoders(nn.Module):
    """One vector per modality, with a 1 in front, so that their product contains every lower order (TFN, eq. 2)."""

    def __init__(self, *, dims: dict[str, int], hidden: dict[str, int], text_out: int, dropout: float):
        super().__init__()
        self.widths, self.encoders = {}, nn.ModuleDict()
        for name in (name for name in ("audio", "visual", "text") if name in dims):  # the released codes' order
            sizes = {"dim": dims[name], "hidden": hidden[name], "dropout": dropout}
            self.encoders[name] = LstmEncoder(**sizes, out=text_out) if name == "text" else MeanEncoder(**sizes)
            self.widths[name] = 1 + (text_out if name == "text" else hidden[name])

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> b (1 + h)."""
        x = {name: encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encoders.items()}
        return {name: F.pad(value, (1, 0), value=1.0) for name, value in x.items()}


class QuickDropout(nn.Module):
    """Dropout in place, with masks from 16 random bits an element.

    nn.Dropout draws 64 bits and more an element on most CPUs, half of the time of a step on TFN's product. The share of
    zeros is the rate to 1 in 65,536.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return x
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()].view_as(x) > round(2**16 * self.rate) - 2**15 - 1
        factors = keep.to(x.dtype)
        return x.mul_(factors.div_(1 - self.rate) if self.rate < 1 else factors)


class Tfn(nn.Module):
    """[1; a] x [1; v] x [1; t] of the modalities present, two layers, scores.

    The released code ends in one unit, scaled to [-3, 3] by a sigmoid; this one in class scores.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, text_hidden: int, audio_hidden: int,
        visual_hidden: int, text_out: int, fusion_dim: int, dropout: float, fusion_dropout: float,
    ):  # fmt: skip
        super().__init__()
        hidden = {"text": text_hidden, "audio": audio_hidden, "visual": visual_hidden}
        self.encode = FusionEncoders(dims=dims, hidden=hidden, text_out=text_out, dropout=dropout)
        self.drop = QuickDropout(fusion_dropout)
        widths = (math.prod(self.encode.widths.values()), fusion_dim)
        self.fuse = nn.ModuleList(nn.Linear(width, fusion_dim) for width in widths)
        self.classify = Scores(dim=fusion_dim, classes=classes, sentiment=sentiment)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        z, *others = self.encode(batch).values()
        for x in others:
            z = torch.bmm(z.flatten(1).unsqueeze(2), x.unsqueeze(1))  # b (h h' ...)
        z = self.drop(z).flatten(1)
        for layer in self.fuse:
            z = F.relu(layer(z))
        return self.classify(z) | {"embedding": z}


class Lmf(nn.Module):
    """sum_r w_r (F_a,r [1; a]) * (F_v,r [1; v]) * (F_t,r [1; t]) + bias, over the modalities present (eq. 6).

    The outputs are the scores: no layer follows. The embedding is the terms of the sum over ranks.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, text_hidden: int, audio_hidden: int,
        visual_hidden: int, text_out: int, rank: int, dropout: float,
    ):  # fmt: skip
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
