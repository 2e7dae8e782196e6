"""Multimodal Factorization Model (Tsai et al. 2019): one factor predicts the label, one per modality reconstructs it.

Codes z (of memory fusion for the label, of an LSTM for each modality) are regularised towards a standard normal
distribution; factors f are two layers on a code. f_y predicts the label, and [f_y; f_m] reconstructs modality m.
Shapes: b utterances, t steps (padded), N real steps of all utterances, d features, h width of a factor pair.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.mfn import AT_ONCE, MemoryFusion, packed
from merlib.baselines.packed_lstm import Steps, recur
from merlib.baselines.tensor_fusion import LstmEncoder
from merlib.layers.basics import Scores, perceptron
from merlib.layers.cross_entropy import TaskLoss
from merlib.registry import bind

VERSION = 2  # dropout of memory fusion is drawn for real steps only


class Decoder(nn.Module):
    """The sequence from its factors: an LSTM that reads the factors first, then its own last state. b h -> N d."""

    def __init__(self, *, factors: int, dim: int):
        super().__init__()
        self.cell = nn.LSTMCell(factors, factors)
        self.out = nn.Linear(factors, dim)

    def forward(self, factors: Tensor, steps: Steps) -> Tensor:
        cell, bias = self.cell, self.cell.bias_ih + self.cell.bias_hh
        first = F.linear(factors[steps.order], cell.weight_ih, bias)  # b 4h; then input and state are the same
        inputs = torch.cat([first, bias.expand(len(steps.rows) - len(first), -1)])  # N 4h
        return self.out(recur(inputs, cell.weight_ih + cell.weight_hh, steps)[0])


def widths(*, label: int, text: int, audio: int, visual: int) -> dict[str, int]:
    """The widths of a section of the recipe, by name."""
    return {"label": label, "text": text, "audio": audio, "visual": visual}


class Mfm(nn.Module):
    """The released network; besides scores it returns what its loss needs.

    `code_label` and `code_<modality>`: b z; `reconstruction_<modality>`: b, the mean square error over an
    utterance's real steps and features. codes, factors: their widths, for "label" and each modality.
    """

    AT_ONCE = AT_ONCE

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, memory: dict[str, Any], codes: dict[str, int],
        factors: dict[str, int], dropout: float, head_dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.fuse = bind(MemoryFusion, memory, what="model.memory", dims=dims, dropout=dropout)
        codes, factors = bind(widths, codes, what="model.codes"), bind(widths, factors, what="model.factors")
        self.code = nn.Linear(self.fuse.width, codes["label"])
        self.encode = nn.ModuleDict(
            {m: LstmEncoder(dim=d, hidden=codes[m], out=codes[m], dropout=0.0) for m, d in dims.items()}
        )
        self.factor = nn.ModuleDict()
        for name in ("label", *dims):
            sizes = {"width": codes[name], "hidden": factors[name], "out": factors[name]}
            self.factor[name] = perceptron(**sizes, dropout=dropout)
        label = factors["label"]
        self.decode = nn.ModuleDict({name: Decoder(factors=label + factors[name], dim=d) for name, d in dims.items()})
        self.embed = nn.Linear(label, label)
        self.drop = nn.Dropout(head_dropout)
        self.classify = Scores(dim=label, classes=classes, sentiment=sentiment)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, steps = packed(batch, self.fuse.cells)
        codes = {"label": self.code(self.fuse(x, steps))}
        codes |= {name: encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encode.items()}
        factors = {name: F.relu(self.factor[name](code)) for name, code in codes.items()}
        z = F.relu(self.embed(factors["label"]))
        outputs = self.classify(self.drop(z)) | {"embedding": z}
        for name, decode in self.decode.items():
            reconstructed = decode(torch.cat([factors["label"], factors[name]], dim=-1), steps)
            outputs[f"reconstruction_{name}"] = steps.mean((reconstructed - x[name]).square().mean(-1))
        return outputs | {f"code_{name}": code for name, code in codes.items()}


def mmd_to_normal(code: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of codes (N z) from a standard normal variable, kernel exp(-|x - y|^2 / z^2).

    The released code draws normal samples; this is their expectation, which has a closed form: with c = 1 / z^2,
    E_y exp(-c |x - y|^2) = (1 + 2c)^(-z/2) exp(-c |x|^2 / (1 + 2c)), and (1 + 4c)^(-z/2) between two of them.
    """
    code = code.double()  # three terms near 1 whose difference is small
    z = code.shape[1]
    c = 1 / z**2
    square = code.square().sum(1)
    apart = (square.unsqueeze(1) + square - 2 * code @ code.T).clamp(min=0)  # N N
    among = (-c * apart).exp().mean()
    across = (1 + 2 * c) ** (-z / 2) * (-c * square / (1 + 2 * c)).exp().mean()
    return among - 2 * across + math.exp(-z / 2 * math.log1p(4 * c))


class MfmLoss(nn.Module):
    """Cross-entropy of the scores + weighted reconstruction errors + mmd times the codes' discrepancies."""

    def __init__(
        self, *, class_counts: Sequence[float] | Tensor, class_weights: str, binary: str, reconstruction_text: float,
        reconstruction_audio: float, reconstruction_visual: float, mmd: float,
    ):  # fmt: skip
        super().__init__()
        self.decide = TaskLoss(class_counts=class_counts, class_weights=class_weights, binary=binary)
        self.weights = {"text": reconstruction_text, "audio": reconstruction_audio, "visual": reconstruction_visual}
        self.mmd = mmd

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c [, `logits_binary` N 2], `reconstruction_<modality>` N, `code_<name>` N z."""
        parts = self.decide(outputs, target)
        errors = {name: outputs.get(f"reconstruction_{name}") for name in self.weights}  # None: modality not used
        error = sum(self.weights[name] * error.mean() for name, error in errors.items() if error is not None)
        codes = [code for name, code in outputs.items() if name.startswith("code_")]
        mmd = sum(mmd_to_normal(code) for code in codes).to(error.dtype)
        return parts | {"loss": parts["loss"] + error + self.mmd * mmd, "reconstruction": error, "mmd": mmd}
