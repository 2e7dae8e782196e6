"""Training: fit on train, select on val. Test data enters only through the observer, which cannot influence the fit.

Every epoch seeds itself from (seed, epoch), so a run resumed from a checkpoint needs no generator state and ends with the same
bits as one that was never stopped.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute
from tqdm.auto import tqdm

from merlib import metrics
from merlib.batches import Dialogues
from merlib.corpora.files import atomic

BUCKET = {"cpu": 16, "cuda": 256}  # dialogues of similar length that pass through the network at once
RECOMPUTE = os.environ.get("MERLIB_RECOMPUTE", "1") != "0"  # 0: a fifth faster, twice the memory, the same numbers


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


class Observer(Protocol):
    """Sees the network after every epoch. Its `state` (plain containers and tensors) travels with the checkpoint."""

    state: dict[str, Any]

    def __call__(self, epoch: int, model: nn.Module) -> dict[str, float]: ...


@dataclass
class Fit:
    """What a fit leaves: one dict an epoch, the selected epoch (from 0) and that epoch's weights."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = -math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


def make_deterministic() -> None:
    """Same seed, same bits, on one machine: deterministic kernels only, plain attention on GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # every array is written before it is read
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def forward_packed(
    model: nn.Module, split: Dialogues, dialogues: Tensor, *, bucket: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Outputs and labels of the real utterances of some dialogues, u ...: in buckets, because padding is invisible.

    Of several buckets, the backward pass computes each one's activations anew (unless MERLIB_RECOMPUTE=0), so that
    memory holds only one of them.
    """
    outputs, labels = [], []
    forward = partial(recompute, model, use_reentrant=False) if RECOMPUTE and len(dialogues) > bucket else model
    for batch in split.buckets(dialogues, bucket):
        mask = batch["mask"]
        outputs.append({name: value[mask] for name, value in forward(batch).items()})  # b n ... -> u ...
        labels.append(batch["label"][mask])
    return {name: torch.cat([o[name] for o in outputs]) for name in outputs[0]}, torch.cat(labels)


@torch.no_grad()
def predict(
    model: nn.Module, split: Dialogues, *, batch: int | None = None, precision: str = "float32"
) -> dict[str, Tensor]:
    """Outputs of a whole split in the order of its ids (u ...), float32, on its device; `batch` dialogues at once."""
    model.eval()
    device = split.label.device.type
    parts, rows = [], []
    for part in torch.arange(len(split)).split(batch or BUCKET[device]):
        with autocast(device, precision):
            batch = split.batch(part)
            parts.append({name: value[batch["mask"]].float() for name, value in model(batch).items()})
        index = split.rows[part.to(split.rows.device)]
        rows.append(index[index >= 0])
    order = torch.cat(rows).argsort()
    return {name: torch.cat([p[name] for p in parts])[order] for name in parts[0]}


def autocast(device: str, precision: str) -> torch.autocast:
    """The forward pass in "bf16" (weights, losses and the optimiser stay float32) or in "float32"."""
    if precision not in ("float32", "bf16"):
        raise ValueError(f"train.precision {precision!r}: there are float32 and bf16")
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def fit(
    model: nn.Module, loss: nn.Module, train: Dialogues, val: Dialogues, *, recipe: dict[str, Any], labels: tuple[str, ...],
    seed: int, observer: Observer | None = None, checkpoint: Path | None = None, checkpoint_seconds: float = 60.0,
    whole_batches: bool = False, progress: bool = True, label: str = "fit",
) -> Fit:  # fmt: skip
    """Train by `recipe` (the section `train` of a recipe) and select the epoch with the best weighted F1 on val.

    checkpoint: a file to resume from and to save to, at most every `checkpoint_seconds`.
    whole_batches: never bucket a batch (networks that see padding, as published).
    Raises TrainingError on a loss that is not finite or memory that does not suffice.
    """
    device = train.label.device.type
    bucket = len(train) if whole_batches else BUCKET[device]
    optimizer, scheduler = _optimizer(model, recipe)
    done, start = Fit(), 0
    if checkpoint is not None and checkpoint.exists():
        done, start = _resume(checkpoint, model, optimizer, scheduler, observer, device)
    saved = began = time.monotonic()
    before = done.seconds
    bar = tqdm(
        range(start, recipe["epochs"]),
        initial=start,
        total=recipe["epochs"],
        desc=label,
        disable=not progress,
        leave=False,
    )
    for epoch in bar:
        if epoch - done.best_epoch > recipe["patience"]:
            break
        row = _epoch(model, loss, train, optimizer, recipe, seed=seed, epoch=epoch, bucket=bucket)
        row |= _validate(model, loss, val, labels, recipe, batch=recipe["batch"] if whole_batches else None)
        scheduler.step(row["val/loss"]) if recipe["schedule"] == "plateau" else scheduler.step()
        if row["val/weighted_f1"] > done.best_score:
            done.best_epoch, done.best_score = epoch, row["val/weighted_f1"]
            done.best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        if observer is not None:
            row |= observer(epoch, model)
        done.history.append(row)
        done.seconds = before + time.monotonic() - began
        bar.set_postfix(
            {"val": f"{row['val/weighted_f1']:.3f}", "best": f"{done.best_score:.3f} @{done.best_epoch + 1}"}
        )
        if checkpoint is not None and time.monotonic() - saved >= checkpoint_seconds:
            _save(checkpoint, epoch + 1, done, model, optimizer, scheduler, observer)
            saved = time.monotonic()
    return done


