"""Level 3 of HFF: a GRU over the steps of a sequence, and a weighted sum of its states (Sec. 3.2 (3), eqs. 24-28).

Shapes: B sequences of s steps, which are dialogues and their utterances, or utterances and their modalities; d = dim.
Masks are True on real steps. Every module here maps B s d to B s d.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import one_of
from merlib.layers.basics import Unchanged


class TorchGru(nn.Module):
    """PyTorch's GRU: with biases, and the reset gate after the product. It runs forward: padding comes last."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.rnn = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.rnn(x)[0]


class PaperGru(nn.Module):
    """The GRU of eqs. (24)-(27), without biases. The products with x are computed for all steps at once."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.read = nn.Linear(dim, 3 * dim, bias=False)  # the columns of W_z, W_r and W_h that multiply x
        self.gate = nn.Linear(dim, 2 * dim, bias=False)  # those of W_z and W_r that multiply h
        self.recall = nn.Linear(dim, dim, bias=False)  # those of W_h that multiply r h

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h, states, dim = torch.zeros_like(x[:, 0]), [], x.shape[-1]
        gates, candidates = self.read(x).split([2 * dim, dim], dim=-1)
        for gate, candidate in zip(gates.unbind(1), candidates.unbind(1), strict=True):
            z, r = (gate + self.gate(h)).sigmoid().chunk(2, -1)  # eq. 24-25
            h = h + z * ((candidate + self.recall(r * h)).tanh() - h)  # eq. 26-27
            states.append(h)
        return torch.stack(states, dim=1)


def gru(*, dim: int, cell: str) -> nn.Module:
    return one_of({"torch": TorchGru, "paper": PaperGru}, cell, "option of model.temporal.cell")(dim=dim)


class PerQuery(nn.Module):
    """Eq. (28) for each step t: f_t = sum_s beta_ts h_s, with beta_t the softmax over s of <h_t, h_s>.

    No parameters, as eq. (28) has none, and no scale: at first every utterance weighs its own state most.
    """

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        h = h.unsqueeze(1)
        return F.scaled_dot_product_attention(h, h, h, attn_mask=mask[:, None, None], scale=1.0).squeeze(1)


class Global(nn.Module):
    """Eq. (28) as it is printed: one beta for each sequence, so that all its steps get the same vector."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        beta = self.score(h).masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(1)  # B s 1
        return (beta * h).sum(1, keepdim=True).expand_as(h)


TEMPORALS = {"gru": gru, "none": Unchanged}
POOLINGS = {"per_query": PerQuery, "state": Unchanged, "global": Global}
