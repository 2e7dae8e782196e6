"""One training step of ATTSF-Net on audio (Table VI, RAVDESS, batches of 8): beside the plain way of its parts.

    python benchmarks/attsf_step.py [--repeats 30]

The plain network has PyTorch's dropout, and attention projects a key and a value of every step for each query, in
separate operations. Both ways take turns in one process; CPU seconds of one thread, the median and the least.
"""

import argparse
import copy
import statistics
import sys
import time
from pathlib import Path
from types import MethodType

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

import gpu_cases
import gpu_trainer
from side_by_side import show

from merlib.layers.ragged import attend
from merlib.papers.attsf_net.dropout import Dropout
from merlib.papers.attsf_net.transformer import Attention
from merlib.training import loop

ROW = "attsf_net/table6/audio, ravdess"


def plain_attention(self: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return self.output(attend(self.query(query), self.key(key), self.value(value), None, self.heads))


def with_plain(trainer: gpu_trainer.Trainer, *, dropout: bool, attention: bool) -> gpu_trainer.Trainer:
    """The same network, with PyTorch's dropout or the plain attention in place of its own."""
    trainer = copy.deepcopy(trainer)
    for part in [*trainer.learned.modules()]:
        if attention and isinstance(part, Attention):
            part.forward = MethodType(plain_attention, part)
        for name, child in part.named_children() if dropout else ():
            if isinstance(child, Dropout):
                setattr(part, name, nn.Dropout(child.p))
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loop.make_deterministic()
    case = next(case for case in gpu_cases.declared("real", "attsf_net") if case.name.startswith(ROW))
    items = torch.arange(gpu_trainer.items_of_a_step(case))
    ours = gpu_trainer.Trainer(case, gpu_cases.split_of(case, "real", len(items), "cpu"), "cpu")
    ways = {
        "plain": with_plain(ours, dropout=True, attention=True),
        "PyTorch's dropout": with_plain(ours, dropout=True, attention=False),
        "ours": ours,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(args.repeats + 1):
        for way, trainer in ways.items():
            began = time.process_time()
            trainer.step(items)
            seconds[way].append(time.process_time() - began)
    for way, taken in seconds.items():
        median, least = statistics.median(taken[1:]), min(taken[1:])
        faster = {"times_faster": statistics.median(seconds["plain"][1:]) / median}
        show({"way": way, "cpu_seconds": median, "least": least} | faster)


if __name__ == "__main__":
    main()
