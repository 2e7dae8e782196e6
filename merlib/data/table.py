"""Corpora built from the rows of a reader, and their two files in a data root; the columns are those of `corpus`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data import official
from merlib.data.checks import check_corpus, expect
from merlib.data.corpus import DTYPES, MODALITIES, Array, Corpus, CorpusError
from merlib.files import atomic, sha256

__all__ = [
    "DTYPES", "MODALITIES", "Array", "Corpus", "CorpusError", "build", "check_corpus", "expect", "load", "save",
    "source", "with_recordings",
]  # fmt: skip


def build(name: str, rows: pd.DataFrame, source: str) -> Corpus:
    """The corpus `name` from `rows`, checked. Missing columns are filled in, except the five `needed`.

    The label of a sentiment corpus follows from its column `score`.
    """
    if name in official.SENTIMENT and "score" in rows:
        rows = rows.assign(label=official.sentiment_class(rows["score"]))
    needed = ["utterance", "dialogue", "speaker", "label", "split"]
    if missing := [c for c in needed if c not in rows]:
        raise CorpusError(f"{name}: columns {missing} are missing; found {sorted(rows)}; a table needs {needed}.")
    rows = rows.reset_index(drop=True)
    turns = rows.groupby("dialogue").cumcount()
    rest = dict.fromkeys(DTYPES, "") | {"turn": turns, "start": np.nan, "end": np.nan, "score": np.nan}
    rows = rows.assign(**{c: rest[c] for c in DTYPES if c not in rows})[list(DTYPES)].astype(DTYPES)
    corpus = Corpus(name=name, labels=official.LABELS[name], table=rows, source=source)
    check_corpus(corpus)
    return corpus


def with_recordings(corpus: Corpus, layout: Corpus) -> Corpus:
    """`corpus` with the media paths and times of `layout`, the same utterances read from a release with recordings."""
    rows = layout.table.set_index("utterance")
    if absent := [u for u in corpus.ids if u not in rows.index]:
        raise CorpusError(f"{corpus.name}: {layout.source} has not {len(absent)} utterances, first {absent[:3]}.")
    rows = rows.loc[list(corpus.ids), ["audio", "video", "start", "end"]].reset_index(drop=True)
    return replace(corpus, table=corpus.table.assign(**rows))


def save(corpus: Corpus, folder: Path) -> None:
    """Write `utterances.parquet` and `corpus.json` (which holds the parquet's hash) into `folder`, each atomically."""
    folder = Path(folder)
    with atomic(folder / "utterances.parquet") as part:
        corpus.table.to_parquet(part, index=False)
        digest = sha256(part)
    about = {"name": corpus.name, "labels": corpus.labels, "source": corpus.source, "table_sha256": digest}
    with atomic(folder / "corpus.json") as part:
        part.write_text(json.dumps(about | corpus.counts(), indent=1) + "\n")


def load(folder: Path) -> Corpus:
    """Read what `save` wrote; a missing or damaged file, or two files that do not belong together, is a CorpusError."""
    folder = Path(folder)
    again = "import the corpus again"
    about_file, table_file = folder / "corpus.json", folder / "utterances.parquet"
    try:
        about = json.loads(about_file.read_text())
        actual, expected = sha256(table_file), about["table_sha256"]
    except FileNotFoundError as error:
        raise CorpusError(f"{error.filename} does not exist; {again}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CorpusError(f"{about_file} is damaged ({error!r}); delete it and {again}.") from None
    if actual != expected:
        what = f"{table_file} has sha256 {actual[:12]}, corpus.json expects {expected[:12]}"
        raise CorpusError(f"{what}: damaged, or of two imports; delete {folder} and {again}.")
    table = pd.read_parquet(table_file)
    if list(table) != list(DTYPES):
        what = f"has columns {list(table)}, expected {list(DTYPES)}: written by another version"
        raise CorpusError(f"{table_file} {what}; delete {folder} and {again}.")
    table = table.astype(DTYPES)
    corpus = Corpus(name=about["name"], labels=tuple(about["labels"]), table=table, source=about["source"])
    check_corpus(corpus)
    return corpus


def source(folder: Path) -> str:
    """The source of the corpus saved in `folder`, from its `corpus.json` alone; "" where that has none."""
    try:
        return json.loads((Path(folder) / "corpus.json").read_text())["source"]
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""
