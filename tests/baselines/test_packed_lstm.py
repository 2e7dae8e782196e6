"""The packed LSTM against torch's own, and the quick dropout against what dropout is."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from merlib.baselines.packed_lstm import Steps, final_state, lstm
from merlib.baselines.tensor_fusion import QuickDropout

LENGTHS = (3, 7, 1, 7, 2)
MASK = torch.arange(8) < torch.tensor(LENGTHS)[:, None]  # a step beyond the longest


def sequences(width: int) -> torch.Tensor:
    """Noise in the padding too, which nobody may see."""
    torch.manual_seed(0)
    return torch.randn(*MASK.shape, width, dtype=torch.double)


def test_states_are_those_of_torchs_lstm_over_each_sequence_alone():
    x, rnn, steps = sequences(5), nn.LSTM(5, 4, batch_first=True).double(), Steps(MASK)
    states, cells = lstm(rnn.parameters(), steps.pack(x), steps)
    for i, length in enumerate(LENGTHS):
        for t in range(1, length + 1):
            _, (state, cell) = rnn(x[i : i + 1, :t])
            row = (steps.rows == i * MASK.shape[1] + t - 1).nonzero().item()
            assert_close(states[row], state[0, 0], rtol=1e-12, atol=1e-12)
            assert_close(cells[row], cell[0, 0], rtol=1e-12, atol=1e-12)
            assert (steps.last[i] == row) == (t == length)


def test_gradients_are_those_of_the_values():
    x, rnn, steps = sequences(3).requires_grad_(), nn.LSTM(3, 2, batch_first=True).double(), Steps(MASK)
    assert torch.autograd.gradcheck(lambda x, *weights: lstm(weights, steps.pack(x), steps), (x, *rnn.parameters()))


def test_the_mean_over_steps_is_that_of_each_sequence():
    x, steps = sequences(1), Steps(MASK)
    expected = torch.stack([row[:length].mean() for row, length in zip(x[..., 0], LENGTHS, strict=True)])
    assert_close(steps.mean(steps.pack(x)[:, 0]), expected)


@pytest.mark.parametrize("width", [3, 9])  # narrow: by torch's kernel; wide: packed
def test_the_final_state_of_narrow_and_wide_inputs(width):
    x, rnn = sequences(width), nn.LSTM(width, 4, batch_first=True).double()
    expected = [rnn(x[i : i + 1, :length])[1][0][0, 0] for i, length in enumerate(LENGTHS)]
    assert_close(final_state(rnn, x, MASK), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_quick_dropout_leaves_out_its_share_and_keeps_the_mean():
    drop, x = QuickDropout(0.3), torch.ones(1001, 997)
    torch.manual_seed(0)
    y = drop(x.clone())
    kept = y != 0
    assert_close(y[kept], torch.full_like(y[kept], 1 / 0.7))
    assert abs(kept.double().mean() - 0.7) < 5 * (0.3 * 0.7 / x.numel()) ** 0.5
    neighbours = (kept[:, 1:] & kept[:, :-1]).double().mean()  # drawn from one random number, and independent
    assert abs(neighbours - 0.49) < 5 * (0.49 / x.numel()) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(drop(x.clone()), y)
    assert not torch.equal(drop(x.clone()), y)
    assert torch.equal(drop.eval()(x.clone()), x)


def test_quick_dropout_of_nothing_and_of_all():
    assert torch.equal(QuickDropout(0.0)(torch.ones(5)), torch.ones(5))
    assert torch.equal(QuickDropout(1.0)(torch.ones(5)), torch.zeros(5))
