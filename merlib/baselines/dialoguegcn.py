"""DialogueGCN (Ghosal et al. 2019): a context, two graph convolutions over typed edges, attention over the dialogue.

As released: an edge's weight is softmax_j(w_i . c_j) over the window, with one learned vector w_i for each place i in a
dialogue, and messages i -> j carry the weight that i gave; the second convolution adds neighbours unweighted.
Shapes: b dialogues, n utterances (padded), d = 2 base_dim width of a context, g of the graph's states, r relations.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from merlib.baselines.dialogue_graph import relations, send, window_edges
from merlib.baselines.dialoguernn import DialogueRnnContext
from merlib.baselines.recurrence import uniform
from merlib.errors import RequestError

VERSION = 1


class RecurrentContext(nn.Module):
    """A bidirectional LSTM or GRU; without `mask_padding`, as released, its backward way starts in the padding."""

    def __init__(
        self, *, cell: type[nn.RNNBase], dim: int, hidden: int, layers: int, mask_padding: bool, dropout: float
    ):
        super().__init__()
        self.mask_padding = mask_padding
        between = dropout if layers > 1 else 0.0
        self.rnn = cell(dim, hidden, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        if not self.mask_padding:
            return self.rnn(x)[0]
        packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class DialogueRnnBase(nn.Module):
    """DialogueRNN's emotion states in both directions; no padding is ever seen."""

    def __init__(self, *, dim: int, hidden: int, global_dim: int, party_dim: int, parties: int, dropout: float):
        super().__init__()
        self.rnn = DialogueRnnContext(
            streams=1,
            directions=2,
            dim=dim,
            global_dim=global_dim,
            party_dim=party_dim,
            emotion_dim=hidden,
            parties=parties,
            attention="general",
            attention_dim=1,
            listener=False,
            dropout=dropout,
            through_padding=False,
        )

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        return self.rnn(x[None], speaker, mask)[0]


class NoContext(nn.Module):
    def __init__(self, *, dim: int, hidden: int):
        super().__init__()
        self.linear = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x)


class Graph(nn.Module):
    """The two convolutions: relational with weights W_r = sum_k a_rk B_k, then plain. b n d -> b n g."""

    def __init__(self, *, dim: int, graph_dim: int, parties: int, bases: int, positions: int, past: int, future: int):
        super().__init__()
        self.parties, self.window = parties, {"past": past, "future": future}
        self.edge = nn.Linear(dim, positions, bias=False)  # row i is w_i
        self.bases = uniform(bases, dim, graph_dim, fan_in=bases * dim)
        self.mix = uniform(2 * parties * parties, bases, fan_in=bases)
        self.itself = nn.Linear(dim, graph_dim)
        self.neighbours = nn.Linear(graph_dim, graph_dim, bias=False)
        self.itself_again = nn.Linear(graph_dim, graph_dim)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        n, positions = x.shape[1], self.edge.out_features
        if n > positions:
            raise RequestError(
                f"a dialogue of {n} utterances, DialogueGCN has {positions} positions: set positions = {n}"
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
    base: "lstm", "gru", "dialoguernn" (which alone reads global_dim, party_dim and recurrent_dropout) or "none".
    """

    def __init__(
        self,
        *,
        dims: dict[str, int],
        classes: int,
        speakers: int,
        base: str,
        base_dim: int,
        base_layers: int,
        global_dim: int,
        party_dim: int,
        recurrent_dropout: float,
        window_past: int,
        window_future: int,
        bases: int,
        graph_dim: int,
        positions: int,
        nodal_attention: bool,
        mask_padding: bool,
        dropout: float,
    ):
        super().__init__()
        self.modalities = tuple(dims)
        width, dim = sum(dims.values()), 2 * base_dim
        if base in ("lstm", "gru"):
            self.context = RecurrentContext(
                cell={"lstm": nn.LSTM, "gru": nn.GRU}[base],
                dim=width,
                hidden=base_dim,
                layers=base_layers,
                mask_padding=mask_padding,
                dropout=dropout,
            )
        elif base == "dialoguernn":
            self.context = DialogueRnnBase(
                dim=width,
                hidden=base_dim,
                global_dim=global_dim,
                party_dim=party_dim,
                parties=speakers,
                dropout=recurrent_dropout,
            )
        elif base == "none":
            self.context = NoContext(dim=width, hidden=base_dim)
        else:
            raise RequestError(f"base {base!r} is unknown: choose lstm, gru, dialoguernn or none")
        self.graph = Graph(
            dim=dim,
            graph_dim=graph_dim,
            parties=speakers,
            bases=bases,
            positions=positions,
            past=window_past,
            future=window_future,
        )
        self.match = nn.Linear(dim + graph_dim, dim + graph_dim) if nodal_attention else None
        self.embed = nn.Linear(dim + graph_dim, graph_dim)
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear(graph_dim, classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        u, speaker, mask = torch.cat([batch[name] for name in self.modalities], dim=-1), batch["speaker"], batch["mask"]
        x = self.context(u, speaker, mask)  # b n d
        x = torch.cat([x, self.graph(x, speaker, mask)], dim=-1)
        if self.match is not None:
            score = torch.tanh(self.match(x) @ x.mT)  # b n n
            x = score.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1) @ x
        z = F.relu(self.embed(x))
        return {"logits": self.classify(self.drop(z)), "embedding": z}
