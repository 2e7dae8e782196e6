"""A batch killed with SIGKILL again and again, also two at once, ends with the records and bits of one left in peace.

    python tests/campaign/kills.py [--kills 20] [--seed 0] [--folder FOLDER]

The study is that of tests/tiny_study.py, one table. Each round starts the batch, at random one or two at a time, and
kills it and all it has started after a random time; in the end it runs undisturbed. Exits with 1 where anything
differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tiny_study

CONFIG = {"data": "twin", "paper": "mfcre", "table": "4", "seeds": "0"}
COMPUTED_ANEW = ["seconds", "peak_memory_mb", "commit"]  # columns of a record that two computations need not share


def start(folder: Path) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = tiny_study.environment(folder, MERLIB_CHECKPOINT_SECONDS="0")
    return subprocess.Popen(tiny_study.batch(folder, **CONFIG), env=env, start_new_session=True, **quiet)


def results(folder: Path) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """The records, and the predictions of every run."""
    records = pd.read_csv(folder / "results/twin/records/mfcre/table4.csv", dtype=str).drop(columns=COMPUTED_ANEW)
    runs = (folder / "results/cache/runs").glob("*/predictions.npz")
    return records, {path.parent.name: path.read_bytes() for path in runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=30.0, help="seconds until a kill, at most")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder, removed afterwards")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        peaceful, killed = (Path(args.folder or temporary) / name for name in ("peaceful", "killed"))
        for folder in (peaceful, killed):
            tiny_study.declare(folder)
        if start(peaceful).wait():
            sys.exit("the undisturbed batch failed")
        finished = 0
        for round_ in range(args.kills):
            batches = [start(killed) for _ in range(draw.choice([1, 1, 2]))]
            time.sleep(draw.uniform(0.5, args.longest))
            for batch in batches:
                finished += batch.poll() is not None
                if batch.poll() is None:
                    os.killpg(batch.pid, signal.SIGKILL)
                batch.wait()
            runs = len(list((killed / "results/cache/runs").glob("*/run.json")))
            print(f"kill {round_ + 1}: {runs} runs finished so far", flush=True)
        last = [start(killed) for _ in range(2)]
        codes = [batch.wait() for batch in last]
        (expected, bits), (records, bits_killed) = results(peaceful), results(killed)
        same = codes == [0, 0] and expected.equals(records) and bits == bits_killed
        print(
            f"{args.kills} kills, {finished} batches had ended before: {'same' if same else 'OTHER'} records and bits"
        )
        sys.exit(not same)


if __name__ == "__main__":
    main()
