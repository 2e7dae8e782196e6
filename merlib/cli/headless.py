"""Execute notebooks by papermill, with exactly the parameters that they declare.

The cell tagged `parameters` holds plain assignments of literals, at most six. Papermill alone runs the defaults when a
name is mistyped, and does not report a kernel that the system killed; here both are errors. The kernel runs in the
calling interpreter's environment, with the same merlib, in the notebook's own folder, as in JupyterLab. Kernels that
are registered on the machine are not used. A copy is written only when all cells have run.
"""

import ast
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from merlib import declarations, origins, places
from merlib.declarations.leaves import Typed
from merlib.errors import MerlibError, RequestError, one_of
from merlib.files import atomic, naming_full_disk
from merlib.foreign import regular
from merlib.places import CHECKOUT, commit, data_folder, results_folder, setting

MOST_PARAMETERS = 6
KERNEL_SECONDS = 600  # until a kernel must have started: from a network drive, beside many others, it takes minutes
PROGRESS_BAR = "application/vnd.jupyter.widget-view+json"
LOADED = "from pathlib import Path\nfrom merlib import files, origins\nfiles.write_loaded(Path({!r}))\n"  # a last cell
LOADED += "origins.write(Path({!r}))"
KILLED = (
    "the kernel died. The system kills a process that needs more memory than there is: lower the recipe's "
    "train.batch, run fewer jobs at once (snakemake --cores), or take a corpus with fewer utterances"
)


class NotebookError(RequestError):
    """A notebook or its parameters are not as they must be, and nothing was run; the message says what to change."""


class RunFailed(MerlibError, RuntimeError):
    """A cell failed or the kernel died; the message names the cell and the file of the incomplete copy."""


def parameters(source: Path) -> dict[str, Any]:
    """The parameters of a source notebook and their defaults. Raises NotebookError unless the cell is as above."""
    return _parameters(_read(Path(source)), source)


def tables(source: Path) -> list[str]:
    """The tables that a source notebook is about, from its metadata `{"merlib": {"tables": [...]}}`."""
    return list(_read(Path(source)).metadata.get("merlib", {}).get("tables", []))


def digest(source: Path) -> str:
    """A hash (sha256) of the cells of a source notebook; it does not change when JupyterLab saves outputs into it."""
    return origins.of_cells(_read(Path(source)).cells)


def run(
    source: Path, target: Path, parameters: dict[str, Any], *, code: Path | None = None, progress: bool = True
) -> None:
    """Execute `source` with `parameters` over its defaults; write the executed copy to `target`.

    The copy's metadata `merlib` hold its source (`digest`), what it was made from (`merlib.origins`), parameters,
    commit and seconds. Raises RequestError before anything runs, and RunFailed when a cell fails: then the incomplete
    copy is in `<target>.failed.ipynb`.
    code: a file for the paths of merlib's code that the notebook loaded.
    """
    source, target = Path(source).resolve(), Path(target).resolve()
    notebook = _read(source)
    if target == source or target.is_dir():
        what = "the notebook itself" if target == source else "a folder"
        raise NotebookError(f"{target} is {what}: name a file for the executed copy, such as {source.stem}.run.ipynb")
    values = _merged(_parameters(notebook, source), parameters, source)
    about = {"source": source.name, "source_sha256": digest(source), "parameters": values, "commit": commit()}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, naming_full_disk(Path(folder)):
        draft, made_from = (Path(folder) / name for name in ("draft.ipynb", "made_from.json"))
        loaded = Path(code).resolve() if code else Path(folder) / "loaded"
        notebook.cells.append(nbformat.v4.new_code_cell(LOADED.format(str(loaded), str(made_from))))
        error = _execute(notebook, draft, values, source, progress and {"desc": target.stem})
        executed = nbformat.read(draft, as_version=4)
        if made_from.exists():
            about["made_from"] = json.loads(made_from.read_text(encoding="utf-8"))
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    started = [cell for cell in cells if cell.metadata.papermill.start_time]
    if error is None and len(started) < len(cells):
        error = "the kernel's work ended here, before the last cell (sys.exit?)"
    executed.cells.pop()
    executed.metadata["merlib"] = about | {"seconds": round(time.monotonic() - began, 1)}
    failed = target.with_suffix(".failed.ipynb")
    with atomic(failed if error else target) as part:
        nbformat.write(_tidy(executed), part)
    if error:
        line = next(iter(started[-1].source.strip().splitlines()), "") if started else ""
        where = f"In [{len(started)}], `{line}`" if started else "before the first cell"
        raise RunFailed(f"{source.name}: {where}: {error}. The incomplete copy is {failed}")
    failed.unlink(missing_ok=True)


