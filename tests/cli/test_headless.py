"""The strict runner: what it refuses before anything runs, and what it says when a cell or the kernel dies."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import merlib
from merlib.cli import headless
from merlib.cli.headless import NotebookError, RunFailed
from merlib.errors import RequestError

PARAMETERS = "count = 1\nname = 'twin'\nseeds = (0, 1)\nrate = 0.5\n"


def write(path, *sources, parameters=PARAMETERS, tags=("parameters",)):
    """A notebook: a title, one cell tagged with each of `tags`, and the cells `sources`."""
    tagged = [new_code_cell(parameters, metadata={"tags": [tag]}) for tag in tags]
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *tagged, *(new_code_cell(s) for s in sources)])
    nbformat.write(notebook, path)
    return path


def run(folder, *sources, given=None, **shape):
    source, target = write(folder / "source.ipynb", *sources, **shape), folder / "out" / "target.ipynb"
    headless.run(source, target, given or {}, progress=False)
    return nbformat.read(target, as_version=4)


def text_of(notebook):
    return "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)


def test_parameters_reach_the_notebook_and_its_metadata(tmp_path):
    cells = "print(count, name, seeds, rate)", "import os, merlib; print(os.getcwd()); print(merlib.__file__)"
    executed = run(tmp_path, *cells, given={"count": 3, "seeds": [2], "rate": 1})
    values = {"count": 3, "name": "twin", "seeds": [2], "rate": 1.0}
    assert text_of(executed) == f"3 twin [2] 1.0\n{tmp_path}\n{merlib.__file__}\n"
    about = executed.metadata["merlib"]
    assert about["parameters"] == values and about["seconds"] > 0 and about["commit"]
    assert len(about["source_sha256"]) == 64 and about["source"] == "source.ipynb"


def test_two_executions_differ_in_their_seconds_only(tmp_path):
    bar = "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass\nprint('done')"
    first, second = run(tmp_path, bar), run(tmp_path, bar)
    assert text_of(first) == "done\n" and not any("data" in o for c in first.cells[1:] for o in c.outputs)
    for executed in (first, second):
        del executed.metadata["merlib"]["seconds"]
        for cell in executed.cells:
            cell.pop("id")  # the source of this test is written twice
        executed.metadata["merlib"].pop("source_sha256")
    assert first == second


@pytest.mark.parametrize(
    "given, message",
    [
        ({"counts": 3}, "'counts' is no parameter of .*source.ipynb; .*did you mean 'count'"),
        ({"zzz": 3}, "source.ipynb; there are: count, name, seeds, rate$"),
        ({"count": "3"}, "source.ipynb.*'3' is of type str; expected int"),
        ({"count": True}, "source.ipynb.*True is of type bool; expected int"),
        ({"seeds": 0}, "source.ipynb.*0 is of type int; expected list"),
        ({"name": 5}, "source.ipynb.*5 is of type int; expected str"),
        ({"count": 0.5}, "source.ipynb.*0.5 is of type float; expected int"),
    ],
)
def test_a_mistyped_parameter_is_refused_before_anything_runs(tmp_path, given, message):
    with pytest.raises(RequestError, match=message):
        run(tmp_path, "raise RuntimeError('ran')", given=given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "shape, message",
    [
        ({"tags": ()}, "0 cells are tagged `parameters`, expected one"),
        ({"tags": ("parameters", "parameters")}, "2 cells are tagged"),
        ({"parameters": "a = 1\nb = a + 1"}, "may only assign literals"),
        ({"parameters": "a = [x for x in range(3)]"}, "may only assign literals"),
        ({"parameters": "import os"}, "found `import os`"),
        ({"parameters": "a = b = 1"}, "found `a = b = 1`"),
        ({"parameters": "a = {1, 2}"}, "may only assign literals"),
        ({"parameters": "a ="}, "may only assign literals"),
        ({"parameters": "\n".join(f"p{i} = {i}" for i in range(7))}, "7 parameters, at most 6"),
    ],
)
def test_a_parameters_cell_of_another_shape_is_refused(tmp_path, shape, message):
    with pytest.raises(NotebookError, match=message.replace("+", r"\+")):
        run(tmp_path, "print(1)", **shape)


def test_what_jupyterlab_saves_into_a_source_plays_no_part(tmp_path):
    source = write(tmp_path / "source.ipynb", "print(count)", "if count > 1:\n    print('many')")
    before, notebook = headless.digest(source), nbformat.read(source, as_version=4)
    notebook.cells[-1].outputs, notebook.cells[-1].execution_count = [new_output("stream", text="old\n")], 7
    notebook.metadata["widgets"] = {}
    nbformat.write(notebook, source)
    assert headless.digest(source) == before and headless.parameters(source)["count"] == 1
    headless.run(source, tmp_path / "t.ipynb", {"count": 1}, progress=False)
    executed = nbformat.read(tmp_path / "t.ipynb", as_version=4)
    assert text_of(executed) == "1\n" and executed.metadata["merlib"]["source_sha256"] == before
    notebook.cells[-1].source += "\nprint(0)"
    nbformat.write(notebook, source)
    assert headless.digest(source) != before


@pytest.mark.parametrize("content", [None, "no JSON", '{"cells": 3}'])
def test_what_is_no_notebook_is_refused(tmp_path, content):
    source = tmp_path / "source.ipynb"
    if content is not None:
        source.write_text(content)
    with pytest.raises(NotebookError, match="source.ipynb.* (there is no such|is not a) notebook"):
        headless.run(source, tmp_path / "t.ipynb", {})


@pytest.mark.parametrize(
    "cell, message",
    [
        ("value = 1\nraise ValueError(f'rate {rate}')", r"In \[4\], `value = 1`: ValueError: rate 0.5"),
        ("import os\nos.kill(os.getpid(), 9)", r"In \[4\], `import os`: the kernel died.*memory.*train.batch"),
        ("import sys\nsys.exit()", r"In \[4\], `import sys`: the kernel's work ended here"),
    ],
)
def test_a_failed_run_names_its_cell_and_keeps_what_there_is(tmp_path, cell, message):
    target, failed = tmp_path / "out" / "target.ipynb", tmp_path / "out" / "target.failed.ipynb"
    run(tmp_path, "print('before')")
    complete = target.read_bytes()
    with pytest.raises(RunFailed, match=f"(?s)source.ipynb: {message}.*{failed}"):
        run(tmp_path, "print('before')", cell, "print('after')")
    printed = text_of(nbformat.read(failed, as_version=4))
    assert printed.startswith("before\n") and "after" not in printed
    assert target.read_bytes() == complete, "the copy of an earlier run is not touched"
    run(tmp_path, "print('again')")
    assert not failed.exists() and sorted(p.name for p in target.parent.iterdir()) == ["target.ipynb"]


def test_tables_come_from_the_metadata(tmp_path):
    source = write(tmp_path / "source.ipynb")
    assert headless.tables(source) == []
    notebook = nbformat.read(source, as_version=4)
    notebook.metadata["merlib"] = {"tables": ["table2"]}
    nbformat.write(notebook, source)
    assert headless.tables(source) == ["table2"]
    assert headless.parameters(source) == {"count": 1, "name": "twin", "seeds": [0, 1], "rate": 0.5}
