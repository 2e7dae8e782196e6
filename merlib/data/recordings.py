"""Where the audio or video of an utterance is: a path below the folder of the corpus, or a part of a longer file.

A part is written as a W3C media fragment (https://www.w3.org/TR/media-frags/), in one cell of the table:

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
    """The part of `path` from `start` to `end` (seconds); `side`: left or right half of the frame, or "" (all)."""
    return f"{path}#t={start:.10g},{end:.10g}" + (f"&xywh={HALVES[side]}" if side else "")


def parse(text: str) -> tuple[PurePosixPath, float | None, float | None, str]:
    """Path, start, end (None: the whole file) and side ("" for the whole frame). RequestError for any other text."""
    match = PART.fullmatch(text)
    if not match:
        raise RequestError(f"{text!r} is no path and no part of a file; expected FILE or FILE#t=START,END")
    times = (None if match[k] is None else float(match[k]) for k in ("start", "end"))
    return PurePosixPath(match["path"]), *times, {None: "", "0": "left", "50": "right"}[match["x"]]
