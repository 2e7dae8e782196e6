"""Attention between the modalities of a dialogue, up to MultiEMO's and MFCRE's MultiAttn fusion; a position code.

Shapes: b dialogues, n utterances (padded), N real utterances of all dialogues, d = dim, h heads of width e.
Masks are True on real utterances.
Sources: Shi & Huang 2023 (MultiEMO), Sec. 3.4; the MFCRE paper, Sec. 3.4.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError


def sinusoid(x: Tensor) -> Tensor:
    """Position code of the n steps in x (... n d): sines at even channels, cosines at odd ones. Returns n d."""
    n, d = x.shape[-2:]
    rate = torch.exp(torch.arange(0, d, 2, device=x.device) * (-math.log(10000.0) / d))
    angle = torch.arange(n, device=x.device).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :d].to(x.dtype)


def padded_attention(q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
    """q, k, v: b n h e; keys: b 1 1 n, the positions that may be attended to (None: all). Returns b n h e."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # b n h e -> b h n e
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2)


class Rows:
    """The real utterances of padded dialogues as the rows of one matrix; only attention needs the dialogues again.

    On a CPU, attention is computed dialogue by dialogue, so padding costs nothing; on a GPU in one padded call.
    """

    def __init__(self, mask: Tensor):
        """mask: b n."""
        self.mask, self.padded = mask, mask.is_cuda
        self.sizes = [] if self.padded else mask.sum(1).tolist()
        self.positions = mask.flatten().nonzero().squeeze(1)  # N, of the real utterances among b n

    def pack(self, x: Tensor) -> Tensor:
        """b n ... -> N ..."""
        return x.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, x: Tensor) -> Tensor:
        """N ... -> b n ..., zero on padding."""
        padded = x.new_zeros(self.mask.numel(), *x.shape[1:])
        return padded.index_copy(0, self.positions, x).unflatten(0, self.mask.shape)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """N h e each -> N h e."""
        if self.padded:
            return self.pack(padded_attention(*map(self.unpack, (q, k, v)), self.mask[:, None, None]))
        dialogues = zip(*(x.unsqueeze(0).split(self.sizes, dim=1) for x in (q, k, v)), strict=True)
        return torch.cat([padded_attention(*qkv, None) for qkv in dialogues], dim=1).squeeze(0)


class CrossAttention(nn.Module):
    """Multi-head attention from one modality's utterances to another's, over the whole dialogue, past and future."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise RequestError(f"attention width {dim} is not a multiple of {heads} heads: change dim or heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor, keys: Rows | Tensor | None) -> Tensor:
        """x, source: N d, with their Rows as keys; or b n d, with keys b 1 1 n (None: all). Returns the shape of x."""
        q = self.query(x).unflatten(-1, (self.heads, -1))  # ... d -> ... h e
        k, v = self.key_value(source).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        attended = keys.attention(q, k, v) if isinstance(keys, Rows) else padded_attention(q, k, v, keys)
        return self.out(attended.flatten(-2))


class MultiAttnLayer(nn.Module):
    """Attention to one source after the other, then a feed-forward stage; each is LN(x + dropout(stage(x)))."""

    def __init__(self, *, sources: int, dim: int, heads: int, ff: int, dropout: float):
        super().__init__()
        self.attend = nn.ModuleList(CrossAttention(dim=dim, heads=heads) for _ in range(sources))
        # The released code drops the feed-forward output twice: here, and again before the residual sum.
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), nn.ReLU(), nn.Linear(ff, dim), nn.Dropout(dropout))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sources))
        self.last_norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, sources: Sequence[Tensor], rows: Rows) -> Tensor:
        """x, sources: N d. Returns N d."""
        for attend, norm, source in zip(self.attend, self.norms, sources, strict=True):
            x = norm(x + self.drop(attend(x, source, rows)))
        return self.last_norm(x + self.drop(self.feed_forward(x)))


class MultiAttn(nn.Module):
    """One stack of layers per query modality. Layers update the query; keys and values stay the inputs.

    With modalities in the order text, audio, visual the sources are text <- (audio, visual),
    audio <- (text, visual), visual <- (text, audio). One modality alone keeps only the feed-forward stages.
    `mask_padding=False` is the released code: attention reaches padding, so a result depends on its batch.
    """

    def __init__(
        self, *, modalities: Sequence[str], dim: int, heads: int, ff: int, layers: int, dropout: float,
        mask_padding: bool,
    ):  # fmt: skip
        super().__init__()
        self.mask_padding = mask_padding
        layer = {"sources": len(modalities) - 1, "dim": dim, "heads": heads, "ff": ff, "dropout": dropout}
        self.stacks = nn.ModuleDict(
            {name: nn.ModuleList(MultiAttnLayer(**layer) for _ in range(layers)) for name in modalities}
        )

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """x: b n d for each modality; mask: b n. Returns the fused features, b n d for each modality, 0 on padding."""
        rows = Rows(mask if self.mask_padding else torch.ones_like(mask))
        x = {name: rows.pack(x[name]) for name in self.stacks}  # b n d -> N d
        fused = {}
        for name, stack in self.stacks.items():
            sources = [x[other] for other in self.stacks if other != name]
            fused[name] = x[name]
            for layer in stack:
                fused[name] = layer(fused[name], sources, rows)
        return {name: rows.unpack(value) for name, value in fused.items()}
