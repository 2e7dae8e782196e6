"""The plan of a batch: what is left out is reported, and nothing runs twice. A substitute executes the notebooks."""

import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import tiny_study
from nbformat.v4 import new_output
from tiny_study import ROOT

SUBSTITUTE = """import json, os, sys
from pathlib import Path
def touch(*parts):
    file = Path(*parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(sys.argv[1:]))
match sys.argv[1:]:
    case ["notebook", _, target, *_]: touch(target)
    case ["claims", "--data", data, "--write"]: touch(os.environ["MERLIB_RESULTS"], data, "claims.csv")
    case ["report", "--data", data]: touch(os.environ["MERLIB_RESULTS"], data, "report.md")
    case ["data", "make", data, corpus, *_]: touch(os.environ["MERLIB_DATA"], data, corpus, "corpus.json")
    case ["plan", *_]: print(os.environ["JOBS"])
    case ["multiverse", paper, *_]: touch(os.environ["MERLIB_RESULTS"], "drawn", f"{paper}_{sys.argv[6]}.json")
    case ["run", _, _, "bad", *_]: sys.exit("this run failed")
"""
NO_JOBS = '{"jobs": []}'


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder to work in, where `python -m merlib` only leaves its file, and a checkout whose notebooks may change."""
    (tmp_path / "merlib").mkdir()
    (tmp_path / "merlib" / "__init__.py").touch()  # else the real package would be preferred
    (tmp_path / "merlib" / "__main__.py").write_text(SUBSTITUTE)
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "notebooks", copy / "notebooks")
    shutil.copy(ROOT / "Snakefile", copy)
    (copy / "merlib").symlink_to(ROOT / "merlib")
    return copy


def plan(checkout: Path, *flags: str, code: int = 0, scale: str = "1", JOBS: str = NO_JOBS, **config: str) -> str:
    command = tiny_study.batch(checkout.parent, *flags, snakefile=checkout / "Snakefile", **config)
    env = tiny_study.environment(
        checkout.parent, MERLIB_PAPERS=str(ROOT / "papers"), MERLIB_TWIN_SCALE=scale, JOBS=JOBS
    )
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == code, done.stdout[-3000:]
    return done.stdout


def test_a_mistyped_paper_is_refused(checkout):
    assert "'mfcr' is no paper; there are: attsf_net" in plan(checkout, "--dry-run", code=1, data="twin", paper="mfcr")


def test_words_given_twice_count_once_and_empty_seeds_are_seed_0(checkout):
    output = plan(checkout, "--dry-run", data="twin", paper="mfcre,mfcre", table="4,4", seeds="")
    assert "mfcre_3_ablations_table4" in output.split()


@pytest.mark.parametrize("seeds", ["a", "0;1", "-1"])
def test_seeds_that_are_no_integers_are_refused_with_what_to_type(checkout, seeds):
    output = plan(checkout, "--dry-run", code=1, data="twin", paper="mfcre", table="4", seeds=seeds)
    assert f"'{seeds}': give integers" in output


def test_braces_in_the_path_of_a_folder_are_refused(checkout):
    folder = checkout.parent / "{a}"
    folder.mkdir()
    (folder / "checkout").symlink_to(checkout)
    assert "Snakemake takes braces" in plan(folder / "checkout", "--dry-run", code=1, data="twin")


def test_a_paper_without_any_of_its_corpora_is_left_out_with_a_notice(checkout):
    corpus = checkout.parent / "data" / "lab" / "ravdess" / "corpus.json"
    corpus.parent.mkdir(parents=True)
    corpus.touch()
    output = plan(checkout, "--dry-run", data="lab", paper="", table="")
    assert "gia_mic: none of its corpora (iemocap4) is in the root 'lab': see merlib doctor" in output
    jobs = set(output.split())
    assert {"attsf_net_1_preprocess", "01_audit", "report"} <= jobs
    assert not any(name.startswith(("gia_mic_", "mfcre_", "00_start_here")) for name in jobs)


def test_a_notebook_is_due_when_it_says_something_else_or_the_twin_has_another_scale(checkout):
    config = {"data": "twin_media", "paper": "mfcre", "table": "4"}
    plan(checkout, **config)
    source = checkout / "notebooks" / "mfcre" / "3_ablations.ipynb"
    notebook = nbformat.read(source, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "Nothing to be done" in plan(checkout, "--dry-run", **config)
    assert "mfcre_3_ablations_table4" in plan(checkout, "--dry-run", scale="0.2", **config)
    cell.source += "\n"
    cell.outputs, cell.execution_count = [new_output("stream", text="1\n")], 1  # as JupyterLab saves it
    nbformat.write(notebook, source)
    assert "mfcre_3_ablations_table4" in plan(checkout, "--dry-run", **config)


JOB = {"address": "mfcre/table5", "seeds": [0], "runs": ["one", "two"], "rank": 0, "seconds": 5.0, "memory_mb": 100}


def jobs_of(*jobs: dict) -> str:
    return json.dumps({"jobs": [JOB | {"tables": ["mfcre/table5"], "rule": "train"} | job for job in jobs]})


def test_every_job_of_the_plan_is_trained_before_the_notebooks_of_its_tables(checkout):
    config = {"data": "twin", "paper": "mfcre", "table": "4,5"}
    jobs = jobs_of({"job": "a"}, {"job": "b", "rule": "floors", "tables": ["mfcre/table4", "mfcre/table5"]})
    plan(checkout, JOBS=jobs, **config)
    results = checkout.parent / "results"
    assert {path.name for path in (results / "cache" / "jobs").iterdir()} == {"train-a.done", "floors-b.done"}
    assert "Nothing to be done" in plan(checkout, "--dry-run", JOBS=jobs, **config)
    (results / "twin" / "report.md").unlink()
    shutil.rmtree(results / "twin" / "notebooks")
    assert not {"train", "floors"} & set(plan(checkout, "--dry-run", JOBS=jobs, **config).split())
    (results / "twin" / "plan.json").touch()  # a newer plan finds these runs due again: they have left the cache
    assert {"train", "floors"} <= set(plan(checkout, "--dry-run", JOBS=jobs, **config).split())


def test_draws_are_trained_before_the_notebook_that_shows_them_and_only_if_asked_for(checkout):
    config = {"data": "twin", "paper": "mfcre", "table": "4,5", "seeds": "0,1"}
    assert "multiverse" not in plan(checkout, "--dry-run", **config).split()
    plan(checkout, draws="6", **config)
    drawn = {path.stem: json.loads(path.read_text()) for path in (checkout.parent / "results/drawn").glob("*.json")}
    command = ["multiverse", "mfcre", "--draws", "6", "--seeds"]
    assert drawn == {f"mfcre_{seed}": [*command, seed, "--data", "twin"] for seed in "01"}
    assert "Nothing to be done" in plan(checkout, "--dry-run", draws="6", **config)


def test_a_run_that_fails_stops_the_notebooks_of_its_tables_and_nothing_else(checkout):
    jobs = jobs_of({"job": "a", "seeds": ["bad"]}, {"job": "b", "tables": ["mfcre/table4"]})
    output = plan(checkout, code=1, JOBS=jobs, data="twin", paper="mfcre", table="4,5")
    assert "this run failed" in output
    copies = {path.stem for path in (checkout.parent / "results").glob("twin/notebooks/mfcre/*.ipynb")}
    assert copies == {"3_ablations_table4"}


def test_only_what_loaded_a_file_of_code_is_due_when_it_changes(checkout):
    config = {"data": "twin", "paper": "mfcre", "table": "4,5"}
    shutil.copytree(ROOT / "merlib", checkout / "copy")
    (checkout / "merlib").unlink()
    (checkout / "copy").rename(checkout / "merlib")
    plan(checkout, **config)
    drawing, network = checkout / "merlib/figures/runs.py", checkout / "merlib/papers/mfcre/network.py"
    logs = checkout.parent / "results/twin/logs"
    for place, loaded in (("corpus/meld", []), ("corpus/iemocap6", []), ("mfcre/3_ablations_table4", [network]),
                          ("mfcre/3_ablations_table5", [network, drawing])):  # fmt: skip
        (logs / f"{place}.code").write_text("".join(f"{file}\n" for file in loaded))
    assert "Nothing to be done" in plan(checkout, "--dry-run", **config)
    drawing.write_text(f"{drawing.read_text()}# changed\n")
    output = plan(checkout, **config)
    assert "mfcre_3_ablations_table5" in output and "Rule: mfcre_3_ablations_table4" not in output
