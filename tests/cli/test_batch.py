"""The batch: every notebook on a tiny twin; what is planned; nothing runs twice; a kill changes no bit."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import tiny_study
from filelock import FileLock
from tiny_study import LESSONS, ROOT, SOLUTIONS, batch, environment

SOURCES = {p.relative_to(ROOT / "notebooks").with_suffix("").as_posix() for p in LESSONS}
MFCRE = {
    "mfcre/1_preprocess", "mfcre/2_train_table2", "mfcre/2_train_table3", "mfcre/3_ablations_table4",
    "mfcre/3_ablations_table5", "mfcre/4_figures", "mfcre/5_encoders",
}  # fmt: skip


def output_of(command, env) -> str:
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


EVERYTHING = {"data": "twin", "paper": "", "table": "", "seeds": "0"}
ONE_TABLE = EVERYTHING | {"paper": "mfcre", "table": "4"}


def finished(tmp_path_factory, name: str, config: dict[str, str]) -> Path:
    """The folder of a finished batch, executed once for all workers of a test session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "results" / "twin" / "report.md").exists():
            tiny_study.declare(folder)
            output_of(batch(folder, **config), environment(folder))
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    return finished(tmp_path_factory, "study", EVERYTHING)


@pytest.fixture(scope="session")
def one_table(tmp_path_factory) -> Path:
    return finished(tmp_path_factory, "one_table", ONE_TABLE)


def executed(folder: Path) -> dict[str, nbformat.NotebookNode]:
    root = folder / "results" / "twin" / "notebooks"
    copies = {p.relative_to(root).with_suffix("").as_posix(): p for p in root.glob("**/*.ipynb")}
    return {name: nbformat.read(path, as_version=4) for name, path in copies.items()}


def outputs(notebook) -> list:
    """The outputs of the code cells without their progress bars, which differ between batches that share the cores."""
    everything = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output for output in everything if output.get("name") != "stderr"]


def records(folder: Path, table: str) -> pd.DataFrame:
    """The columns of a table's records that a second computation must give again to the last bit."""
    table = pd.read_csv(folder / "results" / "twin" / "records" / "mfcre" / f"{table}.csv", dtype=str)
    return table[["row", "column", "seed", "selection", "value", "epoch", "run", "never_predicted"]]


@pytest.mark.slow
def test_every_notebook_runs_and_shows_what_it_computed(study):
    done = executed(study)
    assert {name for name in done if name.startswith("mfcre/")} == MFCRE
    assert SOURCES == {re.sub(r"_table\w+$", "", name) for name in done}
    for name, notebook in done.items():
        assert all(output.output_type != "error" for output in outputs(notebook)), name
        assert notebook.metadata["merlib"]["parameters"]["data"] == "twin"
    for name in (name for name in done if "/" in name):
        assert any("image/png" in output.get("data", {}) for output in outputs(done[name])), name


@pytest.mark.slow
def test_executed_notebooks_do_not_tell_whose_machine_made_them(study):
    for name, notebook in executed(study).items():
        for place in (str(ROOT), str(study)):
            assert place not in nbformat.writes(notebook), f"{name} shows the folder {place}"


@pytest.mark.slow
def test_records_and_figures_of_every_table_are_there(study):
    results = study / "results" / "twin"
    assert {p.stem for p in (results / "records" / "mfcre").glob("*.csv")} == set(tiny_study.ROWS)
    figures = {p.stem for p in (results / "figures" / "mfcre").glob("*.png")}
    assert {"iemocap6_classes", "meld_transitions", "table2_ours_iemocap6_curves", "table3_per_class"} <= figures
    assert {"table2_selection_gap", "table4_ablations", "table5_alpha", "fig6_confusion_ours"} <= figures
    assert {"tsne_ours", "umap_ours"} <= figures
    assert "table4" in (results / "report.md").read_text()
    assert not list(results.glob("**/*.part")) and not list(results.glob("**/*.failed.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("of", sorted({path.parent for path in SOLUTIONS}), ids=lambda folder: folder.name)
def test_every_solution_answers_its_exercises(study, tmp_path, of):
    """With all rows declared, what the study has trained in the cache, and the committed records of real data."""
    tiny_study.declare(tmp_path, every_row=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cache").symlink_to(study / "results" / "cache")
    (tmp_path / "results" / "real").symlink_to(ROOT / "results" / "real")
    command = [sys.executable, ROOT / "tests" / "answers.py", *sorted(of.glob("*.ipynb"))]
    output = output_of(command, environment(tmp_path, MERLIB_DATA=str(study / "data"), MPLBACKEND="agg"))
    assert output.count(" answers ") == len(list(of.glob("*.ipynb")))


def test_an_unchanged_batch_does_nothing(one_table):
    assert "Nothing to be done" in output_of(batch(one_table, **ONE_TABLE), environment(one_table))


def test_a_change_is_due_and_nothing_else(one_table):
    changed = ONE_TABLE | {"table": "2,4", "seeds": "0,1"}
    planned = output_of(batch(one_table, "--dry-run", **changed), environment(one_table))
    assert {"mfcre_2_train_table2", "mfcre_3_ablations_table4"} <= set(planned.split())
    assert "mfcre_2_train_table3" not in planned and "mfcre_4_figures" not in planned and "start_here" not in planned


def test_what_does_not_exist_is_refused(tmp_path):
    command = batch(tmp_path, "--dry-run", data="twin", table="40", seeds="0")
    done = subprocess.run(
        command,
        env=environment(tmp_path, MERLIB_PAPERS=str(ROOT / "papers")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "'table40' is no table of" in done.stderr + done.stdout


@pytest.mark.slow
def test_killed_and_resumed_by_two_batches_at_once_it_ends_with_the_same_bits(one_table, tmp_path):
    tiny_study.declare(tmp_path)
    env = environment(tmp_path, MERLIB_CHECKPOINT_SECONDS="0", MERLIB_DATA=str(one_table / "data"))
    command = batch(tmp_path, **ONE_TABLE)
    piped = {"env": env, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = subprocess.Popen(command, start_new_session=True, **piped)
    runs = tmp_path / "results" / "cache" / "runs"
    while first.poll() is None and len(list(runs.glob("*/run.json"))) < 2:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and not executed(tmp_path), "killed too late to test anything"
    both = [subprocess.Popen(command, **piped) for _ in range(2)]
    logs = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], logs
    assert sorted("Nothing to be done" in log for log in logs) == [False, True], "one works, the other waits"
    pd.testing.assert_frame_equal(records(tmp_path, "table4"), records(one_table, "table4"))
    name = "mfcre/3_ablations_table4"
    assert outputs(executed(tmp_path)[name]) == outputs(executed(one_table)[name])
    for run in runs.iterdir():
        twin = one_table / "results" / "cache" / "runs" / run.name / "predictions.npz"
        assert (run / "predictions.npz").read_bytes() == twin.read_bytes()
