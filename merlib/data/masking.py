"""Noise at test time (ATTSF-Net Sec. V-B, Table V): a share of one modality is replaced by random values."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from merlib.data.batches import Utterances, as_float32
from merlib.data.inputs import moments
from merlib.errors import one_of

VERSION = 1  # raise it when a change here alters masked scores

DRAWS: dict[str, Callable] = {  # of mean 0 and standard deviation 1
    "normal": torch.randn,
    "uniform": lambda shape, generator: math.sqrt(12) * (torch.rand(shape, generator=generator) - 0.5),
}


def masked(
    split: Utterances, train: Utterances, *, modality: str, percent: float, unit: str, noise: str, seed: int
) -> Utterances:
    """The split with noise in place of `percent` of a modality's values or steps (`unit`: values or steps).

    The noise is normal or uniform, has each feature's mean and standard deviation over the training steps, and is the
    same for a seed on any device.
    """
    one_of(("values", "steps"), unit, "protocol.mask_unit")
    draw = one_of(DRAWS, noise, "protocol.mask_noise")
    values, steps = one_of(split.features, modality, "protocol.mask_modality"), split.steps[modality]
    mean, std = moments(values, train.rows(modality))
    original = as_float32(values[split.rows(modality)])
    generator = torch.Generator().manual_seed(seed)
    random = draw(original.shape, generator=generator).to(original.device) * std + mean
    shape = original.shape if unit == "values" else (len(original), 1)
    replaced = torch.rand(shape, generator=generator) < percent / 100
    return replace(
        split,
        features=split.features | {modality: random.where(replaced.to(original.device), original)},
        starts=split.starts | {modality: steps.cumsum(0) - steps},
    )
