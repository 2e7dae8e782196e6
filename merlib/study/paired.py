"""Two systems on the same test utterances: is one of them better, or is it chance?

Two mean scores do not show that both systems had the same utterances. The exact test of McNemar counts the utterances
that only one of them classifies correctly, for one seed, as if they were independent; beside it stands the interval of
the hierarchical bootstrap over seeds and over dialogues, videos or actors (`merlib.study.statistics`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.declarations import Paper
from merlib.errors import RequestError
from merlib.study import outcomes, statistics
from merlib.study.comparison import records_of
from merlib.study.outcomes import Outcomes

COLUMNS = [
    "other", "corpus", "seed", "n_folds", "n", "accuracy", "accuracy_other", "only_this", "only_other", "p", "p_holm",
    "low", "high",
]  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """A run and the outcomes that it has left."""

    run: str
    outcomes: Outcomes


Runs = dict[tuple[str, str], dict[int, dict[int, Kept]]]  # (row, corpus) -> seed -> fold -> run


def against(
    paper: str, table: str, row: str, *, others: Sequence[str] = (), data: str = "twin", seeds: Sequence[int] = (0,)
) -> pd.DataFrame:  # fmt: skip
    """A row of a table against others (or all): one line for each row, corpus and seed, from outcomes only.

    n: test utterances with a label, of all folds that both have run; accuracy, accuracy_other: percent of them;
    only_this, only_other: how many only one of the two classifies correctly (on a sentiment corpus, into seven
    classes); p: see `statistics.mcnemar`; p_holm: adjusted over the others, of a corpus and seed; low, high: the
    interval of accuracy - accuracy_other over all of the seeds and over clusters together. Left out are rows that are
    the same run, rows with other test utterances, and rows that score masked inputs. Raises FileNotFoundError where the
    row, or one of `others`, has no outcomes, and RequestError where none of `others` can be compared with it.
    """
    declared = declarations.load(paper)
    runs, lines = _runs(declared, table, data=data, seeds=seeds), []
    for seed in seeds:
        finished = {name for (name, _), of in runs.items() if seed in of}
        if missing := [name for name in (row, *others) if name not in finished]:
            command = f"merlib run {paper} {table} {' '.join(missing)} --data {data} --seeds {seed}"
            where = f"in results/{data}/outcomes"
            raise FileNotFoundError(f"no outcomes of {', '.join(missing)}, seed {seed}, {where}: {command}")
    for name, corpus in runs:
        if not others or name in (row, *others):
            this, other = (runs.get((which, corpus), {}) for which in (row, name))
            lines += [[name, corpus, *line] for line in _compared(this, other)]
    if others and not lines:
        raise RequestError(
            f"{row} and {', '.join(others)} cannot be compared: name rows of one corpus and protocol, and other runs"
        )
    board = pd.DataFrame(lines, columns=COLUMNS)
    for _, of_seed in board.groupby(["corpus", "seed"]):
        board.loc[of_seed.index, "p_holm"] = statistics.holm(of_seed["p"])
    return board


def _runs(paper: Paper, table: str, *, data: str, seeds: Sequence[int]) -> Runs:
    """The recorded runs of a table that have left outcomes, at the epoch that their row selects."""
    declared, runs = paper.table(table), {}
    records = records_of(paper.id, declared.id, data)
    for row in declared.row:
        for cell in declarations.row_cells(paper, declared, row) if row.trains else ():
            protocol = declarations.recipe_of(paper, cell)["protocol"]
            of_row = runs.setdefault((row.id, cell.corpus), {})
            for record in () if protocol.get("mask_percent") else records.get((row.id, cell.column), ()):
                asked = record.seed in seeds and record.fold not in of_row.get(record.seed, {})
                if asked and (kept := outcomes.read(data, str(record.run), protocol["select"])):
                    of_row.setdefault(record.seed, {})[record.fold] = Kept(str(record.run), kept)
    return runs


def _compared(this: dict[int, dict[int, Kept]], other: dict[int, dict[int, Kept]]) -> list[list]:
    """The columns from `seed` on, for each seed that both have on the same test utterances, but as other runs."""
    pairs = {}
    for seed in sorted(this.keys() & other.keys()):
        both = [(this[seed][k], other[seed][k]) for k in sorted(this[seed].keys() & other[seed].keys())]
        same_run = all(a.run == b.run for a, b in both)  # the row itself, or a row with the same recipe
        if not same_run and all(a.outcomes.order == b.outcomes.order for a, b in both):
            pairs[seed] = [(a.outcomes, b.outcomes) for a, b in both]
    ends = _interval(list(pairs.values())) if pairs else None
    lines = []
    for seed, both in pairs.items():
        a, b = (np.concatenate([pair[side].right for pair in both]) for side in (0, 1))
        scores = [100 * a.mean(), 100 * b.mean(), int((a & ~b).sum()), int((b & ~a).sum()), statistics.mcnemar(a, b)]
        lines.append([seed, len(both), len(a), *scores, np.nan, *ends])
    return lines


def _interval(seeds: list[list[tuple[Outcomes, Outcomes]]]) -> tuple[float, float]:
    """The ends of the difference in accuracy, in percentage points; nan where seeds have other folds."""
    if len({tuple(a.order for a, _ in folds) for folds in seeds}) > 1:
        return np.nan, np.nan
    right = lambda of: np.trace(of.counts, axis1=1, axis2=2)  # k
    runs = [
        np.concatenate([np.stack([right(a), right(b), a.counts.sum((1, 2))], axis=-1) for a, b in folds])
        for folds in seeds
    ]  # of each seed: clusters x (right, right, all)
    difference = lambda sums: 100 * (sums[:, 0] - sums[:, 1]) / sums[:, 2]
    return statistics.ends(statistics.hierarchical(np.stack(runs), difference))
