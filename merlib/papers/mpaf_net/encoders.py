"""One vector a modality: BERT's [CLS], the last state of an LSTM over MFCCs, or over faces (MPAF-Net, Sec. 2.2).

Shapes: b utterances, t steps (padded), s steps of the corpus's longest sequence, d the width of a step, h of the
vector. Masks (b t) are True on real steps, which come first. An encoder has its `width` h, and takes b t d, b t to b h.
"""

import math
from collections.abc import Collection
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.baselines.lstm import LastState
from merlib.errors import DeclarationError, RequestError, one_of
from merlib.layers.ragged import masked_mean


class First(nn.Module):
    """The state of the first token, BERT's [CLS]: b t h -> b h."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return states[:, 0]


class Pooler(nn.Module):
    """tanh(W [CLS] + b), as BERT's pooler: b t h -> b h."""

    def __init__(self, dense: nn.Linear):
        super().__init__()
        self.dense = dense

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.dense(states[:, 0]).tanh()


class Mean(nn.Module):
    """The mean of all tokens, for arrays without [CLS] and encoders that were trained so: b t h -> b h."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(states, mask)


class StoredText(nn.Module):
    """Text that is encoded already. `pool`: "hidden" (First), "pooler" (which starts at random here) or "mean"."""

    def __init__(self, *, width: int, pool: str):
        super().__init__()
        poolers = {"hidden": First, "pooler": lambda: Pooler(nn.Linear(width, width)), "mean": Mean}
        self.width, self.pool = width, one_of(poolers, pool, "text_pool")()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.pool(x, mask)


class TunedEncoder(nn.Module):
    """The last `layers` layers of a Hugging Face encoder, which learn, on the stored states of the layer below them.

    The layers below are frozen, so their states are features: computed once, without dropout, they give what the whole
    encoder would give. `path` is a folder or hub name that AutoModel can load; "pooler" is the encoder's own. What
    comes from there is `pretrained`, with a learning rate of its own (`merlib.training.optimisation`).
    """

    def __init__(self, *, width: int, path: str, layers: int, pool: str):
        from transformers import AutoModel  # takes seconds, and only this needs it

        super().__init__()
        model = AutoModel.from_pretrained(path, dtype=torch.float32)
        blocks, hidden = getattr(getattr(model, "encoder", None), "layer", ()), model.config.hidden_size
        if not 0 < layers <= len(blocks) or width != hidden or (pool == "pooler" and model.pooler is None):
            raise RequestError(
                f"text_encoder {path}: {layers} of {len(blocks)} layers, states of {hidden}, stored ones of {width}. "
                "Choose an encoder built as BERT (with a pooler if asked), and store the states below its tuned layers"
            )
        model.encoder.layer = blocks[-layers:]
        poolers = {"hidden": First, "pooler": lambda: Pooler(model.pooler.dense), "mean": Mean}
        pooling = one_of(poolers, pool, "text_pool")()
        self.width, self.pretrained = width, nn.ModuleDict({"encoder": model.encoder, "pool": pooling})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        unseen = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min)
        states = self.pretrained["encoder"](x, attention_mask=unseen[:, None, None]).last_hidden_state  # b t -> b 1 1 t
        return self.pretrained["pool"](states, mask)


class Pictures(nn.Module):
    """Square grey pictures, one a step: three convolutions of stride 2, then a mean. b t d -> b t h."""

    def __init__(self, *, width: int, dim: int):
        super().__init__()
        self.size, self.width = math.isqrt(width), dim
        if self.size**2 != width:
            raise RequestError(
                f"frame_encoder 'cnn' reads square pictures, and {width} values make none: choose another"
            )
        channels = (1, 16, 32, dim)
        convolve = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)]
        self.convolve = nn.Sequential(*(m for layer in convolve for m in (layer, nn.ReLU())))

    def forward(self, x: Tensor) -> Tensor:
        pictures = rearrange(x, "b t (i j) -> (b t) 1 i j", i=self.size)
        return reduce(self.convolve(pictures), "(b t) h i j -> b t h", "mean", b=len(x))


class SpeechEnd(nn.Module):
    """Sequences as they are, up to their last real step."""

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
            raise RequestError(
                f"a sequence of {x.shape[1]} steps; the longest of the corpus was said to have {self.steps}"
            )
        at = torch.arange(self.steps, device=x.device)  # s
        real = mask.new_ones(len(x), self.steps)
        if self.repeat:
            place = at.minimum(mask.sum(1, keepdim=True) - 1)  # b s
            return x[torch.arange(len(x), device=x.device).unsqueeze(1), place], real
        return F.pad(x * mask.unsqueeze(-1), (0, 0, 0, self.steps - x.shape[1])), real


class Recurrent(nn.Module):
    """How a step enters, where sequences end, and the last state of an LSTM of width `dim`."""

    def __init__(self, *, steps: nn.Module, end: nn.Module, last: LastState, dim: int):
        super().__init__()
        self.steps, self.end, self.last, self.width = steps, end, last, dim

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.last(*self.end(self.steps(x), mask))


def encoders(
    *, dims: dict[str, int], steps: dict[str, int], text_encoder: str, text_layers_tuned: int, text_pool: str,
    audio_dim: int, visual_dim: int, frame_encoder: str, lstm_layers: int, lstm_directions: int, pack: bool,
) -> dict[str, nn.Module]:  # fmt: skip
    """One encoder for each modality of `dims`.

    text_encoder: "vectors" (StoredText), or what AutoModel can load (TunedEncoder).
    frame_encoder: how a picture enters its LSTM: all its values ("flatten"), or through a "linear" map or a "cnn".
    pack: whether sequences end with their last real step, or go on to the length of the corpus's longest.
    """
    made: dict[str, nn.Module] = {}
    if "text" in dims:
        tuned = partial(TunedEncoder, path=text_encoder, layers=text_layers_tuned)
        made["text"] = (StoredText if text_encoder == "vectors" else tuned)(width=dims["text"], pool=text_pool)
    for name, dim, kind in (("audio", audio_dim, "flatten"), ("visual", visual_dim, frame_encoder)):
        if width := dims.get(name):
            enter = {
                "flatten": nn.Identity, "linear": partial(nn.Linear, width, dim),
                "cnn": partial(Pictures, width=width, dim=dim),
            }  # fmt: skip
            entered = width if kind == "flatten" else dim
            made[name] = Recurrent(
                steps=one_of(enter, kind, "frame_encoder")(),
                end=SpeechEnd() if pack else Extend(steps=steps[name], repeat=name == "visual"),
                last=LastState(width=entered, dim=dim, layers=lstm_layers, directions=lstm_directions),
                dim=dim,
            )
    return made


def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
    """Leaf -> the files of the text encoder that a network of this section starts from."""
    if "text" not in modalities or section["text_encoder"] == "vectors":
        return {}
    from merlib.pretrained.encoders import pretrained_files  # takes seconds, and only this needs it

    return {"text_encoder": pretrained_files(section["text_encoder"])}


def check_states(section: dict[str, Any], layers_above: dict[str, int]) -> None:
    """DeclarationError where stored text is not the states that the tuned layers of the network's own encoder read."""
    if "text" not in layers_above or section["text_encoder"] == "vectors":
        return
    stored, tuned = layers_above["text"], section["text_layers_tuned"]
    if stored != tuned:
        raise DeclarationError(
            f"text_encoder {section['text_encoder']} learns its last {tuned} layers, but the stored states of text "
            f"have {stored} yet to pass: make them with `merlib data text ... --pool tokens --layer N`, N being all "
            f"layers but {tuned}"
        )
