"""The pages of a paper: its idea and drawing, its claims, recipe, open points, audit and figures."""

import re
from pathlib import Path

import pandas as pd

from merlib.audit import Finding
from merlib.audit import pages as audit_pages
from merlib.data import official
from merlib.declarations import Paper, works
from merlib.declarations.leaves import sourced
from merlib.pages import drawing, markup, rows, tables
from merlib.pages.markup import html, markdown
from merlib.study import claims_page
from merlib.study.claims import VERDICTS
from merlib.study.report import Board

RUN = re.compile(r"(merlib run .+? --seeds [\d,]+)")  # a command in the note of a claim
SEVERITIES = {"error": "Cannot hold", "note": "Odd"}
UNSTATED = """\
A source that starts with *unstated* says why this study takes the value, since the paper gives none. What the paper
says in two ways is among its [open points](open_points.md)."""
OPEN = """\
What the paper leaves open or says in two ways. The command below a point runs the base recipe and every other option of
it, on a synthetic twin; `--data real` takes a data root of your own."""


def name_of(paper: Paper) -> str:
    return paper.name or paper.id


def printed_in(paper: Paper) -> str:
    """Where and when, as far as its copy says."""
    said = [paper.published[name] for name in ("journal", "booktitle", "year") if name in paper.published]
    return ", ".join(said) or "not named in its text"


def front(
    paper: Paper, boards: list[Board], judged: pd.DataFrame, findings: list[Finding], *, others: list[str],
    files: list[Path],
) -> str:  # fmt: skip
    """The first page of a paper. others: further pages below it, by their names; files: the figures of the paper."""
    data = ", ".join(f"[{official.NAMES[c]}](../../corpora/{c}.md)" for c in paper.corpora)
    about = [markup.cited(works.as_work(paper)), f"Code: {markup.linked(paper.code)}", f"Data: {data}"]
    parts = ["\\\n".join(about)]
    if paper.idea:
        parts += ["## The idea", " ".join(map(markdown, paper.idea))]
    if paper.drawing:
        parts.append(markup.raw([drawing.svg(paper.drawing, name_of(paper))]))
    if len(judged):
        parts += ["## What it claims, on our own runs", _claims(judged[judged["central"]])]
        parts.append(f"These are the central ones. All {len(judged)} claims between scores: [claims](claims.md).")
    parts += ["## Its tables, printed beside reproduced", _tables(boards)]
    parts += [_figure(paper, file) for file in files if file.stem == "scoreboard"]
    errors = sum(f.severity == "error" for f in findings)
    found = f"{errors} findings that cannot hold, and {len(findings) - errors} that are odd: [the audit](audit.md)."
    parts += ["## Do the printed numbers fit each other?", found]
    if paper.readings:
        points = paper.readings.items()
        listed = [f"- [{name}](open_points.md#{rows.anchor(name)}): {markdown(r.question)}" for name, r in points]
        parts += ["## What it leaves open", "\n".join(listed)]
    more = ["- [Every setting of the recipe, with its source](recipe.md)", *(f"- {{doc}}`{name}`" for name in others)]
    entries = [table.id for _, table, _ in boards] + ["claims", "audit", "open_points", "recipe", *others]
    return markup.page(markdown(name_of(paper)), *parts, "## More", "\n".join(more), markup.toctree(entries))


def _tables(boards: list[Board]) -> str:
    lines = ["| table | printed numbers | of them run here |", "|---|---|---|"]
    for _, table, board in boards:
        printed, ran = board["printed"].notna(), board["reproduced"].notna()
        counts = f"{printed.sum()} | {(printed & ran).sum()}"
        lines.append(f"| [{markdown(tables.title(table))}]({table.id}.md) | {counts} |")
    return "\n".join(lines)


def _claims(judged: pd.DataFrame) -> str:
    """One sentence a claim, the decided ones first."""
    ranked = judged.iloc[judged["verdict"].map(VERDICTS.index).argsort(kind="stable")]
    return "\n".join("- " + RUN.sub(r"`\1`", claims_page.sentence(line)) for line in ranked.itertuples())


