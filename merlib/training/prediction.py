"""A network on a split: forward passes in buckets of items of similar length, and the outputs of a whole split."""

import os
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from merlib.data.batches import Split

DIALOGUES = {"cpu": 16, "cuda": 256}  # dialogues per forward pass
UTTERANCES = 128  # utterances per forward pass; on a CPU, sequence models with at least WIDE parameters use FEW: the
FEW = 8  # caches hold those and little is padded, while for others calls cost more (benchmarks/utterance_step.py)
WIDE = 300_000
PLACE = "place in the split"  # no output of a network has this name
RECOMPUTE = os.environ.get("MERLIB_RECOMPUTE", "1") != "0"  # 0: faster, more memory, the same numbers


def bucket_of(model: nn.Module, split: Split) -> int:
    """How many items pass through the network at once, where nothing demands whole batches."""
    device = split.label.device.type
    if split.unit == "dialogues":
        return DIALOGUES[device]
    wide = sum(p.numel() for p in model.parameters()) >= WIDE
    sequences = int(split.lengths.max()) > len(split.features)
    return FEW if device == "cpu" and sequences and wide else UTTERANCES


def forward_packed(
    model: nn.Module, split: Split, items: Tensor, *, bucket: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and targets of the utterances of some items, u ...: they go in buckets, because padding is invisible.

    Of several buckets of dialogues, the backward pass computes each one's activations anew (unless MERLIB_RECOMPUTE=0),
    so that memory holds only one of them.
    """
    several = split.unit == "dialogues" and len(items) > bucket
    anew = RECOMPUTE and several and not _draws_dropout_in_cudnn(model, split.label.device.type)
    forward = partial(recompute, model, use_reentrant=False) if anew else model
    pairs = []
    for batch in split.buckets(items, bucket):
        outputs, target = forward(batch), {name: batch[name] for name in split.target}
        pairs.append((split.real(outputs, batch), split.real(target, batch)))
    if len(pairs) == 1:
        return pairs[0]
    outputs, targets = zip(*pairs, strict=True)
    return _stacked(outputs), _stacked(targets)


def _draws_dropout_in_cudnn(model: nn.Module, device: str) -> bool:
    """Whether cuDNN draws masks between recurrent layers: it keeps their state, so a second forward has others."""
    recurrent = (part for part in model.modules() if isinstance(part, nn.RNNBase))
    return device == "cuda" and any(part.num_layers > 1 and part.dropout for part in recurrent)


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, *, batch: int | None = None, precision: str = "float32",
    loss: nn.Module | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Outputs of a whole split in the order of its ids (u ...), float32, on its device.

    `batch` items at once, in their order, for networks that see padding; otherwise items of similar length together.
    With a loss, its value is there too (`loss`, a scalar): of the whole split by dialogue, the mean over batches by
    utterance, where outputs that are sequences are not kept.
    """
    model.eval()
    by_dialogue = split.unit == "dialogues"
    by_batch = loss is not None and not by_dialogue
    size = batch or (UTTERANCES if by_batch else min(bucket_of(model, split), len(split)))
    parts, costs = [], []
    for items in (torch.arange(len(split)) if batch else split.by_length).split(size):
        padded = split.batch(items)
        with autocast(split.label.device.type, precision):
            outputs = floats(split.real(model(padded), padded))
        if by_batch:
            target = {name: padded[name] for name in split.target}
            costs.append(loss(outputs, target)["loss"] * len(items) / len(split))
        lasting = {name: value for name, value in outputs.items() if by_dialogue or value.ndim <= 2}
        parts.append(lasting | {PLACE: split.places(items)})
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = joined.pop(PLACE).argsort()
    joined = {name: value[order] for name, value in joined.items()}
    if loss is not None:
        joined["loss"] = loss(joined, split.target)["loss"] if by_dialogue else torch.stack(costs).sum()
    return joined


def _stacked(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The rows of all parts, one after the other; sequences and their masks get zeros up to the longest of them."""
    return {name: stacked([part[name] for part in parts]) for name in parts[0]}


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Rows of all parts, one after the other, with zeros behind what is shorter along any other axis."""
    longest = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    padding = [
        [n for have, want in zip(part.shape[:0:-1], longest[:0:-1], strict=True) for n in (0, want - have)]
        for part in parts
    ]
    return torch.cat([F.pad(part, by) if any(by) else part for part, by in zip(parts, padding, strict=True)])


def floats(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, with numbers in float32."""
    return {name: value.float() if value.is_floating_point() else value for name, value in outputs.items()}


def autocast(device: str, precision: str) -> torch.autocast:
    """The forward pass in "bf16" (weights, losses and the optimiser stay float32) or in "float32"."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
