"""The batch on a cluster: the same records and predictions as on this machine, whatever is killed on the way.

    make test-cluster        (as root on Debian; half an hour on two cores that six others used too)

A SLURM of one node is started (one_node.sh) and stopped again. One table of a synthetic root is trained locally, then
on the cluster. MERLIB_KILLS: how often batches are killed at a random moment, in all (default 3).
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

ROOT = Path(__file__).parents[2]
TABLE = ("data=twin", "paper=hff", "table=3", "job_seconds=12")  # networks in two jobs, estimators in one, a notebook
ELSEWHERE = ["seconds", "peak_memory_mb", "commit"]  # of a record: what says where and when a run was trained
MINUTES = 30
KILLS = int(os.environ.get("MERLIB_KILLS", "3"))


@pytest.fixture(scope="module")
def place():
    """A folder that every user can enter, as munge demands of its socket; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="merlib-cluster-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def here(place):
    """The results of a local batch."""
    finish(batch(place, "here", "--cores", "2"))
    return place / "here"


@pytest.fixture
def node(place, request):
    """A function that starts what does not run of a cluster of one node; its `folder` holds the state."""
    kind = getattr(request, "param", "cpu")

    def up():
        one_node("up", place / "slurm", kind)

    up.folder = place / "slurm"
    up()
    yield up
    one_node("down", place / "slurm")


def one_node(*arguments):
    subprocess.run([ROOT / "tests" / "cluster" / "one_node.sh", *arguments], check=True)


def batch(place, results, *options):
    """A batch that has just been started, with its own folder of results and all in it; its log is results.log."""
    environment = os.environ | {
        "MERLIB_DATA": str(place / "data"), "MERLIB_RESULTS": str(place / results), "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    (place / results).mkdir(exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", place / results]
    command += ["--profile", ROOT / "profiles" / "common", *options, "--config", *TABLE]
    with (place / f"{results}.log").open("a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def on_cluster(place, results, *options, profile="slurm"):
    polled_often = ("--slurm-init-seconds-before-status-checks", "2")
    return batch(place, results, "--profile", ROOT / "profiles" / profile, *polled_often, *options)


def finish(process):
    assert process.wait(timeout=60 * MINUTES) == 0, f"{' '.join(map(str, process.args))} failed"


def ended(process, seconds):
    """Whether a batch ended by itself within so many seconds; else it is killed."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    assert code in (0, -signal.SIGKILL), f"{' '.join(map(str, process.args))} failed"
    return code == 0


def slurm(*command):
    """What a command of SLURM prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def queue(state="running"):
    """SLURM's id -> what the job does, such as rule_train_wildcards_..., of the jobs in a state."""
    return dict(line.split(maxsplit=1) for line in slurm("squeue", "-h", "-t", state, "-o", "%i %k").splitlines())


def a_training(process, other_than=()):
    """The id of a job of trainings that runs, other than these; waits for one."""
    for _ in range(60 * MINUTES):
        assert process.poll() is None, "the batch ended before a training ran"
        if found := [job for job, does in queue().items() if does.startswith("rule_train") and job not in other_than]:
            return found[0]
        time.sleep(1)
    raise TimeoutError("no training ran")


def kill(name, node):
    """End a daemon of the cluster without warning, and all that it started."""
    daemon = psutil.Process(int((node.folder / "pid" / name).read_text()))
    for process in [daemon, *daemon.children(recursive=True)]:
        process.kill()


def end_of_the_node(node):
    """The node's daemon and every process of its jobs, as when the power fails."""
    keepers = [each for each in psutil.process_iter(["name"]) if each.info["name"] == "slurmstepd"]
    jobs = [process for keeper in keepers for process in [keeper, *keeper.children(recursive=True)]]
    kill("slurmd", node)
    for process in jobs:
        process.kill()


def records(results):
    """All records, without what depends on where a run was trained."""
    files = sorted((results / "twin" / "records").rglob("*.csv"))
    tables = [pd.read_csv(file, dtype=str).drop(columns=ELSEWHERE) for file in files]
    whole = pd.concat(tables)
    return whole.sort_values(list(whole.columns)).reset_index(drop=True)


def assert_same(results, here):
    """The same records, and in every run the same bits of every array: predictions, probabilities, embeddings."""
    pd.testing.assert_frame_equal(records(results), records(here))
    files = sorted((here / "cache" / "runs").glob("*/predictions.npz"))
    assert len(files) >= 8
    for file in files:
        ours, theirs = np.load(file), np.load(results / file.relative_to(here))
        assert set(ours) == set(theirs)
        for name in ours:
            assert ours[name].tobytes() == theirs[name].tobytes(), f"{file.parent.name} {name}"


def test_a_cancelled_job_a_killed_controller_and_a_dead_node_change_no_number(place, node, here):
    process = on_cluster(place, "killed")
    cancelled = a_training(process)
    slurm("scancel", cancelled)
    time.sleep(15)  # the controller saves its state every few seconds, and forgets jobs that came later
    kill("slurmctld", node)
    time.sleep(10)
    node()
    running = a_training(process, other_than=[cancelled])
    end_of_the_node(node)
    while running in queue():
        time.sleep(1)  # until the controller has missed the node
    node()
    waiting = queue("pending")
    assert running in waiting, "SLURM did not put the job of the dead node back into its queue"
    for job in waiting:
        slurm("scontrol", "update", f"jobid={job}", "starttime=now")  # not in two minutes
    finish(process)
    assert "Trying to restart job" in (place / "killed.log").read_text()
    assert_same(place / "killed", here)


def test_batches_killed_at_random_moments_end_with_the_same_records(place, node, here):
    moments, killed = random.Random(0), 0
    for number in itertools.count():
        results = f"restarted{number}"
        while killed < KILLS and not ended(on_cluster(place, results), moments.uniform(5, 60)):
            killed += 1
            if killed % 2:  # else its jobs live on, beside those of the next start
                slurm("scancel", "--full", "--signal=KILL", "--user=root")
        finish(on_cluster(place, results))
        assert_same(place / results, here)
        if killed == KILLS:
            return


@pytest.mark.parametrize("node", ["gpu"], indirect=True)
def test_only_trainings_of_networks_ask_for_a_gpu(place, node, here):
    finish(on_cluster(place, "gpu", profile="slurm-gpu"))
    shown = slurm("scontrol", "show", "job", "--oneliner").splitlines()
    asked = {line.split("Comment=")[1].split()[0]: "TresPerNode=gres:gpu:1" in line for line in shown}
    assert {does.startswith("rule_train") for does in asked} == {True, False}
    assert all(gpu == does.startswith("rule_train") for does, gpu in asked.items()), asked
    assert_same(place / "gpu", here)
