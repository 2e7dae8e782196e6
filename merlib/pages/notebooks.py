"""Notebooks as pages: copies whose figures have a text alternative, and whose titles tell one table from another."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat

from merlib.places import CHECKOUT

HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def copy(source: Path, target: Path, relink: Callable[[str], str]) -> None:
    """Copy a notebook; relink: makes the links of a text hold on the page.

    A figure is named after the heading that it stands under. An executed notebook says below its title which one it is.
    """
    notebook = nbformat.read(source, 4)
    made = notebook.metadata.get("merlib", {})
    first = notebook.cells[0]
    title = heading = HEADING.search(first.source)[1]
    if "source" in made:  # it was executed
        table = re.search(r"_table(\w+)$", source.stem)
        title += f" (table {table[1]})" if table else ""
        about = f"# {title}\n\n{_about(made, source.parent.name)}"
        first.source = HEADING.sub(lambda _: about, first.source, count=1)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (HEADING.findall(cell.source) or [heading])[-1]
            cell.source = relink(cell.source)
        cell.metadata["mystnb"] = {"image": {"alt": f"Figure: {heading}"}}
    nbformat.write(notebook, target)


def _about(made: dict, paper: str) -> str:
    """Which notebook it is, with what it was executed, and the command that does so again."""
    original = f"notebooks/{paper}/{made['source']}"
    options = "".join(f" -p {name} '{value}'" for name, value in made["parameters"].items())
    copied = f"An executed copy of `{original}`, by the code of commit {made['commit']}. To execute it again:"
    return f"{copied}\n\n```sh\nmerlib notebook {original} my_copy.ipynb{options}\n```"


def executed(paper: str, data: str) -> list[Path]:
    """The executed notebooks of a paper that are committed."""
    return sorted((CHECKOUT / "results" / data / "notebooks" / paper).glob("*.ipynb"))


def lessons() -> dict[Path, Path]:
    """Path below notebooks/ -> file: the notebooks that a reader gets, without solutions; those of no paper first."""
    folder = CHECKOUT / "notebooks"
    files = sorted([*folder.glob("*.ipynb"), *folder.glob("*/*.ipynb")], key=lambda file: (len(file.parts), file))
    return {file.relative_to(folder): file for file in files if file.parent.name != "solutions"}
