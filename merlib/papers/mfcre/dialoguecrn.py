"""DialogueCRN, the context module of MFCRE (Sec. 3.2): perceive the dialogue, then reason about it for a few turns.

Shapes: b dialogues, n utterances, p parties, d = 2 du width of an utterance in context. Masks are True on real
utterances. Sources: MFCRE eq. 1-3; Hu et al. 2021 (DialogueCRN); Yang et al. 2021 (simAM).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from merlib.errors import one_of
from merlib.layers.basics import Unchanged
from merlib.papers.mfcre.xlstm import MLstmBlock, MLstmCell, SLstmCell


def simam(x: Tensor, *, axis: int | tuple[int, ...], mask: Tensor | None = None, floor: float = 1e-4) -> Tensor:
    """Weigh each value by how far it stands out along `axis`: x sigmoid(1 / E), the simAM energy E (eq. 2).

    x: any shape; mask: like x without its last axis, the values that count. floor: simAM's lambda.
    """
    real = torch.ones_like(x) if mask is None else mask.unsqueeze(-1).to(x.dtype).expand_as(x)
    count = real.sum(axis, keepdim=True)
    mean = (x * real).sum(axis, keepdim=True) / count.clamp(min=1)
    distance = (x - mean).square() * real
    variance = distance.sum(axis, keepdim=True) / (count - 1).clamp(min=1)
    return x * torch.sigmoid(distance / (4 * (variance + floor)) + 0.5)


def match(q: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of each query over its dialogue's memory, unscaled. q: b k d; memory: b n d. Returns b k d."""
    memory = memory.unsqueeze(1)
    return F.scaled_dot_product_attention(q.unsqueeze(1), memory, memory, attn_mask=mask[:, None, None], scale=1.0)[
        :, 0
    ]


def softmax(q: Tensor, memory: Tensor, mask: Tensor, refine: Callable) -> tuple[Tensor, Tensor]:
    """DialogueCRN's own: r_i = sum_j softmax_j(<g_j, q_i>) g_j."""
    return q, match(q, memory, mask)


def softmax_simam(q: Tensor, memory: Tensor, mask: Tensor, refine: Callable) -> tuple[Tensor, Tensor]:
    """The intent of the released code: simAM refines the query, which is then matched with the memory."""
    q = refine(q, mask)
    return q, match(q, memory, mask)


def simam_gate(q: Tensor, memory: Tensor, mask: Tensor, refine: Callable) -> tuple[Tensor, Tensor]:
    """Eq. 2 without its sum: r_i = simAM(q_i)."""
    return q, refine(q, mask)


def simam_sum(q: Tensor, memory: Tensor, mask: Tensor, refine: Callable) -> tuple[Tensor, Tensor]:
    """Eq. 2 to the letter: none of its N terms depends on j, so r_i = N simAM(q_i)."""
    return q, mask.sum(1)[:, None, None] * refine(q, mask)


def nothing(q: Tensor, memory: Tensor, mask: Tensor, refine: Callable) -> tuple[Tensor, Tensor]:
    """Table 4, "w/o simAM attention", read as: nothing is retrieved, r_i = 0."""
    return q, torch.zeros_like(q)


ATTENTIONS = {f.__name__: f for f in (softmax_simam, simam_gate, simam_sum, softmax)} | {"none": nothing}
AXES = {
    "channels": lambda q, mask: simam(q, axis=-1),
    "utterances": lambda q, mask: simam(q, axis=1, mask=mask),
}


class LstmCell(nn.Module):
    """nn.LSTMCell over any leading axes: the reasoning of DialogueCRN itself."""

    def __init__(self, *, inputs: int, dim: int):
        super().__init__()
        self.cell = nn.LSTMCell(inputs, dim)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        state = self.cell(x.flatten(0, -2), state)
        return state[0].unflatten(0, x.shape[:-1]), state


class VilCell(nn.Module):
    """A ViL block over the utterances of the dialogue instead of a working memory: it has no state to hand on."""

    def __init__(self, *, inputs: int, dim: int, heads: int):
        super().__init__()
        self.block = MLstmBlock(dim=inputs, heads=heads)
        self.out = nn.Linear(inputs, dim)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        return self.out(self.block(x)), None


