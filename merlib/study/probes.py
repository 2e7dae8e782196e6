"""What networks take that have left no record: a few of their steps, timed here. `merlib plan --probe`.

results/<data>/probes.csv holds, for recipes that cost the same on a corpus (`costs.as_costly`), the seconds of all
epochs, so that a fit which stops early takes less, and the memory of the process. `merlib.study.costs` reads it where
no record says more.
"""

import multiprocessing
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pandas as pd
import torch
from tqdm.auto import tqdm

from merlib import declarations, registry
from merlib.errors import MerlibError
from merlib.files import atomic
from merlib.study import costs, runs
from merlib.study.planning import plan
from merlib.study.records import lock
from merlib.study.runs import Run


def make(tables: Iterable[tuple[str, str]], *, data: str, seed: int = 0) -> int:
    """Time every network of some tables (paper, table) that has neither a record nor a probe; returns how many.

    Each has a process of its own, whose peak of memory Linux begins at that of this one. What fails is told, and left
    out.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked: dict[tuple[str, str], tuple[str, Run]] = {}
    for paper, table in tables:
        declared = declarations.load(paper)
        for item in plan(declared, table, data=data, seed=seed)[0]:
            estimator = registry.is_estimator(item.run.recipe["model"]["name"])
            if not estimator and costs.predict(declared, table, item, data).basis == costs.NO_RECORD:
                key = costs.as_costly(item.run.recipe), item.run.corpus
                asked.setdefault(key, (f"{paper}/{table}/{item.row.id}", item.run))
    bar = tqdm(asked.items(), desc="probes", unit="network")
    return sum(_added(key, label, run, data, device) for key, (label, run) in bar)


def _added(key: tuple[str, str], label: str, run: Run, data: str, device: str) -> bool:
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found = alone.submit(runs.probe, replace(run), device=device).result()
    except (MerlibError, BrokenProcessPool) as error:
        tqdm.write(f"{label} on {run.corpus}: no probe ({error})", file=sys.stderr)
        return False
    line = pd.DataFrame([dict(zip(("recipe", "corpus"), key, strict=True)) | found])
    path = costs.probes_path(data)
    with lock(f"{data}-probes"), atomic(path) as part:
        pd.concat([costs.read_probes(path), line]).sort_values(["corpus", "recipe"]).to_csv(part, index=False)
    return True
