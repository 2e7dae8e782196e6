"""DialogueCRN, the context module of MFCRE (Sec. 3.2): perception of the dialogue, then a few turns of reasoning.

Shapes: b dialogues, n utterances, p parties, d = 2 du width of an utterance in context. Masks are True on real
utterances. Sources: MFCRE eq. 1-3; Hu et al. 2021 (DialogueCRN); Yang et al. 2021 (simAM).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.basics import Unchanged
from merlib.layers.ragged import recurrent
from merlib.papers.mfcre.xlstm import MLstmBlock, MLstmCell, SLstmCell
from merlib.registry import bind, part


def simam(x: Tensor, *, axis: int | tuple[int, ...], mask: Tensor | None = None, floor: float = 1e-4) -> Tensor:
    """Weight each value by how distinct it is along `axis`: x sigmoid(1 / E), with the energy E of simAM (eq. 2).

    x: any shape; mask: shaped as x without its last axis, True on real values. floor: lambda of simAM.
    """
    real = torch.ones_like(x) if mask is None else mask.unsqueeze(-1).to(x.dtype).expand_as(x)
    count = real.sum(axis, keepdim=True)
    mean = (x * real).sum(axis, keepdim=True) / count.clamp(min=1)
    distance = (x - mean).square() * real
    variance = distance.sum(axis, keepdim=True) / (count - 1).clamp(min=1)
    return x * torch.sigmoid(distance / (4 * (variance + floor)) + 0.5)


def retrieve(q: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    """Unscaled softmax attention of each query over its dialogue's memory. q: b k d; memory: b n d. Returns b k d."""
    q, memory, mask = q.unsqueeze(1), memory.unsqueeze(1), mask[:, None, None]  # one head
    return F.scaled_dot_product_attention(q, memory, memory, attn_mask=mask, scale=1.0).squeeze(1)


def softmax_simam(q: Tensor, memory: Tensor, mask: Tensor, refine: Callable) -> tuple[Tensor, Tensor]:
    """The intent of the released code: simAM refines the query, which then attends to the memory."""
    q = refine(q, mask)
    return q, retrieve(q, memory, mask)


ATTENTIONS = {  # each gives q and r, b k d
    "softmax_simam": softmax_simam,
    # Eq. 2 without its sum: r_i = simAM(q_i).
    "simam_gate": lambda q, memory, mask, refine: (q, refine(q, mask)),
    # Eq. 2 as printed: none of its N terms depends on j, so r_i = N simAM(q_i).
    "simam_sum": lambda q, memory, mask, refine: (q, mask.sum(1)[:, None, None] * refine(q, mask)),
    # As DialogueCRN: r_i = sum_j softmax_j(<g_j, q_i>) g_j.
    "softmax": lambda q, memory, mask, refine: (q, retrieve(q, memory, mask)),
    # Our reading of "w/o simAM attention" in Table 4: nothing is retrieved, r_i = 0.
    "none": lambda q, memory, mask, refine: (q, torch.zeros_like(q)),
}
AXES = {
    "channels": lambda q, mask: simam(q, axis=-1),
    "utterances": lambda q, mask: simam(q, axis=1, mask=mask),
}


class LstmCell(nn.Module):
    """nn.LSTMCell over any leading axes: the cell of the original DialogueCRN."""

    def __init__(self, *, inputs: int, dim: int):
        super().__init__()
        self.cell = nn.LSTMCell(inputs, dim)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        state = self.cell(x.flatten(0, -2), state)
        return state[0].unflatten(0, x.shape[:-1]), state


class VilCell(nn.Module):
    """A Vision-LSTM block over the utterances of the dialogue; it has no state that passes from turn to turn."""

    def __init__(self, *, inputs: int, dim: int, heads: int):
        super().__init__()
        self.block = MLstmBlock(dim=inputs, heads=heads)
        self.out = nn.Linear(inputs, dim)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        return self.out(self.block(x)), None


CELLS = {"mlstm": MLstmCell, "slstm": SLstmCell, "vil": VilCell, "lstm": LstmCell}


