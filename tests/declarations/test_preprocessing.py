"""The tables of preprocessing values in papers/*/notes.md: what is printed beside what `merlib data extract` does."""

import inspect
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest

from merlib import declarations
from merlib.declarations import Row
from merlib.features import declared, text
from merlib.places import CHECKOUT

HEADING = "## Preprocessing: what is printed, and what `merlib data extract` does\n"
DEFAULTS = {name: p.default for name, p in inspect.signature(text.encode).parameters.items()}


def rows(paper: str) -> list[list[str]]:
    section = (CHECKOUT / "papers" / paper / "notes.md").read_text().split(HEADING)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == "| what | printed | place | ours | set in | deviation |"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def resolved(paper: str, place: str) -> str | None:
    """What a path into the extractors has, or a leaf of the base recipe or of `base.<system>`; None for a file."""
    if place.startswith("merlib/"):
        assert (CHECKOUT / place).is_file(), place
        return None
    loaded = declarations.load(paper)
    corpus = loaded.corpora[0]
    if place.startswith("base."):
        _, base, place = place.split(".", 2)
        found: Any = declarations.recipe(loaded, Row(id=base, label=base, base=base), corpus)
    elif place.split(".")[0] in ("model", "data"):
        found = declarations.base_recipe(loaded, corpus)
    else:
        found = declared.extractors(paper, corpus)
        found["text"] = DEFAULTS | found["text"]
    kind = re.fullmatch(r"type\((.*)\)", place)
    for name in (kind[1] if kind else place).split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    found = type(found).__name__ if kind else found
    return "all" if found is None else str(found).lower() if isinstance(found, bool) else str(found)


def agrees(printed: str, ours: str) -> bool:
    """Numbers are equal; a name is a part of the other, whatever its case and whoever published it."""
    try:
        return Decimal(printed) == Decimal(ours)
    except InvalidOperation:
        short, name = (re.sub(r"[^a-z0-9]", "", value.split("/")[-1].lower()) for value in (printed, ours))
        return short in name


def problems(paper: str, row: list[str]) -> list[str]:
    what, printed, place, ours, where, deviation = row
    found, wrong = resolved(paper, where.strip("`")), []
    if found is not None and not (agrees(ours, found) and agrees(found, ours)):
        wrong.append(f"{what}: ours is {ours}, and {where} has {found}")
    if not re.match(r"(Sec\.|eqs?\.|Table|Fig\.)", place):
        wrong.append(f"{what}: {place!r} is no place in a paper")
    if agrees(printed, ours) == bool(deviation):
        differs = "differs from ours and has no reason" if not deviation else "is ours, and marked as a deviation"
        wrong.append(f"{what}: the printed {printed} {differs}")
    return wrong


@pytest.mark.parametrize("paper", declarations.papers())
def test_every_printed_value_is_ours_or_a_deviation_with_its_reason(paper):
    table = rows(paper)
    assert len(table) >= 10 and len({row[0] for row in table}) == len(table)
    assert not [problem for row in table for problem in problems(paper, row)]


ROW = ["audio: seconds", "3.6", "Sec. III-A", "3.6", "`audio.settings.seconds`", ""]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (1, "3", "the printed 3 differs from ours and has no reason"),
        (3, "3", "ours is 3, and `audio.settings.seconds` has 3.6"),
        (5, "longer clips", "the printed 3.6 is ours, and marked as a deviation"),
        (2, "the code", "'the code' is no place in a paper"),
        (4, "`audio.settings.window_ms`", "has 50"),
    ],
)
def test_a_row_that_is_not_what_happens_is_told(column, value, says):
    assert problems("attsf_net", ROW) == []
    assert any(says in problem for problem in problems("attsf_net", [*ROW[:column], value, *ROW[column + 1 :]]))
