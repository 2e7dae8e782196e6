"""CMU-MOSI and CMU-MOSEI in the widely used pickles of MMSA, aligned_50.pkl and unaligned_50.pkl.

    {"train" | "valid" | "test": {"id": "video$_$clip", "raw_text", "regression_labels",
                                  "text": n t d, "audio": n t d, "vision": n t d,
                                  "text_bert": n 3 t (the second row is the tokens' mask),
                                  "audio_lengths", "vision_lengths": n, in the unaligned file}}

Sequences are padded with zeros to one length, at the end or, in older copies, at the front. The lengths (for text, the
mask) give the real steps. Without lengths, or where the padding is at the front, the real steps are those from the
first to the last that is not zero. In an aligned file the three modalities have a common first step. The audio of
COVAREP has values of -inf (log of 0): as in all published work they become 0, and the passport gives their number.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora.reading import named_with_hash, names_of, steps_between_zeros, texts_of
from merlib.corpora.safe_pickle import load
from merlib.data.table import Array, Corpus, CorpusError, build
from merlib.errors import Notice, listed

SPLITS = {"train": "train", "valid": "val", "test": "test"}
THEIRS = {"text": "text", "audio": "audio", "visual": "vision"}
NEEDED = ("id", "raw_text", "regression_labels", *THEIRS.values())
WIDTHS = {(5, 20): "mosi", (74, 35): "mosei"}  # of audio and vision
EXTRACTORS = {"text": "MMSA BERT tokens", "audio": "MMSA COVAREP", "visual": "MMSA Facet"}
Parts = dict[str, Mapping]


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and sequences of one pickle; the widths of audio and vision tell which of the two corpora it is."""
    path = Path(path)
    parts = _parts(path)
    rows = pd.concat([_rows(part, split, path) for split, part in parts.items()], ignore_index=True)
    order = rows.assign(first=rows.groupby("dialogue", sort=False).ngroup()).sort_values(["first", "clip"]).index
    widths = tuple(parts["train"][theirs].shape[2] for theirs in ("audio", "vision"))
    if widths not in WIDTHS:
        raise CorpusError(f"{path}: audio and vision have {widths} columns; expected one of {listed(WIDTHS)}.")
    aligned = not any("audio_lengths" in part for part in parts.values())
    spans = {split: _spans(part, aligned) for split, part in parts.items()}
    corpus = build(WIDTHS[widths], rows.loc[order].drop(columns="clip"), source=named_with_hash(path))
    return corpus, {m: _array(m, parts, spans, order, aligned, path) for m in THEIRS}


def _parts(path: Path) -> Parts:
    """The three parts, checked: each has the keys that are needed, with one entry per utterance."""
    data = load(path)
    if not isinstance(data, Mapping) or any(not isinstance(data.get(split), Mapping) for split in SPLITS):
        keys = sorted(map(str, data)) if isinstance(data, Mapping) else [type(data).__name__]
        what = f"{path}: found {listed(keys)}"
        raise CorpusError(f"{what}; expected a dictionary of {listed(SPLITS)}, as in aligned_50.pkl.")
    parts = {split: dict(data[split]) for split in SPLITS}
    for split, part in parts.items():
        if missing := [key for key in NEEDED if key not in part]:
            what = f"{path}: {split} has no {listed(missing)}"
            raise CorpusError(f"{what}; found {listed(sorted(part))}. Is this a file of MMSA?")
        for theirs in THEIRS.values():
            part[theirs] = values = np.asarray(part[theirs])
            if values.ndim != 3 or values.dtype.kind != "f" or len(values) != len(part["id"]):
                stored = f"{values.dtype} of shape {values.shape} for {len(part['id'])} ids"
                raise CorpusError(f"{path}: {split}/{theirs} is {stored}; expected floats of shape (n, t, d).")
    sizes = {split: len(part["id"]) for split, part in parts.items()}
    if sizes["train"] < max(sizes["valid"], sizes["test"]):
        raise CorpusError(f"{path}: found {sizes} utterances; train should be the largest. Are its parts swapped?")
    return parts


