"""Audio-Visual Auxiliary Modules of ATTSF-Net (Sec. III-E), and the pooling that Table VIII puts in their place.

Shapes: b utterances, l steps (every sequence has all of them, without padding), d = dim.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from merlib import registry
from merlib.papers.attsf_net.transformer import TransformerLayer

LETTERS = {"text": "T", "audio": "A", "visual": "V"}  # of the modalities in a recipe


def auxiliary_branches(names: Sequence[str], main: Sequence[str], modalities: str) -> list[str]:
    """Which modalities have an auxiliary module: those without a main branch, and those that `modalities` names."""
    return [name for name in names if name not in main or LETTERS[name] in modalities]


class Avam(nn.Module):
    """Audio-Visual Auxiliary Modules: per modality, a transformer encoder and its mean over time (Sec. III-E).

    modalities: letters of the modalities with a main branch that have a module (Table VII). Text always has one
    (Sec. IV-B). text_head: whether text has a classification head and loss of its own, as audio and video have.
    """

    def __init__(
        self, *, names: Sequence[str], main: Sequence[str], modalities: str, text_head: bool, layers: int, ff: int,
        dim: int, dropout: float, transformer: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        layer = partial(
            registry.bind, TransformerLayer, transformer, what="model.transformer", dim=dim, ff=ff, dropout=dropout
        )
        self.names, self.text_head = auxiliary_branches(names, main, modalities), text_head
        self.encode = nn.ModuleDict({name: nn.Sequential(*(layer() for _ in range(layers))) for name in self.names})

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: encode(x[name]).mean(1) for name, encode in self.encode.items()}  # b l d -> b d


class TemporalPooling(nn.Module):
    """The auxiliary module of ref. [27] (Table VIII): the mean over time alone."""

    def __init__(self, *, names: Sequence[str], main: Sequence[str], modalities: str, text_head: bool):
        super().__init__()
        self.names, self.text_head = auxiliary_branches(names, main, modalities), text_head

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x[name].mean(1) for name in self.names}  # b l d -> b d


AVAMS = {"transformer": Avam, "temporal_pooling": TemporalPooling}
