"""The public feature releases of conv-emotion and MultiEMO, which are pickles (read by `safe_pickle`).

Every item of a release except train and test is a dictionary: dialogue -> one entry per turn.

- conv-emotion `IEMOCAP_features.pkl`, nine items: ids, speakers (M, F), labels, text (100), audio (100), visual (512),
  sentences, train, test.
- conv-emotion `MELD_features_raw.pkl`, nine items: ids, speakers (one-hot of nine), labels, text (600), audio (300),
  sentences, train, test, labels. Its successors' `MELD_features_raw1.pkl`, ten items, has visual (342) after audio. One
  labels item holds the emotions, the other the sentiments. Dialogues are 0 to 1432: train, of which one is empty and
  left out, dev from 1039 on, test from 1153 on.
- MultiEMO `Data/IEMOCAP/` and `Data/MELD/`: `Speakers.pkl`, a tuple of nine or ten items as above, and
  `TextFeatures.pkl`, `AudioFeatures.pkl`, `VisualFeatures.pkl`.

The layouts are those that the released training scripts read. Text vectors of both releases come from networks
fine-tuned on the labels of these corpora.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import iemocap
from merlib.corpora.reading import named_with_hash, names_of, texts_of
from merlib.corpora.safe_pickle import load
from merlib.data.official import LABELS
from merlib.data.table import MODALITIES, Array, Corpus, CorpusError, build

SHARED = ("ids", "speakers", "labels", "text", "audio")
LAYOUTS = {
    ("iemocap6", 9): (*SHARED, "visual", "sentences", "train", "test"),
    ("meld", 9): (*SHARED, "sentences", "train", "test", "other labels"),
    ("meld", 10): (*SHARED, "visual", "sentences", "train", "test", "other labels"),
}
MELD_STARTS = {"train": 0, "dev": 1039, "test": 1153}
EXTRACTORS = {  # of the vectors of each release
    "conv-emotion": {"text": "text CNN", "audio": "openSMILE, reduced", "visual": "visual"},
    "MultiEMO": {"text": "EmoBERTa", "audio": "openSMILE, reduced", "visual": "VisExtNet"},
}


def conv_emotion(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and features of IEMOCAP_features.pkl, MELD_features_raw.pkl or MELD_features_raw1.pkl."""
    path = Path(path)
    items = _items(path)
    corpus, rows = _corpus(items, path)
    return corpus, {m: _array("conv-emotion", m, items[m], rows, path) for m in MODALITIES if m in items}


def multiemo(folder: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and features of MultiEMO's folder Data/IEMOCAP or Data/MELD."""
    speakers = Path(folder) / "Speakers.pkl"
    corpus, rows = _corpus(_items(speakers), speakers)
    files = {m: Path(folder) / f"{m.capitalize()}Features.pkl" for m in MODALITIES}
    return corpus, {m: _array("MultiEMO", m, load(file), rows, file) for m, file in files.items()}


def _items(path: Path) -> dict:
    """The items of a release by name, and the name of its corpus under `corpus`."""
    raw = load(path)
    speakers = raw[1] if isinstance(raw, (tuple, list)) and len(raw) > 1 else None
    corpus = "iemocap6" if isinstance(speakers, Mapping) and any(str(d).startswith("Ses") for d in speakers) else "meld"
    if not isinstance(speakers, Mapping) or (corpus, len(raw)) not in LAYOUTS:
        content = f"{type(raw).__name__} of {len(raw)} items" if isinstance(raw, (tuple, list)) else type(raw).__name__
        layouts = "; ".join(f"{c}: {', '.join(names)}" for (c, _), names in LAYOUTS.items())
        raise CorpusError(f"{path}: found a {content}; expected one of these layouts. {layouts}.")
    return {"corpus": corpus} | dict(zip(LAYOUTS[corpus, len(raw)], raw, strict=True))


def _corpus(items: dict, path: Path) -> tuple[Corpus, list[tuple]]:
    """The corpus, and the (dialogue key, turn) of every row."""
    name, sentences = items["corpus"], items["sentences"] if isinstance(items["sentences"], Mapping) else {}
    labels = [items[k] for k in ("labels", "other labels") if isinstance(items.get(k), Mapping)]
    top = len(LABELS[name]) - 1
    labels = [each for each in labels if max((int(k) for turns in each.values() for k in turns), default=0) == top]
    if len(labels) != 1:
        raise CorpusError(f"{path}: found {len(labels)} label items with classes 0 to {top}, not one. Another release?")
    rows = [(d, t) for d in sorted(items["speakers"]) for t in range(len(labels[0][d]))]
    row_of = _iemocap_row if name == "iemocap6" else _meld_row
    table = pd.DataFrame([row_of(items, d, t) for d, t in rows])
    table["label"] = [int(labels[0][d][t]) for d, t in rows]
    table["text"] = texts_of((sentences[d][t] if d in sentences else "" for d, t in rows), path)
    if name == "iemocap6":
        table["split"] = table["dialogue"].map(iemocap.default_split(table["dialogue"]))
    ours = {d for (d, _), split in zip(rows, table["split"], strict=True) if split == "test"}
    if differing := ours ^ set(items["test"]):
        raise CorpusError(f"{path}: {len(differing)} dialogues are test in it or in our split only. Another release?")
    return build(name, table, source=named_with_hash(path)), rows


def _iemocap_row(items: dict, dialogue: str, turn: int) -> dict:
    speaker = dialogue[3:5] + items["speakers"][dialogue][turn]
    (utterance,) = names_of([items["ids"][dialogue][turn]])
    return {"utterance": utterance, "dialogue": dialogue, "speaker": speaker}


def _meld_row(items: dict, dialogue: int, turn: int) -> dict:
    part = max((p for p, start in MELD_STARTS.items() if start <= dialogue), key=MELD_STARTS.get)
    name = f"{part}_{dialogue - MELD_STARTS[part]}"
    speaker = f"party{np.argmax(items['speakers'][dialogue][turn])}"
    split = "val" if part == "dev" else part
    return {"utterance": f"{name}_turn{turn}", "dialogue": name, "speaker": speaker, "split": split}


def _array(release: str, modality: str, vectors: Mapping, rows: list[tuple], path: Path) -> Array:
    """The vectors of one modality in table order (n, d), with what is known of their origin."""
    try:
        uneven = [d for d, turns in Counter(d for d, _ in rows).items() if len(vectors[d]) != turns]
        values = np.stack([np.asarray(vectors[d][t], dtype=np.float32) for d, t in rows])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CorpusError(f"{path}: {modality} has no vector of one width for every turn: {error!r}.") from None
    if uneven:
        what = f"{path}: {modality} has more vectors than labels in {len(uneven)} dialogues, first {uneven[0]}"
        raise CorpusError(f"{what}. Take all files from one release.")
    if (bad := ~np.isfinite(values).all(axis=1)).any():
        what = f"{path}: {modality} has NaN or infinity in {bad.sum()} utterances"
        raise CorpusError(f"{what}, first turn {rows[bad.argmax()][1]} of {rows[bad.argmax()][0]}. Get it again.")
    extractor = f"{release} {EXTRACTORS[release][modality]}"
    trained_on = "labels of this corpus" if modality == "text" else "unknown"
    return Array(values, modality, extractor, version=named_with_hash(path), trained_on=trained_on)
