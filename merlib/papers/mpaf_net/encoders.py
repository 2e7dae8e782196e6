"""The unimodal encoders of MPAF-Net (Sec. 2.2): BERT's [CLS], and the last states of LSTMs over MFCCs and face frames.

Shapes: b utterances, t steps (padded), s steps of the corpus's longest sequence, d the width of a step, h of the
encoder's vector. Masks (b t) are True on real steps, which come first. An encoder takes b t d and its mask to b h, and
h is its attribute `width`.
"""

import math
from collections.abc import Callable, Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from merlib import registry
from merlib.data.store import Passport
from merlib.errors import DeclarationError, RequestError, one_of
from merlib.layers.ragged import LastState, masked_mean

STORED = "vectors"  # the text encoder of stored states that no layer of the network encodes further


class Pool(nn.Module):
    """The states of an utterance's tokens as one vector, b t h -> b h.

    "hidden": BERT's [CLS]. "pooler": tanh(W [CLS] + b), as BERT's pooler; `dense` makes W and b. "mean": of all tokens,
    for arrays without [CLS] and encoders that were trained by the mean.
    """

    def __init__(self, *, pool: str, dense: Callable[[], nn.Linear]):
        super().__init__()
        one_of(("hidden", "pooler", "mean"), pool, "option of model.encoders.text.pool")
        self.mean, self.dense = pool == "mean", dense() if pool == "pooler" else None

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        x = masked_mean(states, mask) if self.mean else states[:, 0]
        return x if self.dense is None else self.dense(x).tanh()


class StoredText(nn.Module):
    """Text that is encoded already. pool: of `Pool`, where "pooler" starts at random here."""

    def __init__(self, *, width: int, pool: str):
        super().__init__()
        self.width, self.pool = width, Pool(pool=pool, dense=lambda: nn.Linear(width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.pool(x, mask)


class TunedText(nn.Module):
    """The last layers of a Hugging Face encoder, which learn, on the stored states of the layer below them.

    The layers below are frozen, so their states are features: computed once, without dropout, they give what the whole
    encoder would give. encoder: a folder or hub name that AutoModel can load. pool: of `Pool`, where "pooler"
    is the encoder's own. All parameters from there are in `pretrained`, which has a learning rate of its own.
    """

    PRETRAINED = "pretrained."  # see `registry`

    def __init__(self, *, width: int, encoder: str, tuned_layers: int, pool: str):
        from transformers import AutoModel  # takes seconds, and only this needs it

        from merlib.pretrained.encoders import filled, located

        super().__init__()
        model = filled(AutoModel, located(encoder), unused=() if pool == "pooler" else ("pooler.*",))
        layers, hidden = getattr(getattr(model, "encoder", None), "layer", ()), model.config.hidden_size
        if not 0 < tuned_layers <= len(layers) or width != hidden or (pool == "pooler" and model.pooler is None):
            raise RequestError(
                f"text encoder {encoder}: {tuned_layers} of {len(layers)} layers, states of {hidden}, stored ones of "
                f"{width}. Choose an encoder built as BERT (with a pooler for the pool 'pooler'), and store the states "
                "below its tuned layers"
            )
        model.encoder.layer = layers[-tuned_layers:]
        pooled = Pool(pool=pool, dense=lambda: model.pooler.dense)
        self.width, self.pretrained = width, nn.ModuleDict({"encoder": model.encoder, "pool": pooled})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min)
        states = self.pretrained["encoder"](x, attention_mask=bias[:, None, None]).last_hidden_state  # b t -> b 1 1 t
        return self.pretrained["pool"](states, mask)


class ConvolvedFrames(nn.Module):
    """Square grey frames, one a step: three convolutions of stride 2, then a mean. b t d -> b t h."""

    def __init__(self, *, width: int, dim: int):
        super().__init__()
        self.size = math.isqrt(width)
        if self.size**2 != width:
            raise RequestError(f"frame encoder 'cnn' reads square frames, and {width} values make none: choose another")
        channels = (1, 16, 32, dim)
        convolve = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)]
        self.convolve = nn.Sequential(*(m for layer in convolve for m in (layer, nn.ReLU())))

    def forward(self, x: Tensor) -> Tensor:
        frames = rearrange(x, "b t (i j) -> (b t) 1 i j", i=self.size)
        return reduce(self.convolve(frames), "(b t) h i j -> b t h", "mean", b=len(x))


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


FRAMES = {  # of every step: all its values as they are, b t d -> b t d; or an encoder, b t d -> b t h
    "flatten": lambda width: nn.Identity(),
    "linear": lambda width, dim: nn.Linear(width, dim),
    "cnn": ConvolvedFrames,
}
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
        self.extend = None if pack else Extend(steps=steps, repeat=repeat)
        read = width if frame_encoder["name"] == "flatten" else dim
        self.last = registry.bind(LastState, lstm, what="model.encoders.lstm", width=read, dim=dim)
        self.width = dim

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.frames(x)
        return self.last(x, mask) if self.extend is None else self.last(*self.extend(x, mask))


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


def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
    """Leaf -> the files of the text encoder that a network of this section starts from."""
    encoder = section["encoders"]["text"]["encoder"]
    if "text" not in modalities or encoder == STORED:
        return {}
    from merlib.pretrained.encoders import pretrained_files  # takes seconds, and only this needs it

    return {"encoders.text.encoder": pretrained_files(encoder)}


def check_states(section: dict[str, Any], passports: dict[str, Passport]) -> None:
    """DeclarationError where stored text is not the states that the tuned layers of the network's own encoder read."""
    text = section["encoders"]["text"]
    if "text" not in passports or text["encoder"] == STORED:
        return
    stored, tuned = passports["text"].layers_above, text["tuned_layers"]
    if stored != tuned:
        raise DeclarationError(
            f"text encoder {text['encoder']} learns its last {tuned} layers, but the stored states of text have "
            f"{stored} yet to pass: make them with `merlib data text ... --pool tokens --layer N`, N being all layers "
            f"but {tuned}"
        )
    from merlib.pretrained.encoders import sha256_of  # takes seconds, and only this needs it

    if passports["text"].weights_sha256 != sha256_of(text["encoder"]):
        what = f"the stored states of text are not of the encoder {text['encoder']}, whose last {tuned} layers learn"
        raise DeclarationError(f"{what}, but {passports['text'].summary()}: make them with this encoder")
