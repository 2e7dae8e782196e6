"""Figures: arrays and tables in, a matplotlib Figure out. `save` puts one into `results/<data>/figures/<paper>/`.

Every function takes `data`, the data root shown, and says in the title when that is the synthetic twin. Shapes: u utterances, c classes.
Scores are in percent, as the tables print them; `comparison` is what `report.compare` returns, or some of its lines.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from merlib import metrics
from merlib.corpora.files import atomic
from merlib.corpora.table import SPLITS, Corpus
from merlib.runs import results_folder

# One colour an emotion in all figures, told apart in the common forms of colour blindness (Okabe and Ito).
COLOURS = {
    "happy": "#E69F00", "joy": "#E69F00", "excited": "#F0E442", "sad": "#0072B2", "sadness": "#0072B2", "neutral": "#999999",
    "angry": "#D55E00", "anger": "#D55E00", "frustrated": "#CC79A7", "surprise": "#56B4E9", "fear": "#000000", "disgust": "#009E73",
}  # fmt: skip
PRINTED, OURS, PEAK = "#999999", "#0072B2", "#D55E00"
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "axes.titlesize": 11}


def save(figure: Figure, data: str, paper: str, name: str) -> Path:
    """Write results/<data>/figures/<paper>/<name>.png, whole or not at all; equal figures give equal bytes."""
    path = results_folder(data) / "figures" / paper / f"{name}.png"
    with atomic(path) as part:
        figure.savefig(part, format="png", dpi=130, metadata={"Software": None})
    return path


def confusions(panels: Mapping[str, Mapping[str, Any]], *, data: str) -> Figure:
    """One confusion matrix a panel: share of each true class in colour, counts in print (as MFCRE Fig. 6).

    panels: title -> y_true (u), y_pred (u) and labels (c); utterances labelled -1 do not count.
    """
    figure, axes = _canvas("Confusion on the test split", data, len(panels), size=(5.6, 5.2))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        counts = metrics.confusion(**panel)  # c c
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        _matrix(ax, share, [f"{100 * s:.0f}%\n{n}" for s, n in zip(share.flat, counts.flat, strict=True)], panel["labels"])
        ax.set(title=title, xlabel="predicted", ylabel="true")
    return figure


def project(embedding: np.ndarray, *, method: Literal["tsne", "umap"], seed: int = 0, most: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (u d) in the plane: rows chosen (at most `most`, drawn by the seed) and their points (n 2). Same seed, same points."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(embedding))[:most])
    chosen = np.asarray(embedding, dtype=np.float32)[rows]
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(rows) - 1) / 3)
        return rows, TSNE(random_state=seed, init="pca", perplexity=perplexity).fit_transform(chosen)
    from umap import UMAP

    neighbours = min(15, len(rows) - 1)
    return rows, UMAP(random_state=seed, n_jobs=1, n_neighbors=neighbours).fit_transform(chosen)


def embeddings(panels: Mapping[str, Mapping[str, Any]], *, data: str) -> Figure:
    """One scatter a panel, coloured by true emotion. panels: title -> points (n 2), y_true (n) and labels (c)."""
    figure, axes = _canvas("Fused embeddings of the test split", data, len(panels), size=(5.2, 5.0))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        for index, label in enumerate(panel["labels"]):
            x, y = panel["points"][panel["y_true"] == index].T
            ax.scatter(x, y, s=14, c=COLOURS[label], label=label, edgecolors="black", linewidths=0.2)
        ax.set(title=title, xticks=[], yticks=[])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, markerscale=1.6, columnspacing=1, handletextpad=0.2)
    return figure


def learning_curves(run: Mapping[str, Any], *, data: str, title: str) -> Figure:
    """Losses, scores and gradient norm by epoch, with the selected epoch and the test peak. run: the contents of a run.json."""
    history, epoch = pd.DataFrame(run["history"]), np.arange(1, len(run["history"]) + 1)
    figure, (losses, scores, norm) = _canvas(title, data, 3, size=(4.4, 3.6))
    for name in [n for n in history if n.startswith("train/") and n != "train/grad_norm"]:
        losses.plot(epoch, history[name], lw=2 if name == "train/loss" else 1, label=name.replace("_", " "))
    losses.plot(epoch, history["val/loss"], "k--", lw=2, label="val/loss")
    losses.set(title="loss", xlabel="epoch", yscale="symlog")
    for name, colour in (("val", OURS), ("test", PEAK)):
        scores.plot(epoch, 100 * history[f"{name}/weighted_f1"], color=colour, label=name)
    for name, colour, marker in (("val", OURS, "o"), ("test_peak", PEAK, "*")):
        at = run["selected"][name]["epoch"]
        text = "selected on val" if name == "val" else "test peak"
        scores.plot(at + 1, 100 * history["test/weighted_f1"][at], marker, color=colour, ms=11, mec="black", label=f"{text}: epoch {at + 1}")
        scores.axvline(at + 1, color=colour, lw=0.8, ls=":")
    scores.set(title="weighted F1 (%)", xlabel="epoch")
    norm.plot(epoch, history["train/grad_norm"], color="black", label="gradient norm")
    norm.set(title="gradient norm before clipping", xlabel="epoch", ylim=(0, None))
    for ax in (losses, scores, norm):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(fontsize=8)
    return figure


def sweep(comparison: pd.DataFrame, *, data: str, x: str) -> Figure:
    """One panel a column of the table: how the score moves with a hyper-parameter, printed beside reproduced.

    Rows must be labelled `name = value`. Both lines are drawn around their own mean over the sweep (given in the legend), so that their
    shapes share one scale; the bars are one standard deviation over seeds and folds.
    """
    columns = list(dict.fromkeys(comparison["column"]))
    figure, axes = _canvas(f"Sweep of {x}", data, len(columns), size=(3.9, 3.6))
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column]
        ticks = np.arange(len(lines))
        for name, colour, marker in (("printed", PRINTED, "s"), ("reproduced", OURS, "o")):
            value = lines[name].astype(float)
            spread = lines["spread"].astype(float) if name == "reproduced" else None
            mean = f"mean {value.mean():.2f}" if value.notna().any() else "absent"
            ax.errorbar(ticks, value - value.mean(), yerr=spread, color=colour, marker=marker, capsize=3, label=f"{name}: {mean}")
        ax.set_xticks(ticks, [label.split("=")[-1].strip() for label in lines["label"]], rotation=45)
        ax.set(title=column.replace("_", " "), xlabel=x)
        ax.axhline(0, color="black", lw=0.5)
        ax.legend(fontsize=8)
    axes[0].set_ylabel("points above the mean of the sweep")
    return figure


def per_class(comparison: pd.DataFrame, *, data: str, rows: Sequence[str]) -> Figure:
    """F1 of each emotion (columns f1_<emotion>), printed (hatched) beside reproduced, one panel a row of the table."""
    figure, axes = _canvas("F1 of each emotion", data, len(rows), size=(5.2, 3.6))
    for ax, row in zip(axes, rows, strict=True):
        lines = comparison[(comparison["row"] == row) & comparison["column"].str.startswith("f1_")]
        emotions = lines["column"].str.removeprefix("f1_").tolist()
        x, colours = np.arange(len(lines)), [COLOURS[emotion] for emotion in emotions]
        ax.bar(x - 0.2, lines["printed"].astype(float), 0.38, color="white", edgecolor=colours, hatch="///", label="printed")
        spread = lines["spread"].astype(float)
        ax.bar(x + 0.2, lines["reproduced"].astype(float), 0.38, yerr=spread, capsize=3, color=colours, edgecolor="black", label="reproduced")
        ax.set_xticks(x, emotions, rotation=30)
        ax.set(title=lines["label"].iloc[0] if len(lines) else row, ylim=(0, 100), ylabel="F1 (%)")
        ax.legend(ncols=2, fontsize=8)
    return figure


def drops(comparison: pd.DataFrame, *, data: str, base: str = "ours") -> Figure:
    """What each ablation costs: its score less that of the row `base`, printed and reproduced, one panel a column of the table."""
    columns = list(dict.fromkeys(comparison["column"]))
    figure, axes = _canvas("Ablations: change against the full model", data, len(columns), size=(3.7, 3.8), sharey=True)
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column].set_index("row")
        whole, others = lines.loc[base], lines.drop(index=base)
        y = np.arange(len(others))[::-1]
        for name, colour, shift in (("printed", PRINTED, 0.2), ("reproduced", OURS, -0.2)):
            change = others[name].astype(float) - float(whole[name])
            both = np.hypot(others["spread"].astype(float), float(whole["spread"])) if name == "reproduced" else None
            ax.barh(y + shift, change, 0.38, xerr=both, capsize=2, color=colour, label=name)
        ax.set_yticks(y, others["label"])
        ax.set(title=column.replace("_", " "), xlabel="points")
        ax.axvline(0, color="black", lw=0.8)
    axes[0].legend(fontsize=8)
    return figure


def selection_gap(comparison: pd.DataFrame, *, data: str, column: str = "weighted_f1") -> Figure:
    """What choosing the epoch on the test set adds: val-selected and test-peak score of every row that was run, and the printed one."""
    lines = comparison[(comparison["column"] == column) & comparison["test_peak"].notna()][::-1]
    figure, (ax,) = _canvas(f"{column.replace('_', ' ')}: selected on validation, or at the test peak", data, 1, size=(8.5, 0.42 * len(lines) + 1.6))
    y = np.arange(len(lines))
    ax.hlines(y, lines["reproduced"], lines["test_peak"], color="black", lw=1)
    for name, colour, marker in (("reproduced", OURS, "o"), ("test_peak", PEAK, "*"), ("printed", PRINTED, "s")):
        ax.plot(lines[name].astype(float), y, marker, color=colour, ms=9, mec="black", label=name.replace("_", " "))
    ax.set_yticks(y, lines["label"])
    ax.set(xlabel="%", ylim=(-0.6, len(lines) - 0.4))
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def corpus_shape(corpus: Corpus, *, data: str) -> Figure:
    """Class shares of every split, and how long the dialogues are."""
    figure, (shares, lengths) = _canvas(f"{corpus.name}: classes and dialogues", data, 2, size=(5.2, 3.6))
    table = corpus.table[corpus.table["label"] >= 0]
    x = np.arange(len(corpus.labels))
    for k, (split, alpha) in enumerate(zip(SPLITS, (1.0, 0.7, 0.4), strict=True)):
        part = table.loc[table["split"] == split, "label"]
        share = 100 * np.bincount(part, minlength=len(x)) / max(len(part), 1)
        shares.bar(x + 0.27 * (k - 1), share, 0.25, color=[COLOURS[e] for e in corpus.labels], alpha=alpha, edgecolor="black", label=split)
    shares.set_xticks(x, corpus.labels, rotation=30)
    shares.set(title="share of the split (left to right: train, val, test)", ylabel="%")
    turns = corpus.table.groupby("dialogue").size()
    lengths.hist(turns, bins=min(30, turns.max()), color=OURS, edgecolor="white")
    lengths.axvline(turns.mean(), color=PEAK, label=f"mean {turns.mean():.1f}, longest {turns.max()}")
    lengths.set(title=f"{len(turns)} dialogues", xlabel="utterances", ylabel="dialogues")
    lengths.legend()
    return figure


def transitions(corpus: Corpus, *, data: str) -> Figure:
    """How emotions follow one another: from each utterance to the next of the dialogue, and to the next of the same speaker."""
    table = corpus.table[corpus.table["label"] >= 0]
    figure, axes = _canvas(f"{corpus.name}: where the next emotion comes from", data, 2, size=(5.4, 5.0))
    for ax, keys, title in zip(axes, (["dialogue"], ["dialogue", "speaker"]), ("next utterance", "same speaker's next"), strict=True):
        after = table.groupby(keys)["label"].shift(-1)
        pairs = pd.DataFrame({"now": table["label"], "after": after}).dropna().astype(int)
        counts = metrics.confusion(y_true=pairs["now"].to_numpy(), y_pred=pairs["after"].to_numpy(), labels=corpus.labels)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        _matrix(ax, share, [f"{100 * s:.0f}%" for s in share.flat], corpus.labels)
        ax.set(title=f"{title}: stays the same in {100 * np.trace(counts) / max(counts.sum(), 1):.0f}%", xlabel="next", ylabel="now")
    return figure


def _canvas(title: str, data: str, panels: int, *, size: tuple[float, float], sharey: bool = False) -> tuple[Figure, list]:
    """A row of panels that no interactive backend shows by itself; it is displayed where it is the value of a cell."""
    with plt.rc_context(STYLE):
        width, height = size
        figure, axes = plt.subplots(1, panels, figsize=(width * panels, height), layout="constrained", squeeze=False, sharey=sharey)
        plt.close(figure)
    where = "SYNTHETIC TWIN: no real data" if data == "twin" else f"data: {data}"
    figure.suptitle(f"{title}\n{where}", fontsize=12)
    return figure, list(axes[0])


def _matrix(ax, share: np.ndarray, texts: Sequence[str], labels: Sequence[str]) -> None:
    """A matrix of shares (c c), its texts in row-major order."""
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), text in zip(np.ndindex(share.shape), texts, strict=True):
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if share[i, j] > 0.5 else "black")
    ax.set_xticks(range(len(labels)), labels, rotation=30)
    ax.set_yticks(range(len(labels)), labels)
