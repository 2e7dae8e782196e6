"""Work killed with SIGKILL again and again, also two at once, ends with the bits of work left in peace.

    python tests/campaign/kills.py [--kills 50] [--seed 0] [--only import extract batch] [--folder FOLDER]

The work: an import of recordings; their extraction by two workers; a batch (training, notebooks and report) of one
table of the study of tests/tiny_study.py. The kills are shared out among the three. Each round starts the work, at
random one or two at a time, and kills it and all that it has started after a random time; work that has ended begins
anew; in the end it runs undisturbed, twice at once. Exits with 1 where anything differs.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tiny_study

from merlib.data import store
from merlib.twins import releases

CONFIG = {"data": "twin", "paper": "mfcre", "table": "4", "seeds": "0"}
COMPUTED_ANEW = ["seconds", "peak_memory_mb", "commit"]  # columns of a record that two computations need not share
ACTORS = ("Actor_01", "Actor_02")  # whose recordings are extracted
MERLIB = [sys.executable, "-m", "merlib", "data"]


@dataclass(frozen=True)
class Work:
    """What is killed. `prepare` makes a folder ready; `made`: the folder of all that it makes, below that.

    `longest`: seconds until a kill, at most.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path], list[str]]
    results: Callable[[Path], dict[str, str]]
    made: str
    longest: float


def importing(folder: Path) -> list[str]:
    return [*MERLIB, "import", "ravdess", str(folder / "release"), "lab", "--partial"]


def extracting(folder: Path) -> list[str]:
    options = ["--recipe", "attsf_net", "--modalities", "AV", "--kind", "offline", "--workers", "2"]
    return [*MERLIB, "extract", "lab", "ravdess", *options]


def recorded(folder: Path) -> None:
    """The declarations, and a few recordings in the layout of RAVDESS."""
    tiny_study.declare(folder)
    releases.write("ravdess", folder / "all", seed=0, scale=0.2)
    (folder / "release").mkdir()
    for actor in ACTORS:
        shutil.move(folder / "all" / actor, folder / "release" / actor)
    shutil.rmtree(folder / "all")


def imported(folder: Path) -> None:
    recorded(folder)
    subprocess.run(importing(folder), env=tiny_study.environment(folder), check=True, capture_output=True)


def of_root(folder: Path) -> dict[str, str]:
    """The tables of the root, as hashes, and the hash of the values and the failures of every array."""
    home = folder / "data" / "lab" / "ravdess"
    files = [home / "utterances.parquet", *home.glob("features/*.csv")]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    passports = {file.name: store.read_passport(file) for file in home.glob("features/*.safetensors")}
    return hashes | {name: f"{passport.sha256} {passport.failed}" for name, passport in passports.items()}


def of_batch(folder: Path) -> dict[str, str]:
    """The records, the report's table, and the predictions of every run."""
    records = pd.read_csv(folder / "results/twin/records/mfcre/table4.csv", dtype=str).drop(columns=COMPUTED_ANEW)
    runs = (folder / "results/cache/runs").glob("*/predictions.npz")
    hashes = {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in runs}
    notebooks = (folder / "results/twin/notebooks").rglob("*.ipynb")
    names = {str(path.relative_to(folder)): "" for path in (*notebooks, folder / "results/twin/report.md")}
    return {"records": records.to_csv()} | hashes | names


WORKS = {
    "import": Work(recorded, importing, of_root, "data/lab", longest=4.0),
    "extract": Work(imported, extracting, of_root, "data/lab/ravdess/features", longest=9.0),
    "batch": Work(
        tiny_study.declare, lambda folder: tiny_study.batch(folder, **CONFIG), of_batch, "results", longest=40.0
    ),
}


def start(work: Work, folder: Path) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = tiny_study.environment(folder, MERLIB_CHECKPOINT_SECONDS="0")
    return subprocess.Popen(work.command(folder), env=env, start_new_session=True, **quiet)


def is_the_same(name: str, kills: int, draw: random.Random, home: Path) -> bool:
    """Whether work that is killed ends as it does in peace."""
    work = WORKS[name]
    peaceful, killed = home / name / "peaceful", home / name / "killed"
    for folder in (peaceful, killed):
        folder.mkdir(parents=True)
        work.prepare(folder)
    if start(work, peaceful).wait():
        sys.exit(f"{name}: undisturbed, it failed")
    ended = 0
    for round_ in range(kills):
        processes = [start(work, killed) for _ in range(draw.choice([1, 1, 2]))]
        time.sleep(draw.uniform(0.2, work.longest))
        done = [process.poll() is not None for process in processes]
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if any(done):
            ended += 1
            shutil.rmtree(killed / work.made)
        print(f"{name}: kill {round_ + 1} of {kills}", flush=True)
    codes = [process.wait() for process in [start(work, killed) for _ in range(2)]]
    same = codes == [0, 0] and work.results(peaceful) == work.results(killed)
    print(
        f"{name}: {kills} kills, in {ended} rounds it had ended: {'the same bits' if same else f'OTHERS, exit {codes}'}"
    )
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder, removed afterwards")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(args.folder or temporary).resolve()
        shares = [args.kills // len(args.only) + (i < args.kills % len(args.only)) for i in range(len(args.only))]
        same = [is_the_same(name, share, draw, home) for name, share in zip(args.only, shares, strict=True)]
    sys.exit(not all(same))


if __name__ == "__main__":
    main()
