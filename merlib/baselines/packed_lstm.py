"""LSTMs over sequences of unequal length that give every cell state and compute nothing that nobody reads.

torch's LSTM keeps no cell state but the last. On a CPU its fused kernel also computes the padding, and the gradient of
an input that needs none, which costs as much as the output where the input is wide. Here all products with the inputs
are one product, no step computes padding, and each weight has one gradient for all steps.
Shapes: b sequences, t steps (padded), N real steps of all sequences, k sequences that reach a step, d inputs, h hidden
units. Masks are True on real steps, which come first; every sequence has at least one.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from merlib.layers.ragged import last_state


class Steps:
    """The real steps of padded sequences as the rows of one matrix: step by step, the longest sequence first.

    `sizes` counts the rows of each step; the sequences that reach the next step are a prefix. `order` (b) is that of
    the sequences within a step, `sequence` (N) the sequence of each row, `last` (b) the row of each sequence's end.
    """

    def __init__(self, mask: Tensor):
        """mask: b t."""
        self.lengths = mask.sum(1)
        self.order = self.lengths.argsort(descending=True, stable=True)
        self.sizes = [k for k in mask.sum(0).tolist() if k]
        step, rank = mask[self.order].T.nonzero(as_tuple=True)  # N
        self.sequence = self.order[rank]
        self.rows = self.sequence * mask.shape[1] + step
        ends = (step == self.lengths[self.sequence] - 1).nonzero().squeeze(1)
        self.last = ends[self.sequence[ends].argsort()]

    def pack(self, x: Tensor) -> Tensor:
        """b t d -> N d."""
        return x.flatten(0, 1).index_select(0, self.rows)

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the steps of each sequence: N -> b."""
        return x.new_zeros(len(self.order)).index_add(0, self.sequence, x) / self.lengths

    def before(self, x: Tensor) -> Tensor:
        """For every row that of the step before, zeros for the first step: N h -> N h."""
        earlier = [step[:k] for step, k in zip(x.split(self.sizes), self.sizes[1:], strict=False)]
        return torch.cat([x.new_zeros(self.sizes[0], x.shape[1]), *earlier])


class _Lstm(torch.autograd.Function):
    """The loop over the steps, forwards and backwards, outside autograd: it would keep an entry for every operation."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
        """inputs: N 4h, what the inputs contribute to the gates (torch's order: i, f, g, o); weight: 4h h."""
        h = weight.shape[1]
        gates = torch.empty_like(inputs)
        states, cells = (inputs.new_empty(len(inputs), h) for _ in range(2))
        state, cell = (inputs.new_zeros(steps.sizes[0], h) for _ in range(2))
        rows = zip(*(x.split(steps.sizes) for x in (inputs, gates, states, cells)), strict=True)
        for x, gate, new_state, new_cell in rows:
            torch.addmm(x, state[: len(x)], weight.T, out=gate)
            sigmoids, g, o = gate.split((2 * h, h, h), dim=1)
            i, f = sigmoids.sigmoid_().chunk(2, dim=1)
            torch.mul(f, cell[: len(x)], out=new_cell).addcmul_(i, g.tanh_())
            torch.mul(o.sigmoid_(), new_cell.tanh(), out=new_state)
            state, cell = new_state, new_cell
        ctx.save_for_backward(gates, weight, states, cells)
        ctx.steps = steps
        return states, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states: Tensor, grad_cells: Tensor):
        gates, weight, states, cells = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, dim=1)
        squashed, steps = cells.tanh(), ctx.steps
        of_gates = torch.stack(  # how the cell (by i, f, g) and the state (by o) follow the gates before activation
            [g * i * (1 - i), steps.before(cells) * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)], dim=1
        )  # N 4 h
        of_cell = o * (1 - squashed * squashed)
        grads = (of_gates, of_cell, f, grad_states.clone(), grad_cells.clone())
        rows = list(zip(*(x.split(steps.sizes) for x in grads), strict=True))
        for (gate, through, forget, state, cell), earlier in zip(rows[::-1], [*rows[-2::-1], None], strict=True):
            cell.addcmul_(state, through)
            gate[:, :3].mul_(cell.unsqueeze(1))
            gate[:, 3].mul_(state)
            if earlier is not None:
                earlier[3][: len(gate)].addmm_(gate.flatten(1), weight)
                earlier[4][: len(gate)].addcmul_(cell, forget)
        of_gates = of_gates.flatten(1)
        return of_gates, of_gates.T @ steps.before(states), None


def recur(inputs: Tensor, weight: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Hidden and cell states, N h each, from what the inputs contribute to the gates, N 4h, and the weight 4h h."""
    with torch.autocast(inputs.device.type, enabled=False):  # rounding errors of half precision add up in a loop
        return _Lstm.apply(inputs.to(weight.dtype), weight, steps)


def lstm(weights: Iterable[Tensor], x: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Hidden and cell states, N h each, of inputs N d. weights: those of a torch LSTM or LSTMCell, in their order."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    return recur(F.linear(x, weight_ih, bias_ih + bias_hh), weight_hh, steps)


def final_state(rnn: nn.LSTM, x: Tensor, mask: Tensor) -> Tensor:
    """The hidden state of one layer at the last real step of each sequence, b t d -> b h.

    torch's fused kernel is faster on a GPU and for narrow inputs.
    """
    if x.is_cuda or rnn.input_size <= rnn.hidden_size:
        return last_state(rnn(x)[0], mask)
    steps = Steps(mask)
    return lstm(rnn.parameters(), steps.pack(x), steps)[0][steps.last]
