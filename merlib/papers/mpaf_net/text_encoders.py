"""The text encoders of MPAF-Net (Sec. 2.2): BERT's [CLS] from stored states, or from the last layers of an own encoder.

Shapes: b utterances, t tokens (padded), h the width of a state. Masks (b t) are True on real tokens, which come first.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merlib.errors import DeclarationError, RequestError, one_of
from merlib.layers.ragged import masked_mean

STORED = "vectors"  # the text encoder of stored states that no layer of the network encodes further


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
    """The mean of all tokens, for arrays without [CLS] and encoders that were trained by the mean: b t h -> b h."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(states, mask)


def pooling(pool: str, dense: Callable[[], nn.Linear]) -> nn.Module:
    """How the states of an utterance's tokens become one vector. dense: makes the linear map of "pooler"."""
    pools = {"hidden": First, "pooler": lambda: Pooler(dense()), "mean": Mean}
    return one_of(pools, pool, "option of model.encoders.text.pool")()


class StoredText(nn.Module):
    """Text that is encoded already. `pool`: "hidden" (First), "pooler" (which starts at random here) or "mean"."""

    def __init__(self, *, width: int, pool: str):
        super().__init__()
        self.width, self.pool = width, pooling(pool, lambda: nn.Linear(width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.pool(x, mask)


class TunedText(nn.Module):
    """The last layers of a Hugging Face encoder, which learn, on the stored states of the layer below them.

    The layers below are frozen, so their states are features: computed once, without dropout, they give what the whole
    encoder would give. encoder: a folder or hub name that AutoModel can load. pool: as of `StoredText`, where "pooler"
    is the encoder's own. All parameters from there are in `pretrained`, which has a learning rate of its own.
    """

    PRETRAINED = "pretrained."  # see `registry`

    def __init__(self, *, width: int, encoder: str, tuned_layers: int, pool: str):
        from transformers import AutoModel  # takes seconds, and only this needs it

        super().__init__()
        model = AutoModel.from_pretrained(encoder, dtype=torch.float32)
        layers, hidden = getattr(getattr(model, "encoder", None), "layer", ()), model.config.hidden_size
        if not 0 < tuned_layers <= len(layers) or width != hidden or (pool == "pooler" and model.pooler is None):
            raise RequestError(
                f"text encoder {encoder}: {tuned_layers} of {len(layers)} layers, states of {hidden}, stored ones of "
                f"{width}. Choose an encoder built as BERT (with a pooler for the pool 'pooler'), and store the states "
                "below its tuned layers"
            )
        model.encoder.layer = layers[-tuned_layers:]
        pooled = pooling(pool, lambda: model.pooler.dense)
        self.width, self.pretrained = width, nn.ModuleDict({"encoder": model.encoder, "pool": pooled})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min)
        states = self.pretrained["encoder"](x, attention_mask=bias[:, None, None]).last_hidden_state  # b t -> b 1 1 t
        return self.pretrained["pool"](states, mask)


def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
    """Leaf -> the files of the text encoder that a network of this section starts from."""
    encoder = section["encoders"]["text"]["encoder"]
    if "text" not in modalities or encoder == STORED:
        return {}
    from merlib.pretrained.encoders import pretrained_files  # takes seconds, and only this needs it

    return {"encoders.text.encoder": pretrained_files(encoder)}


def check_states(section: dict[str, Any], layers_above: dict[str, int]) -> None:
    """DeclarationError where stored text is not the states that the tuned layers of the network's own encoder read."""
    text = section["encoders"]["text"]
    if "text" not in layers_above or text["encoder"] == STORED:
        return
    stored, tuned = layers_above["text"], text["tuned_layers"]
    if stored != tuned:
        raise DeclarationError(
            f"text encoder {text['encoder']} learns its last {tuned} layers, but the stored states of text have "
            f"{stored} yet to pass: make them with `merlib data text ... --pool tokens --layer N`, N being all layers "
            f"but {tuned}"
        )
