"""What a root has of a corpus beside what is imported: the same, less, or something else, which is said, never mixed.

Tables agree when they have the same utterances with the same dialogues, turns, labels, splits, scores, speakers, texts
and times. A column that one of them leaves empty is no difference: a table of features need not repeat the transcripts.
"""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from merlib.data import folders, store, table
from merlib.data.table import Array, Corpus, CorpusError
from merlib.errors import FeatureError, Notice, listed
from merlib.files import atomic, numbered

IDENTITY = ("dialogue", "turn", "label", "split", "score")
OPTIONAL = ("speaker", "text", "start", "end", "audio", "video")
MEDIA = ("audio", "video")


def write(
    folder: Path, corpus: Corpus, arrays: Mapping[str, Array], source: Path, *, replace_old: bool, recorded: Path | None
) -> None:
    """Write a corpus and its arrays into the folder of a root, whose lock the caller holds.

    Raises CorpusError where the root has another table or another array of a name, unless `replace_old`: then these are
    moved into the folder `replaced` of the root. recorded: the folder of the recordings, where the source has some.
    """
    old = _old(folder, replace_old)
    rows = _of_tables(old, corpus) if old else []
    others = {name: text for name, array in arrays.items() if (text := _of_arrays(folder, name, array, replace_old))}
    if old and (rows or others) and not replace_old:
        names = "ids, labels or splits" if any(name in (*IDENTITY, "utterance") for name, _ in rows) else ""
        names = names or ", ".join([name for name, _ in rows] or [f"values of {name}" for name in others])
        what = "; ".join([text for _, text in rows] + list(others.values()))
        remedy = "take another root, or add --replace, which sets the old ones aside"
        raise CorpusError(f"{folder} holds other {names} than {source}: {what}; {remedy}.")
    if folder.exists() and (rows or (replace_old and not old)):
        _set_aside(folder, source, [folder])
        old = None
    elif others:
        _set_aside(folder, source, [store.path(folder, name) for name in others])
    merged = _merged(old, corpus, recorded is not None) if old else corpus
    if not old or not merged.table.equals(old.table) or merged.links != old.links:
        table.save(merged, folder)
    if recorded:
        write_recordings(folder, recorded.resolve())
    for name, array in arrays.items():
        store.add(folder, corpus, name, array)


def write_recordings(folder: Path, recorded: Path) -> None:
    """Write into the folder of a corpus where its recordings are, as `folders.recordings` reads it."""
    with atomic(folder / folders.RECORDINGS) as part:
        part.write_bytes(os.fsencode(recorded) + b"\n")


def _old(folder: Path, replace_old: bool) -> Corpus | None:
    """The corpus in the folder; None where there is none, or only a damaged one that is to be replaced."""
    if not (folder / "corpus.json").exists():
        return None
    try:
        return table.load(folder)
    except CorpusError:
        if replace_old:
            return None
        raise


def _of_tables(old: Corpus, new: Corpus) -> list[tuple[str, str]]:
    """The columns in which two tables differ, each with how often, and the first case."""
    classes = dict(enumerate(old.labels)) | {-1: "none"}
    tables = (each.table.assign(label=each.table["label"].map(classes)) for each in (old, new))
    before, after = (each.set_index("utterance") for each in tables)
    lost, added = before.index.difference(after.index, sort=False), after.index.difference(before.index, sort=False)
    if len(lost) or len(added):
        first = [f"{where} {listed(ids[:1])}" for where, ids in (("there", lost), ("here", added)) if len(ids)]
        what = f"{len(lost)} utterances only there, {len(added)} only here, first only {', '.join(first)}"
        return [("utterance", what)]
    after, differences = after.loc[before.index], []
    for name in (*IDENTITY, *OPTIONAL):
        there, here = before[name], after[name]
        differ = ~((there == here) | (there.isna() & here.isna()))
        if name in OPTIONAL and (_empty(there).all() or _empty(here).all()):
            continue
        if name in MEDIA:
            differ &= ~_empty(there) & ~_empty(here)
        if differ.any():
            u = differ.idxmax()
            what = f"{name} differs in {differ.sum()} of {len(differ)} utterances, first {u}: "
            differences.append((name, f"{what}{_short(there[u])} there, {_short(here[u])} here"))
    return differences


def _empty(column: pd.Series) -> pd.Series:
    return column.isna() | (column.astype(str) == "")


def _short(value: object) -> str:
    return str(value) if not isinstance(value, str) else repr(value if len(value) <= 60 else f"{value[:60]}...")


def _of_arrays(folder: Path, name: str, array: Array, replace_old: bool) -> str:
    """How an array of this name in the folder differs from the new one; "" for none, and for the same."""
    if not (file := store.path(folder, name)).exists():
        return ""
    try:
        old = store.read_passport(file)
    except FeatureError:
        if replace_old:
            return f"{file} is damaged"
        raise
    if old.modality != array.modality:
        return ""  # refused by `store.add`: another name is needed
    same = old.sha256 == store.digest(array.values, array.lengths)
    return "" if same else f"{name} holds other values ({old.summary()})"


def _merged(old: Corpus, new: Corpus, recorded: bool) -> Corpus:
    """The old table with what it lacks: whole columns, and the recordings that are found now."""
    rows = new.table.set_index("utterance").loc[list(old.ids)].reset_index()
    columns = [name for name in OPTIONAL if _empty(old.table[name]).all()]
    columns += [name for name in MEDIA if recorded and not _empty(rows[name]).all()]
    return replace(old, table=old.table.assign(**{name: rows[name] for name in columns}), links=new.links or old.links)


def _set_aside(folder: Path, source: Path, files: list[Path]) -> None:
    """Move the folder of a corpus, or some of its arrays, into `replaced/` of the root, and say so."""
    arrays = [file.stem for file in files] if files != [folder] else folders.arrays(folder.parent.name, folder.name)
    place = folder.parent / "replaced"
    place.mkdir(exist_ok=True)
    target = numbered(place / folder.name)
    if files == [folder]:
        folder.rename(target)
    else:
        target.mkdir()
        for file in (file for file in files if file.exists()):
            file.rename(target / file.name)
    kept = f"the old table with its arrays ({', '.join(arrays) or 'none'})" if files == [folder] else listed(arrays)
    what = f"{kept} was set aside in {target}: nothing reads it there. What {source} does not bring is to be made again"
    warnings.warn(Notice(what, folder), stacklevel=1)
