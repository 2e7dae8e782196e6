"""What a training step costs by how many utterances pass through a network at once: what AT_ONCE was chosen by.

    python benchmarks/buckets.py [--networks mfn ...] [--sizes 4 8 16 32 64] [--rounds 3]

Fewer at once need less padding and fit the caches; a network that walks the steps of its sequences pays for every step
of every call. Networks and batches are those of declared rows, on utterances of baselines_step.py (MFN, MFM) or of
utterance_step.py (the others). CPU milliseconds of one step, one thread, the least of the rounds; the sizes alternate
in one process. The last column is what `bucket_of` takes today.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

import baselines_step
import utterance_step
from side_by_side import alone, show

from merlib import declarations, registry
from merlib.data.batches import dims
from merlib.training import loop, optimisation
from merlib.training.prediction import bucket_of

ROWS = {  # network -> paper, table, row, corpus
    "mfn": ("hff", "table3", "mfn", "mosei"),
    "mfm": ("hff", "table2", "mfm", "mosei"),
    "ef_lstm": ("mpaf_net", "table5", "ef_lstm", "iemocap8"),
    "lf_lstm": ("mpaf_net", "table5", "lf_lstm", "iemocap8"),
    "concat_lstm": ("mpaf_net", "table5", "baseline", "iemocap8"),
    "gia_mic": ("gia_mic", "table2", "gia_mic_st", "iemocap4"),
}
STEPS = 2  # training steps of an epoch


def measure(network: str, sizes: list[int], rounds: int) -> dict[str, float | str]:
    """CPU milliseconds of a step by the number of utterances at once."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    name, table, row, corpus = ROWS[network]
    paper = declarations.load(name)
    stored = {f"substitute.{each}": True for each in paper.substitute}
    recipe = declarations.recipe(paper, paper.table(table).find(row), corpus, change=stored)
    count, sentiment = STEPS * recipe["train"]["batch"], corpus == "mosei"
    if sentiment:
        split = baselines_step.utterances(count, np.random.default_rng(0), even=False)
    else:
        letters = [letter for letter in recipe["data"]["modalities"] if letter in utterance_step.LETTERS]
        split = utterance_step.utterances(count, [utterance_step.LETTERS[letter] for letter in letters], "cpu")
    longest = {modality: int(steps.max()) for modality, steps in split.steps.items()}
    classes = 7 if sentiment else utterance_step.CLASSES
    settled = {"classes": classes, "sentiment": sentiment, "speakers": 1, "steps": longest}
    net = registry.build("model", recipe["model"], dims=dims(split), **settled)
    given = {"class_counts": torch.ones(classes), "dim": recipe["model"].get("dim"), "sentiment": sentiment}
    learned = nn.ModuleDict({"model": net, "loss": registry.build("loss", recipe["loss"], **given)})
    optimizer = optimisation.optimizer(learned, recipe["train"])
    schedule = optimisation.Schedule(optimizer, recipe["train"], steps=STEPS)
    least = dict.fromkeys(sizes, float("inf"))
    for _ in range(rounds + 1):
        for size in sizes:
            began = time.process_time()
            loop._epoch(learned, split, optimizer, schedule, recipe["train"], seed=0, epoch=0, bucket=size)
            least[size] = min(least[size], 1000 * (time.process_time() - began) / STEPS)
    measured = {f"{size} at once": round(milliseconds) for size, milliseconds in least.items()}
    return {"network": network, "batch": recipe["train"]["batch"]} | measured | {"today": bucket_of(net, split)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[4, 8, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for network in args.networks:
        show(alone(measure, network, args.sizes, args.rounds))


if __name__ == "__main__":
    main()
