"""Similarity Adjustment Block of ATTSF-Net (Sec. III-D, Fig. 2).

Shapes: b utterances, l steps (every sequence has all of them, without padding), k tokens, d = dim.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from merlib import registry
from merlib.errors import one_of
from merlib.papers.attsf_net.transformer import Attention, TransformerLayer


def nested(u: Tensor, attend_visual: Callable, attend_audio: Callable) -> Tensor:
    """Eq. (11) as it is written, a composition."""
    return attend_audio(attend_visual(u))


def nested_residual(u: Tensor, attend_visual: Callable, attend_audio: Callable) -> Tensor:
    return u + attend_audio(attend_visual(u))


def summed(u: Tensor, attend_visual: Callable, attend_audio: Callable) -> Tensor:
    return attend_visual(u) + attend_audio(u)


QUERIES = {"nested": nested, "nested_residual": nested_residual, "sum": summed}


class SabLayer(nn.Module):
    """Cross-attention of the tokens u to video and audio (eq. 11), then a transformer layer, eqs. (12)-(13).

    single: there is one token.
    """

    def __init__(
        self, *, dim: int, ff: int, query: str, single: bool, cross_heads: int, heads: int, activation: str,
        dropout: float, residual_dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.combine = one_of(QUERIES, query, "option of model.sab.query")
        self.visual, self.audio = (Attention(dim=dim, heads=cross_heads, output=cross_heads > 1) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.encode = TransformerLayer(
            dim=dim, ff=ff, heads=heads, activation=activation, dropout=dropout, residual_dropout=residual_dropout,
            single=single,
        )  # fmt: skip

    def forward(self, u: Tensor, visual: Tensor, audio: Tensor) -> Tensor:
        """u: b k d; visual, audio: b l d."""
        attend = (partial(self.visual, key=visual, value=visual), partial(self.audio, key=audio, value=audio))
        return self.encode(self.norm(self.combine(u, *attend)))


class Sab(nn.Module):
    """Similarity Adjustment Block (eq. 10): learnable tokens attend to both modalities; their mean is x*_learn.

    tokens: "one", or as many as a modality has steps ("length"). classify: whether the classifier reads x*_learn as
    well; without, only the similarity loss does.
    """

    def __init__(
        self, *, layers: int, ff: int, query: str, tokens: str, classify: bool, cross_heads: int, length: int,
        dim: int, dropout: float, transformer: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        self.classify = classify
        number = one_of({"one": 1, "length": length}, tokens, "option of model.sab.tokens")
        self.token = nn.Parameter(torch.randn(number, dim))
        layer = partial(
            registry.bind, SabLayer, transformer, what="model.transformer",
            dim=dim, ff=ff, query=query, single=number == 1, cross_heads=cross_heads, dropout=dropout,
        )  # fmt: skip
        self.layers = nn.ModuleList(layer() for _ in range(layers))

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """x: both modalities, b l d, or one, which takes the place of the other. Returns `token`, b d."""
        audio, visual = (*x.values(),)[0], (*x.values(),)[-1]
        u = self.token.expand(len(audio), -1, -1)  # k d -> b k d
        for layer in self.layers:
            u = layer(u, visual, audio)
        return {"token": u.mean(1)}


class NoSab(nn.Module):
    """The network without SAB (Table VII): no token."""

    classify = False

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}


SABS = {"token": Sab, "none": NoSab}
