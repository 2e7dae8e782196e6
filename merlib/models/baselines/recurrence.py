"""Time loops over many dialogues and many networks at once: packing by turn, late weight gradients, grouped GRU cells.

Shapes: m streams, r directions, s = m r networks of one shape side by side, b dialogues, n turns, N utterances in all,
k dialogues that reach a turn, i inputs, h hidden units. Within a turn longer dialogues come first: the dialogues that
go on are a prefix of the turn before, and no step computes padding.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Turns:
    """Padded dialogues packed by turn, once for each direction (r: 1, or 2 with the reversed dialogues).

    `rows` (r N) is the place of every packed utterance in the flattened (b n) axis; `sizes` counts the utterances of
    each turn. Real utterances stand first in a dialogue. `walked` (b n) are those to visit: the mask, or more of it.
    """

    def __init__(self, *, mask: Tensor, walked: Tensor, directions: int):
        self.shape, self.sizes = mask.shape, walked.sum(0).tolist()
        forward = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        backward = torch.where(mask, mask.sum(1, keepdim=True) - 1 - forward, forward)
        rank = walked.sum(1).argsort(descending=True, stable=True).argsort()  # b, longest dialogue first
        place = walked.flatten().nonzero().squeeze(1)  # N
        steps = torch.stack((forward, backward)[:directions]) * len(mask) + rank[:, None]  # r b n
        self.rows = place[steps[:, walked].argsort(dim=1)]

    def pack(self, x: Tensor) -> Tensor:
        """m b n ... -> (m r) N ..."""
        return x.flatten(1, 2).index_select(1, self.rows.flatten()).unflatten(1, self.rows.shape).flatten(0, 1)

    def unpack(self, x: Tensor) -> Tensor:
        """(m r) N d -> m b n (r d), zero where nothing was visited."""
        x = x.unflatten(0, (-1, len(self.rows)))  # m r N d
        padded = x.new_zeros(len(x), self.shape.numel(), x.shape[-1])
        return torch.cat(
            [padded.index_copy(1, rows, x[:, way]) for way, rows in enumerate(self.rows)], dim=-1
        ).unflatten(1, self.shape)


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
        self.hidden = hidden
        bound = 1 / math.sqrt(hidden)
        shapes = {"weight_ih": (3 * hidden, inputs), "weight_hh": (3 * hidden, hidden)}
        shapes |= {"bias_ih": (3 * hidden,), "bias_hh": (3 * hidden,)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(networks, *shape).uniform_(-bound, bound)))

    def project(self, x: Tensor) -> Tensor:
        """The gates' share of the first inputs, for all rows at once: s N i', i' <= i -> s N 3h."""
        return torch.baddbmm(self.bias_ih[:, None], x, self.weight_ih[..., : x.shape[-1]].mT)

    def steps(self, x: Tensor, sizes: Sequence[int], states: int = 1) -> tuple[StepLinear, StepLinear]:
        """The gates' shares of all inputs and of the hidden state, one step of a loop after the other.

        x (s N i') is known before the loop; the other inputs come step by step. `states` hidden states belong to
        every utterance (the parties of a dialogue, say), with rows (k states).
        """
        hidden = self.bias_hh[:, None].expand(-1, sum(sizes) * states, -1)
        return (
            StepLinear(self.project(x), self.weight_ih[..., x.shape[-1] :], sizes),
            StepLinear(hidden, self.weight_hh, [k * states for k in sizes]),
        )


class _Gru(torch.autograd.Function):
    """One step by hand: half the memory and a third of the calls that autograd would need for it."""

    @staticmethod
    def forward(ctx, inputs: Tensor, hidden: Tensor, state: Tensor) -> Tensor:
        h = state.shape[-1]
        gates = torch.sigmoid(inputs[..., : 2 * h] + hidden[..., : 2 * h])  # r, z
        candidate = hidden[..., 2 * h :].contiguous()
        new = torch.tanh(torch.addcmul(inputs[..., 2 * h :], gates[..., :h], candidate))
        ctx.save_for_backward(gates, candidate, new, state)
        return torch.lerp(new, state, gates[..., h:])  # (1 - z) n + z h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        gates, candidate, new, state = ctx.saved_tensors
        reset, update = gates.chunk(2, dim=-1)
        d_new = grad * (1 - update) * (1 - new * new)
        d_gates = torch.cat([d_new * candidate, grad * (state - new)], dim=-1) * gates * (1 - gates)
        d_inputs, d_hidden = torch.cat([d_gates, d_new], dim=-1), torch.cat([d_gates, d_new * reset], dim=-1)
        return d_inputs, d_hidden, grad * update


def gru(inputs: Tensor, hidden: Tensor, state: Tensor) -> Tensor:
    """The new state from the two shares of the gates (... 3h each) and the old state (... h)."""
    return _Gru.apply(inputs, hidden, state)
