"""Forward passes of a network over a split, in buckets of items of similar length, and the outputs of a whole split."""

import math
from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from merlib.data.batches import Split
from merlib.errors import TrainingError
from merlib.places import setting

DIALOGUES = {"cpu": 16, "cuda": 256}  # dialogues per forward pass
UTTERANCES = 128  # utterances per forward pass, if a network has no AT_ONCE of its own. On a CPU, sequence models with
FEW = 8  # at least WIDE parameters use FEW, which fit the caches and need little padding (benchmarks/buckets.py)
WIDE = 300_000
POSITION = "position in the split"  # no output of a network has this name
HUGE = "look for huge values in their arrays"
SCORED = ("logits", "logits_binary")  # the outputs that become predictions (`metrics.Judge`)
RECOMPUTE = setting("MERLIB_RECOMPUTE", 1, most=1) > 0  # 0: faster, more memory, the same numbers


def bucket_of(model: nn.Module, split: Split) -> int:
    """How many items pass through the network at once, unless whole batches are needed.

    Fewer need less padding and fit the caches; a network that walks the steps of its sequences pays for every step of
    every call. What is best was measured once (benchmarks/buckets.py) and stands beside the network as AT_ONCE, since
    a choice by the clock would differ from run to run, and float32 sums with it.
    """
    device = split.label.device.type
    if split.unit == "dialogues":
        return DIALOGUES[device]
    wide = sum(p.numel() for p in model.parameters()) >= WIDE
    sequences = int(split.lengths.max()) > len(split.features)
    return getattr(model, "AT_ONCE", FEW if wide else UTTERANCES) if device == "cpu" and sequences else UTTERANCES


def forward_packed(
    model: nn.Module, split: Split, items: Tensor, *, bucket: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and targets of the utterances of some items, u ..., computed in buckets, since padding changes nothing.

    With several buckets of dialogues, the backward pass recomputes the activations of each (unless MERLIB_RECOMPUTE=0),
    so that memory holds those of one bucket only.
    """
    several = split.unit == "dialogues" and len(items) > bucket
    recomputes = RECOMPUTE and several and not _draws_dropout_in_cudnn(model, split.label.device.type)
    forward = partial(recompute, model, use_reentrant=False) if recomputes else model
    pairs = []
    for batch in split.buckets(items, bucket):
        outputs, target = forward(batch), {name: batch[name] for name in split.target}
        pairs.append((split.real(outputs, batch), split.real(target, batch)))
    if len(pairs) == 1:
        return pairs[0]
    by_kind = zip(*pairs, strict=True)
    return tuple({name: stacked([part[name] for part in parts]) for name in parts[0]} for parts in by_kind)


def _draws_dropout_in_cudnn(model: nn.Module, device: str) -> bool:
    """Whether cuDNN draws dropout between recurrent layers: recomputing draws other masks, as its state moves on."""
    recurrent = (part for part in model.modules() if isinstance(part, nn.RNNBase))
    return device == "cuda" and any(part.num_layers > 1 and part.dropout for part in recurrent)


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, *, batch: int | None = None, precision: str = "float32",
    loss: nn.Module | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Outputs of a whole split in the order of its ids (u ...), float32, on its device.

    `batch` items at once, in order, for networks that padding affects; otherwise items of similar length together.
    With a loss, its value is among them (`loss`, a scalar): by dialogue that of the whole split; by utterance the mean
    over batches. By utterance, outputs that are sequences are left out.
    Raises TrainingError where an output that becomes a prediction is not finite: the largest of such is no class.
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
            costs.append(_cost(loss, outputs, target) * len(items) / len(split))
        per_utterance = {name: value for name, value in outputs.items() if by_dialogue or value.ndim <= 2}
        parts.append(per_utterance | {POSITION: split.positions(items)})
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = joined.pop(POSITION).argsort()
    joined = {name: value[order] for name, value in joined.items()}
    if scored := [joined[name] for name in SCORED if name in joined]:
        check_finite(torch.cat(scored, dim=-1), split.ids, HUGE + ", or lower train.lr")
    if loss is not None:
        joined["loss"] = loss(joined, split.target)["loss"] if by_dialogue else torch.stack(costs).sum()
    return joined


def check_finite(outputs: Tensor, ids: Sequence[str], remedy: str = HUGE, what: str = "an output") -> None:
    """Raise TrainingError where an output of one of these utterances (u ...) is not finite. A GPU is asked once."""
    if not (finite := outputs.isfinite()).all():
        wrong = (~finite.reshape(len(ids), -1).all(1)).nonzero().flatten().tolist()
        have = f"{len(wrong)} of {len(ids)} utterances have {what} that is not finite"
        raise TrainingError(f"{have}, first {ids[wrong[0]]}: {remedy}")


def _cost(loss: nn.Module, outputs: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """The loss of a batch. One that decomposes matrices refuses what is not finite, which `predict` tells: NaN then."""
    try:
        return loss(outputs, target)["loss"]
    except torch.linalg.LinAlgError:
        if outputs["logits"].isfinite().all():
            raise
        return outputs["logits"].new_tensor(math.nan)


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts, one after the other, padded with zeros at the end of every other axis."""
    longest = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    padding = [
        [n for have, want in zip(part.shape[:0:-1], longest[:0:-1], strict=True) for n in (0, want - have)]
        for part in parts
    ]
    return torch.cat([F.pad(part, by) if any(by) else part for part, by in zip(parts, padding, strict=True)])


def floats(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same outputs, floating-point ones as float32."""
    return {name: value.float() if value.is_floating_point() else value for name, value in outputs.items()}


def autocast(device: str, precision: str) -> torch.autocast:
    """The forward pass in "bf16" (weights, losses and the optimiser stay float32), where the device has it, or in
    "float32"."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" and has_bf16(device))


@cache
def has_bf16(device: str) -> bool:
    """Whether the device computes in bf16, as GPUs do. A processor without AVX-512 does not: PyTorch then multiplies
    matrices number by number, some sixty times more slowly than in float32, and refuses an LSTM."""
    if device != "cpu":
        return True
    one, four = torch.zeros(1, 1, 1), torch.zeros(4)  # an LSTM of one cell
    weights = [four.unsqueeze(1), four.unsqueeze(1), four, four]
    try:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            torch.lstm(one, (one, one), weights, True, 1, 0.0, False, False, True)
    except RuntimeError:
        return False
    return True
