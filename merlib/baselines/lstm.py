"""LSTMs over sequences of unequal length: early fusion (one LSTM over all modalities), late fusion (one per modality).

Shapes: b utterances, t steps (padded), s common steps, d width of a step, h of a state,
m modalities, c classes. Masks (b t) are True on real steps, which come first.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.basics import perceptron
from merlib.layers.ragged import LastState

VERSION = 1


def average(x: Tensor, mask: Tensor, steps: int) -> Tensor:
    """The means of `steps` equal segments of each sequence: b t d -> b s d. A shorter sequence repeats its steps."""
    length = mask.sum(1).view(-1, 1, 1)
    segment = torch.arange(steps, device=x.device).view(1, -1, 1)
    begin, end = segment * length // steps, -(-(segment + 1) * length // steps)  # b s 1
    step = torch.arange(x.shape[1], device=x.device)
    inside = ((step >= begin) & (step < end)).to(x.dtype)  # b s t
    return inside / inside.sum(-1, keepdim=True) @ x


def truncate(x: Tensor, mask: Tensor, steps: int) -> Tensor:
    """The first `steps` steps, with zeros after the end of a shorter sequence: b t d -> b s d."""
    return F.pad(x * mask.unsqueeze(-1), (0, 0, 0, steps - x.shape[1]))  # a negative pad truncates


ALIGNMENTS = {"average": average, "truncate": truncate}


class EfLstm(nn.Module):
    """Early fusion: sequences of common length concatenated step by step, one LSTM, its last state, a classifier.

    `align` is "average" or "truncate". MMSA's network of this name needs equal lengths and normalises over them.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, dim: int, layers: int, align: str, common_steps: int,
        head_dim: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.modalities = tuple(dims)
        self.align, self.steps = one_of(ALIGNMENTS, align, "option of model.align"), common_steps
        self.lstm = nn.LSTM(sum(dims.values()), dim, layers, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.head = perceptron(width=dim, hidden=head_dim, out=classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        aligned = [self.align(batch[name], batch[f"{name}_mask"], self.steps) for name in self.modalities]
        x = torch.cat(aligned, dim=-1)  # b s d
        z = self.drop(self.lstm(x)[0][:, -1])  # b h
        return {"logits": self.head(z), "embedding": z}


def mean_probabilities(logits: Tensor) -> Tensor:
    """The logarithm of the mean probability, whose softmax is that mean: m b c -> b c."""
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


DECISIONS = {"mean_logits": lambda logits: logits.mean(0), "mean_probabilities": mean_probabilities}


class LfLstm(nn.Module):
    """Late fusion: an LSTM and a classifier per modality, the mean of their logits or probabilities (`decision`)."""

    def __init__(
        self, *, dims: dict[str, int], classes: int, dim: int, layers: int, decision: str, head_dim: int, dropout: float
    ):
        super().__init__()
        lstm = {"dim": dim, "layers": layers, "directions": 1}
        self.lstms = nn.ModuleDict({name: LastState(width=width, **lstm) for name, width in dims.items()})
        self.drop = nn.Dropout(dropout)
        head = {"width": dim, "hidden": head_dim, "out": classes, "dropout": dropout}
        self.heads = nn.ModuleDict({name: perceptron(**head) for name in dims})
        self.decide = one_of(DECISIONS, decision, "option of model.decision")

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        states = {name: self.drop(lstm(batch[name], batch[f"{name}_mask"])) for name, lstm in self.lstms.items()}  # b h
        logits = torch.stack([head(states[name]) for name, head in self.heads.items()])  # m b c
        return {"logits": self.decide(logits), "embedding": torch.cat(list(states.values()), dim=-1)}
