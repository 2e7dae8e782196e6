"""MFCRE (Sec. 3.2-3.5, Fig. 1): context modelling, modality encoder, multimodal fusion, emotion classification.

Shapes: b dialogues, n utterances, N real utterances of all dialogues, m modalities, k streams of one modality, d = dim,
w = width after the context module, c classes. Masks are True on real utterances. The modality encoder (Fig. 4) is also
that of Ma et al. 2023 (SDT).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from merlib.errors import one_of
from merlib.layers.attention import CrossAttention, MultiAttn, Rows, sinusoid
from merlib.layers.basics import Head, Unchanged
from merlib.papers.mfcre.dialoguecrn import DialogueCRN
from merlib.registry import bind, part

VERSION = 1

POSITIONS = {"sinusoid": sinusoid, "none": lambda x: x.new_zeros(x.shape[-2:])}


class TransformerLayer(nn.Module):
    """SDT's layer: the first one has no normalisation before attention, and the source is never normalised."""

    def __init__(self, *, dim: int, heads: int, ff: int, dropout: float, first: bool):
        super().__init__()
        self.norm = nn.Identity() if first else nn.LayerNorm(dim, eps=1e-6)
        self.attend = CrossAttention(dim=dim, heads=heads)
        self.drop = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, ff), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(ff, dim), nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor, source: Tensor | None, keys: Rows | Tensor) -> Tensor:
        """x, source: N d, with their Rows as keys; or b n d, with keys b 1 1 n. No source: self-attention."""
        x = self.norm(x)
        x = x + self.drop(self.attend(x, x if source is None else source, keys))
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """H_{n->m} (eq. 5): queries of modality m; keys and values of n, the same at every layer. n = m is eq. 4."""

    def __init__(self, *, layers: int, dim: int, heads: int, ff: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(dim=dim, heads=heads, ff=ff, dropout=dropout, first=i == 0) for i in range(layers)
        )

    def forward(self, x: Tensor, source: Tensor | None, keys: Rows | Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, source, keys)
        return x


class Concat(nn.Module):
    """The streams of one modality, concatenated and projected: ... k d -> ... d."""

    def __init__(self, *, streams: int, dim: int):
        super().__init__()
        self.out = nn.Linear(streams * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.flatten(-2))


class Gate(nn.Module):
    """SDT's merge: each stream times its sigmoid gate, then concatenated and projected: ... k d -> ... d."""

    def __init__(self, *, streams: int, dim: int):
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(streams))
        self.concat = Concat(streams=streams, dim=dim)

    def forward(self, x: Tensor) -> Tensor:
        gated = [stream * gate(stream).sigmoid() for gate, stream in zip(self.gates, x.unbind(-2), strict=True)]
        return self.concat(torch.stack(gated, dim=-2))


class Sum(nn.Module):
    """The sum of the streams: ... k d -> ... d."""

    def __init__(self, *, streams: int, dim: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-2)


MERGES = {"concat": Concat, "gate": Gate, "sum": Sum, "intra": Sum}


class Convolutions(nn.Module):
    """Map each modality to the shared space by a 1-D convolution of kernel 1 (a Linear without bias): b n w -> b n d.

    Used alone, it is the row "w/o Modality Encoder" of Table 4.
    """

    def __init__(self, *, modalities: Sequence[str], width: int, dim: int):
        super().__init__()
        self.by_modality = nn.ModuleDict({name: nn.Linear(width, dim, bias=False) for name in modalities})

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        return {name: convolve(x[name]) for name, convolve in self.by_modality.items()}


