"""From the face frames of a clip to vectors: EfficientFace with random changes of the frames (Sec. III-A and III-B).

Shapes: b utterances, t frames of an utterance, w = values of a frame; n real frames of a batch, h x h pixels each.
Masks are True on real frames.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.errors import RequestError
from merlib.layers.attention import Rows
from merlib.pretrained.efficientface import EfficientFace, load_weights


class Vectors(nn.Module):
    """Steps that are vectors already pass unchanged."""

    def __init__(self, *, width: int, steps: int):
        super().__init__()
        self.width, self.steps = width, steps

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x, mask


def face_vectors(*, width: int, steps: int) -> Vectors:
    """Refuses images."""
    if width >= 3 * 32**2:
        raise RequestError(
            f"frames of {width} values are images, not vectors: take substitute.face_vectors = false, or extract "
            "vectors from them with a pretrained network"
        )
    return Vectors(width=width, steps=steps)


class Augment(nn.Module):
    """Random flips and a rotation in training, drawn once per clip, and a centre crop (Sec. III-A): n 3 h h -> n 3 h h.

    rotate_degrees: largest rotation to either side; center_crop: share of width and height that is kept, also at test
    time (1: all).
    """

    def __init__(self, *, flip_horizontal: bool, flip_vertical: bool, rotate_degrees: float, center_crop: float):
        super().__init__()
        self.flips = (flip_horizontal, flip_vertical)
        self.angle, self.crop = math.radians(rotate_degrees), center_crop

    def forward(self, frames: Tensor, clip: Tensor, number: int) -> Tensor:
        """clip: n, the clip that each frame belongs to, of so many."""
        if self.crop == 1 and not (self.training and (any(self.flips) or self.angle)):
            return frames
        kind = {"device": frames.device, "dtype": frames.dtype}
        flip, angle = torch.ones(number, 2, **kind), torch.zeros(number, **kind)
        if self.training:
            chance = 0.5 * torch.tensor(self.flips, **kind)
            flip = 1 - 2 * (torch.rand(number, 2, **kind) < chance).to(frames.dtype)  # left-right, upside down
            angle = self.angle * (2 * torch.rand(number, **kind) - 1)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).unflatten(1, (2, 2))
        linear = self.crop * turn * flip.unsqueeze(1)  # a 2 x 2 map of the plane per clip
        place = torch.cat([linear, torch.zeros(number, 2, 1, **kind)], dim=2)[clip]  # n 2 3, the centre stays
        with torch.autocast(frames.device.type, enabled=False):  # which would round positions to 8 bits
            grid = F.affine_grid(place, list(frames.shape), align_corners=False)
        return F.grid_sample(frames, grid, align_corners=False)


class Faces(nn.Module):
    """EfficientFace on every real frame, a flat RGB image in 0..1: b t (3 h h) -> b t 1024, 0 on padding.

    weights: a file of pretrained weights, or "none"; freeze: whether they stay as they are; augment: see `Augment`.
    """

    def __init__(self, *, width: int, steps: int, weights: str, freeze: bool, augment: dict[str, Any]):
        super().__init__()
        self.pixels = math.isqrt(width // 3)
        if 3 * self.pixels**2 != width or self.pixels % 32:
            raise RequestError(
                f"frames of {width} values are no square RGB images with sides of a multiple of 32 pixels, which is "
                "what EfficientFace reads: take substitute.face_vectors = true, or bring images of faces"
            )
        self.width, self.steps, self.freeze = EfficientFace.width, steps, freeze
        self.augment = registry.bind(Augment, augment, what="model.encoder.visual.augment")
        self.network = EfficientFace(classes=None)
        if weights != "none":
            load_weights(self.network, weights)
        self.network.requires_grad_(not freeze)

    def train(self, mode: bool = True) -> "Faces":
        super().train(mode)
        if self.freeze:
            self.network.eval()  # its batch norms are frozen as well
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        rows = Rows(mask)
        frames = rows.pack(x).unflatten(-1, (3, self.pixels, self.pixels))  # b t (3 h h) -> n 3 h h
        vectors = self.network(self.augment(frames, rows.positions // mask.shape[1], len(mask)))  # n 3 h h -> n 1024
        return rows.unpack(vectors), mask


VISUAL = {"efficientface": Faces, "vectors": face_vectors}