def build_cell(name: str, *, dim: int, heads: int) -> nn.Module:
    """The recurrent part of one reasoning turn, q (2d wide) -> q~ (d wide)."""
    cells = {
        "mlstm": partial(MLstmCell, inputs=2 * dim, dim=dim, heads=heads),
        "slstm": partial(SLstmCell, inputs=2 * dim, dim=dim, heads=heads),
        "vil": partial(VilCell, inputs=2 * dim, dim=dim, heads=heads),
        "lstm": partial(LstmCell, inputs=2 * dim, dim=dim),
    }
    return one_of(cells, name, "cell")()


class Reasoning(nn.Module):
    """`turns` times: the cell reads the query, the attention retrieves from the memory, both make the next query.

    Every turn runs for all utterances at once; the cell's weights are the same at every turn.
    """

    def __init__(self, *, dim: int, turns: int, cell: str, cell_heads: int, attention: str, simam_axis: str):
        super().__init__()
        self.turns = turns
        self.cell = build_cell(cell, dim=dim, heads=cell_heads)
        self.attend = one_of(ATTENTIONS, attention, "attention")
        self.refine = one_of(AXES, simam_axis, "simam_axis")

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
        seen = mask if self.mask_padding else torch.ones_like(mask)
        lengths = seen.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(x * mask.unsqueeze(-1), lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class PartyBiLstm(nn.Module):
    """Perception of each speaker: one bidirectional LSTM over the utterances of each party by itself, all at once."""

    def __init__(self, *, speakers: int, rnn: BiLstm):
        super().__init__()
        self.speakers = speakers
        self.rnn = rnn

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """x: b n d_in; speaker: b n, smaller than `speakers`. Returns b n d."""
        b, n = mask.shape
        dialogue, place = (torch.arange(k, device=x.device) for k in (b, n))
        party = torch.arange(self.speakers, device=x.device)
        own = (speaker.unsqueeze(1) == party.unsqueeze(1)) & mask.unsqueeze(1)  # b p n
        order = (~own).int().argsort(dim=-1, stable=True)  # b p n, a party's own utterances first and in their order
        lines = x[dialogue[:, None, None], order].flatten(0, 1)  # b n d -> (b p) n d
        real = (place < own.sum(-1, keepdim=True)).flatten(0, 1)  # (b p) n
        lines = self.rnn(lines, real, speaker).unflatten(0, (b, self.speakers))
        dialogue = dialogue.unsqueeze(1)
        return lines[dialogue, speaker, order.argsort(-1)[dialogue, speaker, place]]  # b p n d -> b n d


class DialogueCRN(nn.Module):
    """Perception and reasoning of the situation and, with `speaker_branch`, of each speaker, concatenated.

    `perception=False` reasons about the utterances themselves (the released MFCRE); the speaker branch *is* its
    perception, and keeps it. The projection W_q is shared by both branches, as in DialogueCRN's code.
    """

    def __init__(
        self, *, dim: int, speakers: int, turns: int, cell: str, cell_heads: int, attention: str, simam_axis: str,
        perception: bool, perception_layers: int, speaker_branch: bool, mask_padding: bool, dropout: float,
    ):  # fmt: skip
        super().__init__()
        rnn = partial(BiLstm, inputs=dim, dim=dim, layers=perception_layers, dropout=dropout, mask_padding=mask_padding)
        situation = rnn() if perception else Unchanged(dim=dim)
        perceive = [PartyBiLstm(speakers=speakers, rnn=rnn()), situation] if speaker_branch else [situation]
        reasoning = partial(Reasoning, dim=dim, turns=turns, cell=cell, cell_heads=cell_heads, attention=attention)
        self.perceive = nn.ModuleList(perceive)
        self.query = nn.Linear(dim, 2 * dim)  # W_q, b_q
        self.reason = nn.ModuleList(reasoning(simam_axis=simam_axis) for _ in perceive)
        self.width = 2 * dim * len(perceive)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """x: b n d; mask, speaker: b n. Returns [q^(T) of the speaker branch;] q^(T) of the situation: b n width."""
        found = []
        for perceive, reason in zip(self.perceive, self.reason, strict=True):
            memory = perceive(x, mask, speaker)
            found.append(reason(self.query(memory), memory, mask))
        return torch.cat(found, dim=-1)
