"""Multimodal Factorization Model (Tsai et al. 2019): what modalities share decides, what is their own rebuilds them.

Codes z (of memory fusion for the label, of an LSTM for each modality) are drawn towards a standard normal distribution;
factors f are two layers on a code. The label is read from f_y, modality m is rebuilt from [f_y; f_m].
Shapes: b utterances, t steps (padded), d features, h width of a factor pair.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.mfn import MemoryFusion
from merlib.baselines.subnets import Scores, last_state
from merlib.layers.attention import perceptron
from merlib.layers.cross_entropy import TaskLoss

VERSION = 1


class Encoder(nn.Module):
    """One modality's code: the last state of an LSTM, then a linear layer. b t d -> b z."""

    def __init__(self, *, dim: int, code: int):
        super().__init__()
        self.rnn = nn.LSTM(dim, code, batch_first=True)
        self.out = nn.Linear(code, code)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(last_state(self.rnn(x)[0], mask))


class Decoder(nn.Module):
    """The sequence from its factors: an LSTM that reads them first and then its own last state. b h -> b t d."""

    def __init__(self, *, factors: int, dim: int):
        super().__init__()
        self.cell = nn.LSTMCell(factors, factors)
        self.out = nn.Linear(factors, dim)

    def forward(self, factors: Tensor, steps: int) -> Tensor:
        read, state, states = factors, None, []
        for _ in range(steps):
            state = self.cell(read, state)
            read = state[0]
            states.append(read)
        return self.out(torch.stack(states, dim=1))


class Mfm(nn.Module):
    """The released network; besides scores it returns what its loss needs.

    `code_label` and `code_<modality>`: b z; `reconstruction_<modality>`: b, the mean square error over an
    utterance's real steps and features.
    """

    def __init__(
        self,
        *,
        dims: dict[str, int],
        classes: int,
        sentiment: bool,
        text_hidden: int,
        audio_hidden: int,
        visual_hidden: int,
        memory_dim: int,
        attention_dim: int,
        proposal_dim: int,
        retain_dim: int,
        update_dim: int,
        code_dim: int,
        text_code: int,
        audio_code: int,
        visual_code: int,
        factor_dim: int,
        text_factor: int,
        audio_factor: int,
        visual_factor: int,
        dropout: float,
        head_dropout: float,
    ):
        super().__init__()
        self.fuse = MemoryFusion(
            dims=dims,
            hidden={"text": text_hidden, "audio": audio_hidden, "visual": visual_hidden},
            memory_dim=memory_dim,
            attention_dim=attention_dim,
            proposal_dim=proposal_dim,
            retain_dim=retain_dim,
            update_dim=update_dim,
            dropout=dropout,
        )
        codes = {"text": text_code, "audio": audio_code, "visual": visual_code}
        factors = {"label": factor_dim, "text": text_factor, "audio": audio_factor, "visual": visual_factor}
        widths = {"label": code_dim} | {name: codes[name] for name in dims}
        self.code = nn.Linear(self.fuse.width, code_dim)
        self.encode = nn.ModuleDict({name: Encoder(dim=d, code=codes[name]) for name, d in dims.items()})
        self.factor = nn.ModuleDict(
            {
                name: perceptron(width=width, hidden=factors[name], out=factors[name], dropout=dropout)
                for name, width in widths.items()
            }
        )
        self.decode = nn.ModuleDict(
            {name: Decoder(factors=factor_dim + factors[name], dim=d) for name, d in dims.items()}
        )
        self.embed = nn.Linear(factor_dim, factor_dim)
        self.drop = nn.Dropout(head_dropout)
        self.classify = Scores(dim=factor_dim, classes=classes, sentiment=sentiment)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        codes = {"label": self.code(self.fuse(batch))}
        codes |= {name: encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encode.items()}
        factors = {name: F.relu(self.factor[name](code)) for name, code in codes.items()}
        z = F.relu(self.embed(factors["label"]))
        outputs = self.classify(self.drop(z)) | {"embedding": z}
        for name, decode in self.decode.items():
            x, mask = batch[name], batch[f"{name}_mask"]
            rebuilt = decode(torch.cat([factors["label"], factors[name]], dim=-1), x.shape[1])
            error = (rebuilt - x).square().mean(-1) * mask  # b t
            outputs[f"reconstruction_{name}"] = error.sum(1) / mask.sum(1)
        return outputs | {f"code_{name}": code for name, code in codes.items()}


def mmd_to_normal(code: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of codes (N z) from a standard normal variable, kernel exp(-|x - y|^2 / z^2).

    The released code draws normal samples; here their expectation stands, which has a closed form: with c = 1 / z^2,
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
    """Cross-entropy of the scores + the weighted errors of the rebuilt modalities + mmd times the codes' discrepancies.

    class_counts, class_weights and binary are those of TaskLoss, which costs the scores.
    """

    def __init__(
        self,
        *,
        class_counts: Sequence[float] | Tensor,
        class_weights: str,
        binary: str,
        reconstruction_text: float,
        reconstruction_audio: float,
        reconstruction_visual: float,
        mmd: float,
    ):
        super().__init__()
        self.decide = TaskLoss(class_counts=class_counts, class_weights=class_weights, binary=binary)
        self.rebuild = {"text": reconstruction_text, "audio": reconstruction_audio, "visual": reconstruction_visual}
        self.mmd = mmd

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c [, `logits_binary` N 2], `reconstruction_<modality>` N, `code_<name>` N z."""
        parts = self.decide(outputs, target)
        errors = {name: outputs.get(f"reconstruction_{name}") for name in self.rebuild}  # None: not of this network
        rebuilt = sum(self.rebuild[name] * error.mean() for name, error in errors.items() if error is not None)
        codes = [code for name, code in outputs.items() if name.startswith("code_")]
        mmd = sum(mmd_to_normal(code) for code in codes).to(rebuilt.dtype)
        return parts | {"loss": parts["loss"] + rebuilt + self.mmd * mmd, "reconstruction": rebuilt, "mmd": mmd}
