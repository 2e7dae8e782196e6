"""The folders of data and results, and the commit of the code; none depends on the working directory."""

import os
import subprocess
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
TWINS = ("twin", "twin_media")  # the synthetic data roots: of features, and of recordings
MEDIA_SCALE = float(os.environ.get("MERLIB_TWIN_SCALE", "1"))  # of the synthetic recordings of twin_media


def data_folder() -> Path:
    """The folder of data roots: MERLIB_DATA, or `data` of the checkout."""
    return Path(os.environ.get("MERLIB_DATA", CHECKOUT / "data"))


def results_folder(data: str) -> Path:
    """The results of a data root: a folder of MERLIB_RESULTS, or of `results` of the checkout."""
    return Path(os.environ.get("MERLIB_RESULTS", CHECKOUT / "results")) / data


@cache
def commit() -> str:
    """The commit of this checkout, with `+` if code or declarations differ; MERLIB_COMMIT where there is no git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "merlib", "papers")
    except (OSError, subprocess.CalledProcessError):  # no program, or no repository
        return os.environ.get("MERLIB_COMMIT", "unknown")
    return head + ("+" if changed else "")
