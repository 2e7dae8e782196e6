"""Floors: plain models on the same features. A method has to score higher than these to show anything.

Shapes: b dialogues, n turns (padded), i = sum of the feature widths, c classes.
"""

import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.layers.ragged import recurrent

VERSION = 1


class ConcatMlp(nn.Module):
    """Each utterance by itself: concatenated features, one hidden layer, class scores. Speakers are not used."""

    def __init__(self, *, dims: dict[str, int], classes: int, hidden: int, dropout: float):
        super().__init__()
        self.modalities = tuple(dims)
        self.embed = nn.Linear(sum(dims.values()), hidden)
        self.classify = nn.Linear(hidden, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = torch.cat([batch[name] for name in self.modalities], dim=-1)  # b n i
        z = F.relu(self.embed(self.drop(x)))
        return {"logits": self.classify(self.drop(z)), "embedding": z}


class BiGru(nn.Module):
    """A bidirectional GRU over the dialogue on concatenated features. Speakers are not used."""

    def __init__(self, *, dims: dict[str, int], classes: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.modalities = tuple(dims)
        between = dropout if layers > 1 else 0.0
        width = sum(dims.values())
        self.rnn = nn.GRU(width, hidden, layers, batch_first=True, bidirectional=True, dropout=between)
        self.classify = nn.Linear(2 * hidden, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = torch.cat([batch[name] for name in self.modalities], dim=-1)  # b n i
        z = recurrent(self.rnn, self.drop(x), batch["mask"])  # b n 2h
        return {"logits": self.classify(self.drop(z)), "embedding": z}


def majority(*, seed: int):
    """The most frequent class of the training split, whatever the input."""
    return DummyClassifier(strategy="most_frequent", random_state=seed)


def logistic(*, seed: int, c: float):
    """Multinomial logistic regression on the vectors of an utterance; c: inverse strength of the L2 penalty."""
    return LogisticRegression(C=c, max_iter=2000, random_state=seed)


def ridge(*, seed: int, alpha: float):
    """Linear regression of sentiment scores on the vectors of an utterance; alpha: strength of the L2 penalty."""
    return Ridge(alpha=alpha, random_state=seed)
