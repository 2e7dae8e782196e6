"""Checks of sweeps over one hyper-parameter: its best value, and whether the scores are smoother than their noise."""

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from merlib import declarations
from merlib.audit.printed import Finding, finding, is_score, percent, point, show
from merlib.declarations.schema import LOWER_IS_BETTER, SHARES, Cell, Paper, Row, Table

NOISES = (0.1, 0.3)  # standard deviations, in points; the second decides. Over seeds of one recipe 1.3 to 1.7 are usual
FEWEST_POINTS = 4  # of a sweep that can be smooth
RARE = 1e-3  # a note where so smooth sweeps are less probable than this
FARTHEST = 6  # standard deviations from a printed score to which the noise is followed


class Sweep(NamedTuple):
    """The scores of one column over the values of one leaf; all else is equal. `cells` are in the order of values."""

    leaf: str
    base: str | None
    cells: list[Cell]

    @property
    def heights(self) -> tuple[float, ...]:
        """The scores in percent, so that the best is the highest."""
        sign = -1 if self.cells[0].metric in LOWER_IS_BETTER else 1
        return tuple(sign * point(cell) for cell in self.cells)


def sweeps_of(paper: Paper, table: Table) -> list[Sweep]:
    """The sweeps of a table: rows that change one leaf, or whose only column of settings has another value in each."""
    rows_of: dict[tuple[str, str | None], list[tuple[object, Row]]] = {}
    settings = [name for name, column in table.columns.items() if column.metric == "setting"]
    for row in table.row:
        leaves = paper.flat(row.change)
        if row.cited or not row.reported or row.kind == "fact":
            continue
        if len(leaves) == 1:
            ((leaf, value),) = leaves.items()
            rows_of.setdefault((leaf, row.base), []).append((value, row))
        elif len(settings) == 1 and settings[0] in row.reported:
            rows_of.setdefault((settings[0], row.base), []).append((Decimal(row.reported[settings[0]]), row))
    found = []
    for (leaf, base), rows in rows_of.items():
        if all(isinstance(value, int | Decimal) and not isinstance(value, bool) for value, _ in rows):
            rows = sorted(rows, key=lambda pair: pair[0])
        in_rows = [c for _, row in rows for c in declarations.row_cells(paper, table, row) if c.printed]
        for name in table.columns:
            cells = [c for c in in_rows if c.column == name]
            if len(cells) > 2 and is_score(cells[0]):
                found.append(Sweep(leaf, base, cells))
    return found


def sweeps(paper: Paper, table: Table) -> Iterator[Finding]:
    """The base recipe's value of a hyper-parameter is the best of the sweep over it."""
    for leaf, base, cells in sweeps_of(paper, table) if paper.recipe else ():
        falling = cells[0].metric in LOWER_IS_BETTER
        recipe = declarations.recipe(paper, Row(id="base", label="base", base=base), cells[0].corpus)
        chosen = next((c for c in cells if declarations.recipe_of(paper, c) == recipe), None)
        best = (min if falling else max)(cells, key=lambda c: percent(c).middle)
        if chosen and not percent(chosen).meets(percent(best)):
            labels = [table.find(cell.row).label for cell in (chosen, best)]
            message = f"The paper settles on {labels[0]}, which has {show(chosen)}; the sweep over "
            message += f"{leaf} is {'lowest' if falling else 'highest'} at {labels[1]}: {show(best)}."
            yield finding(chosen, "sweep", "note", message, value=point(best), possible=percent(best))


