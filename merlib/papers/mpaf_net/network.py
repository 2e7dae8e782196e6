"""MPAF-Net: three unimodal vectors and three attended pairs, joined and classified (Sec. 2.3, Fig. 2); its baseline.

Shapes: b utterances, t steps, d the width of a step, h of an encoder's vector, k = dim of a pair, i of what is joined,
c classes. Every reading of the paper is a keyword; what is chosen and why stands in the paper's notes.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from merlib.errors import RequestError, one_of
from merlib.layers.basics import perceptron
from merlib.papers.mpaf_net.encoders import check_states, encoders, starting_weights

VERSION = 1

PATHS = {
    "t": ("text",), "a": ("audio",), "v": ("visual",),
    "ta": ("text", "audio"), "tv": ("text", "visual"), "av": ("audio", "visual"),
}  # fmt: skip


class Score(nn.Module):
    """alpha = sigmoid(MLP([f_1; f_2; p_1; p_2])), one number a pair, by `layers` linear maps (eqs. 4-5): b i -> b 1."""

    def __init__(self, *, width: int, hidden: int, layers: int):
        super().__init__()
        self.mlp = perceptron(width=width, hidden=hidden, layers=layers - 1, out=1, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x).sigmoid()


class Half(nn.Module):
    """No attention: alpha is 1/2, and a pair the mean of its two projections."""

    def __init__(self, *, width: int, hidden: int, layers: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((len(x), 1), 0.5)


class Pair(nn.Module):
    """f_12 = alpha p_1 + (1 - alpha) p_2 of two projected vectors (eqs. 2-6): b h_1, b h_2 -> b k."""

    def __init__(
        self, *, widths: Sequence[int], dim: int, attention: str, scorer_dim: int, scorer_layers: int, dropout: float
    ):
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Dropout(dropout)) for width in widths
        )
        weigh = one_of({"score": Score, "mean": Half}, attention, "attention")
        self.weigh = weigh(width=sum(widths) + 2 * dim, hidden=scorer_dim, layers=scorer_layers)

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        p1, p2 = (project(f) for project, f in zip(self.project, (f1, f2), strict=True))  # eqs. 2-3
        alpha = self.weigh(torch.cat([f1, f2, p1, p2], dim=-1))  # eqs. 4-5
        return alpha * p1 + (1 - alpha) * p2  # eq. 6


class MpafNet(nn.Module):
    """The network. `forward` returns `logits` b c and `embedding` b i, the joined paths (eq. 7).

    dims: modality -> width of a step; steps: modality -> steps of the corpus's longest sequence.
    paths: the vectors that are joined, of "t a v ta tv av"; one of a modality that is not in `dims` vanishes.
    attention: "score", or the "mean" of the two projections. pair_input: "after_dropout" or "before_dropout".
    """

    PRETRAINED = "text_encoder.pretrained."
    starting_weights, check_states = staticmethod(starting_weights), staticmethod(check_states)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int,
        text_encoder: str, text_layers_tuned: int, text_pool: str, audio_dim: int, visual_dim: int, frame_encoder: str,
        lstm_layers: int, lstm_directions: int, pack: bool,
        paths: str, dim: int, attention: str, scorer_dim: int, scorer_layers: int, pair_input: str,
        head_dim: int, head_layers: int, dropout_encoder: float, dropout_pair: float, dropout_head: float,
    ):  # fmt: skip
        super().__init__()
        asked = {path: one_of(PATHS, path, "paths") for path in paths.split()}
        joined = [modalities for modalities in asked.values() if set(modalities) <= set(dims)]
        if not joined:
            raise RequestError(f"paths {paths!r} need other modalities than {sorted(dims)}: choose some that are there")
        self.modalities = [name for name in dims if any(name in modalities for modalities in joined)]
        made = encoders(
            dims={name: dims[name] for name in self.modalities}, steps=steps, text_encoder=text_encoder,
            text_layers_tuned=text_layers_tuned, text_pool=text_pool, audio_dim=audio_dim, visual_dim=visual_dim,
            frame_encoder=frame_encoder, lstm_layers=lstm_layers, lstm_directions=lstm_directions, pack=pack,
        )  # fmt: skip
        for name, encoder in made.items():
            self.add_module(f"{name}_encoder", encoder)
        self.drop = nn.Dropout(dropout_encoder)
        self.before = one_of({"after_dropout": False, "before_dropout": True}, pair_input, "pair_input")
        self.single = [modalities[0] for modalities in joined if len(modalities) == 1]
        pair = partial(
            Pair, dim=dim, attention=attention, scorer_dim=scorer_dim, scorer_layers=scorer_layers, dropout=dropout_pair
        )
        self.pairs = nn.ModuleDict(
            {"_".join(two): pair(widths=[made[name].width for name in two]) for two in joined if len(two) == 2}
        )
        width = sum(made[name].width for name in self.single) + dim * len(self.pairs)
        self.head = perceptron(width=width, hidden=head_dim, layers=head_layers, out=classes, dropout=dropout_head)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        h = {m: self.get_submodule(f"{m}_encoder")(batch[m], batch[f"{m}_mask"]) for m in self.modalities}  # b h
        dropped = {name: self.drop(value) for name, value in h.items()}
        seen = h if self.before else dropped
        single = [dropped[name] for name in self.single]  # b h
        pairs = [pair(*(seen[name] for name in two.split("_"))) for two, pair in self.pairs.items()]  # b k
        z = torch.cat(single + pairs, dim=-1)  # eq. 7
        return {"logits": self.head(z), "embedding": z}


class ConcatLstm(nn.Module):
    """The paper's baseline: the unimodal vectors joined (eq. 1) and classified. `forward` returns as MpafNet's."""

    PRETRAINED = "text_encoder.pretrained."
    starting_weights, check_states = staticmethod(starting_weights), staticmethod(check_states)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int,
        text_encoder: str, text_layers_tuned: int, text_pool: str, audio_dim: int, visual_dim: int, frame_encoder: str,
        lstm_layers: int, lstm_directions: int, pack: bool,
        head_dim: int, head_layers: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.modalities = list(dims)
        made = encoders(
            dims=dims, steps=steps, text_encoder=text_encoder, text_layers_tuned=text_layers_tuned, text_pool=text_pool,
            audio_dim=audio_dim, visual_dim=visual_dim, frame_encoder=frame_encoder, lstm_layers=lstm_layers,
            lstm_directions=lstm_directions, pack=pack,
        )  # fmt: skip
        for name, encoder in made.items():
            self.add_module(f"{name}_encoder", encoder)
        self.drop = nn.Dropout(dropout)
        width = sum(encoder.width for encoder in made.values())
        self.head = perceptron(width=width, hidden=head_dim, layers=head_layers, out=classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        h = [self.get_submodule(f"{m}_encoder")(batch[m], batch[f"{m}_mask"]) for m in self.modalities]  # b t d -> b h
        z = torch.cat([self.drop(value) for value in h], dim=-1)  # eq. 1
        return {"logits": self.head(z), "embedding": z}
