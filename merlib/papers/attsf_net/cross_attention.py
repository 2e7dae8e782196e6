"""The blocks of ATTSF-Net with cross-attention: CMB (Sec. III-C), its replacement in Table VIII, SAB (Sec. III-D).

Shapes: b utterances, l steps (every sequence has all of them, without padding), k tokens, d = dim. A dict holds one
tensor per modality, b l d, audio before visual.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from merlib import registry
from merlib.errors import one_of
from merlib.papers.attsf_net.transformer import AddNorm, Attention, TransformerLayer


def main_branches(names: Sequence[str], unimodal: str) -> dict[str, str]:
    """Each of audio and video that has a main branch -> the modality that it attends to: the other one.

    unimodal: whether one alone attends to itself ("self"), or has only an auxiliary branch ("auxiliary").
    """
    pairs = dict(zip(names, reversed(names), strict=True))
    alone = one_of({"self": pairs, "auxiliary": {}}, unimodal, "option of model.cmb.unimodal")
    return alone if len(names) == 1 else pairs


class CmbLayer(nn.Module):
    """Cross-attention of a modality x to a source, eqs. (6)-(7), then a transformer layer, eqs. (8)-(9).

    key: "other", projected from the source; "own", from x, as eq. (4) prints it.
    """

    def __init__(
        self, *, dim: int, ff: int, key: str, cross_heads: int, heads: int, activation: str, dropout: float,
        residual_dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.own_key = one_of({"own": True, "other": False}, key, "option of model.cmb.key")
        drops = {"dropout": dropout, "residual_dropout": residual_dropout}
        self.cross = Attention(dim=dim, heads=cross_heads, output=cross_heads > 1)  # eq. (6): one head, no output map
        self.after_cross = AddNorm(dim=dim, **drops)
        self.encode = TransformerLayer(dim=dim, ff=ff, heads=heads, activation=activation, **drops)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        attended = self.cross(x, x if self.own_key else source, source)  # both have l steps, so either key fits
        return self.encode(self.after_cross(x, attended))


class Cmb(nn.Module):
    """Cross-Multimodal Block (eqs. 1-2): per modality, a stack of layers with cross-attention to the other modality.

    kv: "static", every layer attends to the input of the block; "coupled", to the output of the other stack so far.
    unimodal: see `main_branches`.
    """

    def __init__(
        self, *, names: Sequence[str], unimodal: str, layers: int, ff: int, key: str, kv: str, cross_heads: int,
        dim: int, dropout: float, transformer: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        self.static = one_of({"static": True, "coupled": False}, kv, "option of model.cmb.kv")
        self.sources, self.layers = main_branches(names, unimodal), layers
        layer = partial(
            registry.bind, CmbLayer, transformer, what="model.transformer",
            dim=dim, ff=ff, key=key, cross_heads=cross_heads, dropout=dropout,
        )  # fmt: skip
        self.stacks = nn.ModuleDict({name: nn.ModuleList(layer() for _ in range(layers)) for name in self.sources})

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        h = {name: x[name] for name in self.sources}
        for i in range(self.layers):
            source = x if self.static else h
            h = {name: stack[i](h[name], source[self.sources[name]]) for name, stack in self.stacks.items()}
        return h


class PreNormBlock(nn.Module):
    """Chumachenko's attention block (ref. [42]): query and source are normalised first; only the MLP has a residual."""

    def __init__(self, *, dim: int, heads: int, ff: int):
        super().__init__()
        self.norm_query, self.norm_source, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.attend = Attention(dim=dim, heads=heads, output=True)
        self.mlp = nn.Sequential(nn.Linear(dim, ff), nn.GELU(), nn.Linear(ff, dim))

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        source = self.norm_source(source)
        x = self.attend(self.norm_query(query), source, source)
        return x + self.mlp(self.norm(x))


class SimilarityEnhancement(nn.Module):
    """The block of ref. [27] (Table VIII): self-attention of audio, then one shared block for both cross-attentions."""

    def __init__(self, *, names: Sequence[str], unimodal: str, dim: int, cross_heads: int, ff: int):
        super().__init__()
        self.sources = main_branches(names, unimodal)
        block = partial(PreNormBlock, dim=dim, heads=cross_heads, ff=ff)
        self.own = nn.ModuleDict({name: block() for name in self.sources if name == "audio"})
        self.shared = block() if self.sources else None

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        x = x | {name: block(x[name], x[name]) for name, block in self.own.items()}
        return {name: self.shared(x[name], x[source]) for name, source in self.sources.items()}


CMBS = {"cross_attention": Cmb, "similarity_enhancement": SimilarityEnhancement}


QUERIES = {  # eq. (11) as it is written, a composition; with a residual; both attentions of u
    "nested": lambda u, attend_visual, attend_audio: attend_audio(attend_visual(u)),
    "nested_residual": lambda u, attend_visual, attend_audio: u + attend_audio(attend_visual(u)),
    "sum": lambda u, attend_visual, attend_audio: attend_visual(u) + attend_audio(u),
}


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
