"""The modality-invariant generators of GIA-MIC (Sec. 2.3.2, eqs. 8-12): what a modality has in common with all others.

Shapes: b utterances, m modalities, t steps of a modality, l steps of all modalities of an utterance, one after the
other, d = dim. Masks are True on real steps; `joint` is H_VST of eq. (8). The readings "mirgan" and "pointwise" are the
layer of MIR-GAN (Hu et al. 2023).
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.ragged import Joined, attend, resampled


def attended(shared: Tensor, joint: Tensor, line: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """What the query heard, beside the query: b l 2d. line: mask of the joint steps, b l; x: H_M^(MSR), b t d."""
    return torch.cat([shared, joint], dim=-1)


def interpolated(shared: Tensor, joint: Tensor, line: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The modality, stretched to the length of the query, beside the query: b l 2d."""
    return torch.cat([resampled(x, mask, line), joint], dim=-1)


def time_slice(shared: Tensor, joint: Tensor, line: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The modality, then the query, one after the other in time, and of these the first l steps: b l d."""
    return Joined([mask, line])([x, joint])[:, : line.shape[1]]


MASK_INPUTS = {
    "attended": (attended, 2),
    "interpolated": (interpolated, 2),
    "time_slice": (time_slice, 1),
}  # and widths, in d


class StepNorm(nn.Module):
    """Batch norm over all real steps of the batch (in training an utterance does see its batch mates, not padding)."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[mask] = self.norm(x[mask]).to(x.dtype)
        return y


class Sieve(nn.Module):
    """Eq. (10) as written: a 1x1 convolution, PReLU and a sigmoid make the mask of the attended value."""

    def __init__(self, *, dim: int, mask_input: str):
        super().__init__()
        self.inputs, width = one_of(MASK_INPUTS, mask_input, "option of mask_input")
        self.convolve = nn.Linear(width * dim, dim)  # a 1x1 convolution
        self.bend = nn.PReLU()

    def forward(self, shared: Tensor, joint: Tensor, line: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Shapes as in `attended`. b l d."""
        return shared * self.bend(self.convolve(self.inputs(shared, joint, line, x, mask))).sigmoid()


class MirGanSieve(nn.Module):
    """Eq. (10) as in MIR-GAN: convolution, batch norm and PReLU on the attended value; in the mask, no PReLU."""

    def __init__(self, *, dim: int, mask_input: str):
        super().__init__()
        self.inputs, width = one_of(MASK_INPUTS, mask_input, "option of mask_input")
        self.value = nn.Linear(dim, dim, bias=False)  # no biases: batch norm would take them away
        self.value_norm = StepNorm(dim=dim)
        self.bend = nn.PReLU()
        self.convolve = nn.Linear(width * dim, dim, bias=False)
        self.mask_norm = StepNorm(dim=dim)

    def forward(self, shared: Tensor, joint: Tensor, line: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        shared = self.bend(self.value_norm(self.value(shared), line))
        return shared * self.mask_norm(self.convolve(self.inputs(shared, joint, line, x, mask)), line).sigmoid()


SIEVES = {"paper": Sieve, "mirgan": MirGanSieve}


class Strided(nn.Module):
    """Eq. (11), kernel 3, stride 2, and back to full length: sample j stands at step 2j, between two is their mean."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.convolve = nn.Conv1d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor, line: Tensor) -> Tensor:
        """x: b l d, zero on padding; line: b l. b l d."""
        y = self.convolve(x.transpose(1, 2)).transpose(1, 2)  # b l d -> b j d, j = ceil(l / 2)
        last = (line.sum(1, keepdim=True) - 1) // 2  # an utterance's last sample has no next one
        has_next = torch.arange(y.shape[1], device=x.device) < last
        following = torch.cat([y[:, 1:], y[:, -1:]], dim=1).where(has_next.unsqueeze(-1), y)
        return torch.stack([y, (y + following) / 2], dim=2).flatten(1, 2)[:, : x.shape[1]]  # b j 2 d -> b l d


class Unstrided(nn.Module):
    """Eq. (11), stride 1: kernel 1, as in MIR-GAN, or kernel 2, a step and the next one (zero behind the last)."""

    def __init__(self, *, dim: int, kernel: int):
        super().__init__()
        self.convolve = nn.Conv1d(dim, dim, kernel)
        self.behind = kernel - 1

    def forward(self, x: Tensor, line: Tensor) -> Tensor:
        return self.convolve(F.pad(x.transpose(1, 2), (0, self.behind))).transpose(1, 2)


REFINEMENTS = {
    "stride2_upsample": Strided,
    "pointwise": partial(Unstrided, kernel=1),
    "kernel2": partial(Unstrided, kernel=2),
}


class Mig(nn.Module):
    """The generator of one modality, eqs. (9)-(11)."""

    def __init__(self, *, dim: int, heads: int, mask_input: str, mig: str, refine: str):
        super().__init__()
        self.heads = heads
        self.sieve = one_of(SIEVES, mig, "option of mig")(dim=dim, mask_input=mask_input)
        self.refine = one_of(REFINEMENTS, refine, "option of refine")(dim=dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, joint: Tensor, line: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """joint: the query, b l d; line: b l; x: H_M^(MSR), key and value, b t d; mask: b t. b l d, zero on padding."""
        shared = attend(joint, x, x, mask, self.heads)  # eq. (9)
        sieved = self.sieve(shared, joint, line, x, mask) * line.unsqueeze(-1)  # eq. (10)
        return self.norm(joint + self.refine(sieved, line)) * line.unsqueeze(-1)  # eq. (11)
