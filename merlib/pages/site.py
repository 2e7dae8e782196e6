"""All pages, written into a folder."""

import shutil
from pathlib import Path

from merlib import declarations
from merlib.audit import audit
from merlib.data import official
from merlib.pages import corpora, papers, reference, start, tables
from merlib.pages.documents import Documents
from merlib.places import results_folder
from merlib.study import judge_claims, report


class Site:
    """A folder of sources, and what is computed once for all pages."""

    def __init__(self, folder: Path, data: str):
        self.folder, self.data = folder, data
        self.papers = [declarations.load(name) for name in declarations.papers()]
        self.boards, self.judged, self.findings = report.boards_of(data), judge_claims(data=data), audit()
        self.documents = Documents(folder, data)

    def write(self) -> None:
        """Write all sources anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for paper in self.papers:
            self._paper(paper)
        for corpus in official.ACCESS:
            self._page(f"corpora/{corpus}", corpora.page(corpus, self.papers, self.data))
        for name, files in reference.packages().items():
            self._page(f"reference/{name}", reference.page(name, files))
        self.documents.write()
        below = {name: list(self.documents.below(name)) for name in ("lessons", "guide")}
        for name, text in start.pages(self.papers, self.judged, packages=list(reference.packages()), **below).items():
            self._page(name, text)

    def _page(self, name: str, text: str) -> None:
        path = self.folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _paper(self, paper: declarations.Paper) -> None:
        """All pages of one paper."""
        here = f"papers/{paper.id}"
        others = list(self.documents.below(here))
        boards = [board for board in self.boards if board[0].id == paper.id]
        judged = self.judged[self.judged["paper"] == paper.id]
        findings = [f for f in self.findings if f.paper == paper.id]
        flat = [each for finding in findings for each in finding.flat()]
        for _, table, board in boards:
            of_table = [f for f in flat if f.table == table.id]
            self._page(f"{here}/{table.id}", tables.page(paper, table, board, of_table, self.data))
        if files := sorted((results_folder(self.data) / "figures" / paper.id).glob("*.png")):
            self._page(f"{here}/figures", papers.figures(paper, files))
            others.append("figures")
        for file in files:
            shutil.copy(file, self.folder / here / file.name)
        self._page(f"{here}/claims", papers.claims(paper, judged))
        self._page(f"{here}/recipe", papers.recipe(paper))
        self._page(f"{here}/open_points", papers.open_points(paper, files))
        self._page(f"{here}/audit", papers.audit(paper, findings))
        self._page(f"{here}/index", papers.front(paper, boards, judged, findings, others=others, files=files))


def write(folder: Path, data: str) -> None:
    """Write the sources of the site into a folder, from the results on a data root."""
    Site(folder, data).write()
