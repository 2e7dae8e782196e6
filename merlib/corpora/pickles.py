"""Public feature releases are pickles, and a pickle can run any code: these are read by one that knows data only.

Every item of a release but train and test is a dictionary: dialogue -> one entry per turn.

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

import collections
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import iemocap
from merlib.data.official import LABELS
from merlib.data.table import MODALITIES, Array, Corpus, CorpusError, build
from merlib.files import sha256

SHARED = ("ids", "speakers", "labels", "text", "audio")
LAYOUTS = {
    ("iemocap6", 9): (*SHARED, "visual", "sentences", "train", "test"),
    ("meld", 9): (*SHARED, "sentences", "train", "test", "other labels"),
    ("meld", 10): (*SHARED, "visual", "sentences", "train", "test", "other labels"),
}
MELD_STARTS = {"train": 0, "dev": 1039, "test": 1153}
LEARNED = "labels of this corpus"
ORIGINS = {  # what made the vectors, and what it had learned from
    "conv-emotion": {
        "text": ("conv-emotion text CNN", LEARNED),
        "audio": ("conv-emotion openSMILE, reduced", "unknown"),
        "visual": ("conv-emotion visual", "unknown"),
    },
    "multiemo": {
        "text": ("MultiEMO EmoBERTa", LEARNED),
        "audio": ("MultiEMO openSMILE, reduced", "unknown"),
        "visual": ("MultiEMO VisExtNet", "unknown"),
    },
}


class UnsafePickle(CorpusError):
    """A pickle that asks for more than data; nothing of what it asked for was run."""


def _bytes(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, by which old protocols write bytes, and does only that."""
    if encoding != "latin1":
        raise UnsafePickle(f"the pickle asks to encode text as {encoding!r}; only plain bytes (latin1) are admitted.")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], object]:
    """What a pickle may name; helpers of numpy and builtins under their old and new names."""
    array, scalar = np.empty(0), np.float32(0)
    helpers = {
        ("multiarray", "_reconstruct"): array.__reduce__()[0],
        ("multiarray", "scalar"): scalar.__reduce__()[0],
        ("numeric", "_frombuffer"): array.__reduce_ex__(5)[0],
    }
    return {
        **{(f"numpy.{core}.{m}", name): f for core in ("core", "_core") for (m, name), f in helpers.items()},
        **{("numpy", kind.__name__): kind for kind in (np.ndarray, np.dtype)},
        **{
            (m, kind.__name__): kind
            for m in ("builtins", "__builtin__")
            for kind in (dict, list, tuple, set, frozenset)
        },
        **{("collections", kind.__name__): kind for kind in (collections.OrderedDict, collections.defaultdict)},
        ("_codecs", "encode"): _bytes,
    }


class _DataOnly(pickle.Unpickler):
    """Looks globals up by exact name among the admitted ones; it imports nothing and follows no dots."""

    admitted = _admitted()

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.admitted:
            raise UnsafePickle(
                f"the pickle asks for {module}.{name}; only containers, numbers, strings and numpy arrays are read. "
                "Do not load it by other means: ask its authors for npz or CSV files, and write a prepared table."
            )
        return self.admitted[module, name]


def load(path: Path) -> object:
    """The data in a pickle of Python 2 or 3, numpy 1 or 2; UnsafePickle, or CorpusError if missing or damaged."""
    try:
        with Path(path).open("rb") as file:
            return _DataOnly(file, encoding="latin1").load()
    except UnsafePickle as error:
        raise UnsafePickle(f"{path}: {error}") from None
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}. Correct the path, or get the release again.") from None
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise CorpusError(f"{path}: damaged, or no pickle ({error!r}). Get the release again.") from error


