"""Interaction Canonical Correlation Network (Sun et al. 2020): views text x audio and text x video that correlate.

No code was released; layers and widths are our choice.
Shapes: b utterances, t steps (padded), h width of a modality's vector, k width of a view.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.layers.basics import Scores
from merlib.layers.cross_entropy import TaskLoss
from merlib.layers.ragged import last_state

VERSION = 1


class Encoder(nn.Module):
    """A convolution over the steps, then the last state of an LSTM. b t d -> b h."""

    def __init__(self, *, dim: int, hidden: int, kernel: int):
        super().__init__()
        self.convolve = nn.Conv1d(dim, hidden, kernel, padding="same")
        self.rnn = nn.LSTM(hidden, hidden, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = F.relu(self.convolve((x * mask.unsqueeze(-1)).mT)).mT
        return last_state(self.rnn(x)[0], mask)


class View(nn.Module):
    """The outer product of two vectors, two convolutions of stride 2 and a linear layer. b h, b h' -> b k."""

    def __init__(self, *, text: int, other: int, channels: int, out: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * math.ceil(text / 4) * math.ceil(other / 4), out),
        )

    def forward(self, text: Tensor, other: Tensor) -> Tensor:
        return self.layers(torch.einsum("bi,bj->bij", text, other).unsqueeze(1))


class Iccn(nn.Module):
    """Scores from text and its views with audio and video; the loss makes `view_<modality>` (b k) correlate."""

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, text_hidden: int, audio_hidden: int,
        visual_hidden: int, kernel: int, channels: int, view_dim: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        if "text" not in dims or len(dims) < 2:
            raise RequestError(f"ICCN multiplies text by other modalities, got {', '.join(dims)}: choose TA, TV or TAV")
        hidden = {"text": text_hidden, "audio": audio_hidden, "visual": visual_hidden}
        encoders = {name: Encoder(dim=d, hidden=hidden[name], kernel=kernel) for name, d in dims.items()}
        self.encode = nn.ModuleDict(encoders)
        self.views = nn.ModuleDict()
        for name in (name for name in dims if name != "text"):
            self.views[name] = View(text=text_hidden, other=hidden[name], channels=channels, out=view_dim)
        self.drop = nn.Dropout(dropout)
        self.classify = Scores(dim=text_hidden + view_dim * len(self.views), classes=classes, sentiment=sentiment)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = {name: encode(batch[name], batch[f"{name}_mask"]) for name, encode in self.encode.items()}
        views = {name: view(x["text"], x[name]) for name, view in self.views.items()}
        z = torch.cat([x["text"], *views.values()], dim=-1)
        outputs = self.classify(self.drop(z)) | {"embedding": z}
        return outputs | {f"view_{name}": view for name, view in views.items()}


def mean_correlation(x: Tensor, y: Tensor, *, ridge: float) -> Tensor:
    """The mean canonical correlation of two views (N k each): trace norm of S_xx^(-1/2) S_xy S_yy^(-1/2), over k.

    Cholesky factors take the place of the roots, with the same singular values. ridge: added to the variances.
    Fewer than k utterances always correlate perfectly: a batch should have more.
    """
    x, y = (view.double() - view.double().mean(0) for view in (x, y))
    n, k = x.shape
    floor = ridge * torch.eye(k, dtype=x.dtype, device=x.device)
    s_xx, s_yy, s_xy = (a.T @ b / max(n - 1, 1) for a, b in ((x, x), (y, y), (x, y)))
    root_x, root_y = torch.linalg.cholesky(s_xx + floor), torch.linalg.cholesky(s_yy + floor)
    half = torch.linalg.solve_triangular(root_x, s_xy, upper=False)
    both = torch.linalg.solve_triangular(root_y, half.T, upper=False)
    return torch.linalg.svdvals(both).sum() / k


class IccnLoss(nn.Module):
    """Cross-entropy of the scores - correlation times the mean canonical correlation of the two views.

    With one view (text and one other modality) there is nothing to correlate, and the loss is cross-entropy alone.
    """

    def __init__(
        self, *, class_counts: Sequence[float] | Tensor, class_weights: str, binary: str, correlation: float,
        ridge: float,
    ):  # fmt: skip
        super().__init__()
        if ridge <= 0:
            raise RequestError(f"ridge {ridge} leaves covariances that cannot be inverted: give a positive number")
        self.decide = TaskLoss(class_counts=class_counts, class_weights=class_weights, binary=binary)
        self.correlation, self.ridge = correlation, ridge

    def forward(self, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """outputs: `logits` N c [, `logits_binary` N 2], `view_audio` and `view_visual` N k."""
        parts = self.decide(outputs, target)
        views = [view for name, view in outputs.items() if name.startswith("view_")]
        if len(views) < 2:
            return parts
        correlation = mean_correlation(*views, ridge=self.ridge).to(parts["loss"].dtype)
        return parts | {"loss": parts["loss"] - self.correlation * correlation, "correlation": correlation}
