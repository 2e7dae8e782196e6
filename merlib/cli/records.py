"""`merlib audit --records` and `merlib run --stale`: our own records, and what they were made by."""

import json
import sys
from typing import TYPE_CHECKING

from merlib import declarations
from merlib.cli.arguments import Address, data_roots
from merlib.errors import RequestError, one_of

if TYPE_CHECKING:
    from merlib.audit import Finding


def audit(place: Address, data: str, *, as_json: bool) -> None:
    """Print what does not fit in the records of a root, which are stale, and which executed notebooks are old."""
    from merlib.audit import recorded
    from merlib.cli import executed
    from merlib.data import folders

    one_of(data_roots(), data, "data root")
    papers = declarations.papers(place.paper)
    ids, judged_by = {}, "by recipes and versions of the code: the root is not here, whose data could differ too"
    if folders.corpora(data):
        from merlib.study import reruns  # what takes seconds to import is only needed where there is data

        ids, judged_by = reruns.ids(papers, data), "by the ids of the runs that the root gives today"
    facts = recorded.audit(place.paper or None, data, ids) + executed.older(data, place.paper)
    facts = [f for f in facts if any(place.holds(each.paper, each.table, each.row) for each in f.flat())]
    show(facts, as_json=as_json)
    if not as_json:
        print(
            f"stale is judged {judged_by}; `merlib run --stale --data {data}` trains stale runs anew", file=sys.stderr
        )


def show(facts: "list[Finding]", *, as_json: bool) -> None:
    """Print findings, one a line, the consequences of each below it."""
    if as_json:
        return print(json.dumps([fact.model_dump() for fact in facts]))
    for fact in facts:
        for depth, f in enumerate(fact.flat()):
            indent = "    " if depth else ""
            print(f"{indent}{f.severity} {f.paper}/{f.table}/{f.row} {f.column} [{f.check}] {f.message}")
    errors = sum(fact.severity == "error" for fact in facts)
    print(f"found: {errors} that cannot hold, {len(facts) - errors} that are odd", file=sys.stderr)


def rerun(place: Address, data: str, device: str | None) -> None:
    """Train the recorded runs anew whose records are of other recipes, code or data."""
    from merlib.data import folders
    from merlib.study import records_path, reruns

    held = set(folders.corpora(data))
    papers = list(map(declarations.load, declarations.papers(place.paper)))
    if held.isdisjoint(corpus for paper in papers for corpus in paper.corpora):
        known = f"{folders.root_path(data)} has none of the corpora of {', '.join(paper.id for paper in papers)}"
        raise RequestError(f"{known}: stale runs are trained where the data are; see `merlib doctor`")
    for paper in papers:
        for table in [place.table] if place.table else paper.tables:
            records = reruns.rerun(paper.id, table, data, row=place.rows, device=device)
            if len(records):
                print(f"{records['run'].nunique()} runs recorded in {records_path(paper.id, table, data)}")
