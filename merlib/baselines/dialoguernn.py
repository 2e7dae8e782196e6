"""DialogueRNN (Majumder et al. 2019, Sec. 3.3): coupled GRUs for the dialogue, each party and the speaker's emotion.

For utterance u_t of party s (global state g, party states q, emotion state e, all zero at first):
    g_t     = GRU_g([u_t; q_{t-1,s}], g_{t-1})
    c_t     = sum_{j<t} softmax_j(score(g_j, u_t)) g_j,  c_1 = 0
    q_{t,s} = GRU_p([u_t; c_t], q_{t-1,s})
    q_{t,i} = q_{t-1,i}, or GRU_l([u_t; q_{t,s}], q_{t-1,i}) with listener states (the released code's input)
    e_t     = GRU_e(q_{t,s}, e_{t-1})
Shapes: m streams, s networks (streams x directions), b dialogues, n turns, p parties, c classes, N utterances in all,
k dialogues that reach a turn, t turns before it, d and g widths of u and g. Only g, c and q depend on the turn before:
products with u and all inputs of e are computed for all turns at once, and all networks share one loop.

An attention (Sec. 3.3.1) serves s networks of one shape at once. It has `query` (of all utterances, before the loop),
`begin` (the memory before the first turn), `read` (c of this turn) and `write` (adds this turn's g).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.grouped_gru import GroupedGru, Turns, gru, uniform
from merlib.registry import bind, part

VERSION = 1


class SimpleContext(nn.Module):
    """score = w . g_j does not depend on u_t, so the attention is a running mean and needs no list of past states."""

    def __init__(self, *, networks: int, global_dim: int):
        super().__init__()
        self.weight = uniform(networks, global_dim, 1, fan_in=global_dim)

    def query(self, u: Tensor) -> Tensor:
        return u

    def begin(self, g: Tensor) -> tuple[Tensor, Tensor]:
        return g, g.new_full((*g.shape[:2], 1), -math.inf)  # the mean, and the log of its total weight

    def read(self, past: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        return past[0][:, : query.shape[1]]

    def write(self, past: tuple[Tensor, Tensor], g: Tensor) -> tuple[Tensor, Tensor]:
        mean, total = (x[:, : g.shape[1]] for x in past)
        score = g @ self.weight  # s k 1
        return torch.lerp(mean, g, torch.sigmoid(score - total)), torch.logaddexp(total, score)


class MatchingContext(nn.Module):
    """Attention of u_t over all earlier global states; `score` says how well an utterance and a state match."""

    def __init__(self, *, score: nn.Module):
        super().__init__()
        self.score = score

    def query(self, u: Tensor) -> Tensor:
        return self.score.query(u)

    def begin(self, g: Tensor) -> list[Tensor]:
        return [g]

    def read(self, past: list[Tensor], query: Tensor) -> Tensor:
        g = torch.stack([x[:, : query.shape[1]] for x in past[1:] or past], dim=2)  # s k t g; c_1 reads the zero state
        return torch.einsum("skt,sktg->skg", self.score(g, query[:, :, None]).softmax(dim=2), g)

    def write(self, past: list[Tensor], g: Tensor) -> list[Tensor]:
        return [*past, g]


class GeneralScore(nn.Module):
    """(W u_t) . g_j."""

    def __init__(self, *, networks: int, dim: int, global_dim: int):
        super().__init__()
        self.weight = uniform(networks, global_dim, dim, fan_in=dim)

    def query(self, u: Tensor) -> Tensor:
        return u @ self.weight.mT  # s N d -> s N g

    def forward(self, g: Tensor, query: Tensor) -> Tensor:
        return (g * query).sum(-1)


class ConcatScore(nn.Module):
    """v . tanh(W [g_j; u_t])."""

    def __init__(self, *, networks: int, dim: int, global_dim: int, hidden: int):
        super().__init__()
        self.state = uniform(networks, hidden, global_dim, fan_in=global_dim + dim)
        self.utterance = uniform(networks, hidden, dim, fan_in=global_dim + dim)
        self.vector = uniform(networks, hidden, fan_in=hidden)

    def query(self, u: Tensor) -> Tensor:
        return u @ self.utterance.mT  # s N d -> s N a

    def forward(self, g: Tensor, query: Tensor) -> Tensor:
        return torch.einsum("skta,sa->skt", torch.tanh(g @ self.state.mT[:, None] + query), self.vector)


def general(*, networks: int, dim: int, global_dim: int) -> MatchingContext:
    return MatchingContext(score=GeneralScore(networks=networks, dim=dim, global_dim=global_dim))


def concat(*, networks: int, dim: int, global_dim: int, hidden: int) -> MatchingContext:
    return MatchingContext(score=ConcatScore(networks=networks, dim=dim, global_dim=global_dim, hidden=hidden))


ATTENTIONS = {"simple": SimpleContext, "general": general, "concat": concat}


class DialogueRnnContext(nn.Module):
    """The emotion states of every utterance, for several streams of features and one or two directions in one loop.

    `attention` is a section {"name": one of ATTENTIONS, and its leaves}; `listener` adds listener states.
    `recurrent_dropout` applies to every new state, as in the released code. `through_padding` lets the forward
    direction run on over padding, where no party state changes: only the released MultiEMO code needs that.
    """

    def __init__(
        self, *, streams: int, directions: int, dim: int, global_dim: int, party_dim: int, emotion_dim: int,
        parties: int, attention: dict[str, Any], listener: bool, recurrent_dropout: float, through_padding: bool,
    ):  # fmt: skip
        super().__init__()
        self.directions, self.parties, self.through_padding = directions, parties, through_padding
        s = streams * directions
        self.global_cell = GroupedGru(networks=s, inputs=dim + party_dim, hidden=global_dim)
        self.party_cell = GroupedGru(networks=s, inputs=dim + global_dim, hidden=party_dim)
        self.emotion_cell = GroupedGru(networks=s, inputs=party_dim, hidden=emotion_dim)
        self.listener_cell = GroupedGru(networks=s, inputs=dim + party_dim, hidden=party_dim) if listener else None
        sizes = {"networks": s, "dim": dim, "global_dim": global_dim}
        self.attention = part(ATTENTIONS, attention, "model.context.attention", **sizes)
        self.drop = nn.Dropout(recurrent_dropout)

    def forward(self, x: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        """x: m b n d; speaker, mask: b n, real utterances first. Returns m b n (directions e), zero on padding."""
        visited = torch.ones_like(mask) if self.through_padding else mask
        turns = Turns(mask=mask, visited=visited, directions=self.directions)
        party, real = (turns.pack(y.expand(len(x), *y.shape)) for y in (speaker, mask))  # s N
        with torch.autocast(x.device.type, enabled=False):  # rounding errors of half precision add up in a loop
            u = turns.pack(x.to(self.global_cell.weight_ih.dtype))  # s N d
            e = self._emotions(self._speakers(u, party, real, turns.sizes), turns.sizes)
        if self.through_padding:
            forward = torch.arange(len(e), device=e.device) % self.directions == 0  # s
            e = e.where(real[..., None] | forward[:, None, None], 0.0)  # the released code: backward, zeros on padding
        return turns.unpack(e)

    def _speakers(self, u: Tensor, party: Tensor, real: Tensor, sizes: list[int]) -> Tensor:
        """The speaker's new state at every utterance. u: s N d; party, real: s N. Returns s N q."""
        global_input, global_state = self.global_cell.steps(u, sizes)
        party_input, party_state = self.party_cell.steps(u, sizes)
        if self.listener_cell is not None:
            listener_input, listener_state = self.listener_cell.steps(u, sizes, states=self.parties)
        g = u.new_zeros(len(u), sizes[0], self.global_cell.hidden)
        parties = u.new_zeros(len(u), sizes[0], self.parties, self.party_cell.hidden)  # s k p q
        party = party[..., None, None].expand(-1, -1, 1, self.party_cell.hidden)  # s N 1 q
        past, states = self.attention.begin(g), []
        turns = zip(*(y.split(sizes, dim=1) for y in (self.attention.query(u), party, real[..., None])), strict=True)
        for query, speaker, is_real in turns:
            g, parties = g[:, : query.shape[1]], parties[:, : query.shape[1]]
            old = parties.gather(2, speaker).squeeze(2)  # s k q
            new = self.drop(gru(party_input(self.attention.read(past, query)), party_state(old), old))
            g = self.drop(gru(global_input(old), global_state(g), g))
            past = self.attention.write(past, g)
            if self.listener_cell is not None:
                everyone = parties.flatten(1, 2)  # s (k p) q
                from_speaker = listener_input(new).repeat_interleave(self.parties, dim=1)
                parties = self.drop(gru(from_speaker, listener_state(everyone), everyone)).view_as(parties)
            if self.through_padding:
                new = torch.where(is_real, new, parties.gather(2, speaker).squeeze(2))
            parties = parties.scatter(2, speaker, new[:, :, None])
            states.append(new)
        return torch.cat(states, dim=1)

    def _emotions(self, q: Tensor, sizes: list[int]) -> Tensor:
        """The emotion state at every utterance, from the speakers' states: s N q -> s N e."""
        emotion_input, emotion_state = self.emotion_cell.steps(q, sizes)
        e, states = q.new_zeros(len(q), sizes[0], self.emotion_cell.hidden), []
        for k in sizes:
            e = self.drop(gru(emotion_input(e[:, :k, :0]), emotion_state(e[:, :k]), e[:, :k]))
            states.append(e)
        return torch.cat(states, dim=1)