def smooth_sweeps(paper: Paper) -> Iterator[Finding]:
    """All sweeps of a paper together: as many rise to one peak and fall as runs with noise may be expected to.

    The printed scores themselves are taken as the true means, the smoothest that a sweep can be. Scores of the same
    runs are not independent: that all of them are smooth is at most as probable as that the least probable one is.
    """
    by_runs: dict[tuple, list[Sweep]] = {}
    for table in paper.tables.values():
        for sweep in sweeps_of(paper, table):
            if len(sweep.cells) >= FEWEST_POINTS and sweep.cells[0].metric in SHARES:
                by_runs.setdefault((table.id, sweep.leaf, sweep.base, sweep.cells[0].corpus), []).append(sweep)
    least = {noise: [min(one_peak(s.heights, noise) for s in runs) for runs in by_runs.values()] for noise in NOISES}
    smooth = [runs for runs in by_runs.values() if all(rises_once(sweep.heights) for sweep in runs)]
    chances = {noise: at_least(len(smooth), chances) for noise, chances in least.items()}
    if not smooth or chances[NOISES[-1]] >= RARE:
        return
    columns = [sweep for runs in by_runs.values() for sweep in runs]
    rising = [sweep for sweep in columns if rises_once(sweep.heights)]
    step = np.median([abs(a - b) for sweep in rising for a, b in pairwise(sweep.heights)])
    told = ", ".join(f"{noise:g} points p = {p:.1g}" for noise, p in chances.items())
    message = (
        f"{len(rising)} of {len(columns)} columns of sweeps rise to one peak and fall, by steps of {step:.2f} points "
        f"(median); of {len(by_runs)} sweeps, columns of the same runs taken together, {len(smooth)} do. If the "
        "printed scores were the true means and each run had independent noise, as many would do so, with a standard "
        f"deviation of {told}. The premise is that a cell is one run: means over many runs, noise that rows share, and "
        "scores smoothed before printing leave sweeps smoother."
    )
    for sweep in sorted(rising, key=lambda s: one_peak(s.heights, NOISES[-1])):
        highest = max(range(len(sweep.cells)), key=lambda i: sweep.heights[i])
        digits = f"{', '.join(cell.printed for cell in sweep.cells)} ({sweep.cells[0].table}, {sweep.leaf})"
        chance = f"with {NOISES[-1]:g} points of noise p = {one_peak(sweep.heights, NOISES[-1]):.2g}"
        message = message or f"{digits} rise to one peak and fall; {chance}."
        yield finding(sweep.cells[highest], "smooth_sweeps", "note", message, fact="smooth_sweeps")
        message = ""


def rises_once(heights: tuple[float, ...]) -> bool:
    """Whether the numbers rise to one peak and fall, either part possibly empty, and no neighbours are equal."""
    steps = [b > a for a, b in pairwise(heights)]
    return all(a != b for a, b in pairwise(heights)) and steps == sorted(steps, reverse=True)


@cache
def one_peak(means: tuple[float, ...], noise: float) -> float:
    """The probability that independent normal numbers with these means rise to one peak and fall.

    The sum over the place of the peak of the integral of its density times the probabilities that the numbers before
    it rise to below it and those after it fall from below it, each of them an integral in turn.
    """
    means = np.asarray(means) / noise
    t = np.arange(means.min() - FARTHEST, means.max() + FARTHEST, 0.02)
    density = np.exp(-0.5 * (t - means[:, None]) ** 2) / np.sqrt(2 * np.pi)  # points grid
    before, after = _ordered_below(density, t), _ordered_below(density[::-1], t)[::-1]
    return float(min(1.0, np.trapezoid(density * before * after, t, axis=1).sum()))


def _ordered_below(density: np.ndarray, t: np.ndarray) -> np.ndarray:
    """For each number and t: the probability that all numbers before it are in ascending order and below t."""
    below = [np.ones_like(t)]
    for each in density[:-1]:
        joint = each * below[-1]
        below.append(np.concatenate([[0.0], np.cumsum((joint[1:] + joint[:-1]) / 2) * (t[1] - t[0])]))
    return np.array(below)


def at_least(k: int, chances: list[float]) -> float:
    """The probability that at least k of independent events with these chances happen."""
    counts = np.ones(1)  # counts[i]: the probability of i events
    for p in chances:
        counts = np.append(counts * (1 - p), 0) + np.append(0, counts * p)
    return float(counts[k:].sum())
