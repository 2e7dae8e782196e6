"""The audit: do the printed numbers fit each other, before any model is trained?

printed.py: digits as intervals. evaluations.py: which scores belong together, on which test set. confusion.py: what
confusion matrices are possible. scores.py, relations.py, possible.py: the checks. pages.py: results/audit.
"""

from merlib import declarations
from merlib.audit import possible, relations, scores
from merlib.audit.evaluations import evaluations
from merlib.audit.printed import Finding

__all__ = ["Finding", "audit"]


def audit(only: str | None = None) -> list[Finding]:
    """All findings, errors first within a paper; `only` one paper (what it quotes is compared with the others)."""
    loaded = [declarations.load(name) for name in declarations.papers()]
    found = []
    for paper in [declarations.load(only)] if only else loaded:
        found += [f for evaluation in evaluations(paper) for f in scores.check(evaluation)]
        found += [*relations.check(paper), *possible.check(paper)]
    found += [f for f in relations.across(loaded) if only in (None, f.paper)]
    return sorted(found, key=lambda f: (f.paper, f.severity, f.check))
