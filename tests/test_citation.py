"""How the study is cited is one fact: CITATION.cff, codemeta.json, pyproject.toml and the declarations agree."""

import hashlib
import json
import os
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from merlib import declarations, places

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CODEMETA = json.loads((ROOT / "codemeta.json").read_text())
PAPERS = {paper.title: paper for paper in map(declarations.load, declarations.papers())}


def test_version_licence_and_description_are_those_of_the_package():
    assert PROJECT["version"] == CFF["version"] == CODEMETA["version"]
    assert PROJECT["license"] == CFF["license"] == CODEMETA["license"].rpartition("/")[2]
    assert PROJECT["description"] == CFF["abstract"] == CODEMETA["description"]
    assert CFF["keywords"] == CODEMETA["keywords"] and str(CFF["date-released"]) == CODEMETA["dateModified"]
    assert [author["name"] for author in CFF["authors"]] == [author["name"] for author in CODEMETA["author"]]
    assert f"## {CFF['version']}, {CFF['date-released']}" in (ROOT / "CHANGELOG.md").read_text().splitlines()


def test_its_references_are_the_papers_as_they_are_declared():
    assert [entry["title"] for entry in CFF["references"]] == list(PAPERS)
    for entry in CFF["references"]:
        paper = PAPERS[entry["title"]]
        authors = [f"{author['given-names']} {author['family-names']}" for author in entry["authors"]]
        assert ", ".join(authors) == paper.authors
        told = {name: str(entry[name]) for name in ("journal", "year", "doi") if name in entry}
        assert told == paper.published
    dois = {entry["name"]: entry.get("identifier", "") for entry in CODEMETA["referencePublication"]}
    published = {title: paper.published.get("doi") for title, paper in PAPERS.items()}
    assert dois == {title: f"https://doi.org/{doi}" if doi else "" for title, doi in published.items()}


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with one file beside the Makefile, all committed."""
    for name in ("Makefile", "pyproject.toml", ".gitignore"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    who = {f"GIT_{role}_{what}": "x@y.z" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, env=os.environ | who, check=True)
    return tmp_path


def test_an_archive_holds_what_is_committed_and_says_which_commit_it_is(repository, monkeypatch):
    (repository / "untracked").touch()
    subprocess.run(["make", "archive"], cwd=repository, check=True, capture_output=True)
    name = f"merlib-{PROJECT['version']}"
    archive = repository / "dist" / f"{name}.tar.gz"
    digest, named = archive.with_name(f"{archive.name}.sha256").read_text().split()
    assert digest == hashlib.sha256(archive.read_bytes()).hexdigest() and named == archive.name
    with tarfile.open(archive) as held:
        assert {member.name for member in held if member.isfile()} == {
            f"{name}/{file}" for file in ("Makefile", "pyproject.toml", ".gitignore", "COMMIT")
        }
    (repository / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", repository / "unpacked"], check=True)
    asked = ["git", "rev-parse", "--short", "HEAD"]
    head = subprocess.run(asked, cwd=repository, check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(places, "CHECKOUT", repository / "unpacked" / name)
    monkeypatch.setenv("GIT_DIR", str(repository / "none"))
    monkeypatch.delenv("MERLIB_COMMIT", raising=False)
    assert places.commit.__wrapped__() == head


def test_nothing_is_archived_before_it_is_committed(repository):
    (repository / "Makefile").write_text((repository / "Makefile").read_text() + "\n# changed\n")
    done = subprocess.run(["make", "archive"], cwd=repository, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "commit them first" in done.stdout and not (repository / "dist").exists()


def test_contributing_names_commands_and_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", text)) <= targets
