"""Noise at test time (ATTSF-Net Sec. V-B, Table V): a share of one modality is replaced by random values."""

from dataclasses import replace

import torch

from merlib.batches import Utterances


def masked(
    split: Utterances, train: Utterances, *, modality: str, percent: float, unit: str, seed: int
) -> Utterances:
    """The split with `percent` of a modality's values, or of its whole steps (`unit`: values or steps), replaced by noise.

    The noise is normal, with each feature's mean and deviation over the training steps, and the same for a seed on any device.
    """
    if unit not in ("values", "steps") or modality not in split.features:
        raise ValueError(f"mask of {unit} of {modality}: there are values and steps, of {', '.join(split.features)}")
    values = split.features[modality].float().clone()
    seen, mine = values[train.rows(modality)], split.rows(modality)
    generator = torch.Generator().manual_seed(seed)
    shape = (len(mine), values.shape[1])
    noise = torch.randn(shape, generator=generator).to(values.device) * seen.std(0) + seen.mean(0)
    chosen = torch.rand(shape if unit == "values" else (len(mine), 1), generator=generator) < percent / 100
    values[mine] = noise.where(chosen.to(values.device), values[mine])
    return replace(split, features=split.features | {modality: values})
