"""Recordings -> a feature array: files in parallel, each result kept until all are there, every failure recorded.

A result lies in `parts/` beside the features until its array is complete, under a name that its extractor, its settings
and its file settle: after a kill only what is missing is computed, and what has changed is computed anew. Memory holds
one recording a worker, also when the array is put together. The same bits come from any number of workers: each
computes with one thread.

What cannot be used is never silent: `<name>.failures.csv` lists utterance, file and reason, the passport names the
utterances, and their row is one step of zeros, which a recipe leaves in (`data.on_failure = "zero"`) or discards.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from merlib.data import folders, store
from merlib.data.store import FeatureError
from merlib.data.table import Array, Corpus
from merlib.features.media import Clip, MediaError, located
from merlib.files import atomic

CHUNK = 4  # recordings that a worker takes at once


class Extractor(Protocol):
    """One recording -> its steps, t d floats or bytes, t >= 1; a recording that cannot be used is a MediaError.

    Its `repr` tells all its settings, `about` what the passport says: extractor, version, weights_sha256, trained_on.
    """

    modality: str

    def __call__(self, clip: Clip) -> np.ndarray: ...

    def about(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Item:
    """One recording to do: where it is, and a hash of extractor, settings and file, which names its result."""

    utterance: str
    text: str
    clip: Clip | None
    key: str
    reason: str = ""  # why there is no clip


@dataclass(frozen=True)
class Done:
    """What became of one recording: a file with its steps, or the reason why there is none."""

    item: Item
    part: Path | None
    reason: str = ""


def extract(data: str, corpus: str, **how) -> Path:
    """The same as `into`, for a corpus of the root `data`."""
    loaded = folders.dataset(data, corpus, features=()).corpus
    return into(folders.root_path(data) / corpus, loaded, **how)


def into(
    home: Path, corpus: Corpus, *, extractor: Extractor, media: Path, name: str, workers: int = 1, progress: bool = True
) -> Path:
    """Run `extractor` over a corpus and write its feature `name` into the corpus' folder `home`; returns the array's
    file.

    media: what the corpus' media paths are relative to, most often the folder that it was imported from.
    Raises FeatureError when no recording at all can be used, and OSError on a full disk; what was done is kept.
    """
    parts, array = home / "parts" / name, store.path(home, name)
    settings = json.dumps([repr(extractor), extractor.about()], sort_keys=True)
    texts = named(corpus, extractor.modality)
    items = [_item(u, text, settings, Path(media)) for u, text in zip(corpus.ids, texts, strict=True)]
    inputs = hashlib.sha256("".join(item.key for item in items).encode()).hexdigest()
    with FileLock(home / f".{name}.lock"):  # of two extractions of one array, the second finds the work done
        if array.exists() and (kept := store.read_passport(array)).inputs == inputs:
            return array
        if array.exists() and not kept.inputs:
            raise FeatureError(
                f"{array} was brought here, not extracted: {kept.summary()}. Give the new array another --name."
            )
        parts.mkdir(parents=True, exist_ok=True)
        done = list(_all(partial(_one, extractor=extractor, parts=parts), items, workers, name, progress))
        failed = [d for d in done if d.part is None]
        if len(failed) == len(done):
            reasons = pd.Series([d.reason for d in failed]).value_counts().index[:3]
            first = f"none of {len(done)} recordings below {media} can be used"
            raise FeatureError(f"{corpus.name}: {first}: {'; '.join(reasons)}. Is this the folder of the recordings?")
        with atomic(array.with_name(f"{name}.failures.csv")) as part:  # first: who finds the array finds its failures
            rows = [(d.item.utterance, d.item.text, d.reason) for d in failed]
            pd.DataFrame(rows, columns=["utterance", "file", "reason"]).to_csv(part, index=False)
        store.add(home, corpus, name, replace(_assembled(done, extractor, parts / "all"), inputs=inputs))
        shutil.rmtree(parts)
    return array


def named(corpus: Corpus, modality: str) -> list[str]:
    """Where each utterance's recording is, as the table says; a film gives the sound if it has no file of its own."""
    audio, video = corpus.table["audio"], corpus.table["video"]
    return list(video if modality == "visual" else audio.where(audio != "", video))


def clips(corpus: Corpus, folder: Path, *, modality: str = "audio") -> tuple[list[Clip], dict[str, str]]:
    """The recordings of a corpus that are there, and why the others are not, by utterance."""
    items = [_item(u, text, "", Path(folder)) for u, text in zip(corpus.ids, named(corpus, modality), strict=True)]
    return [item.clip for item in items if item.clip], {item.utterance: item.reason for item in items if not item.clip}


