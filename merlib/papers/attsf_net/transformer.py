"""Attention and transformer layer of ATTSF-Net (Sec. III-C, Fig. 2), and AVAM (Sec. III-E), which consists of them.

Shapes: b utterances, l steps (every sequence has all of them, without padding), k query steps, d = dim.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from merlib import registry
from merlib.errors import RequestError, one_of
from merlib.layers.ragged import attend
from merlib.papers.attsf_net.dropout import Dropout


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d / heads)) V, with the bias-free maps of eqs. (3)-(5); with `output`, and an output map."""

    def __init__(self, *, dim: int, heads: int, output: bool):
        super().__init__()
        if dim % heads:
            raise RequestError(f"attention width {dim} is not a multiple of {heads} heads: change dim or the heads")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.output = nn.Linear(dim, dim) if output else nn.Identity()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: b k d; key and value: b l d. Returns b k d."""
        if key is value and query.shape[1] * self.heads < key.shape[1]:
            return self.output(self._few(query, key))
        # On a CPU the fused kernel is deterministic, and faster; `loop.make_deterministic` forbids it for GPUs' sake.
        with nullcontext() if query.is_cuda else sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            return self.output(attend(self.query(query), self.key(key), self.value(value), None, self.heads))

    def _few(self, query: Tensor, source: Tensor) -> Tensor:
        """The same for few queries, without a key and a value of every step: q (W_k x) = (W_k^T q) x."""
        q = self.query(query).unflatten(-1, (self.heads, -1))  # b k d -> b k h e
        key, value = (linear.weight.unflatten(0, (self.heads, -1)) for linear in (self.key, self.value))  # h e d
        scores = torch.einsum("bkhe,hed->bkhd", q, key).flatten(1, 2) @ source.transpose(1, 2)  # b (k h) l
        attended = (scores / q.shape[-1] ** 0.5).softmax(-1) @ source  # b (k h) d
        attended = attended.unflatten(1, (-1, self.heads))  # b k h d
        return torch.einsum("bkhd,hed->bkhe", attended, value).flatten(2)


class SingleAttention(nn.Module):
    """Self-attention of a sequence of one vector: the softmax is 1, so only the value and output maps are left."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.output(self.value(value))


class AddNorm(nn.Module):
    """LN(dropout(x) + dropout(y)): Sec. IV-B applies dropout to the output y of a part and to the main path x."""

    def __init__(self, *, dim: int, dropout: float, residual_dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.drop_main, self.drop_part = Dropout(residual_dropout), Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(self.drop_main(x) + self.drop_part(y))


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network, each with AddNorm: eqs. (8)-(9), (12)-(13), and AVAM (Sec. III-E).

    single: the sequence is one vector.
    """

    def __init__(
        self, *, dim: int, ff: int, heads: int, activation: str, dropout: float, residual_dropout: float,
        single: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.attend = SingleAttention(dim=dim) if single else Attention(dim=dim, heads=heads, output=True)
        act = one_of({"gelu": nn.GELU, "relu": nn.ReLU}, activation, "option of model.transformer.activation")()
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), act, Dropout(dropout), nn.Linear(ff, dim))
        self.after_attention, self.after_feed_forward = (
            AddNorm(dim=dim, dropout=dropout, residual_dropout=residual_dropout) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_attention(x, self.attend(x, x, x))
        return self.after_feed_forward(x, self.feed_forward(x))


LETTERS = {"text": "T", "audio": "A", "visual": "V"}  # of the modalities in a recipe


def auxiliary_branches(names: Sequence[str], main: Sequence[str], modalities: str) -> list[str]:
    """Which modalities have an auxiliary module: those without a main branch, and those that `modalities` names."""
    return [name for name in names if name not in main or LETTERS[name] in modalities]


class Avam(nn.Module):
    """Audio-Visual Auxiliary Modules (Sec. III-E): per modality, a transformer encoder and its mean over time.

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
