"""The GIA blocks of GIA-MIC (Sec. 2.3.1, eqs. 2-6): gated interactive attention between the modalities, two at a time.

Shapes: b utterances, t steps of the modality that asks, s steps of the one that answers (padded), d = dim. Masks are
True on real steps.
"""

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.ragged import attend, masked_mean


class Maps(nn.Module):
    """W_Q, W_K and W_V of eq. (2)."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(a), self.key(b), self.value(b)


def over_time(x: Tensor, mask: Tensor) -> Tensor:
    """One vector an utterance: b t d -> b 1 d."""
    return masked_mean(x, mask).unsqueeze(1)


def over_neighbours(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of a step and the real ones beside it: b t d -> b t d."""
    padded = F.pad(torch.cat([x, torch.ones_like(x[..., :1])], -1) * mask.unsqueeze(-1), (0, 0, 1, 1))
    total = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return total[..., :-1] / total[..., -1:].clamp(min=1)


def over_features(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of a step's features, standardised over time (a single value has no norm of its own): b t d -> b t d."""
    value = x.mean(-1, keepdim=True)
    value = (value - masked_mean(value, mask).unsqueeze(1)) * mask.unsqueeze(-1)
    return (value * torch.rsqrt(masked_mean(value.square(), mask).unsqueeze(1) + 1e-5)).expand_as(x)


POOLS = {"time": over_time, "local3": over_neighbours, "features": over_features}


class Gate(nn.Module):
    """Eq. (3): how much of what a modality has heard takes the place of what it was."""

    def __init__(self, *, dim: int, pool: str, bias: str):
        super().__init__()
        self.pool = one_of(POOLS, pool, "option of gate_pool")
        self.norm = nn.Identity() if pool == "features" else nn.LayerNorm(dim)
        self.weight = nn.Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.inside = one_of({"inside": True, "outside": False}, bias, "option of gate_bias")

    def forward(self, heard: Tensor, mask: Tensor) -> Tensor:
        """heard: b t d. b t d, or b 1 d where one gate holds for all steps."""
        x = self.norm(self.pool(heard, mask))
        return torch.sigmoid(self.weight(x + self.bias) if self.inside else self.weight(x) + self.bias)


class Gia(nn.Module):
    """One direction of a GIA block, eqs. (2)-(4): modality a asks, b answers, a gate mixes the answer with a."""

    def __init__(self, *, maps: Maps, gate: Gate, heads: int):
        super().__init__()
        self.maps, self.gate, self.heads = maps, gate, heads

    def forward(self, a: Tensor, b: Tensor, mask_a: Tensor, mask_b: Tensor) -> Tensor:
        """a: b t d, b: b s d, with their masks. b t d."""
        heard = attend(*self.maps(a, b), mask_b, self.heads)  # eq. (2)
        gate = self.gate(heard, mask_a)  # eq. (3)
        return gate * heard + (1 - gate) * a  # eq. (4)


SHARING = {  # which directions have the same maps
    "direction": lambda a, b: f"{a}_{b}",
    "block": lambda a, b: "_".join(sorted((a, b))),
    "shared": lambda a, b: "all",
}


class Msr(nn.Module):
    """Eqs. (5)-(6): a GIA block for every pair of modalities, and the sum of what each got from the others."""

    def __init__(self, *, names: Sequence[str], dim: int, heads: int, projections: str, gate: dict[str, str]):
        super().__init__()
        key = one_of(SHARING, projections, "option of projections")
        pairs = list(permutations(names, 2))
        maps = {key(a, b): Maps(dim=dim) for a, b in pairs}
        self.gia = nn.ModuleDict(
            {f"{a}_{b}": Gia(maps=maps[key(a, b)], gate=Gate(dim=dim, **gate), heads=heads) for a, b in pairs}
        )

    def forward(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, Tensor]:
        """b t d for each modality -> the same shapes."""
        got = {a: [self.gia[f"{a}_{b}"](x[a], x[b], mask[a], mask[b]) for b in x if b != a] for a in x}
        return {name: torch.stack(parts).sum(0) for name, parts in got.items()}
