"""Thousands of honest papers under the audit: an error that it finds in one is false, and is told with its number.

    python tests/campaign/honest.py [--papers 10000] [--seed 0] [--only tables papers] [--first 0]

    tables   the scores of one confusion matrix, with its counts beside them (`printed_scores.honest`)
    papers   whole papers, for every check of a paper by itself (`honest_papers.honest_paper`)

Every tenth paper is judged once more with one of its numbers moved, so that the last lines show which checks have seen
these papers. Each paper is drawn from the seed and its own number: `--first 4711 --papers 1` draws that one again.
Notes are counted, too: a gain within the noise of the test set is as honest as any. Exits with 1 where an error is
false.
"""

import argparse
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from honest_papers import honest_paper
from printed_scores import honest

from merlib import declarations
from merlib.audit import Finding, findings_of
from merlib.audit.printed import is_score, number, scale
from merlib.audit.scores import score_findings
from merlib.declarations import Paper

KINDS = ("tables", "papers")
MOVED_EVERY = 10


def findings(kind: str, seed: int, i: int) -> list[Finding]:
    """What the audit finds in the i-th honest paper, or table."""
    rng = _rng(kind, seed, i)
    return score_findings(honest(rng)) if kind == "tables" else list(findings_of(honest_paper(rng)))


def findings_of_moved(seed: int, i: int) -> list[Finding]:
    """The same of the i-th paper, after one of its numbers has moved: a score by three points, a count by one."""
    rng = _rng("papers", seed, i)
    return list(findings_of(_moved(honest_paper(rng), rng)))


def _rng(kind: str, seed: int, i: int) -> np.random.Generator:
    return np.random.default_rng([seed, KINDS.index(kind), i])


def _moved(paper: Paper, rng: np.random.Generator) -> Paper:
    cells = [cell for cell in declarations.cells(paper) if cell.table in paper.tables and cell.metric != "setting"]
    cell = cells[rng.integers(len(cells))]
    value = number(cell.printed)
    by = Decimal(3) / int(scale(cell)) if is_score(cell) else Decimal(1)
    text = str(value - by if value > 16 * by else value + by)  # a score stays below 100 %
    table = paper.tables[cell.table]
    rows = [
        row.model_copy(update={"reported": row.reported | {cell.column: text}}) if row.id == cell.row else row
        for row in table.row
    ]
    return paper.model_copy(update={"tables": paper.tables | {table.id: table.model_copy(update={"row": rows})}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--papers", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first paper")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    false = 0
    for kind in args.only:
        found, moved, errors = Counter(), Counter(), 0
        bar = tqdm(range(args.first, args.first + args.papers), desc=kind, unit="paper")
        for i in bar:
            of_paper = findings(kind, args.seed, i)
            found.update((f.severity, f.check) for f in of_paper)
            wrong = [f for f in of_paper if f.severity == "error"]
            errors += bool(wrong)
            bar.set_postfix(false=errors, refresh=False)
            for f in wrong:
                tqdm.write(f"{kind} {i}: {f.check} at {f.table}/{f.row}.{f.column}: {f.message}")
            if kind == "papers" and i % MOVED_EVERY == 0:
                moved.update({f.check for f in findings_of_moved(args.seed, i) if f.severity == "error"})
        notes = ", ".join(f"{check} {n}" for (severity, check), n in sorted(found.items()) if severity == "note")
        print(f"{kind}: {errors} of {args.papers} honest ones have a false error; notes: {notes or 'none'}", flush=True)
        if moved:
            print(f"with one number moved, errors of: {', '.join(f'{c} {n}' for c, n in moved.most_common())}")
        false += errors
    sys.exit(bool(false))


if __name__ == "__main__":
    main()
