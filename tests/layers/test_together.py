"""Modules computed together give what each gives alone, and draw the dropout that they would draw one by one."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from merlib.layers.together import LayerNorm, Linear, add_dropped, dropout_factors, together

EXACT = {"rtol": 1e-12, "atol": 1e-12}


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = Linear(4, 6), LayerNorm(6), Linear(6, 3, bias=False)
        for parameter in self.norm.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return scale * self.last(self.norm(self.first(x)))


def test_modules_together_are_the_modules_alone_with_their_gradients():
    torch.manual_seed(0)
    parts, x = nn.ModuleList(Part() for _ in range(3)).double(), torch.randn(3, 5, 4).double()
    weight = torch.randn(3, 5, 3).double()
    gradients = []
    for outputs in (together(parts, x, 2.0), torch.stack([part(y, 2.0) for part, y in zip(parts, x, strict=True)])):
        gradients.append([outputs, *torch.autograd.grad((outputs * weight).sum(), list(parts.parameters()))])
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        assert_close(one, other, **EXACT)


def test_a_linear_layer_keeps_all_axes_of_its_rows():
    layers, x = [Linear(4, 6) for _ in range(2)], torch.randn(2, 5, 3, 4)
    assert_close(together(layers, x), torch.stack([layer(y) for layer, y in zip(layers, x, strict=True)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_are_the_draws_of_dropout_one_after_the_other(dtype):
    x = torch.ones(7, 5, dtype=dtype)
    torch.manual_seed(3)
    one_by_one = torch.stack([nn.functional.dropout(x, 0.3) for _ in range(4)])
    torch.manual_seed(3)
    assert_close(dropout_factors(0.3, (4, 7, 5), like=x), one_by_one)
    assert dropout_factors(1.0, (7, 5), like=x).eq(0).all()


def test_factors_have_the_precision_of_autocast():
    x = torch.ones(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert dropout_factors(0.5, (3,), like=x).dtype == torch.bfloat16
    assert_close(add_dropped(x, 2 * x, 3 * x), 7 * x)
    assert_close(add_dropped(x, 2 * x, None), 3 * x)
