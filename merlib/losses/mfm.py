"""The Multimodal Factorization Model's objective (Tsai et al. 2019). Shapes: N utterances, z width of a code."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from merlib.losses.hff import HffLoss


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

    class_counts, class_weights and binary are those of HffLoss, which costs the scores.
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
        self.decide = HffLoss(class_counts=class_counts, class_weights=class_weights, kl=0.0, binary=binary)
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
