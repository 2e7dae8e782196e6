"""From an utterance's steps to l vectors of width d: encoders, LSTM and Conv1d of ATTSF-Net (Sec. III-A and III-B).

Shapes: b utterances, t steps of a modality, w = width of a step, l = length, d = dim, n pictures of h x h pixels. Masks
are True on real steps. An encoder takes (x, mask) and returns both; every sequence comes padded to the longest one of
the corpus.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, one_of
from merlib.layers.ragged import resampled
from merlib.pretrained.efficientface import EfficientFace, load_weights


class Vectors(nn.Module):
    """Steps that are vectors already go straight on."""

    def __init__(self, *, width: int, steps: int):
        super().__init__()
        self.width, self.steps = width, steps

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x, mask


class FaceVectors(Vectors):
    """Vectors of faces; pictures are refused."""

    def __init__(self, *, width: int, steps: int):
        if width >= 3 * 32**2:
            raise RequestError(
                f"steps of {width} values are pictures, not vectors: take readings.visual = fine_tune or freeze, or "
                "extract what a network sees in them"
            )
        super().__init__(width=width, steps=steps)


class AudioCnn(nn.Module):
    """Convolution over time, batch norm, ReLU and max-pooling, four times (Sec. III-B): b t w -> b t' c.

    What is shorter than the longest utterance ends in zeros. A step of the result is real where it has seen a real
    step.
    """

    def __init__(
        self,
        *,
        width: int,
        steps: int,
        channels: list[int],
        kernel: int,
        stride: int,
        padding: int,
        pool: int,
        pool_stride: int,
    ):
        super().__init__()
        self.windows = [(kernel, stride, padding), (pool, pool_stride, 0)] * len(channels)
        self.width, self.steps = channels[-1], steps
        for size, by, around in self.windows:
            self.steps = (self.steps + 2 * around - size) // by + 1
        if self.steps < 1:
            raise RequestError(
                f"the audio CNN needs longer sequences, found {steps} steps at most: set model.audio_encoder to "
                '"vectors", or bring frame features (MFCC)'
            )
        pairs = zip([width, *channels], channels, strict=False)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(i, o, kernel, stride=stride, padding=padding, bias=False),  # batch norm has the bias
                    nn.BatchNorm1d(o),
                    nn.ReLU(),
                    nn.MaxPool1d(pool, pool_stride),
                )
                for i, o in pairs
            )
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        seen = mask.to(x.dtype).unsqueeze(1)
        for size, by, around in self.windows:
            seen = F.max_pool1d(seen, size, by, around)
        return self.layers(x.transpose(1, 2)).transpose(1, 2), seen.squeeze(1) > 0


class Augment(nn.Module):
    """Random flips and a rotation in training, drawn once a clip, and a centre crop (Sec. III-A): n 3 h h -> n 3 h h.

    crop: share of width and height that is kept, also at test time (1: all); degrees: largest rotation to either side.
    """

    def __init__(self, *, horizontal: bool, vertical: bool, degrees: float, crop: float):
        super().__init__()
        self.flips, self.angle, self.crop = (horizontal, vertical), math.radians(degrees), crop

    def forward(self, pictures: Tensor, clip: Tensor) -> Tensor:
        """clip: n, the clip that each picture belongs to."""
        if self.crop == 1 and not (self.training and (any(self.flips) or self.angle)):
            return pictures
        number, kind = int(clip.max()) + 1, {"device": pictures.device, "dtype": pictures.dtype}
        flip, angle = torch.ones(number, 2, **kind), torch.zeros(number, **kind)
        if self.training:
            chance = 0.5 * torch.tensor(self.flips, **kind)
            flip = 1 - 2 * (torch.rand(number, 2, **kind) < chance).to(pictures.dtype)  # left-right, upside down
            angle = self.angle * (2 * torch.rand(number, **kind) - 1)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).unflatten(1, (2, 2))
        linear = self.crop * turn * flip.unsqueeze(1)  # a clip's 2 x 2 map of the plane
        place = torch.cat([linear, torch.zeros(number, 2, 1, **kind)], dim=2)[clip]  # n 2 3, the centre stays
        with torch.autocast(pictures.device.type, enabled=False):  # which would round places to 8 bits
            grid = F.affine_grid(place, list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, align_corners=False)


class Faces(nn.Module):
    """EfficientFace on every real frame, a flat RGB picture, 0 to 1: b t (3 h h) -> b t 1024, 0 on padding."""

    def __init__(self, *, width: int, steps: int, weights: str, freeze: bool, augment: Augment):
        super().__init__()
        self.pixels = math.isqrt(width // 3)
        if 3 * self.pixels**2 != width or self.pixels % 32:
            raise RequestError(
                f"visual frames of {width} values are no square RGB pictures with sides of a multiple of 32 pixels, "
                "which is what EfficientFace reads: take readings.visual = vectors, or bring faces"
            )
        self.width, self.steps, self.freeze = EfficientFace.width, steps, freeze
        self.augment, self.network = augment, EfficientFace(classes=None)
        if weights != "none":
            load_weights(self.network, weights)
        self.network.requires_grad_(not freeze)

    def train(self, mode: bool = True) -> "Faces":
        super().train(mode)
        if self.freeze:
            self.network.eval()  # its batch norms are frozen as well
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        pictures = x[mask].unflatten(-1, (3, self.pixels, self.pixels))  # b t (3 h h) -> n 3 h h
        seen = self.network(self.augment(pictures, mask.nonzero()[:, 0]))
        places = mask.flatten().nonzero().squeeze(1)
        padded = seen.new_zeros(mask.numel(), self.width).index_copy(0, places, seen)
        return padded.unflatten(0, mask.shape), mask


class Lstm(nn.Module):
    """One LSTM forward in time, which captures temporal dependencies (Sec. III-B): b t w -> b t d."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.rnn = nn.LSTM(width, dim, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


