"""Every command that a document, a declaration or a notebook names: the command, its options and its address exist."""

import json
import re
import shlex
from pathlib import Path

import pytest
from tiny_study import ROOT
from typer.main import get_command

from merlib import declarations
from merlib.cli import app, arguments

MERLIB = get_command(app)
INLINE = re.compile(r"`(merlib [^`]+)`")
LINE = re.compile(r"^(merlib .+?)(?:  +.*)?$", re.MULTILINE)  # two blanks or more: words beside the command follow
WRITTEN = [
    path for pattern in ("*.md", "docs/*.md", "papers/**/*.md", "papers/**/*.toml", "notebooks/**/*.ipynb")
    for path in sorted(ROOT.glob(pattern))
]  # fmt: skip


def commands(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return [shlex.split(each, comments=True)[1:] for each in [*INLINE.findall(text), *LINE.findall(text)]]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_written_command_exists_with_its_options_and_address(path):
    for words in commands(path):
        command, rest = MERLIB, list(words)
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {option for each in command.params for option in each.opts} | {"--help"}
        assert {word for word in rest if word.startswith("-")} <= known, words
        for word in rest:
            if "/" in word and word.split("/")[0] in declarations.papers():
                assert arguments.address([word], text=True), words


def test_documents_name_every_command():
    named = {words[0] for path in WRITTEN for words in commands(path) if words}
    assert set(MERLIB.commands) <= named
