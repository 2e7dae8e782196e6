"""Time loops over many dialogues and many networks at once: packing by turn, late weight gradients, grouped GRU cells.

Shapes: s networks of one shape side by side, b dialogues, n turns, k utterances of one turn (dialogues still going on),
N utterances in all, i inputs, h hidden units. Rows are packed by turn; within a turn longer dialogues come first, so
the dialogues that go on are always a prefix of the previous turn's rows, and no step computes padding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Turns:
    """Where the utterances of padded dialogues stand when packed by turn.

    `order[r]` is the row, among the utterances `walked` in dialogue-major order, that packed row r shows; `place` is
    its inverse; `sizes` counts the utterances of each turn.
    """

    order: Tensor
    place: Tensor
    sizes: list[int]

    @classmethod
    def pack(cls, walked: Tensor, turn: Tensor) -> "Turns":
        """walked: b n, True on utterances to visit (prefixes); turn: b n, the step at which each is visited."""
        longest_first = walked.sum(1).argsort(descending=True, stable=True)
        rank = longest_first.argsort()  # dialogue -> its column within a turn
        order = (turn * len(walked) + rank[:, None])[walked].argsort()
        return cls(order=order, place=order.argsort(), sizes=walked.sum(0).tolist())


class _LateWeightGradient(torch.autograd.Function):
    """Identity on `base`; its gradient, joined with the inputs met in the loop, gives the weight's gradient."""

    @staticmethod
    def forward(ctx, base: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return base.view_as(base)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return grad, grad.mT @ torch.cat(ctx.inputs, dim=1), None  # s N o, s N i -> s o i


class StepLinear:
    """y = base + x W^T at every step of a loop, with one weight gradient for the whole loop.

    Left to itself, autograd forms and adds a full weight gradient at every step, which costs more than the step.
    base: s N o; weight: s o i; the steps must visit the packed rows in their order.
    """

    def __init__(self, base: Tensor, weight: Tensor, sizes: Sequence[int]):
        self.inputs: list[Tensor] = []
        self.weight = weight.detach().mT
        self.base = _LateWeightGradient.apply(base, weight, self.inputs).split(sizes, dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """x: s k i, the rows of the next step. Returns s k o."""
        self.inputs.append(x.detach())  # detached: the graph must not hold itself
        return torch.baddbmm(self.base[len(self.inputs) - 1], x, self.weight)


class GroupedGru(nn.Module):
    """`networks` GRU cells of one shape, stacked so that one product serves all (gates in torch's order r, z, n)."""

    def __init__(self, *, networks: int, inputs: int, hidden: int):
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        shapes = {"weight_ih": (3 * hidden, inputs), "weight_hh": (3 * hidden, hidden)}
        shapes |= {"bias_ih": (3 * hidden,), "bias_hh": (3 * hidden,)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(networks, *shape).uniform_(-bound, bound)))

    def project(self, x: Tensor) -> Tensor:
        """The input's share of the gates, for all rows at once. x: s N i', i' <= i leading inputs -> s N 3h."""
        return torch.baddbmm(self.bias_ih[:, None], x, self.weight_ih[..., : x.shape[-1]].mT)

    def recurrent(self, sizes: Sequence[int]) -> StepLinear:
        """The hidden state's share of the gates: s k h -> s k 3h at each step."""
        return StepLinear(self.bias_hh[:, None].expand(-1, sum(sizes), -1), self.weight_hh, sizes)


def gru(inputs: Tensor, hidden: Tensor, state: Tensor) -> Tensor:
    """The new state from the two shares of the gates (s k 3h each) and the old state (s k h)."""
    split = 2 * state.shape[-1]
    reset, update = torch.sigmoid(inputs[..., :split] + hidden[..., :split]).chunk(2, dim=-1)
    new = torch.tanh(torch.addcmul(inputs[..., split:], reset, hidden[..., split:]))
    return torch.lerp(new, state, update)  # (1 - z) n + z h
