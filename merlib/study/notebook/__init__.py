"""What the notebooks of several papers show, as named calls: data and recipes (`inputs`), runs and scores (`results`),
and figures (`pictures`).

A notebook starts with `paper = notebook.load("hff")` and `twins.ensure(data, paper.corpora)`; every call takes the
paper, the data root, or what an earlier call returned. Tables are DataFrames, which a notebook displays.
"""

from merlib.study.notebook.inputs import (
    changes,
    counts,
    datasets,
    load,
    partitions,
    passports,
    present,
    sources,
    splits,
    steps,
)
from merlib.study.notebook.pictures import (
    classes,
    confusions,
    curves,
    pairs,
    panel,
    plane,
    shown,
    silhouettes,
    transitions,
)
from merlib.study.notebook.results import (
    Trained,
    alarm,
    chance,
    ranges,
    results,
    runs,
    scores,
    selection_gap,
    train,
    winners,
)

__all__ = [
    "Trained", "alarm", "chance", "changes", "classes", "confusions", "counts", "curves", "datasets", "load", "pairs",
    "panel", "partitions", "passports", "plane", "present", "ranges", "results", "runs", "scores", "selection_gap",
    "shown", "silhouettes", "sources", "splits", "steps", "train", "transitions", "winners",
]  # fmt: skip
