"""What a replication report is made of; how each block looks in LaTeX or in Markdown is the business of the writers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from matplotlib.figure import Figure

CITED = re.compile(r"\[@(\w+)\]")  # in Markdown; the key of a work


@dataclass(frozen=True)
class Title:
    text: str


@dataclass(frozen=True)
class Heading:
    level: int  # 1 to 3
    text: str  # as it is, without markup


@dataclass(frozen=True)
class Prose:
    markdown: str  # paragraphs, lists and small tables; [@key] cites


@dataclass(frozen=True)
class Gap:
    """What only a person can write."""

    task: str


class Entry(NamedTuple):
    """A cell of a table: plain text, and the key of the work that it names."""

    text: str
    cites: str | None = None


@dataclass(frozen=True)
class Grid:
    """A table with its caption. widths: of each column, a share of the line whose text wraps, or None for numbers.

    A column's name is one line of the header, or two: those with the same first line have it in common.
    """

    name: str
    caption: str
    columns: Sequence[tuple[str, ...]]
    rows: Sequence[Sequence[Entry]]
    widths: Sequence[float | None]


@dataclass(frozen=True)
class Picture:
    name: str
    caption: str
    figure: Figure = field(repr=False)


Block = Title | Heading | Prose | Gap | Grid | Picture


def keys(document: Sequence[Block]) -> list[str]:
    """The works that a document cites, each once, in order."""
    found = []
    for block in document:
        if isinstance(block, Prose):
            found += CITED.findall(block.markdown)
        elif isinstance(block, Grid):
            found += [cell.cites for row in block.rows for cell in row if cell.cites]
    return list(dict.fromkeys(found))
