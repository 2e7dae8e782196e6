"""Recordings -> a feature array: files in parallel, results stored until the array is complete, failures recorded.

Results are kept in `parts/` beside the features until the array is complete, each under a hash of extractor, settings
and recording: after an interruption only missing results are computed, and those whose inputs have changed.
Memory holds the recordings that are being computed, and a few results.

A recording that cannot be used is always reported: `<name>.failures.csv` lists utterance, file and reason, the passport
names the utterances, and their row is one step of zeros, which a recipe keeps (`data.on_failure = "zero"`) or discards.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm.auto import tqdm

from merlib.data import store
from merlib.data.table import Array, Corpus
from merlib.errors import FeatureError
from merlib.features import workers as processes
from merlib.features.decoding import Clip, MediaError, located
from merlib.features.extractors import Extractor
from merlib.features.parts import Parts
from merlib.files import atomic


@dataclass(frozen=True)
class Item:
    """One recording: where it is, and a hash of extractor, settings and file; or the reason why there is none."""

    utterance: str
    text: str
    clip: Clip | None
    key: str
    reason: str = ""


def into(
    home: Path, corpus: Corpus, *, extractor: Extractor, media: Path, name: str, workers: int = 1,
    progress: bool = True, replace_old: bool = False,
) -> Path:  # fmt: skip
    """Run `extractor` over a corpus; returns the file of its feature `name` in the folder `home` of the corpus.

    media: the folder that the media paths of the corpus are relative to, most often the one it was imported from.
    replace_old: an array of another extractor, or one with fewer failures, may be replaced.
    Raises FeatureError when no recording can be used, or for what only replace_old allows, and OSError on a full disk;
    results so far stay for the next run.
    """
    folder, array = home / "parts" / name, store.path(home, name)
    if workers > 1 and not array.exists():
        processes.serve(extractor)  # it starts while this process looks for the files
    about = extractor.about()
    settings = json.dumps([repr(extractor), about], sort_keys=True)
    texts = named(corpus, extractor.modality)
    items = [_item(u, text, settings, Path(media), corpus.links) for u, text in zip(corpus.ids, texts, strict=True)]
    inputs = hashlib.sha256("".join(item.key for item in items).encode()).hexdigest()
    with FileLock(home / f".{name}.lock"):  # of two extractions of one array, the second finds it complete
        if array.exists() and store.read_passport(array).inputs == inputs:
            return array
        usable = _usable(array, about) if array.exists() and not replace_old else set()
        _check_losses(items, usable, array, media)
        parts = Parts(folder, of=f"{corpus.name}/{name}")
        items = _computed(items, parts, extractor, workers, tqdm(desc=name, unit="file", disable=not progress))
        items = _alike(items, parts)
        _check_losses(items, usable, array, media)
        failed = [(item.utterance, item.text, item.reason) for item in items if item.reason]
        if len(failed) == len(items):
            first = f"{corpus.name}: none of {len(items)} recordings below {media} can be used"
            reasons = "; ".join(grouped(failed)[:3])
            raise FeatureError(f"{first}: {reasons}. Is this the folder of the recordings?")
        with atomic(array.with_name(f"{name}.failures.csv")) as part:  # first: where the array is, its failures are too
            pd.DataFrame(failed, columns=["utterance", "file", "reason"]).to_csv(part, index=False)
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            whole = _assembled(items, parts, extractor, Path(empty) / "all")
            store.add(home, corpus, name, replace(whole, inputs=inputs))
        shutil.rmtree(folder)
    return array


def named(corpus: Corpus, modality: str) -> list[str]:
    """The media path of each utterance in the table; its video is read where it has no audio file."""
    audio, video = (corpus.table[column].fillna("").replace("nan", "") for column in ("audio", "video"))
    return list(video if modality == "visual" else audio.where(audio != "", video))


def grouped(failures: Iterable[tuple[str, str, str]]) -> list[str]:
    """Failures (utterance, file, reason) in a few lines: one for each kind of reason, whatever numbers are in it."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for utterance, file, reason in failures:
        groups.setdefault(re.sub(r"[\d.]+", "#", reason), []).append((f"{utterance} {file}".strip(), reason))
    lines = []
    for group in groups.values():
        where, reason = group[0]
        lines.append(f"{where}: {reason}" if len(group) == 1 else f"{len(group)} recordings, first {where}: {reason}")
    return lines


