"""MTCNN, a face detector of three small networks (Zhang et al., IEEE Signal Processing Letters 2016), in batches.

P-Net reads a pyramid of the frames, R-Net and O-Net read the boxes that the stage before has proposed; each scores and
shifts its boxes. The arithmetic is that of facenet-pytorch, whose weights this loads, but every step is done for all
frames of a chunk together, and every resizing by area uses one integral image.

Shapes: n frames of h x w pixels; k boxes (left, top, right, bottom) in pixels, each with the number of its `frame`.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError
from merlib.pretrained.boxes import shifted, squared, suppress
from merlib.pretrained.weights import fit, frozen, packaged, read

_pool = partial(F.max_pool2d, stride=2, ceil_mode=True)
CELL, STRIDE = 12, 2  # pixels that one output of P-Net reads, and from output to output
CHUNK = 1 << 19  # pixels of frames that are computed together; more is slower on a processor with a small cache
FILES = ("pnet.pt", "rnet.pt", "onet.pt")


def weights() -> list[Path]:
    """The files of the published weights, in the package facenet-pytorch."""
    return [packaged("facenet-pytorch", f"data/{name}") for name in FILES]


def _flat(x: Tensor) -> Tensor:
    return x.permute(0, 3, 2, 1).flatten(1)  # k c y x -> k (x y c), the order that the weights were trained in


class PNet(nn.Module):
    """n 3 y x -> for each place of a grid, the probability of a face (n y' x') and how its box shifts (n 4 y' x')."""

    def __init__(self):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _pool(self.prelu1(self.conv1(x)), 2)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(1)[:, 1], self.conv4_2(x)


class RNet(nn.Module):
    """k 3 24 24 -> probability of a face, k; shift of the box, k 4."""

    def __init__(self):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _pool(self.prelu1(self.conv1(x)), 3)
        x = _pool(self.prelu2(self.conv2(x)), 3)
        x = self.prelu4(self.dense4(_flat(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """k 3 48 48 -> probability of a face, k; shift of the box, k 4; five landmarks in shares of the box, k 10."""

    def __init__(self):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = _pool(self.prelu1(self.conv1(x)), 3)
        x = _pool(self.prelu2(self.conv2(x)), 3)
        x = _pool(self.prelu3(self.conv3(x)), 2)
        x = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), self.dense6_3(x)


@dataclass(frozen=True)
class Detections:
    """The k faces in n frames, ordered by frame, then by probability (the most probable first)."""

    frame: Tensor  # k, int64
    box: Tensor  # k 4, float32: left, top, right, bottom, in pixels; may reach over the frame's edge
    score: Tensor  # k, probability of a face
    points: Tensor  # k 5 2, x and y of left eye, right eye, nose, and the corners of the mouth


class Mtcnn(nn.Module):
    """Frames, n h w 3 RGB bytes -> every face in them.

    min_face: side of the smallest square that P-Net proposes, in pixels. factor: from a level of the pyramid to the
    next. thresholds: least probability after each stage.
    """

    def __init__(self, *, min_face: int, factor: float, thresholds: tuple[float, float, float]):
        super().__init__()
        self.min_face, self.factor, self.thresholds = min_face, factor, thresholds
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()

    def load(self) -> "Mtcnn":
        """Load the published weights, for inference; every tensor must fit."""
        for network, file in zip((self.pnet, self.rnet, self.onet), weights(), strict=True):
            fit(network, read(file, first="conv1.weight"), str(file))
        return frozen(self)

    @torch.inference_mode()
    def forward(self, frames: Tensor) -> Detections:
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise RequestError(f"expected frames n h w 3 of bytes, found {tuple(frames.shape)} of {frames.dtype}")
        size = max(1, CHUNK // (frames.shape[1] * frames.shape[2]))
        parts = [self._chunk(part.to(self.pnet.conv1.weight.device)) for part in frames.split(size)]
        firsts = range(0, max(1, len(frames)), size)
        return Detections(
            frame=torch.cat([p.frame + first for p, first in zip(parts, firsts, strict=True)]),
            **{name: torch.cat([getattr(p, name) for p in parts]) for name in ("box", "score", "points")},
        )

    def _chunk(self, frames: Tensor) -> Detections:
        sums = integral(frames)
        frame, box, x = crops(sums, *self._proposed(sums), 24)
        score, shift = self.rnet(x)
        frame, box, score, shift = (v[score > self.thresholds[1]] for v in (frame, box, score, shift))
        best = suppress(frame, box, score, 0.7)
        box = squared(shifted(box[best], shift[best], 1))
        frame, box, x = crops(sums, frame[best], box, 48)
        score, shift, points = self.onet(x)
        sure = score > self.thresholds[2]
        frame, box, score, shift, points = (v[sure] for v in (frame, box, score, shift, points))
        places = points.unflatten(1, (2, 5)).transpose(1, 2)  # k (2 5) -> k 5 2
        points = places * (box[:, 2:] - box[:, :2] + 1).unsqueeze(1) + box[:, :2].unsqueeze(1) - 1
        box = shifted(box, shift, 1)
        best = suppress(frame, box, score, 0.7, smaller=True)
        return Detections(frame[best], box[best], score[best], points[best])

    def _proposed(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """P-Net on every level of the pyramid: frame, k; square box, k 4."""
        height, width = sums.shape[1] - 1, sums.shape[2] - 1
        levels, scale = [], CELL / self.min_face
        while min(height, width) * scale >= CELL:
            size = (int(height * scale + 1), int(width * scale + 1))
            score, shift = self.pnet(_standard(level(sums, size)))
            frame, y, x = (score >= self.thresholds[0]).nonzero(as_tuple=True)
            corner = STRIDE * torch.stack([x, y], dim=1) + 1
            box = torch.cat([corner / scale, (corner + CELL - 1) / scale], dim=1).floor()
            proposed = (frame, box, score[frame, y, x], shift[frame, :, y, x])
            best = suppress(frame, box, proposed[2], 0.5)
            levels.append([v[best] for v in proposed])
            scale *= self.factor
        if not levels:
            return sums.new_zeros(0, dtype=torch.int64), sums.new_zeros(0, 4, dtype=torch.float32)
        frame, box, score, shift = (torch.cat(v) for v in zip(*levels, strict=True))
        best = suppress(frame, box, score, 0.7)
        return frame[best], squared(shifted(box[best], shift[best], 0))


def integral(frames: Tensor) -> Tensor:
    """n h w 3 bytes -> n (h + 1) (w + 1) 3 int32: the sum of all pixels above and left."""
    return F.pad(frames.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (0, 0, 1, 0, 1, 0))


def _bins(length: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """First and last edge of `count` bins that cover so many pixels, as adaptive pooling has them: ... count each."""
    i, length = torch.arange(count, device=length.device), length.unsqueeze(-1)
    return i * length // count, -(-(i + 1) * length // count)


def level(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """Whole frames resized by area, as adaptive average pooling does: n 3 height width, float32."""
    height, width = (torch.tensor(edge - 1, device=sums.device) for edge in sums.shape[1:3])
    (top, bottom), (left, right) = _bins(height, size[0]), _bins(width, size[1])
    rows = sums.index_select(1, bottom) - sums.index_select(1, top)  # n height (w + 1) 3
    pixels = (bottom - top)[:, None, None] * (right - left)[None, :, None]
    total = rows.index_select(2, right) - rows.index_select(2, left)
    return (total / pixels).permute(0, 3, 1, 2)


def averaged(sums: Tensor, frame: Tensor, box: Tensor, size: int) -> Tensor:
    """Boxes of integer pixels (k 4), each resized by area to a square: k 3 size size, float32."""
    (top, bottom), (left, right) = (_bins(box[:, i + 2] - box[:, i], size) for i in (1, 0))
    top, bottom, left, right = top + box[:, 1:2], bottom + box[:, 1:2], left + box[:, :1], right + box[:, :1]
    flat = sums.view(-1, 3)

    def at(y: Tensor, x: Tensor) -> Tensor:
        place = ((frame[:, None] * sums.shape[1] + y) * sums.shape[2])[:, :, None] + x[:, None, :]
        return flat.index_select(0, place.flatten()).view(-1, size, size, 3)

    total = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    pixels = (bottom - top)[:, :, None] * (right - left)[:, None, :]
    return (total / pixels.unsqueeze(-1)).permute(0, 3, 1, 2)


def crops(sums: Tensor, frame: Tensor, box: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes cut out of their frames, at size x size: frame, box and pixels (k 3 size size) of those not empty."""
    height, width = sums.shape[1] - 1, sums.shape[2] - 1
    edges = torch.tensor([width, height], device=box.device)
    first, last = box[:, :2].trunc().long().clamp(min=1) - 1, box[:, 2:].trunc().long().minimum(edges)
    real = (last > first).all(1)
    inside = torch.cat([first, last], dim=1)[real]
    return frame[real], box[real], _standard(averaged(sums, frame[real], inside, size))


def _standard(x: Tensor) -> Tensor:
    return (x - 127.5) * 0.0078125
