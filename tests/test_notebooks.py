"""Source notebooks: their shape, and what they do with a data root that lacks a corpus and a modality."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import tiny_study
from tiny_study import LESSONS, ROOT, SOLUTIONS

from merlib import declarations, twins
from merlib.cli import headless
from merlib.data import table
from merlib.twins import dialogues

NOTEBOOKS = [*LESSONS, *SOLUTIONS]
NAMES = [p.relative_to(ROOT / "notebooks").with_suffix("").as_posix() for p in NOTEBOOKS]


@pytest.fixture(params=NOTEBOOKS, ids=NAMES)
def source(request) -> Path:
    return request.param


def test_every_study_has_its_four_notebooks():
    studies = {p.name for p in (ROOT / "notebooks").iterdir() if p.is_dir()} - {"solutions"}
    assert "mfcre" in studies and studies <= set(declarations.papers())
    assert {f"{s}/{n}" for s in studies for n in ("1_preprocess", "2_train", "3_ablations", "4_figures")} <= set(NAMES)


def test_it_is_committed_clean(source):
    raw = json.loads(source.read_text())
    assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in raw["cells"]]
    assert len(ids) == len(set(ids))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in raw["cells"])
    assert raw["metadata"]["kernelspec"]["name"] == "python3"


def test_its_parameters_come_first_and_are_all_read(source):
    cells = [c for c in nbformat.read(source, as_version=4).cells if c.cell_type == "code"]
    assert cells[0].metadata.get("tags") == ["parameters"]
    read = {n.id for c in cells[1:] for n in ast.walk(ast.parse(c.source)) if isinstance(n, ast.Name)}
    assert set(headless.parameters(source)) <= read
    assert "data" in headless.parameters(source) or source in SOLUTIONS


def test_its_cells_are_short_and_define_nothing(source):
    cells = nbformat.read(source, as_version=4).cells
    assert cells[0].cell_type == "markdown" and ("Exercises" in cells[-1].source or source in SOLUTIONS)
    for cell in cells:
        assert max(map(len, cell.source.splitlines())) <= 120, cell.source
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15, cell.source
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
            assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source))), cell.source


def imported(source: Path) -> list[str]:
    """Every name that an import statement of a notebook binds."""
    code = [c.source for c in nbformat.read(source, as_version=4).cells if c.cell_type == "code"]
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell))]
    return [alias.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for alias in n.names]


def test_it_imports_at_most_six_names(source):
    assert len(imported(source)) <= 6, imported(source)


def statements(source: Path) -> set[str]:
    """The statements of a notebook, a compound one line by line, after its imports and its opening; the paper's id is
    left out, since the same call for another paper is the same call."""
    paper, found = source.parent.name, set()
    for cell in nbformat.read(source, as_version=4).cells[4:]:
        if cell.cell_type == "code":
            lines = [line.strip().replace(paper, "PAPER") for line in ast.unparse(ast.parse(cell.source)).splitlines()]
            found |= set(lines)
    return found


@pytest.mark.parametrize("kind", ["1_preprocess", "2_train", "3_ablations", "4_figures"])
def test_what_three_papers_share_is_a_named_call(kind):
    """Code that stands alike in three papers or more is a single call of merlib, not a passage."""
    papers = [statements(path) for path in LESSONS if path.stem == kind]
    shared = {line for lines in papers for line in lines if sum(line in other for other in papers) >= 3}
    called = [line for line in shared if "notebook." in line or "study." in line or "inspection." in line]
    assert len(shared) - len(called) <= 2, sorted(shared - set(called))


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """A root with one corpus of the two and two modalities of the three; the three notebooks that need no training."""
    folder = tmp_path_factory.mktemp("half")
    tiny_study.declare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERLIB_DATA", str(folder / "data"))
        twins.ensure("twin", ["iemocap6"])
    shutil.copytree(folder / "data" / "twin" / "iemocap6", folder / "data" / "half" / "iemocap6")
    (folder / "data" / "half" / "iemocap6" / "features" / "visual.safetensors").unlink()
    jobs = []
    meld_only = {"1_preprocess": [], "2_train": ["-p", "table", "table3"], "3_ablations": ["-p", "table", "table5"]}
    for name, more in meld_only.items():
        paths = [ROOT / "notebooks" / "mfcre" / f"{name}.ipynb", folder / f"{name}.ipynb"]
        command = [sys.executable, "-m", "merlib", "notebook", *paths, "-p", "data", "half", *more]
        jobs.append(subprocess.Popen(command, env=tiny_study.environment(folder), stderr=subprocess.PIPE, text=True))
    for job in jobs:
        assert job.wait() == 0, job.stderr.read()
    return folder


@pytest.mark.parametrize("name", ["1_preprocess", "2_train", "3_ablations"])
def test_an_absent_corpus_is_stated_and_no_error(half, name):
    executed = nbformat.read(half / f"{name}.ipynb", as_version=4)
    text = "".join(o.get("text", "") for c in executed.cells if c.cell_type == "code" for o in c.outputs)
    assert "meld" in text and "ABSENT" in text
    assert not list((half / "results").glob("cache/runs/*")), "nothing is trained for a corpus that is not there"


def test_an_absent_modality_is_stated(half):
    executed = nbformat.read(half / "1_preprocess.ipynb", as_version=4)
    tables = [o.data["text/plain"] for c in executed.cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    assert any("visual" in table and "ABSENT" in table for table in tables)


def test_a_class_of_which_every_prediction_is_right_can_be_printed_wrong(tmp_path):
    table.save(dialogues.make("meld", seed=1, scale=0.012)[0], tmp_path / "data" / "few" / "meld")
    tiny_study.declare(tmp_path)
    paths = [ROOT / "notebooks" / "02_audit_your_table.ipynb", tmp_path / "executed.ipynb"]
    command = [sys.executable, "-m", "merlib", "notebook", *paths, "-p", "data", "few"]
    subprocess.run(command, env=tiny_study.environment(tmp_path), check=True)
    cells = nbformat.read(paths[1], as_version=4).cells
    text = "".join(o.get("text", "") for cell in cells if cell.cell_type == "code" for o in cell.outputs)
    assert "100.00 -> 99.50" in text
