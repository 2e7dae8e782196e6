"""Level 2 of HFF: attention between the steps of a sequence, and the residual from level 1 (Sec. 3.2 (2), eqs. 21-23).

Shapes: B sequences of s steps, which are dialogues and their utterances, or utterances and their modalities; d = dim,
h heads of width e. Masks are True on real steps.
"""

from functools import partial
from typing import Any

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
