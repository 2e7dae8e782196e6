"""Noise at test time (ATTSF-Net Sec. V-B, Table V): a share of one modality is replaced by random values."""

from dataclasses import replace

import torch

from merlib.batches import Utterances, moments


def masked(
    split: Utterances, train: Utterances, *, modality: str, percent: float, unit: str, seed: int
) -> Utterances:
    """The split with `percent` of a modality's values, or of its whole steps (`unit`: values or steps), replaced by noise.

    The noise is normal, with each feature's mean and deviation over the training steps, and the same for a seed on any device.
    """
    if unit not in ("values", "steps") or modality not in split.features:
        raise ValueError(f"mask of {unit} of {modality}: there are values and steps, of {', '.join(split.features)}")
    values, steps = split.features[modality], split.steps[modality]
    mean, std = moments(values, train.rows(modality))
    mine = values[split.rows(modality)].float()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(mine.shape, generator=generator).to(mine.device) * std + mean
    shape = mine.shape if unit == "values" else (len(mine), 1)
    chosen = torch.rand(shape, generator=generator) < percent / 100
    return replace(
        split,
        features=split.features | {modality: noise.where(chosen.to(mine.device), mine)},
        starts=split.starts | {modality: steps.cumsum(0) - steps},
    )
