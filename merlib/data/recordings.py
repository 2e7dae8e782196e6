"""Where an utterance's sound or picture is: a path below the corpus' folder, or a part of a file that several share.

A part is written as a W3C media fragment (https://www.w3.org/TR/media-frags/), so that one text in the table says all:

    Session1/dialog/avi/DivX/Ses01F_impro01.avi#t=6.2901,8.2357&xywh=percent:0,0,50,100
"""

import re
from pathlib import PurePosixPath

from merlib.errors import RequestError

HALVES = {"left": "percent:0,0,50,100", "right": "percent:50,0,50,100"}
PART = re.compile(
    r"(?P<path>[^#]*)(#t=(?P<start>[\d.]+),(?P<end>[\d.]+)(&xywh=percent:(?P<x>0|50),0,50,100)?)?", re.DOTALL
)


def part(path: str, start: float, end: float, side: str = "") -> str:
    """The part of `path` from `start` to `end` (seconds); `side`: left or right half of the picture, or all of it."""
    return f"{path}#t={start:.10g},{end:.10g}" + (f"&xywh={HALVES[side]}" if side else "")


def parse(text: str) -> tuple[PurePosixPath, float | None, float | None, str]:
    """Path, start, end (None: the whole file) and side ("" for the whole picture). ValueError for another text."""
    found = PART.fullmatch(text)
    if not found:
        raise RequestError(f"{text!r} is no path and no part of a file; expected FILE or FILE#t=START,END")
    times = (None if found[k] is None else float(found[k]) for k in ("start", "end"))
    return PurePosixPath(found["path"]), *times, {None: "", "0": "left", "50": "right"}[found["x"]]
