"""MFCRE (Sec. 3.2-3.5, Fig. 1): context modelling, modality encoder, multimodal fusion, emotion classification.

Shapes: b dialogues, n utterances, N real utterances of all dialogues, m modalities, k streams of one modality,
s transformers, d = dim, w = width after the context module, c classes. Masks are True on real utterances. The modality
encoder (Fig. 4) is also that of Ma et al. 2023 (SDT).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.attention import CrossAttention, MultiAttn, Rows, sinusoid
from merlib.layers.basics import Head, Unchanged
from merlib.layers.together import LayerNorm, Linear, add_dropped, dropout_factors, together
from merlib.papers.mfcre.dialoguecrn import DialogueCRN, in_context
from merlib.registry import bind, part

VERSION = 2

POSITIONS = {"sinusoid": sinusoid, "none": lambda x: x.new_zeros(x.shape[-2:])}


class TransformerLayer(nn.Module):
    """SDT's layer: the first one has no normalisation before attention, and the source is never normalised."""

    def __init__(self, *, dim: int, heads: int, ff: int, first: bool):
        super().__init__()
        self.norm = nn.Identity() if first else LayerNorm(dim, eps=1e-6)
        self.attend = CrossAttention(dim=dim, heads=heads)
        self.up = nn.Sequential(LayerNorm(dim, eps=1e-6), Linear(dim, ff), nn.GELU())
        self.down = Linear(ff, dim)

    def forward(
        self, x: Tensor, source: Tensor, own: Tensor, rows: Rows, drops: Sequence[Tensor] | None = None
    ) -> Tensor:
        """x, source: s N d; own: s 1 1, True for self-attention, which has no source. Returns s N d.

        drops: factors of dropout for attention, the hidden layer of the feed-forward stage, and its output.
        """
        attended, hidden, out = drops or [None] * 3
        x = self.norm(x)
        x = add_dropped(x, self.attend(x, torch.where(own, x, source), rows), attended)
        h = self.up(x)
        return add_dropped(x, self.down(h if hidden is None else h * hidden), out)


def transformer(*, layers: int, dim: int, heads: int, ff: int) -> nn.ModuleList:
    """H_{n->m} (eq. 5): queries of modality m; keys and values of n, the same at every layer. n = m is eq. 4."""
    return nn.ModuleList(TransformerLayer(dim=dim, heads=heads, ff=ff, first=i == 0) for i in range(layers))


class Concat(nn.Module):
    """The streams of one modality, concatenated and projected: ... k d -> ... d."""

    def __init__(self, *, streams: int, dim: int):
        super().__init__()
        self.out = Linear(streams * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.flatten(-2))


class Gate(nn.Module):
    """SDT's merge: each stream times its sigmoid gate, then concatenated and projected: ... k d -> ... d."""

    def __init__(self, *, streams: int, dim: int):
        super().__init__()
        self.gates = nn.ModuleList(Linear(dim, dim, bias=False) for _ in range(streams))
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
        self.dropout, self.ff = dropout, ff
        others = {m: [] if merge == "intra" else [n for n in modalities if n != m] for m in modalities}
        pairs = [(m, n) for m in modalities for n in (m, *others[m])]  # query and source, in the order of the streams
        self.transformers = nn.ModuleDict(
            {f"{n}_to_{m}": transformer(layers=layers, dim=dim, heads=heads, ff=ff) for m, n in pairs}
        )
        self.pairs = [(modalities.index(m), modalities.index(n)) for m, n in pairs]
        self.own = nn.Buffer(torch.tensor([m == n for m, n in pairs])[:, None, None], persistent=False)
        self.merge = nn.ModuleDict({m: make_merge(streams=len(pairs) // len(modalities), dim=dim) for m in modalities})

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """x: b n w for each modality; mask: b n. Returns b n d for each modality, 0 on masked padding."""
        rows = Rows(mask) if self.mask_padding else Rows(torch.ones_like(mask), keys=mask)
        h = torch.stack(list(self.convolve({name: rows.pack(value) for name, value in x.items()}, mask).values()))
        steps = mask.shape[1]
        h = h + self.position(h.new_empty(steps, h.shape[-1]))[rows.positions % steps]  # m N d
        if self.training and self.dropout:
            h = h * dropout_factors(self.dropout, (len(h), mask.numel(), h.shape[-1]), like=h)[:, rows.positions]
        streams = self._streams(h.unbind(), rows).unflatten(0, (len(h), -1)).transpose(1, 2)  # m N k d
        merged = together(list(self.merge.values()), streams)
        return dict(zip(self.merge, map(rows.unpack, merged), strict=True))

    def _streams(self, h: Sequence[Tensor], rows: Rows) -> Tensor:
        """All transformers, the layers of one depth together. h: N d for each modality. Returns s N d."""
        x, source = (torch.stack([h[i] for i in of]) for of in zip(*self.pairs, strict=True))
        depths = list(zip(*self.transformers.values(), strict=True))
        for layers, drops in zip(depths, self._drops(x, len(depths)), strict=True):
            x = together(layers, x, source, self.own, rows, drops)
        return x

    def _drops(self, x: Tensor, layers: int) -> Sequence[Sequence[Tensor] | None]:
        """For each depth, the factors of dropout of its three places, drawn transformer by transformer."""
        if not (self.training and self.dropout):
            return [None] * layers
        n, d = x.shape[1:]
        sizes = [n * d, n * self.ff, n * d]
        factors = dropout_factors(self.dropout, (len(x), layers, sum(sizes)), like=x)
        return [[part.unflatten(1, (n, -1)) for part in f.split(sizes, dim=1)] for f in factors.unbind(1)]


class Normalised(nn.Module):
    """The row "w/o MultiAttn" of Table 4: no fusion, each vector only normalised over its features, b n d -> b n d.

    MultiAttn ends in a layer norm, and the released Soft-HGR has no lower bound without one (`loss.soft_hgr`).
    """

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        return {name: F.layer_norm(vectors, vectors.shape[-1:]) for name, vectors in x.items()}


CONTEXTS = {"dialoguecrn": DialogueCRN, "none": Unchanged}
ENCODERS = {"transformers": ModalityEncoder, "none": Convolutions}
FUSIONS = {"multiattn": MultiAttn, "normalised": Normalised, "concat": Unchanged}  # the head concatenates modalities


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
        if isinstance(next(iter(self.context.values()), None), DialogueCRN):
            contextual = [x[name] for name in self.context]
            contextual = in_context(list(self.context.values()), contextual, mask, speaker)  # b n d -> b n w
            x |= zip(self.context, contextual, strict=True)
        x = self.fusion(self.encoder(x, mask), mask)  # b n w -> b n d
        fused = torch.stack(list(x.values()), dim=-2)  # b n m d
        logits, z = self.head(fused)
        return {"logits": logits, "embedding": z, "fused": fused}
