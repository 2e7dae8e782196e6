"""MPAF-Net: three unimodal vectors and three attended pairs, joined and classified (Sec. 2.3, Fig. 2); its baseline.

Shapes: b utterances, t steps, d the width of a step, h of an encoder's vector, k = dim of a pair, i of what is joined,
c classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from merlib import registry
from merlib.errors import RequestError, listed, one_of
from merlib.layers.basics import perceptron
from merlib.papers.mpaf_net.encoders import check_states, starting_weights, unimodal_encoders

VERSION = 1

PATHS = {
    "t": ("text",), "a": ("audio",), "v": ("visual",),
    "ta": ("text", "audio"), "tv": ("text", "visual"), "av": ("audio", "visual"),
}  # fmt: skip
PAIR_INPUTS = {"after_dropout": False, "before_dropout": True}


class Score(nn.Module):
    """alpha = sigmoid(MLP([f_1; f_2; p_1; p_2])), one number a pair, by `layers` linear maps (eqs. 4-5): b i -> b 1."""

    def __init__(self, *, width: int, hidden: int, layers: int):
        super().__init__()
        self.mlp = perceptron(width=width, hidden=hidden, layers=layers - 1, out=1, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x).sigmoid()


class Half(nn.Module):
    """No attention: alpha is 1/2, and a pair the mean of its two projections."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((len(x), 1), 0.5)


ATTENTIONS = {"score": Score, "mean": Half}


class Pair(nn.Module):
    """The cross-modal attention module, eqs. (2)-(6): two vectors are projected, and alpha weighs the projections.

    f_12 = alpha p_1 + (1 - alpha) p_2: b h_1, b h_2 -> b k. attention: the name of ATTENTIONS, and its keywords.
    """

    def __init__(self, *, widths: Sequence[int], dim: int, attention: dict[str, Any], dropout: float):
        super().__init__()
        self.project = nn.ModuleList(nn.Sequential(nn.Linear(w, dim), nn.ReLU(), nn.Dropout(dropout)) for w in widths)
        self.weigh = registry.part(ATTENTIONS, attention, "model.pair.attention", width=sum(widths) + 2 * dim)

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        p1, p2 = (project(f) for project, f in zip(self.project, (f1, f2), strict=True))  # eqs. 2-3
        alpha = self.weigh(torch.cat([f1, f2, p1, p2], dim=-1))  # eqs. 4-5
        return alpha * p1 + (1 - alpha) * p2  # eq. 6


class MpafNet(nn.Module):
    """The network. `forward` returns `logits` b c and `embedding` b i, the joined paths (eq. 7).

    dims: modality -> width of a step; steps: modality -> steps of the corpus's longest sequence.
    paths: the vectors that are joined, of "t a v ta tv av"; one of a modality that is not in `dims` is left out.
    dropout: of the unimodal vectors; `pair` has its own. pair_input: whether the pairs read the unimodal vectors
    "after_dropout" or "before_dropout".
    """

    starting_weights, check_states = staticmethod(starting_weights), staticmethod(check_states)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, encoders: dict[str, Any], dropout: float,
        paths: str, dim: int, pair: dict[str, Any], pair_input: str,
        head_dim: int, head_layers: int, head_dropout: float,
    ):  # fmt: skip
        super().__init__()
        named = [one_of(PATHS, path, "path of model.paths") for path in paths.split()]
        joined = [modalities for modalities in named if set(modalities) <= set(dims)]
        if not joined:
            what = f"paths {paths!r} need other modalities than {listed(sorted(dims))}"
            raise RequestError(f"{what}: choose some that are there")
        dims = {name: width for name, width in dims.items() if any(name in modalities for modalities in joined)}
        self.encoders = registry.bind(unimodal_encoders, encoders, what="model.encoders", dims=dims, steps=steps)
        self.drop = nn.Dropout(dropout)
        self.pairs_before_dropout = one_of(PAIR_INPUTS, pair_input, "option of model.pair_input")
        self.single = [modalities[0] for modalities in joined if len(modalities) == 1]
        self.pairs = nn.ModuleDict()
        for two in (modalities for modalities in joined if len(modalities) == 2):
            widths = [self.encoders[name].width for name in two]
            self.pairs["_".join(two)] = registry.bind(Pair, pair, what="model.pair", widths=widths, dim=dim)
        width = sum(self.encoders[name].width for name in self.single) + dim * len(self.pairs)
        self.head = perceptron(width=width, hidden=head_dim, layers=head_layers, out=classes, dropout=head_dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        h = {name: encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encoders.items()}  # b h
        dropped = {name: self.drop(value) for name, value in h.items()}
        paired = h if self.pairs_before_dropout else dropped
        single = [dropped[name] for name in self.single]  # b h
        pairs = [pair(*(paired[name] for name in two.split("_"))) for two, pair in self.pairs.items()]  # b k
        z = torch.cat(single + pairs, dim=-1)  # eq. 7
        return {"logits": self.head(z), "embedding": z}


class ConcatLstm(nn.Module):
    """The paper's baseline: the unimodal vectors joined (eq. 1) and classified. `forward` returns as MpafNet's."""

    starting_weights, check_states = staticmethod(starting_weights), staticmethod(check_states)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, encoders: dict[str, Any], dropout: float,
        head_dim: int, head_layers: int,
    ):  # fmt: skip
        super().__init__()
        self.encoders = registry.bind(unimodal_encoders, encoders, what="model.encoders", dims=dims, steps=steps)
        self.drop = nn.Dropout(dropout)
        width = sum(encoder.width for encoder in self.encoders.values())
        self.head = perceptron(width=width, hidden=head_dim, layers=head_layers, out=classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        h = [encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encoders.items()]  # b t d -> b h
        z = torch.cat([self.drop(value) for value in h], dim=-1)  # eq. 1
        return {"logits": self.head(z), "embedding": z}
