"""A network on a split: forward passes in buckets of items of similar length, and the predictions of a whole split.

Of several processes (`distributed`), each forwards its share.
"""

import os
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from merlib.batches import Batch, Split
from merlib.distributed import ONE, Processes, lengthened

BUCKET = {"cpu": 16, "cuda": 256}  # dialogues that pass through the network at once
UTTERANCES = 128  # that do; on a CPU, of sequences and for networks of WIDE weights or more, only FEW, because its
# caches hold those and little is padded; otherwise calls cost more (benchmarks/utterance_step.py)
FEW, WIDE = (
    8,
    300_000,
)
PLACE = "place in the split"  # no output of a network has this name
RECOMPUTE = os.environ.get("MERLIB_RECOMPUTE", "1") != "0"  # 0: faster, more memory, the same numbers


def bucket_of(model: nn.Module, split: Split) -> int:
    """How many items pass through the network at once, where nothing demands whole batches."""
    device = split.label.device.type
    if split.unit == "dialogues":
        return BUCKET[device]
    wide = sum(p.numel() for p in model.parameters()) >= WIDE
    sequences = int(split.lengths.max()) > len(split.features)
    return FEW if device == "cpu" and sequences and wide else UTTERANCES


def forward_packed(
    model: nn.Module, split: Split, items: Tensor, *, bucket: int, processes: Processes = ONE
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and targets of the utterances of some items, u ...: they go in buckets, because padding is invisible.

    Of several buckets of dialogues, the backward pass computes each one's activations anew (unless MERLIB_RECOMPUTE=0),
    so that memory holds only one of them. Of several processes, each forwards its share of every bucket and returns its
    own outputs.
    """
    found, bucket = [], bucket * processes.count
    several = split.unit == "dialogues" and len(items) > bucket
    anew = RECOMPUTE and several and not _own_dropout(model, split.label.device.type)
    forward = partial(recompute, model, use_reentrant=False) if anew else model
    for batch in split.buckets(items, bucket):
        share = _share(batch, processes)
        outputs, target = forward(share), {name: share[name] for name in split.target}
        pair = (split.real(outputs, share), split.real(target, share))
        found.append(tuple({k: v[:0] for k, v in part.items()} for part in pair) if processes.idle else pair)
    if len(found) == 1:
        return found[0]
    outputs, target = zip(*found, strict=True)
    return tuple({name: stacked([part[name] for part in parts]) for name in parts[0]} for parts in (outputs, target))


def _own_dropout(model: nn.Module, device: str) -> bool:
    """Whether cuDNN draws masks between recurrent layers: it keeps their state, so a second forward has others."""
    recurrent = (part for part in model.modules() if isinstance(part, nn.RNNBase))
    return device == "cuda" and any(part.num_layers > 1 and part.dropout for part in recurrent)


def _share(batch: Batch, processes: Processes) -> Batch:
    """This process's rows of a batch, padded as the whole batch is."""
    if processes.count == 1:
        return batch
    rows = processes.rows(len(next(iter(batch.values()))))
    return {name: value[rows] for name, value in batch.items()}


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, *, batch: int | None = None, precision: str = "float32",
    loss: nn.Module | None = None, processes: Processes = ONE,
) -> dict[str, Tensor]:  # fmt: skip
    """Outputs of a whole split in the order of its ids (u ...), float32, on its device.

    `batch` items at once, in their order, for networks that see padding; otherwise items of similar length together.
    With a loss, its value is there too (`loss`, a scalar): of the whole split by dialogue, the mean over batches by
    utterance, where outputs that are sequences are not kept. Of several processes, each predicts its share, and all
    return the whole.
    """
    model.eval()
    device = split.label.device.type
    by_dialogue = split.unit == "dialogues"
    parts, costs = [], []
    of_batches = loss is not None and not by_dialogue
    size = batch or (UTTERANCES if of_batches else min(bucket_of(model, split), -(-len(split) // processes.count)))
    pieces = (torch.arange(len(split)) if batch else split.by_length).split(size)
    for number in processes.rows(len(pieces)):
        items = pieces[number]
        padded = split.batch(items)
        with autocast(device, precision):
            outputs = floats(split.real(model(padded), padded))
        if of_batches:
            target = {name: padded[name] for name in split.target}
            costs.append({"loss": (loss(outputs, target)["loss"] * len(items) / len(split)).reshape(1)})
        kept = {name: value for name, value in outputs.items() if by_dialogue or value.ndim <= 2}
        parts.append(kept | {PLACE: split.places(items)})
    found = _joined(parts, processes)
    order = found.pop(PLACE).argsort()
    found = {name: value[order] for name, value in found.items()}
    if loss is not None:
        cost = loss(found, split.target) if by_dialogue else _joined(costs, processes)
        found["loss"] = cost["loss"].sum()
    return found


def stacked(parts: list[Tensor]) -> Tensor:
    """One after the other; sequences and their masks get zeros up to the longest of them."""
    size = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    return torch.cat([lengthened(part, size) for part in parts])


def _joined(parts: list[dict[str, Tensor]], processes: Processes) -> dict[str, Tensor]:
    """The rows of all parts, one after the other, of all processes."""
    end = 0 if processes.idle else None
    return processes.gather({name: torch.cat([part[name] for part in parts])[:end] for name in parts[0]})


def floats(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in outputs.items()}


def autocast(device: str, precision: str) -> torch.autocast:
    """The forward pass in "bf16" (weights, losses and the optimiser stay float32) or in "float32"."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
