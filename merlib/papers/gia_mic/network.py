"""GIA-MIC: gated attention for what is specific to each modality, generators for what all share (Sec. 2, Fig. 1).

Shapes: b utterances, m modalities, t steps of a modality (padded), l steps of all modalities of an utterance, one after
the other, d = dim, c classes. Masks are True on real steps.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merlib import registry
from merlib.errors import RequestError, listed, one_of
from merlib.layers.basics import Unchanged
from merlib.layers.ragged import Joined, masked_mean
from merlib.papers.gia_mic.generators import InvariantRepresentations, NoInvariantRepresentations
from merlib.papers.gia_mic.interactive_attention import SpecificRepresentations
from merlib.pretrained.encoders import AudioEncoder, pretrained_files

VERSION = 1

ORDER = ("visual", "audio", "text")  # of the concatenations in eqs. (7), (8) and (12)
Sequences = dict[str, Tensor]


class Extractors(nn.Module):
    """Sec. 2.2: H_V, H_S and H_T of eq. (1), by a Transformer encoder on the features of pretrained encoders.

    A linear map comes first where a modality's width is not d. audio: `encoder` "vectors" reads stored features; any
    other is the name of a speech encoder that learns with the network, and the batch's audio is then waveform samples
    (b t 1). shared: one Transformer encoder for all modalities.
    """

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], dim: int, layers: int, heads: int,
        ff: int, shared: bool, dropout: float, audio: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        if dim % heads:
            raise RequestError(f"width {dim} is no multiple of {heads} heads: change dim or extractors.heads")
        names = [name for name in ORDER if name in dims]
        self.encode = nn.ModuleDict()
        if "audio" in dims and audio["encoder"] != "vectors":
            if dims["audio"] != 1:
                raise RequestError(
                    f"{audio['encoder']} reads samples, 1 value a step; found {dims['audio']}: name an array of "
                    "waveforms as data.audio, or take substitute.stored_speech = true"
                )
            self.encode["audio"] = registry.bind(AudioEncoder, audio, what="model.extractors.audio", learns=True)
        widths = dims | {name: encode.width for name, encode in self.encode.items()}
        self.steps = steps | {name: encode.frames(steps[name]) for name, encode in self.encode.items()}
        linear = {m: nn.Linear(widths[m], dim) if widths[m] != dim else nn.Identity() for m in names}
        self.project = nn.ModuleDict(linear)
        layer = partial(nn.TransformerEncoderLayer, dim, heads, ff, dropout, batch_first=True)
        build = partial(nn.TransformerEncoder, num_layers=layers, enable_nested_tensor=False)
        one = build(layer()) if shared else None
        self.extract = nn.ModuleDict({m: one if shared else build(layer()) for m in names})

    def forward(self, batch: Sequences) -> tuple[Sequences, Sequences]:
        """Returns b t d for each modality, and their masks, b t."""
        x, masks = {}, {}
        for name, project in self.project.items():
            value, mask = batch[name], batch[f"{name}_mask"]
            if name in self.encode:
                value, mask = self.encode[name](value.squeeze(-1), mask)
            x[name] = self.extract[name](project(value), src_key_padding_mask=~mask)
            masks[name] = mask
        return x, masks


SPECIFIC = {"gia": SpecificRepresentations, "none": Unchanged}  # "none": Table 2, "w/o MSR"
INVARIANT = {"mig": InvariantRepresentations, "none": NoInvariantRepresentations}  # "none": Table 2, "w/o MIR"
# Eq. (13). The mean of eq. (17) over blocks of equal length is the mean of their means, so that no block is copied.
JOINS = {
    "concat": lambda specific, invariant: torch.stack([specific, *invariant]).mean(0),
    "sum": lambda specific, invariant: specific + torch.stack(invariant).mean(0) if invariant else specific,
}


def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
    """Leaf -> the files of the speech encoder that a network of this section fine-tunes."""
    encoder = section["extractors"]["audio"]["encoder"]
    if "audio" not in modalities or encoder == "vectors":
        return {}
    return {"extractors.audio.encoder": pretrained_files(encoder)}


class GiaMic(nn.Module):
    """The network. `forward` returns `logits` b c and `embedding` b d (the average of eq. 17).

    With generators it also returns what the constraint reads, `invariant` b m l d, zero on padding, and
    `invariant_mask` b 1 l; and the averages `invariant_embedding` b (m d), in the order of ORDER. It needs two or three
    modalities.

    heads: of the attentions of eqs. (2) and (9). join: eq. (13), of JOINS. pool_padding: the averages of eq. (17) count
    zeros up to the longest sequences of the corpus, as if every utterance were padded to that length.
    """

    starting_weights = staticmethod(starting_weights)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, dim: int, heads: int, dropout: float,
        extractors: dict[str, Any], specific: dict[str, Any], invariant: dict[str, Any], join: str, pool_padding: bool,
    ):  # fmt: skip
        super().__init__()
        if len(dims) < 2:
            raise RequestError(
                f"GIA-MIC relates modalities to each other; found only {listed(dims)}: take concat_pool, or add another"
            )
        if dim % heads:
            raise RequestError(f"width {dim} is no multiple of {heads} heads: change dim or heads of the model")
        given = {"dims": dims, "steps": steps, "dim": dim, "dropout": dropout}
        self.extractors = registry.bind(Extractors, extractors, what="model.extractors", **given)
        sizes = {"names": list(self.extractors.project), "dim": dim, "heads": heads}
        self.specific = registry.part(SPECIFIC, specific, "model.specific", **sizes)
        self.invariant = registry.part(INVARIANT, invariant, "model.invariant", **sizes)
        self.join = one_of(JOINS, join, "option of model.join")
        self.longest = sum(self.extractors.steps[name] for name in sizes["names"]) if pool_padding else None
        self.head = nn.Linear(dim, classes)  # W_c and b_c of eq. (17)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, mask = self.extractors(batch)  # b t d, b t
        joined = Joined(list(mask.values()))
        specific = self.specific(x, mask)
        invariant = self.invariant(x, specific, mask, joined)  # b l d each
        blocks = [joined(list(specific.values())), *invariant]  # eqs. (7) and (12)
        first, *others = (masked_mean(block, joined.mask, self.longest) for block in blocks)
        z = self.join(first, others)  # b d
        outputs = {"logits": self.head(z), "embedding": z}
        if invariant:
            means = [masked_mean(block, joined.mask) for block in invariant]
            outputs |= {"invariant": torch.stack(invariant, dim=1), "invariant_mask": joined.mask.unsqueeze(1)}
            outputs["invariant_embedding"] = torch.cat(means, dim=-1)
        return outputs


class ConcatPool(nn.Module):
    """Table 2, "Baseline" and the single encoders: feature extractors, averages over time joined, one linear map.

    It takes any modalities. `forward` returns `logits` b c and `embedding` b (m d).
    """

    starting_weights = staticmethod(starting_weights)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, dim: int, dropout: float,
        extractors: dict[str, Any], pool_padding: bool,
    ):  # fmt: skip
        super().__init__()
        given = {"dims": dims, "steps": steps, "dim": dim, "dropout": dropout}
        self.extractors = registry.bind(Extractors, extractors, what="model.extractors", **given)
        self.longest = self.extractors.steps if pool_padding else {}
        self.head = nn.Linear(dim * len(self.extractors.project), classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, mask = self.extractors(batch)
        z = torch.cat([masked_mean(x[name], mask[name], self.longest.get(name)) for name in x], dim=-1)  # b (m d)
        return {"logits": self.head(z), "embedding": z}
