"""A corpus: one table of utterances, the same columns for every corpus, checked, and kept in two files of a data root.

Columns, one row per utterance, dialogues one after the other and turns in order within each:

    utterance  unique id                          label       index into `Corpus.labels`, -1 for none
    dialogue   id of the conversation             split       train, val or test
    turn       0, 1, 2, ... within the dialogue   start, end  seconds, NaN when unknown
    speaker    name or code of the speaker        text, audio, video  transcript; media paths below the source; or ""
    score      sentiment in [-3, 3] of the corpora `official.SENTIMENT`, whose labels follow from it; NaN elsewhere
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data import official
from merlib.data.checks import CorpusError, check_corpus, expect
from merlib.data.official import SPLITS
from merlib.errors import listed
from merlib.files import atomic, sha256
from merlib.foreign import read_json, regular

__all__ = ["Array", "Corpus", "CorpusError", "build", "check_corpus", "expect", "load", "save", "with_recordings"]
DTYPES = {
    "utterance": "str", "dialogue": "str", "turn": "int64", "speaker": "str", "label": "int64", "split": "str",
    "start": "float64", "end": "float64", "text": "str", "audio": "str", "video": "str", "score": "float64",
}  # fmt: skip
MODALITIES = ("text", "audio", "visual")
COPY = " augmented"  # at the end of the id of an augmented copy of an utterance


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus: its table (columns: see the module), its classes in label order, and its source.

    links: whether links among its recordings may lead out of their folder, which its user has said at import.
    """

    name: str
    labels: tuple[str, ...]
    table: pd.DataFrame
    source: str
    links: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """Utterance ids in table order: the order of every feature array."""
        return tuple(self.table["utterance"])

    @property
    def partial(self) -> str:
        """`partial: n of m utterances` where the corpus is a part of the official one, else ""."""
        return (re.search(r"partial: \d+ of \d+ utterances$", self.source) or [""])[0]

    def counts(self) -> dict:
        """Utterances, dialogues and utterances of each class, per split, as plain integers."""
        parts = {s: self.table[self.table["split"] == s] for s in SPLITS}
        classes = range(len(self.labels))
        return {
            "utterances": {s: len(part) for s, part in parts.items()},
            "dialogues": {s: part["dialogue"].nunique() for s, part in parts.items()},
            "classes": {s: [int((part["label"] == i).sum()) for i in classes] for s, part in parts.items()},
        }


@dataclass(frozen=True, eq=False)
class Array:
    """A feature array on its way into a file: values in table order, and what its passport says of their origin.

    Values are (n, d), one row per utterance; or, with `lengths` (n, int64, each 1 or more), sequences: (sum of
    lengths, d), the steps of one utterance one after the other. The other fields: see `store.Passport`.
    """

    values: np.ndarray
    modality: str
    extractor: str
    version: str = "unknown"
    weights_sha256: str = ""
    trained_on: str = "unknown"
    fitted_on: str = "unknown"
    lengths: np.ndarray | None = None
    failed: tuple[str, ...] = ()
    inputs: str = ""
    layers_above: int = 0
    max_tokens: int = 0
    cut: int = 0
    learned_from: tuple[str, ...] = ()
    selected_on: tuple[str, ...] = ()
    note: str = ""


def build(name: str, rows: pd.DataFrame, source: str) -> Corpus:
    """The corpus `name` from `rows`, checked. Missing columns are filled in, except the five `needed`.

    The label of a sentiment corpus follows from its column `score`.
    """
    if name in official.SENTIMENT and "score" in rows:
        rows = rows.assign(label=official.sentiment_class(rows["score"]))
    needed = ["utterance", "dialogue", "speaker", "label", "split"]
    if missing := [c for c in needed if c not in rows]:
        what = f"{name}: columns {listed(missing)} are missing; found {listed(sorted(rows))}"
        raise CorpusError(f"{what}; a table needs {listed(needed)}.")
    rows = rows.reset_index(drop=True)
    turns = rows.groupby("dialogue").cumcount()
    rest = dict.fromkeys(DTYPES, "") | {"turn": turns, "start": np.nan, "end": np.nan, "score": np.nan}
    rows = rows.assign(**{c: rest[c] for c in DTYPES if c not in rows})[list(DTYPES)].astype(DTYPES)
    corpus = Corpus(name, official.LABELS[name], rows, source)
    check_corpus(corpus)
    return corpus


