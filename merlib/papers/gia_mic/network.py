"""GIA-MIC: gated attention for what each modality has of its own, generators for what all share (Sec. 2, Fig. 1).

Shapes: b utterances, m modalities, t steps of a modality (padded), l steps of all modalities of an utterance, one after
the other, d = dim, c classes. Masks are True on real steps. Every reading of the paper is a keyword; what is chosen and
why stands in the paper's notes. The GIA blocks are in gia.py, the MIG blocks in mig.py.
"""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merlib.errors import RequestError, one_of
from merlib.layers.basics import Unchanged
from merlib.layers.ragged import Joined, masked_mean
from merlib.papers.gia_mic.generators import Mig
from merlib.papers.gia_mic.interactive_attention import Msr
from merlib.pretrained.encoders import AudioEncoder, pretrained_files

VERSION = 1

ORDER = ("visual", "audio", "text")  # of the concatenations in eqs. (7), (8) and (12)
Sequences = dict[str, Tensor]


class Extractors(nn.Module):
    """Sec. 2.2: H_V, H_S and H_T of eq. (1), by a Transformer encoder on the features of pretrained encoders.

    A linear map comes first where a modality's width is not d. With an audio encoder that is not "vectors", the batch's
    audio is waveform samples (b t 1), which that encoder turns into features.
    """

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], dim: int, layers: int, heads: int,
        ff: int, shared: bool, dropout: float, audio: dict[str, Any],
    ):  # fmt: skip
        super().__init__()
        if dim % heads:
            raise RequestError(f"width {dim} is not a multiple of {heads} heads: change dim or extractor_heads")
        names = [name for name in ORDER if name in dims]
        learns = "audio" in dims and audio["encoder"] != "vectors"
        if learns and dims["audio"] != 1:
            raise RequestError(
                f"{audio['encoder']} reads samples, 1 value a step; found {dims['audio']}: take readings.speech = "
                "fine_tune"
            )
        self.encode = nn.ModuleDict({"audio": AudioEncoder(**audio, learns=True)} if learns else {})
        widths = dims | {name: encode.width for name, encode in self.encode.items()}
        self.steps = steps | {name: encode.frames(steps[name]) for name, encode in self.encode.items()}
        self.project = nn.ModuleDict(
            {m: nn.Linear(widths[m], dim) if widths[m] != dim else nn.Identity() for m in names}
        )
        layer = partial(nn.TransformerEncoderLayer, dim, heads, ff, dropout, batch_first=True)
        build = partial(nn.TransformerEncoder, num_layers=layers, enable_nested_tensor=False)
        one = build(layer()) if shared else None
        self.extract = nn.ModuleDict({m: one if shared else build(layer()) for m in names})

    def forward(self, batch: Sequences) -> tuple[Sequences, Sequences]:
        """b t d for each modality, and their masks, b t."""
        x, masks = {}, {}
        for name, project in self.project.items():
            value, mask = batch[name], batch[f"{name}_mask"]
            if name in self.encode:
                value, mask = self.encode[name](value.squeeze(-1), mask)
            x[name] = self.extract[name](project(value), src_key_padding_mask=~mask)
            masks[name] = mask
        return x, masks


class Mir(nn.Module):
    """Modality-invariant representations, eqs. (8)-(12): a generator for each modality, all with one query."""

    def __init__(self, *, names: Sequence[str], dim: int, heads: int, mask_input: str, mig: str, refine: str):
        super().__init__()
        of_one = partial(Mig, dim=dim, heads=heads, mask_input=mask_input, mig=mig, refine=refine)
        self.mig = nn.ModuleDict({name: of_one() for name in names})

    def forward(self, x: Sequences, specific: Sequences, mask: Sequences, joined: Joined) -> list[Tensor]:
        """x: H_M, specific: H_M^(MSR), b t d each. b l d for each modality."""
        joint = joined(list(x.values()))  # eq. (8)
        return [mig(joint, joined.mask, specific[name], mask[name]) for name, mig in self.mig.items()]


class NoMir(nn.Module):
    """Table 2, "w/o MIR": no generators, and nothing for the constraint to act on."""

    def forward(self, x: Sequences, specific: Sequences, mask: Sequences, joined: Joined) -> list[Tensor]:
        return []


