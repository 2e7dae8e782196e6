"""The audit: do the printed numbers fit each other, before any model is trained?

printed.py: digits as intervals. evaluations.py: which scores belong together, and on which test set. confusion.py:
which confusion matrices are possible. pages.py: the page results/audit. skeleton.py: a declaration to start from. The
checks:

    scores.py   the scores of one evaluation
    claims.py   what the text claims; claimed gains and the sampling noise of the test set
    tables.py   bold cells, one quantity printed in two places, quoted systems
    sweeps.py   the best value of a sweep, and whether sweeps are smoother than their noise
    facts.py    totals, counts of the released corpora, test sets, attention heads, steps of the optimiser

recorded.py asks the same of our own records, and whether the present code would give them.
"""

from collections.abc import Iterator
from pathlib import Path

from merlib import declarations
from merlib.audit import pages, skeleton
from merlib.audit.claims import claim_findings, gain_findings
from merlib.audit.evaluations import evaluations
from merlib.audit.facts import fact_findings
from merlib.audit.printed import Finding, folded
from merlib.audit.scores import score_findings
from merlib.audit.tables import quotation_findings, table_findings

__all__ = ["Finding", "audit", "findings_of", "pages", "skeleton"]


def audit(only: str | Path | None = None) -> list[Finding]:
    """All findings, one for each fact, errors first within a paper; `only` one paper, by its id or its folder.

    What a paper quotes is compared with what the others quote. A folder is read anew each time.
    """
    known = sorted(declarations.folders()) if only else declarations.papers()  # a folder is audited without any, too
    papers = [declarations.load(name) for name in known]
    audited = [declarations.load(only)] if isinstance(only, str) else papers
    if isinstance(only, Path):
        audited = [declarations.read(only)]
        papers = [paper for paper in papers if paper.id != audited[0].id] + audited
    findings = [f for paper in audited for f in findings_of(paper)]
    findings += [f for f in quotation_findings(papers) if only is None or f.paper == audited[0].id]
    return sorted(folded(findings), key=lambda f: (f.paper, f.severity, f.check))


def findings_of(paper: declarations.Paper) -> Iterator[Finding]:
    """What every check finds in one paper by itself, each printed number a finding of its own."""
    evaluated = evaluations(paper)
    for evaluation in evaluated:
        yield from score_findings(evaluation)
    yield from claim_findings(paper)
    yield from table_findings(paper)
    yield from fact_findings(paper, evaluated)
    yield from gain_findings(paper, evaluated)
