"""What the notebooks of several papers show, as named calls: data and recipes, runs and scores, and figures.

A notebook starts with `paper = notebook.load("hff")` and `twins.ensure(data, paper.corpora)`; every call takes the
paper, the data root, or what an earlier call returned. Tables are DataFrames, which a notebook displays.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "inputs": [
            "base_recipe", "batch", "changes", "classes", "counts", "datasets", "learned", "lengths", "load",
            "partitions", "parts", "passports", "present", "sequences", "shown", "sources", "splits", "steps",
            "transitions",
        ],
        "trained": [
            "Trained", "alarm", "chance", "confusions", "curves", "multiverse", "pairs", "panel", "plane", "ranges",
            "results", "runs", "scores", "selection_gap", "silhouettes", "train", "winners",
        ],
    },
)  # fmt: skip
