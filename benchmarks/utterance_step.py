"""One training step of GIA-MIC on utterances as long as IEMOCAP's: in buckets of similar length, beside the whole batch
at once.

    python benchmarks/utterance_step.py [--device cpu|cuda] [--row gia_mic_st] [--repeats 100]

The network and its batch of 32 are those of a row of Table 2 on text and audio. Each way runs in a process of its own;
a step's time is the median over the second half, when most lengths have been seen. On a CPU also with as many compiled
kernels as oneDNN keeps by itself (see merlib/__init__.py).
"""

import argparse
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from side_by_side import alone, show

from merlib import declarations, registry
from merlib.data.batches import Utterances, dims
from merlib.training.prediction import autocast, bucket_of, floats, forward_packed

WIDTHS = {"text": 384, "audio": 64}  # MiniLM's tokens and a spectrogram
FEW_KERNELS = "buckets, 1024 kernels"
CLASSES, LETTERS = 4, {"T": "text", "A": "audio"}


def utterances(count: int, names: list[str], device: str) -> Utterances:
    """Random features: 1 to 124 tokens, most often 10 to 20, and 8 to 75 steps of audio, 12.5 a second."""
    draw = np.random.default_rng(0)
    tokens = draw.lognormal(2.6, 0.8, count)
    seconds = 0.25 * tokens * draw.lognormal(0, 0.3, count)  # four tokens a second, more or less
    steps = {"text": tokens.astype(int).clip(1, 124), "audio": (12.5 * seconds).astype(int).clip(8, 75)}
    return Utterances(
        features={n: torch.randn(int(steps[n].sum()), WIDTHS[n], device=device) for n in names},
        starts={n: torch.from_numpy(steps[n].cumsum() - steps[n]).to(device) for n in names},
        steps={n: torch.from_numpy(steps[n]).to(device) for n in names},
        target={"label": torch.from_numpy(draw.integers(CLASSES, size=count)).to(device)},
        ids=tuple(map(str, range(count))),
    )


def measure(way: str, row: str, device: str, repeats: int) -> dict[str, float | str]:
    """One way in this process: median seconds of a step, peak memory in GB."""
    if way == FEW_KERNELS:
        os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "1024"
    torch.manual_seed(0)
    paper = declarations.load("gia_mic")
    stored = {"substitute.stored_speech": True}
    recipe = declarations.recipe(paper, paper.table("table2").find(row), "iemocap4", change=stored)
    size = recipe["train"]["batch"]
    split = utterances(size * (repeats + 1), [LETTERS[m] for m in recipe["data"]["modalities"]], device)
    longest = {name: int(steps.max()) for name, steps in split.steps.items()}
    settled = {"classes": CLASSES, "sentiment": False, "speakers": 1, "steps": longest}
    net = registry.build("model", recipe["model"], dims=dims(split), **settled).to(device)
    loss = registry.build("loss", recipe["loss"], class_counts=torch.bincount(split.label).float()).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe["train"]["lr"], fused=True)
    bucket = size if way == "whole batch" else bucket_of(net, split)

    def step(items: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, recipe["train"]["precision"]):
            outputs, target = forward_packed(net, split, items, bucket=bucket)
        loss(floats(outputs), target)["loss"].backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = []
    for items in torch.arange(len(split)).split(size):
        began = time.process_time() if device == "cpu" else time.perf_counter()
        step(items)
        seconds.append((time.process_time() if device == "cpu" else time.perf_counter()) - began)
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    found = {"row": row, "way": way, "at_once": bucket, "seconds": statistics.median(seconds[len(seconds) // 2 :])}
    return found | {"peak_gb": (torch.cuda.max_memory_allocated() if device == "cuda" else host) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--row", nargs="+", default=["roberta", "wavlm", "gia_mic_st"])
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    for row in args.row:
        plain = alone(measure, "whole batch", row, args.device, args.repeats)
        show(plain)
        for way in ("buckets", FEW_KERNELS) if args.device == "cpu" else ("buckets",):
            found = alone(measure, way, row, args.device, args.repeats)
            show(found | {"times_faster": plain["seconds"] / found["seconds"]})


if __name__ == "__main__":
    main()
