"""Synthetic data: the roots `twin` (feature vectors and sequences) and `twin_media` (recordings in official layouts).

Only `ensure` makes them; the command line and the notebooks call it before they read.
"""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from merlib import declarations
from merlib.data import folders, store, table
from merlib.data.table import Array
from merlib.files import atomic, sha256
from merlib.places import CHECKOUT, TWINS, media_scale
from merlib.twins import dialogues, parts, sequences

CHECKED = ".checked"  # beside a corpus of recordings: which code and declarations were found to make it as it is
SEED, SCALE = 0, 0.25  # of `twin`: 38 dialogues of IEMOCAP-6, 358 of MELD
SCALES = {"iemocap4": 0.1, "iemocap8": 0.08, "ravdess": 0.33, "mosei": 0.025}  # where SCALE is too large


def corpora() -> list[str]:
    """The corpora that a synthetic root can hold."""
    return sorted(dialogues.TWINS)


def offered(data: str) -> list[str]:
    """The corpora of a root: those that it holds, and of a synthetic one all that it can make."""
    return corpora() if data in TWINS else folders.corpora(data)


def scale(corpus: str) -> float:
    """The scale at which the root `twin` makes a corpus."""
    return SCALES.get(corpus, SCALE)


def ensure(data: str, names: Iterable[str]) -> None:
    """Make those of the named corpora that a synthetic root does not hold yet, or only from other code.

    Nothing happens for any other root. Several processes may call it at once.
    """
    for name in [name for name in names if data in TWINS and name in dialogues.TWINS]:
        folder = folders.root_path(data) / name
        if data == "twin":
            _make(folder)
        elif not _checked(folder):
            from merlib.twins import recordings  # takes seconds, and only this needs it

            recordings.make(folder)
            with atomic(folder / CHECKED) as part:
                part.write_text(f"{_everything()} {table.source(folder)}")


def _checked(folder: Path) -> bool:
    """Whether `recordings.make` has found this corpus current since any code or declaration last changed."""
    checked, release = folder / CHECKED, folders.recordings(folder.parent.name, folder.name)
    if not checked.exists() or checked.read_text() != f"{_everything()} {table.source(folder)}":
        return False
    return release is not None and release.exists() and release.is_relative_to(folder.parent.resolve())  # not moved


@cache
def _everything() -> str:
    """A hash of all code and declarations, and of the scale: more than any corpus is made from, and quickly known."""
    places = [CHECKOUT / "merlib", *declarations.folders().values()]
    every = sorted(file for place in places for kind in ("py", "toml") for file in place.rglob(f"*.{kind}"))
    return f"{sha256(*every)[:12]} {media_scale():g}"


def _make(folder: Path) -> None:
    code = sha256(*(Path(m.__file__) for m in (dialogues, parts, sequences)))[:12]
    size = scale(folder.name)
    source = f"synthetic twin, seed {SEED}, scale {size}, code {code}"
    about = {"extractor": f"synthetic twin, seed {SEED}", "version": code}
    about |= {"trained_on": "nothing", "fitted_on": "nothing"}
    with folders.lock(folder):
        if table.source(folder) == source:
            return
        for orphan in folder.parent.glob(f".{folder.name}.part-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(orphan)
        corpus, values = dialogues.make(folder.name, seed=SEED, scale=size)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.part-"))
        for name, array in values.items():
            steps, lengths = array if isinstance(array, dialogues.Steps) else (array, None)
            store.add(part, corpus, name, Array(steps, name.removesuffix("_asr"), lengths=lengths, **about))
        table.save(replace(corpus, source=source), part)
        part.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
