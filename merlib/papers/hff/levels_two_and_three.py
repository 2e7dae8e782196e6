"""Levels 2 and 3 of HFF (Sec. 3.2 (2)-(3), eqs. 21-28): attention and the residual from level 1; a GRU and a sum.

Shapes: B sequences of s steps, which are dialogues and their utterances, or utterances and their modalities; d = dim,
h heads of width e. Masks are True on real steps.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of
from merlib.layers.basics import Unchanged
from merlib.registry import bind

# Width of a head. Where the heads divide dim, "floor" and "pad" are the standard attention; "fixed" is it with 8 heads.
WIDTHS = {
    "floor": lambda dim, heads: dim // heads,
    "fixed": lambda dim, heads: dim // 8,
    "pad": lambda dim, heads: -(-dim // heads),
}


class Attention(nn.Module):
    """Multi-head attention (eqs. 21-23) with any number of heads: queries, keys and values are h e wide, whatever d."""

    def __init__(self, *, dim: int, heads: int, head_split: str, dropout: float):
        super().__init__()
        inner = heads * one_of(WIDTHS, head_split, "option of model.attention.head_split")(dim, heads)
        if not inner:
            raise RequestError(f"dim {dim} leaves {heads} heads ({head_split}) no width: fewer heads, or a larger dim")
        self.heads, self.dropout = heads, dropout
        self.query_key_value = nn.Linear(dim, 3 * inner)
        self.out = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: B s d; mask: B s."""
        qkv = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))  # B s d -> B s 3 h e
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # B h s e each
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None], dropout_p=dropout)
        return self.out(attended.transpose(1, 2).flatten(-2))


class EncoderLayer(nn.Module):
    """PyTorch's encoder layer with any number of heads: each stage is LN(x + dropout(stage(x)))."""

    def __init__(self, *, dim: int, heads: int, head_split: str, ff: int, dropout: float):
        super().__init__()
        self.attend = Attention(dim=dim, heads=heads, head_split=head_split, dropout=dropout)
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.attend(x, mask)))
        return self.norms[1](x + self.drop(self.feed_forward(x)))


class Encoder(nn.Module):
    """The Transformer encoder of Sec. 4.1: B s d -> B s d."""

    def __init__(self, *, layers: int, ff_ratio: int, dim: int, heads: int, head_split: str, dropout: float):
        super().__init__()
        layer = {"dim": dim, "heads": heads, "head_split": head_split, "ff": ff_ratio * dim, "dropout": dropout}
        self.layers = nn.ModuleList(EncoderLayer(**layer) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class Interaction(nn.Module):
    """Level 2: f2 = attention(f0) + f1 (eqs. 21-23).

    The encoder of Sec. 4.1 takes the place of the attention ("level2"), follows eq. (23) ("separate"), or is left out
    ("single").
    """

    def __init__(self, *, dim: int, heads: int, head_split: str, encoder: dict[str, Any], dropout: float):
        super().__init__()
        place = one_of(("level2", "separate", "single"), encoder["name"], "option of model.attention.encoder.name")
        attention = {"dim": dim, "heads": heads, "head_split": head_split, "dropout": dropout}
        stack = partial(bind, Encoder, encoder, what="model.attention.encoder", **attention)
        self.attend = stack() if place == "level2" else Attention(**attention)
        self.encode = stack() if place == "separate" else Unchanged()

    def forward(self, f0: Tensor, f1: Tensor, mask: Tensor) -> Tensor:
        """f0: B s d; f1: B s d or B 1 d; mask: B s. Returns B s d."""
        return self.encode(self.attend(f0, mask) + f1, mask)  # eq. 23


class Sum(nn.Module):
    """Level 2 without attention: f2 = f0 + f1 (Table 4, "Without attention mechanism")."""

    def forward(self, f0: Tensor, f1: Tensor, mask: Tensor) -> Tensor:
        return f0 + f1


ATTENTIONS = {"multihead": Interaction, "none": Sum}


class TorchGru(nn.Module):
    """Level 3 by PyTorch's GRU: with biases, and the reset gate after the product. B s d; padding comes last."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.rnn = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.rnn(x)[0]


class PaperGru(nn.Module):
    """The GRU of eqs. (24)-(27), without biases. The products with x are computed for all steps at once."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.read = nn.Linear(dim, 3 * dim, bias=False)  # the columns of W_z, W_r and W_h that multiply x
        self.gate = nn.Linear(dim, 2 * dim, bias=False)  # those of W_z and W_r that multiply h
        self.recall = nn.Linear(dim, dim, bias=False)  # those of W_h that multiply r h

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h, states, dim = torch.zeros_like(x[:, 0]), [], x.shape[-1]
        gates, candidates = self.read(x).split([2 * dim, dim], dim=-1)
        for gate, candidate in zip(gates.unbind(1), candidates.unbind(1), strict=True):
            z, r = (gate + self.gate(h)).sigmoid().chunk(2, -1)  # eq. 24-25
            h = h + z * ((candidate + self.recall(r * h)).tanh() - h)  # eq. 26-27
            states.append(h)
        return torch.stack(states, dim=1)


def gru(*, dim: int, cell: str) -> nn.Module:
    return one_of({"torch": TorchGru, "paper": PaperGru}, cell, "option of model.temporal.cell")(dim=dim)


class PerQuery(nn.Module):
    """Eq. (28) for each step t: f_t = sum_s beta_ts h_s, with beta_t the softmax over s of <h_t, h_s>.

    No parameters, as eq. (28) has none, and no scale: at first every utterance weighs its own state most.
    """

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        h = h.unsqueeze(1)
        return F.scaled_dot_product_attention(h, h, h, attn_mask=mask[:, None, None], scale=1.0).squeeze(1)


class Global(nn.Module):
    """Eq. (28) as it is printed: one beta for each sequence, so that all its steps get the same vector."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        beta = self.score(h).masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(1)  # B s 1
        return (beta * h).sum(1, keepdim=True).expand_as(h)


TEMPORALS = {"gru": gru, "none": Unchanged}
POOLINGS = {"per_query": PerQuery, "state": Unchanged, "global": Global}
