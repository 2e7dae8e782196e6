"""A corpus: its classes and dialogues, and how emotions follow one another."""

import numpy as np
from matplotlib.figure import Figure

from merlib.data.official import SPLITS
from merlib.data.table import Corpus
from merlib.figures.predictions import matrix
from merlib.figures.style import COLOURS, OURS, PEAK, canvas
from merlib.training import metrics


def corpus_shape(corpus: Corpus, *, data: str) -> Figure:
    """Class shares of every split, and the lengths of the dialogues."""
    figure, (shares, lengths) = canvas(f"{corpus.name}: classes and dialogues", data, 2, size=(5.2, 3.6))
    table = corpus.table[corpus.table["label"] >= 0]
    x, style = np.arange(len(corpus.labels)), {"color": [COLOURS[e] for e in corpus.labels], "edgecolor": "black"}
    for k, split in enumerate(SPLITS):
        part = table.loc[table["split"] == split, "label"]
        share = 100 * np.bincount(part, minlength=len(x)) / max(len(part), 1)
        shares.bar(x + 0.27 * (k - 1), share, 0.25, alpha=1 - 0.3 * k, label=split, **style)
    shares.set_xticks(x, corpus.labels, rotation=30)
    shares.set(title=f"share of the split (left to right: {', '.join(SPLITS)})", ylabel="%")
    turns = corpus.table.groupby("dialogue").size()
    lengths.hist(turns, bins=min(30, turns.max()), color=OURS, edgecolor="white")
    lengths.axvline(turns.mean(), color=PEAK, label=f"mean {turns.mean():.1f}, longest {turns.max()}")
    lengths.set(title=f"{len(turns)} dialogues", xlabel="utterances", ylabel="dialogues")
    lengths.legend()
    return figure


def transitions(corpus: Corpus, *, data: str) -> Figure:
    """How emotions follow one another: to the next utterance of the dialogue, and to the next of the same speaker."""
    table = corpus.table[corpus.table["label"] >= 0]
    figure, axes = canvas(f"{corpus.name}: where the next emotion comes from", data, 2, size=(5.4, 5.0))
    within = {"next utterance": ["dialogue"], "same speaker's next": ["dialogue", "speaker"]}
    for ax, (title, keys) in zip(axes, within.items(), strict=True):
        following = table.groupby(keys)["label"].shift(-1)
        now, following = table["label"][following.notna()].to_numpy(), following.dropna().to_numpy(int)
        counts = metrics.confusion(y_true=now, y_pred=following, labels=corpus.labels)
        matrix(ax, counts, corpus.labels, show_counts=False)
        ax.set(title=f"{title}: the same in {100 * np.mean(now == following):.0f}%", xlabel="next", ylabel="now")
    return figure
