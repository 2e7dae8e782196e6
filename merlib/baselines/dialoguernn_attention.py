"""How DialogueRNN attends to the global states before an utterance (Majumder et al. 2019, Sec. 3.3.1).

Every variant serves s networks of one shape at once and has `query` (of all utterances, before the loop), `begin` (the
memory before the first turn), `read` (the context of this turn) and `write` (adds this turn's global state).
Shapes: s networks, N utterances, k dialogues that reach a turn, t turns before it, d and g widths of u and g.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from merlib.baselines.grouped_gru import uniform


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
    """(W u_t + b) . g_j, without b unless `bias`."""

    def __init__(self, *, networks: int, dim: int, global_dim: int, bias: bool):
        super().__init__()
        self.weight = uniform(networks, global_dim, dim, fan_in=dim)
        self.bias = uniform(networks, 1, global_dim, fan_in=dim) if bias else None

    def query(self, u: Tensor) -> Tensor:
        query = u @ self.weight.mT  # s N d -> s N g
        return query if self.bias is None else query + self.bias

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


def general(*, networks: int, dim: int, global_dim: int, bias: bool) -> MatchingContext:
    """Attention by a bilinear score, with a bias (the released "general2") or without."""
    return MatchingContext(score=GeneralScore(networks=networks, dim=dim, global_dim=global_dim, bias=bias))


def concat(*, networks: int, dim: int, global_dim: int, hidden: int) -> MatchingContext:
    """Attention by a score with one hidden layer."""
    return MatchingContext(score=ConcatScore(networks=networks, dim=dim, global_dim=global_dim, hidden=hidden))


ATTENTIONS = {
    "simple": SimpleContext,
    "general": partial(general, bias=False),
    "general2": partial(general, bias=True),
    "concat": concat,
}
