"""Printed beside reproduced: classes, ablations, sweeps, the gap between two selections, and the scoreboard."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from merlib.data.table import MODALITIES
from merlib.figures.style import COLOURS, FLOOR, OURS, PEAK, PRINTED, canvas


def per_class(comparison: pd.DataFrame, *, data: str, rows: Sequence[str]) -> Figure:
    """F1 of each emotion (columns f1_<emotion>), printed (hatched) beside reproduced: one panel per row."""
    drawn = comparison[comparison["row"].isin(rows)]
    figure, axes = canvas("F1 of each emotion", data, len(rows), size=(5.2, 3.6), features=_features(drawn))
    for ax, row in zip(axes, rows, strict=True):
        lines = comparison[(comparison["row"] == row) & comparison["column"].str.startswith("f1_")]
        emotions = lines["column"].str.removeprefix("f1_").tolist()
        x, colours = np.arange(len(lines)), [COLOURS[emotion] for emotion in emotions]
        printed, reproduced, spread = (lines[name].astype(float) for name in ("printed", "reproduced", "spread"))
        if printed.notna().any():
            ax.bar(x - 0.2, printed, 0.38, color="white", edgecolor=colours, hatch="///", label="printed")
        style = {"color": colours, "edgecolor": "black", "label": "reproduced"}
        ax.bar(x + 0.2, reproduced, 0.38, yerr=spread, capsize=3, **style)
        ax.set_xticks(x, emotions, rotation=30)
        ax.set(title=lines["label"].iloc[0], ylim=(0, 100), ylabel="F1 (%)")
        ax.legend(ncols=2, fontsize=8)
    return figure


def drops(comparison: pd.DataFrame, *, data: str, base: str) -> Figure:
    """The score of every row minus that of the row `base`, such as an ablation's full model, one panel per column."""
    columns, absent = _with_runs(comparison, dict.fromkeys(comparison.loc[comparison["row"] == base, "column"]))
    # the labels stand beside the first panel
    width = 3.7 + 0.07 * max(map(len, comparison["label"]), default=0) / max(len(columns), 1)
    whole = comparison.loc[comparison["row"] == base, "label"]
    title = f"Change of the score against: {whole.iloc[0] if len(whole) else base}{absent}"
    options = {"size": (width, max(3.8, 0.28 * comparison["row"].nunique())), "features": _features(comparison)}
    figure, axes = canvas(title, data, len(columns), sharex=True, sharey=True, **options)
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column].set_index("row")
        full, others = lines.loc[base], lines.drop(index=base)
        y = np.arange(len(others))[::-1]
        both = np.hypot(others["spread"].astype(float), float(full["spread"]))
        for name, colour, shift, bars in (("printed", PRINTED, 0.2, None), ("reproduced", OURS, -0.2, both)):
            change = others[name].astype(float) - float(full[name])
            if change.isna().all():
                continue  # of a table that this study adds, nothing is printed
            ax.barh(y + shift, change, 0.38, xerr=bars, capsize=2, color=colour, label=name)
        ax.set_yticks(y, others["label"])
        ax.set(title=_words(comparison, column), xlabel="points")
        ax.axvline(0, color="black", lw=0.8)
    for ax in axes[:1]:
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=8)
    return figure


def selection_gap(comparison: pd.DataFrame, *, data: str, column: str = "weighted_f1") -> Figure:
    """What choosing the epoch on the test set adds: for every row that has run, both scores and the printed one."""
    lines = comparison[(comparison["column"] == column) & comparison["test_peak"].notna()][::-1]
    title = f"{_words(lines, column) if len(lines) else column}: selected on validation, or at the test peak"
    options = {"size": (8.5, 0.42 * len(lines) + 1.6), "features": _features(lines)}
    figure, axes = canvas(title, data, min(len(lines), 1), **options)
    for ax in axes:
        _dumbbells(ax, np.arange(len(lines)), lines)
        ax.set_yticks(np.arange(len(lines)), lines["label"].map(_folded))
        ax.set(xlabel="%", ylim=(-0.6, len(lines) - 0.4))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def sweep(comparison: pd.DataFrame, *, data: str, x: str) -> Figure:
    """How the score moves with the hyperparameter `x`, printed beside reproduced; one panel per column of the table.

    Rows must be labelled `name = value`. Each line is drawn around its own mean over the sweep (given in the legend),
    so that both shapes share one scale; the bars are one standard deviation over seeds and folds.
    """
    columns, absent = _with_runs(comparison, comparison["column"].unique())
    title, features = f"Sweep of {x}{absent}", _features(comparison)
    figure, axes = canvas(title, data, len(columns), size=(3.9, 3.6), sharey=True, features=features)
    for ax, column in zip(axes, columns, strict=True):
        lines = comparison[comparison["column"] == column]
        ticks = np.arange(len(lines))
        for name, colour, marker in (("printed", PRINTED, "s"), ("reproduced", OURS, "o")):
            value = lines[name].astype(float)
            bars = {"yerr": lines["spread"].astype(float), "capsize": 3} if name == "reproduced" else {}
            if value.isna().all():
                continue
            mean = f"mean {value.mean():.2f}"
            ax.errorbar(ticks, value - value.mean(), color=colour, marker=marker, label=f"{name}: {mean}", **bars)
        ax.set_xticks(ticks, [label.split("=")[-1].strip() for label in lines["label"]], rotation=45)
        ax.set(title=_words(comparison, column), xlabel=x)
        ax.axhline(0, color="black", lw=0.5)
        ax.legend(fontsize=8)
    for ax in axes[:1]:
        ax.set_ylabel("points above the mean of the sweep")
    return figure