def failures(data: str, corpus: str, name: str) -> pd.DataFrame:
    """The recordings that could not be used for the feature `name`: utterance, file, reason."""
    return pd.read_csv(folders.root_path(data) / corpus / "features" / f"{name}.failures.csv", dtype=str)


def _item(utterance: str, text: str, settings: str, folder: Path) -> Item:
    try:
        clip = located(utterance, text, folder)
        seen = clip.file.stat()
        key, reason = f"{settings} {utterance} {text} {seen.st_size} {seen.st_mtime_ns}", ""
    except MediaError as error:
        clip, key, reason = None, f"{utterance} {text} {error}", str(error)
    return Item(utterance, text, clip, hashlib.sha256(key.encode()).hexdigest(), reason)


def _all(work: Callable, items: list[Item], workers: int, name: str, progress: bool) -> Iterator[Done]:
    """What became of each item, in their order; the bar counts failures as they come."""
    bar = tqdm(total=len(items), desc=name, unit="file", disable=not progress)
    found: dict[int, list[Done]] = {}
    failed = 0

    def note(i: int, done: list[Done]) -> None:
        nonlocal failed
        found[i] = done
        failed += sum(d.part is None for d in done)
        bar.update(len(done))
        bar.set_postfix(failed=failed)

    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    with bar:
        if workers == 1:
            threads = torch.get_num_threads()
            try:
                with _one_thread():
                    for i, chunk in enumerate(chunks):
                        note(i, _some(chunk, work))
            finally:
                torch.set_num_threads(threads)
        else:
            start = {"initializer": _as_worker, "initargs": (os.getpid(),)}
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **start) as pool:
                waiting = {pool.submit(_some, chunk, work): i for i, chunk in enumerate(chunks)}
                try:
                    for future in as_completed(waiting):
                        note(waiting[future], future.result())
                except BrokenProcessPool:
                    left = len(items) - bar.n
                    raise FeatureError(
                        f"{name}: a worker was ended from outside, perhaps for memory; {left} of {len(items)} are "
                        "left. Run it again with fewer workers: what is done is kept."
                    ) from None
                finally:
                    pool.shutdown(cancel_futures=True)
    for i in range(len(chunks)):
        yield from found[i]


def _one_thread() -> threadpool_limits:
    """From here on everything computes with one thread, so that the bits do not depend on how many there are."""
    torch.set_num_threads(1)
    return threadpool_limits(1)


def _as_worker(parent: int) -> None:
    """One thread, and an end with the parent's: who is killed ends nobody else, and a worker would wait for ever."""
    _one_thread()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _some(items: list[Item], work: Callable) -> list[Done]:
    return [work(item) for item in items]


def _one(item: Item, *, extractor: Extractor, parts: Path) -> Done:
    part = parts / f"{item.key[:32]}.npy"
    if item.clip is None or part.exists():
        return Done(item, part if item.clip else None, item.reason)
    try:
        values = extractor(item.clip)
        if values.ndim != 2 or not len(values) or not store.is_storable(values.dtype) or not np.isfinite(values).all():
            raise MediaError(f"gave {values.dtype} {values.shape}, which is empty or not finite")
    except MediaError as error:
        return Done(item, None, str(error))
    with atomic(part) as file, file.open("wb") as opened:
        np.save(opened, values)
    return Done(item, part)


def _assembled(done: list[Done], extractor: Extractor, file: Path) -> Array:
    """The array of all utterances, in `file` and not in memory; one that failed has one step of zeros."""
    heads = [_head(d.part) if d.part else None for d in done]  # steps, width and type; no file stays open
    width = {head[1] for head in heads if head}
    if len(width) > 1:
        raise FeatureError(
            f"{extractor!r} gave steps of different widths {sorted(width)}; the settings do not fit the data."
        )
    lengths = np.array([head[0] if head else 1 for head in heads], dtype=np.int64)
    kind = next(head[2] for head in heads if head)
    with file.open("wb") as whole:
        for d in done:
            steps = np.load(d.part).astype(kind, copy=False) if d.part else np.zeros((1, *width), kind)
            steps.tofile(whole)
    values = np.memmap(file, dtype=kind, mode="r", shape=(lengths.sum(), *width))
    failed = tuple(d.item.utterance for d in done if d.part is None)
    one_row = (lengths == 1).all()
    return Array(
        values,
        extractor.modality,
        **extractor.about(),
        fitted_on="nothing",
        lengths=None if one_row else lengths,
        failed=failed,
    )


def _head(part: Path) -> tuple[int, int, np.dtype]:
    values = np.load(part, mmap_mode="r")
    return *values.shape, values.dtype
