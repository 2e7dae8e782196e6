"""The first page, and the pages that list what is below them."""

from collections.abc import Iterable

import pandas as pd

from merlib.data import official
from merlib.declarations import Paper
from merlib.pages import markup
from merlib.pages.markup import markdown
from merlib.pages.papers import name_of, printed_in
from merlib.study import claims_page

WHAT = """\
Papers on recognising emotion from speech, text and face print scores that are hard to check. This study takes {count}
of them number by number. Every printed number has an **address** (`mfcre/table4/wo_simam`), a **recipe** (declared in
TOML, each value with its place in the paper), and, where our inputs are those of the paper, a **verdict**. Every
claim between two scores is judged on our own runs of both sides."""
INSIDE = """\
**In**: the printed numbers and settings of each paper, typed once, with their places (`papers/`); the corpora that you
have (recordings, transcripts, labels), or synthetic twins of them, which are made here; pretrained encoders, where they
are there, and a named substitute where they are not.

**Out**: each number printed beside reproduced, with its spread and what it cost; a verdict on each claim, with an
interval; and what in the printed numbers does not fit, by arithmetic alone."""
TITLES = {"add_a_paper": "How to add a paper: the grammar of a declaration <add_a_paper>"}
COMMANDS = """\
```sh
make reproduce    # makes synthetic recordings, regenerates every table from them, prints the comparison
make lab          # opens the notebooks; start with 00_start_here.ipynb
```

Both need Linux, Python 3.11 to 3.14 and `make`; no GPU, no licence, no data. All other commands on these pages are
typed in the same folder, with `.venv/bin` in front or on the path."""


def pages(
    papers: list[Paper], judged: pd.DataFrame, *, lessons: list[str], guide: list[str], packages: list[str]
) -> dict[str, str]:  # fmt: skip
    """Name -> text of the first page and of the pages that list others."""
    counts = claims_page.counts(judged).to_dict("index")
    listed = _papers(papers, counts, "papers/")
    front = [
        WHAT.format(count=len(papers)), "## The papers", listed, "## What goes in, what comes out", INSIDE,
        "## Two commands", COMMANDS, "## Where to read on", _further(),
        markup.toctree(["papers/index", "corpora/index", "lessons/index", "guide/index", "reference/index"]),
    ]  # fmt: skip
    names = {paper.id: markdown(name_of(paper)) for paper in papers}
    return {
        "index": markup.page("Papers on multimodal emotion recognition, number by number", *front),
        "papers/index": _list("Papers", [f"{paper.id}/index" for paper in papers], _papers(papers, counts, "")),
        "corpora/index": _list("Corpora", list(official.ACCESS), _corpora(papers, names)),
        "lessons/index": _lessons(lessons, names),
        "guide/index": _list("Guide", [TITLES.get(page, page) for page in guide]),
        "reference/index": _list("Reference", packages, "What every module and public function is for."),
    }


def _papers(papers: list[Paper], counts: dict[str, dict[str, int]], below: str) -> str:
    lines = ["| paper | printed in | data | idea | claims on our runs |", "|---|---|---|---|---|"]
    for paper in papers:
        data = ", ".join(f"[{official.NAMES[c]}]({'' if below else '../'}corpora/{c}.md)" for c in paper.corpora)
        verdicts = ", ".join(f"{n} {v}" for v, n in counts.get(paper.id, {}).items() if n)
        link = f"[{markdown(name_of(paper))}]({below}{paper.id}/index.md)"
        about = markdown(paper.idea[0] if paper.idea else paper.title)
        lines.append(f"| {link} | {markdown(printed_in(paper))} | {data} | {about} | {verdicts} |")
    return "\n".join(lines)


def _corpora(papers: list[Paper], names: dict[str, str]) -> str:
    lines = ["| corpus | classes | read by |", "|---|---|---|"]
    for corpus in official.ACCESS:
        readers = ", ".join(names[paper.id] for paper in papers if corpus in paper.corpora)
        lines.append(f"| [{official.NAMES[corpus]}]({corpus}.md) | {', '.join(official.LABELS[corpus])} | {readers} |")
    return "\n".join(lines)


def _further() -> str:
    return """\
- New to the field: the {doc}`glossary <guide/glossary>`, then the first {doc}`lesson <lessons/00_start_here>`.
- How one number came about: open a table of a paper and unfold its row.
- Your own paper: {doc}`how to declare one <guide/add_a_paper>`.
- Your own table of scores: {doc}`audit it <lessons/02_audit_your_table>`.
- How the code is laid out: {doc}`architecture <guide/architecture>`, {doc}`reference <reference/index>`."""


def _lessons(lessons: list[str], names: dict[str, str]) -> str:
    """The lessons of the course, then the notebooks of each paper."""
    course = [lesson for lesson in lessons if "/" not in lesson]
    parts = ["The six sessions of {doc}`the course <../guide/lectures>`, then the notebooks of each paper."]
    parts.append(_contents(course))
    for paper, name in names.items():
        parts += [f"## {name}", _contents([lesson for lesson in lessons if lesson.startswith(f"{paper}/")])]
    return markup.page("Lessons", *parts)


def _list(title: str, entries: Iterable[str], text: str = "") -> str:
    """A page that lists those below it: in `text`, or by their titles."""
    return markup.page(title, text, markup.toctree(entries) if text.startswith("|") else _contents(entries))


def _contents(entries: Iterable[str]) -> str:
    """The titles of pages, as links."""
    return "\n".join(["```{toctree}", ":maxdepth: 1", "", *entries, "```"])