# Eq. (13). The mean of eq. (17) over blocks of equal length is the mean of their means, so that no block is copied.
JOINS = {
    "concat": lambda specific, invariant: torch.stack([specific, *invariant]).mean(0),
    "sum": lambda specific, invariant: specific + torch.stack(invariant).mean(0) if invariant else specific,
}


def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
    """Leaf -> the files of the speech encoder that a network of this section fine-tunes."""
    if "audio" not in modalities or section["audio_encoder"] == "vectors":
        return {}
    return {"audio_encoder": pretrained_files(section["audio_encoder"])}


class GiaMic(nn.Module):
    """The network. `forward` returns `logits` b c and `embedding` b d (the average of eq. 17).

    With generators also what the constraint reads, `invariant` b m l d, zero on padding, and `invariant_mask` b 1 l;
    and their averages `invariant_embedding` b (m d), in the order of `ORDER`. Two or three modalities.

    Table 2: msr "none", mir "none". pool_padding: the averages of eq. (17) count zeros up to the longest sequences of
    the corpus, as if every utterance were padded so far; so even then batch mates are not seen.
    """

    starting_weights = staticmethod(starting_weights)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, dim: int, dropout: float,
        extractor_layers: int, extractor_heads: int, extractor_ff: int, extractor_shared: bool,
        msr: str, mir: str, heads: int, projections: str, gate_pool: str, gate_bias: str,
        mask_input: str, mig: str, refine: str, join: str, pool_padding: bool,
        audio_encoder: str, audio_checkpointing: bool,
    ):  # fmt: skip
        super().__init__()
        if len(dims) < 2:
            raise RequestError(
                f"GIA-MIC relates modalities to each other; found only {list(dims)}: take concat_pool, or bring another"
            )
        if dim % heads:
            raise RequestError(f"width {dim} is not a multiple of {heads} heads: change dim or heads")
        audio = {"encoder": audio_encoder, "checkpointing": audio_checkpointing}
        self.extractors = Extractors(
            dims=dims, steps=steps, dim=dim, layers=extractor_layers, heads=extractor_heads,
            ff=extractor_ff, shared=extractor_shared, dropout=dropout, audio=audio,
        )  # fmt: skip
        names, gate = list(self.extractors.project), {"pool": gate_pool, "bias": gate_bias}
        specific = partial(Msr, names=names, dim=dim, heads=heads, projections=projections, gate=gate)
        invariant = partial(Mir, names=names, dim=dim, heads=heads, mask_input=mask_input, mig=mig, refine=refine)
        self.specific = one_of({"gia": specific, "none": Unchanged}, msr, "option of msr")()  # Table 2, "w/o MSR"
        self.invariant = one_of({"mig": invariant, "none": NoMir}, mir, "option of mir")()
        self.join = one_of(JOINS, join, "option of join")
        self.longest = sum(self.extractors.steps[name] for name in names) if pool_padding else None
        self.head = nn.Linear(dim, classes)  # W_c and b_c of eq. (17)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, mask = self.extractors(batch)  # b t d, b t
        joined = Joined(list(mask.values()))
        specific = self.specific(x, mask)
        invariant = self.invariant(x, specific, mask, joined)  # b l d each
        blocks = [joined(list(specific.values())), *invariant]
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

    Any modalities. `forward` returns `logits` b c and `embedding` b (m d).
    """

    starting_weights = staticmethod(starting_weights)

    def __init__(
        self, *, dims: dict[str, int], steps: dict[str, int], classes: int, dim: int, dropout: float,
        extractor_layers: int, extractor_heads: int, extractor_ff: int, extractor_shared: bool, pool_padding: bool,
        audio_encoder: str, audio_checkpointing: bool,
    ):  # fmt: skip
        super().__init__()
        audio = {"encoder": audio_encoder, "checkpointing": audio_checkpointing}
        self.extractors = Extractors(
            dims=dims, steps=steps, dim=dim, layers=extractor_layers, heads=extractor_heads,
            ff=extractor_ff, shared=extractor_shared, dropout=dropout, audio=audio,
        )  # fmt: skip
        self.longest = self.extractors.steps if pool_padding else {}
        self.head = nn.Linear(dim * len(self.extractors.project), classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, mask = self.extractors(batch)
        z = torch.cat([masked_mean(x[name], mask[name], self.longest.get(name)) for name in x], dim=-1)  # b (m d)
        return {"logits": self.head(z), "embedding": z}
