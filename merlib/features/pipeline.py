"""Recordings -> a feature array: files in parallel, results stored until the array is complete, failures recorded.

Each result is a file in `parts/` beside the features until the array is complete, named by a hash of extractor,
settings and recording: after an interruption only missing results are computed, and those whose inputs have changed.
Memory holds one recording a worker. Any number of workers gives the same bits: each computes with one thread.

A recording that cannot be used is always reported: `<name>.failures.csv` lists utterance, file and reason, the passport
names the utterances, and their row is one step of zeros, which a recipe keeps (`data.on_failure = "zero"`) or discards.
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

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from merlib.data import store
from merlib.data.store import FeatureError
from merlib.data.table import Array, Corpus
from merlib.features.decoding import Clip, MediaError, located
from merlib.features.extractors import Extractor
from merlib.files import atomic

CHUNK = 4  # recordings that a worker takes at once


@dataclass(frozen=True)
class Item:
    """One recording: where it is, a hash of extractor, settings and file, and the result, once there is one."""

    utterance: str
    text: str
    clip: Clip | None
    key: str
    part: Path | None = None  # the file of its steps, named by the key
    reason: str = ""  # why there is none


def into(
    home: Path, corpus: Corpus, *, extractor: Extractor, media: Path, name: str, workers: int = 1, progress: bool = True
) -> Path:
    """Run `extractor` over a corpus; returns the file of its feature `name` in the folder `home` of the corpus.

    media: the folder that the media paths of the corpus are relative to, most often the one it was imported from.
    Raises FeatureError when no recording can be used, and OSError on a full disk; results so far stay for the next run.
    """
    parts, array = home / "parts" / name, store.path(home, name)
    settings = json.dumps([repr(extractor), extractor.about()], sort_keys=True)
    texts = named(corpus, extractor.modality)
    items = [_item(u, text, settings, Path(media)) for u, text in zip(corpus.ids, texts, strict=True)]
    inputs = hashlib.sha256("".join(item.key for item in items).encode()).hexdigest()
    with FileLock(home / f".{name}.lock"):  # of two extractions of one array, the second finds it complete
        if array.exists() and (passport := store.read_passport(array)).inputs == inputs:
            return array
        if array.exists() and not passport.inputs:
            what = f"{array} was imported, not extracted: {passport.summary()}"
            raise FeatureError(f"{what}. Give the new array another --name.")
        parts.mkdir(parents=True, exist_ok=True)
        outcomes = list(_all(partial(_some, extractor=extractor, parts=parts), items, workers, name, progress))
        failed = [outcome for outcome in outcomes if outcome.part is None]
        if len(failed) == len(outcomes):
            reasons = pd.Series([outcome.reason for outcome in failed]).value_counts().index[:3]
            first = f"none of {len(outcomes)} recordings below {media} can be used"
            raise FeatureError(f"{corpus.name}: {first}: {'; '.join(reasons)}. Is this the folder of the recordings?")
        with atomic(array.with_name(f"{name}.failures.csv")) as part:  # first: where the array is, its failures are too
            rows = [(outcome.utterance, outcome.text, outcome.reason) for outcome in failed]
            pd.DataFrame(rows, columns=["utterance", "file", "reason"]).to_csv(part, index=False)
        store.add(home, corpus, name, replace(_assembled(outcomes, extractor, parts / "all"), inputs=inputs))
        shutil.rmtree(parts)
    return array


def named(corpus: Corpus, modality: str) -> list[str]:
    """The media path of each utterance in the table; its video is read where it has no audio file."""
    audio, video = corpus.table["audio"], corpus.table["video"]
    return list(video if modality == "visual" else audio.where(audio != "", video))


def clips(corpus: Corpus, folder: Path, *, modality: str = "audio") -> tuple[list[Clip], dict[str, str]]:
    """The recordings of a corpus that exist, and by utterance the reason why another does not."""
    items = [_item(u, text, "", Path(folder)) for u, text in zip(corpus.ids, named(corpus, modality), strict=True)]
    return [item.clip for item in items if item.clip], {item.utterance: item.reason for item in items if not item.clip}


def _item(utterance: str, text: str, settings: str, folder: Path) -> Item:
    try:
        clip = located(utterance, text, folder)
        status = clip.file.stat()
        key, reason = f"{settings} {utterance} {text} {status.st_size} {status.st_mtime_ns}", ""
    except MediaError as error:
        clip, key, reason = None, f"{utterance} {text} {error}", str(error)
    return Item(utterance, text, clip, hashlib.sha256(key.encode()).hexdigest(), reason=reason)


def _all(work: Callable, items: list[Item], workers: int, name: str, progress: bool) -> Iterator[Item]:
    """The outcome of each item, in their order; the progress bar counts failures."""
    bar = tqdm(total=len(items), desc=name, unit="file", disable=not progress)
    outcomes: dict[int, list[Item]] = {}
    failed = 0

    def note(i: int, chunk: list[Item]) -> None:
        nonlocal failed
        outcomes[i] = chunk
        failed += sum(outcome.part is None for outcome in chunk)
        bar.update(len(chunk))
        bar.set_postfix(failed=failed)

    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    with bar:
        if workers == 1:
            threads = torch.get_num_threads()
            try:
                with _one_thread():
                    for i, chunk in enumerate(chunks):
                        note(i, work(chunk))
            finally:
                torch.set_num_threads(threads)
        else:
            start = {"initializer": _as_worker, "initargs": (os.getpid(),)}
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **start) as pool:
                waiting = {pool.submit(work, chunk): i for i, chunk in enumerate(chunks)}
                try:
                    for future in as_completed(waiting):
                        note(waiting[future], future.result())
                except BrokenProcessPool:
                    left = len(items) - bar.n
                    what = f"a worker was ended from outside, perhaps for memory; {left} of {len(items)} are left"
                    remedy = "Run it again with fewer workers: finished results are not computed again"
                    raise FeatureError(f"{name}: {what}. {remedy}.") from None
                finally:
                    pool.shutdown(cancel_futures=True)
    for i in range(len(chunks)):
        yield from outcomes[i]


def _one_thread() -> threadpool_limits:
    """Compute with one thread from now on, so that the bits do not depend on the number of threads."""
    torch.set_num_threads(1)
    return threadpool_limits(1)


def _as_worker(parent: int) -> None:
    """Compute with one thread, and exit when the parent dies: a killed parent leaves its workers waiting forever."""
    _one_thread()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _some(items: list[Item], *, extractor: Extractor, parts: Path) -> list[Item]:
    return [_one(item, extractor, parts) for item in items]


def _one(item: Item, extractor: Extractor, parts: Path) -> Item:
    part = parts / f"{item.key[:32]}.npy"
    if item.clip is None or part.exists():
        return replace(item, part=part if item.clip else None)
    try:
        values = extractor(item.clip)
        if values.ndim != 2 or not len(values) or not store.is_storable(values.dtype) or not np.isfinite(values).all():
            raise MediaError(f"gave {values.dtype} {values.shape}, which is empty or not finite")
    except MediaError as error:
        return replace(item, reason=str(error))
    with atomic(part) as file, file.open("wb") as opened:
        np.save(opened, values)
    return replace(item, part=part)


def _assembled(outcomes: list[Item], extractor: Extractor, file: Path) -> Array:
    """The array of all utterances, in `file` and not in memory; a failed one has one step of zeros."""
    heads = [_head(outcome.part) if outcome.part else None for outcome in outcomes]
    width = {head[1] for head in heads if head}
    if len(width) > 1:
        raise FeatureError(f"{extractor!r} gave steps of widths {sorted(width)}; the settings do not fit the data.")
    lengths = np.array([head[0] if head else 1 for head in heads], dtype=np.int64)
    kind = next(head[2] for head in heads if head)
    with file.open("wb") as whole:
        for part in (outcome.part for outcome in outcomes):
            (np.load(part).astype(kind, copy=False) if part else np.zeros((1, *width), kind)).tofile(whole)
    values = np.memmap(file, dtype=kind, mode="r", shape=(lengths.sum(), *width))
    failed = tuple(outcome.utterance for outcome in outcomes if outcome.part is None)
    about = extractor.about() | {"fitted_on": "nothing", "failed": failed}
    return Array(values, extractor.modality, lengths=None if (lengths == 1).all() else lengths, **about)


def _head(part: Path) -> tuple[int, int, np.dtype]:  # steps, width and dtype; the file does not stay open
    values = np.load(part, mmap_mode="r")
    return *values.shape, values.dtype
