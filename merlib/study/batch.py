"""A batch: every run that some tables need on a data root, each once, what it will take, and the jobs that train it."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from merlib import declarations, registry
from merlib.files import atomic
from merlib.places import results_folder
from merlib.study import priorities
from merlib.study.costs import predict
from merlib.study.identity import of_text
from merlib.study.planning import not_held, plan
from merlib.study.records import read_records

COLUMNS = [
    "run", "priority", "paper", "table", "row", "corpus", "seed", "fold", "tables", "network", "recorded", "cached",
    "seconds", "memory_mb", "basis",
]  # fmt: skip


def runs_of_batch(
    tables: Iterable[tuple[str, str]], *, data: str, seeds: Sequence[int] = (0,)
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of several tables (paper, table), one a line, and the reason for every row that cannot run.

    A row that can run for some of the seeds only has the reason of the first one for which it cannot.
    `priority` says what the run is for (`priorities`); `table` and `row` are the first that need it, `tables` are all,
    as paper/table; `network` is False for an estimator of scikit-learn, which has no use for a GPU; `recorded` says
    whether the results have its scores, `cached` whether it is finished here; `seconds`, `memory_mb` and `basis` are
    its predicted cost (`merlib.study.costs`). By priority, then seed by seed, the longest first.
    """
    lines: dict[str, dict] = {}
    skipped, of_rows = {}, {}
    for paper, table in tables:
        declared, address = declarations.load(paper), f"{paper}/{table}"
        if paper not in of_rows:
            of_rows[paper] = priorities.of_rows(declared, data)
        recorded = set(read_records(paper, table, data).get("run", ()))
        skipped |= {(address, reason): f"{address}/{reason}" for reason in not_held(declared, table, data)}
        for seed in seeds:
            planned, reasons = plan(declared, table, data=data, seed=seed)
            for reason in reasons:
                skipped.setdefault((address, reason.partition(": ")[0]), f"{address}/{reason}")
            for item in planned:
                run, priority = item.run, of_rows[paper].get((table, item.row.id), priorities.REST)
                if run.id in lines:
                    line = lines[run.id]
                    line["tables"] += [address] if address not in line["tables"] else []
                    line["priority"] = min(line["priority"], priority, key=priorities.PRIORITIES.index)
                    line["recorded"] = line["recorded"] and run.id in recorded
                    continue
                lines[run.id] = {
                    "run": run.id, "priority": priority, "paper": paper, "table": table, "row": item.row.id,
                    "corpus": run.corpus, "seed": seed, "fold": run.fold, "tables": [address],
                    "network": not registry.is_estimator(run.recipe["model"]["name"]),
                    "recorded": run.id in recorded, "cached": run.finished,
                    **vars(predict(declared, table, item, data)),
                }  # fmt: skip
    ranked = sorted(lines.values(), key=lambda run: (*priorities.rank(run["priority"], run["seed"]), -run["seconds"]))
    return pd.DataFrame(ranked, columns=COLUMNS), list(skipped.values())


def write(runs: pd.DataFrame, skipped: Iterable[str], data: str) -> Path:
    """results/<data>/plan.csv: the runs in their order, and below them the rows that cannot run, with the reason."""
    blocked = pd.DataFrame({"blocked": list(skipped)})
    listed = runs.drop(columns="cached").assign(tables=runs["tables"].map(" ".join))  # cached: on this machine
    path = results_folder(data) / "plan.csv"
    with atomic(path) as part:
        pd.concat([listed, blocked]).to_csv(part, index=False)
    return path


def jobs(runs: pd.DataFrame, *, seconds: float) -> list[dict]:
    """The runs that are not cached, in jobs for `merlib run ADDRESS --seeds ... --only ...`; by priority.

    seconds: a job takes further runs until it is this long, since a process needs some seconds to start, or is a
    quarter of the whole, so that a small batch has something for several cores. All runs of a job are needed by the
    same tables, so that one that fails stops no other table; networks and estimators do not mix. rank: of its first
    run, as `priorities.rank` has it.
    """
    due = [line._asdict() for line in runs.itertuples(index=False) if not line.cached]
    seconds = min(seconds, sum(run["seconds"] for run in due) / 4)
    packed = []
    order = lambda run: (_kind(run), _rank(run), -run["seconds"])
    for (address, tables, network), alike in groupby(sorted(due, key=order), _kind):
        packs: list[list[dict]] = [[]]
        for run in alike:
            if packs[-1] and sum(each["seconds"] for each in packs[-1]) >= seconds:
                packs.append([])
            packs[-1].append(run)
        for pack in packs:
            ids = [run["run"] for run in pack]
            packed.append({
                "job": of_text(" ".join(sorted(ids))), "rule": "train" if network else "floors", "address": address,
                "tables": tables, "rank": _rank(pack[0]), "seeds": sorted({run["seed"] for run in pack}), "runs": ids,
                "seconds": round(sum(run["seconds"] for run in pack), 1),
                "memory_mb": max(run["memory_mb"] for run in pack),
            })  # fmt: skip
    return sorted(packed, key=lambda job: (job["rank"], -job["seconds"]))


def _kind(run: dict) -> tuple[str, list[str], bool]:
    return f"{run['paper']}/{run['table']}", run["tables"], run["network"]


def _rank(run: dict) -> int:
    return priorities.rank(run["priority"], run["seed"])[0]
