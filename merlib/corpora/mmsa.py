"""CMU-MOSI and CMU-MOSEI in the pickles that the field exchanges: MMSA's aligned_50.pkl and unaligned_50.pkl.

    {"train" | "valid" | "test": {"id": "video$_$clip", "raw_text", "regression_labels",
                                  "text": n t d, "audio": n t d, "vision": n t d,
                                  "text_bert": n 3 t (the second row is the tokens' mask),
                                  "audio_lengths", "vision_lengths": n, in the unaligned file}}

Sequences come padded with zeros to one length, at the end or, in older copies, at the front. Real steps are those that
the lengths (for text, the mask) say; where there are none, or the padding is in front, all from the first to the last
that is not zero. In an aligned file the three modalities keep a common first step. COVAREP's audio holds -inf (log of
0): as in all published work, such values become 0, and the passport says how many there were.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import pickles
from merlib.data.table import Array, Corpus, CorpusError, build
from merlib.files import sha256

SPLITS = {"train": "train", "valid": "val", "test": "test"}
THEIRS = {"text": "text", "audio": "audio", "visual": "vision"}
NEEDED = ("id", "raw_text", "regression_labels", *THEIRS.values())
WIDTHS = {(5, 20): "mosi", (74, 35): "mosei"}  # of audio and vision
EXTRACTORS = {"text": "MMSA BERT tokens", "audio": "MMSA COVAREP", "visual": "MMSA Facet"}
Parts = dict[str, Mapping]


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and ragged features of one pickle; which of the two corpora it is, the widths of audio and vision say."""
    path = Path(path)
    parts = _parts(path)
    rows = pd.concat([_rows(part, split, path) for split, part in parts.items()], ignore_index=True)
    order = rows.assign(first=rows.groupby("dialogue", sort=False).ngroup()).sort_values(["first", "clip"]).index
    widths = tuple(parts["train"][theirs].shape[2] for theirs in ("audio", "vision"))
    if widths not in WIDTHS:
        raise CorpusError(
            f"{path}: audio and vision have {widths} columns; expected one of {WIDTHS}. Bring other features in as a "
            "prepared table."
        )
    aligned = not any("audio_lengths" in part for part in parts.values())
    where = f"{path.name}, sha256 {sha256(path)[:12]}"
    corpus = build(WIDTHS[widths], rows.loc[order].drop(columns="clip"), source=where)
    spans = {split: _spans(part, aligned) for split, part in parts.items()}
    return corpus, {m: _array(m, parts, spans, order, aligned, where, path) for m in THEIRS}


def _parts(path: Path) -> Parts:
    """The three parts, each with all that is needed, and one entry an utterance."""
    data = pickles.load(path)
    if not isinstance(data, Mapping) or any(not isinstance(data.get(split), Mapping) for split in SPLITS):
        found = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise CorpusError(f"{path}: found {found}; expected a dictionary of {list(SPLITS)}, as in aligned_50.pkl.")
    parts = {split: dict(data[split]) for split in SPLITS}
    for split, part in parts.items():
        if missing := [key for key in NEEDED if key not in part]:
            raise CorpusError(f"{path}: {split} has no {missing}; found {sorted(part)}. Is this a file of MMSA?")
        for theirs in THEIRS.values():
            part[theirs] = np.asarray(part[theirs])
            if part[theirs].ndim != 3 or part[theirs].dtype.kind != "f" or len(part[theirs]) != len(part["id"]):
                what = f"{part[theirs].dtype} of shape {part[theirs].shape} for {len(part['id'])} ids"
                raise CorpusError(f"{path}: {split}/{theirs} is {what}; expected floats of shape (n, t, d).")
    sizes = {split: len(part["id"]) for split, part in parts.items()}
    if sizes["train"] < max(sizes["valid"], sizes["test"]):
        raise CorpusError(f"{path}: found {sizes} utterances; train should be the largest. Are its parts swapped?")
    return parts


