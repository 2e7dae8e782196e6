"""The attention and the transformer layer that CMB, SAB and AVAM of ATTSF-Net are made of (Sec. III-C, Fig. 2).

Shapes: b utterances, l steps (every sequence has all of them, without padding), k query steps, d = dim, h heads.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d / heads)) V, with the bias-free maps of eqs. (3)-(5); with `output`, and an output map."""

    def __init__(self, *, dim: int, heads: int, output: bool):
        super().__init__()
        if dim % heads:
            raise RequestError(
                f"attention width {dim} is not a multiple of {heads} heads: change dim or the number of heads"
            )
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.output = nn.Linear(dim, dim) if output else nn.Identity()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: b k d; key and value: b l d. Returns b k d."""
        maps = ((self.query, query), (self.key, key), (self.value, value))
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project, x in maps
        )  # b n d -> b h n (d/h)
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class SelfAttention(nn.Module):
    """The standard multi-head attention of a sequence to itself: b l d -> b l d."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.attend = Attention(dim=dim, heads=heads, output=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x, x)


class SingleAttention(nn.Module):
    """Self-attention of a sequence of one vector: the softmax is 1, so only the value and output maps are left."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.value(x))


class AddNorm(nn.Module):
    """LN(dropout(x) + dropout(y)): Sec. IV-B applies dropout to the output y of a part and to the main path x."""

    def __init__(self, *, dim: int, dropout: float, residual_dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.drop_main, self.drop_part = nn.Dropout(residual_dropout), nn.Dropout(dropout)

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
        self.attend = (SingleAttention if single else SelfAttention)(dim=dim, heads=heads)
        act = one_of(ACTIVATIONS, activation, "option of model.transformer.activation")()
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), act, nn.Dropout(dropout), nn.Linear(ff, dim))
        self.after_attention, self.after_feed_forward = (
            AddNorm(dim=dim, dropout=dropout, residual_dropout=residual_dropout) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_attention(x, self.attend(x))
        return self.after_feed_forward(x, self.feed_forward(x))
