"""Checks of what the text claims: the relation that a claim states, and a gain beside the test set's sampling noise."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from merlib import declarations
from merlib.audit.evaluations import Evaluation, size_of
from merlib.audit.facts import released_counts
from merlib.audit.printed import Finding, Interval, finding, interval, is_score, number, percent, point, scale, show
from merlib.declarations.schema import SHARES, Cell, Claim, Paper

APPROXIMATE = re.compile(r"\b(about|approximately|nearly|roughly|almost)\b", re.IGNORECASE)


class Violation(NamedTuple):
    """Why a claimed relation does not hold; `possible` is the interval of the recomputed number."""

    message: str
    severity: str = "error"
    possible: Interval | None = None


def claim_findings(paper: Paper) -> Iterator[Finding]:
    """The claims that do not hold; what is approximate, or our reading of a sentence, is a note, never an error."""
    known = declarations.addresses(paper)
    for claim in paper.claims:
        cells = [known[address] for address in claim.of]
        violation = _violation(paper, claim, cells) if cells and claim.kind != "constant" else None
        if violation is None:
            continue
        cell = known.get(f"claims/{claim.id}") or _at_claim(cells[0], claim)
        severity = "note" if claim.interpreted or APPROXIMATE.search(claim.says) else violation.severity
        message = f"{claim.where}: {claim.says}. {violation.message}{f' ({claim.note})' if claim.note else ''}"
        yield finding(cell, claim.kind, severity, message, possible=violation.possible, fact=_fact(claim, cells))


def _fact(claim: Claim, cells: list[Cell]) -> str:
    """Claims of one sentence are one fact; a sum of counts of one row is one with whatever else is wrong with them."""
    rows = {f"{cell.table}/{cell.row}" for cell in cells if cell.metric == "count"}
    return f"counts {rows.pop()}" if claim.kind == "sum" and len(rows) == 1 else f"claims/{claim.sentence or claim.id}"


def _at_claim(cell: Cell, claim: Claim) -> Cell:
    """The cell under the address of a claim, with the digits of the claim."""
    return cell.model_copy(update={"table": "claims", "row": claim.id, "column": "value", "printed": claim.printed})


def _violation(paper: Paper, claim: Claim, cells: list[Cell]) -> Violation | None:
    """None where the relation holds."""
    if claim.kind == "best":
        return _not_best(paper, claim, cells[0])
    if claim.kind == "filtered":
        return _unfiltered(cells)
    if claim.kind == "order":
        return _out_of_order(claim, cells)
    if claim.kind == "equal" and claim.printed is None:
        pairs = [(a, b) for i, a in enumerate(cells) for b in cells[i + 1 :] if not _equal(a, b)]
        return Violation(f"{show(pairs[0][0])} is not {show(pairs[0][1])}.") if pairs else None
    for by in sorted({1.0, *(1 / scale(c) for c in cells)}):  # a text may print percent of a table in fractions
        whole = by != 1 and number(claim.printed).as_tuple().exponent >= 0  # a fraction is not rounded to 0 or to 1
        stated = interval(claim.printed, exact=whole or not any(is_score(c) for c in cells))
        possible, formula = _recomputed(claim, [Interval(*(end * by for end in percent(c))) for c in cells], cells)
        negated = Interval(-stated.high, -stated.low)  # a text may leave out the sign of a difference
        if stated.meets(possible) or (claim.kind in ("difference", "relative") and negated.meets(possible)):
            return None
    computed = formula if claim.kind in ("value", "equal") else f"{formula} is {_in_words(possible)}"
    return Violation(f"{computed}; {claim.printed} is printed.", possible=possible)


def _recomputed(claim: Claim, ends: list[Interval], cells: list[Cell]) -> tuple[Interval, str]:
    """The interval of the claimed number, computed from the cells' intervals `ends`, and the formula in words."""
    names = [show(c) for c in cells]
    if claim.kind == "difference":
        return Interval(ends[0].low - ends[1].high, ends[0].high - ends[1].low), f"{names[0]} - {names[1]}"
    if claim.kind == "relative":
        return _relative(*ends), f"100 ({names[0]} - {names[1]}) / {cells[1].printed}"
    if claim.kind == "sum":
        return Interval(sum(e.low for e in ends), sum(e.high for e in ends)), " + ".join(names)
    other = next((e for e in ends if not e.meets(interval(claim.printed, exact=not is_score(cells[0])))), ends[0])
    return other, names[ends.index(other)]


def _relative(new: Interval, old: Interval) -> Interval:
    """100 (new - old) / old: without bounds where old may be 0."""
    if old.low <= 0 <= old.high:
        return Interval(-math.inf, math.inf)
    corners = [100 * (a - b) / b for a in new for b in old]
    return Interval(min(corners), max(corners))


