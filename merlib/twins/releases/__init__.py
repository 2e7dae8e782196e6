"""Media twins: synthetic recordings, transcripts and label files of every corpus, in the layout of its release.

Nothing in them is real. A speaker has a voice (`voice`) and a face (`face`) of their own; an emotion changes both, by
another amount in every utterance; recordings have noise (`takes`). `write` makes a few minutes of material a corpus.
The labels, speakers, splits, times and texts are in the official files, and nowhere else.
"""

import os
import shutil
import tempfile
from pathlib import Path

from merlib.errors import RequestError
from merlib.twins.releases import clips, iemocap

LAYOUTS = {
    "iemocap": iemocap.iemocap, "ravdess": clips.ravdess, "meld": clips.meld, "mosi": clips.cmu, "mosei": clips.cmu,
}  # fmt: skip


def write(name: str, folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Make the media twin of the corpus `name` at `folder`, which appears only when it is complete.

    The same name, seed and scale give the same bytes on one machine. `scale` in (0, 1] is the share of the material.
    Raises RequestError for another name or scale, FileExistsError where something is at `folder` already.
    """
    folder = Path(folder)
    if name not in LAYOUTS or not 0 < scale <= 1:
        expected = f"expected one of {sorted(LAYOUTS)}, and a scale in (0, 1]"
        raise RequestError(f"media twin of {name!r} at scale {scale}; {expected}.")
    if folder.exists():
        raise FileExistsError(f"{folder} exists; delete it, or name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        part.chmod(0o755)
        LAYOUTS[name](name, part, seed=seed, scale=scale)
        os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
