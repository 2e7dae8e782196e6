"""The pieces that pages are made of. Whatever comes from declarations and records is escaped here.

A page is Markdown (MyST); tables whose rows unfold are HTML inside it, since Markdown has none.
"""

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd

from merlib.declarations import Work
from merlib.declarations.works import citation

ADDRESS = re.compile(r"(https?://[^\s,;)]*[^\s,;).])")
CODE = re.compile(r"(`[^`\n]+`)")


def html(text: Any) -> str:
    """Plain text as HTML; what stands between backticks is code."""
    return CODE.sub(lambda match: f"<code>{match[0][1:-1]}</code>", escape(str(text)))


def markdown(text: str) -> str:
    """Plain text as Markdown, in which only backticks have a meaning."""
    parts = CODE.split(text)
    parts[::2] = [re.sub(r"([\\*_\[\]{}<>#$|~])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def linked(text: str) -> str:
    """Plain text as Markdown, in which addresses of the web are links."""
    parts = ADDRESS.split(text)
    return "".join(f"<{part}>" if at % 2 else markdown(part) for at, part in enumerate(parts))


def cited(work: Work) -> str:
    """A work in one line, as pages cite it."""
    return linked(citation(work))


def raw(lines: Iterable[str]) -> str:
    """HTML as a block of a Markdown page; a line break between tags keeps the words of the search index apart."""
    inside = "\n".join(lines).replace("`", "&#96;").replace("><", ">\n<")
    return f"```{{raw}} html\n{inside}\n```\n"


def command(line: str) -> str:
    """A command line with a button that copies it (`div.highlight` is where the button's script looks)."""
    return f'<div class="highlight"><pre>{escape(line)}</pre></div>'


def link(target: str, text: str) -> str:
    return f'<a href="{escape(target)}">{html(text)}</a>'


def value(leaf: Any) -> str:
    """The value of a leaf as code; of one that differs by corpus, each with its corpus."""
    if isinstance(leaf, Mapping):
        return "; ".join(f"{html(corpus)}: {value(one)}" for corpus, one in leaf.items())
    return "<i>none</i>" if leaf is None else f"<code>{html(leaf)}</code>"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of HTML cells; the first cell of a row is its head. On a narrow screen it scrolls by itself."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    heads = f"<thead><tr>{heads}</tr></thead>" if heads else ""
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return scrolling(f'<table class="table">{heads}<tbody>{"".join(lines)}</tbody></table>')


def scrolling(inside: str) -> str:
    """Wide content in a region that scrolls, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="Table">{inside}</div>'


def number(value: Any) -> str:
    """Two decimals; a whole number without; nothing for what is not known."""
    if pd.isna(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in parts if part)]) + "\n"


def toctree(entries: Iterable[str]) -> str:
    """The pages below a page, for the side bar; the page itself links to them in its text."""
    return "\n".join(["```{toctree}", ":hidden:", "", *entries, "```"])
