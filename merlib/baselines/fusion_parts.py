"""What the fusion networks on utterances (TFN, LMF, MFN, MFM, ICCN) share: encoders of one modality, the last layers.

Shapes: b utterances, t steps (padded), d features. Masks are True on real steps; every utterance has at least one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.layers.ragged import masked_mean


def last_state(x: Tensor, mask: Tensor) -> Tensor:
    """The state of a forward recurrence at the last real step. x: b t d; mask: b t, real steps first. Returns b d."""
    return x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]


def normalise(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch normalisation; a training batch of one row has no variance and uses the running statistics. x: b d."""
    if norm.training and len(x) == 1:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


class MeanEncoder(nn.Module):
    """TFN's network for audio and video: the mean over steps, batch-normalised, then three layers."""

    def __init__(self, *, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(width, hidden) for width in (dim, hidden, hidden))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: b t d; mask: b t. Returns b h."""
        x = self.drop(normalise(self.norm, masked_mean(x, mask)))
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class TextEncoder(nn.Module):
    """TFN's network for text: the last state of an LSTM over the steps, then one linear layer."""

    def __init__(self, *, dim: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.rnn = nn.LSTM(dim, hidden, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: b t d; mask: b t. Returns b o."""
        return self.out(self.drop(last_state(self.rnn(x)[0], mask)))


class FusionEncoders(nn.Module):
    """One vector per modality, with a 1 in front, so that their product contains every lower order (TFN, eq. 2)."""

    def __init__(self, *, dims: dict[str, int], hidden: dict[str, int], text_out: int, dropout: float):
        super().__init__()
        self.widths, encoders = {}, {}
        for name in ("audio", "visual", "text"):  # the released codes' order
            if name not in dims:
                continue
            sizes = {"dim": dims[name], "hidden": hidden[name], "dropout": dropout}
            encoders[name] = TextEncoder(**sizes, out=text_out) if name == "text" else MeanEncoder(**sizes)
            self.widths[name] = 1 + (text_out if name == "text" else hidden[name])
        self.encoders = nn.ModuleDict(encoders)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> b (1 + h)."""
        x = {name: encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encoders.items()}
        return {name: F.pad(value, (1, 0), value=1.0) for name, value in x.items()}


class Scores(nn.Module):
    """The last layer: class scores; on the sentiment corpora also scores of negative against the rest."""

    def __init__(self, *, dim: int, classes: int, sentiment: bool):
        super().__init__()
        self.classes = nn.Linear(dim, classes)
        self.binary = nn.Linear(dim, 2) if sentiment else None

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """z: b d. Returns `logits` b c and, with sentiment, `logits_binary` b 2."""
        scores = {"logits": self.classes(z)}
        return scores if self.binary is None else scores | {"logits_binary": self.binary(z)}
