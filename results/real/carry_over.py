"""Give committed records the ids that their runs have today, where a rerun shows that the numbers are the same.

    python results/real/carry_over.py [--data real] [--write]

A run's id follows its recipe, its data and the versions of the code (`merlib/study/identity.py`). Records before then
have ids of another kind. A recipe's records are carried over when at least one of its runs is in results/cache (`merlib
run` trains it) and gives every recorded value and epoch to the last digit; then all seeds and folds that were recorded
under the same recipe id get their new ids. Older records, which name no recipe, are carried over only when all of its
runs are there. Records that have today's ids also get the columns `declared` and `versions` where they lack them, by
which a clone without data tells stale records. Every other record stays as it is, and the reason is printed. A second
call changes nothing.
"""

import argparse
import json
from collections import Counter, defaultdict

import pandas as pd

from merlib import declarations, study
from merlib.data.table import CorpusError
from merlib.study import planning, stale
from merlib.study.records import read_records, records_path, save
from merlib.study.tables import records_of_run

MARKS = ["declared", "versions"]
SAME = ["row", "column", "fold", "seed", "selection"]  # what a record is about


def planned(paper: declarations.Paper, table: str, data: str, seeds: list[int]) -> list[planning.Planned]:
    """The runs that the table asks for today, for every recorded seed; none where the root has none of its corpora."""
    try:
        return [each for seed in seeds for each in planning.plan(paper, table, data=data, seed=seed)[0]]
    except CorpusError:
        return []


def carried(records: pd.DataFrame, runs: list[planning.Planned]) -> tuple[pd.DataFrame, Counter]:
    """The records with new ids where a rerun allows it, and how many records have which fate."""
    place = {tuple(line): at for at, line in zip(records.index, records[SAME].itertuples(index=False), strict=True)}
    lines = defaultdict(list)  # (recipe id of before, recipe id of today) -> (lines, run) of it
    equal: dict[tuple[str, str], list[bool]] = defaultdict(list)
    fates: Counter = Counter()
    for each in runs:
        cells = [(cell.row, cell.column, each.run.fold, each.run.seed) for cell in each.cells]
        keys = [(*cell, selection) for cell in cells for selection in ("val", "test_peak")]
        at = [place[key] for key in keys if key in place]
        if not at:
            continue
        pair = (records.loc[at[0], "recipe"], each.run.recipe_id)  # "" in older records, which name no recipe
        lines[pair].append((at, each.run))
        if each.run.finished:
            rerun = pd.DataFrame(records_of_run(each.cells, each.run, study.execute(each.run, progress=False)))
            rerun = rerun.set_index(SAME)[["value", "epoch"]].astype(float)
            recorded = records.loc[at].set_index(SAME)[["value", "epoch"]].astype(float)
            equal[pair].append(recorded.equals(rerun.loc[recorded.index]))
    result, seen = records.copy(), set()
    for pair, members in lines.items():
        before, today = pair
        rows = [at for found, _ in members for at in found]
        seen |= set(rows)
        if before == today:
            fates["had today's id"] += len(rows)
            mark(result, members)
        elif not equal[pair]:
            fates["kept: none of the recipe's runs was trained again"] += len(rows)
        elif not before and len(equal[pair]) < len(members):
            fates["kept: the record names no recipe, and not all of its runs were trained again"] += len(rows)
        elif not all(equal[pair]):
            fates["kept: a rerun gives other numbers (other code, or another processor)"] += len(rows)
        else:
            fates["carried over: a rerun gives the same numbers"] += len(rows)
            for found, run in members:
                result.loc[found, ["run", "recipe"]] = [run.id, today]
            mark(result, members)
    fates["kept: a count, or no run of this root asks for it today"] += len(records) - len(seen)
    return result, fates


def mark(records: pd.DataFrame, members: list[tuple[list, study.Run]]) -> None:
    """Name the recipe and the versions of the code of runs in the lines that hold their records."""
    for at, run in members:
        records.loc[at, MARKS] = list(stale.marks(run.recipe).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="real", help="the data root of the records")
    parser.add_argument(
        "--write", action="store_true", help="write the records; without it, only say what would change"
    )
    args = parser.parse_args()
    for name in declarations.papers():
        paper = declarations.load(name)
        for table in paper.tables:
            records = read_records(name, table, args.data)
            if records.empty:
                continue
            for column in ("recipe", *MARKS):
                records[column] = records[column].fillna("") if column in records else ""
            runs = planned(paper, table, args.data, sorted(records["seed"].astype(int).unique()))
            result, fates = carried(records, runs)
            print(json.dumps({f"{name}/{table}": {fate: count for fate, count in fates.items() if count}}))
            if args.write and not result.equals(records):
                save(records_path(name, table, args.data), result)


if __name__ == "__main__":
    main()
