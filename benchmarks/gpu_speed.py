"""Steps of training at real sizes on a device: time, operations, memory, and where the host waits for the device."""

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpu_cases
import gpu_trainer
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from merlib.training import loop

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "repeat_interleave", "equal")  # of ATen
ASKS = {getattr(torch.Tensor, name) for name in ("tolist", "cpu", "numpy")}  # what reads a tensor without an operation
HERE = Path(__file__).resolve().parents[1]


class Operations(TorchDispatchMode):
    """Counts the operations of ATen, backward included, and those after which the host needs a value of the device.

    On a CPU such operations are no waits, but the same ones are on a GPU, so that they can be counted without one; what
    code asks on a CPU alone is counted too.
    """

    def __init__(self):
        super().__init__()
        self.number, self.waits = 0, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        name = func._schema.name.removeprefix("aten::")
        if name in WAITS or (name in ("index", "index_put", "index_put_") and _by_mask(args[1])):
            self.waits[f"{place()} {name}"] += 1
        return func(*args, **(kwargs or {}))


class Questions(TorchFunctionMode):
    """Counts the calls that read values of a tensor on the host without an operation of ATen."""

    def __init__(self):
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in ASKS:
            self.waits[f"{place()} {func.__name__}"] += 1
        return func(*args, **(kwargs or {}))


def _by_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def place() -> str:
    """The line of the library that is being run, as `merlib/layers/ragged.py:64`."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if "merlib" in path.parts and HERE in path.parents:
            return f"{path.relative_to(HERE)}:{frame.lineno}"
    return "outside merlib"


@contextmanager
def waiting(device: str) -> Iterator[Counter]:
    """Place -> how often the host waits for the device there; on a GPU as CUDA reports it, on a CPU by operation."""
    waits: Counter[str] = Counter()
    if device == "cpu":
        with Operations() as operations, Questions() as questions:
            yield waits
        waits.update(operations.waits + questions.waits)
        return
    shown = warnings.showwarning

    def count(message: Any, *rest: Any) -> None:
        if "called a synchronizing" in str(message):
            waits[place()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = count
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = shown


def waits_per_step(case: gpu_cases.Case, device: str, size: str, steps: int = 3) -> dict[str, float]:
    """Place -> waits in each step of `loop.fit`: an epoch of 2 n steps has n steps more than one of n steps."""
    batch = gpu_trainer.items_of_a_step(case) if size == "real" else 4
    counts = []
    for number in (steps, 2 * steps):
        train = gpu_cases.split_of(case, size, number * batch, device)
        val = gpu_cases.split_of(case, size, 2, device)
        learned = gpu_trainer.learner(case, train, device)
        recipe = case.recipe["train"] | {"epochs": 1, "batch": batch}
        if recipe.get("batch_unit") == "utterances":
            recipe["batch_unit"] = "dialogues" if case.by_dialogue else "utterances"
        whole = gpu_trainer.whole_batches(case, learned["model"])
        with waiting(device) as waits:
            loop.fit(
                learned["model"], learned["loss"], train, val, recipe=recipe, judge=gpu_trainer.judge_of(case), seed=0,
                whole_batches=whole, progress=False,
            )  # fmt: skip
        counts.append(waits)
    return {where: (n - counts[0][where]) / steps for where, n in counts[1].items() if n != counts[0][where]}


def waits(device: str, size: str, most: int = 10_000) -> Iterator[dict[str, Any]]:
    """Section `waits`: a row for each network and loss."""
    for case in _networks(size)[:most]:
        found = waits_per_step(case, device, size)
        yield {"case": case.name, "waits_per_step": sum(found.values()), "places": found}


def steps(device: str, size: str, most: int = 10_000, repeats: int = 10) -> Iterator[dict[str, Any]]:
    """Section `steps`: a row for each network, loss and corpus; the seconds are those of a step of the recipe."""
    for case in _networks(size)[:most]:
        yield {"case": case.name} | measured(case, device, size, repeats)


def measured(case: gpu_cases.Case, device: str, size: str, repeats: int) -> dict[str, Any]:
    batch = gpu_trainer.items_of_a_step(case) if size == "real" else 4
    split = gpu_cases.split_of(case, size, 2 * batch, device)
    trainer, items = gpu_trainer.Trainer(case, split, device), torch.arange(2 * batch).split(batch)
    for each in items:
        trainer.step(each)
    forget(device)
    took = []
    for _ in range(3):
        wait(device)
        began = time.perf_counter()
        for number in range(max(1, repeats // 3)):
            trainer.step(items[number % 2])
        wait(device)
        took.append((time.perf_counter() - began) / max(1, repeats // 3))
    row = {"seconds": sorted(took)[1], "spread": max(took) / min(took), "items": batch}
    row |= {"precision": trainer.train["precision"], "peak_gb": peak_gb(device)}
    with Operations() as operations:
        trainer.step(items[0])
    with FlopCounterMode(display=False) as flops:
        trainer.step(items[0])
    return row | {"operations": operations.number, "gflop": flops.get_total_flops() / 1e9}


def _networks(size: str) -> list[gpu_cases.Case]:
    """One case for each network, loss and, at the real size, corpus."""
    by_corpus = size == "real"
    cases = gpu_cases.distinct(gpu_cases.declared(size), by_corpus=by_corpus)
    return cases[: len({gpu_cases.kind(case, by_corpus=by_corpus) for case in cases})]


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def forget(device: str) -> None:
    """From here on the peak of memory counts anew."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> float | None:
    """What tensors have taken at most on a GPU; a CPU has no such count."""
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
