"""LSTMs over sequences of different length: the fused kernel of the CPU against packed sequences."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

from merlib.layers.ragged import recurrent

CLOSE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}


def packed(rnn: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    sequences = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(sequences)[0], batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
def test_an_lstm_by_the_fused_kernel_is_the_lstm_over_packed_sequences(bidirectional, layers, dtype):
    """States, gradients and the draws of dropout between layers; padding up to a longer sequence changes nothing."""
    torch.manual_seed(0)
    rnn = nn.LSTM(5, 4, layers, batch_first=True, bidirectional=bidirectional, dropout=0.4 * (layers > 1)).to(dtype)
    lengths = torch.tensor([3, 7, 1, 5])
    mask = torch.arange(8) < lengths.unsqueeze(1)
    x = torch.randn(4, 8, 5, dtype=dtype).requires_grad_()
    weight, results = torch.randn(4, 8, 4 * (1 + bidirectional), dtype=dtype), []
    for run in (lambda: recurrent(rnn, x, mask), lambda: packed(rnn, x, lengths)):
        torch.manual_seed(1)
        y = run()
        results.append([y, *torch.autograd.grad((y * weight).sum(), [x, *rnn.parameters()])])
    for one, other in zip(*results, strict=True):
        assert_close(one, other, **CLOSE[dtype])


def test_a_row_without_real_steps_is_finite_and_leaves_the_others_alone():
    torch.manual_seed(0)
    rnn, x = nn.LSTM(5, 4, batch_first=True, bidirectional=True).double(), torch.randn(2, 3, 5).double()
    y = recurrent(rnn, x, torch.tensor([[True, True, True], [False, False, False]]))
    assert y.isfinite().all()
    assert_close(y[:1], rnn(x[:1])[0])