TEMPORAL = {"lstm": Lstm, "linear": nn.Linear}  # Table VIII: LSTM -> Linear


class FrameConv(nn.Module):
    """LSTM over time (w -> d), then a convolution whose channels are the steps (t -> l): mixtures of all steps."""

    def __init__(self, *, width: int, steps: int, dim: int, length: int, temporal: str, kernel: int):
        super().__init__()
        self.over_time = one_of(TEMPORAL, temporal, "temporal")(width, dim)
        self.conv = nn.Conv1d(steps, length, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv(self.over_time(x) * mask.unsqueeze(-1))  # b t w -> b t d -> b l d


class Interpolate(nn.Module):
    """LSTM and convolution over time, then linear interpolation of the real steps to l."""

    def __init__(self, *, width: int, steps: int, dim: int, length: int, temporal: str, kernel: int):
        super().__init__()
        self.length = length
        self.over_time = one_of(TEMPORAL, temporal, "temporal")(width, dim)
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.over_time(x) * mask.unsqueeze(-1)  # b t w -> b t d
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return resampled(x, mask, mask.new_ones(len(x), self.length))  # b l d


class TimeAxis(nn.Module):
    """The LSTM runs over the channels and maps their t steps to l; the convolution then maps the channels to d."""

    def __init__(self, *, width: int, steps: int, dim: int, length: int, temporal: str, kernel: int):
        super().__init__()
        self.over_channels = one_of(TEMPORAL, temporal, "temporal")(steps, length)
        self.conv = nn.Conv1d(width, dim, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.over_channels((x * mask.unsqueeze(-1)).transpose(1, 2))  # b t w -> b w t -> b w l
        return self.conv(x).transpose(1, 2)  # b w l -> b l d


TO_LENGTH = {"conv": FrameConv, "interpolate": Interpolate, "lstm": TimeAxis}
