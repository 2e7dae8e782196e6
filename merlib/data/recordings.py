"""Where the audio or video of an utterance is: a path below the folder of the corpus, or a part of a longer file.

A part is written as a W3C media fragment (https://www.w3.org/TR/media-frags/), in one cell of the table:

    Session1/dialog/avi/DivX/Ses01F_impro01.avi#t=6.2901,8.2357&xywh=percent:0,0,50,100
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from merlib.errors import RequestError

HALVES = {"left": "percent:0,0,50,100", "right": "percent:50,0,50,100"}
PART = re.compile(
    r"(?P<path>[^#]*)(#t=(?P<start>\d+\.?\d*|\.\d+),(?P<end>\d+\.?\d*|\.\d+)(&xywh=percent:(?P<x>0|50),0,50,100)?)?",
    re.DOTALL,
)


def part(path: str, start: float, end: float, side: str = "") -> str:
    """The part of `path` from `start` to `end` (seconds); `side`: left or right half of the frame, or "" (all)."""
    begin, stop = (f"{seconds:.6f}".rstrip("0").rstrip(".") for seconds in (start, end))
    return f"{path}#t={begin},{stop}" + (f"&xywh={HALVES[side]}" if side else "")


def parse(text: str) -> tuple[PurePosixPath, float | None, float | None, str]:
    """Path, start, end (None: the whole file) and side ("" for the whole frame). RequestError for any other text."""
    match = PART.fullmatch(text)
    if not match:
        raise RequestError(f"{text!r} is no path and no part of a file; expected FILE or FILE#t=START,END")
    times = (None if match[k] is None else float(match[k]) for k in ("start", "end"))
    return PurePosixPath(match["path"]), *times, {None: "", "0": "left", "50": "right"}[match["x"]]


def found(cells: Iterable[str], folder: Path) -> int:
    """How many cells of a column name a recording that is there, below `folder`."""
    paths = [parse(cell)[0] for cell in cells if cell]
    there = {path: os.path.isfile(os.path.join(folder, path)) for path in set(paths)}
    return sum(there[path] for path in paths)


def outside(cells: Iterable[str], folder: Path) -> list[PurePosixPath]:
    """The recordings that lead out of `folder`: by their names, or by links."""
    root = os.path.realpath(folder)
    paths = dict.fromkeys(parse(cell)[0] for cell in cells if cell)
    inside = (os.path.commonpath([root, os.path.realpath(os.path.join(root, path))]) == root for path in paths)
    return [path for path, is_inside in zip(paths, inside, strict=True) if not is_inside]


def escapes(path: PurePosixPath) -> bool:
    """Whether the name itself leads out of any folder: it is absolute, or goes up."""
    return path.is_absolute() or ".." in path.parts
