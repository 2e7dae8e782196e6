"""MultiEMO (Shi & Huang 2023): context within each modality, MultiAttn across modalities, classification.

Shapes: b dialogues, n turns, m modalities, d = dim, e = emotion_dim, c classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.dialoguernn import DialogueRnnContext
from merlib.errors import RequestError
from merlib.layers.attention import Head, MultiAttn

VERSION = 1


class UnimodalContext(nn.Module):
    """DialogueRNN within each of `modalities`, in one loop: relu(drop(W [e_forward; e_backward] + b)).

    One direction (the released MELD variant) has no such layer: relu(drop(e)), so its `emotion_dim` must be `dim`.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        speakers: int,
        dim: int,
        directions: int,
        global_dim: int,
        party_dim: int,
        emotion_dim: int,
        mask_padding: bool,
        recurrent_dropout: float,
        dropout: float,
    ):
        super().__init__()
        if directions == 1 and emotion_dim != dim:
            raise RequestError(
                f"one direction has no output layer: emotion_dim is {emotion_dim}, set it to dim = {dim}"
            )
        self.modalities = tuple(modalities)
        self.rnn = DialogueRnnContext(
            streams=len(self.modalities),
            directions=directions,
            dim=dim,
            global_dim=global_dim,
            party_dim=party_dim,
            emotion_dim=emotion_dim,
            parties=speakers,
            attention="simple",
            attention_dim=dim,
            listener=False,
            dropout=recurrent_dropout,
            through_padding=not mask_padding,
        )
        self.out = nn.ModuleDict(
            {name: nn.Linear(2 * emotion_dim, dim) if directions == 2 else nn.Identity() for name in self.modalities}
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: dict[str, Tensor], speaker: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """x: b n d for each modality, of which only those of this context are read and returned."""
        e = self.rnn(torch.stack([x[name] for name in self.modalities]), speaker, mask)  # m b n (directions e)
        return {name: F.relu(self.drop(self.out[name](e[i]))) for i, name in enumerate(self.modalities)}


class MultiEmo(nn.Module):
    """The released network. IEMOCAP: two directions and text context; MELD: one direction, text without context.

    In the released code the global, party and emotion states are `dim` wide, and both dropouts default to 0.
    `context="none"` leaves the projected features as they are. `mask_padding=False` is the released code: padding is
    attended, and the forward context runs over it, so a dialogue's result depends on its batch.
    """

    def __init__(
        self,
        *,
        dims: dict[str, int],
        classes: int,
        speakers: int,
        dim: int,
        context: str,
        text_context: bool,
        directions: int,
        global_dim: int,
        party_dim: int,
        emotion_dim: int,
        fusion_layers: int,
        fusion_heads: int,
        fusion_ff: int,
        head_dim: int,
        mask_padding: bool,
        recurrent_dropout: float,
        dropout: float,
    ):
        super().__init__()
        if context not in ("dialoguernn", "none"):
            raise RequestError(f"context {context!r} is unknown: choose dialoguernn or none")
        self.project = nn.ModuleDict({name: nn.Linear(width, dim) for name, width in dims.items()})
        contextual = [name for name in dims if context != "none" and (text_context or name != "text")]
        self.context = None
        if contextual:
            self.context = UnimodalContext(
                modalities=contextual,
                speakers=speakers,
                dim=dim,
                directions=directions,
                global_dim=global_dim,
                party_dim=party_dim,
                emotion_dim=emotion_dim,
                mask_padding=mask_padding,
                recurrent_dropout=recurrent_dropout,
                dropout=dropout,
            )
        self.fusion = MultiAttn(
            modalities=tuple(dims),
            dim=dim,
            heads=fusion_heads,
            ff=fusion_ff,
            layers=fusion_layers,
            dropout=dropout,
            mask_padding=mask_padding,
        )
        self.head = Head(modalities=len(dims), dim=dim, hidden=head_dim, classes=classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = {name: project(batch[name]) for name, project in self.project.items()}  # b n d
        if self.context is not None:
            x |= self.context(x, batch["speaker"], batch["mask"])
        fused = torch.stack(list(self.fusion(x, batch["mask"]).values()), dim=2)  # b n m d
        logits, z = self.head(fused)
        return {"logits": logits, "embedding": z, "fused": fused}
