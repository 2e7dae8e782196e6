"""Claimed gains beside the sampling noise of the test set."""

import math
from collections.abc import Iterator

from merlib import declarations
from merlib.audit.claims import rivals
from merlib.audit.evaluations import Evaluation, size_of
from merlib.audit.printed import Finding, Interval, finding, is_score, percent, point, scale, show
from merlib.declarations.schema import Cell, Claim, Paper


def gain_findings(paper: Paper, evaluated: list[Evaluation]) -> Iterator[Finding]:
    """The claimed gains within the sampling noise of the higher score; a gain that is claimed twice is noted once."""
    seen = set()
    for claim in paper.claims:
        pair = compared_scores(paper, claim)
        if pair and pair not in seen:
            seen.add(pair)
            yield from _within_noise(paper, claim, pair, evaluated)


def compared_scores(paper: Paper, claim: Claim) -> tuple[Cell, Cell] | None:
    """The two scores whose difference is the gain, the higher first; None where a claim is of no gain.

    A claimed difference names both; the gain of a best score is over its runner-up.
    """
    known = declarations.addresses(paper)
    cells = [known[address] for address in claim.of]
    if claim.kind == "best" and is_score(cells[0]) and not claim.lowest:
        cells += sorted(rivals(paper, claim, cells[0]), key=lambda c: percent(c).middle, reverse=True)[:1]
    elif claim.kind not in ("difference", "relative"):
        return None
    if len(cells) != 2 or not all(is_score(c) and c.metric not in ("mae", "correlation") for c in cells):
        return None
    high, low = sorted(cells, key=lambda c: percent(c).middle, reverse=True)
    return (high, low) if claim.kind != "best" or high == cells[0] else None


def wilson(score: float, n: int) -> Interval:
    """The 95 % interval of a share (percent) of n independent utterances (Wilson 1927); roughly that of F1."""
    p, z2 = score / 100, 1.96**2
    centre, half = p + z2 / (2 * n), 1.96 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(100 * (centre - half) / (1 + z2 / n), 100 * (centre + half) / (1 + z2 / n))


def _within_noise(
    paper: Paper, claim: Claim, pair: tuple[Cell, Cell], evaluated: list[Evaluation]
) -> Iterator[Finding]:
    high, low = pair
    n = size_of(paper, high, evaluated)
    if n is None:
        return
    noise = wilson(point(high), n)
    if noise.low <= point(low) <= noise.high:
        by = scale(high)
        ends = " to ".join(f"{end / by:.{2 if by == 1 else 4}f}" for end in noise)
        address = {"table": "claims", "row": claim.id, "column": "value", "printed": claim.printed}
        yield finding(
            high.model_copy(update=address), "power", "note", value=point(low), possible=noise,
            message=f"{claim.where}: {claim.says}. The other score, {show(low)}, lies within {ends}, the 95 % interval "
            f"that {n} utterances leave around {show(high)}.",
        )  # fmt: skip
