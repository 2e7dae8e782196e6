"""The specification curve of a multiverse: the scores of all draws in order, above the options that each takes."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from merlib.figures.style import OURS, PEAK, PRINTED, canvas

STYLES = ({"color": PRINTED, "ls": "-"}, {"color": OURS, "ls": "--"}, {"color": PEAK, "ls": ":"})


def specification_curve(scores: pd.DataFrame, *, data: str, title: str, lines: Mapping[str, float]) -> Figure:
    """Above, the draws in the order of their mean score, with that of every seed; below, which options each takes.

    scores: a line a draw and seed, with `row`, `score` and a column a reading, as `study.multiverse.scores` returns
    them. lines: scores to read them against, such as the printed one, as horizontal lines.
    """
    readings = [name for name in scores if name not in ("row", "seed", "score")]
    options = [(name, option) for name in readings for option in dict.fromkeys(scores[name])]
    height = 3.2 + 0.19 * len(options)
    figure, axes = canvas(
        title, data, min(len(scores), 1), size=(10, height), sharex=True, heights=(3.2, max(height - 3.2, 0.1))
    )
    if axes:
        by_draw = scores.groupby("row")
        order = by_draw["score"].mean().sort_values(kind="stable")
        place = dict(zip(order.index, range(len(order)), strict=True))
        _curve(axes[0], scores, order, place, lines)
        _options(axes[1], by_draw[readings].first(), options, place)
    return figure


def _curve(ax: Axes, scores: pd.DataFrame, order: pd.Series, place: Mapping[str, int], lines: Mapping[str, float]):
    spread = scores.groupby("row")["score"].agg(["min", "max"]).loc[order.index]
    ax.vlines(range(len(order)), spread["min"], spread["max"], color="black", lw=1)
    ax.plot(scores["row"].map(place), scores["score"], "_", color="black", ms=5, label="a seed")
    ax.plot(range(len(order)), order, "o", color="black", ms=5, label="mean of a draw")
    for (name, value), style in zip(lines.items(), STYLES, strict=False):
        ax.axhline(value, label=f"{name}: {value:.1f}", **style)
    ax.set(ylabel="%")
    ax.legend(fontsize=8)


def _options(ax: Axes, taken: pd.DataFrame, options: list[tuple[str, str]], place: Mapping[str, int]):
    for y, (name, option) in enumerate(options):
        x = sorted(place[draw] for draw in taken.index[taken[name] == option])
        ax.plot(x, [y] * len(x), "s", color="black", ms=4)
        if y and options[y - 1][0] != name:
            ax.axhline(y - 0.5, color=PRINTED, lw=0.5)
    ax.set_yticks(range(len(options)), [f"{name}: {option}" for name, option in options], fontsize=8)
    ax.set(xlabel="draws, by their mean score", xticks=[], ylim=(len(options) - 0.5, -0.5))