def claims(paper: Paper, judged: pd.DataFrame) -> str:
    """Every claim between scores, in one sentence each."""
    parts = [claims_page.INTRODUCTION.split("\n", 1)[1]]
    for central, title in ((True, "What abstract and conclusion rest on"), (False, "The rest")):
        parts += [f"## {title}", _claims(judged[judged["central"] == central])]
    return markup.page(f"Claims of {markdown(name_of(paper))}", *parts)


def recipe(paper: Paper) -> str:
    """The base recipe, leaf by leaf, each with its source; and what stands in for parts of it."""
    lines = [
        (f"<code>{html(leaf)}</code>", markup.value(value), html(source))
        for leaf, (value, source) in sourced(paper.recipe, paper.corpora).items()
    ]
    parts = [UNSTATED, markup.raw([markup.table(("leaf", "value", "source"), lines)])]
    if paper.substitute:
        parts.append("## What stands in where a machine or a data root lacks what is printed")
        parts.append("\n".join(f"- `{name}`: {markdown(each.instead_of)}" for name, each in paper.substitute.items()))
    return markup.page(f"Recipe of {markdown(name_of(paper))}", *parts)


def open_points(paper: Paper, files: list[Path]) -> str:
    """Every reading: the question, the options, the default and why. files: the figures of the paper."""
    parts = [OPEN, *(_figure(paper, file) for file in files if "multiverse" in file.stem)]
    for name, reading in paper.readings.items():
        lines = []
        for option, change in reading.options.items():
            leaves = sourced(change, paper.corpora).items()
            sets = "<br>".join(f"<code>{html(leaf)}</code> {markup.value(v)} {html(why)}" for leaf, (v, why) in leaves)
            lines.append((f"<code>{html(option)}</code>{' (default)' * (option == reading.default)}", sets))
        why = f"Default `{reading.default}`: {markdown(reading.why)}."
        options = [markup.table(("option", "sets"), lines), _switch(paper, name)]
        parts += [f"## {name}", f"**{markdown(reading.question)}**", why, markup.raw(options)]
    return markup.page(f"Open points of {markdown(name_of(paper))}", *parts)


def _switch(paper: Paper, reading: str) -> str:
    """The command that runs every option of a reading; a run cannot switch what is settled with the features."""
    rows_of = [row.id for row in paper.table("readings").row if f"readings.{reading}" in paper.flat(row.change)]
    if not rows_of:
        return "<p>It is settled when features are extracted: <code>merlib data extract --help</code>.</p>"
    return markup.command(f"merlib run {paper.id} readings default {' '.join(rows_of)}")


def audit(paper: Paper, findings: list[Finding]) -> str:
    """What the audit finds in the printed numbers of one paper."""
    parts = [audit_pages.HEAD.split("\n", 1)[1]]
    for severity, title in SEVERITIES.items():
        listed = [f for f in findings if f.severity == severity]
        parts += [f"## {title}"] if listed else []
        for heading in dict.fromkeys(audit_pages.HEADINGS.values()):
            if of_heading := [f for f in listed if audit_pages.HEADINGS[f.check] == heading]:
                parts.append(f"### {title}: {heading[0].lower()}{heading[1:]}")
                parts.append("\n".join(line for f in of_heading for line in audit_pages.as_lines(f)))
    return markup.page(f"Audit of {markdown(name_of(paper))}", *parts)


def figures(paper: Paper, files: list[Path]) -> str:
    """The figures of a paper that are committed, drawn from its runs."""
    parts = ["Drawn from our runs on real data by the notebooks of this paper and by `merlib report`."]
    parts += [_figure(paper, file) for file in files]
    return markup.page(f"Figures of {markdown(name_of(paper))}", *parts)


def _figure(paper: Paper, file: Path) -> str:
    """A figure that lies beside the page, with the words of its file's name."""
    words = markdown(file.stem.replace("_", " "))
    return f"```{{figure}} {file.name}\n:alt: Figure of {name_of(paper)}, {words}\n\n{words}\n```"
