"""COGMEN (Joshi et al. 2022): a Transformer over the dialogue, then a relational and an attentive graph convolution.

The Transformer has no positions. Shapes: b dialogues, n utterances (padded), i width of the concatenated features,
h heads, r relations, c classes.
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

VERSION = 1


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
        x = self.project(self.context(u, src_key_padding_mask=~mask if self.mask_padding else None))
        edges = window_edges(mask, **self.window)
        x = self.relate(x, edges, relations(batch["speaker"], parties=self.speakers))
        x = self.attend(x, edges)
        rows = Rows(mask)  # padding does not enter the batch statistics
        x = rows.unpack(F.leaky_relu(normalise(self.norm, rows.pack(x))))
        z = F.relu(self.embed(x))
        return {"logits": self.classify(self.drop(z)), "embedding": z}
