"""Alike modules computed together: one batched product for all in place of one product each.

Shapes: s modules of one shape side by side, "..." rows of each, i inputs, o outputs. The weights of the modules are
stacked in every forward pass, so each module keeps its own parameters and its own name.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn import functional as F


def together(modules: Sequence[nn.Module], *args: object) -> Tensor:
    """What each of the modules makes of its own slice of the arguments, computed as one: s ... o.

    The modules differ in nothing but their parameters. Their parts with parameters are those of this file, and their
    `forward` accepts tensors with the additional axis s in front.
    """
    parameters = [dict(module.named_parameters()) for module in modules]
    stacked = {name: torch.stack([one[name] for one in parameters]) for name in parameters[0]}
    return functional_call(modules[0], stacked, args)


class Linear(nn.Linear):
    """nn.Linear, or s of them: ... i -> ... o, or s ... i -> s ... o with stacked weights (s o i)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return super().forward(x)
        bias = torch.zeros_like(self.weight[..., 0]) if self.bias is None else self.bias
        rows, weight, bias = (y.to(_precision(x)) for y in (x.flatten(1, -2), self.weight, bias))
        return _Linears.apply(rows, weight, bias).view(*x.shape[:-1], -1)


class _Linears(torch.autograd.Function):
    """s N i, s o i, s o -> s N o. Autograd's own gradient of a transposed weight has to be copied into its order."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return torch.bmm(grad, weight), torch.bmm(grad.mT, x), grad.sum(1)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last axis, or s of them: s N d with stacked weights (s d)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 1:
            return super().forward(x)
        x = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return torch.addcmul(self.bias.unsqueeze(1), x, self.weight.unsqueeze(1))


def dropout_factors(p: float, shape: Sequence[int], like: Tensor) -> Tensor:
    """The factors of dropout, 0 with probability p and else 1 / (1 - p), in the precision of products with `like`.

    Drawn in the order of the elements: a tensor of several masks holds the draws of as many calls of nn.Dropout on a
    CPU, one after the other. Modules computed together so draw what they would draw alone.
    """
    factors = torch.empty(shape, dtype=_precision(like), device=like.device).bernoulli_(1 - p)
    return factors.div_(1 - p) if p < 1 else factors


def add_dropped(x: Tensor, y: Tensor, factors: Tensor | None) -> Tensor:
    """x + dropout(y); no factors: x + y."""
    return x + y if factors is None else torch.addcmul(x, y, factors)


def _precision(x: Tensor) -> torch.dtype:
    """Of a product with x: that of autocast, where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
