"""Printed digits as intervals, and the form of a finding.

A printed 68.75 stands for any number that rounds (half up or half even) or truncates to it: [68.745, 68.76]. The audit
computes in percent; a finding states its numbers in the unit of its cell.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, NamedTuple

from merlib.declarations.printed import number
from merlib.declarations.schema import OF_CLASS, SCORES, SHARES, Cell, Strict
from merlib.errors import RequestError

EPS = 1e-6  # percent: far below a printed digit, far above the errors of floats and of the solver


class Finding(Strict):
    """A printed number that does not fit. `error`: it fits under no rounding; `note`: it may be innocent.

    fact: findings of a paper with the same name here are one fact; the first of them has the others as `consequences`.
    """

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
    fact: str
    consequences: tuple["Finding", ...] = ()

    def flat(self) -> list["Finding"]:
        """The finding and its consequences, one after the other."""
        return [self.model_copy(update={"consequences": ()}), *self.consequences]


class Interval(NamedTuple):
    """All numbers from `low` to `high`, both included."""

    low: float
    high: float

    def meets(self, other: "Interval") -> bool:
        """Whether the two have a number in common, within EPS."""
        return self.low <= other.high + EPS and other.low <= self.high + EPS

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


ANY = Interval(0.0, 100.0)


def interval(text: str, *, exact: bool = False) -> Interval:
    """All numbers that a paper may have printed as `text`; `exact` for counts and settings, which are not rounded."""
    value = number(text)
    if value is None:
        raise RequestError(f"{text!r} is no number")
    last = 0.0 if exact else float(Decimal(1).scaleb(value.as_tuple().exponent))
    v = float(value)
    return Interval(v - last / 2, v + last) if v >= 0 else Interval(v - last, v + last / 2)


def scale(cell: Cell) -> float:
    """The factor that turns the cell's unit into percent."""
    return 100.0 if cell.unit == "fraction" else 1.0


def is_score(cell: Cell) -> bool:
    """Whether a cell is a score of a test set or of a class, and no count, setting or loss."""
    return cell.metric in (*SCORES, *OF_CLASS)


def percent(cell: Cell) -> Interval:
    """The interval of a printed score in percent; of a count or a setting, the number itself."""
    low, high = interval(cell.printed, exact=not is_score(cell))
    scaled = Interval(low * scale(cell), high * scale(cell))
    return Interval(max(scaled.low, 0.0), min(scaled.high, 100.0)) if cell.metric in SHARES else scaled


def point(cell: Cell) -> float:
    """The printed digits themselves, in percent."""
    return float(number(cell.printed)) * scale(cell)


def show(cell: Cell) -> str:
    """A cell in words: its digits and its address within the paper."""
    column = "" if cell.column == "value" else f".{cell.column}"
    return f"{cell.printed} ({cell.table}/{cell.row}{column})"


def finding(
    cell: Cell, check: str, severity: str, message: str, *, value=None, possible: Interval | None = None, fact: str = ""
) -> Finding:
    """A finding at a cell, in percent: the `possible` interval and the recomputed `value` (default: its middle).

    fact: what it is a finding of, together with others; by default what the check finds in one row is one fact.
    """
    recomputed = possible.middle if value is None and possible else value
    numbers = dict(zip(("recomputed", "low", "high"), (recomputed, *(possible or (None, None))), strict=True))
    numbers = {name: None if number is None else round(number / scale(cell), 6) for name, number in numbers.items()}
    address = cell.model_dump(include={"paper", "table", "row", "column", "printed"})
    fact = fact or f"{check} {cell.table}/{cell.row}"
    return Finding(**address, **numbers, check=check, severity=severity, message=message, fact=fact)


def folded(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each fact: its first error, or else its first note, leads; the others are its consequences."""
    by_fact: dict[tuple[str, str], list[Finding]] = {}
    for each in findings:
        by_fact.setdefault((each.paper, each.fact), []).append(each)
    groups = (sorted(group, key=lambda f: f.severity) for group in by_fact.values())
    return [first.model_copy(update={"consequences": tuple(others)}) for first, *others in groups]
