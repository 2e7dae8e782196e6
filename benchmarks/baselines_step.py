"""Training steps of the baselines that papers compare themselves with: merlib beside the plain style of released code.

    python benchmarks/baselines_step.py [--networks tfn lmf ...] [--rounds 4] [--steps 2] [--even]

TFN, LMF, MFN and MFM on utterances as long as CMU-MOSEI's (3 to 50 words, 21 on average), with BERT's text, COVAREP and
Facet; DialogueRNN, DialogueGCN and COGMEN on dialogues as long as IEMOCAP's (8 to 110 utterances, 49 on average). All
sizes and batches are those of the declared recipes, which follow the released settings. The stand-ins are
plain_fusion.py and plain_dialogue.py, which say what they leave out. merlib's side is the whole of its training loop
with the making of batches; the stand-ins get batches that are ready, and a plain Adam. Both sides alternate in one
process; seconds are those of the CPU, the least of the rounds, for one step. --even: all sequences alike long, 50 steps
or utterances, so that nobody has padding to save.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from plain_dialogue import PlainCogmen, PlainDialogueGcn, PlainDialogueRnn
from plain_fusion import PlainLmf, PlainMfm, PlainMfn, PlainTfn
from side_by_side import alone, show

from merlib import declarations, registry
from merlib.data.batches import Dialogues, Split, Utterances, dims
from merlib.training import loop, optimisation
from merlib.training.prediction import bucket_of

WIDTHS = {"text": 768, "audio": 74, "visual": 35}
FUSION = {"tfn": PlainTfn, "lmf": PlainLmf, "mfn": PlainMfn, "mfm": PlainMfm}
DIALOGUE = {"dialoguernn": PlainDialogueRnn, "dialoguegcn": PlainDialogueGcn, "cogmen": PlainCogmen}
DIALOGUE_WIDTHS = {"dialoguernn": {"text": 100}, "dialoguegcn": {"text": 100}}
COGMEN_WIDTHS = {"audio": 100, "text": 768, "visual": 512}
DIALOGUES = {"dialoguernn": 30, "dialoguegcn": 32, "cogmen": 32}  # a batch of the released code
STEPS, CLASSES = 50, {"mosei": 7, "iemocap6": 6}


def utterances(count: int, draw: np.random.Generator, even: bool) -> Utterances:
    steps = np.full(count, STEPS) if even else draw.lognormal(2.9, 0.6, count).astype(int).clip(3, STEPS)
    starts = torch.from_numpy(steps.cumsum() - steps)
    score = torch.from_numpy(draw.uniform(-3, 3, count)).float()
    return Utterances(
        features={name: torch.randn(int(steps.sum()), width) for name, width in WIDTHS.items()},
        starts=dict.fromkeys(WIDTHS, starts),
        steps=dict.fromkeys(WIDTHS, torch.from_numpy(steps)),
        target={"label": (score.round() + 3).long(), "score": score},
        ids=tuple(map(str, range(count))),
    )


def dialogues(count: int, draw: np.random.Generator, even: bool, widths: dict[str, int]) -> Dialogues:
    lengths = np.full(count, STEPS) if even else np.rint(8 + 102 * draw.beta(2.4, 3.6, count)).astype(int)
    total, turns = int(lengths.sum()), np.arange(lengths.max())
    rows = np.full((count, len(turns)), -1)
    rows[turns < lengths[:, None]] = np.arange(total)
    return Dialogues(
        features={name: torch.randn(total, width) for name, width in widths.items()},
        target={"label": torch.from_numpy(draw.integers(CLASSES["iemocap6"], size=total))},
        speaker=torch.from_numpy(draw.integers(2, size=total)),
        rows=torch.from_numpy(rows),
        lengths=torch.from_numpy(lengths),
        ids=tuple(map(str, range(total))),
    )


def plain_batch(network: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of merlib as the released code reads it."""
    if network in DIALOGUE:
        return batch | {"x": torch.cat([batch[name] for name in dims_of(network)], dim=-1)}
    padded = {name: nn.functional.pad(batch[name], (0, 0, 0, STEPS - batch[name].shape[1])) for name in WIDTHS}
    if network in ("tfn", "lmf"):
        padded |= {name: padded[name].mean(1, keepdim=True) for name in ("audio", "visual")}
    return padded | {"score": batch["score"]}


