"""The folders of data and results, and the commit of the code; none depends on the working directory."""

import math
import os
import re
import subprocess
import unicodedata
from functools import cache
from pathlib import Path

from merlib.errors import RequestError

CHECKOUT = Path(__file__).resolve().parents[1]
NOTEBOOKS = CHECKOUT / "notebooks"  # the sources; executed copies lie in results/
TWINS = ("twin", "twin_media")  # the synthetic data roots: of features, and of recordings
NO_ROOTS = ("audit", "cache")  # folders of results/ that belong to no data root
LONGEST_NAME = 100  # bytes of the name of a root, a corpus or an array: files and locks are named after it


def setting(name: str, default: float, *, least: float = 0, most: float = math.inf) -> float:
    """The number in an environment variable, or `default`; RequestError for what is no number of that range."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and least <= value <= most):
        upwards = "on" if most == math.inf else f"to {most:g}"
        raise RequestError(f"the environment variable {name} is {text!r}: expected a number from {least:g} {upwards}")
    return value


def media_scale() -> float:
    """The scale of the synthetic recordings of twin_media."""
    return setting("MERLIB_TWIN_SCALE", 1, least=1e-3, most=10)


def root_name(data: str) -> str:
    """`data`, if it can be the name of a data root, a folder below data/ and below results/; else RequestError.

    Letters (of any language), digits, blanks and _ . + - ( ) make a name, so that it means the same to the shell, to
    `make` and to Snakemake.
    """
    known = all(c.isalnum() or unicodedata.combining(c) or c in " _.+-()" for c in data)
    ends = data[:1] + data[-1:]
    if not (data and known and data[0] not in ".-" and " " not in ends and len(data.encode()) <= LONGEST_NAME):
        expected = "letters, digits, blanks inside, and _ . + - ( ), such as real or meld_2024"
        raise RequestError(f"{data!r} cannot be the name of a data root, a folder below data/: take {expected}")
    if data in NO_ROOTS:
        raise RequestError(f"{data!r} cannot be the name of a data root: results/{data} holds something else")
    return data


def declared_folder() -> Path:
    """The declarations of papers: in a wheel inside the package (setup.py), else `papers` of the checkout."""
    installed = Path(__file__).parent / "declared"
    return installed if installed.is_dir() else CHECKOUT / "papers"


def data_folder() -> Path:
    """The folder of data roots: MERLIB_DATA, or `data` of the checkout."""
    return at_home(os.environ.get("MERLIB_DATA") or CHECKOUT / "data")


def results_folder(data: str) -> Path:
    """The results of a data root: a folder of MERLIB_RESULTS, or of `results` of the checkout."""
    return at_home(os.environ.get("MERLIB_RESULTS") or CHECKOUT / "results") / data


def at_home(path: str | Path) -> Path:
    """The path, with a home folder for a first `~`, which a shell leaves in a variable that was quoted.

    Raises RequestError for the home of a user whom the system does not know.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise RequestError(f"{str(path)!r}: there is no such user; name the folder from / on, or by ~/") from None


def run_folder(run: str) -> Path:
    """Where the run of an id is kept: what it was trained to, and its predictions."""
    return results_folder("cache") / "runs" / run


def is_word(name: str) -> bool:
    """Whether it can name a corpus or a feature array: a file of that name is inside its folder."""
    return bool(re.fullmatch(r"\w[\w.-]*", name)) and len(name.encode()) <= LONGEST_NAME


@cache
def commit() -> str:
    """The commit of this checkout, with `+` if code or declarations differ.

    Where there is no git: MERLIB_COMMIT, or what the file COMMIT of an archive says (`make archive`).
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "merlib", "papers")
    except (OSError, subprocess.CalledProcessError):  # no program, or no repository
        archived = CHECKOUT / "COMMIT"
        known = archived.read_text(encoding="utf-8").strip() if archived.is_file() else "unknown"
        return os.environ.get("MERLIB_COMMIT", known)
    return head + ("+" if changed else "")
