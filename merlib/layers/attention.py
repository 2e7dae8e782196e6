"""Attention between the modalities of a dialogue, up to MultiEMO's and MFCRE's MultiAttn fusion; a position code.

Shapes: b dialogues, n utterances (padded), N real utterances of all dialogues, d = dim, h heads of width e, m query
modalities, s attentions computed together (`together`). Masks are True on real utterances.
Sources: Shi & Huang 2023 (MultiEMO), Sec. 3.4; the MFCRE paper, Sec. 3.4.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.layers.together import LayerNorm, Linear, add_dropped, dropout_factors, together


def sinusoid(x: Tensor) -> Tensor:
    """Position code of the n steps in x (... n d): sines at even channels, cosines at odd ones. Returns n d."""
    n, d = x.shape[-2:]
    rate = torch.exp(torch.arange(0, d, 2, device=x.device) * (-math.log(10000.0) / d))
    angle = torch.arange(n, device=x.device).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :d].to(x.dtype)


class Rows:
    """The real utterances of padded dialogues as the rows of one matrix; only attention needs the dialogues again.

    On a CPU, attention is computed dialogue by dialogue, so padding costs nothing; on a GPU in one padded call.
    """

    def __init__(self, mask: Tensor, keys: Tensor | None = None):
        """mask: b n, what becomes a row; keys: b n, which of the rows may be attended to, first ones (None: all)."""
        self.mask, self.keys, self.padded = mask, mask if keys is None else keys, mask.is_cuda
        self.sizes, self.attended = ([], []) if self.padded else (m.sum(1).tolist() for m in (self.mask, self.keys))
        self.positions = mask.flatten().nonzero().squeeze(1)  # N, of the real utterances among b n

    def pack(self, x: Tensor) -> Tensor:
        """b n ... -> N ..."""
        return x.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, x: Tensor) -> Tensor:
        """N ... -> b n ..., zero on padding."""
        padded = x.new_zeros(self.mask.numel(), *x.shape[1:])
        return padded.index_copy(0, self.positions, x).unflatten(0, self.mask.shape)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """softmax(scale q k^T) v within each dialogue: s N h e each -> s N h e. scale: 1 / sqrt(e) unless given."""
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        return (self._padded_attention if self.padded else self._attention_by_dialogue)(q, k, v, scale)

    def _padded_attention(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        heads = (self.unpack(x.transpose(0, 1).flatten(1, 2)).transpose(1, 2) for x in (q, k, v))  # b (s h) n e
        y = F.scaled_dot_product_attention(*heads, attn_mask=self.keys[:, None, None], scale=scale)
        return self.pack(y.transpose(1, 2)).unflatten(1, (len(q), -1)).transpose(0, 1)

    def _attention_by_dialogue(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """In float32 or better: the products of a dialogue are so small that bf16 costs more time than it saves."""
        dtype, layout = torch.promote_types(q.dtype, torch.float32), torch.contiguous_format
        heads = [x.transpose(1, 2).to(dtype, memory_format=layout).flatten(0, 1) for x in (q, k, v)]  # (s h) N e
        dialogues = zip(*(x.split(self.sizes, dim=1) for x in heads), self.attended, strict=True)
        with torch.autocast(q.device.type, enabled=False):
            y = [((scale * q) @ k[:, :n].mT).softmax(-1) @ v[:, :n] for q, k, v, n in dialogues]
        return torch.cat(y, dim=1).to(q.dtype).unflatten(0, (len(q), -1)).transpose(1, 2)


class CrossAttention(nn.Module):
    """Multi-head attention from one modality's utterances to another's, over the whole dialogue, past and future."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise RequestError(f"attention width {dim} is not a multiple of {heads} heads: change dim or heads")
        self.heads = heads
        self.query = Linear(dim, dim)
        self.key_value = Linear(dim, 2 * dim)
        self.out = Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor, rows: Rows) -> Tensor:
        """x, source: s N d. Returns s N d."""
        q = self.query(x).unflatten(-1, (self.heads, -1))  # s N d -> s N h e
        k, v = self.key_value(source).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return self.out(rows.attention(q, k, v).flatten(-2))


class MultiAttnLayer(nn.Module):
    """Attention to one source after the other, then a feed-forward stage; each is LN(x + dropout(stage(x)))."""

    def __init__(self, *, sources: int, dim: int, heads: int, ff: int):
        super().__init__()
        self.attend = nn.ModuleList(CrossAttention(dim=dim, heads=heads) for _ in range(sources))
        self.feed_forward = nn.Sequential(Linear(dim, ff), nn.ReLU(), Linear(ff, dim))
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in range(sources))
        self.last_norm = LayerNorm(dim)

    def forward(self, x: Tensor, sources: Sequence[Tensor], rows: Rows, drops: Sequence[Tensor | None]) -> Tensor:
        """x, sources: s N d; drops: factors of dropout, s N d, for each source and for the feed-forward stage."""
        *drops, last_drop = drops
        for attend, norm, source, drop in zip(self.attend, self.norms, sources, drops, strict=True):
            x = norm(add_dropped(x, attend(x, source, rows), drop))
        return self.last_norm(add_dropped(x, self.feed_forward(x), last_drop))


class MultiAttn(nn.Module):
    """One stack of layers per query modality. Layers update the query; keys and values stay the inputs.

    With modalities in the order text, audio, visual the sources are text <- (audio, visual),
    audio <- (text, visual), visual <- (text, audio). One modality alone keeps only the feed-forward stages.
    `mask_padding=False` is the released code: attention reaches padding, so a result depends on its batch.
    The layers of all stacks at one depth are computed together.
    """

    def __init__(
        self, *, modalities: Sequence[str], dim: int, heads: int, ff: int, layers: int, dropout: float,
        mask_padding: bool,
    ):  # fmt: skip
        super().__init__()
        self.mask_padding, self.dropout = mask_padding, dropout
        layer = {"sources": len(modalities) - 1, "dim": dim, "heads": heads, "ff": ff}
        self.stacks = nn.ModuleDict(
            {name: nn.ModuleList(MultiAttnLayer(**layer) for _ in range(layers)) for name in modalities}
        )

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """x: b n d for each modality; mask: b n. Returns the fused features, b n d for each modality, 0 on padding."""
        rows, names = Rows(mask if self.mask_padding else torch.ones_like(mask)), list(self.stacks)
        packed = {name: rows.pack(x[name]) for name in names}  # N d
        others = [[packed[other] for other in names if other != name] for name in names]
        sources = [torch.stack(of_each) for of_each in zip(*others, strict=True)]  # the first one of each, the second
        fused = torch.stack(list(packed.values()))  # m N d
        depths = list(zip(*self.stacks.values(), strict=True))
        for layers, drops in zip(depths, self._drops(fused, len(depths)), strict=True):
            fused = together(layers, fused, sources, rows, drops)
        return dict(zip(names, map(rows.unpack, fused), strict=True))

    def _drops(self, x: Tensor, layers: int) -> Sequence[Sequence[Tensor | None]]:
        """For each depth, the factors of dropout of the stages (m N d each), drawn stack by stack as if one by one.

        The released code drops the feed-forward output twice, so the factors of the last stage are products of two.
        """
        stages = len(self.stacks)
        if not (self.training and self.dropout):
            return [[None] * stages] * layers
        factors = dropout_factors(self.dropout, (len(x), layers, stages + 1, *x.shape[1:]), like=x)
        return [(*depth[:-2], depth[-2] * depth[-1]) for depth in (f.unbind(1) for f in factors.unbind(1))]
