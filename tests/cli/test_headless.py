"""The strict runner: what it refuses before anything runs, and what it says when a cell or the kernel dies."""

import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import merlib
from merlib import cli
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


@pytest.mark.parametrize("target, message", [("source.ipynb", "is the notebook itself"), (".", "is a folder")])
def test_a_copy_that_would_replace_the_notebook_or_a_folder_is_refused_before_anything_runs(tmp_path, target, message):
    source = write(tmp_path / "source.ipynb", "raise RuntimeError('ran')")
    with pytest.raises(NotebookError, match=f"{message}: name a file"):
        headless.run(source, tmp_path / target, {}, progress=False)


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


class Merged(Exception):
    """Raised instead of a kernel's start, with the values of the parameters."""


def values_of(
    tmp_path, monkeypatch, *typed, parameters="data = 'twin'\ncount = 1\nflag = False\nany = None\nrate = 1.5"
):
    """The values with which a notebook would be executed, of what was typed after `merlib notebook`."""

    def stop(notebook, draft, values, *_):
        raise Merged(values)

    monkeypatch.setattr(headless, "_execute", stop)
    source = write(tmp_path / "source.ipynb", parameters=parameters)
    with pytest.raises(Merged) as merged:
        cli.main(["notebook", str(source), str(tmp_path / "t.ipynb"), *typed])
    return merged.value.args[0]


@pytest.mark.parametrize(
    "name", ["2024-05-01", "2024", "007", "1e3", "true", "nan", "[0]", "Meine Daten ü", "12:30:00"]
)
def test_what_is_typed_for_a_text_stays_that_text(tmp_path, monkeypatch, name):
    assert values_of(tmp_path, monkeypatch, "-p", "data", name)["data"] == name


def test_what_is_typed_for_anything_else_is_a_literal(tmp_path, monkeypatch):
    typed = [
        "-p",
        "data",
        '"in quotes"',
        "-p",
        "count",
        "3",
        "-p",
        "flag",
        "true",
        "-p",
        "any",
        "[0, 1]",
        "-p",
        "rate",
        "2",
    ]
    values = values_of(tmp_path, monkeypatch, *typed)
    assert values == {"data": "in quotes", "count": 3, "flag": True, "any": [0, 1], "rate": 2.0}
    assert type(values["rate"]) is float


@pytest.mark.parametrize(
    ("name", "typed", "says"),
    [
        ("count", "2024-05-01", "count = 2024-05-01 is no number"),
        ("count", "1" * 5000, "of type str; expected int"),
        ("any", "2024-05-01", "any = 2024-05-01 is no number"),
        ("count", "[" * 5000, "of type str; expected int"),
        ("flag", "1", "expected bool"),
    ],
)
def test_what_is_typed_and_does_not_fit_is_refused_in_one_line(tmp_path, capsys, name, typed, says):
    source = write(tmp_path / "source.ipynb", parameters="count = 1\nflag = False\nany = None")
    with pytest.raises(SystemExit) as end:
        cli.main(["notebook", str(source), str(tmp_path / "t.ipynb"), "-p", name, typed])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and says in line and str(source) in line and len(line) < 2200


NO_NOTEBOOKS = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "nested deeply": lambda path: path.write_text('{"cells": ' + "[" * 100_000),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "an integer of 5,000 digits": lambda path: path.write_text('{"nbformat": 4, "nbformat_minor": ' + "9" * 5000 + "}"),
    "parameters nested deeply": lambda path: write(path, parameters="a = " + "[" * 5000 + "]" * 5000),
    "a chain of operators": lambda path: write(path, parameters="a = " + "-" * 50_000 + "1"),
}


@pytest.mark.parametrize("make", NO_NOTEBOOKS.values(), ids=NO_NOTEBOOKS)
def test_what_is_no_notebook_is_refused_in_one_line_that_names_it(tmp_path, capsys, make):
    source = tmp_path / "source.ipynb"
    make(source)
    with pytest.raises(SystemExit) as end:
        cli.main(["notebook", str(source), str(tmp_path / "t.ipynb")])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith(f"merlib: {source}")


def test_a_kernel_that_does_not_start_in_time_is_said_in_one_line_and_the_copy_kept(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import sys, time\nif any('ipykernel' in a for a in sys.orig_argv): time.sleep(9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(slow), prepend=os.pathsep)
    monkeypatch.setenv("MERLIB_KERNEL_SECONDS", "1")
    failed = tmp_path / "out" / "target.failed.ipynb"
    with pytest.raises(
        RunFailed, match=f"before the first cell: the kernel did not start.*MERLIB_KERNEL_SECONDS.*{failed}"
    ):
        run(tmp_path, "print('never')")
    assert "never" in failed.read_text()


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
