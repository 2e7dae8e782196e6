"""Which runs come first: those that central claims rest on, then those that decide an open claim, then the rest."""

from itertools import chain

from merlib.declarations import Paper
from merlib.study import claimed
from merlib.study.claims import judge_claims
from merlib.study.pairs import UNEQUAL

CENTRAL, OPEN, REST = PRIORITIES = ("central claim", "open claim", "rest")
SEEDS = 3  # of a row that no central claim rests on; further ones come last


def of_rows(paper: Paper, data: str) -> dict[tuple[str, str], str]:
    """(table, row) -> its priority, of all rows that a claim of the paper compares.

    A claim is open while our runs on the data root neither support nor contradict it, and further runs could.
    """
    judged = judge_claims(paper.id, data)
    decidable = judged["verdict"].isin(("undecided", "not run")) | judged["note"].str.contains(UNEQUAL, regex=False)
    open_claims = set(judged.loc[decidable, "claim"])
    found: dict[tuple[str, str], str] = {}
    for claim, pairs in claimed.pairs(paper):
        priority = CENTRAL if claim.central else OPEN if claim.id in open_claims else REST
        for cell in chain.from_iterable(claimed.trained(paper, pairs)):
            address = (cell.table, cell.row)
            found[address] = min(found.get(address, REST), priority, key=PRIORITIES.index)
    return found


def rank(priority: str, seed: int) -> tuple[int, int]:
    """What sorts runs: by priority, seed by seed, and last the seeds beyond those that a row needs."""
    surplus = priority != CENTRAL and seed >= SEEDS
    return (len(PRIORITIES) if surplus else PRIORITIES.index(priority)), seed