class ModalityEncoder(nn.Module):
    """Convolution and position, then one transformer for each ordered pair of modalities, merged for each modality.

    Three modalities have three intra- and six inter-modal transformers (Sec. 3.3, Fig. 4); one modality has a single
    intra-modal one. `merge="intra"` builds only the intra-modal ones, whose output is all that the released code
    keeps. Keys never include padding, as in the released code. With `mask_padding=False` padded utterances are still
    queries, and so reach MultiAttn.
    """

    def __init__(
        self, *, modalities: Sequence[str], width: int, dim: int, layers: int, heads: int, ff: int, merge: str,
        position: str, dropout: float, mask_padding: bool,
    ):  # fmt: skip
        super().__init__()
        make_merge = one_of(MERGES, merge, "option of model.encoder.merge")
        self.mask_padding = mask_padding
        self.position = one_of(POSITIONS, position, "option of model.encoder.position")
        self.convolve = Convolutions(modalities=modalities, width=width, dim=dim)
        self.drop = nn.Dropout(dropout)
        self.sources = {m: [m] if merge == "intra" else [m, *(n for n in modalities if n != m)] for m in modalities}
        self.transformers = nn.ModuleDict()
        for n, m in ((source, name) for name in modalities for source in self.sources[name]):
            transformer = Transformer(layers=layers, dim=dim, heads=heads, ff=ff, dropout=dropout)
            self.transformers[f"{n}_to_{m}"] = transformer
        self.merge = nn.ModuleDict({m: make_merge(streams=len(self.sources[m]), dim=dim) for m in modalities})

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """x: b n w for each modality; mask: b n. Returns b n d for each modality, 0 on masked padding."""
        h = {name: self.drop(value + self.position(value)) for name, value in self.convolve(x, mask).items()}
        if not self.mask_padding:
            return self._merged(h, mask[:, None, None])  # keys: b n -> b 1 1 n
        rows = Rows(mask)
        merged = self._merged({name: rows.pack(value) for name, value in h.items()}, rows)  # b n d -> N d
        return {name: rows.unpack(value) for name, value in merged.items()}

    def _merged(self, h: dict[str, Tensor], keys: Rows | Tensor) -> dict[str, Tensor]:
        out = {}
        for m, sources in self.sources.items():
            streams = [self.transformers[f"{n}_to_{m}"](h[m], None if n == m else h[n], keys) for n in sources]
            out[m] = self.merge[m](torch.stack(streams, dim=-2))  # ... k d -> ... d
        return out


CONTEXTS = {"dialoguecrn": DialogueCRN, "none": Unchanged}
ENCODERS = {"transformers": ModalityEncoder, "none": Convolutions}
FUSIONS = {"multiattn": MultiAttn, "concat": Unchanged}  # "concat": the head concatenates the modalities


class Mfcre(nn.Module):
    """The network. `forward` returns `logits` b n c, `embedding` b n d (z, for the contrastive loss), `fused` b n m d.

    dims: modality -> width of its features, one to three modalities (with one, MultiAttn keeps only its feed-forward
    stages); speakers: the largest number of parties in a dialogue. `text_context=False` leaves out the context module
    of text. `mask_padding=False` is as published: perception and MultiAttn see the padding.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, speakers: int, dim: int, dropout: float, mask_padding: bool,
        text_context: bool, context: dict[str, Any], encoder: dict[str, Any], fusion: dict[str, Any],
        head: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        names = list(dims)
        shared = {"dim": dim, "dropout": dropout, "mask_padding": mask_padding}
        contextual = [name for name in names if text_context or name != "text"]
        self.context = nn.ModuleDict(  # Sec. 3.2, one module for each modality
            {name: part(CONTEXTS, context, "model.context", speakers=speakers, **shared) for name in contextual}
        )
        width = next((module.width for module in self.context.values()), dim)
        linear = {name: nn.Linear(dims[name], dim if name in contextual else width) for name in names}
        self.project = nn.ModuleDict(linear)
        self.encoder = part(ENCODERS, encoder, "model.encoder", modalities=names, width=width, **shared)  # Sec. 3.3
        self.fusion = part(FUSIONS, fusion, "model.fusion", modalities=names, **shared)  # Sec. 3.4
        self.head = bind(Head, head, what="model.head", modalities=len(names), classes=classes, **shared)  # Sec. 3.5

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        mask, speaker = batch["mask"], batch["speaker"]
        x = {name: project(batch[name]) for name, project in self.project.items()}  # b n d_m -> b n d
        x |= {name: context(x[name], mask, speaker) for name, context in self.context.items()}  # b n d -> b n w
        x = self.fusion(self.encoder(x, mask), mask)  # b n w -> b n d
        fused = torch.stack(list(x.values()), dim=-2)  # b n m d
        logits, z = self.head(fused)
        return {"logits": logits, "embedding": z, "fused": fused}