def conv_emotion(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and features of IEMOCAP_features.pkl, MELD_features_raw.pkl or MELD_features_raw1.pkl."""
    items = _items(Path(path))
    corpus, rows = _corpus(items, Path(path))
    return corpus, {m: _array("conv-emotion", m, items[m], rows, Path(path)) for m in MODALITIES if m in items}


def multiemo(folder: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and features of MultiEMO's folder Data/IEMOCAP or Data/MELD."""
    speakers = Path(folder) / "Speakers.pkl"
    corpus, rows = _corpus(_items(speakers), speakers)
    files = {m: Path(folder) / f"{m.capitalize()}Features.pkl" for m in MODALITIES}
    return corpus, {m: _array("multiemo", m, load(file), rows, file) for m, file in files.items()}


def _items(path: Path) -> dict:
    """The items of a release by name; `corpus` says whose they are."""
    raw = load(path)
    speakers = raw[1] if isinstance(raw, (tuple, list)) and len(raw) > 1 else None
    corpus = "iemocap6" if isinstance(speakers, Mapping) and any(str(d).startswith("Ses") for d in speakers) else "meld"
    if not isinstance(speakers, Mapping) or (corpus, len(raw)) not in LAYOUTS:
        found = f"{type(raw).__name__} of {len(raw)} items" if isinstance(raw, (tuple, list)) else type(raw).__name__
        known = "; ".join(f"{c}: {', '.join(names)}" for (c, _), names in LAYOUTS.items())
        raise CorpusError(f"{path}: found a {found}; expected one of these layouts. {known}.")
    return {"corpus": corpus} | dict(zip(LAYOUTS[corpus, len(raw)], raw, strict=True))


def _corpus(items: dict, path: Path) -> tuple[Corpus, list[tuple]]:
    """The corpus, and the (dialogue key, turn) of every row."""
    name, sentences = items["corpus"], items["sentences"] if isinstance(items["sentences"], Mapping) else {}
    labels = [items[k] for k in ("labels", "other labels") if isinstance(items.get(k), Mapping)]
    top = len(LABELS[name]) - 1
    labels = [of for of in labels if max((int(k) for turns in of.values() for k in turns), default=0) == top]
    if len(labels) != 1:
        raise CorpusError(
            f"{path}: found {len(labels)} label items with classes 0 to {top}; expected one. Another release?"
        )
    rows = [(d, t) for d in sorted(items["speakers"]) for t in range(len(labels[0][d]))]
    describe = _iemocap if name == "iemocap6" else _meld
    table = pd.DataFrame([describe(items, d, t) for d, t in rows])
    table["label"] = [int(labels[0][d][t]) for d, t in rows]
    table["text"] = [str(sentences[d][t]) if d in sentences else "" for d, t in rows]
    if name == "iemocap6":
        table["split"] = table["dialogue"].map(iemocap.default_split(table["dialogue"]))
    ours = {d for (d, _), split in zip(rows, table["split"], strict=True) if split == "test"}
    if ours != (theirs := set(items["test"])):
        raise CorpusError(f"{path}: {len(ours ^ theirs)} dialogues are test for it or for us only. Another release?")
    return build(name, table, source=f"{path.name}, sha256 {sha256(path)[:12]}"), rows


def _iemocap(items: dict, dialogue: str, turn: int) -> dict:
    speaker = dialogue[3:5] + items["speakers"][dialogue][turn]
    return {"utterance": str(items["ids"][dialogue][turn]), "dialogue": dialogue, "speaker": speaker}


def _meld(items: dict, dialogue: int, turn: int) -> dict:
    part = max((p for p, start in MELD_STARTS.items() if start <= dialogue), key=MELD_STARTS.get)
    name = f"{part}_{dialogue - MELD_STARTS[part]}"
    speaker = f"party{np.argmax(items['speakers'][dialogue][turn])}"
    split = "val" if part == "dev" else part
    return {"utterance": f"{name}_turn{turn}", "dialogue": name, "speaker": speaker, "split": split}


def _array(release: str, modality: str, of: Mapping, rows: list[tuple], path: Path) -> Array:
    """One modality's vectors in table order (n, d), with what is known of their origin."""
    try:
        values = np.stack([np.asarray(of[d][t], dtype=np.float32) for d, t in rows])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CorpusError(f"{path}: {modality} has no vector of one width for every turn: {error!r}.") from None
    extractor, trained_on = ORIGINS[release][modality]
    return Array(values, modality, extractor, version=f"{path.name}, sha256 {sha256(path)[:12]}", trained_on=trained_on)
