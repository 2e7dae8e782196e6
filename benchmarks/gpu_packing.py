"""How many runs one card takes at once: 1 to 16 processes that train the same network side by side."""

import time
from collections.abc import Iterator
from multiprocessing import get_context
from queue import Empty
from typing import Any

import gpu_cases
import gpu_trainer
import torch
from gpu_speed import peak_gb, wait

from merlib.training import loop

CHOSEN = ("attsf_net/table6/audio, ravdess", "hff/table3/hff, iemocap6", "mfcre/table2/ours, iemocap6")
START = 120  # seconds that the processes get to start


def rows(device: str, size: str, most: int = 100, runs: tuple[int, ...] = (1, 2, 4, 8, 16), seconds: float = 2.0):
    """Section `packing`: the steps a second of all runs together, for each network and number of runs."""
    context = get_context("spawn")
    names = CHOSEN[:most]
    start, results = context.Barrier(max(runs)), context.Queue()
    rounds = [(name, number) for name in names for number in runs]
    arguments = (start, results, rounds, device, size, seconds)
    workers = [context.Process(target=work, args=(number, *arguments), daemon=True) for number in range(max(runs))]
    for worker in workers:
        worker.start()
    try:
        yield from _collected(results, rounds, seconds)
    finally:
        for worker in workers:
            worker.terminate()


def _collected(results: Any, rounds: list[tuple[str, int]], seconds: float) -> Iterator[dict[str, Any]]:
    alone: dict[str, float] = {}
    for name, number in rounds:
        try:
            found = [results.get(timeout=START + 10 * seconds) for _ in range(number)]
        except Empty:
            yield {"case": name, "runs": number, "error": "a process gave no answer in time"}
            return
        if errors := [each for each in found if isinstance(each, str)]:
            yield {"case": name, "runs": number, "error": errors[0]}
            return
        together = sum(rate for rate, _ in found)
        alone.setdefault(name, together)
        row = {"case": name, "runs": number, "steps_per_second": together, "times_one_run": together / alone[name]}
        yield row | {"peak_gb_a_run": found[0][1], "error": ""}


def work(number: int, start: Any, results: Any, rounds: list[tuple[str, int]], device: str, size: str, seconds: float):
    """One process: it takes part in every round of more than `number` runs, and waits out the others."""
    try:
        torch.set_num_threads(1)
        loop.make_deterministic()
        made: dict[str, tuple] = {}
        for name in dict.fromkeys(name for name, _ in rounds):
            made[name] = _made(name, device, size)
        for name, runs in rounds:
            start.wait(START)
            if number < runs:
                results.put(_rate(*made[name], device, seconds))
    except gpu_cases.FAILURES as error:  # the parent reports it
        results.put(gpu_cases.described(error))


def _made(name: str, device: str, size: str) -> tuple[gpu_trainer.Trainer, torch.Tensor]:
    case = next(case for case in gpu_cases.declared(size, paper=name.split("/")[0]) if case.name.startswith(name))
    batch = gpu_trainer.items_of_a_step(case) if size == "real" else 4
    trainer = gpu_trainer.Trainer(case, gpu_cases.split_of(case, size, batch, device), device)
    trainer.step(torch.arange(batch))
    return trainer, torch.arange(batch)


def _rate(trainer: gpu_trainer.Trainer, items: torch.Tensor, device: str, seconds: float) -> tuple[float, float | None]:
    """Steps a second, and the most memory of this process."""
    wait(device)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        trainer.step(items)
        wait(device)
        steps += 1
    return steps / (time.perf_counter() - began), peak_gb(device)