class DialogueRnn(nn.Module):
    """The released bidirectional model on concatenated features: contexts, emotion attention, hidden layer, scores.

    `emotion_attention` lets every utterance attend to the emotion states of its whole dialogue (score
    (W e_t + b) . e_j, unscaled). `hidden_dim` is the width of the layer after it, twice the released D_h.
    """

    def __init__(
        self, *, dims: dict[str, int], classes: int, speakers: int, context: dict[str, Any], emotion_attention: bool,
        hidden_dim: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.modalities = tuple(dims)
        self.context = bind(
            DialogueRnnContext, context, what="model.context", streams=1, directions=2, dim=sum(dims.values()),
            parties=speakers, through_padding=False,
        )  # fmt: skip
        width = 2 * self.context.emotion_cell.hidden
        self.match = nn.Linear(width, width) if emotion_attention else None
        self.embed = nn.Linear(width, hidden_dim)
        self.classify = nn.Linear(hidden_dim, classes)
        self.drop_emotion = nn.Dropout(min(dropout + 0.15, 1.0))  # the released code's rate
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        u = torch.cat([batch[name] for name in self.modalities], dim=-1)  # b n d
        e = self.drop_emotion(self.context(u[None], batch["speaker"], batch["mask"])[0])  # b n (2 e)
        if self.match is not None:
            keys = batch["mask"][:, None]  # b 1 n
            e = F.scaled_dot_product_attention(self.match(e), e, e, attn_mask=keys, scale=1.0)
        z = self.drop(F.relu(self.embed(e)))
        return {"logits": self.classify(z), "embedding": z}