def headlines(board: pd.DataFrame, *, data: str) -> Figure:
    """The network that each paper proposes, one line a headline score of `report.scoreboard`: printed, reproduced, and
    the best floor that has run on the same modalities. A white dot marks what the scoreboard doubts."""
    lines = []
    for _, group in board.groupby(["paper", "table", "column"], sort=False):
        proposed = group[(group["kind"] == "proposed") & group["printed"].notna()]
        if len(proposed):
            shown = proposed.iloc[[proposed["printed"].argmax()]]  # the first, if equal
            alike = group["features"].map(_present) == _present(shown["features"].iloc[0])
            best = group.loc[(group["kind"] == "floor") & alike, "reproduced"].max()
            lines.append(shown.assign(best_floor=best))
    shown = pd.concat(lines) if lines else board.assign(best_floor=np.nan).iloc[:0]
    size = (8.5, 0.5 * len(shown) + 1.6)
    figure, axes = canvas("What the papers print, and what runs here", data, min(len(shown), 1), size=size)
    for ax in axes:
        y = np.arange(len(shown))
        _dumbbells(ax, y, shown)
        in_doubt = shown["reproduced"].astype(float).where(shown["doubt"].fillna("") != "")
        ax.plot(in_doubt, y, "o", mfc="white", mec=OURS, ms=5, label="in doubt (stale, partial, ...)")
        ax.plot(shown["best_floor"], y + 0.25, "^", color=FLOOR, ms=8, mec="black", label="best floor")
        ax.set_yticks(y, map(_headline, shown["heading"], shown["label"]), fontsize=9)
        ax.grid(axis="x", lw=0.3)
        ax.set(xlabel="%", ylim=(len(shown) - 0.5, -0.6))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def scoreboard(board: pd.DataFrame, *, data: str) -> Figure:
    """The groups of `report.scoreboard` of one paper that have printed scores, with their floors, below one another."""
    groups = []
    for _, lines in board.groupby(["table", "column"], sort=False):
        if lines["printed"].notna().any():
            heading, gap = (pd.DataFrame({"label": [text]}) for text in (lines["heading"].iloc[0], ""))
            groups.append(pd.concat([heading, lines, gap]))
    shown = pd.concat(groups) if groups else board.iloc[:0]
    size = (8.0, 0.25 * len(shown) + 1.6)
    figure, axes = canvas("Printed, reproduced, floors", data, len(groups[:1]), size=size)
    for ax in axes:
        _dumbbells(ax, np.arange(len(shown)), shown)
        ax.set_yticks(range(len(shown)), shown["label"].map(_folded), fontsize=9)
        for label, is_heading in zip(ax.get_yticklabels(), shown["paper"].isna(), strict=True):
            label.set_fontweight("bold" if is_heading else "normal")
        ax.tick_params("y", length=0)
        ax.grid(axis="x", lw=0.3)
        ax.set(xlabel="%", ylim=(len(shown) - 0.5, -0.6))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _headline(heading: str, label: str) -> str:
    """What the score is of, and below it the row where that is more than the network's name."""
    return heading if heading.startswith(f"{label} on ") else f"{heading}\n{label}"


def _dumbbells(ax: Axes, y: np.ndarray, lines: pd.DataFrame) -> None:
    """Draw lines of a comparison at heights y: selected on validation, with the spread; test peak; printed score."""
    scores = lines[["reproduced", "spread", "test_peak", "printed"]].astype(float)
    ax.hlines(y, scores["reproduced"], scores["test_peak"], color="black", lw=1)
    ax.errorbar(scores["reproduced"], y, xerr=scores["spread"], fmt="none", ecolor=OURS, elinewidth=1, capsize=2)
    for name, colour, marker in (("reproduced", OURS, "o"), ("test_peak", PEAK, "*"), ("printed", PRINTED, "s")):
        ax.plot(scores[name], y, marker, color=colour, ms=8, mec="black", label=name.replace("_", " "))


def _with_runs(comparison: pd.DataFrame, columns: Iterable[str]) -> tuple[list[str], str]:
    """The columns in which something has run, and a line for the title that names the others; all where none has.

    A panel of printed scores alone shows nothing that the table does not say.
    """
    columns = list(columns)
    run = [name for name in columns if comparison.loc[comparison["column"] == name, "reproduced"].notna().any()]
    if not run or len(run) == len(columns):
        return columns, ""
    words = (_words(comparison, name) for name in columns if name not in run)
    return run, f"\nnot run here: {', '.join(words)}"


def _words(comparison: pd.DataFrame, column: str) -> str:
    """What a column of a table measures, in words."""
    return comparison.loc[comparison["column"] == column, "score"].iloc[0]


def _features(comparison: pd.DataFrame) -> str:
    """What stands behind the reproduced scores: their modalities and features, where those are the same in all."""
    joined = comparison.loc[comparison["reproduced"].notna(), "features"]  # by ` or ` where runs of a row differ
    sets = list(dict.fromkeys(each for features in joined for each in features.split(" or ")))
    if len(sets) != 1:
        return f"{len(sets)} sets of features" if sets else ""
    absent = (f"no {modality}" for modality in MODALITIES)
    parts = (name if part == "absent" else part for part, name in zip(sets[0].split(" | "), absent, strict=False))
    return "; ".join(parts)


def _present(features: str) -> str:
    """The modalities that passports in the column `features` have."""
    return " ".join(modality for modality in MODALITIES if f"{modality}: " in features)


def _folded(label: str) -> str:
    """A label in lines of 46 letters at most."""
    return textwrap.fill(label, 46)
