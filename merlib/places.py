"""Where things lie, and which commit this is. Everything is found from the checkout, whatever the working directory."""

import os
import subprocess
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
TWINS = ("twin", "twin_media")  # data roots that make themselves: synthetic features, and synthetic recordings
MEDIA_SCALE = float(os.environ.get("MERLIB_TWIN_SCALE", "1"))  # of the recordings that twin_media makes


def data_folder() -> Path:
    """`data` of the checkout, or MERLIB_DATA: a folder of data roots."""
    return Path(os.environ.get("MERLIB_DATA", CHECKOUT / "data"))


def results_folder(data: str) -> Path:
    """`results/<data>` of the checkout, or below MERLIB_RESULTS."""
    return Path(os.environ.get("MERLIB_RESULTS", CHECKOUT / "results")) / data


@cache
def commit() -> str:
    """The commit of this checkout, `+` when code or declarations differ; MERLIB_COMMIT where there is no git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "merlib", "papers")
    except (OSError, subprocess.CalledProcessError):  # no program, or no repository
        return os.environ.get("MERLIB_COMMIT", "unknown")
    return head + ("+" if changed else "")
