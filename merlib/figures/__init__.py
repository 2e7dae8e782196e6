"""Figures: arrays and tables in, a matplotlib Figure out. `save` puts one into `results/<data>/figures/<paper>/`.

Every function takes `data`, the data root shown, and says in the title when that is the synthetic twin. Shapes: u
utterances, c classes. Scores are in percent, as the tables print them; `comparison` is what `study.compare` returns, or
some of its lines. Each function is loaded when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparisons": ["drops", "headlines", "per_class", "scoreboard", "selection_gap", "sweep"],
        "multiverse": ["specification_curve"],
        "runs": ["confusions", "corpus_shape", "embeddings", "learning_curves", "project", "transitions"],
        "style": ["COLOURS", "FLOOR", "MARKERS", "OURS", "PEAK", "PRINTED", "canvas", "save"],
    },
)
