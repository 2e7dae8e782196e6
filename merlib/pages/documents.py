"""The Markdown files of the repository as pages: docs/*.md, the grammar of declarations, the notes on each paper."""

import os
import re
import shutil
from functools import partial
from pathlib import Path

from merlib.places import CHECKOUT

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
MARKER = re.compile(r"<!--.*?-->", re.DOTALL)


class Documents:
    """Pages that are copies of files: where each file of the repository goes, so that links between them hold."""

    def __init__(self, folder: Path):
        self.folder, self.pages = folder, {}
        for file in sorted((CHECKOUT / "docs").glob("*.md")):
            self.pages[file] = f"guide/{file.stem}"
        self.pages[CHECKOUT / "papers" / "README.md"] = "guide/add_a_paper"

    def add(self, file: Path, page: str) -> None:
        self.pages[file] = page

    def write(self) -> None:
        for file, page in self.pages.items():
            target = self.folder / f"{page}.md"
            target.parent.mkdir(parents=True, exist_ok=True)
            text = MARKER.sub("", file.read_text(encoding="utf-8"))
            target.write_text(LINK.sub(partial(self._linked, file, target), text), encoding="utf-8")

    def _linked(self, file: Path, target: Path, match: re.Match) -> str:
        """A link as it holds between pages: to another page, to a copied picture; else the name of the file."""
        picture, text, address = match.groups()
        if re.match(r"[a-z]+:|#", address):
            return match[0]
        path, _, place = address.partition("#")
        linked = (file.parent / path).resolve()
        if linked in self.pages:
            page = os.path.relpath(self.folder / f"{self.pages[linked]}.md", target.parent)
            return f"[{text}]({page}{'#' * bool(place)}{place})"
        if picture and linked.is_file():
            shutil.copy(linked, target.parent / linked.name)
            return f"![{text}]({linked.name})"
        return f"{text} (`{os.path.relpath(linked, CHECKOUT)}`)"
