"""The page of a corpus: its licence, how to get it, its counts, who reads it, and what leaks."""

import csv

from merlib.data import official
from merlib.declarations import Paper, works
from merlib.pages import markup
from merlib.pages.markup import html, markdown
from merlib.pages.papers import name_of
from merlib.study import leaks


def page(corpus: str, papers: list[Paper], data: str) -> str:
    """The page of one corpus, from `merlib.data.official`, as `merlib doctor` tells it."""
    readers = [f"[{markdown(name_of(p))}](../papers/{p.id}/index.md)" for p in papers if corpus in p.corpora]
    parts = [
        f"Called `{corpus}` in commands and recipes.",
        "## How to get it",
        markup.linked(official.ACCESS[corpus]),
        markdown(official.REMEDY[corpus]),
    ]
    parts.append(markup.raw([markup.command("merlib doctor")]))
    parts += ["## Its classes and counts", _counts(corpus)]
    parts += ["## Who reads it", ", ".join(readers) or "No paper of this study."]
    if described := works.of_corpora([corpus]).values():
        parts += ["## What to cite", "\n".join(f"- {markup.cited(work)}" for work in described)]
    if leaking := _leaks(corpus, data):
        parts += ["## What leaks", leaking]
    return markup.page(official.NAMES[corpus], *parts)


def _counts(corpus: str) -> str:
    """Utterances of each class and group of splits; where classes are not counted, of each group."""
    parts = []
    if corpus in official.CLASSES:
        groups = official.CLASSES[corpus]
        rows = [(label, *counts) for label, *counts in zip(official.LABELS[corpus], *groups.values(), strict=True)]
        rows.append(("all", *(sum(counts) for counts in groups.values())))
        parts.append(markup.raw([markup.table(("class", *map(html, groups)), rows)]))
    else:
        counts = official.UTTERANCES[corpus].items()
        parts.append("; ".join(f"{group}: {count} utterances" for group, count in counts) + ".")
    counted = "; ".join(f"{group}: {count}" for group, count in official.DIALOGUES.get(corpus, {}).items())
    parts.append(f"Dialogues (or videos, or clips) by split: {counted}." if counted else "")
    return "\n\n".join(filter(None, parts))


def _leaks(corpus: str, data: str) -> str:
    """The lines of results/<data>/leaks.csv about this corpus; nothing where there is no such file, or no such line."""
    path = leaks.path_of(data)
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["corpus"] == corpus]
    if not lines:
        return ""
    return markup.raw([markup.table(map(html, lines[0]), [map(html, line.values()) for line in lines])])
