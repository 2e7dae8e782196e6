"""What results were made from: the records that this process has read, and the notebook that it executes.

An executed notebook and a figure keep the digests of these files, so that one which is older than they are is told.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from merlib import places
from merlib.files import atomic

NOTEBOOK = "MERLIB_NOTEBOOK"  # environment variable of a kernel: its source and the digest of its cells, as JSON
_NOTED: set[Path] = set()


def note(path: Path) -> None:
    """What this process shows from now on depends on this file below results/, whether it is there yet or not."""
    _NOTED.add(Path(path).absolute())


def noted() -> dict[str, str]:
    """Name -> digest as it is now, of each noted file below results/ and of the source of the notebook."""
    root = places.results_folder("").absolute()
    names = sorted(path.relative_to(root).as_posix() for path in _NOTED if path.is_relative_to(root))
    return json.loads(os.environ.get(NOTEBOOK, "{}")) | {name: digest(name) for name in names}


def digest(name: str) -> str:
    """Of a file below results/, or of the cells of a source below notebooks/; empty where there is none."""
    source = name.startswith("notebooks/")
    path = places.NOTEBOOKS.parent / name if source else places.results_folder("") / name
    if not path.is_file():
        return ""
    content = path.read_bytes()
    return of_cells(json.loads(content)["cells"])[:16] if source else hashlib.sha256(content).hexdigest()[:16]


def of_cells(cells: Iterable[Mapping[str, Any]]) -> str:
    """A hash (sha256) of the cells of a notebook without their outputs; nbformat would take a second to import."""
    parts = [(cell["cell_type"], cell["metadata"].get("tags", []), "".join(cell["source"])) for cell in cells]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write(path: Path) -> None:
    """Write what is noted into a file, as JSON."""
    with atomic(path) as part:
        part.write_text(json.dumps(noted()), encoding="utf-8")
