"""What CUDA graphs and torch.compile would give: one step's forward and backward pass of a few networks, each way.

Neither is part of the library. A graph needs fixed shapes and no wait of the host, so a row that fails says what stands
in its way.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gpu_cases
import gpu_trainer
import torch
from gpu_speed import wait

CHOSEN = ("attsf_net/table6/audio, ravdess", "gia_mic/table2/gia_mic_vst,", "mfcre/table2/ours,", "hff/table3/hff,")


def rows(device: str, size: str, most: int = 100, compiled: bool = False, repeats: int = 10) -> Iterator[dict]:
    """Section `graphs`. compiled: also with torch.compile, which takes a minute or more a network."""
    cases = [case for case in gpu_cases.declared(size) if case.name.startswith(CHOSEN)]
    for case in gpu_cases.distinct(cases, by_corpus=True)[:most]:
        ways: dict[str, Callable] = {"plain": plain, "cuda_graph": graph} | ({"compiled": compile_} if compiled else {})
        for way, make in ways.items():
            try:
                step = make(case, device, size)
                row: dict[str, Any] = {"seconds": timed(step, device, repeats), "error": ""}
            except gpu_cases.FAILURES as error:  # what cannot be captured is the finding
                row = {"seconds": None, "error": gpu_cases.described(error)}
            yield {"case": case.name, "way": way} | row
            if row["error"] and device == "cuda":
                torch.cuda.synchronize()  # a failed capture has ended here, or the section ends


def timed(step: Callable[[], Any], device: str, repeats: int) -> float:
    for _ in range(3):
        step()
    wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    wait(device)
    return (time.perf_counter() - began) / repeats


def _trainer(case: gpu_cases.Case, device: str, size: str) -> tuple[gpu_trainer.Trainer, Callable[[], Any]]:
    batch = gpu_trainer.items_of_a_step(case) if size == "real" else 4
    trainer = gpu_trainer.Trainer(case, gpu_cases.split_of(case, size, batch, device), device)
    items = torch.arange(batch)

    def step() -> None:
        for p in trainer.learned.parameters():
            if p.grad is not None:
                p.grad.zero_()
        trainer.gradients(items)

    return trainer, step


def plain(case: gpu_cases.Case, device: str, size: str) -> Callable[[], Any]:
    return _trainer(case, device, size)[1]


def graph(case: gpu_cases.Case, device: str, size: str) -> Callable[[], Any]:
    if device != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    _, step = _trainer(case, device, size)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    return captured.replay


def compile_(case: gpu_cases.Case, device: str, size: str) -> Callable[[], Any]:
    trainer, step = _trainer(case, device, size)
    trainer.learned["model"].compile(dynamic=False)
    return step
