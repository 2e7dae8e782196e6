"""ResNet (He et al., CVPR 2016) with 18, 34, 50 or 101 layers, in torchvision's form and names: its weights load.

Shapes: n images of h x h pixels, c channels. A residual block is y = relu(f(x) + x) (HFF, eq. 13).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import RequestError, listed
from merlib.pretrained.weights import fit, frozen, located, read

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in 0..1


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Basic(nn.Module):
    """Two convolutions of 3 x 3."""

    wider = 1

    def __init__(self, *, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        f = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(f + self.downsample(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which has the stride), and 1 x 1 to four times the width."""

    wider = 4

    def __init__(self, *, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = convolution(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        f = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(f)) + self.downsample(x))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The x of f(x) + x, fitted where the block changes its shape."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


LAYERS = {18: (Basic, (2, 2, 2, 2)), 34: (Basic, (3, 4, 6, 3))}  # of each stage
LAYERS |= {50: (Bottleneck, (3, 4, 6, 3)), 101: (Bottleneck, (3, 4, 23, 3))}


class ResNet(nn.Module):
    """n 3 h h, standardised -> n width (512, from 50 layers on 2048): the mean over places of the last channels.

    classes: the scores of the published classifier instead, n classes; None leaves it out.
    """

    def __init__(self, *, layers: int, classes: int | None):
        super().__init__()
        if layers not in LAYERS:
            raise RequestError(f"layers={layers}: a ResNet here has one of {listed(sorted(LAYERS))}")
        block, counts = LAYERS[layers]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        inputs, stages = 64, []
        for stage, count in enumerate(counts):
            width, parts = 64 << stage, []
            for i in range(count):
                parts.append(block(inputs=inputs, width=width, stride=2 if stage and not i else 1))
                inputs = width * block.wider
            stages.append(nn.Sequential(*parts))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.width = inputs
        self.fc = nn.Identity() if classes is None else nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)  # n 64 h/4 h/4
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # n width h/32 h/32
        return self.fc(x.mean((2, 3)))


def published(weights: str, *, layers: int, classifier: bool) -> ResNet:
    """With the weights in a file (see `weights.located`), of torchvision's names; its classifier only if asked for."""
    path = located(weights)
    state = read(path, first="conv1.weight")
    classes = len(state["fc.weight"]) if classifier and "fc.weight" in state else None
    if classifier and classes is None:
        raise RequestError(f"{path} has no classifier (fc.weight): name a file that has one")
    state = state if classifier else {key: value for key, value in state.items() if not key.startswith("fc.")}
    return frozen(fit(ResNet(layers=layers, classes=classes), state, str(path)))


def standardised(images: Tensor, *, size: int = 224, short: int = 256) -> Tensor:
    """n h w 3 bytes -> n 3 size size, as in training: shorter side to `short`, middle square, ImageNet's mean."""
    x = images.permute(0, 3, 1, 2).float()
    height, width = x.shape[2:]
    sides = [short * side // min(height, width) for side in (height, width)]
    if sides != [height, width]:
        x = F.interpolate(x, sides, mode="bilinear", antialias=True)
    top, left = (round((side - size) / 2) for side in sides)
    x = x[:, :, top : top + size, left : left + size] / 255
    mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std
