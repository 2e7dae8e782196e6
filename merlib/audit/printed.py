"""Printed digits as intervals, and the findings that come of them.

A printed 68.75 is any number that rounds (half up or half even) or truncates to it: [68.745, 68.76]. Everything is in
percent inside the audit; a finding speaks in the unit of its cell.
"""

from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from merlib.declarations.schema import SCORES, Cell, Strict
from merlib.errors import RequestError

EPS = 1e-6  # percent: far below a printed digit, far above what floats and the solver lose


class Finding(Strict):
    """One thing that does not fit. `error`: it cannot hold under any rounding; `note`: it has an innocent reading."""

    paper: str
    table: str
    row: str
    column: str
    check: str
    severity: Literal["error", "note"]
    printed: str | None
    recomputed: float | None
    low: float | None
    high: float | None
    message: str


class Interval(NamedTuple):
    low: float
    high: float

    def meets(self, other: "Interval") -> bool:
        return self.low <= other.high + EPS and other.low <= self.high + EPS

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


ANY = Interval(0.0, 100.0)


def number(text: str) -> Decimal | None:
    """The number that is printed, without a sign of percent or of thousands; None where there is none."""
    try:
        return Decimal(text.strip().rstrip("%").replace(",", ""))
    except InvalidOperation:
        return None


def interval(text: str, *, exact: bool = False) -> Interval:
    """All numbers that are printed so; `exact` for counts and settings, which are not rounded."""
    value = number(text)
    if value is None:
        raise RequestError(f"{text!r} is no number")
    last = 0.0 if exact else float(Decimal(1).scaleb(value.as_tuple().exponent))
    v = float(value)
    return Interval(v - last / 2, v + last) if v >= 0 else Interval(v - last, v + last / 2)


def scale(cell: Cell) -> float:
    """What turns the cell's unit into percent."""
    return 100.0 if cell.unit == "fraction" else 1.0


def is_score(cell: Cell) -> bool:
    return cell.metric in SCORES or cell.metric in ("f1", "precision", "recall")


def percent(cell: Cell) -> Interval:
    """The interval of a printed score in percent; of a count or a setting, the number itself."""
    low, high = interval(cell.printed, exact=not is_score(cell))
    found = Interval(low * scale(cell), high * scale(cell))
    bounded = is_score(cell) and cell.metric not in ("mae", "correlation")
    return Interval(max(found.low, 0.0), min(found.high, 100.0)) if bounded and found.meets(ANY) else found


def point(cell: Cell) -> float:
    """The printed digits themselves, in percent."""
    return float(number(cell.printed)) * scale(cell)


def show(cell: Cell) -> str:
    """A cell in a sentence: its address within the paper and its digits."""
    place = "" if cell.column == "value" else f".{cell.column}"
    return f"{cell.printed} ({cell.table}/{cell.row}{place})"


def finding(
    cell: Cell, check: str, severity: str, message: str, *, value=None, possible: Interval | None = None
) -> Finding:
    """A finding at a cell; `value` and the `possible` interval are given in percent."""
    by = scale(cell)
    low, high = (None, None) if possible is None else (round(possible.low / by, 6), round(possible.high / by, 6))
    return Finding(
        paper=cell.paper, table=cell.table, row=cell.row, column=cell.column, check=check, severity=severity,
        printed=cell.printed, recomputed=None if value is None else round(value / by, 6), low=low, high=high,
        message=message,
    )  # fmt: skip
