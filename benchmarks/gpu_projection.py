"""Hours that all own rows would take on a card, from the seconds of a step that the section `steps` measured.

Every run counts once, however many rows ask for it. The hours are those of all epochs that a recipe allows; early
stopping ends most runs sooner. An utterance that is only predicted costs a third of one that is trained on.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import gpu_cases
import gpu_trainer

from merlib.data import official, splits

SEEDS = 5
IGNORED = (  # leaves of `protocol` that no training reads, as in merlib/study/identity.py
    "select", "average", "mask_modality", "mask_percent", "mask_unit", "mask_noise",
)  # fmt: skip
TRAIN = {  # share of the corpus that trains, by protocol; `corpus` is counted in official.py
    "session5": 0.72, "sessions": 0.6, "actor": 0.8, "each_actor": 0.8, "random_811": 0.8, "actors": 0.6, "clips": 0.6,
}  # fmt: skip


def rows(measured: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Section `projection`: a row a paper, and their sum. measured: the rows of the section `steps`."""
    seconds = {row["case"]: row["seconds"] for row in measured if row.get("seconds")}
    cases = {case.name: case for case in gpu_cases.declared("real")}
    known: dict[tuple, float] = {}
    for name, value in seconds.items():
        known.setdefault(gpu_cases.kind(cases[name], by_corpus=True), value)
    runs, hours, unknown, seen = defaultdict(int), defaultdict(float), defaultdict(int), set()
    for case in cases.values():
        if (key := run_key(case)) in seen:
            continue
        seen.add(key)
        each = splits.folds(case.recipe["protocol"]) * SEEDS
        runs[case.paper] += each
        step = known.get(gpu_cases.kind(case, by_corpus=True))
        if step is None:
            unknown[case.paper] += each
        else:
            hours[case.paper] += each * epoch_seconds(case, step) * case.recipe["train"]["epochs"] / 3600
    for paper in runs:
        yield {"paper": paper, "runs": runs[paper], "hours": hours[paper], "runs_without_a_measurement": unknown[paper]}
    total = {"runs": sum(runs.values()), "hours": sum(hours.values())}
    yield {"paper": "all", **total, "runs_without_a_measurement": sum(unknown.values())}


def run_key(case: gpu_cases.Case) -> str:
    protocol = {name: value for name, value in case.recipe["protocol"].items() if name not in IGNORED}
    return json.dumps([case.corpus, case.recipe | {"protocol": protocol}], sort_keys=True, default=str)


def epoch_seconds(case: gpu_cases.Case, step: float) -> float:
    """One pass over the training split in steps of the recipe, and the predictions of the other splits."""
    items, train = corpus_items(case)
    batch = gpu_trainer.items_of_a_step(case)
    return step * math.ceil(train / batch) + step * (items - train) / batch / 3


def corpus_items(case: gpu_cases.Case) -> tuple[int, int]:
    """How many utterances, or dialogues, a corpus has, and how many of them train."""
    counts = {group: sum(n) for group, n in official.CLASSES.get(case.corpus, {}).items()}
    counts = counts or {group: n["all"] if isinstance(n, dict) else n for group, n in _uncounted(case.corpus).items()}
    if case.by_dialogue:
        counts = official.DIALOGUES.get(case.corpus) or {"all": sum(counts.values()) // 23}  # a video of the SDK
    total = sum(counts.values())
    share = TRAIN.get(case.recipe["protocol"]["split"])
    if share is None:  # the corpus's own splits
        train = counts.get("train", counts.get("train+val", 0) * 0.9)
        share = train / total if train else 0.7
    return total, round(total * share)


def _uncounted(corpus: str) -> dict[str, int]:
    return official.UTTERANCES.get(corpus, {"all": 1000})
