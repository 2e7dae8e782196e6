"""Sequences of different lengths in one batch: means, attention, LSTMs and joining that never see padding.

Shapes: b utterances, t steps (padded), s steps of another sequence, l steps of several sequences joined, d features,
h of a state. Masks are True on real steps, which come first in every row.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from merlib.errors import RequestError
from merlib.layers.together import dropout_factors


def at_steps(x: Tensor, steps: Tensor) -> Tensor:
    """x: b t d; steps: b l, which step of x. b l d."""
    first = torch.arange(len(x), device=x.device).unsqueeze(1) * x.shape[1]
    return x.flatten(0, 1).index_select(0, (first + steps).flatten()).unflatten(0, steps.shape)


def masked_mean(x: Tensor, mask: Tensor, longest: int | None = None) -> Tensor:
    """Mean over the real steps, b t d -> b d; over `longest` steps if given: padding up to it then counts as zeros."""
    count = mask.sum(1, keepdim=True) if longest is None else longest
    return (x * mask.unsqueeze(-1)).sum(1) / count


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d / heads)) v. q: b t d; k, v: b s d; mask: b s, their real steps (None: all). b t d."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # b t d -> b h t e
    keys = None if mask is None else mask[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2).flatten(-2)


def last_state(x: Tensor, mask: Tensor) -> Tensor:
    """The state of a forward recurrence at the last real step: b t d -> b d."""
    return x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]


def recurrent(rnn: nn.RNNBase, x: Tensor, mask: Tensor) -> Tensor:
    """The states of an LSTM or GRU over the real steps, or over one step where none is real: b t h, zero on padding."""
    lengths = mask.sum(1).clamp(min=1)
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    if isinstance(rnn, nn.LSTM) and not x.is_cuda:
        return _fused_lstm(rnn, x, lengths.unsqueeze(1), packed)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def _fused_lstm(rnn: nn.LSTM, x: Tensor, lengths: Tensor, packed: PackedSequence) -> Tensor:
    """An LSTM by the fused CPU kernel, which PyTorch has for padded sequences and not for packed ones.

    Padding comes after the real steps of each direction, so no state of a real step depends on it. Dropout between
    layers draws for the packed steps, as nn.LSTM does. lengths: b 1. Returns b t h, zero on padding.
    """
    step = torch.arange(x.shape[1], device=x.device)
    real = step < lengths  # b t
    backward = torch.where(real, lengths - 1 - step, step)
    start, directions = (x.new_zeros(1, len(x), rnn.hidden_size),) * 2, 1 + rnn.bidirectional
    for layer in range(rnn.num_layers):
        if layer and rnn.training and rnn.dropout:
            factors = dropout_factors(rnn.dropout, (len(packed.data), x.shape[-1]), like=x)
            x = x * pad_packed_sequence(packed._replace(data=factors), batch_first=True, total_length=len(step))[0]
        weights = rnn.all_weights[layer * directions : (layer + 1) * directions]
        options = (rnn.bias, 1, 0.0, rnn.training, False, True)  # layers, dropout, training, bidirectional, batch first
        states = [torch.lstm(x, start, weights[0], *options)[0]]
        if rnn.bidirectional:
            states.append(at_steps(torch.lstm(at_steps(x, backward), start, weights[1], *options)[0], backward))
        x = torch.cat(states, dim=-1)
    return x * real.unsqueeze(-1)


class LastState(nn.Module):
    """The state of an LSTM after the last real step of each sequence, of the top layer: b t d -> b h.

    Two directions share the width `dim`; the backward one ends at the first step.
    """

    def __init__(self, *, width: int, dim: int, layers: int, directions: int):
        super().__init__()
        if directions not in (1, 2) or dim % directions:
            raise RequestError(
                f"an LSTM of width {dim} in {directions} directions: choose 1 or 2, and a width that they divide"
            )
        self.directions = directions
        self.lstm = nn.LSTM(width, dim // directions, layers, batch_first=True, bidirectional=directions == 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        _, (state, _) = self.lstm(packed)  # (layers directions) b h
        return rearrange(state[-self.directions :], "r b h -> b (r h)")


class Joined:
    """[A; B; ...] along time: the real steps one after the other, so that no convolution meets padding between them."""

    def __init__(self, masks: Sequence[Tensor]):
        """masks: b t each."""
        mask = torch.cat(list(masks), dim=1)
        self.steps = (~mask).long().argsort(dim=1, stable=True)[:, : int(mask.sum(1).max())]
        self.mask = mask.gather(1, self.steps)  # b l

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """b t d each -> b l d, zero on padding."""
        return at_steps(torch.cat(list(parts), dim=1), self.steps) * self.mask.unsqueeze(-1)


def resampled(x: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """The real steps of x (b t d; mask b t) stretched linearly to those of target (b l): b l d.

    Each row as by `interpolate(mode="linear", align_corners=False)`, whose gradient has no deterministic GPU kernel.
    """
    have, want = (m.sum(1, keepdim=True).double() for m in (mask, target))
    place = (torch.arange(target.shape[1], device=x.device) + 0.5) * have / want - 0.5  # b l
    place = torch.minimum(place.clamp(min=0), have - 1)
    below = place.floor().long()
    above = torch.minimum(below + 1, have.long() - 1)
    share = (place - below).to(x.dtype).unsqueeze(-1)
    return ((1 - share) * at_steps(x, below) + share * at_steps(x, above)) * target.unsqueeze(-1)
