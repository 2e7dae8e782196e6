"""DialogueGCN (Ghosal et al. 2019): a context, two graph convolutions over typed edges, attention over the dialogue.

A dialogue is a graph: every utterance sends to its neighbours in a window, along edges typed by speakers and order.
Edges are dense, so a batch of dialogues needs only a few matrix products.
As released: an edge's weight is softmax_j(w_i . c_j) over the window, one learned vector w_i for each position i in a
dialogue, and messages i -> j have the weight that i computed; the second convolution adds neighbours unweighted.
Shapes: b dialogues, n utterances (padded), i the sender and j the receiver of an edge, p parties, r = 2 p p relations,
d = 2 hidden width of a context, g of the graph's states, o outputs.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.dialoguernn import DialogueRnnContext
from merlib.baselines.grouped_gru import uniform
from merlib.errors import RequestError
from merlib.layers.ragged import recurrent
from merlib.registry import bind, part

VERSION = 2


def window_edges(mask: Tensor, *, past: int, future: int) -> Tensor:
    """Whether i sends to j: j is at most `past` before or `future` after i (-1: any distance). mask: b n; b i j.

    Padding sends to itself only, so that no softmax over edges is empty.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    ahead = position - position.unsqueeze(1)  # j - i, n n
    near = torch.ones_like(ahead, dtype=torch.bool)
    if past >= 0:
        near &= ahead >= -past
    if future >= 0:
        near &= ahead <= future
    return near & mask.unsqueeze(2) & mask.unsqueeze(1) | (ahead == 0)


def relations(speaker: Tensor, *, parties: int) -> Tensor:
    """The relation of each pair: speaker of i, speaker of j, whether i came first. speaker: b n. Returns b i j r."""
    position = torch.arange(speaker.shape[1], device=speaker.device)
    not_first = position.unsqueeze(1) >= position
    kind = 2 * (parties * speaker.unsqueeze(2) + speaker.unsqueeze(1)) + not_first
    return kind.unsqueeze(-1) == torch.arange(2 * parties * parties, device=speaker.device)


def send(x: Tensor, weight: Tensor, share: Tensor) -> Tensor:
    """What each utterance receives, sum_i sum_r share_ijr W_r x_i. x: b n d; weight: r d o; share: b i j r; b j o."""
    return torch.einsum("bijr,biro->bjo", share, torch.einsum("bid,rdo->biro", x, weight))


class RecurrentContext(nn.Module):
    """A bidirectional LSTM or GRU; without `mask_padding`, as released, the backward direction starts in padding."""

    def __init__(
        self, *, cell: type[nn.RNNBase], width: int, hidden: int, layers: int, mask_padding: bool, dropout: float
    ):
        super().__init__()
        self.mask_padding = mask_padding
        between = dropout if layers > 1 else 0.0
        self.rnn = cell(width, hidden, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        return recurrent(self.rnn, x, mask) if self.mask_padding else self.rnn(x)[0]


class DialogueRnnStates(nn.Module):
    """DialogueRNN's emotion states in both directions, which never depend on padding."""

    def __init__(
        self, *, width: int, hidden: int, global_dim: int, party_dim: int, parties: int, recurrent_dropout: float
    ):
        super().__init__()
        self.rnn = DialogueRnnContext(
            streams=1, directions=2, dim=width, global_dim=global_dim, party_dim=party_dim, emotion_dim=hidden,
            parties=parties, attention={"name": "general"}, listener=False, recurrent_dropout=recurrent_dropout,
            through_padding=False,
        )  # fmt: skip

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        return self.rnn(x[None], speaker, mask)[0]


CONTEXTS = {
    "lstm": partial(RecurrentContext, cell=nn.LSTM),
    "gru": partial(RecurrentContext, cell=nn.GRU),
    "dialoguernn": DialogueRnnStates,
}


class Graph(nn.Module):
    """The two convolutions: relational with weights W_r = sum_k a_rk B_k, then plain. b n d -> b n g."""

    def __init__(
        self, *, width: int, dim: int, parties: int, bases: int, positions: int, window_past: int, window_future: int
    ):
        super().__init__()
        self.parties, self.window = parties, {"past": window_past, "future": window_future}
        self.edge = nn.Linear(width, positions, bias=False)  # row i is w_i
        self.bases = uniform(bases, width, dim, fan_in=bases * width)
        self.mix = uniform(2 * parties * parties, bases, fan_in=bases)
        self.itself = nn.Linear(width, dim)
        self.neighbours = nn.Linear(dim, dim, bias=False)
        self.itself_again = nn.Linear(dim, dim)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        n, positions = x.shape[1], self.edge.out_features
        if n > positions:
            raise RequestError(
                f"a dialogue of {n} utterances, DialogueGCN has {positions} positions: set graph.positions = {n}"
            )
        edges = window_edges(mask, **self.window)  # b i j
        score = self.edge(x)[..., :n].mT  # b j i -> b i j
        share = score.masked_fill(~edges, -torch.inf).softmax(-1)
        share = share.unsqueeze(-1) * relations(speaker, parties=self.parties)  # b i j r
        weight = torch.einsum("rk,kdo->rdo", self.mix, self.bases)
        h = send(x, weight, share) + self.itself(x)
        return self.neighbours(edges.mT.to(h.dtype) @ h) + self.itself_again(h)


class DialogueGcn(nn.Module):
    """Scores from x = [context; graph] after the nodal attention softmax_j(tanh((W x_i + b) . x_j)) over the dialogue.

    The paper has no tanh there, the released code does.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, speakers: int, context: dict[str, Any], graph: dict[str, Any],
        nodal_attention: bool, mask_padding: bool, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.modalities = tuple(dims)
        self.context = part(
            CONTEXTS, context, "model.context", width=sum(dims.values()), parties=speakers, mask_padding=mask_padding,
            dropout=dropout,
        )  # fmt: skip
        width = 2 * context["hidden"]
        self.graph = bind(Graph, graph, what="model.graph", width=width, parties=speakers)
        width, dim = width + graph["dim"], graph["dim"]  # of a context beside its graph state, and of the state alone
        self.match = nn.Linear(width, width) if nodal_attention else None
        self.embed = nn.Linear(width, dim)
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear(dim, classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        u, speaker, mask = torch.cat([batch[name] for name in self.modalities], dim=-1), batch["speaker"], batch["mask"]
        x = self.context(u, speaker, mask)  # b n d
        x = torch.cat([x, self.graph(x, speaker, mask)], dim=-1)
        if self.match is not None:
            score = torch.tanh(self.match(x) @ x.mT)  # b n n
            x = score.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1) @ x
        z = F.relu(self.embed(x))
        return {"logits": self.classify(self.drop(z)), "embedding": z}
