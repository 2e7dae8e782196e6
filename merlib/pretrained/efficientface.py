"""EfficientFace, an encoder of face images (Zhao, Liu and Zhou, AAAI 2021), which ATTSF-Net fine-tunes (Sec. III-B).

Shapes: n images of h x h pixels, RGB in 0..1; c channels. A ShuffleNet-like trunk; after its first stage a modulator
(which channels and places matter) is joined by a local extractor (each quarter of the image by itself).
"""

import re

import torch
from torch import Tensor, nn

from merlib.errors import RequestError
from merlib.pretrained.weights import fit, located, read

BLOCKS, WIDTHS = (4, 8, 4), (29, 116, 232, 464, 1024)  # blocks of the three stages; channels after each part
PUBLISHED = (  # names in published weights -> names here
    (r"^local\.conv([1-4])_([12])\.", lambda m: f"local.quarters.{int(m[1]) - 1}.{3 * int(m[2]) - 3}."),
    (r"^local\.bn([1-4])_([12])\.", lambda m: f"local.quarters.{int(m[1]) - 1}.{3 * int(m[2]) - 2}."),
    (r"^modulator\.channel_att\.gate_c\.gate_c_fc_0\.", "modulator.channel.2."),
    (r"^modulator\.channel_att\.gate_c\.gate_c_bn_1\.", "modulator.channel.3."),
    (r"^modulator\.channel_att\.gate_c\.gate_c_fc_final\.", "modulator.channel.5."),
    (r"^modulator\.spatial_att\.gate_s\.gate_s_conv_reduce0\.", "modulator.spatial.0."),
    (r"^modulator\.spatial_att\.gate_s\.gate_s_bn_reduce0\.", "modulator.spatial.1."),
    (r"^modulator\.spatial_att\.gate_s\.gate_s_conv_di_([01])\.", lambda m: f"modulator.spatial.{3 * int(m[1]) + 3}."),
    (r"^modulator\.spatial_att\.gate_s\.gate_s_bn_di_([01])\.", lambda m: f"modulator.spatial.{3 * int(m[1]) + 4}."),
    (r"^modulator\.spatial_att\.gate_s\.gate_s_conv_final\.", "modulator.spatial.9."),
)


def convolution(inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (but for its stride), and its batch norm, as a list for a Sequential."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class ShuffleBlock(nn.Module):
    """ShuffleNet v2: half of the channels pass (where size is halved: in a branch of their own); halves are mixed."""

    def __init__(self, *, inputs: int, outputs: int, stride: int):
        super().__init__()
        half = outputs // 2
        taken = inputs if stride > 1 else half
        self.stride = stride
        if stride > 1:
            apart = convolution(inputs, inputs, kernel=3, stride=stride, groups=inputs)
            self.branch1 = nn.Sequential(*apart, *convolution(inputs, half), nn.ReLU())
        middle = convolution(half, half, kernel=3, stride=stride, groups=half)
        self.branch2 = nn.Sequential(*convolution(taken, half), nn.ReLU(), *middle, *convolution(half, half), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        passed, changed = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        passed = self.branch1(passed) if self.stride > 1 else passed
        return torch.stack([passed, self.branch2(changed)], dim=2).flatten(1, 2)  # n c h w -> n 2c h w, in turns


class Local(nn.Module):
    """Depthwise convolutions on each quarter of the image, with weights of its own: n i h h -> n o h/2 h/2."""

    def __init__(self, *, inputs: int, outputs: int):
        super().__init__()
        self.quarters = nn.ModuleList()
        for _ in range(4):
            first = convolution(inputs, outputs, kernel=3, stride=2, groups=inputs)
            second = convolution(outputs, outputs, kernel=3, groups=outputs)
            self.quarters.append(nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=3)
        quarters = (*left.chunk(2, dim=2), *right.chunk(2, dim=2))  # upper left, lower left, upper right, lower right
        done = [conv(part) for conv, part in zip(self.quarters, quarters, strict=True)]
        return torch.cat([torch.cat(done[:2], dim=2), torch.cat(done[2:], dim=2)], dim=3)


class Modulator(nn.Module):
    """x sigmoid(channel gate * spatial gate): from the mean over places, and from dilated convolutions."""

    def __init__(self, *, channels: int):
        super().__init__()
        few = channels // 16
        mean, hidden = (nn.AdaptiveAvgPool2d(1), nn.Flatten()), (nn.Linear(channels, few), nn.BatchNorm1d(few))
        self.channel = nn.Sequential(*mean, *hidden, nn.ReLU(), nn.Linear(few, channels))
        dilated = [(nn.Conv2d(few, few, 3, padding=4, dilation=4), nn.BatchNorm2d(few), nn.ReLU()) for _ in range(2)]
        reduce = (nn.Conv2d(channels, few, 1), nn.BatchNorm2d(few), nn.ReLU())
        self.spatial = nn.Sequential(*reduce, *dilated[0], *dilated[1], nn.Conv2d(few, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.channel(x)[..., None, None] * self.spatial(x))  # n c 1 1 times n 1 h h


class EfficientFace(nn.Module):
    """n 3 h h (h a multiple of 32, 224 as published) -> n 1024; with `classes`, their scores n c instead."""

    width = WIDTHS[-1]

    def __init__(self, *, classes: int | None):
        super().__init__()
        first, *stages, last = WIDTHS
        self.conv1 = nn.Sequential(*convolution(3, first, kernel=3, stride=2), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(
                ShuffleBlock(inputs=inputs, outputs=outputs, stride=2),
                *(ShuffleBlock(inputs=outputs, outputs=outputs, stride=1) for _ in range(blocks - 1)),
            )
            for inputs, outputs, blocks in zip((first, *stages[:-1]), stages, BLOCKS, strict=True)
        )
        self.local = Local(inputs=first, outputs=stages[0])
        self.modulator = Modulator(channels=stages[0])
        self.conv5 = nn.Sequential(*convolution(stages[-1], last), nn.ReLU())
        self.fc = nn.Identity() if classes is None else nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2] != images.shape[-1] or images.shape[-1] % 32:
            expected = "squares of a multiple of 32 pixels"
            raise RequestError(f"EfficientFace reads {expected}, found {tuple(images.shape)}: resize")
        x = self.maxpool(self.conv1(images))  # n 3 h h -> n 29 h/4 h/4
        x = self.modulator(self.stage2(x)) + self.local(x)  # n 116 h/8 h/8
        return self.fc(self.conv5(self.stage4(self.stage3(x))).mean((2, 3)))  # n 1024 h/32 h/32 -> n 1024


def load_weights(network: EfficientFace, weights: str) -> None:
    """Published weights into a network: a path, or a name below `weights` of the data folder. Code in it is not run.

    The file's classifier is left out where the network has none; every other tensor must fit (RequestError).
    """
    random = '(or set model.encoder.visual.weights to "none" for random ones)'
    path = located(weights, publisher=f"zengqunzhao/EfficientFace {random}")
    state = {}
    for key, value in read(path, first="conv1.0.weight").items():
        for published, ours in PUBLISHED:
            key = re.sub(published, ours, key)
        if not (key.startswith("fc.") and isinstance(network.fc, nn.Identity)):
            state[key] = value
    fit(network, state, str(path))
