"""Notebooks as lessons: their opening, the chain of all of them, the guesses, and a solution for every exercise."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from tiny_study import LESSONS, ROOT, SOLUTIONS

HOME = ROOT / "notebooks"
GUESSED = [path for path in LESSONS if path.stem in ("01_audit", "2_train", "3_ablations")]
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)\)")


def name(path: Path) -> str:
    return path.relative_to(HOME).as_posix()


def cells(path: Path) -> list:
    return nbformat.read(path, as_version=4).cells


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")


def linked(path: Path, line: str) -> Path | None:
    """The file that a line of a lesson's opening links to, such as `- **Next:** [...](...)`."""
    text = next(each for each in cells(path)[1].source.splitlines() if each.startswith(f"- **{line}:**"))
    found = LINK.search(text)
    return (path.parent / found[1]).resolve() if found else None


def numbers(text: str) -> list[str]:
    return re.findall(r"^(\d+)\. ", text, re.MULTILINE)


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_it_opens_with_what_it_teaches(path):
    opening = cells(path)[1]
    assert opening.cell_type == "markdown" and opening.source.startswith("**At the end you know** ")
    assert re.search(r"^- \*\*Time:\*\* about (a minute|\d+ minutes) on a laptop", opening.source, re.MULTILINE)
    targets = {(path.parent / link).resolve() for link in LINK.findall(opening.source)}
    assert HOME / "solutions" / name(path) in targets
    if path.parent != HOME:
        assert ROOT / "papers" / path.parent.name / "notes.md" in targets
        assert any(target.suffix == ".py" for target in targets)


@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS, ROOT / "docs" / "lectures.md"], ids=lambda path: path.stem)
def test_every_link_leads_to_a_file(path):
    text = path.read_text() if path.suffix == ".md" else prose(path)
    local = [link for link in LINK.findall(text) if "://" not in link]
    assert not [link for link in local if not (path.parent / link).is_file()]
    assert local or path.suffix == ".ipynb"


def test_the_chain_leads_through_all_lessons_and_back():
    path, seen = HOME / "00_start_here.ipynb", []
    assert linked(path, "Before") is None
    while path:
        assert path not in seen
        before, seen = seen[-1:], [*seen, path]
        assert [linked(path, "Before")] == (before or [None])
        path = linked(path, "Next")
    assert sorted(seen) == sorted(LESSONS)


@pytest.mark.parametrize("path", GUESSED, ids=name)
def test_a_guess_is_written_and_the_next_cell_scores_it(path):
    all_cells = cells(path)
    (at,) = (number for number, cell in enumerate(all_cells) if cell.source.startswith("guess = "))
    (statement,) = ast.parse(all_cells[at].source).body
    ast.literal_eval(statement.value)
    assert all_cells[at - 1].source.startswith("**Predict, then run.**")
    scored = ast.parse(all_cells[at + 1].source)
    assert "guess" in {node.id for node in ast.walk(scored) if isinstance(node, ast.Name)}
    assert "print" in all_cells[at + 1].source


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_every_exercise_has_a_solution(path):
    exercises = cells(path)[-1].source.split("## Exercises")[1]
    solution = HOME / "solutions" / name(path)
    assert solution in SOLUTIONS
    headings = prose(solution)
    assert numbers(exercises) and numbers(exercises) == re.findall(r"^## Exercise (\d+)", headings, re.MULTILINE)
    assert linked_back(solution) == path


def linked_back(solution: Path) -> Path:
    return (solution.parent / LINK.search(cells(solution)[0].source)[1]).resolve()
