"""Notebooks as pages: copies whose figures have a text alternative, and whose titles tell one table from another."""

import re
from pathlib import Path

import nbformat

from merlib.places import CHECKOUT

HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def copy(source: Path, target: Path, about: str = "") -> None:
    """Copy a notebook; `about` is said below its title. Its figures are named after the heading they stand under."""
    notebook = nbformat.read(source, 4)
    heading = title_of(source)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = HEADING.findall(cell.source)
            heading = headings[-1] if headings else heading
        cell.metadata["mystnb"] = {"image": {"alt": f"Figure: {heading.strip('# ')}"}}
    first = notebook.cells[0]
    first.source = HEADING.sub(lambda _: f"# {title_of(source)}\n\n{about}", first.source, count=1)
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def title_of(source: Path) -> str:
    """The first heading of a notebook; of one that was executed for one table, with that table."""
    title = HEADING.search(nbformat.read(source, 4).cells[0].source)[1]
    table = re.search(r"_table(\w+)$", source.stem)
    return f"{title} (table {table[1]})" if table else title


def executed(paper: str, data: str) -> list[Path]:
    """The executed notebooks of a paper that are committed."""
    return sorted((CHECKOUT / "results" / data / "notebooks" / paper).glob("*.ipynb"))


def about_executed(source: Path) -> str:
    """Which notebook it is, with what it was executed, and the command that does so again."""
    made = nbformat.read(source, 4).metadata["merlib"]
    original = f"notebooks/{source.parent.name}/{made['source']}"
    options = "".join(f" -p {name} '{value}'" for name, value in made["parameters"].items())
    command = f"merlib notebook {original} my_copy.ipynb{options}"
    copy = f"An executed copy of `{original}`, by the code of commit {made['commit']}."
    return f"{copy} To execute it again:\n\n```sh\n{command}\n```"


def lessons() -> list[Path]:
    """The notebooks that belong to no paper, in the order of their numbers."""
    return sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
