"""Lines: scores and losses over the epochs of a run, and scores over the values of a hyperparameter."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from merlib.figures.style import OURS, PEAK, PRINTED, canvas
from merlib.training import metrics


def learning_curves(run: Mapping[str, Any], *, data: str, title: str) -> Figure:
    """Losses, the score that selects and the gradient norm by epoch, with the selected epoch and the test peak.

    run: the content of a run.json.
    """
    metric = run["recipe"]["protocol"]["select_metric"]
    scale, unit = (1, "") if metric in metrics.LOWER_IS_BETTER else (100, " (%)")
    history = pd.DataFrame(run["history"])
    epoch = history.index + 1
    figure, (losses, scores, norm) = canvas(title, data, 3, size=(4.4, 3.6))
    for name in [n for n in history if n.startswith("train/") and n != "train/grad_norm"]:
        losses.plot(epoch, history[name], lw=2 if name == "train/loss" else 1, label=name.replace("_", " "))
    losses.plot(epoch, history["val/loss"], "k--", lw=2, label="val/loss")
    losses.set(title="loss", xlabel="epoch")
    if losses.dataLim.ymax > 10:
        losses.set_yscale("symlog")
        losses.yaxis.set_major_formatter("{x:.3g}")
    marks = (("val", "val", "selected on val", OURS, "o"), ("test", "test_peak", "test peak", PEAK, "*"))
    for split, selection, text, colour, marker in marks:
        selected = run["selected"][selection]["epoch"]
        score = scale * history[f"test/{metric}"][selected]
        scores.plot(epoch, scale * history[f"{split}/{metric}"], color=colour, label=split)
        label = f"{text}: epoch {selected + 1}"
        scores.plot(selected + 1, score, marker, color=colour, ms=11, mec="black", label=label)
        scores.axvline(selected + 1, color=colour, lw=0.8, ls=":")
    scores.set(title=metric.replace("_", " ") + unit, xlabel="epoch")
    norm.plot(epoch, history["train/grad_norm"], color="black", label="gradient norm")
    norm.set(title="gradient norm before clipping", xlabel="epoch", ylim=(0, None))
    for ax in (losses, scores, norm):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(fontsize=8)
    return figure


def sweep(comparison: pd.DataFrame, *, data: str, x: str) -> Figure:
    """How the score moves with the hyperparameter `x`, printed beside reproduced; one panel per column of the table.

    Rows must be labelled `name = value`. Each line is drawn around its own mean over the sweep (given in the legend),
    so that both shapes share one scale; the bars are one standard deviation over seeds and folds.
    """
    columns = list(dict.fromkeys(comparison["column"]))
    figure, axes = canvas(f"Sweep of {x}", data, len(columns), size=(3.9, 3.6), sharey=True)
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column]
        ticks = np.arange(len(lines))
        for name, colour, marker in (("printed", PRINTED, "s"), ("reproduced", OURS, "o")):
            value = lines[name].astype(float)
            bars = {"yerr": lines["spread"].astype(float), "capsize": 3} if name == "reproduced" else {}
            mean = f"mean {value.mean():.2f}" if value.notna().any() else "absent"
            ax.errorbar(ticks, value - value.mean(), color=colour, marker=marker, label=f"{name}: {mean}", **bars)
        ax.set_xticks(ticks, [label.split("=")[-1].strip() for label in lines["label"]], rotation=45)
        ax.set(title=column.replace("_", " "), xlabel=x)
        ax.axhline(0, color="black", lw=0.5)
        ax.legend(fontsize=8)
    for ax in axes[:1]:
        ax.set_ylabel("points above the mean of the sweep")
    return figure
