"""Boxes around faces: shifted, squared, and the best of those that overlap (non-maximum suppression).

Shapes: k boxes (left, top, right, bottom) in pixels, each with the number of its `frame`; p frames with up to r boxes.
"""

import torch
from torch import Tensor

BLOCK, PAIRS = 256, 1 << 20  # boxes, and pairs of boxes, that are compared together


def shifted(box: Tensor, shift: Tensor, pixel: int) -> Tensor:
    """Edges moved by shares of the box's size, which is last - first + pixel: k 4."""
    return box + shift * (box[:, 2:] - box[:, :2] + pixel).repeat(1, 2)


def squared(box: Tensor) -> Tensor:
    """The square of the longer side about the same middle: k 4."""
    size = box[:, 2:] - box[:, :2]
    side = size.amax(1, keepdim=True)
    first = box[:, :2] + size * 0.5 - side * 0.5
    return torch.cat([first, first + side], dim=1)


def suppress(frame: Tensor, box: Tensor, score: Tensor, threshold: float, *, smaller: bool = False) -> Tensor:
    """Greedy non-maximum suppression within each frame: which boxes stay, by frame, then by falling score.

    A box goes when it shares more than `threshold` with a better one that stays: of their union, or (`smaller`) of the
    smaller of both, pixels then being counted with both edges.
    """
    order = score.argsort(descending=True, stable=True)
    order = order[frame[order].argsort(stable=True)]
    _, group, counts = frame[order].unique_consecutive(return_inverse=True, return_counts=True)
    rank = torch.arange(len(order), device=box.device) - (counts.cumsum(0) - counts)[group]
    staying, first = [], 0
    while first < len(counts):  # as many frames at once as memory allows
        deepest = counts[first:].cummax(0).values
        count = max(1, int((deepest * torch.arange(1, len(deepest) + 1, device=box.device) * BLOCK <= PAIRS).sum()))
        chunk = (group >= first) & (group < first + count)
        padded = box.new_zeros(count, int(deepest[count - 1]), 4)
        real = torch.zeros(padded.shape[:2], dtype=torch.bool, device=box.device)
        place = (group[chunk] - first, rank[chunk])
        padded[place], real[place] = box[order[chunk]], True
        staying.append(order[chunk][_greedy(padded, real, threshold, 1 if smaller else 0)[place]])
        first += count
    return torch.cat(staying) if staying else order


def _greedy(box: Tensor, real: Tensor, threshold: float, pixel: int) -> Tensor:
    """box: p r 4, best first; real: p r. Which stay: p r."""
    stay = real.clone()
    for begin in range(0, box.shape[1], BLOCK):
        block = slice(begin, begin + BLOCK)
        over = shared(box[:, :begin], box[:, block], pixel) > threshold
        able = stay[:, block] & ~(over & stay[:, :begin, None]).any(1)
        over = (shared(box[:, block], box[:, block], pixel) > threshold).triu(1)
        now, before = able, None
        while before is None or not torch.equal(now, before):  # it settles from the best box on: the greedy answer
            now, before = able & ~(over & now[:, :, None]).any(1), now
        stay[:, block] = now
    return stay


def shared(a: Tensor, b: Tensor, pixel: int) -> Tensor:
    """Of pairs of boxes, p i 4 and p j 4: intersection over union, or (pixel 1) over the smaller area. p i j."""
    first = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    last = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    both = (last - first + pixel).clamp(min=0).prod(-1)
    one, other = ((x[..., 2:] - x[..., :2] + pixel).prod(-1) for x in (a, b))
    one, other = one[:, :, None], other[:, None, :]
    return both / (torch.minimum(one, other) if pixel else one + other - both)
