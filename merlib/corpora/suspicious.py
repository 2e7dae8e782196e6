"""What in an array of features is likely no feature: an index, the label, constants, rows of zeros."""

import numpy as np
import pandas as pd

MANY = 20  # rows with different whole numbers, which then number them
ROWS = 10  # of each different value, at least, before a column can be said to give the label away
CONSTANT = "is always"
VALUES = 50  # different values, at most, of a column from which the label follows


def columns(stored: np.ndarray, values: np.ndarray, target: np.ndarray, names: list[str]) -> dict[str, str]:
    """Name -> why a column of a file is likely no feature. stored: n d, as in the file; values: those of the table.

    target: score or label of each row of `values`, NaN for none.
    """
    reasons = {name: "gives the label" for name in leaks(values, target, names)}
    for name, column in zip(names, stored.T, strict=True):
        if not name or name.startswith("Unnamed: "):
            reasons[name] = "has no name"
        elif len(column) > 2 and (column == column[0]).all():
            reasons[name] = f"{CONSTANT} {column[0]:g}"
        elif len(column) > 2 and _is_index(column):
            reasons[name] = "counts the rows"
    return reasons


def _is_index(column: np.ndarray) -> bool:
    """Whether whole numbers number the rows: they rise, fall, leave none out, or differ in MANY rows."""
    if not (np.isfinite(column).all() and (column == np.round(column)).all()):
        return False
    steps, ordered = np.diff(column), np.diff(np.sort(column))
    differ = (ordered > 0).all() and len(column) >= MANY
    return bool((steps > 0).all() or (steps < 0).all() or (ordered == 1).all() or differ)


def leaks(values: np.ndarray, target: np.ndarray, names: list[str]) -> list[str]:
    """The columns (n d) that follow from the label, or from whose few values the label follows."""
    values, target = values[~np.isnan(target)], target[~np.isnan(target)]
    if len(target) < 2 * ROWS or np.ptp(target) == 0:
        return []
    follow = _constant_within(target, values) & (values != values[0]).any(axis=0)
    ordered = np.sort(values[:200], axis=0)
    few = np.flatnonzero((ordered[1:] != ordered[:-1]).sum(axis=0) < VALUES)
    for i in few[~follow[few]]:
        different = np.unique(values[:, i]).size
        settled = 1 < different <= min(VALUES, len(target) / ROWS)
        follow[i] = settled and _constant_within(values[:, i], target[:, None])[0]
    return [names[i] for i in np.flatnonzero(follow)]


def _constant_within(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which columns (n d) are equal wherever `groups` (n) are, where at least half of the rows have an equal."""
    order = np.argsort(groups, kind="stable")
    same = groups[order][1:] == groups[order][:-1]
    if 2 * same.sum() < len(groups):
        return np.zeros(values.shape[1], bool)
    return (values[order[1:][same]] == values[order[:-1][same]]).all(axis=0)


def summary(values: np.ndarray, ids: np.ndarray) -> str:
    """How many utterances have zeros only, and how many columns are constant. values: s d; ids: of each step, s."""
    zero = pd.Series(~values.any(axis=1)).groupby(ids, sort=False).all()
    parts = [f"{zero.sum()} of {len(zero)} utterances have zeros only"] if zero.any() else []
    if len(values) > 2 and (constant := (values == values[:1]).all(axis=0).sum()):
        parts.append(f"{constant} of {values.shape[1]} columns are constant")
    return "; ".join(parts)
