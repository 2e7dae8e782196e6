"""Blocks of ATTSF-Net: attention, CMB and SAB (Sec. III-C, III-D, Fig. 2), and what Table VIII puts in their place.

Shapes: b utterances, l steps (every sequence has them all: nothing here is padding), k tokens, d = dim. A dict holds
one tensor a modality, audio before visual.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def others(names: Sequence[str]) -> dict[str, str]:
    """Whom each modality asks: the other one; a modality alone asks itself."""
    return dict(zip(names, reversed(names), strict=True))


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d / heads)) V, with the bias-free maps of eqs. (3)-(5); `join` maps the heads' results."""

    def __init__(self, *, dim: int, heads: int, join: bool):
        super().__init__()
        if dim % heads:
            raise RequestError(
                f"attention width {dim} is not a multiple of {heads} heads: change dim or the number of heads"
            )
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.join = nn.Linear(dim, dim) if join else nn.Identity()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: b k d; key and value: b l d. Returns b k d."""
        maps = ((self.query, query), (self.key, key), (self.value, value))
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project, x in maps
        )  # b n d -> b h n e
        return self.join(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class SelfAttention(nn.Module):
    """The standard multi-head attention of a sequence to itself: b n d -> b n d."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.attend = Attention(dim=dim, heads=heads, join=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x, x)


class LoneAttention(nn.Module):
    """The same where the sequence is one vector: the softmax over it is 1, so only value and output maps are left."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.value = nn.Linear(dim, dim, bias=False)
        self.join = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.value(x))


class AddNorm(nn.Module):
    """LN(drop(x) + drop(y)): Sec. IV-B drops what a part adds, and the main path x as well."""

    def __init__(self, *, dim: int, dropout: float, residual_dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.keep, self.drop = nn.Dropout(residual_dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(self.keep(x) + self.drop(y))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each with AddNorm: eqs. (8)-(9), (12)-(13), a layer of the AVAM."""

    def __init__(
        self, *, dim: int, heads: int, ff: int, activation: str, dropout: float, residual_dropout: float, alone: bool
    ):
        super().__init__()
        self.attend = (LoneAttention if alone else SelfAttention)(dim=dim, heads=heads)
        act = one_of(ACTIVATIONS, activation, "activation")()
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), act, nn.Dropout(dropout), nn.Linear(ff, dim))
        self.after_attention, self.after_feed_forward = (
            AddNorm(dim=dim, dropout=dropout, residual_dropout=residual_dropout) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_attention(x, self.attend(x))
        return self.after_feed_forward(x, self.feed_forward(x))


class CmbLayer(nn.Module):
    """A modality x asks a source: eqs. (6)-(7), then (8)-(9). `key="own"` takes the key of x, as eq. (4) prints it."""

    def __init__(
        self,
        *,
        dim: int,
        cross_heads: int,
        key: str,
        dropout: float,
        residual_dropout: float,
        encode: Callable[[], EncoderLayer],
    ):
        super().__init__()
        self.own_key = one_of({"own": True, "other": False}, key, "cmb_key")
        self.cross = Attention(
            dim=dim, heads=cross_heads, join=cross_heads > 1
        )  # eq. (6) has one head and no further map
        self.after_cross = AddNorm(dim=dim, dropout=dropout, residual_dropout=residual_dropout)
        self.encode = encode()

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        asked = self.cross(x, x if self.own_key else source, source)  # both have l steps, so either key fits
        return self.encode(self.after_cross(x, asked))


class Cmb(nn.Module):
    """Cross-Multimodal Block (eqs. 1-2): a stack of layers for each modality, which asks the other one.

    kv: "static", every layer asks the block's input; "coupled", what the other stack has made of it so far.
    """

    def __init__(self, *, names: Sequence[str], layers: int, kv: str, layer: Callable[[], CmbLayer]):
        super().__init__()
        self.static = one_of({"static": True, "coupled": False}, kv, "cmb_kv")
        self.other, self.layers = others(names), layers
        self.stacks = nn.ModuleDict({name: nn.ModuleList(layer() for _ in range(layers)) for name in names})

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        h = x
        for i in range(self.layers):
            source = x if self.static else h
            h = {name: stack[i](h[name], source[self.other[name]]) for name, stack in self.stacks.items()}
        return h


class PreNormBlock(nn.Module):
    """Chumachenko's attention block: both sides are normalised first; only the MLP has a residual."""

    def __init__(self, *, dim: int, heads: int, ff: int):
        super().__init__()
        self.norm_query, self.norm_source, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.attend = Attention(dim=dim, heads=heads, join=True)
        self.mlp = nn.Sequential(nn.Linear(dim, ff), nn.GELU(), nn.Linear(ff, dim))

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        source = self.norm_source(source)
        x = self.attend(self.norm_query(query), source, source)
        return x + self.mlp(self.norm(x))


class SimilarityEnhancement(nn.Module):
    """The block of ref. [27] (Table VIII): audio attends to itself, then one block serves both directions."""

    def __init__(self, *, names: Sequence[str], dim: int, heads: int, ff: int):
        super().__init__()
        self.other = others(names)
        self.own = nn.ModuleDict({name: PreNormBlock(dim=dim, heads=heads, ff=ff) for name in names if name == "audio"})
        self.shared = PreNormBlock(dim=dim, heads=heads, ff=ff)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        x = x | {name: block(x[name], x[name]) for name, block in self.own.items()}
        return {name: self.shared(x[name], x[other]) for name, other in self.other.items()}


def nested(u: Tensor, ask_visual: Callable, ask_audio: Callable) -> Tensor:
    """Eq. (11) as it is written, a composition."""
    return ask_audio(ask_visual(u))


def nested_residual(u: Tensor, ask_visual: Callable, ask_audio: Callable) -> Tensor:
    return u + ask_audio(ask_visual(u))


def both(u: Tensor, ask_visual: Callable, ask_audio: Callable) -> Tensor:
    return ask_visual(u) + ask_audio(u)


ASKING = {"nested": nested, "nested_residual": nested_residual, "sum": both}


class SabLayer(nn.Module):
    """The tokens u ask video and audio (eq. 11), then eqs. (12)-(13)."""

    def __init__(self, *, dim: int, cross_heads: int, query: str, encode: Callable[[], EncoderLayer]):
        super().__init__()
        self.ask = one_of(ASKING, query, "sab_query")
        self.visual, self.audio = (Attention(dim=dim, heads=cross_heads, join=cross_heads > 1) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.encode = encode()

    def forward(self, u: Tensor, visual: Tensor, audio: Tensor) -> Tensor:
        """u: b k d; visual, audio: b l d."""
        asks = (partial(self.visual, key=visual, value=visual), partial(self.audio, key=audio, value=audio))
        return self.encode(self.norm(self.ask(u, *asks)))


class Sab(nn.Module):
    """Similarity Adjustment Block (eq. 10): learnable tokens ask both modalities; their mean is x*_learn."""

    def __init__(self, *, tokens: int, dim: int, layers: int, layer: Callable[[], SabLayer]):
        super().__init__()
        self.token = nn.Parameter(torch.randn(tokens, dim))
        self.layers = nn.ModuleList(layer() for _ in range(layers))

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """x: one modality or two, b l d; one alone answers both questions. Returns `token`, b d."""
        audio, visual = (*x.values(),)[0], (*x.values(),)[-1]
        u = self.token.expand(len(audio), -1, -1)  # k d -> b k d
        for layer in self.layers:
            u = layer(u, visual, audio)
        return {"token": u.mean(1)}
