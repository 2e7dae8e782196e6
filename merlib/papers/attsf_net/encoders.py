"""From an utterance's steps to l vectors of width d: encoders, LSTM and Conv1d of ATTSF-Net (Sec. III-B, Fig. 1).

Shapes: b utterances, t steps of a modality, w = width of a step, l = length, d = dim. Masks are True on real steps. The
encoder of a modality takes (x, mask) and returns both; every sequence comes padded to the longest one of the corpus.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.errors import RequestError, one_of
from merlib.layers.attention import sinusoid
from merlib.layers.ragged import resampled
from merlib.papers.attsf_net.dropout import Dropout
from merlib.papers.attsf_net.video import VISUAL, Vectors


class AudioCnn(nn.Module):
    """Convolution over time, batch norm, ReLU and max-pooling, four times (Sec. III-B): b t w -> b t' c.

    A step of the result is real where it depends on a real step.
    """

    def __init__(
        self, *, width: int, steps: int, channels: list[int], kernel: int, stride: int, padding: int, pool: int,
        pool_stride: int,
    ):  # fmt: skip
        super().__init__()
        self.windows = [(kernel, stride, padding), (pool, pool_stride, 0)] * len(channels)
        self.width, self.steps = channels[-1], steps
        for size, by, around in self.windows:
            self.steps = (self.steps + 2 * around - size) // by + 1
        if self.steps < 1:
            raise RequestError(
                f"the audio CNN needs longer sequences, found {steps} steps at most: set model.encoder.audio.name to "
                '"vectors", or bring frame features (MFCC)'
            )
        self.layers = nn.Sequential()
        for i, o in pairwise([width, *channels]):
            convolve = nn.Conv1d(i, o, kernel, stride=stride, padding=padding, bias=False)  # batch norm has the bias
            layer = nn.Sequential(convolve, nn.BatchNorm1d(o), nn.ReLU(), nn.MaxPool1d(pool, pool_stride))
            self.layers.append(layer)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        real = mask.to(x.dtype).unsqueeze(1)
        for size, by, around in self.windows:
            real = F.max_pool1d(real, size, by, around)
        return self.layers(x.transpose(1, 2)).transpose(1, 2), real.squeeze(1) > 0


AUDIO = {"cnn": AudioCnn, "vectors": Vectors}


class Lstm(nn.Module):
    """An LSTM in one direction, for temporal dependencies (Sec. III-B): b t w -> b t d."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.rnn = nn.LSTM(width, dim, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


TEMPORAL = {"lstm": Lstm, "linear": nn.Linear}  # Table VIII: LSTM -> Linear
OPTION = "option of model.encoder.to_length.temporal"


class FrameConv(nn.Module):
    """LSTM over time (w -> d), then a convolution whose channels are the steps (t -> l): mixtures of all steps."""

    def __init__(self, *, width: int, steps: int, dim: int, length: int, temporal: str, kernel: int):
        super().__init__()
        self.over_time = one_of(TEMPORAL, temporal, OPTION)(width, dim)
        self.conv = nn.Conv1d(steps, length, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv(self.over_time(x) * mask.unsqueeze(-1))  # b t w -> b t d -> b l d


class Interpolate(nn.Module):
    """LSTM and convolution over time, then linear interpolation of the real steps to l."""

    def __init__(self, *, width: int, dim: int, length: int, temporal: str, kernel: int):
        super().__init__()
        self.length = length
        self.over_time = one_of(TEMPORAL, temporal, OPTION)(width, dim)
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.over_time(x) * mask.unsqueeze(-1)  # b t w -> b t d
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return resampled(x, mask, mask.new_ones(len(x), self.length))  # b l d


class TimeAxis(nn.Module):
    """The LSTM runs over the channels and maps their t steps to l; the convolution then maps the channels to d."""

    def __init__(self, *, width: int, steps: int, dim: int, length: int, temporal: str, kernel: int):
        super().__init__()
        self.over_channels = one_of(TEMPORAL, temporal, OPTION)(steps, length)
        self.conv = nn.Conv1d(width, dim, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.over_channels((x * mask.unsqueeze(-1)).transpose(1, 2))  # b t w -> b w t -> b w l
        return self.conv(x).transpose(1, 2)  # b w l -> b l d


TO_LENGTH = {"conv": FrameConv, "interpolate": Interpolate, "lstm": TimeAxis}


POSITIONS = {  # l d
    "learned": lambda length, dim: nn.Parameter(0.02 * torch.randn(length, dim)),
    "sinusoid": lambda length, dim: nn.Buffer(sinusoid(torch.zeros(length, dim)), persistent=False),
}


class Embed(nn.Module):
    """One modality: its encoder, LSTM and Conv1d to l steps, and a positional embedding (Fig. 1): b t w -> b l d.

    A batch is padded further, to the longest utterance of the corpus, so that no result depends on batch mates. From
    here on every sequence has all its l steps and no mask.
    """

    def __init__(self, *, encoder: nn.Module, to_length: nn.Module, steps: int, position: Tensor, dropout: float):
        super().__init__()
        self.encoder, self.to_length, self.steps = encoder, to_length, steps
        self.position, self.drop = position, Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        short = self.steps - x.shape[1]
        x, mask = F.pad(x, (0, 0, 0, short)), F.pad(mask, (0, short))
        return self.drop(self.to_length(*self.encoder(x, mask)) + self.position)


class Encoder(nn.Module):
    """Every modality to l vectors of width d. dims, steps: of each modality, in the order of the results."""

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], dim: int, length: int, audio: dict[str, Any],
        visual: dict[str, Any], to_length: dict[str, Any], position: str, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.length = length
        place = one_of(POSITIONS, position, "option of model.encoder.position")
        encoders = {
            "text": Vectors,
            "audio": partial(registry.part, AUDIO, audio, "model.encoder.audio"),
            "visual": partial(registry.part, VISUAL, visual, "model.encoder.visual"),
        }
        self.embed = nn.ModuleDict()
        for name, width in dims.items():
            encoder = encoders[name](width=width, steps=steps[name])
            given = {"width": encoder.width, "steps": encoder.steps, "dim": dim, "length": length}
            resize = registry.part(TO_LENGTH, to_length, "model.encoder.to_length", **given)
            given = {"steps": steps[name], "position": place(length, dim), "dropout": dropout}
            self.embed[name] = Embed(encoder=encoder, to_length=resize, **given)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: embed(batch[name], batch[f"{name}_mask"]) for name, embed in self.embed.items()}  # b t w -> b l d
