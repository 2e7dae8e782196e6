"""From a source that the user has into a data root: `import_source` reads it, checks it, and writes it once.

A source is an official folder of a corpus, a public file of features, or a table of one's own (`corpora/prepared.py`).
"""

import dataclasses
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from merlib.corpora import cmu, iemocap, meld, mmsa, pickles, prepared, ravdess
from merlib.data import folders, recordings, store, table
from merlib.data.table import Array, Corpus, CorpusError
from merlib.errors import DeclarationError, one_of
from merlib.foreign import content
from merlib.places import TWINS
from merlib.roots import present

KINDS = {  # kind of source -> its reader, which gives corpora, each with its arrays; whether a part of one is meant
    "prepared": lambda source, partial: [prepared.read(source)],
    "iemocap": lambda source, partial: [(iemocap.read(source, name=n, partial=partial), {}) for n in iemocap.MAJORITY],
    "meld": lambda source, partial: [(meld.read(source, partial=partial), {})],
    "conv-emotion": lambda source, partial: [pickles.conv_emotion(source)],
    "multiemo": lambda source, partial: [pickles.multiemo(source)],
    "mmsa": lambda source, partial: [mmsa.read(source)],
    "ravdess": lambda source, partial: [(ravdess.read(source, partial=partial), {})],
    "mosi": lambda source, partial: [(cmu.read(source, "mosi"), {})],
    "mosei": lambda source, partial: [(cmu.read(source, "mosei"), {})],
}

FILES = ("prepared", "conv-emotion", "mmsa")  # kinds whose source is a file; those of the others are folders


def refuse_synthetic(data: str) -> None:
    """Raise DeclarationError for a root that is synthetic: it would not keep what is imported into it."""
    if data in TWINS:
        remedy = f"bring data into a root other than {' and '.join(TWINS)}"
        raise DeclarationError(f"the root {data!r} is synthetic: {remedy}")


def import_source(
    kind: str, source: str | Path, data: str, *, partial: bool = False, replace: bool = False,
    follow_links: bool = False,
) -> list[Path]:  # fmt: skip
    """Read `source` as `kind` (of `KINDS`), check it against the official counts, and write it into the root `data`.

    Importing the same again changes nothing. Features from several sources may share a root if their tables agree.
    partial: the source has a part of a corpus, as the table, passports and records then say. replace: a table that
    differs takes the place of the one in the root, which is set aside with its arrays. follow_links: links among the
    recordings may lead out of the source's folder.
    Returns the files of the corpus and of the features imported.
    """
    refuse_synthetic(data)
    source = Path(source)
    corpora = _read(kind, one_of(KINDS, kind, "kind of source"), source, partial)
    # where the root has the labels of iemocap6, the release adds recordings
    if kind == "iemocap" and "iemocap6" in folders.corpora(data) and not partial:
        old = table.load(folders.root_path(data) / "iemocap6")
        labels = {u: old.labels[k] for u, k in zip(old.ids, old.table["label"], strict=True) if k >= 0}
        corpora.append((table.with_recordings(old, iemocap.read(source, name="iemocap6", labels=labels)), {}))
    checked = [(_checked(corpus, source, partial, follow_links), arrays) for corpus, arrays in corpora]
    return [file for corpus, arrays in checked for file in _written(corpus, arrays, source, data, replace)]


def _read(kind: str, read: Callable, source: Path, partial: bool) -> list:
    if kind not in FILES and not source.is_dir():
        what = f"is {content(source) or 'a file'}" if source.is_file() else "is no folder that is there"
        raise CorpusError(f"{source} {what}. `merlib data import {kind}` expects the folder of the release.")
    try:
        return read(source, partial)
    except (CorpusError, OSError) as error:
        if source.name in str(error):
            raise
        raise CorpusError(f"{source}: {error}") from error
    except Exception as error:  # a parser may raise anything on a foreign file
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} (in {Path(at.filename).name}, line {at.lineno})"
        remedy = "Get the release again, or describe your own files in a prepared table (merlib/corpora/prepared.py)"
        raise CorpusError(f"{source} is not what `merlib data import {kind}` expects: {reason}. {remedy}.") from error


def _checked(corpus: Corpus, source: Path, partial: bool, follow_links: bool) -> Corpus:
    """The corpus, with the official counts and with recordings below the folder of its source."""
    corpus, base = table.expect(corpus, partial=partial), _folder(source)
    for column in ("audio", "video"):
        outside = recordings.outside(corpus.table[column], base)
        if escaping := [path for path in outside if recordings.escapes(path)]:
            what = f"{len(escaping)} recordings in `{column}` lead out of {base}, first {escaping[0]}"
            raise CorpusError(f"{source}: {what}. Give paths relative to that folder.")
        if outside and not follow_links:
            target = (base / outside[0]).resolve()
            what = f"{len(outside)} recordings lie behind links that lead out of {base}, first {outside[0]} -> {target}"
            raise CorpusError(f"{source}: {what}. If that is meant, add --follow-links; else copy them there.")
    return dataclasses.replace(corpus, links=follow_links)


def _folder(source: Path) -> Path:
    """The folder that the media paths of a source are relative to."""
    return source if source.is_dir() else source.parent


def _written(corpus: Corpus, arrays: Mapping[str, Array], source: Path, data: str, replace_old: bool) -> list[Path]:
    folder, base = folders.root_path(data) / corpus.name, _folder(source)
    recorded = any(recordings.found(corpus.table[column], base) for column in ("audio", "video"))
    with folders.lock(folder):
        present.write(folder, corpus, arrays, source, replace_old=replace_old, recorded=base if recorded else None)
    return [folder / "utterances.parquet", *(store.path(folder, name) for name in arrays)]


def summary(folder: Path) -> str:
    """A corpus of a root in one line: its utterances and classes, and how many of its recordings are there."""
    corpus = table.load(folder)
    t, counts = corpus.table, corpus.table["label"].value_counts()
    classes = ", ".join(f"{name} {counts.get(i, 0)}" for i, name in enumerate(corpus.labels))
    unlabelled = f", without a class {counts[-1]}" if -1 in counts else ""
    media = folders.recordings_found(folder.parent.name, corpus)
    what = f"{len(t)} utterances in {t['dialogue'].nunique()} dialogues ({classes}{unlabelled})"
    return f"{corpus.name}: {what}; {media}; {corpus.source}"