def with_recordings(corpus: Corpus, layout: Corpus) -> Corpus:
    """`corpus` with the media paths and times of `layout`, the same utterances read from a release with recordings."""
    rows = layout.table.set_index("utterance")
    if absent := [u for u in corpus.ids if u not in rows.index]:
        what = f"{corpus.name}: {layout.source} has not {len(absent)} utterances"
        raise CorpusError(f"{what}, first {listed(absent[:3])}.")
    rows = rows.loc[list(corpus.ids), ["audio", "video", "start", "end"]].reset_index(drop=True)
    return replace(corpus, table=corpus.table.assign(**rows), links=layout.links)


def save(corpus: Corpus, folder: Path) -> None:
    """Write `utterances.parquet` and `corpus.json` into `folder`, each atomically.

    The second holds the hash of the first, and one of itself. Over an old corpus it is written first, with the hash of
    the old table beside that of the new one: a process that is killed between the two leaves a corpus that is read. A
    new corpus has its table first, since one without `corpus.json` is none.
    """
    about_file, table_file = folder / "corpus.json", folder / "utterances.parquet"
    about = {"name": corpus.name, "labels": corpus.labels, "source": corpus.source, **corpus.counts()}
    about |= {"links": True} if corpus.links else {}
    is_new = not (about_file.exists() and table_file.exists())
    about |= {} if is_new else {"table_sha256_before": sha256(table_file)}
    with atomic(table_file) as part:
        corpus.table.to_parquet(part, index=False)
        about["table_sha256"] = sha256(part)
        if not is_new:
            _describe(about_file, about)
    if is_new:
        _describe(about_file, about)


def _describe(file: Path, about: dict) -> None:
    with atomic(file) as part:
        part.write_text(json.dumps(about | {"sha256": _digest(about)}, indent=1) + "\n")


def _digest(about: dict) -> str:
    """The hash of what `corpus.json` says, but for this hash itself."""
    content = {name: value for name, value in about.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(folder: Path) -> Corpus:
    """Read what `save` wrote; a missing or damaged file, or two files that do not belong together, is a CorpusError."""
    about_file, table_file, again = folder / "corpus.json", folder / "utterances.parquet", "import the corpus again"
    try:
        actual = sha256(regular(table_file))  # before its description is read: another process may now replace both
        about = read_json(about_file)
        expected = about["table_sha256"]
        if not all(isinstance(about[key], str) for key in ("name", "source", "table_sha256")):
            raise TypeError("its name, source or table_sha256 is no text")
        name, labels, origin = about["name"], tuple(about["labels"]), about["source"]
        edited = _digest(about) != about.get("sha256", _digest(about))  # older files have no hash of themselves
    except FileNotFoundError as error:
        raise CorpusError(f"{error.filename} does not exist; {again}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{about_file} is damaged ({error}); delete it and {again}.") from None
    if actual not in (expected, about.get("table_sha256_before")):
        what = f"{table_file} has sha256 {actual[:12]}, corpus.json expects {expected[:12]}"
        raise CorpusError(f"{what}: damaged, or of two imports; delete {folder} and {again}.")
    if edited or labels != official.LABELS.get(name):
        raise CorpusError(f"{about_file} was edited, or is of another version; delete {folder} and {again}.")
    table = pd.read_parquet(table_file)
    if list(table) != list(DTYPES):
        what = f"has columns {listed(table)}, expected {listed(DTYPES)}: written by another version"
        raise CorpusError(f"{table_file} {what}; delete {folder} and {again}.")
    corpus = Corpus(name, labels, table.astype(DTYPES), origin, bool(about.get("links")))
    check_corpus(corpus)
    return corpus


def source(folder: Path) -> str:
    """The source of the corpus saved in `folder`, from its `corpus.json`; "" where that has none.

    Also where its table is still that of before, since a process was killed between the two.
    """
    try:
        about = read_json(folder / "corpus.json")
        old = "table_sha256_before" in about and sha256(folder / "utterances.parquet") != about["table_sha256"]
        return "" if old else about["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