def dims_of(network: str) -> dict[str, int]:
    return WIDTHS if network in FUSION else DIALOGUE_WIDTHS.get(network, COGMEN_WIDTHS)


def plain_epoch(network: str, recipe: dict[str, Any], split: Split, items: tuple[Tensor, ...]) -> Callable[[], None]:
    if network in FUSION:
        net = FUSION[network](WIDTHS, recipe["model"])
    else:
        net = DIALOGUE[network](sum(dims_of(network).values()), recipe["model"], CLASSES["iemocap6"])
    train = recipe["train"]
    optimizer = torch.optim.Adam(net.parameters(), lr=train["lr"], weight_decay=train["weight_decay"])
    batches = [plain_batch(network, split.batch(part)) for part in items]

    def epoch() -> None:
        for batch in batches:
            optimizer.zero_grad()
            loss = net(batch)
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def merlib_epoch(recipe: dict[str, Any], split: Split, corpus: str, steps: int) -> Callable[[], None]:
    settled = {"classes": CLASSES[corpus], "sentiment": corpus == "mosei", "speakers": 2}
    net = registry.build("model", recipe["model"], dims=dims(split), steps=dict.fromkeys(WIDTHS, STEPS), **settled)
    counts = torch.ones(CLASSES[corpus])
    learned = nn.ModuleDict({"model": net, "loss": registry.build("loss", recipe["loss"], class_counts=counts)})
    optimizer = optimisation.optimizer(learned, recipe["train"])
    schedule = optimisation.Schedule(optimizer, recipe["train"], steps=steps)
    whole = any(isinstance(part, nn.BatchNorm1d) for part in net.modules())
    bucket = len(split) if whole else bucket_of(net, split)
    return lambda: loop._epoch(learned, split, optimizer, schedule, recipe["train"], seed=0, epoch=0, bucket=bucket)


def measure(network: str, rounds: int, steps: int, even: bool) -> dict[str, float | str]:
    """Both sides in this process, one after the other in every round."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    paper, corpus = declarations.load("hff"), "mosei" if network in FUSION else "iemocap6"
    row = next(row for table in paper.tables.values() for row in table.row if row.base == network)
    recipe = declarations.recipe(paper, row, corpus)
    draw = np.random.default_rng(0)
    if network in FUSION:
        size = recipe["train"]["batch"]
        split = utterances(steps * size, draw, even)
    else:
        size = DIALOGUES[network]
        recipe["train"] |= {"batch": size, "batch_unit": "dialogues"}
        split = dialogues(steps * size, draw, even, dims_of(network))
    sides = {"plain": plain_epoch(network, recipe, split, torch.arange(len(split)).split(size))}
    sides["merlib"] = merlib_epoch(recipe, split, corpus, steps)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, epoch in sides.items():
            began = time.process_time()
            epoch()
            seconds[name].append((time.process_time() - began) / steps)
    least = {name: min(values[1:]) for name, values in seconds.items()}  # the first round warms up
    measured: dict[str, float | str] = {"network": network, "batch": size}
    measured |= {f"{name}, CPU ms a step": 1000 * value for name, value in least.items()}
    return measured | {"times faster": least["plain"] / least["merlib"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=[*FUSION, *DIALOGUE], default=[*FUSION, *DIALOGUE])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--even", action="store_true")
    args = parser.parse_args()
    for network in args.networks:
        show(alone(measure, network, args.rounds, args.steps, args.even))


if __name__ == "__main__":
    main()
