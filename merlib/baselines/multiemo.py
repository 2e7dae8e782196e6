"""MultiEMO (Shi & Huang 2023): context within each modality, MultiAttn across modalities, classification.

Shapes: b dialogues, n turns, m modalities, d = dim, e = emotion_dim, c classes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.dialoguernn import DialogueRnnContext
from merlib.errors import RequestError
from merlib.layers.attention import MultiAttn
from merlib.layers.basics import Head, Unchanged
from merlib.registry import bind, part

VERSION = 2


class UnimodalContext(nn.Module):
    """DialogueRNN within each of `modalities`, in one loop: relu(drop(W [e_forward; e_backward] + b)).

    One direction (the released MELD variant) has no such layer: relu(drop(e)), so its `emotion_dim` must be `dim`.
    """

    def __init__(
        self, *, modalities: Sequence[str], speakers: int, dim: int, directions: int, global_dim: int, party_dim: int,
        emotion_dim: int, mask_padding: bool, recurrent_dropout: float, dropout: float,
    ):  # fmt: skip
        super().__init__()
        if directions == 1 and emotion_dim != dim:
            raise RequestError(f"one direction has no output layer: emotion_dim {emotion_dim}, set it to dim = {dim}")
        self.modalities = tuple(modalities)
        self.rnn = DialogueRnnContext(
            streams=len(self.modalities), directions=directions, dim=dim, global_dim=global_dim, party_dim=party_dim,
            emotion_dim=emotion_dim, parties=speakers, attention={"name": "simple"}, listener=False,
            recurrent_dropout=recurrent_dropout, through_padding=not mask_padding,
        )  # fmt: skip
        out = partial(nn.Linear, 2 * emotion_dim, dim) if directions == 2 else nn.Identity
        self.out = nn.ModuleDict({name: out() for name in self.modalities})
        self.drop = nn.Dropout(dropout)

    def forward(self, x: dict[str, Tensor], speaker: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """x: b n d for each modality; those without context are returned as they are."""
        e = self.rnn(torch.stack([x[name] for name in self.modalities]), speaker, mask)  # m b n (directions e)
        return x | {name: F.relu(self.drop(self.out[name](e[i]))) for i, name in enumerate(self.modalities)}


CONTEXTS = {"dialoguernn": UnimodalContext, "none": Unchanged}


class MultiEmo(nn.Module):
    """The released network. IEMOCAP: two directions and text context; MELD: one direction, text without context.

    In the released code the global, party and emotion states are `dim` wide, and both dropouts default to 0.
    `mask_padding=False` is the released code: attention reaches padding, and the forward context runs over it, so a
    dialogue's result depends on its batch.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, speakers: int, dim: int, context: dict[str, Any],
        text_context: bool, fusion: dict[str, Any], head: dict[str, Any], mask_padding: bool, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.project = nn.ModuleDict({name: nn.Linear(width, dim) for name, width in dims.items()})
        contextual = [name for name in dims if text_context or name != "text"]
        context = context if contextual else {"name": "none"}
        shared = {"dim": dim, "mask_padding": mask_padding, "dropout": dropout}
        self.context = part(CONTEXTS, context, "model.context", modalities=contextual, speakers=speakers, **shared)
        self.fusion = bind(MultiAttn, fusion, what="model.fusion", modalities=tuple(dims), **shared)
        self.head = bind(Head, head, what="model.head", modalities=len(dims), classes=classes, **shared)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = {name: project(batch[name]) for name, project in self.project.items()}  # b n d
        x = self.context(x, batch["speaker"], batch["mask"])
        fused = torch.stack(list(self.fusion(x, batch["mask"]).values()), dim=2)  # b n m d
        logits, z = self.head(fused)
        return {"logits": logits, "embedding": z, "fused": fused}