class Reasoning(nn.Module):
    """In each of `turns` turns the cell reads the query, and attention retrieves from the memory; the outputs of both
    are the next query.

    A turn runs for all utterances at once. All turns share the weights of the cell, which maps 2d to d.
    """

    def __init__(self, *, dim: int, turns: int, cell: dict[str, Any], attention: str, simam_axis: str):
        super().__init__()
        self.turns = turns
        self.cell = part(CELLS, cell, "model.context.cell", inputs=2 * dim, dim=dim)
        self.attend = one_of(ATTENTIONS, attention, "option of model.context.attention")
        self.refine = one_of(AXES, simam_axis, "option of model.context.simam_axis")

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """query: b k 2d, q^(0); memory: b n d, c; mask: b n. Returns q^(turns): b k 2d."""
        state = None  # the working memory h^(0) is empty
        for _ in range(self.turns):
            q, state = self.cell(query, state)  # eq. 1
            query = torch.cat(self.attend(q, memory, mask, self.refine), dim=-1)  # eq. 2-3
        return query


class BiLstm(nn.Module):
    """Perception of the situation: a bidirectional LSTM over the whole dialogue. b n d_in -> b n d."""

    def __init__(self, *, inputs: int, dim: int, layers: int, dropout: float, mask_padding: bool):
        super().__init__()
        self.mask_padding = mask_padding
        between = dropout if layers > 1 else 0.0
        self.rnn = nn.LSTM(inputs, dim // 2, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """With `mask_padding=False` it also runs over the padding (zeros), as published."""
        read = mask if self.mask_padding else torch.ones_like(mask)
        return recurrent(self.rnn, x * mask.unsqueeze(-1), read)


class PartyBiLstm(nn.Module):
    """Perception of each speaker: one bidirectional LSTM, over the utterances of each party separately."""

    def __init__(self, *, speakers: int, rnn: BiLstm):
        super().__init__()
        self.speakers = speakers
        self.rnn = rnn

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """x: b n d_in; speaker: b n, smaller than `speakers`. Returns b n d."""
        b, n = mask.shape
        dialogue, position = (torch.arange(k, device=x.device) for k in (b, n))
        party = torch.arange(self.speakers, device=x.device)
        own = (speaker.unsqueeze(1) == party.unsqueeze(1)) & mask.unsqueeze(1)  # b p n
        order = (~own).int().argsort(dim=-1, stable=True)  # b p n, first the party's own utterances, in their order
        sequences = x[dialogue[:, None, None], order].flatten(0, 1)  # b n d -> (b p) n d
        real = (position < own.sum(-1, keepdim=True)).flatten(0, 1)  # (b p) n
        sequences = self.rnn(sequences, real, speaker).unflatten(0, (b, self.speakers))
        dialogue = dialogue.unsqueeze(1)
        return sequences[dialogue, speaker, order.argsort(-1)[dialogue, speaker, position]]  # b p n d -> b n d


PERCEPTIONS = {"bilstm": BiLstm, "none": Unchanged}


class DialogueCRN(nn.Module):
    """Perception and reasoning of the situation and, with `speaker_branch`, of each speaker, concatenated.

    Without perception the reasoning starts from the utterances themselves (the released MFCRE). The speaker branch
    always has its perception. Both branches share the projection W_q, as in DialogueCRN's code.
    """

    def __init__(
        self, *, dim: int, speakers: int, turns: int, cell: dict[str, Any], attention: str, simam_axis: str,
        perception: dict[str, Any], speaker_branch: bool, mask_padding: bool, dropout: float,
    ):  # fmt: skip
        super().__init__()
        what = "model.context.perception"
        shared = {"inputs": dim, "dim": dim, "mask_padding": mask_padding, "dropout": dropout}
        branches = [part(PERCEPTIONS, perception, what, **shared)]
        if speaker_branch:
            branches.insert(0, PartyBiLstm(speakers=speakers, rnn=bind(BiLstm, perception, what=what, **shared)))
        self.perceive = nn.ModuleList(branches)
        self.query = nn.Linear(dim, 2 * dim)  # W_q, b_q
        self.reason = nn.ModuleList(
            Reasoning(dim=dim, turns=turns, cell=cell, attention=attention, simam_axis=simam_axis) for _ in branches
        )
        self.width = 2 * dim * len(branches)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """x: b n d; mask, speaker: b n. Returns [q^(T) of the speaker branch;] q^(T) of the situation: b n width."""
        queries = []
        for perceive, reason in zip(self.perceive, self.reason, strict=True):
            memory = perceive(x, mask, speaker)
            queries.append(reason(self.query(memory), memory, mask))
        return torch.cat(queries, dim=-1)
