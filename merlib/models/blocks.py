"""Parts that MultiEMO and MFCRE share unchanged: the MultiAttn fusion network and the classification head.

Shapes: b dialogues, n utterances, m modalities, d = dim, h heads, c classes. Masks are True on real utterances.
Sources: Shi & Huang 2023 (MultiEMO), Sec. 3.4-3.5; the MFCRE paper, Sec. 3.4-3.5, eq. (6)-(9).
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class CrossAttention(nn.Module):
    """Multi-head attention of one modality's utterances to another's, over the whole dialogue, past and future."""

    def __init__(self, *, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention width {dim} is not a multiple of {heads} heads: change dim or heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor, keys: Tensor | None) -> Tensor:
        """x, source: b n d; keys: b 1 1 n, the positions that may be attended (None: all). Returns b n d."""
        q = rearrange(self.query(x), "b n (h e) -> b h n e", h=self.heads)
        k, v = rearrange(self.key_value(source), "b n (two h e) -> two b h n e", two=2, h=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(rearrange(attended, "b h n e -> b n (h e)"))


class MultiAttnLayer(nn.Module):
    """Attention to each source in turn, then a feed-forward stage; every stage is LN(x + dropout(stage(x)))."""

    def __init__(self, *, sources: int, dim: int, heads: int, ff: int, dropout: float):
        super().__init__()
        self.attend = nn.ModuleList(CrossAttention(dim=dim, heads=heads) for _ in range(sources))
        # The released code drops the feed-forward output twice: here, and again before the residual sum.
        self.feed_forward = nn.Sequential(nn.Linear(dim, ff), nn.ReLU(), nn.Linear(ff, dim), nn.Dropout(dropout))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sources))
        self.last_norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, sources: Sequence[Tensor], keys: Tensor | None) -> Tensor:
        for attend, norm, source in zip(self.attend, self.norms, sources, strict=True):
            x = norm(x + self.drop(attend(x, source, keys)))
        return self.last_norm(x + self.drop(self.feed_forward(x)))


class MultiAttn(nn.Module):
    """One stack per query modality. Only the query changes from layer to layer; keys and values stay the inputs.

    With modalities in the order text, audio, visual the sources are text <- (audio, visual),
    audio <- (text, visual), visual <- (text, audio). One modality alone keeps only the feed-forward stages.
    `mask_padding=False` is the released code: padded utterances are attended, so a result depends on its batch.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        dim: int,
        heads: int,
        ff: int,
        layers: int,
        dropout: float,
        mask_padding: bool,
    ):
        super().__init__()
        self.mask_padding = mask_padding
        layer = {"sources": len(modalities) - 1, "dim": dim, "heads": heads, "ff": ff, "dropout": dropout}
        self.stacks = nn.ModuleDict(
            {name: nn.ModuleList(MultiAttnLayer(**layer) for _ in range(layers)) for name in modalities}
        )

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """x: b n d for each modality; mask: b n. Returns the fused features, b n d for each modality."""
        keys = mask[:, None, None, :] if self.mask_padding else None  # b n -> b 1 1 n
        fused = {}
        for name, stack in self.stacks.items():
            sources = [x[other] for other in self.stacks if other != name]
            fused[name] = x[name]
            for layer in stack:
                fused[name] = layer(fused[name], sources, keys)
        return fused


class Head(nn.Module):
    """Concatenated modalities -> z, the feature that the contrastive loss reads -> class scores (MFCRE eq. 6-9).

    The released MultiEMO code applies its dropout (0 by default) to the class scores; here it is on the hidden layer.
    """

    def __init__(self, *, modalities: int, dim: int, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.embed = nn.Linear(modalities * dim, dim)  # eq. 7
        self.classify = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )  # eq. 8-9

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """fused: b n m d. Returns the class scores b n c and the embedding z b n d."""
        z = self.embed(torch.flatten(fused, start_dim=-2))  # b n m d -> b n (m d), eq. 6
        return self.classify(z), z
