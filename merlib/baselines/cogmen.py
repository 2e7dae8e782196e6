"""COGMEN (Joshi et al. 2022): a Transformer over the dialogue, then a relational and an attentive graph convolution.

The Transformer has no positions. Shapes: b dialogues, n utterances (padded), N real utterances, i width of the
concatenated features, h heads of width e, r relations, c classes.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.dialoguegcn import relations, send, window_edges
from merlib.baselines.grouped_gru import uniform
from merlib.errors import RequestError
from merlib.layers.attention import Rows
from merlib.layers.basics import normalise

VERSION = 2  # dropout is drawn for real utterances only


def attend(q: Tensor, k: Tensor, v: Tensor, rows: Rows, dropout: float) -> Tensor:
    """Attention within each dialogue, N h e -> N h e; dropout: the share of attention weights that are left out.

    On a CPU dialogue by dialogue, so that padding costs nothing; on a GPU in one padded call.
    """
    if q.is_cuda:
        heads = (rows.unpack(x).transpose(1, 2) for x in (q, k, v))  # b h n e
        y = F.scaled_dot_product_attention(*heads, attn_mask=rows.mask[:, None, None], dropout_p=dropout)
        return rows.pack(y.transpose(1, 2))
    dialogues = zip(*(x.transpose(0, 1).split(rows.sizes, dim=1) for x in (q, k, v)), strict=True)  # h n e each
    y = [F.scaled_dot_product_attention(*heads, dropout_p=dropout) for heads in dialogues]
    return torch.cat(y, dim=1).transpose(0, 1)


def encode(layer: nn.TransformerEncoderLayer, x: Tensor, rows: Rows) -> Tensor:
    """The layer on packed rows, N i -> N i: its own forward pass computes the padding too."""
    attention = layer.self_attn
    projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, attention.num_heads, -1)).unbind(1)  # N (3 h e) -> N h e
    attended = attend(q, k, v, rows, attention.dropout if layer.training else 0.0)
    x = layer.norm1(x + layer.dropout1(attention.out_proj(attended.flatten(1))))
    return layer.norm2(x + layer.dropout2(layer.linear2(layer.dropout(F.relu(layer.linear1(x))))))


class RelationalConvolution(nn.Module):
    """W x_j + b + sum_r mean_i W_r x_i, over the neighbours i that stand in relation r to j."""

    def __init__(self, *, dim: int, relations: int):
        super().__init__()
        self.weight = uniform(relations, dim, dim, fan_in=dim)
        self.itself = nn.Linear(dim, dim)

    def forward(self, x: Tensor, edges: Tensor, kind: Tensor) -> Tensor:
        """x: b n d; edges: b i j; kind: b i j r. Returns b n d."""
        share = (edges.unsqueeze(-1) & kind).to(x.dtype)
        share = share / share.sum(1, keepdim=True).clamp(min=1)  # over the senders i
        return send(x, self.weight, share) + self.itself(x)


class AttentiveConvolution(nn.Module):
    """Attention of each utterance over its neighbours, `heads` times as wide as the input, plus a linear skip path."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.value, self.skip = (nn.Linear(dim, heads * dim) for _ in range(3))
        self.key = nn.Linear(dim, heads * dim, bias=False)  # the released bias cancels in the softmax

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """x: b n d; edges: b i j. Returns b n (h d)."""
        q, k, v = (
            rearrange(linear(x), "b n (h d) -> b h n d", h=self.heads) for linear in (self.query, self.key, self.value)
        )
        received = F.scaled_dot_product_attention(q, k, v, attn_mask=edges.mT.unsqueeze(1))
        return rearrange(received, "b h n d -> b n (h d)") + self.skip(x)


class Cogmen(nn.Module):
    """The released network on concatenated features.

    Without `mask_padding`, as released, the Transformer attends to padding. context_heads: 0 for the released code's
    number, the first of 7 to 14 that divides the width of the features, or else 1.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, speakers: int, context_layers: int, context_heads: int,
        context_ff: int, dim: int, window_past: int, window_future: int, graph_heads: int, mask_padding: bool,
        dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.modalities, self.speakers, self.mask_padding = tuple(dims), speakers, mask_padding
        self.window = {"past": window_past, "future": window_future}
        width = sum(dims.values())
        heads = context_heads or next((h for h in range(7, 15) if width % h == 0), 1)
        if width % heads:
            raise RequestError(
                f"{heads} heads do not divide the features' width {width}: set context_heads = 0 for the released rule"
            )
        layer = nn.TransformerEncoderLayer(width, heads, context_ff, dropout, batch_first=True)
        self.context = nn.TransformerEncoder(layer, context_layers, enable_nested_tensor=False)
        self.project = nn.Linear(width, dim)
        self.relate = RelationalConvolution(dim=dim, relations=2 * speakers * speakers)
        self.attend = AttentiveConvolution(dim=dim, heads=graph_heads)
        self.norm = nn.BatchNorm1d(graph_heads * dim)
        self.embed = nn.Linear(graph_heads * dim, dim)
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear(dim, classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        u, mask = torch.cat([batch[name] for name in self.modalities], dim=-1), batch["mask"]  # b n i
        context = Rows(mask if self.mask_padding else torch.ones_like(mask))
        x = context.pack(u)  # b n i -> N i
        for layer in self.context.layers:
            x = encode(layer, x, context)
        x = context.unpack(self.project(x))
        edges = window_edges(mask, **self.window)
        x = self.relate(x, edges, relations(batch["speaker"], parties=self.speakers))
        x = self.attend(x, edges)
        rows = Rows(mask)  # padding does not enter the batch statistics
        x = rows.unpack(F.leaky_relu(normalise(self.norm, rows.pack(x))))
        z = F.relu(self.embed(x))
        return {"logits": self.classify(self.drop(z)), "embedding": z}
