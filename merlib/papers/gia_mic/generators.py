"""The MIR module of GIA-MIC (Sec. 2.3.2, eqs. 8-12): a generator per modality of what it has in common with the others.

Shapes: b utterances, m modalities, t steps of a modality, l steps of all modalities of an utterance, one after the
other, d = dim. Masks are True on real steps. `joint` is H_VST of eq. (8), the query of every generator, and
`joint_mask` (b l) its mask. The options "mirgan" and "pointwise" are the layer of MIR-GAN (Hu et al. 2023).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.errors import one_of
from merlib.layers.ragged import Joined, attend, resampled


def attended(shared: Tensor, joint: Tensor, joint_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The attended representation and the query, joined by features: b l 2d.

    shared: H_M^(share) of eq. (9), b l d; joint: b l d; joint_mask: b l; x: H_M^(MSR), b t d; mask: b t.
    """
    return torch.cat([shared, joint], dim=-1)


def interpolated(shared: Tensor, joint: Tensor, joint_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The modality, stretched to the length of the query, and the query, joined by features: b l 2d."""
    return torch.cat([resampled(x, mask, joint_mask), joint], dim=-1)


def time_slice(shared: Tensor, joint: Tensor, joint_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The modality and the query, joined along time, and of these the first l steps: b l d."""
    return Joined([mask, joint_mask])([x, joint])[:, : joint_mask.shape[1]]


# What eq. (10) convolves, and its width in d.
MASK_INPUTS = {"attended": (attended, 2), "interpolated": (interpolated, 2), "time_slice": (time_slice, 1)}
INPUTS = "option of model.invariant.mask.inputs"


class StepNorm(nn.Module):
    """Batch norm over all real steps of the batch: in training an utterance sees the others, but never padding."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[mask] = self.norm(x[mask]).to(x.dtype)
        return y


class FeatureMask(nn.Module):
    """Eq. (10) as written: a 1x1 convolution, PReLU and a sigmoid give the mask of the attended representation."""

    def __init__(self, *, dim: int, inputs: str):
        super().__init__()
        self.inputs, width = one_of(MASK_INPUTS, inputs, INPUTS)
        self.convolve = nn.Linear(width * dim, dim)  # a 1x1 convolution
        self.prelu = nn.PReLU()

    def forward(self, shared: Tensor, joint: Tensor, joint_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Shapes as in `attended`. Returns b l d."""
        return shared * self.prelu(self.convolve(self.inputs(shared, joint, joint_mask, x, mask))).sigmoid()


class MirGanFeatureMask(nn.Module):
    """Eq. (10) as in MIR-GAN: the PReLU is on the attended representation, after batch norm, and not in the mask."""

    def __init__(self, *, dim: int, inputs: str):
        super().__init__()
        self.inputs, width = one_of(MASK_INPUTS, inputs, INPUTS)
        self.value = nn.Linear(dim, dim, bias=False)  # no biases: batch norm would take them away
        self.value_norm = StepNorm(dim=dim)
        self.prelu = nn.PReLU()
        self.convolve = nn.Linear(width * dim, dim, bias=False)
        self.mask_norm = StepNorm(dim=dim)

    def forward(self, shared: Tensor, joint: Tensor, joint_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        shared = self.prelu(self.value_norm(self.value(shared), joint_mask))
        weight = self.convolve(self.inputs(shared, joint, joint_mask, x, mask))
        return shared * self.mask_norm(weight, joint_mask).sigmoid()


FEATURE_MASKS = {"paper": FeatureMask, "mirgan": MirGanFeatureMask}


class Strided(nn.Module):
    """Eq. (11) with kernel 3 and stride 2, then linear upsampling to full length.

    Sample j of the convolution stands at step 2j; the step between two samples is their mean.
    """

    def __init__(self, *, dim: int):
        super().__init__()
        self.convolve = nn.Conv1d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor, joint_mask: Tensor) -> Tensor:
        """x: b l d, zero on padding; joint_mask: b l. Returns b l d."""
        y = self.convolve(x.transpose(1, 2)).transpose(1, 2)  # b l d -> b j d, j = ceil(l / 2)
        last = (joint_mask.sum(1, keepdim=True) - 1) // 2  # an utterance's last sample has no next one
        has_next = torch.arange(y.shape[1], device=x.device) < last
        following = torch.cat([y[:, 1:], y[:, -1:]], dim=1).where(has_next.unsqueeze(-1), y)
        return torch.stack([y, (y + following) / 2], dim=2).flatten(1, 2)[:, : x.shape[1]]  # b j 2 d -> b l d


class Unstrided(nn.Module):
    """Eq. (11) with stride 1: kernel 1, as in MIR-GAN, or kernel 2, a step and the next one (zero after the last)."""

    def __init__(self, *, dim: int, kernel: int):
        super().__init__()
        self.convolve = nn.Conv1d(dim, dim, kernel)
        self.padding = kernel - 1

    def forward(self, x: Tensor, joint_mask: Tensor) -> Tensor:
        return self.convolve(F.pad(x.transpose(1, 2), (0, self.padding))).transpose(1, 2)


REFINEMENTS = {
    "stride2_upsample": Strided, "pointwise": partial(Unstrided, kernel=1), "kernel2": partial(Unstrided, kernel=2),
}  # fmt: skip


class Generator(nn.Module):
    """The MIG block of one modality, eqs. (9)-(11)."""

    def __init__(self, *, dim: int, heads: int, mask: dict[str, Any], refine: dict[str, Any]):
        super().__init__()
        self.heads = heads
        self.feature_mask = registry.part(FEATURE_MASKS, mask, "model.invariant.mask", dim=dim)
        self.refine = registry.part(REFINEMENTS, refine, "model.invariant.refine", dim=dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, joint: Tensor, joint_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """joint: the query, b l d; x: H_M^(MSR), keys and values, b t d; with their masks, b l and b t.

        Returns b l d, zero on padding.
        """
        shared = attend(joint, x, x, mask, self.heads)  # eq. (9)
        masked = self.feature_mask(shared, joint, joint_mask, x, mask) * joint_mask.unsqueeze(-1)  # eq. (10)
        return self.norm(joint + self.refine(masked, joint_mask)) * joint_mask.unsqueeze(-1)  # eq. (11)


class InvariantRepresentations(nn.Module):
    """MIR, eqs. (8)-(12): a generator for each modality, all with the same query."""

    def __init__(self, *, names: Sequence[str], dim: int, heads: int, mask: dict[str, Any], refine: dict[str, Any]):
        super().__init__()
        generator = {"dim": dim, "heads": heads, "mask": mask, "refine": refine}
        self.generators = nn.ModuleDict({name: Generator(**generator) for name in names})

    def forward(
        self, x: dict[str, Tensor], specific: dict[str, Tensor], mask: dict[str, Tensor], joined: Joined
    ) -> list[Tensor]:
        """x: H_M, specific: H_M^(MSR), b t d each. Returns b l d for each modality."""
        joint = joined(list(x.values()))  # eq. (8)
        return [generate(joint, joined.mask, specific[name], mask[name]) for name, generate in self.generators.items()]


class NoInvariantRepresentations(nn.Module):
    """Table 2, "w/o MIR": no generators, and nothing for the constraint to act on."""

    def forward(self, *inputs: object) -> list[Tensor]:
        return []
