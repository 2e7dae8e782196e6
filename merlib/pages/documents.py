"""Files of the repository as pages (docs/*.md, the grammar of declarations, notes, notebooks), and their links."""

import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from merlib import declarations
from merlib.pages import notebooks, reference
from merlib.places import CHECKOUT

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
MARKER = re.compile(r"<!--.*?-->", re.DOTALL)


class Documents:
    """Pages that are copies of files, in the folder of sources; `pages` says where each file of the repository goes."""

    def __init__(self, folder: Path, data: str):
        self.folder = folder
        self.copied = {file: f"guide/{file.name}" for file in sorted((CHECKOUT / "docs").glob("*.md"))}
        self.copied[CHECKOUT / "papers" / "README.md"] = "guide/add_a_paper.md"
        self.copied |= {file: f"lessons/{path}" for path, file in notebooks.lessons().items()}
        for paper, declared in declarations.folders().items():
            executed = notebooks.executed(paper, data)
            self.copied |= {file: f"papers/{paper}/notebooks/{file.name}" for file in executed}
            notes = declared / "notes.md"
            self.copied |= {notes: f"papers/{paper}/notes.md"} if notes.is_file() else {}
        code = {file: f"reference/{package}.md" for package, files in reference.packages().items() for file in files}
        self.pages = code | self.copied

    def below(self, place: str) -> Iterator[str]:
        """The names of the copied pages below a page, as that page's table of contents has them."""
        inside = (page.removeprefix(f"{place}/") for page in self.copied.values() if page.startswith(f"{place}/"))
        return (str(Path(page).with_suffix("")) for page in inside)

    def write(self) -> None:
        """Copy all, with links that hold between pages."""
        for file, page in self.copied.items():
            target = self.folder / page
            target.parent.mkdir(parents=True, exist_ok=True)
            relink = partial(LINK.sub, partial(self._linked, file, target))
            if file.suffix == ".ipynb":
                notebooks.copy(file, target, relink)
            else:
                target.write_text(relink(MARKER.sub("", file.read_text(encoding="utf-8"))), encoding="utf-8")

    def _linked(self, file: Path, target: Path, match: re.Match) -> str:
        """A link as it holds between pages: to another page, to a copied picture; else the name of the file."""
        picture, text, address = match.groups()
        if re.match(r"[a-z]+:|#", address):
            return match[0]
        path, hash_, place = address.partition("#")
        linked = (file.parent / path).resolve()
        if linked in self.pages:
            return f"[{text}]({os.path.relpath(self.folder / self.pages[linked], target.parent)}{hash_}{place})"
        if picture and linked.is_file():
            shutil.copy(linked, target.parent / linked.name)
            return f"![{text}]({linked.name})"
        return f"{text} (`{os.path.relpath(linked, CHECKOUT)}`)"
