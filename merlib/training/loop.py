"""Training: fit on train, select on val. Test data enters only through the observer, which cannot influence the fit.

Every epoch is seeded by (seed, epoch), so that a run resumed from a checkpoint needs no generator state and ends with
the same bits as one that was never interrupted.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from merlib import signals
from merlib.data.batches import Split
from merlib.errors import RequestError, TrainingError, is_out_of_memory
from merlib.files import atomic, is_sound
from merlib.training import optimisation, runaway
from merlib.training.metrics import Judge, headline
from merlib.training.prediction import autocast, bucket_of, floats, forward_packed, predict

TIMED = 3  # steps by which `seconds_of_epoch` judges
VERSION = 1  # raise it when a change of the loop, optimiser, batches or predictions alters numbers


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Raise TrainingError where memory runs out in the block, of the processor or of the GPU."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory at {what}: {remedy}") from error


@dataclass
class Fit:
    """The result of training: one dict per epoch, the selected epoch (from 0) and its weights."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = -math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


def make_deterministic() -> None:
    """The same seed gives the same bits on one machine: deterministic kernels, plain attention on GPU, no TF32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, which imports all of torch.compile
    torch.utils.deterministic.fill_uninitialized_memory = False  # every array is written before it is read
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.allow_tf32 = False


def fit(
    model: nn.Module, loss: nn.Module, train: Split, val: Split, *, recipe: dict[str, Any], judge: Judge, seed: int,
    observer: Callable[[int, nn.Module], dict[str, float]] | None = None, checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0, whole_batches: bool = False, progress: bool = True, label: str = "fit",
) -> Fit:  # fmt: skip
    """Train by `recipe` (the section `train` of a recipe) and select the epoch with the best score of `judge` on val.

    observer: returns, after every epoch, scores for the history; checkpoints hold its `state` (containers and tensors).
    checkpoint: a file to resume from and to save to, at most every `checkpoint_seconds`, and when a signal stops it.
    whole_batches: never split a batch into buckets (for networks whose output depends on the padding, as published, or
    on the other items of the batch).
    Raises TrainingError where a gradient or an output on val is not finite, or memory does not suffice.
    """
    optimisation.check_section(recipe)
    bucket, batch = (len(train), recipe["batch"]) if whole_batches else (bucket_of(model, train), None)
    learned = nn.ModuleDict({"model": model, "loss": loss})
    optimizer = optimisation.optimizer(learned, recipe)
    schedule = optimisation.Schedule(optimizer, recipe, steps=len(_steps(train, recipe)))
    result, start = Fit(), 0
    if checkpoint is not None and is_sound(checkpoint):
        result, start = _resume(checkpoint, learned, optimizer, schedule, observer)
    saved = began = time.monotonic()
    seconds_before, total = result.seconds, recipe["epochs"]
    bar = tqdm(range(start, total), initial=start, total=total, desc=label, disable=not progress, leave=False)
    with signals.waiting() as arrived:
        for epoch in bar:
            if epoch - result.best_epoch > recipe["patience"]:
                break
            row = _epoch(learned, train, optimizer, schedule, recipe, seed=seed, epoch=epoch, bucket=bucket)
            outputs = predict(model, val, batch=batch, precision=recipe["precision"], loss=loss)
            scores = judge.scores(val.target, judge.predictions(outputs))
            row |= {"val/loss": float(outputs["loss"])}
            row |= {f"val/{name}": value for name, value in headline(scores).items()}
            schedule.epoch(row["val/loss"])
            if judge.selecting_score(scores) > result.best_score:
                result.best_epoch, result.best_score = epoch, judge.selecting_score(scores)
                result.best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
            if observer is not None:
                row |= observer(epoch, model)
            result.history.append(row)
            runaway.tell(result.history, f"{label}, seed {seed}")
            result.seconds = seconds_before + time.monotonic() - began
            best = f"{abs(result.best_score):.3f} @{result.best_epoch + 1}"
            bar.set_postfix({judge.select: f"{scores[judge.select]:.3f}", "best": best})
            if checkpoint is not None and (arrived or time.monotonic() - saved >= checkpoint_seconds):
                _save(checkpoint, epoch + 1, result, learned, optimizer, schedule, observer)
                saved = time.monotonic()
            if arrived:
                break  # by the signal, where the block ends
    return result


def seconds_of_epoch(
    model: nn.Module, loss: nn.Module, splits: Mapping[str, Split], *, recipe: dict[str, Any],
    whole_batches: bool = False,
) -> float:  # fmt: skip
    """What an epoch of `fit` takes with its scoring: by a few steps after a first one, which is slower, and val."""
    train, learned = splits["train"], nn.ModuleDict({"model": model, "loss": loss})
    bucket, batch = (len(train), recipe["batch"]) if whole_batches else (bucket_of(model, train), None)
    optimizer, steps, ends = optimisation.optimizer(learned, recipe), _steps(train, recipe), []
    learned.train()
    for items in islice(cycle(steps), 1 + TIMED):
        optimizer.zero_grad(set_to_none=True)
        _gradients(learned, train, items, precision=recipe["precision"], bucket=bucket)
        norm = nn.utils.clip_grad_norm_(learned.parameters(), recipe["clip"])
        optimizer.step()
        ends.append(_when(norm))
    of_val = predict(model, splits["val"], batch=batch, precision=recipe["precision"], loss=loss)["loss"]
    scoring = (_when(of_val) - ends[-1]) * (1 + len(splits["test"]) / len(splits["val"]))
    return len(steps) * (ends[-1] - ends[0]) / TIMED + scoring


def _when(value: Tensor) -> float:
    """The time, in seconds, at which a value is known: a GPU computes on after the call that asks for it."""
    value.item()
    return time.monotonic()


def _steps(train: Split, recipe: dict[str, Any]) -> tuple[Tensor, ...]:
    """The items of each step of an epoch: `batch` items, or dialogues of about `batch` utterances.

    The sampler "balanced" draws with replacement, with weights inverse to the class counts.
    """
    if recipe.get("sampler", "plain") == "balanced":
        if train.unit == "dialogues":
            raise RequestError("train.sampler balanced draws utterances: use it with data.unit utterance")
        label = train.label.cpu()
        order = torch.multinomial(1.0 / label.bincount()[label], len(train), replacement=True)
    else:
        order = torch.randperm(len(train))
    if recipe.get("batch_unit", train.unit) == train.unit:
        return order.split(recipe["batch"])
    if train.unit == "utterances":
        raise RequestError("train.batch_unit dialogues needs data.unit dialogue")
    lengths = train.lengths[order]
    _, counts = ((lengths.cumsum(0) - lengths) // recipe["batch"]).unique_consecutive(return_counts=True)
    return order.split(counts.tolist())


def _epoch(learned, train, optimizer, schedule, recipe, *, seed: int, epoch: int, bucket: int) -> dict[str, float]:
    """One pass over the training split; the mean of each loss over the steps, and the learning rate after them."""
    learned.train()
    torch.manual_seed(1_000_003 * seed + epoch)
    steps, log, on_cpu = _steps(train, recipe), [], train.label.device.type == "cpu"
    for step, items in enumerate(steps):
        with memory_for(f"epoch {epoch + 1}, step {step + 1}", f"lower train.batch ({recipe['batch']})"):
            optimizer.zero_grad(set_to_none=True)
            losses = _gradients(learned, train, items, precision=recipe["precision"], bucket=bucket)
        log.append(losses | {"grad_norm": nn.utils.clip_grad_norm_(learned.parameters(), recipe["clip"])})
        if on_cpu:
            _refuse_infinite(log, epoch, first=step)
        optimizer.step()
        schedule.step()
    if not on_cpu:  # only now, since a GPU computes on while the next steps are prepared
        _refuse_infinite(log, epoch)
    totals: dict[str, Tensor] = {}
    for name, value in (item for values in log for item in values.items()):
        totals[name] = totals.get(name, 0.0) + value / len(steps)
    return {f"train/{name}": float(value) for name, value in totals.items()} | {"lr": optimizer.param_groups[0]["lr"]}


def _refuse_infinite(log: list[dict[str, Tensor]], epoch: int, *, first: int = 0) -> None:
    """Raise TrainingError if a gradient was not finite in a step from `first` on; log: the losses of every step."""
    for step, losses in enumerate(log[first:], first):
        if not torch.isfinite(losses["grad_norm"]):
            values = json.dumps({name: float(value) for name, value in losses.items() if name != "grad_norm"})
            place = f"epoch {epoch + 1}, step {step + 1}"
            raise TrainingError(f"{place}: a gradient is not finite (losses {values}): lower train.lr or train.clip")


def _gradients(learned, train: Split, items: Tensor, *, precision: str, bucket: int) -> dict[str, Tensor]:
    """One backward pass; returns the losses by name, detached, so that the graph can be freed."""
    with autocast(train.label.device.type, precision):
        outputs, target = forward_packed(learned["model"], train, items, bucket=bucket)
    losses = learned["loss"](floats(outputs), target)
    losses["loss"].backward()
    return {name: value.detach() for name, value in losses.items()}


def _save(path: Path, epoch: int, result: Fit, learned, optimizer, schedule, observer) -> None:
    state = {
        "epoch": epoch, "fit": vars(result), "learned": learned.state_dict(), "optimizer": optimizer.state_dict(),
        "schedule": schedule.inner.state_dict(), "observer": observer.state if observer else {},
    }  # fmt: skip
    with atomic(path, when_full=RuntimeError, sealed=True) as part:
        torch.save(state, part)


def _resume(path: Path, learned, optimizer, schedule, observer) -> tuple[Fit, int]:
    state = torch.load(path, map_location="cpu", weights_only=True)  # load_state_dict moves it to the device
    learned.load_state_dict(state["learned"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.inner.load_state_dict(state["schedule"])
    if observer is not None:
        observer.state.update(state["observer"])
    return Fit(**state["fit"]), state["epoch"]
