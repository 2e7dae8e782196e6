"""The notes of the papers name code that exists."""

import re
from pathlib import Path

import pytest

from merlib.places import CHECKOUT

FOLDER = CHECKOUT / "papers"
CODE = re.compile(r"`(merlib/[\w/]+\.py)`((?:,? (?:and )?`[A-Za-z_.]+`)*)")


@pytest.mark.parametrize("paper", sorted(path.parent.name for path in FOLDER.glob("*/notes.md")))
def test_what_the_notes_say_implements_an_equation_exists(paper):
    references = CODE.findall((FOLDER / paper / "notes.md").read_text())
    assert references
    for file, names in references:
        source = (FOLDER.parent / file).read_text()
        for name in re.findall(r"`(?:\w+\.)?(\w+)`", names):
            assert re.search(rf"(class|def) {name}\b|^{name} =|self\.{name}\b", source, re.MULTILINE), f"{file}: {name}"


PAGES = ["README.md", "CONTRIBUTING.md", "papers/README.md", "benchmarks/README.md"]
PAGES += [f"docs/{path.name}" for path in sorted((CHECKOUT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files_that_exist(page):
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])((?:merlib|papers|tests|results|notebooks|benchmarks|docs)/[\w/.-]*\w)", text))
    absent = sorted(name for name in named if not (CHECKOUT / name).exists() and "cache" not in Path(name).parts)
    assert named and not absent, f"{page} names {absent}"
