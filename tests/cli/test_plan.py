"""The plan of a batch: what is left out is reported, and nothing runs twice. A substitute executes the notebooks."""

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import tiny_study
from nbformat.v4 import new_output
from tiny_study import ROOT

SUBSTITUTE = """import os, sys
from pathlib import Path
file = Path(sys.argv[3]) if sys.argv[1] == "notebook" else Path(os.environ["MERLIB_RESULTS"], sys.argv[3], "report.md")
file.parent.mkdir(parents=True, exist_ok=True)
file.touch()
"""


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


def plan(checkout: Path, *flags: str, code: int = 0, scale: str = "1", **config: str) -> str:
    command = tiny_study.batch(checkout.parent, *flags, snakefile=checkout / "Snakefile", **config)
    env = tiny_study.environment(checkout.parent, MERLIB_PAPERS=str(ROOT / "papers"), MERLIB_TWIN_SCALE=scale)
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == code, done.stdout[-3000:]
    return done.stdout


def test_a_mistyped_paper_is_refused(checkout):
    assert "'mfcr' is no paper; there are: attsf_net" in plan(checkout, "--dry-run", code=1, data="twin", paper="mfcr")


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
