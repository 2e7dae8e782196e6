"""DialogueCRN, the context module of MFCRE (Sec. 3.2): perception of the dialogue, then a few turns of reasoning.

Shapes: b dialogues, n utterances, N real utterances of all dialogues, m modalities, p parties, d = 2 du width of an
utterance in context. Masks are True on real utterances. Perception is of dialogues, reasoning of rows (`Rows`).
Sources: MFCRE eq. 1-3; Hu et al. 2021 (DialogueCRN); Yang et al. 2021 (simAM).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from merlib.errors import one_of
from merlib.layers.attention import Rows
from merlib.layers.basics import Unchanged
from merlib.layers.ragged import recurrent
from merlib.layers.together import Linear, together
from merlib.papers.mfcre.xlstm import MLstmBlock, MLstmCell, SLstmCell
from merlib.registry import bind, part


def simam(x: Tensor, *, axis: int | tuple[int, ...], mask: Tensor | None = None, floor: float = 1e-4) -> Tensor:
    """Weight each value by how distinct it is along `axis`: x sigmoid(1 / E), with the energy E of simAM (eq. 2).

    x: any shape; mask: shaped as x without its last axis, True on real values. floor: lambda of simAM.
    """
    if mask is None:
        distance = (x - x.mean(axis, keepdim=True)).square()
        count = distance.numel() // distance.sum(axis).numel()
        variance = distance.sum(axis, keepdim=True) / max(count - 1, 1)
    else:
        real = mask.unsqueeze(-1).to(x.dtype)
        count = real.sum(axis, keepdim=True)
        mean = (x * real).sum(axis, keepdim=True) / count.clamp(min=1)
        distance = (x - mean).square() * real
        variance = distance.sum(axis, keepdim=True) / (count - 1).clamp(min=1)
    return x * torch.sigmoid(distance / (4 * (variance + floor)) + 0.5)


def simam_over_utterances(q: Tensor, rows: Rows) -> Tensor:
    """simAM over the utterances of each dialogue: m N d -> m N d."""
    dialogues = rows.unpack(q.transpose(0, 1)).flatten(2)  # b n (m d)
    return rows.pack(simam(dialogues, axis=1, mask=rows.keys)).unflatten(1, (len(q), -1)).transpose(0, 1)


def retrieve(q: Tensor, memory: Tensor, rows: Rows) -> Tensor:
    """Unscaled softmax attention of each query over its dialogue's memory. m N d each -> m N d."""
    q, memory = q.unsqueeze(2), memory.unsqueeze(2)  # one head
    return rows.attention(q, memory, memory, scale=1.0).squeeze(2)


def softmax_simam(q: Tensor, memory: Tensor, rows: Rows, refine: Callable) -> tuple[Tensor, Tensor]:
    """The intent of the released code: simAM refines the query, which then attends to the memory."""
    q = refine(q, rows)
    return q, retrieve(q, memory, rows)


def simam_sum(q: Tensor, memory: Tensor, rows: Rows, refine: Callable) -> tuple[Tensor, Tensor]:
    """Eq. 2 as printed: none of its N terms depends on j, so r_i = N simAM(q_i)."""
    utterances = rows.keys.sum(1, keepdim=True).expand_as(rows.keys)  # b n, N of the dialogue
    return q, rows.pack(utterances).unsqueeze(1) * refine(q, rows)


ATTENTIONS = {  # each gives q and r, m N d
    "softmax_simam": softmax_simam,
    # Eq. 2 without its sum: r_i = simAM(q_i).
    "simam_gate": lambda q, memory, rows, refine: (q, refine(q, rows)),
    "simam_sum": simam_sum,
    # As DialogueCRN: r_i = sum_j softmax_j(<g_j, q_i>) g_j.
    "softmax": lambda q, memory, rows, refine: (q, retrieve(q, memory, rows)),
    # Our reading of "w/o simAM attention" in Table 4: nothing is retrieved, r_i = 0.
    "none": lambda q, memory, rows, refine: (q, torch.zeros_like(q)),
}
AXES = {"channels": lambda q, rows: simam(q, axis=-1), "utterances": simam_over_utterances}


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

    def forward(self, x: Tensor, state: None, rows: Rows) -> tuple[Tensor, None]:
        """x: 1 N d_in."""
        return self.out(rows.pack(self.block(rows.unpack(x.squeeze(0))))).unsqueeze(0), None


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

    def forward(self, query: Tensor, memory: Tensor, rows: Rows) -> Tensor:
        """query: m N 2d, q^(0); memory: m N d, c. Returns q^(turns): m N 2d."""
        cell = partial(self.cell, rows=rows) if isinstance(self.cell, VilCell) else self.cell
        state = None  # the working memory h^(0) is empty
        for _ in range(self.turns):
            q, state = cell(query, state)  # eq. 1
            query = torch.cat(self.attend(q, memory, rows, self.refine), dim=-1)  # eq. 2-3
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
        self.mask_padding = mask_padding
        self.query = Linear(dim, 2 * dim)  # W_q, b_q
        self.reason = nn.ModuleList(
            Reasoning(dim=dim, turns=turns, cell=cell, attention=attention, simam_axis=simam_axis) for _ in branches
        )
        self.width = 2 * dim * len(branches)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """x: b n d; mask, speaker: b n. Returns [q^(T) of the speaker branch;] q^(T) of the situation: b n width."""
        return in_context([self], [x], mask, speaker)[0]


def in_context(modules: Sequence[DialogueCRN], x: Sequence[Tensor], mask: Tensor, speaker: Tensor) -> list[Tensor]:
    """Every modality through its own module, reasoning for all at once. x: b n d each. Returns b n width each.

    mask, speaker: b n. Without `mask_padding` padding reasons too, but is never in the memory.
    """
    rows = Rows(mask) if modules[0].mask_padding else Rows(torch.ones_like(mask), keys=mask)
    queries = []
    for branch in zip(*(zip(module.perceive, module.reason, strict=True) for module in modules), strict=True):
        perceptions, reasonings = zip(*branch, strict=True)
        memory = torch.stack(
            [rows.pack(perceive(y, mask, speaker)) for perceive, y in zip(perceptions, x, strict=True)]
        )
        query = together([module.query for module in modules], memory)  # m N 2d
        if isinstance(reasonings[0].cell, MLstmCell | SLstmCell):
            queries.append(together(reasonings, query, memory, rows))
        else:
            each = zip(reasonings, query.split(1), memory.split(1), strict=True)
            queries.append(torch.cat([reason(q, g, rows) for reason, q, g in each]))
    return [rows.unpack(q) for q in torch.cat(queries, dim=-1)]