def _rows(part: Mapping, split: str, path: Path) -> pd.DataFrame:
    """The utterances of one part, in its order, with the number of the clip."""
    ids = names_of(part["id"])
    if malformed := [name for name in ids if not name.rpartition("$_$")[2].isdigit() or "$_$" not in name]:
        what = f"{path}: {len(malformed)} ids of {split} are not video$_$clip"
        raise CorpusError(f"{what}, first {listed(malformed[:3])}.")
    scores = np.asarray(part["regression_labels"], dtype=np.float64).reshape(-1)
    if not len(ids) == len(scores) == len(part["raw_text"]):
        sizes = f"{len(ids)} ids, {len(scores)} regression_labels, {len(part['raw_text'])} raw_text"
        raise CorpusError(f"{path}: {split} has {sizes}; expected one of each per utterance.")
    videos, clips = zip(*(name.rsplit("$_$", 1) for name in ids), strict=True) if ids else ((), ())
    columns = {"utterance": ids, "dialogue": videos, "speaker": videos, "clip": list(map(int, clips)), "score": scores}
    return pd.DataFrame(columns | {"text": texts_of(part["raw_text"], path), "split": SPLITS[split]})


def _spans(part: Mapping, aligned: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each modality, the first real step of every utterance and the step after its last one, (n,) each."""
    spans = {m: _real_steps(part[theirs], _lengths(part, theirs)) for m, theirs in THEIRS.items()}
    if aligned:
        common = np.min([start for start, _ in spans.values()], axis=0)
        spans = {m: (common, stop) for m, (_, stop) in spans.items()}
    return spans


def _lengths(part: Mapping, theirs: str) -> np.ndarray | None:
    """The number of steps of every utterance where the file gives it."""
    if theirs != "text":
        return np.asarray(part[f"{theirs}_lengths"], dtype=np.int64) if f"{theirs}_lengths" in part else None
    return np.asarray(part["text_bert"])[:, 1].sum(axis=1).astype(np.int64) if "text_bert" in part else None


def _real_steps(values: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """First and last real step (the last exclusive) of n sequences, (n, t, d); at least one step each."""
    start, stop = steps_between_zeros(values)
    if lengths is not None:
        if lengths.shape != (len(values),) or (lengths < 0).any():
            raise CorpusError(f"found lengths of shape {lengths.shape}; expected {len(values)} numbers, none below 0.")
        stop = np.where(start > 0, stop, np.clip(lengths, 1, values.shape[1]))
    return start, stop


def _array(modality: str, parts: Parts, spans: dict, order: pd.Index, aligned: bool, path: Path) -> Array:
    """The sequences of one modality in table order: values (sum of lengths, d) and lengths (n)."""
    theirs, sequences, n_not_finite = THEIRS[modality], [], 0
    if len({part[theirs].shape[2] for part in parts.values()}) > 1:
        what = f"{path}: {theirs} has several widths"
        raise CorpusError(f"{what}, {listed([p[theirs].shape[2] for p in parts.values()])}.")
    for split, part in parts.items():
        for i, (start, stop) in enumerate(zip(*spans[split][modality], strict=True)):
            sequence = part[theirs][i, start:stop].astype(np.float32)
            not_finite = ~np.isfinite(sequence)
            if not_finite.any() and modality == "text":
                raise CorpusError(f"{path}: text of {part['id'][i]} has NaN or infinity. Get the file again.")
            sequence[not_finite] = 0
            n_not_finite += int(not_finite.sum())
            sequences.append(sequence)
    extractor = f"{EXTRACTORS[modality]}, {'aligned' if aligned else 'unaligned'}"
    if n_not_finite:
        what = f"{n_not_finite} values of {theirs} that are not finite set to 0"
        warnings.warn(Notice(what, path.name), stacklevel=1)
        extractor += f", {n_not_finite} values that are not finite set to 0"
    sequences = [sequences[i] for i in order]
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    return Array(np.concatenate(sequences), modality, extractor, version=named_with_hash(path), lengths=lengths)
