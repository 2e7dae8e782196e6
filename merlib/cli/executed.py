"""Executed notebooks and figures that are older than what they were made from (`merlib.origins`)."""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from merlib import origins
from merlib.audit import Finding
from merlib.foreign import read_json
from merlib.places import results_folder

UNKNOWN = "it does not say what it was made from"
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what reading a file raises that is none of ours


def older(data: str, paper: str = "") -> list[Finding]:
    """The old executed notebooks of each paper of a root as one finding, and the old figures as another."""
    findings = []
    for kind, suffix, reason in (("notebooks", "ipynb", _of_notebook), ("figures", "png", _of_figure)):
        folder, of_paper = results_folder(data) / kind, defaultdict(list)
        for path in sorted(folder.rglob(f"*.{suffix}")):
            if not path.name.endswith(".failed.ipynb"):
                of_paper[path.relative_to(folder).parent.as_posix().strip(".")].append(path)
        for name, paths in of_paper.items():
            if paper in ("", name) and (old := {path.name: why for path in paths if (why := reason(path, name))}):
                each = [_finding(name, kind, Path(file).stem, f"{file}: {why}") for file, why in old.items()]
                which = f"{len(old)} of {len(paths)} {kind} in {folder / name}"
                message = f"{which} are older than what they were made from."
                findings.append(_finding(name, kind, "", message, each))
    return findings


def _finding(paper: str, kind: str, row: str, message: str, consequences: Iterable[Finding] = ()) -> Finding:
    empty = dict.fromkeys(("printed", "recomputed", "low", "high"))
    address = {"paper": paper, "table": kind, "row": row, "column": "", "check": "older", "severity": "note"}
    return Finding(**address, **empty, message=message, fact=f"older {kind}", consequences=tuple(consequences))


def _of_notebook(path: Path, paper: str) -> str:
    """Why an executed notebook is old, and how to execute it again; empty where it is not."""
    try:
        about = dict(read_json(path)["metadata"].get("merlib", {}))
    except DAMAGED as error:
        return _damaged(error)
    name = "/".join(filter(None, ("notebooks", paper, about.get("source"))))
    made_from = about.get("made_from") or {name: about.get("source_sha256", "")[:16]}  # of before: the source alone
    why = _changed(made_from) or ("" if "made_from" in about else UNKNOWN)
    given = "".join(f" -p {key} {shlex.quote(str(value))}" for key, value in about.get("parameters", {}).items())
    return why and f"{why}: `merlib notebook {name} {path}{given}`"


def _of_figure(path: Path, paper: str) -> str:
    try:
        with Image.open(path) as image:
            made_from = json.loads(image.info.get("merlib", "null"))
    except DAMAGED as error:
        return _damaged(error)
    if made_from is None:
        return UNKNOWN
    return _changed(made_from)


def _damaged(error: Exception) -> str:
    return f"it is damaged ({type(error).__name__}: {error}); delete it and make it again"


def _changed(made_from: dict[str, str]) -> str:
    """Which of the files have changed since, in words."""
    changed = [name for name, digest in made_from.items() if origins.digest(name) != digest]
    return f"{', '.join(changed)} changed since" if changed else ""
