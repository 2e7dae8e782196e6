"""The MSR module of GIA-MIC (Sec. 2.3.1, eqs. 2-6): gated interactive attention between every two modalities.

Shapes: b utterances, t steps of the modality that queries, s steps of the one that is attended to (padded), d = dim.
Masks are True on real steps.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.errors import one_of
from merlib.layers.ragged import attend, masked_mean


class Projections(nn.Module):
    """W_Q, W_K and W_V of eq. (2)."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(a), self.key(b), self.value(b)


def over_time(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over all real steps of an utterance: b t d -> b 1 d."""
    return masked_mean(x, mask).unsqueeze(1)


def over_neighbours(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of each step and the real steps directly before and after it: b t d -> b t d."""
    padded = F.pad(torch.cat([x, torch.ones_like(x[..., :1])], -1) * mask.unsqueeze(-1), (0, 0, 1, 1))
    total = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return total[..., :-1] / total[..., -1:].clamp(min=1)


def over_features(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of each step's features, standardised over time: b t d -> b t d.

    Layer norm of a single value would be zero, so the standardisation over time takes its place.
    """
    value = x.mean(-1, keepdim=True)
    value = (value - masked_mean(value, mask).unsqueeze(1)) * mask.unsqueeze(-1)
    return (value * torch.rsqrt(masked_mean(value.square(), mask).unsqueeze(1) + 1e-5)).expand_as(x)


POOLS = {"time": over_time, "local3": over_neighbours, "features": over_features}


class Gate(nn.Module):
    """Eq. (3): how much of the attended representation replaces the modality's own features.

    pool: what is averaged, of POOLS. bias: "inside" adds b_g before W_g is applied, "outside" after it.
    """

    def __init__(self, *, dim: int, pool: str, bias: str):
        super().__init__()
        self.pool = one_of(POOLS, pool, "option of model.specific.gate.pool")
        self.norm = nn.Identity() if pool == "features" else nn.LayerNorm(dim)
        self.weight = nn.Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.inside = one_of({"inside": True, "outside": False}, bias, "option of model.specific.gate.bias")

    def forward(self, attended: Tensor, mask: Tensor) -> Tensor:
        """attended: b t d. Returns b t d, or b 1 d where one gate holds for all steps."""
        x = self.norm(self.pool(attended, mask))
        return torch.sigmoid(self.weight(x + self.bias) if self.inside else self.weight(x) + self.bias)


class GatedAttention(nn.Module):
    """One direction of a GIA block, eqs. (2)-(4): a attends to b, and a gate mixes the result with a."""

    def __init__(self, *, projections: Projections, gate: Gate, heads: int):
        super().__init__()
        self.projections, self.gate, self.heads = projections, gate, heads

    def forward(self, a: Tensor, b: Tensor, mask_a: Tensor, mask_b: Tensor) -> Tensor:
        """a: b t d, b: b s d, with their masks. Returns b t d."""
        attended = attend(*self.projections(a, b), mask_b, self.heads)  # eq. (2)
        gate = self.gate(attended, mask_a)  # eq. (3)
        return gate * attended + (1 - gate) * a  # eq. (4)


SHARING = {  # directions with the same key share their projections
    "direction": lambda a, b: f"{a}_{b}",
    "block": lambda a, b: "_".join(sorted((a, b))),
    "shared": lambda a, b: "all",
}


class SpecificRepresentations(nn.Module):
    """MSR, eqs. (5)-(6): a GIA block for every pair of modalities; a modality's outputs of its blocks are summed.

    projections: which directions share W_Q, W_K and W_V, of SHARING. gate: the keywords of `Gate`.
    """

    def __init__(self, *, names: Sequence[str], dim: int, heads: int, projections: str, gate: dict[str, Any]):
        super().__init__()
        key = one_of(SHARING, projections, "option of model.specific.projections")
        pairs = list(permutations(names, 2))
        shared = {key(a, b): Projections(dim=dim) for a, b in pairs}
        self.directions = nn.ModuleDict()
        for a, b in pairs:
            own = registry.bind(Gate, gate, what="model.specific.gate", dim=dim)
            self.directions[f"{a}_{b}"] = GatedAttention(projections=shared[key(a, b)], gate=own, heads=heads)

    def forward(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, Tensor]:
        """b t d for each modality -> the same shapes."""
        outputs = {a: [self.directions[f"{a}_{b}"](x[a], x[b], mask[a], mask[b]) for b in x if b != a] for a in x}
        return {name: torch.stack(blocks).sum(0) for name, blocks in outputs.items()}
