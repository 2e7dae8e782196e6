"""MFCRE: contextual reasoning with an xLSTM, nine modality transformers, MultiAttn fusion (Sec. 3.2-3.5, Fig. 1).

Shapes: b dialogues, n utterances, m modalities, d = dim, w = width after the context module, c classes. Masks are True
on real utterances. Every reading of the paper is a keyword; what is chosen and why stands in the paper's notes.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from merlib.errors import one_of
from merlib.layers.attention import CrossAttention, MultiAttn, Rows, sinusoid
from merlib.layers.basics import Head, Unchanged
from merlib.papers.mfcre.dialoguecrn import DialogueCRN

VERSION = 1

POSITIONS = {"sinusoid": sinusoid, "none": lambda x: x.new_zeros(x.shape[-2:])}


class TransformerLayer(nn.Module):
    """As SDT's: the first layer has no normalisation before attention, and a source is never normalised."""

    def __init__(self, *, dim: int, heads: int, ff: int, dropout: float, first: bool):
        super().__init__()
        self.norm = nn.Identity() if first else nn.LayerNorm(dim, eps=1e-6)
        self.attend = CrossAttention(dim=dim, heads=heads)
        self.drop = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim, eps=1e-6),
            nn.Linear(dim, ff),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(ff, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, source: Tensor | None, keys: Rows | Tensor) -> Tensor:
        """x, source: N d, with their Rows as keys; or b n d, with keys b 1 1 n. Without source x attends to itself."""
        x = self.norm(x)
        x = x + self.drop(self.attend(x, x if source is None else source, keys))
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """H_{n->m} (eq. 5): modality m asks, n answers with the same keys and values at every layer; n = m is eq. 4."""

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
    """SDT's merge: a sigmoid gate on each stream before they are concatenated and projected: ... k d -> ... d."""

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
    """Each modality into the shared space, a 1-D convolution of kernel 1 (a bias-free Linear): b n w -> b n d.

    By itself it is Table 4, "w/o Modality Encoder".
    """

    def __init__(self, *, modalities: Sequence[str], width: int, dim: int):
        super().__init__()
        self.of = nn.ModuleDict({name: nn.Linear(width, dim, bias=False) for name in modalities})

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        return {name: convolve(x[name]) for name, convolve in self.of.items()}


class ModalityEncoder(nn.Module):
    """Convolution and position, then one transformer for every ordered pair of modalities, merged per modality.

    Three modalities: three intra- and six inter-modal transformers (Sec. 3.3, Fig. 4); one: a single intra-modal one.
    `merge="intra"` builds only the intra-modal ones, all that the released code lets through. Keys never include
    padding, as in the released code; with `mask_padding=False` padding still asks, and so reaches MultiAttn.
    """

    def __init__(
        self, *, modalities: Sequence[str], width: int, dim: int, layers: int, heads: int, ff: int, merge: str,
        position: str, dropout: float, mask_padding: bool,
    ):  # fmt: skip
        super().__init__()
        merged = one_of(MERGES, merge, "merge")
        self.mask_padding = mask_padding
        self.position = one_of(POSITIONS, position, "position")
        self.convolve = Convolutions(modalities=modalities, width=width, dim=dim)
        self.drop = nn.Dropout(dropout)
        self.sources = {m: [m] if merge == "intra" else [m, *(n for n in modalities if n != m)] for m in modalities}
        self.transformers = nn.ModuleDict(
            {
                f"{n}_to_{m}": Transformer(layers=layers, dim=dim, heads=heads, ff=ff, dropout=dropout)
                for m in modalities
                for n in self.sources[m]
            }
        )
        self.merge = nn.ModuleDict({m: merged(streams=len(self.sources[m]), dim=dim) for m in modalities})

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


class Unfused(nn.Module):
    """Table 4, "w/o MultiAttn": the modalities go to the head as they are, to be concatenated there."""

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        return x


class Mfcre(nn.Module):
    """The network. `forward` returns `logits` b n c, `embedding` b n d (z, for the contrastive loss), `fused` b n m d.

    dims: modality -> width of its features, one to three modalities (with one, MultiAttn keeps only its feed-forward
    stages); speakers: the largest number of parties in a dialogue. Table 4: context "none", attention "none", encoder
    "none", fusion "concat". `mask_padding=False` is as published: perception and MultiAttn see the padding.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, speakers: int, dim: int, dropout: float, mask_padding: bool,
        context: str, text_context: bool, cell: str, cell_heads: int, turns: int, attention: str, simam_axis: str,
        perception: bool, speaker_branch: bool, perception_layers: int,
        encoder: str, encoder_layers: int, encoder_heads: int, encoder_ff: int, merge: str, position: str,
        fusion: str, fusion_layers: int, fusion_heads: int, fusion_ff: int, head_dim: int,
    ):  # fmt: skip
        super().__init__()
        names = list(dims)
        reasoning = {"turns": turns, "cell": cell, "cell_heads": cell_heads, "attention": attention}
        perceiving = {"perception": perception, "perception_layers": perception_layers, "mask_padding": mask_padding}
        branches = {"speaker_branch": speaker_branch, "speakers": speakers, "simam_axis": simam_axis}
        contexts = {
            "dialoguecrn": partial(DialogueCRN, dim=dim, dropout=dropout, **reasoning, **perceiving, **branches),
            "none": partial(Unchanged, dim=dim),
        }
        transformers = {"layers": encoder_layers, "heads": encoder_heads, "ff": encoder_ff, "dropout": dropout}
        encoders = {
            "transformers": partial(
                ModalityEncoder, merge=merge, position=position, mask_padding=mask_padding, **transformers
            ),
            "none": Convolutions,
        }
        attn = {"layers": fusion_layers, "heads": fusion_heads, "ff": fusion_ff, "dropout": dropout}
        fusions = {
            "multiattn": partial(MultiAttn, modalities=names, dim=dim, mask_padding=mask_padding, **attn),
            "concat": Unfused,
        }
        build_context = one_of(contexts, context, "context")
        contextual = [name for name in names if text_context or name != "text"]
        self.context = nn.ModuleDict({name: build_context() for name in contextual})
        width = next((module.width for module in self.context.values()), dim)
        widths = {name: dim if name in contextual else width for name in names}
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], widths[name]) for name in names})
        self.encoder = one_of(encoders, encoder, "encoder")(modalities=names, width=width, dim=dim)
        self.fusion = one_of(fusions, fusion, "fusion")()
        self.head = Head(modalities=len(names), dim=dim, hidden=head_dim, classes=classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        mask, speaker = batch["mask"], batch["speaker"]
        x = {name: project(batch[name]) for name, project in self.project.items()}  # b n d_m -> b n d
        x |= {name: context(x[name], mask, speaker) for name, context in self.context.items()}  # b n d -> b n w
        x = self.fusion(self.encoder(x, mask), mask)  # b n w -> b n d
        fused = torch.stack(list(x.values()), dim=-2)  # b n m d
        logits, z = self.head(fused)
        return {"logits": logits, "embedding": z, "fused": fused}
