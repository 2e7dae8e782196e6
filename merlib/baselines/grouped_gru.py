"""GRU cells of many networks over many dialogues in one loop: packing by turn, and one weight gradient for all steps.

Shapes: m streams, r directions, s = m r networks of one shape side by side, b dialogues, n turns, N utterances in all,
k dialogues that reach a turn, i inputs, h hidden units. Within a turn, longer dialogues come first: the dialogues that
reach the next turn are a prefix, and no step computes padding.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """A parameter with the initial values that torch gives linear and recurrent layers."""
    return nn.Parameter(torch.empty(*shape).uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in)))


class Turns:
    """Padded dialogues packed by turn, once for each direction (r: 1, or 2 with the reversed dialogues).

    `rows` (r N) is the position of every packed utterance in the flattened (b n) axis; `sizes` counts the utterances of
    each turn. Real utterances come first in a dialogue. `visited` (b n): the mask, or a larger one.
    """

    def __init__(self, *, mask: Tensor, visited: Tensor, directions: int):
        self.shape, self.sizes = mask.shape, [k for k in visited.sum(0).tolist() if k]
        forward = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        backward = torch.where(mask, mask.sum(1, keepdim=True) - 1 - forward, forward)
        rank = visited.sum(1).argsort(descending=True, stable=True).argsort()  # b, longest dialogue first
        position = visited.flatten().nonzero().squeeze(1)  # N
        steps = torch.stack((forward, backward)[:directions]) * len(mask) + rank[:, None]  # r b n
        self.rows = position[steps[:, visited].argsort(dim=1)]

    def pack(self, x: Tensor) -> Tensor:
        """m b n ... -> (m r) N ..."""
        return x.flatten(1, 2).index_select(1, self.rows.flatten()).unflatten(1, self.rows.shape).flatten(0, 1)

    def unpack(self, x: Tensor) -> Tensor:
        """(m r) N d -> m b n (r d), zero where nothing was visited."""
        directions = x.unflatten(0, (-1, len(self.rows))).unbind(1)  # m N d for each direction
        padded = x.new_zeros(len(directions[0]), self.shape.numel(), x.shape[-1])
        directions = [padded.index_copy(1, rows, y) for rows, y in zip(self.rows, directions, strict=True)]
        return torch.cat(directions, dim=-1).unflatten(1, self.shape)


class _LateWeightGradient(torch.autograd.Function):
    """Identity on `base`; its gradient and the inputs collected in the loop give the gradient of the weight."""

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

    Autograd by itself would compute and add a full weight gradient at every step, which costs more than the step.
    base: s N o; weight: s o i; the steps must visit the packed rows in their order.
    """

    def __init__(self, base: Tensor, weight: Tensor, sizes: Sequence[int]):
        self.inputs: list[Tensor] = []
        self.weight = weight.detach().mT
        self.base = _LateWeightGradient.apply(base, weight, self.inputs).split(sizes, dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """x: s k i, the rows of the next step. Returns s k o."""
        self.inputs.append(x.detach())  # detached: a reference to itself would keep the graph alive
        return torch.baddbmm(self.base[len(self.inputs) - 1], x, self.weight)


class GroupedGru(nn.Module):
    """`networks` GRU cells of one shape, stacked for one batched product (gates in torch's order r, z, n)."""

    def __init__(self, *, networks: int, inputs: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        self.weight_ih = uniform(networks, 3 * hidden, inputs, fan_in=hidden)
        self.weight_hh = uniform(networks, 3 * hidden, hidden, fan_in=hidden)
        self.bias_ih = uniform(networks, 3 * hidden, fan_in=hidden)
        self.bias_hh = uniform(networks, 3 * hidden, fan_in=hidden)

    def project(self, x: Tensor) -> Tensor:
        """What the first i' <= i inputs contribute to the gates, for all rows at once: s N i' -> s N 3h."""
        return torch.baddbmm(self.bias_ih[:, None], x, self.weight_ih[..., : x.shape[-1]].mT)

    def steps(self, x: Tensor, sizes: Sequence[int], states: int = 1) -> tuple[StepLinear, StepLinear]:
        """What the inputs and what the hidden state contribute to the gates, one call per step of a loop.

        x (s N i') is known before the loop; the other inputs come step by step. Every utterance has `states` hidden
        states (such as one for each party of a dialogue), in rows (k states).
        """
        hidden = self.bias_hh[:, None].expand(-1, sum(sizes) * states, -1)
        return (
            StepLinear(self.project(x), self.weight_ih[..., x.shape[-1] :], sizes),
            StepLinear(hidden, self.weight_hh, [k * states for k in sizes]),
        )


def gru(inputs: Tensor, hidden: Tensor, state: Tensor) -> Tensor:
    """The new state from what inputs and hidden state contribute (s k 3h each), and the old state (s k h)."""
    (reset, update, new), (reset_h, update_h, new_h) = inputs.chunk(3, dim=-1), hidden.chunk(3, dim=-1)
    new = torch.tanh(torch.addcmul(new, torch.sigmoid(reset + reset_h), new_h))
    return torch.lerp(new, state, torch.sigmoid(update + update_h))  # (1 - z) n + z h
