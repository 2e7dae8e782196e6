"""A plain installation has what a checkout has: the declarations of the papers, and the templates of reports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from merlib import declarations
from merlib.errors import DeclarationError
from merlib.places import declared_folder

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "merlib", "papers")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["the sources", "their archive"])
def test_a_plain_installation_brings_the_declarations_along(tmp_path, way):
    """Of the sources as of the archive (sdist) that a package index would hold."""
    source = tmp_path / "source"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    if way == "their archive":
        build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
        subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
        (source,) = tmp_path.glob("merlib-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--no-compile", "--target", tmp_path / "site", source]
    subprocess.run(command, check=True, capture_output=True)
    ask = "from merlib import declarations; print(*declarations.papers(), *declarations.load('mfcre').tables)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    environment.pop("MERLIB_PAPERS", None)
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    told = subprocess.run([sys.executable, "-c", ask], check=False, **run)
    assert told.stdout.split()[:5] == declarations.papers(), told.stderr
    assert "table4" in told.stdout
    installed = {p.relative_to(tmp_path / "site") for p in (tmp_path / "site" / "merlib").rglob("*.*")}
    for own in (*(ROOT / "merlib").rglob("*.j2"), *(ROOT / "papers").rglob("*.*")):
        inside = own.relative_to(ROOT).parts
        place = Path("merlib", "declared", *inside[1:]) if inside[0] == "papers" else Path(*inside)
        assert place in installed


def test_a_checkout_reads_its_own_declarations():
    assert declared_folder() == ROOT / "papers"


def test_a_folder_without_declarations_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
    monkeypatch.setattr(declarations.loading, "registered", dict)
    with pytest.raises(DeclarationError, match="holds no <paper>/paper.toml; set MERLIB_PAPERS"):
        declarations.papers()