def _read(source: Path) -> NotebookNode:
    """The notebook, without the outputs that JupyterLab saved into it."""
    try:
        notebook = nbformat.read(regular(source), as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        raise NotebookError(f"{source}: there is no such notebook") from None
    except OSError as error:
        raise NotebookError(f"{source} is not a notebook: {error}") from None
    except RecursionError:
        raise NotebookError(f"{source} is not a notebook: it is nested too deeply") from None
    except (ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NotebookError(f"{source} is not a notebook: {reason}") from None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _parameters(notebook: NotebookNode, source: Path) -> dict[str, Any]:
    """Name -> default value, of the cell tagged `parameters`."""
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"{source}: {len(tagged)} cells are tagged `parameters`, expected one of plain assignments")
    defaults = {}
    try:
        for line in ast.parse(tagged[0].source).body:
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    defaults[name] = _plain(ast.literal_eval(value))
                case _:
                    raise RequestError(f"`{ast.unparse(line)}`")
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:  # the last: nested too deeply
        rule = "the parameters cell may only assign literals, `name = value`"
        raise NotebookError(f"{source}: {rule}; found {error}") from None
    if len(defaults) > MOST_PARAMETERS:
        names = ", ".join(defaults)
        raise NotebookError(f"{source}: {len(defaults)} parameters, at most {MOST_PARAMETERS} are allowed: {names}")
    return defaults


def _merged(defaults: dict[str, Any], given: dict[str, Any], source: Path) -> dict[str, Any]:
    """The given values over the defaults. A value must have its default's type; an int may stand for a float.

    What was typed on the command line is text where the default is text, and a literal where it is not.
    """
    values = dict(defaults)
    for name, value in given.items():
        default = one_of(defaults, name, f"parameter of {source}")
        try:
            value = _plain(value.like(default) if isinstance(value, Typed) else value)
        except TypeError:  # a date
            raise NotebookError(f"{source}: {name} = {value} is no number, text, true or false, nor a list") from None
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if default is not None and type(value) is not type(default):
            types = f"{type(value).__name__}; expected {type(default).__name__}, as its default {default!r}"
            raise NotebookError(f"{source}: {name} = {value!r} is of type {types}")
        values[name] = value
    return values


def _plain(value: Any) -> Any:
    """The value as JSON represents it, with lists for tuples: papermill writes only such values into a cell."""
    return json.loads(json.dumps(value))


def _execute(notebook: NotebookNode, draft: Path, values: dict, source: Path, progress: dict | bool) -> str | None:
    """Run all cells, saving to `draft` after each; returns the error that stopped them, or None."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.execute import remove_error_markers

    nbformat.write(notebook, draft)
    timeout = round(setting("MERLIB_KERNEL_SECONDS", KERNEL_SECONDS, least=1, most=86400))
    kernel = {"kernel_name": "python3", "language": "python", "start_timeout": timeout}
    kernel["kernel_manager_class"] = _kernel_of_this_interpreter(source)
    options = {"cwd": source.parent, "progress_bar": progress, "record_timing": False}
    try:
        papermill.execute_notebook(str(draft), str(draft), values, **kernel, **options)
    except papermill.PapermillExecutionError as error:
        nbformat.write(remove_error_markers(nbformat.read(draft, as_version=4)), draft)
        return f"{error.ename}: {error.evalue}"
    except DeadKernelError:
        return KILLED
    except RuntimeError as error:
        if not str(error).startswith("Kernel "):  # "Kernel didn't respond in 60 seconds", "Kernel died before replying"
            raise
        return f"the kernel did not start: {error}. MERLIB_KERNEL_SECONDS sets how long it may take"
    return None


def _kernel_of_this_interpreter(source: Path) -> type:
    """A kernel manager that starts this interpreter, with this merlib and the folders that it uses."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    modules = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    papers = os.pathsep.join(map(str, declarations.search_path()))
    data, results = (str(folder.resolve()) for folder in (data_folder(), results_folder("")))  # of any working folder
    env = {"PYTHONPATH": modules, "MERLIB_PAPERS": papers, "MERLIB_DATA": data, "MERLIB_RESULTS": results}
    if source.is_relative_to(places.NOTEBOOKS):
        name = source.relative_to(places.NOTEBOOKS.parent).as_posix()
        env[origins.NOTEBOOK] = json.dumps({name: origins.digest(name)})

    class Kernel(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict(["--log-level=ERROR"]), env=env)

    return Kernel


def _tidy(executed: NotebookNode) -> NotebookNode:
    """Remove progress bars and clock times, so that two executions of one notebook differ only in their results."""
    executed.metadata.pop("papermill")
    executed.metadata.pop("widgets", None)
    for cell in executed.cells:
        cell.metadata.pop("papermill")
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
        if cell.cell_type == "code":
            cell["outputs"] = [output for output in cell.outputs if PROGRESS_BAR not in output.get("data", {})]
    return executed