def _rows(part: Mapping, split: str, path: Path) -> pd.DataFrame:
    """The utterances of one part, in its order, with the number of the clip."""
    ids = [str(name) for name in part["id"]]
    if wrong := [name for name in ids if not name.rpartition("$_$")[2].isdigit() or "$_$" not in name]:
        raise CorpusError(f"{path}: {len(wrong)} ids of {split} are not video$_$clip, first {wrong[:3]}.")
    scores = np.asarray(part["regression_labels"], dtype=np.float64).reshape(-1)
    if not len(ids) == len(scores) == len(part["raw_text"]):
        what = f"{len(ids)} ids, {len(scores)} regression_labels, {len(part['raw_text'])} raw_text"
        raise CorpusError(f"{path}: {split} has {what}; expected one of each an utterance.")
    videos, clips = zip(*(name.rsplit("$_$", 1) for name in ids), strict=True) if ids else ((), ())
    columns = {"utterance": ids, "dialogue": videos, "speaker": videos, "clip": list(map(int, clips)), "score": scores}
    return pd.DataFrame(columns | {"text": [str(t) for t in part["raw_text"]], "split": SPLITS[split]})


def _spans(part: Mapping, aligned: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each modality, the first real step of every utterance and the one after its last, each n."""
    spans = {m: _filled(part[theirs], _said(part, theirs)) for m, theirs in THEIRS.items()}
    if aligned:
        common = np.min([start for start, _ in spans.values()], axis=0)
        spans = {m: (common, stop) for m, (_, stop) in spans.items()}
    return spans


def _said(part: Mapping, theirs: str) -> np.ndarray | None:
    """Steps of every utterance as the file gives them, if it does."""
    if theirs != "text":
        return np.asarray(part[f"{theirs}_lengths"], dtype=np.int64) if f"{theirs}_lengths" in part else None
    return np.asarray(part["text_bert"])[:, 1].sum(axis=1).astype(np.int64) if "text_bert" in part else None


def _filled(values: np.ndarray, said: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """First and last step, the last exclusive, of n sequences n t d; one step at least."""
    real, longest = (values != 0).any(axis=2), values.shape[1]  # n t
    front = ~real[:, 0] & real[:, -1]  # padded in front
    start = np.where(front, real.argmax(axis=1), 0)
    stop = np.where(real.any(axis=1), longest - real[:, ::-1].argmax(axis=1), 1)
    if said is not None:
        if said.shape != (len(values),) or (said < 0).any():
            raise CorpusError(f"found lengths of shape {said.shape}; expected {len(values)} numbers, none below 0.")
        stop = np.where(front, stop, np.clip(said, 1, longest))
    return start, stop


def _array(modality: str, parts: Parts, spans: dict, order: pd.Index, aligned: bool, where: str, path: Path) -> Array:
    """One modality's sequences in table order, values (s, d) and lengths (n)."""
    theirs, pieces, spoilt = THEIRS[modality], [], 0
    if len({part[theirs].shape[2] for part in parts.values()}) > 1:
        raise CorpusError(f"{path}: {theirs} has several widths, {[p[theirs].shape[2] for p in parts.values()]}.")
    for split, part in parts.items():
        for i, (start, stop) in enumerate(zip(*spans[split][modality], strict=True)):
            piece = part[theirs][i, start:stop].astype(np.float32)
            bad = ~np.isfinite(piece)
            if bad.any() and modality == "text":
                raise CorpusError(f"{path}: text of {part['id'][i]} has NaN or infinity. Get the file again.")
            piece[bad] = 0
            spoilt += int(bad.sum())
            pieces.append(piece)
    pieces = [pieces[i] for i in order]
    extractor = f"{EXTRACTORS[modality]}, {'aligned' if aligned else 'unaligned'}"
    if spoilt:
        print(f"{path.name}: {spoilt} values of {theirs} that are not finite set to 0")
        extractor += f", {spoilt} values that are not finite set to 0"
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    return Array(np.concatenate(pieces), modality, extractor, version=where, lengths=lengths)
