"""Our own records under the audit: what it asks of printed numbers, and whether the present code would give them.

    configurations   one configuration (recipe, corpus, inputs), seed and fold has one value, in whatever table; of each
                     version of the code that trains, since versions are known to differ, and `stale_records` tells them
    scores_of_runs   the scores of one run fit each other and integer counts; records have four decimals and one run
                     each, so that the checks of printed digits are sharper here
    sizes            a configuration is tested on one number of utterances, that of its outcomes and of the corpus
    stale_records    the present declarations and code give the recorded runs (`merlib.study.stale`)

Records alone are read, and neither data nor caches.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from merlib import declarations
from merlib.audit.evaluations import Evaluation
from merlib.audit.printed import Finding, Interval, finding, folded
from merlib.audit.scores import score_findings
from merlib.data import official, splits
from merlib.declarations import Cell, Paper
from merlib.study import outcomes, stale
from merlib.study.comparison import records_of
from merlib.study.identity import of_text


@dataclass(frozen=True)
class Scored:
    """A record, and the cell that it is of."""

    paper: Paper
    cell: Cell
    record: Any

    @cached_property
    def training(self) -> str:
        """Equal for records of one recipe on the same inputs and fold; the record tells the seed and the selection."""
        recipe = stale.recipes(self.paper, self.cell, self.record)[0]
        protocol, fold = recipe["protocol"] | {"select": ""}, self.record.fold
        if protocol["split"] == "each_actor" and self.cell.corpus in official.BY_SPEAKER:
            protocol, fold = protocol | splits.in_turn(official.BY_SPEAKER[self.cell.corpus], fold), 0
        return of_text(json.dumps([recipe | {"protocol": protocol}, self.cell.corpus, self.record.features, fold]))

    @property
    def code(self) -> str:
        """The versions of the code that trained; alike for all records that are too old to name them."""
        return str(self.record.versions)

    @property
    def measured(self) -> str:
        return " ".join(str(part) for part in (self.cell.metric, self.cell.emotion, self.cell.fold) if part is not None)

    @property
    def place(self) -> str:
        return f"{self.cell.table}/{self.cell.row}.{self.cell.column}"

    @property
    def as_printed(self) -> Cell:
        """The cell with the recorded digits, in percent."""
        return self.cell.model_copy(update={"printed": f"{self.record.value:.4f}", "unit": "percent"})


RunIds = Mapping[tuple, str]  # (paper, table, row, column, seed, fold) -> the id of the run that a root gives today


def audit(only: str | None, data: str, ids: RunIds | None = None) -> list[Finding]:
    """All findings in the records of a root, one for each fact; `only` one paper.

    ids: of the runs that the root itself gives today, where it is here; they also tell other data.
    """
    findings = []
    for paper in map(declarations.load, declarations.papers(only)):
        scored = list(scored_of(paper, data))
        trained = [each for each in scored if each.cell.kind != "fact"]
        for check in (configurations, scores_of_runs, sizes):
            findings += check(trained)
        findings += stale_records(scored, ids or {})
    return sorted(folded(findings), key=lambda f: (f.paper, f.severity, f.check))


def scored_of(paper: Paper, data: str) -> Iterator[Scored]:
    """Every record of a paper on a data root, with its cell."""
    for table in paper.tables.values():
        records = records_of(paper.id, table.id, data)
        for row in table.row if records else ():
            for cell in declarations.row_cells(paper, table, row):
                yield from (Scored(paper, cell, record) for record in records.get((row.id, cell.column), ()))


def _grouped(scored: Iterable[Scored], key: Callable[[Scored], Any]) -> dict[Any, list[Scored]]:
    groups: dict[Any, list[Scored]] = defaultdict(list)
    for each in scored:
        groups[key(each)].append(each)
    return groups


def configurations(scored: list[Scored]) -> Iterator[Finding]:
    """A training by one version of the code has one value for each metric and selection, in all tables."""
    joined: dict[tuple, list[Scored]] = defaultdict(list)  # the seeds and folds that stand in the same places
    for group in _grouped(scored, lambda each: each.training).values():
        joined[tuple(dict.fromkeys(each.place for each in group))] += group
    for group in joined.values():
        numbers = _grouped(group, lambda e: (e.measured, e.record.selection, e.training, e.record.seed, e.code))
        twice = {key: alike for key, alike in numbers.items() if len(alike) > 1}
        unlike = {key: alike for key, alike in twice.items() if _span(alike)}
        if unlike:
            (measured, selection, *_), alike = max(unlike.items(), key=lambda item: (len(item[1]), item[0][1] == "val"))
            places = [each.place for each in alike]
            same = [n for key, n in twice.items() if key[:2] == (measured, selection)]
            same = [n for n in same if [each.place for each in n] == places]
            means = [sum(each.record.value for each in at) / len(same) for at in zip(*same, strict=True)]
            stand = ", ".join(f"{m:.2f} in {e.place} ({e.record.commit})" for m, e in zip(means, alike, strict=True))
            message = (
                f"One recipe on the same inputs has several values: {measured} is {stand}, at {selection}, "
                f"{_seeds(n[0] for n in same)}. Of {len(twice)} numbers that stand in several places, {len(unlike)} "
                f"differ, by at most {max(map(_span, unlike.values())):.2f}."
            )
            possible = Interval(min(means), max(means))
            yield finding(alike[-1].as_printed, "same_configuration", "error", message, possible=possible)


def _seeds(scored: Iterable[Scored]) -> str:
    seeds = sorted({each.record.seed for each in scored})
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _span(scored: list[Scored]) -> float:
    values = [each.record.value for each in scored]
    return max(values) - min(values)


def scores_of_runs(scored: list[Scored]) -> Iterator[Finding]:
    """The checks of one evaluation, on each run; the same finding in further runs of a row is counted."""
    found: dict[tuple, list[Finding]] = defaultdict(list)
    val_first = sorted(scored, key=lambda each: each.record.selection != "val")
    for group in _grouped(val_first, lambda e: (e.training, e.record.seed, e.record.selection, e.cell.fold)).values():
        of_rows = list(_grouped(group, _system).values())
        for cells in of_rows:
            names = {each.cell.metric for each in cells}
            if any(each.cell.emotion for each in cells):  # averages that another table has of the same run
                cells = cells + [e for o in of_rows for e in o if not e.cell.emotion and e.cell.metric not in names]
            record = cells[0].record
            evaluation = Evaluation(tuple(each.as_printed for each in cells), _supports(cells), stated=True)
            for f in score_findings(evaluation, programs=False):
                told = f.message.replace("printed", "recorded").replace(" A mean over several runs could.", "")
                message = f"Seed {record.seed}, fold {record.fold}, {record.selection}: {told}"
                found[f.table, f.row, f.check].append(f.model_copy(update={"message": message}))
    for first, *others in found.values():
        further = f" So in {len(others)} further numbers of this row." if others else ""
        yield first.model_copy(update={"message": first.message + further})


def _system(scored: Scored) -> tuple:
    """Those rows of a table that are the classes of one system are one; any other stands alone."""
    row = scored.paper.row_of(scored.cell)
    return scored.cell.table, "" if row.emotion or row.average else row.id


def _supports(scored: list[Scored]) -> dict[str, int] | None:
    """The utterances of each class in the test set of a run, from records, outcomes or the customary counts."""
    cell, record = scored[0].cell, scored[0].record
    if cell.fold == "val":
        return None
    if recorded := {e.cell.emotion: int(e.record.value) for e in scored if e.cell.metric == "count" and e.cell.emotion}:
        return recorded
    labels = official.LABELS.get(cell.corpus, ())
    kept = outcomes.read(record.data, stale.text(record.run), record.selection)
    counts = kept.counts.sum((0, 2)).tolist() if kept else official.classes_of(cell.corpus, int(record.n))
    return dict(zip(labels, counts, strict=False)) if counts else {"all": int(record.n)}


def sizes(scored: list[Scored]) -> Iterator[Finding]:
    """The utterances that a score is of: those of its run's outcomes, or as many as in every table."""
    for group in _grouped(scored, lambda each: each.training).values():
        first, told = min(group, key=lambda each: each.record.n), set()
        for (run, n), of_run in _grouped(group, lambda each: (each.record.run, int(each.record.n))).items():
            each = of_run[0]
            kept = outcomes.read(each.record.data, stale.text(run), each.record.selection)
            expected = int(kept.counts.sum()) if kept else int(first.record.n)
            if n != expected and each.cell.row not in told:
                told.add(each.cell.row)
                of = "the outcomes of its run hold" if kept else f"{first.place} has"
                message = f"{each.place}, fold {each.record.fold}, is of {n} utterances; {of} {expected}."
                yield finding(each.as_printed, "test_size", "error", message, value=expected)


def stale_records(scored: list[Scored], ids: RunIds) -> Iterator[Finding]:
    """One finding for each row and reason; those of one table and reason are one fact."""
    reasons: dict[tuple, list[Scored]] = defaultdict(list)
    for each in scored:
        cell, record = each.cell, each.record
        present = ids.get((cell.paper, cell.table, cell.row, cell.column, record.seed, record.fold))
        if present != stale.text(record.run) or present is None:
            other_data = "the data of this root give another run" if present else ""
            if why := stale.reason(each.paper, cell, record) or other_data:
                reasons[cell.table, cell.row, why].append(each)
    for (table, _, why), of_row in reasons.items():
        commits = ", ".join(dict.fromkeys(stale.text(each.record.commit) for each in of_row))
        runs = len({each.record.run for each in of_row})
        message = f"{len(of_row)} records of {runs} runs ({_seeds(of_row)}; commit {commits}): {why}."
        cell = of_row[0].cell.model_copy(update={"printed": None, "column": "", "unit": "percent"})
        yield finding(cell, "stale", "note", message, fact=f"stale {table} {why}")