def clips(corpus: Corpus, folder: Path, *, modality: str = "audio") -> tuple[list[Clip], dict[str, str]]:
    """The recordings of a corpus that exist, and by utterance the reason why another does not."""
    texts = named(corpus, modality)
    items = [_item(u, text, "", Path(folder), corpus.links) for u, text in zip(corpus.ids, texts, strict=True)]
    return [item.clip for item in items if item.clip], {item.utterance: item.reason for item in items if not item.clip}


def _item(utterance: str, text: str, settings: str, folder: Path, links: bool) -> Item:
    try:
        clip = located(utterance, text, folder, links=links)
        status = clip.file.stat()
        key, reason = f"{settings} {utterance} {text} {status.st_size} {status.st_mtime_ns}", ""
    except MediaError as error:
        clip, key, reason = None, f"{utterance} {text} {error}", str(error)
    return Item(utterance, text, clip, hashlib.sha256(key.encode()).hexdigest(), reason=reason)


def _computed(items: list[Item], parts: Parts, extractor: Extractor, workers: int, bar: tqdm) -> list[Item]:
    """Add to `parts` what they have not; the items in their order, failed ones with their reason."""
    left = [i for i, item in enumerate(items) if item.clip and item.key not in parts]
    reasons = {i: item.reason for i, item in enumerate(items) if item.reason}
    bar.reset(total=len(items))
    bar.update(len(items) - len(left))

    def keep(i: int, result: processes.Result) -> None:
        if not isinstance(result, str) and not store.is_storable(result.dtype):
            result = f"gave {result.dtype}; expected floats, or bytes from 0 to 255"
        if isinstance(result, str):
            reasons[left[i]] = result
        else:
            parts.add(items[left[i]].key, result)
        bar.update()
        bar.set_postfix(failed=len(reasons), refresh=False)

    with bar, parts:
        processes.compute([items[i].clip for i in left], extractor, workers=workers, keep=keep)
    return [replace(item, reason=reasons.get(i, "")) for i, item in enumerate(items)]


def _alike(items: list[Item], parts: Parts) -> list[Item]:
    """The items; those fail whose steps have another type or width than most."""
    kinds = {item.key: parts.kind(item.key) for item in items if not item.reason}
    usual = Counter(kinds.values()).most_common(1)
    reasons = {
        key: f"gave {dtype} of width {width}, others {usual[0][0][0]} of width {usual[0][0][1]}"
        for key, (dtype, width) in kinds.items()
        if (dtype, width) != usual[0][0]
    }
    return [replace(item, reason=item.reason or reasons.get(item.key, "")) for item in items]


def _usable(array: Path, about: dict[str, str]) -> set[str]:
    """The utterances that an array has recordings of; FeatureError unless it was extracted, and in the same way."""
    passport = store.read_passport(array)
    if not passport.inputs:
        what = f"{array} was imported, not extracted: {passport.summary()}"
        raise FeatureError(f"{what}. Give the new array another --name.")
    store.check_origin(array, {field: about[field] for field in ("extractor", "version", "weights_sha256")})
    return {*passport.ids} - {*passport.failed}


def _check_losses(items: list[Item], usable: set[str], array: Path, media: Path) -> None:
    """FeatureError where a recording that the array in the file `array` has can no longer be used."""
    if lost := [(item.utterance, item.text, item.reason) for item in items if item.reason and item.utterance in usable]:
        what = f"{array} would lose {len(lost)} of its {len(usable)} recordings: {'; '.join(grouped(lost)[:3])}"
        remedy = f"Is {media} the folder of the recordings? Put them back, or delete the array to make it without them"
        raise FeatureError(f"{what}. {remedy}.")


def _assembled(items: list[Item], parts: Parts, extractor: Extractor, file: Path) -> Array:
    """The array of all utterances, in `file` and not in memory; a failed one has one step of zeros."""
    first = parts[next(item.key for item in items if not item.reason)]
    lengths = np.ones(len(items), dtype=np.int64)
    with file.open("wb") as whole:
        for i, item in enumerate(items):
            values = np.zeros_like(first[:1]) if item.reason else parts[item.key]
            values.tofile(whole)
            lengths[i] = len(values)
    values = np.memmap(file, dtype=first.dtype, mode="r", shape=(lengths.sum(), first.shape[1]))
    failed = tuple(item.utterance for item in items if item.reason)
    about = extractor.about() | {"fitted_on": "nothing", "failed": failed}
    return Array(values, extractor.modality, lengths=None if (lengths == 1).all() else lengths, **about)
