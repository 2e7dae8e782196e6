"""From a source that the user has into a data root: `import_source` reads it, checks it, and writes it once.

A source is an official folder of a corpus, a public file of features, or a table of one's own (`corpora/prepared.py`).
"""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from merlib.corpora import cmu, iemocap, meld, mmsa, pickles, prepared, ravdess
from merlib.data import folders, store, table
from merlib.data.table import Array, Corpus, CorpusError
from merlib.errors import DeclarationError, one_of
from merlib.files import atomic
from merlib.places import TWINS

KINDS = {  # kind of source -> its reader, which gives corpora, each with its arrays
    "prepared": lambda source: [prepared.read(source)],
    "iemocap": lambda source: [(iemocap.read(source, name=name), {}) for name in iemocap.MAJORITY],
    "meld": lambda source: [(meld.read(source), {})],
    "conv-emotion": lambda source: [pickles.conv_emotion(source)],
    "multiemo": lambda source: [pickles.multiemo(source)],
    "mmsa": lambda source: [mmsa.read(source)],
    "ravdess": lambda source: [(ravdess.read(source), {})],
    "mosi": lambda source: [(cmu.read(source, "mosi"), {})],
    "mosei": lambda source: [(cmu.read(source, "mosei"), {})],
}
IDENTITY = ["utterance", "dialogue", "turn", "label", "split", "score"]


def refuse_synthetic(data: str) -> None:
    """Raise DeclarationError for a root that is synthetic: it would not keep what is imported into it."""
    if data in TWINS:
        raise DeclarationError(f"the root {data!r} is synthetic: name a root other than {' and '.join(TWINS)}")


def import_source(kind: str, source: str | Path, data: str) -> list[Path]:
    """Read `source` as `kind` (of `KINDS`), check it against the official counts, and write it into the root `data`.

    Importing the same again changes nothing. Features from several sources may share a root if their tables agree in
    ids, labels and splits. Returns the files of the corpus and of the features imported.
    """
    refuse_synthetic(data)
    corpora = _read(kind, one_of(KINDS, kind, "kind of source"), Path(source))
    # where the root has the labels of iemocap6, the release adds recordings
    if kind == "iemocap" and "iemocap6" in folders.corpora(data):
        present = table.load(folders.root_path(data) / "iemocap6")
        labels = {u: present.labels[k] for u, k in zip(present.ids, present.table["label"], strict=True) if k >= 0}
        corpora.append((table.with_recordings(present, iemocap.read(Path(source), name="iemocap6", labels=labels)), {}))
    return [file for corpus, arrays in corpora for file in _written(corpus, arrays, source, data)]


def _read(kind: str, read: Callable, source: Path) -> list:
    try:
        return read(source)
    except (CorpusError, OSError):
        raise
    except Exception as error:  # a parser may raise anything on a foreign file
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} (in {Path(at.filename).name}, line {at.lineno})"
        remedy = "Get the release again, or describe your own files in a prepared table (merlib/corpora/prepared.py)"
        raise CorpusError(f"{source} is not what `merlib data import {kind}` expects: {reason}. {remedy}.") from error


def _written(corpus: Corpus, arrays: Mapping[str, Array], source: str | Path, data: str) -> list[Path]:
    table.expect(corpus)
    folder = folders.root_path(data) / corpus.name
    recorded = (corpus.table[["audio", "video"]] != "").any(axis=None) and Path(source).is_dir()
    with folders.lock(folder):
        if (folder / "corpus.json").exists():
            present = table.load(folder)
            if not present.table[IDENTITY].equals(corpus.table[IDENTITY]):
                raise CorpusError(f"{folder} holds other ids, labels or splits than {source}; choose another root.")
            if recorded:
                table.save(table.with_recordings(present, corpus), folder)
        else:
            table.save(corpus, folder)
        if recorded:
            with atomic(folder / folders.RECORDINGS) as part:
                part.write_text(f"{Path(source).resolve()}\n")
        return [folder / "utterances.parquet", *(store.add(folder, corpus, n, array) for n, array in arrays.items())]
