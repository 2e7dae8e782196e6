"""The audit: do the printed numbers fit each other, before any model is trained?

printed.py: digits as intervals. evaluations.py: which scores belong together, and on which test set. confusion.py:
which confusion matrices are possible. pages.py: the page results/audit. The checks:

    scores.py   the scores of one evaluation
    claims.py   what the text claims; claimed gains and the sampling noise of the test set
    tables.py   bold cells, one quantity printed in two places, sweeps, quoted systems
    facts.py    totals, counts of the released corpora, attention heads, steps of the optimiser
"""

from merlib import declarations
from merlib.audit.claims import claim_findings, gain_findings
from merlib.audit.evaluations import evaluations
from merlib.audit.facts import fact_findings
from merlib.audit.printed import Finding
from merlib.audit.scores import score_findings
from merlib.audit.tables import quotation_findings, table_findings

__all__ = ["Finding", "audit"]


def audit(only: str | None = None) -> list[Finding]:
    """All findings, errors first within a paper; `only` one paper (what it quotes is compared with the others)."""
    papers = [declarations.load(name) for name in declarations.papers()]
    findings = []
    for paper in [declarations.load(only)] if only else papers:
        evaluated = evaluations(paper)
        findings += [f for evaluation in evaluated for f in score_findings(evaluation)]
        findings += [*claim_findings(paper), *table_findings(paper), *fact_findings(paper)]
        findings += gain_findings(paper, evaluated)
    findings += [f for f in quotation_findings(papers) if only in (None, f.paper)]
    return sorted(findings, key=lambda f: (f.paper, f.severity, f.check))
