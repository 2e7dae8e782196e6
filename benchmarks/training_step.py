"""One training step (forward, loss, backward, optimiser) on dialogues like IEMOCAP's: merlib beside MultiEMO.

    python benchmarks/training_step.py [--released FOLDER] [--device cpu|cuda] [--dialogues 16 64] [--json FILE]

MultiEMO and MFCRE are built from their declared recipes, in both precisions. They stand beside a plain MultiEMO
(plain_multiemo.py) or, with the path of a checkout, the released one (released_multiemo.py); both have float32 only.
Each network runs in a process of its own, so that its peak memory is its own; a round runs them one after the other,
so that ratios hold on a slower machine.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from plain_multiemo import PlainMultiEmo, plain_loss
from released_multiemo import ReleasedLoss, ReleasedMultiEmo
from side_by_side import alone, show
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from merlib import declarations, registry
from merlib.data.batches import Dialogues, dims
from merlib.training import optimisation
from merlib.training.prediction import DIALOGUES, autocast, floats, forward_packed

WIDTHS = {"text": 768, "audio": 512, "visual": 1000}
CLASSES, SPEAKERS = 6, 2
ROWS = {"plain": "multiemo", "released": "multiemo", "multiemo": "multiemo", "mfcre": "ours"}  # of Table 2
BESIDE = ("plain", "released")  # in float32, and of few dialogues: their SWFC keeps N N d numbers until the gradients


def dialogues(count: int, device: str) -> Dialogues:
    """Random features in dialogues as long as IEMOCAP's: 8 to 110 utterances, 49 on average."""
    draw = np.random.default_rng(0)
    lengths = np.rint(8 + 102 * draw.beta(2.4, 3.6, count)).astype(int)
    lengths[0] = 110
    total, turns = int(lengths.sum()), np.arange(110)
    rows = np.full((count, 110), -1)
    rows[turns < lengths[:, None]] = np.arange(total)
    features = {name: draw.standard_normal((total, width), dtype=np.float32) for name, width in WIDTHS.items()}
    return Dialogues(
        features={name: torch.from_numpy(values).to(device) for name, values in features.items()},
        target={"label": torch.from_numpy(draw.integers(CLASSES, size=total)).to(device)},
        speaker=torch.from_numpy(draw.integers(SPEAKERS, size=total)).to(device),
        rows=torch.from_numpy(rows).to(device),
        lengths=torch.from_numpy(lengths),
        ids=tuple(map(str, range(total))),
    )


def stepping(network: str, split: Dialogues, *, precision: str, device: str, released: Path | None) -> Callable:
    """A function that makes one training step of a network on all dialogues of the split."""
    paper, everything = declarations.load("mfcre"), torch.arange(len(split))
    recipe = declarations.recipe(paper, paper.table("table2").find(ROWS[network]), "iemocap6")
    given = {"dims": dims(split), "classes": CLASSES}
    counts = torch.bincount(split.label, minlength=CLASSES).float()
    learned = nn.ModuleDict()
    if network == "plain":
        learned["model"] = PlainMultiEmo(**given)
    elif network == "released":
        learned["model"] = ReleasedMultiEmo(checkout=released, recipe=recipe["model"], device=device, **given)
        learned["loss"] = ReleasedLoss(recipe=recipe["loss"], class_counts=counts, device=device)
    else:
        learned["model"] = registry.build("model", recipe["model"], speakers=SPEAKERS, **given)
        learned["loss"] = registry.build("loss", recipe["loss"], class_counts=counts)
    learned.to(device).train()
    if network in BESIDE:
        optimizer = torch.optim.Adam(learned.parameters(), lr=recipe["train"]["lr"])
    else:
        optimizer = optimisation.optimizer(learned, recipe["train"])

    def loss() -> Tensor:
        if network == "released":
            batch = split.batch(everything)
            return learned["loss"](learned["model"](batch), batch["label"].flatten())
        bucket = len(split) if network == "plain" else DIALOGUES[device]
        with autocast(device, precision):
            outputs, target = forward_packed(learned["model"], split, everything, bucket=bucket)
        if network == "plain":
            return plain_loss(outputs, target["label"], recipe=recipe["loss"], class_counts=counts)
        return learned["loss"](floats(outputs), target)["loss"]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def operations(step: Callable) -> int:
    """How many operations PyTorch is asked for in a step; those that an operation is made of are not counted."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step()
    tensor = [event for event in recorded.events() if event.name.startswith("aten::")]
    return sum(event.cpu_parent is None or not event.cpu_parent.name.startswith("aten::") for event in tensor)


def measure(
    network: str, precision: str, count: int, device: str, repeats: int, released: Path | None
) -> dict[str, float | str]:
    """One network in this process: least seconds of a step after a first one, operations, peak memory in GB.

    `cpu_seconds` adds up the threads and, unlike `seconds`, hardly feels other work on the machine.
    """
    torch.manual_seed(0)
    split = dialogues(count, device)
    step = stepping(network, split, precision=precision, device=device, released=released)
    seconds, busy = [], []
    for _ in range(repeats + 1):
        began, worked = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else host
    row = {"network": network, "precision": precision, "dialogues": count, "utterances": len(split.label)}
    row |= {"threads": torch.get_num_threads(), "seconds": min(seconds[1:]), "cpu_seconds": min(busy[1:])}
    return row | {"peak_gb": peak / 1e9, "operations": operations(step)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dialogues", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--networks", nargs="+", choices=["multiemo", "mfcre"], default=["multiemo", "mfcre"])
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bf16"], default=["float32", "bf16"])
    parser.add_argument("--released", type=Path, help="a checkout of github.com/TaoShi1998/MultiEMO")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    beside = "released" if args.released else "plain"
    least: dict[tuple, dict] = {}
    for count in args.dialogues:
        todo = [(beside, "float32")] if count <= 16 else []
        todo += [(network, precision) for network in args.networks for precision in args.precisions]
        for _ in range(args.rounds):
            for one in todo:
                row = alone(measure, *one, count, args.device, args.repeats, args.released)
                before = least.get((*one, count), row)
                least[*one, count] = row | {name: min(row[name], before[name]) for name in ("seconds", "cpu_seconds")}
        for one in todo:
            row, plain = least[*one, count], least.get((beside, "float32", count))
            if plain:
                row |= {f"{name}_faster": plain[name] / row[name] for name in ("seconds", "cpu_seconds")}
            show(row)
    if args.json:
        args.json.write_text(json.dumps(list(least.values()), indent=2) + "\n")


if __name__ == "__main__":
    main()
