"""An executed notebook or figure is told to be old when its source or the records that it read have changed, only then.

A small study: records of two tables of HFF on a root `lab`, a notebook that shows one of them, and its figure.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from merlib import cli, figures, origins, places, study
from merlib.cli import executed, headless

SHOWS = """from merlib import figures, study
board = study.compare("hff", table, data)
figures.save(figures.selection_gap(board, data=data), data, "hff", f"{table}_gap")"""
RECORD = {
    "data": "lab", "row": "hff", "column": "weighted_f1", "fold": 0, "seed": 0, "selection": "val", "value": 60.0,
    "n": 1623, "features": "text: x (3)",
}  # fmt: skip
OTHER = {"row": "full", "column": "ta", "features": "text: y (3)"}


def record(table: str, **more) -> None:
    study.write_records("hff", table, "lab", [RECORD | more])


def write_source(folder, *cells: str) -> None:
    parameters = new_code_cell('data = "twin"\ntable = "table3"', metadata={"tags": ["parameters"]})
    source = folder / "notebooks" / "hff" / "2_train.ipynb"
    source.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# HFF"), parameters, *map(new_code_cell, cells)]), source)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of the study, its notebook executed once."""
    folder = tmp_path_factory.mktemp("executed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERLIB_RESULTS", str(folder / "results"))
        patch.setattr(places, "NOTEBOOKS", folder / "notebooks")
        record("table3")
        record("table4", **OTHER)
        write_source(folder, SHOWS)
        target = folder / "results" / "lab" / "notebooks" / "hff" / "2_train_table3.ipynb"
        headless.run(folder / "notebooks" / "hff" / "2_train.ipynb", target, {"data": "lab"}, progress=False)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(places, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


def old() -> dict[str, str]:
    """Which results are old, and why."""
    return {each.row: each.message for fact in executed.older("lab") for each in fact.consequences}


def test_what_was_made_of_present_files_is_not_old(folder):
    assert executed.older("lab") == []
    notebook = json.loads((folder / "results/lab/notebooks/hff/2_train_table3.ipynb").read_text())
    names = {"notebooks/hff/2_train.ipynb", "lab/records/hff/table3.csv"}
    assert names <= notebook["metadata"]["merlib"]["made_from"].keys()
    write_source(folder, SHOWS)  # as JupyterLab saves it: other ids of the cells
    record("table3")
    assert executed.older("lab") == [], "the same cells and the same records, written again"


def test_a_changed_record_makes_the_notebook_and_its_figure_old(folder):
    record("table3", value=61.0)
    assert old().keys() == {"2_train_table3", "table3_gap"}
    assert all("lab/records/hff/table3.csv changed since" in why for why in old().values())
    notebooks, drawn = executed.older("lab")
    assert notebooks.message.startswith("1 of 1 notebooks in ") and drawn.message.startswith("1 of 1 figures in ")
    command = "`merlib notebook notebooks/hff/2_train.ipynb "
    assert command in old()["2_train_table3"] and "-p data lab -p table table3`" in old()["2_train_table3"]
    assert executed.older("lab", "mfcre") == []


def test_a_changed_source_makes_the_notebook_and_its_figure_old(folder):
    write_source(folder, SHOWS, "1 + 1")
    assert old().keys() == {"2_train_table3", "table3_gap"}
    assert all("notebooks/hff/2_train.ipynb changed since" in why for why in old().values())


def test_results_that_do_not_say_what_they_were_made_from_are_old(folder):
    target = folder / "results/lab/notebooks/hff/2_train_table3.ipynb"
    notebook = json.loads(target.read_text())
    del notebook["metadata"]["merlib"]["made_from"]
    target.write_text(json.dumps(notebook))
    figure, _ = figures.canvas("A figure", "lab", 1, size=(1, 1))
    figure.savefig(folder / "results/lab/figures/hff/other.png")
    assert old().keys() == {"2_train_table3", "other"}
    assert all(executed.UNKNOWN in why for why in old().values())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"metadata": {"merlib": 3}}', b"\x89PNG"])
def test_damaged_results_are_told_beside_the_others(folder, content, capsys):
    record("table3", value=61.0)
    (folder / "results/lab/notebooks/hff/empty.ipynb").write_bytes(content)
    (folder / "results/lab/figures/hff/empty.png").write_bytes(content)
    cli.main(["audit", "--records", "hff", "--data", "lab"])
    out = capsys.readouterr().out
    for kind, suffix in (("notebooks", "ipynb"), ("figures", "png")):
        assert re.search(rf"note hff/{kind}/empty .*empty.{suffix}: it is damaged \(.*\); delete it and make it", out)
    assert out.count("lab/records/hff/table3.csv changed since") == 2


def test_only_the_records_that_were_read_count(folder):
    before = origins.digest("lab/records/hff/table4.csv")
    record("table4", **OTHER, value=1.0)
    assert origins.digest("lab/records/hff/table4.csv") not in ("", before)
    assert executed.older("lab") == []
    assert origins.digest("lab/records/hff/nothing.csv") == origins.digest("notebooks/nothing.ipynb") == ""


def test_the_digest_of_a_source_is_that_of_its_cells(folder):
    source = folder / "notebooks/hff/2_train.ipynb"
    assert headless.digest(source)[:16] == origins.digest("notebooks/hff/2_train.ipynb")


def test_the_command_lists_old_results_and_stale_records(folder, capsys):
    record("table3", value=61.0)
    cli.main(["audit", "--records", "hff", "--data", "lab", "--json"])
    facts = {(fact["table"], fact["check"]) for fact in json.loads(capsys.readouterr().out)}
    assert facts == {("notebooks", "older"), ("figures", "older"), ("table3", "stale"), ("table4", "stale")}
    cli.main(["audit", "--records", "hff/table3", "--data", "lab"])
    said = capsys.readouterr()
    line = (
        "note hff/table3/hff  [stale] 1 records of 1 runs (seed 0; commit ): recorded before records named a recipe.\n"
    )
    assert said.out == line and "by recipes and versions of the code: the root is not here" in said.err


def test_a_clone_without_data_audits_its_records_without_torch(tmp_path):
    code = "import sys; from merlib import cli; cli.main(['audit', '--records', '--data', 'real', '--json']); "
    code += "print([m for m in ('torch', 'sklearn', 'nbformat', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    env = os.environ | {"MERLIB_DATA": str(tmp_path / "data"), "MERLIB_RESULTS": str(places.CHECKOUT / "results")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["[]"] and not (tmp_path / "data").exists()
    assert isinstance(json.loads(done.stdout), list)
