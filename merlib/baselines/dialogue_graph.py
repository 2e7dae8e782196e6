"""A dialogue as a graph: every utterance sends to its neighbours in a window, along edges typed by speakers and time.

Edges are dense, so a batch of dialogues is a few matrix products. Shapes: b dialogues, n utterances (padded), i the
sender and j the receiver of an edge, p parties, r = 2 p p relations, d and o widths.
"""

import torch
from torch import Tensor


def window_edges(mask: Tensor, *, past: int, future: int) -> Tensor:
    """Whether i sends to j: j stands at most `past` before and `future` after i (-1: any distance). mask: b n; b i j.

    Padding sends to itself alone, so that no softmax over edges is empty.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    ahead = place - place.unsqueeze(1)  # of j before i, n n
    near = torch.ones_like(ahead, dtype=torch.bool)
    if past >= 0:
        near &= ahead >= -past
    if future >= 0:
        near &= ahead <= future
    return near & mask.unsqueeze(2) & mask.unsqueeze(1) | (ahead == 0)


def relations(speaker: Tensor, *, parties: int) -> Tensor:
    """Which relation a pair has: who sends, who receives, who of them spoke first. speaker: b n. Returns b i j r."""
    place = torch.arange(speaker.shape[1], device=speaker.device)
    not_first = place.unsqueeze(1) >= place
    kind = 2 * (parties * speaker.unsqueeze(2) + speaker.unsqueeze(1)) + not_first
    return kind.unsqueeze(-1) == torch.arange(2 * parties * parties, device=speaker.device)


def send(x: Tensor, weight: Tensor, share: Tensor) -> Tensor:
    """What each utterance receives, sum_i sum_r share_ijr W_r x_i. x: b n d; weight: r d o; share: b i j r; b j o."""
    return torch.einsum("bijr,biro->bjo", share, torch.einsum("bid,rdo->biro", x, weight))
