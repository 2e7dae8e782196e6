"""MFCRE (Sec. 3.2-3.5, Fig. 1): context modelling, modality encoder, multimodal fusion, emotion classification.

Shapes: b dialogues, n utterances, m modalities, d = dim, w = width after the context module, c classes. Masks are True
on real utterances. Every reading of the paper is a leaf of a section; papers/mfcre explains the choices.
"""

from typing import Any

import torch
from torch import Tensor, nn

from merlib.layers.attention import MultiAttn
from merlib.layers.basics import Head, Unchanged
from merlib.papers.mfcre.dialoguecrn import DialogueCRN
from merlib.papers.mfcre.encoder import Convolutions, ModalityEncoder
from merlib.registry import bind, part

VERSION = 1

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
        self.project = nn.ModuleDict(
            {name: nn.Linear(dims[name], dim if name in contextual else width) for name in names}
        )
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
