"""What the claims of a paper set beside each other: pairs of its cells, from the declarations alone."""

from itertools import pairwise

from merlib import declarations
from merlib.declarations import Cell, Claim, Paper
from merlib.study import verdicts

KINDS = ("difference", "relative", "order", "best")  # of claims that some scores lie above others
Cells = list[tuple[Cell, Cell]]  # pairs (higher, lower)


def pairs(paper: Paper) -> list[tuple[Claim, Cells]]:
    """Every claim that some scores lie above others, with its pairs; without those of what is no share, as counts."""
    claimed = [(claim, _cells(paper, claim)) for claim in paper.claims if claim.kind in KINDS]
    return [(claim, cells) for claim, cells in claimed if cells]


def trained(paper: Paper, cells: Cells) -> Cells:
    """The pairs of which both sides are trained here."""
    runs = lambda cell: paper.row_of(cell).runs
    return [pair for pair in cells if all(map(runs, pair))]


def testable(claim: Claim, cells: Cells, of_them: Cells) -> bool:
    """Whether the pairs that are trained here judge a claim: `best` some of them, every other claim only all."""
    return bool(of_them) and (claim.kind == "best" or len(of_them) == len(cells))


def gain(cells: Cells) -> float:
    """The smallest printed difference, in percentage points."""
    return round(min(verdicts.percent(high) - verdicts.percent(low) for high, low in cells), 4)


def _cells(paper: Paper, claim: Claim) -> Cells:
    """The pairs that a claim is about; none where one of them is no share."""
    known = declarations.addresses(paper)
    cells = [known[address] for address in claim.of]
    compared = list(pairwise(cells))
    if claim.kind == "best":
        compared = [(cells[0], rival) for rival in declarations.rivals(paper, claim, cells[0])]
    shares = all(verdicts.percent(cell) is not None for pair in compared for cell in pair)
    if not compared or not shares or any((a.corpus, a.metric) != (b.corpus, b.metric) for a, b in compared):
        return []
    falls = claim.kind in ("difference", "relative") and gain(compared) < 0  # a printed loss
    return [(low, high) for high, low in compared] if claim.lowest or falls else compared
