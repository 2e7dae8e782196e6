"""What a batch plans: nothing without saying so, and nothing twice. A stand-in executes the notebooks."""

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import tiny_study
from nbformat.v4 import new_output
from tiny_study import ROOT

STAND_IN = """import os, sys
from pathlib import Path
made = Path(sys.argv[3]) if sys.argv[1] == "notebook" else Path(os.environ["MERLIB_RESULTS"], sys.argv[3], "report.md")
made.parent.mkdir(parents=True, exist_ok=True)
made.touch()
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder to work in, where `python -m merlib` only leaves its file, and a checkout whose notebooks may change."""
    (tmp_path / "merlib").mkdir()
    (tmp_path / "merlib" / "__init__.py").touch()  # else the real package would be preferred
    (tmp_path / "merlib" / "__main__.py").write_text(STAND_IN)
    made = tmp_path / "checkout"
    shutil.copytree(ROOT / "notebooks", made / "notebooks")
    shutil.copy(ROOT / "Snakefile", made)
    (made / "merlib").symlink_to(ROOT / "merlib")
    return made


def said(checkout: Path, *flags: str, code: int = 0, scale: str = "1", **config: str) -> str:
    command = tiny_study.batch(checkout.parent, *flags, snakefile=checkout / "Snakefile", **config)
    env = tiny_study.environment(checkout.parent, MERLIB_PAPERS=str(ROOT / "papers"), MERLIB_TWIN_SCALE=scale)
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == code, done.stdout[-3000:]
    return done.stdout


def test_a_mistyped_paper_is_refused(checkout):
    assert "'mfcr' is no paper; there are: attsf_net" in said(checkout, "--dry-run", code=1, data="twin", paper="mfcr")


def test_a_paper_without_any_of_its_corpora_is_left_out_with_a_notice(checkout):
    corpus = checkout.parent / "data" / "lab" / "ravdess" / "corpus.json"
    corpus.parent.mkdir(parents=True)
    corpus.touch()
    plan = said(checkout, "--dry-run", data="lab", paper="", table="")
    assert "gia_mic: none of its corpora (iemocap4) is in the root 'lab': see merlib doctor" in plan
    jobs = set(plan.split())
    assert {"attsf_net_1_preprocess", "01_audit", "report"} <= jobs
    assert not any(name.startswith(("gia_mic_", "mfcre_", "00_start_here")) for name in jobs)


def test_a_notebook_is_due_when_it_says_something_else_or_the_twin_has_another_scale(checkout):
    asked = {"data": "twin_media", "paper": "mfcre", "table": "4"}
    said(checkout, **asked)
    source = checkout / "notebooks" / "mfcre" / "3_ablations.ipynb"
    notebook = nbformat.read(source, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "Nothing to be done" in said(checkout, "--dry-run", **asked)
    assert "mfcre_3_ablations_table4" in said(checkout, "--dry-run", scale="0.2", **asked)
    cell.source += "\n"
    cell.outputs, cell.execution_count = [new_output("stream", text="1\n")], 1  # as JupyterLab saves it
    nbformat.write(notebook, source)
    assert "mfcre_3_ablations_table4" in said(checkout, "--dry-run", **asked)
