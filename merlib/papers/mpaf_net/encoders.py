"""The unimodal encoders of MPAF-Net (Sec. 2.2): BERT's [CLS], and the last states of LSTMs over MFCCs and face frames.

Shapes: b utterances, t steps (padded), s steps of the corpus's longest sequence, d the width of a step, h of the
encoder's vector. Masks (b t) are True on real steps, which come first. An encoder takes b t d and its mask to b h, and
h is its attribute `width`.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.errors import RequestError
from merlib.layers.ragged import LastState
from merlib.papers.mpaf_net.text_encoders import STORED, StoredText, TunedText


class FlatFrames(nn.Module):
    """All values of a step as they are: b t d -> b t d."""

    def __init__(self, *, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x


class LinearFrames(nn.Module):
    """A linear map of every step: b t d -> b t h."""

    def __init__(self, *, width: int, dim: int):
        super().__init__()
        self.width, self.map = dim, nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)


class ConvolvedFrames(nn.Module):
    """Square grey frames, one a step: three convolutions of stride 2, then a mean. b t d -> b t h."""

    def __init__(self, *, width: int, dim: int):
        super().__init__()
        self.size, self.width = math.isqrt(width), dim
        if self.size**2 != width:
            raise RequestError(f"frame encoder 'cnn' reads square frames, and {width} values make none: choose another")
        channels = (1, 16, 32, dim)
        convolve = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)]
        self.convolve = nn.Sequential(*(m for layer in convolve for m in (layer, nn.ReLU())))

    def forward(self, x: Tensor) -> Tensor:
        frames = rearrange(x, "b t (i j) -> (b t) 1 i j", i=self.size)
        return reduce(self.convolve(frames), "(b t) h i j -> b t h", "mean", b=len(x))


class RealSteps(nn.Module):
    """Sequences that end with their last real step: unchanged."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x, mask


class Extend(nn.Module):
    """Sequences as long as the corpus's longest: zeros after the end, or the last step again. b t d, b t -> b s d, b s.

    The paper stores audio of 8 s and 150 frames whatever the utterance, so its LSTMs run on after the end (Sec. 3.1.2).
    """

    def __init__(self, *, steps: int, repeat: bool):
        super().__init__()
        self.steps, self.repeat = steps, repeat

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[1] > self.steps:
            raise RequestError(f"found a sequence of {x.shape[1]} steps; the longest of the corpus has {self.steps}")
        at = torch.arange(self.steps, device=x.device)  # s
        real = mask.new_ones(len(x), self.steps)
        if self.repeat:
            place = at.minimum(mask.sum(1, keepdim=True) - 1)  # b s
            return x[torch.arange(len(x), device=x.device).unsqueeze(1), place], real
        return F.pad(x * mask.unsqueeze(-1), (0, 0, 0, self.steps - x.shape[1])), real


FRAMES = {"flatten": FlatFrames, "linear": LinearFrames, "cnn": ConvolvedFrames}
FLAT = {"name": "flatten"}


class Recurrent(nn.Module):
    """The last state of an LSTM over the steps of a sequence, of width `dim`.

    steps: of the corpus's longest sequence. pack: end with the last real step of each sequence, or go on to `steps`
    (`Extend`): with the last step again (repeat), or with zeros. lstm: the keywords of `LastState`.
    """

    def __init__(
        self, *, width: int, steps: int, dim: int, lstm: dict[str, Any], pack: bool, repeat: bool,
        frame_encoder: dict[str, Any] = FLAT,
    ):  # fmt: skip
        super().__init__()
        self.frames = registry.part(FRAMES, frame_encoder, "model.encoders.visual.frame_encoder", width=width, dim=dim)
        self.end = RealSteps() if pack else Extend(steps=steps, repeat=repeat)
        self.last = registry.bind(LastState, lstm, what="model.encoders.lstm", width=self.frames.width, dim=dim)
        self.width = dim

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.last(*self.end(self.frames(x), mask))


def unimodal_encoders(
    *, dims: dict[str, int], steps: dict[str, int], text: dict[str, Any], audio: dict[str, Any],
    visual: dict[str, Any], lstm: dict[str, Any], pack: bool,
) -> nn.ModuleDict:  # fmt: skip
    """An encoder for each modality of `dims`. text, audio, visual: its keywords; lstm and pack: see `Recurrent`."""
    encoders = nn.ModuleDict()
    if "text" in dims:
        make, other = (StoredText, TunedText) if text["encoder"] == STORED else (TunedText, StoredText)
        encoders["text"] = registry.bind(make, text, what="model.encoders.text", beside=(other,), width=dims["text"])
    for name, section in (("audio", audio), ("visual", visual)):
        if name in dims:
            given = {"width": dims[name], "steps": steps[name], "lstm": lstm, "pack": pack, "repeat": name == "visual"}
            encoders[name] = registry.bind(Recurrent, section, what=f"model.encoders.{name}", **given)
    return encoders
