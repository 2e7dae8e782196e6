"""A batch: every run that some tables need on a data root, each once, what it will take, and the jobs that train it."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import pandas as pd

from merlib import declarations, registry
from merlib.study.costs import predict
from merlib.study.identity import of_text
from merlib.study.planning import plan

COLUMNS = [
    "run", "paper", "table", "row", "corpus", "seed", "fold", "tables", "network", "cached", "seconds", "memory_mb",
    "basis",
]  # fmt: skip


def runs_of_batch(
    tables: Iterable[tuple[str, str]], *, data: str, seeds: Sequence[int] = (0,)
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of several tables (paper, table), one a line, and the reason for every row that cannot run.

    `table` and `row` are the first that need the run, `tables` are all, as paper/table; `network` is False for an
    estimator of scikit-learn, which has no use for a GPU; `cached` says whether the run is finished here; `seconds`,
    `memory_mb` and `basis` are its predicted cost (`merlib.study.costs`). Longest first.
    """
    lines: dict[str, dict] = {}
    skipped = []
    for paper, table in tables:
        declared, address = declarations.load(paper), f"{paper}/{table}"
        for seed in seeds:
            planned, reasons = plan(declared, table, data=data, seed=seed)
            skipped += [f"{address}/{reason}" for reason in reasons if seed == seeds[0]]
            for item in planned:
                run = item.run
                if run.id in lines:
                    of_run = lines[run.id]["tables"]
                    of_run += [address] if address not in of_run else []
                    continue
                lines[run.id] = {
                    "run": run.id, "paper": paper, "table": table, "row": item.row.id, "corpus": run.corpus,
                    "seed": seed, "fold": run.fold, "tables": [address],
                    "network": not registry.is_estimator(run.recipe["model"]["name"]), "cached": run.finished,
                    **vars(predict(declared, table, item, data)),
                }  # fmt: skip
    return pd.DataFrame(lines.values(), columns=COLUMNS).sort_values("seconds", ascending=False), skipped


def jobs(runs: pd.DataFrame, *, seconds: float) -> list[dict]:
    """The runs that are not cached, in jobs for `merlib run ADDRESS --seeds ... --only ...`; longest first.

    seconds: a job takes further runs until it is this long, since a process needs some seconds to start, or is a
    quarter of the whole, so that a small batch has something for several cores. All runs of a job are needed by the
    same tables, so that one that fails stops no other table; networks and estimators do not mix.
    """
    due = [line._asdict() for line in runs.itertuples(index=False) if not line.cached]
    seconds = min(seconds, sum(run["seconds"] for run in due) / 4)
    packed = []
    for (address, tables, network), alike in groupby(sorted(due, key=lambda run: (_kind(run), -run["seconds"])), _kind):
        packs: list[list[dict]] = [[]]
        for run in alike:
            if packs[-1] and sum(each["seconds"] for each in packs[-1]) >= seconds:
                packs.append([])
            packs[-1].append(run)
        for pack in packs:
            ids = [run["run"] for run in pack]
            packed.append({
                "job": of_text(" ".join(sorted(ids))), "rule": "train" if network else "floors", "address": address,
                "tables": tables, "seeds": sorted({run["seed"] for run in pack}), "runs": ids,
                "seconds": round(sum(run["seconds"] for run in pack), 1),
                "memory_mb": max(run["memory_mb"] for run in pack),
            })  # fmt: skip
    return sorted(packed, key=lambda job: -job["seconds"])


def _kind(run: dict) -> tuple[str, list[str], bool]:
    return f"{run['paper']}/{run['table']}", run["tables"], run["network"]