def _in_words(of: Interval) -> str:
    return f"{of.middle:.4g}" if of.high - of.low < 1e-9 else f"between {of.low:.6g} and {of.high:.6g}"


def _equal(a: Cell, b: Cell) -> bool:
    return percent(a).meets(percent(b)) if is_score(a) or is_score(b) else number(a.printed) == number(b.printed)


def rivals(paper: Paper, claim: Claim, cell: Cell) -> list[Cell]:
    """The cells that a `best` claim compares with, the best first."""
    others = declarations.rivals(paper, claim, cell)
    return sorted(others, key=lambda c: percent(c).middle, reverse=not claim.lowest)


def _contradiction(high: Cell, low: Cell) -> tuple[str, str] | None:
    """How the digits contradict high > low (`reversed` or `equal`) and the severity; None where they do not.

    Digits that no rounding can bring into order are an error. Digits of one precision in the wrong order are a note:
    they may still round from numbers in the right order, but not by one rule of rounding.
    """
    if percent(high).high < percent(low).low:
        return "reversed", "error"
    if number(high.printed) == number(low.printed) and high.unit == low.unit:
        return "equal", "note"
    precisions = {(c.unit, number(c.printed).as_tuple().exponent) for c in (high, low)}
    return ("reversed", "note") if len(precisions) == 1 and point(high) < point(low) else None


def _not_best(paper: Paper, claim: Claim, cell: Cell) -> Violation | None:
    word = "low" if claim.lowest else "high"
    for other in rivals(paper, claim, cell):
        if contradiction := _contradiction(other, cell) if claim.lowest else _contradiction(cell, other):
            kind, severity = contradiction
            relation = {"reversed": f"{word}er than", "equal": f"as {word} as"}[kind]
            return Violation(f"{show(other)} is {relation} {show(cell)}.", severity)
    return None


def _unfiltered(cells: list[Cell]) -> Violation | None:
    """Counts from which utterances were removed are below those of the released corpus."""
    for cell in cells:
        released, counted = released_counts(cell)
        if released and number(cell.printed) >= max(released):
            message = f"{show(cell)} {counted} are not fewer than the {max(released)} of the released corpus."
            return Violation(message, "note", Interval(0, max(released) - 1))
    return None


def _out_of_order(claim: Claim, cells: list[Cell]) -> Violation | None:
    for first, second in pairwise(cells):
        high, low = (second, first) if claim.lowest else (first, second)
        if contradiction := _contradiction(high, low):
            kind, severity = contradiction
            equal = f"{show(first)} and {show(second)} are printed equal."
            return Violation(equal if kind == "equal" else f"{show(high)} is not above {show(low)}.", severity)
    return None


def gain_findings(paper: Paper, evaluated: list[Evaluation]) -> Iterator[Finding]:
    """The claimed gains within the sampling noise of the higher score; a gain that is claimed twice is noted once."""
    seen = set()
    for claim in paper.claims:
        pair = compared_scores(paper, claim)
        n = size_of(paper, pair[0], evaluated) if pair and pair not in seen else None
        seen.add(pair)
        if n is None:
            continue
        high, low = pair
        noise, by = wilson(point(high), n), scale(high)
        if noise.low <= point(low) <= noise.high:
            ends = " to ".join(f"{end / by:.{2 if by == 1 else 4}f}" for end in noise)
            premise = f"within {ends}, the 95 % interval that {n} utterances leave around {show(high)}"
            message = f"{claim.where}: {claim.says}. The other score, {show(low)}, lies {premise}."
            fact = f"power {high.table}"
            yield finding(_at_claim(high, claim), "power", "note", message, value=point(low), possible=noise, fact=fact)


def compared_scores(paper: Paper, claim: Claim) -> tuple[Cell, Cell] | None:
    """The two scores whose difference is the gain, the higher first; None where a claim is of no gain.

    A claimed difference names both; the gain of a best score is over its runner-up.
    """
    known = declarations.addresses(paper)
    cells = [known[address] for address in claim.of]
    if claim.kind == "best" and is_score(cells[0]) and not claim.lowest:
        cells += rivals(paper, claim, cells[0])[:1]
    elif claim.kind not in ("difference", "relative"):
        return None
    if len(cells) != 2 or not all(c.metric in SHARES for c in cells):
        return None
    high, low = sorted(cells, key=lambda c: percent(c).middle, reverse=True)
    return (high, low) if claim.kind != "best" or high == cells[0] else None


def wilson(score: float, n: int) -> Interval:
    """The 95 % interval of a share (percent) of n independent utterances (Wilson 1927); roughly that of F1."""
    p, z2 = score / 100, 1.96**2
    centre, half = p + z2 / (2 * n), 1.96 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(100 * (centre - half) / (1 + z2 / n), 100 * (centre + half) / (1 + z2 / n))
