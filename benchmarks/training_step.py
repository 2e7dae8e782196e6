"""One training step (forward, loss, backward, optimiser) on dialogues like IEMOCAP's: merlib beside a plain MultiEMO.

    python benchmarks/training_step.py [--device cpu|cuda] [--dialogues 16 64] [--json FILE]

MultiEMO and MFCRE are built from their declared recipes. Each network runs in a process of its own, so that its peak
memory is its own; all run one after the other, so that the ratio to the plain network holds on a slower machine.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from plain_multiemo import PlainMultiEmo, plain_loss
from side_by_side import alone, show

from merlib import declarations, registry
from merlib.data.batches import Dialogues, dims
from merlib.training.prediction import DIALOGUES, forward_packed

WIDTHS = {"text": 768, "audio": 512, "visual": 1000}
CLASSES, SPEAKERS = 6, 2
ROWS = {"plain": "multiemo", "multiemo": "multiemo", "mfcre": "ours"}  # network -> row of Table 2 that declares it


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


def measure(network: str, count: int, device: str, repeats: int) -> dict[str, float | str]:
    """One network in this process: median seconds of a step after a first one, peak memory in GB.

    `cpu_seconds` adds up the threads and, unlike `seconds`, hardly feels other work on the machine.
    """
    torch.manual_seed(0)
    paper = declarations.load("mfcre")
    recipe = declarations.recipe(paper, paper.table("table2").find(ROWS[network]), "iemocap6")
    split, everything = dialogues(count, device), torch.arange(count)
    counts = torch.bincount(split.label, minlength=CLASSES).float()
    if network == "plain":
        net, bucket = PlainMultiEmo(dims=dims(split), classes=CLASSES), count
    else:
        net = registry.build("model", recipe["model"], dims=dims(split), classes=CLASSES, speakers=SPEAKERS)
        bucket = DIALOGUES[device]
    net, contrastive = net.to(device), registry.build("loss", recipe["loss"], class_counts=counts).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe["train"]["lr"])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        outputs, target = forward_packed(net, split, everything, bucket=bucket)
        if network == "plain":
            loss = plain_loss(outputs, target["label"], recipe=recipe["loss"], class_counts=counts)
        else:
            loss = contrastive(outputs, target)["loss"]
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    seconds, busy = [], []
    for _ in range(repeats + 1):
        began, worked = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    found = {"network": network, "dialogues": count, "utterances": len(split.label), "threads": torch.get_num_threads()}
    found |= {"seconds": statistics.median(seconds[1:]), "cpu_seconds": statistics.median(busy[1:])}
    found["utterances_per_second"] = found["utterances"] / found["seconds"]
    return found | {"peak_gb": (torch.cuda.max_memory_allocated() if device == "cuda" else host) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dialogues", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--networks", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    for count in args.dialogues:
        for network in args.networks:
            if network == "plain" and count > 16:
                continue  # its SWFC alone keeps N N d numbers for the backward pass: tens of gigabytes
            row = alone(measure, network, count, args.device, args.repeats)
            plain = next((r for r in found if r["network"] == "plain" and r["dialogues"] == count), None)
            ratios = {f"{name}_faster": plain[name] / row[name] for name in ("seconds", "cpu_seconds")} if plain else {}
            found.append(row | ratios)
            show(found[-1])
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
