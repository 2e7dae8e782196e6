"""Data roots: $MERLIB_DATA (or ./data) / <root> / <corpus> / {utterances.parquet, corpus.json, features/*.safetensors}.

This module only reads them. `merlib.twins.ensure` makes the synthetic ones; `merlib.roots` fills the others from the
sources that the user has.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from merlib.data import recordings as paths
from merlib.data import store, table
from merlib.data.official import ACCESS
from merlib.data.store import Feature
from merlib.data.table import Corpus, CorpusError
from merlib.errors import listed
from merlib.foreign import regular
from merlib.places import TWINS, data_folder, root_name

RECORDINGS = "recordings.txt"  # holds the bytes of the folder of the recordings, where some were imported, and "\n"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A corpus and its feature arrays, all in table order."""

    corpus: Corpus
    features: dict[str, Feature]


def root_path(data: str) -> Path:
    """The folder of a data root; RequestError for what cannot be the name of one."""
    return data_folder() / root_name(data)


def dataset(data: str, corpus: str, *, features: Sequence[str] | None = None) -> Dataset:
    """The corpus `corpus` of the root `data` with the named features (all when None), every file checked.

    Raises CorpusError where the root does not have it; the message says how to get it.
    """
    folder = root_path(data) / corpus
    if not (folder / "corpus.json").exists():
        remedy = f"import it. {ACCESS.get(corpus, f'Known corpora: {listed(sorted(ACCESS))}.')}"
        if data in TWINS:
            remedy = f"make it with merlib.twins.ensure({data!r}, [{corpus!r}])."
        raise CorpusError(f"{folder}: the root {data!r} has no {corpus}; {remedy}")
    loaded = table.load(folder)
    names = arrays(data, corpus) if features is None else features
    return Dataset(loaded, {n: store.read(folder, n, ids=loaded.ids, corpus=corpus) for n in names})


def corpora(data: str) -> list[str]:
    """The corpora that the root `data` holds, by name."""
    return sorted(file.parent.name for file in root_path(data).glob("*/corpus.json"))


def roots() -> list[str]:
    """The data roots that hold a corpus, by name."""
    return sorted({file.parents[1].name for file in data_folder().glob("*/*/corpus.json")})


def arrays(data: str, corpus: str) -> list[str]:
    """The feature arrays that a corpus of the root `data` has, by name."""
    return sorted(file.stem for file in (root_path(data) / corpus / "features").glob("*.safetensors"))


def recordings(data: str, corpus: str) -> Path | None:
    """The folder that the media paths of a corpus are relative to; None where the root names none."""
    file = root_path(data) / corpus / RECORDINGS
    name = regular(file).read_bytes().removesuffix(b"\n") if file.exists() else b""
    if b"\0" in name:
        raise CorpusError(f"{file} is damaged: it holds zero bytes; delete it and import the recordings again.")
    return Path(os.fsdecode(name)) if name else None


def recordings_found(data: str, corpus: Corpus) -> str:
    """How many of the recordings that the table of a corpus names are there, in words."""
    folder, media = recordings(data, corpus.name), corpus.table[["audio", "video"]]
    n, counts = len(media), []
    for name in (name for name in media if (media[name] != "").any()):
        found = paths.found(media[name], folder) if folder else 0
        counts.append(f"{name}: {found} of {n} recordings found" + f", {n - found} missing" * (found < n))
    return ", ".join(counts) or f"0 of {n} recordings found"


def lock(folder: Path) -> FileLock:
    """A lock on one corpus of a root; the kernel releases it when the process ends, even when it is killed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")