def _epoch(model, loss, train, optimizer, recipe, *, seed: int, epoch: int, bucket: int) -> dict[str, float]:
    model.train()
    torch.manual_seed(1_000_003 * seed + epoch)
    totals: dict[str, Tensor] = {}
    parts = torch.randperm(len(train)).split(recipe["batch"])
    for step, dialogues in enumerate(parts):
        try:
            optimizer.zero_grad(set_to_none=True)
            named = _gradients(model, loss, train, dialogues, precision=recipe["precision"], bucket=bucket)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory at epoch {epoch + 1}, step {step + 1}: lower train.batch ({recipe['batch']})"
            ) from error
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe["clip"])
        if not torch.isfinite(norm):
            values = json.dumps({k: float(v) for k, v in named.items()})
            raise TrainingError(
                f"epoch {epoch + 1}, step {step + 1}: a gradient is not finite (losses {values}): lower train.lr or train.clip"
            )
        optimizer.step()
        for name, value in (named | {"grad_norm": norm}).items():
            totals[name] = totals.get(name, 0.0) + value / len(parts)
    return {f"train/{name}": float(value) for name, value in totals.items()} | {"lr": optimizer.param_groups[0]["lr"]}


def _gradients(model, loss, train, dialogues: Tensor, *, precision: str, bucket: int) -> dict[str, Tensor]:
    """One backward pass; the named losses, detached, so that nothing of the graph outlives it."""
    with autocast(train.label.device.type, precision):
        outputs, label = forward_packed(model, train, dialogues, bucket=bucket)
    named = loss({k: v.float() for k, v in outputs.items()}, label)
    named["loss"].backward()
    return {name: value.detach() for name, value in named.items()}


def _validate(model, loss, val, labels, recipe, *, batch: int | None) -> dict[str, float]:
    outputs = predict(model, val, batch=batch, precision=recipe["precision"])
    y_pred = outputs["logits"].argmax(-1).cpu().numpy()
    found = metrics.scores(y_true=val.label.cpu().numpy(), y_pred=y_pred, labels=labels)
    with torch.no_grad():
        value = float(loss(outputs, val.label)["loss"])
    return {"val/loss": value, "val/accuracy": found["accuracy"], "val/weighted_f1": found["weighted_f1"]}


def _optimizer(model: nn.Module, recipe: dict[str, Any]):
    if recipe["optimizer"] != "adam":
        raise ValueError(f"train.optimizer {recipe['optimizer']!r}: there is 'adam'")
    betas = (recipe["beta1"], recipe["beta2"])
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe["lr"], betas=betas, weight_decay=recipe["weight_decay"])
    factor, every = recipe["schedule_factor"], recipe["schedule_every"]
    schedules: dict[str, Callable] = {
        "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=every),
        "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=factor),
    }
    if recipe["schedule"] not in schedules:
        raise ValueError(f"train.schedule {recipe['schedule']!r}: there are {sorted(schedules)}")
    return optimizer, schedules[recipe["schedule"]]()


def _save(path: Path, epoch: int, done: Fit, model, optimizer, scheduler, observer) -> None:
    state = {
        "epoch": epoch, "fit": vars(done), "model": model.state_dict(), "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(), "observer": observer.state if observer else {},
    }  # fmt: skip
    with atomic(path) as part:
        torch.save(state, part)


def _resume(path: Path, model, optimizer, scheduler, observer, device: str) -> tuple[Fit, int]:
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    if observer is not None:
        observer.state.update(state["observer"])
    return Fit(**state["fit"]), state["epoch"]
