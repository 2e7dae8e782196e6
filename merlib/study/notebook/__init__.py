"""What the notebooks of several papers show, as named calls: data and recipes (`inputs`), runs and scores (`results`),
and figures (`pictures`).

A notebook starts with `paper = notebook.load("hff")` and `twins.ensure(data, paper.corpora)`; every call takes the
paper, the data root, or what an earlier call returned. Tables are DataFrames, which a notebook displays.
"""

from merlib.study.notebook.inputs import (
    base_recipe,
    batch,
    changes,
    counts,
    datasets,
    load,
    partitions,
    parts,
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
    lengths,
    pairs,
    panel,
    plane,
    sequences,
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
    "Trained", "alarm", "base_recipe", "batch", "chance", "changes", "classes", "confusions", "counts", "curves",
    "datasets",
    "lengths", "load", "pairs", "panel", "partitions", "parts", "passports", "plane", "present", "ranges",
    "results", "runs", "scores", "selection_gap", "sequences", "shown", "silhouettes", "sources", "splits", "steps",
    "train", "transitions", "winners",
]  # fmt: skip
