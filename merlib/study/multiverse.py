"""The multiverse of a paper: joint draws over all its readings, run like the rows of a table, and what they show.

The idea is the multiverse analysis of Steegen et al. (2016), its figure the specification curve of Simonsohn et al.
(2020). Rows are those of the table `multiverse` (`declarations.Multiverse`), whose ids say which options they take.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from merlib import declarations
from merlib.data import splits
from merlib.declarations import Multiverse, Paper
from merlib.declarations.leaves import for_corpus
from merlib.declarations.readings import JOIN
from merlib.errors import DeclarationError, RequestError
from merlib.study import statistics, verdicts
from merlib.study.comparison import records_of
from merlib.study.design import balanced
from merlib.study.planning import plan
from merlib.study.records import read_records
from merlib.study.tables import run_table

TABLE, DRAWS = "multiverse", 24


@dataclass(frozen=True)
class Draws:
    """Rows of the table `multiverse`, the default first; left_out: why options cannot run; replaced: refused draws."""

    rows: list[str]
    left_out: list[str]
    replaced: int


def draw(paper: Paper, draws: int, *, data: str, seed: int = 0) -> Draws:
    """A balanced design over the options that can run on a data root; the same seed gives the same draws."""
    if draws < 1:
        raise RequestError(f"{draws} draws: expected one or more")
    table: Multiverse = paper.table(TABLE)
    options, left_out = {}, []
    for name, reading in table.readings.items():
        listed = {option: f"{name}_{option}" for option in reading.options if option != reading.default}
        reasons = {option: plan(paper, "readings", row=row, data=data)[1] for option, row in listed.items()}
        options[name] = [option for option in reading.options if not reasons.get(option)]
        left_out += [reason for each in reasons.values() for reason in each]

    def row_of(choice: Sequence[int]) -> str:
        return JOIN.join(names[at] for names, at in zip(options.values(), choice, strict=True))

    def refuses(choice: Sequence[int]) -> bool:
        try:
            return bool(plan(paper, TABLE, row=row_of(choice), data=data)[1])
        except DeclarationError:
            return True

    design, replaced = balanced([len(names) for names in options.values()], draws, seed=seed, refuses=refuses)
    rows = dict.fromkeys([table.default, *map(row_of, design)])
    return Draws(list(rows), left_out, replaced)


def run(
    paper: str, draws: int = DRAWS, *, data: str = "twin", seeds: Sequence[int] = (0,), device: str | None = None
) -> Draws:
    """Train the missing runs of a number of draws and of the default, and write their records."""
    drawn = draw(declarations.load(paper), draws, data=data)
    for reason in drawn.left_out:
        tqdm.write(f"left out of all draws: {paper}/{reason}", file=sys.stderr)
    replaced = f"{drawn.replaced} of which replace draws that the recipe refuses"
    tqdm.write(f"{paper}: {len(drawn.rows)} rows, {replaced}", file=sys.stderr)
    run_table(paper, TABLE, row=drawn.rows, data=data, seeds=seeds, device=device)
    return drawn


def headlines(paper: Paper) -> list[str]:
    """Of each corpus, the column of the score that selects the epoch, or else its first one."""
    columns: dict[str, str] = {}
    for name, column in paper.table(TABLE).columns.items():
        selects = declarations.base_recipe(paper, column.corpus)["protocol"]["select_metric"]
        if column.corpus not in columns or column.metric == selects:
            columns[column.corpus] = name
    return list(columns.values())


def scores(paper: Paper, column: str, data: str) -> pd.DataFrame:
    """The draws that have run, one line a draw and seed with all folds: `row`, `seed`, `score` (the mean over folds).

    The other columns are the readings whose options differ on this corpus, and of which more than one has run.
    """
    table: Multiverse = paper.table(TABLE)
    corpus = table.columns[column].corpus
    records = read_records(paper.id, TABLE, data)
    lines = []
    for (row, seed), of_run in records[records["column"] == column].groupby(["row", "seed"], sort=False):
        protocol = declarations.recipe(paper, table.find(row), corpus)["protocol"]
        of_folds = of_run[of_run["selection"] == protocol["select"]]
        if len(of_folds) == splits.folds(protocol):
            options = dict(zip(table.readings, row.split(JOIN), strict=True))
            lines.append({"row": row, "seed": seed, "score": of_folds["value"].astype(float).mean()} | options)
    frame = pd.DataFrame(lines, columns=["row", "seed", "score", *table.readings])
    matter = [name for name in table.readings if _differs(paper, name, corpus) and frame[name].nunique() > 1]
    return frame[["row", "seed", "score", *matter]]


def _differs(paper: Paper, reading: str, corpus: str) -> bool:
    """Whether the options of a reading are not all the same on a corpus."""
    options = [paper.flat(option) for option in paper.readings[reading].options.values()]
    return len({str({leaf: for_corpus(value, corpus) for leaf, value in option.items()}) for option in options}) > 1


def beside(paper: Paper, column: str, data: str) -> dict[str, float]:
    """What the draws are read against, where it is known: `printed`, `default readings`, and the best floor's label.

    Scores of ours are means over seeds and folds. Floors are the rows that this study labels so, without a change.
    """
    table: Multiverse = paper.table(TABLE)
    measured = table.columns[column].corpus, table.columns[column].metric
    lines, floors = {}, {}
    for other in paper.tables.values():
        records = records_of(paper.id, other.id, data)
        for row in (row for row in other.row if row.trains and not row.change):
            for cell in declarations.row_cells(paper, other, row):
                if (cell.corpus, cell.metric, cell.modalities, cell.fold) != (*measured, None, None):
                    continue
                values = [r.value for r in records.get((row.id, cell.column), []) if r.selection == "val"]
                if values and row.label.startswith("Floor"):
                    floors[row.label] = float(np.mean(values))
                if row.base is None and cell.printed is not None:
                    lines.setdefault("printed", verdicts.percent(cell))
    ran = scores(paper, column, data)
    default = ran.loc[ran["row"] == table.default, "score"]
    lines |= {"default readings": default.mean()} if len(default) else {}
    return lines | dict(sorted(floors.items(), key=lambda floor: floor[1])[-1:])


def shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Which share (%) of the variance of the draws each reading explains; frame: of `scores`.

    A line a reading, and `rest`: readings that act together, and chance. `by chance`: what a reading with so many
    options is expected to explain if no reading matters.
    """
    by_draw = frame.groupby("row", sort=False)
    readings = [name for name in frame if name not in ("row", "seed", "score")]
    options = by_draw[readings].first()
    explained = statistics.shares([options[name].to_numpy(str) for name in readings], by_draw["score"].mean())
    free = [options[name].nunique() - 1 for name in readings]
    chance = np.array(free) / max(len(options) - 1, sum(free))
    lines = {"options": [each + 1 for each in free] + [None], "share": 100 * explained}
    lines |= {"by chance": 100 * np.append(chance, 1 - chance.sum())}
    return pd.DataFrame(lines, index=[*readings, "rest"]).astype({"options": "Int64"}).round(1)
