"""Public feature releases are pickles, and a pickle can run any code: these are read by an unpickler that admits data only, and converted.

- conv-emotion `IEMOCAP_features.pkl`, nine items: ids, speakers (M, F), labels, text (100), audio (100), visual (512), sentences, train, test.
- conv-emotion `MELD_features_raw.pkl`, nine items: ids, speakers (one-hot of nine), labels, text (600), audio (300), sentences, train, test,
  labels; `MELD_features_raw1.pkl` of its successors, ten items, has visual (342) after audio. One of the two labels items is the emotions, the
  other the sentiments. Dialogues are 0 to 1432: 1039 of train (an empty one is left out), 114 of dev from 1039 on, 280 of test from 1153 on.
- MultiEMO `Data/IEMOCAP/` or `Data/MELD/`: `Speakers.pkl`, one of the tuples above (of nine or ten items), and `TextFeatures.pkl`,
  `AudioFeatures.pkl`, `VisualFeatures.pkl`.

Every item but train and test is a dictionary of dialogue -> one entry a turn. Layouts are those that the released training scripts read; an
import checks counts against the official ones. Text vectors of both releases come from networks fine-tuned on the labels of these corpora.
"""

import collections
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import iemocap
from merlib.corpora.files import sha256
from merlib.corpora.table import LABELS, Array, Corpus, CorpusError, build

LAYOUTS = {
    ("iemocap6", 9): ("ids", "speakers", "labels", "text", "audio", "visual", "sentences", "train", "test"),
    ("meld", 9): ("ids", "speakers", "labels", "text", "audio", "sentences", "train", "test", "other_labels"),
    ("meld", 10): (
        "ids",
        "speakers",
        "labels",
        "text",
        "audio",
        "visual",
        "sentences",
        "train",
        "test",
        "other_labels",
    ),
}
MELD_STARTS = {"train": 0, "dev": 1039, "test": 1153}
LEARNED = "the labels of this corpus"
ORIGINS = {  # release, corpus, modality: extractor, what it has learned from
    ("conv-emotion", "iemocap6", "text"): ("conv-emotion text CNN", LEARNED),
    ("conv-emotion", "iemocap6", "audio"): ("conv-emotion openSMILE", "unknown"),
    ("conv-emotion", "iemocap6", "visual"): ("conv-emotion 3D-CNN", "unknown"),
    ("conv-emotion", "meld", "text"): ("conv-emotion text CNN", LEARNED),
    ("conv-emotion", "meld", "audio"): ("conv-emotion openSMILE, selected", LEARNED),
    ("conv-emotion", "meld", "visual"): ("MELD_features_raw1 visual", "unknown"),
    ("MultiEMO", "iemocap6", "text"): ("MultiEMO EmoBERTa", LEARNED),
    ("MultiEMO", "iemocap6", "audio"): ("MultiEMO openSMILE, reduced", "unknown"),
    ("MultiEMO", "iemocap6", "visual"): ("MultiEMO VisExtNet", "faces (MTCNN) and pictures (ResNet-101)"),
}
ORIGINS |= {(r, "meld", m): o for (r, c, m), o in ORIGINS.items() if (r, c) == ("MultiEMO", "iemocap6")}


class UnsafePickle(ValueError):
    """A pickle that asks for more than data; nothing of what it asked for was run."""


def _latin1(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, which old protocols use to write bytes, and does that only."""
    if encoding != "latin1":
        raise UnsafePickle(
            f"a pickle asks to encode text as {encoding!r}; only latin1, the way of plain bytes, is admitted."
        )
    return text.encode("latin1")


_RECONSTRUCT, _SCALAR, _FROMBUFFER = (
    f[0] for f in (np.empty(0).__reduce__(), np.float32(0).__reduce__(), np.empty(0).__reduce_ex__(5))
)
ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROMBUFFER for core in ("core", "_core")},
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    **{("builtins", kind.__name__): kind for kind in (dict, list, tuple, set, frozenset)},
}


class _DataOnly(pickle.Unpickler):
    """Looks globals up in `ADMITTED`, by exact name; it imports nothing and follows no dots."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ADMITTED:
            raise UnsafePickle(
                f"the pickle asks for {module}.{name}; only containers, numbers, strings and numpy arrays are admitted. Do not load it "
                "with pickle. Ask whoever gave it to you for npz or CSV files, and write a prepared table (merlib/corpora/prepared.py)."
            )
        return ADMITTED[module, name]


def load(path: Path):
    """The data in a pickle (Python 2 or 3, any numpy), or UnsafePickle; CorpusError when it is damaged."""
    try:
        with Path(path).open("rb") as file:
            return _DataOnly(file, encoding="latin1").load()
    except UnsafePickle as error:
        raise UnsafePickle(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CorpusError(f"{path} is not there. Get the release again, or correct the path.") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise CorpusError(
            f"{path}: damaged or no pickle ({type(error).__name__}: {error}). Get the release again."
        ) from error


def conv_emotion(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and features of IEMOCAP_features.pkl, MELD_features_raw.pkl or MELD_features_raw1.pkl."""
    items = _items(path)
    corpus, rows = _corpus(items, path)
    values = {m: items[m] for m in ("text", "audio", "visual") if m in items}
    return corpus, _arrays("conv-emotion", values, corpus, rows, {m: Path(path) for m in values})


def multiemo(folder: Path) -> tuple[Corpus, dict[str, Array]]:
    """Corpus and features of a MultiEMO folder Data/IEMOCAP or Data/MELD."""
    folder = Path(folder)
    corpus, rows = _corpus(_items(folder / "Speakers.pkl"), folder / "Speakers.pkl")
    files = {m: folder / f"{m.capitalize()}Features.pkl" for m in ("text", "audio", "visual")}
    return corpus, _arrays("MultiEMO", {m: load(f) for m, f in files.items()}, corpus, rows, files)


def _items(path: Path) -> dict:
    """The items of a release by name, with its corpus."""
    raw = load(path)
    if not isinstance(raw, (tuple, list)) or len(raw) < 3 or not isinstance(raw[1], Mapping) or not raw[1]:
        raise CorpusError(
            f"{path}: expected a tuple of dictionaries (dialogue -> turns), found {type(raw).__name__}. {_layouts()}"
        )
    corpus = "iemocap6" if str(next(iter(raw[1]))).startswith("Ses") else "meld"
    if (corpus, len(raw)) not in LAYOUTS:
        raise CorpusError(f"{path}: {corpus} with {len(raw)} items. {_layouts()}")
    return {"corpus": corpus, **dict(zip(LAYOUTS[corpus, len(raw)], raw, strict=True))}


def _layouts() -> str:
    return "Known layouts: " + "; ".join(f"{c}: {', '.join(items)}" for (c, _), items in LAYOUTS.items()) + "."


def _corpus(items: dict, path: Path) -> tuple[Corpus, list[tuple[object, int]]]:
    """The corpus, and the (dialogue key, turn) of each of its rows."""
    corpus, dialogues = items["corpus"], sorted(items["speakers"])
    candidates = [items[k] for k in ("labels", "other_labels") if isinstance(items.get(k), Mapping)]
    emotions = [
        d
        for d in candidates
        if max((int(x) for turns in d.values() for x in turns), default=0) == len(LABELS[corpus]) - 1
    ]
    if len(emotions) != 1:
        raise CorpusError(
            f"{path}: {len(emotions)} of its label items have {len(LABELS[corpus])} classes; expected one. {_layouts()}"
        )
    rows = [(d, t) for d in dialogues for t in range(len(emotions[0][d]))]
    sentences = items["sentences"] if isinstance(items["sentences"], Mapping) else {}
    made = [{"label": int(emotions[0][d][t]), "text": str(sentences[d][t]) if d in sentences else ""} for d, t in rows]
    name = _iemocap_row if corpus == "iemocap6" else _meld_row
    table = pd.DataFrame([row | name(items, d, t) for row, (d, t) in zip(made, rows, strict=True)])
    if corpus == "iemocap6":
        table["split"] = table["dialogue"].map(iemocap.default_split(table["dialogue"]))
    if set(items["test"]) != {d for (d, _), s in zip(rows, table["split"], strict=True) if s == "test"}:
        raise CorpusError(
            f"{path}: its test dialogues are not those of {corpus}'s protocol; found {len(set(items['test']))}."
        )
    return build(corpus, table, source=f"{Path(path).name}, sha256 {sha256(path)[:12]}"), rows


def _iemocap_row(items: dict, dialogue: str, turn: int) -> dict:
    return {
        "utterance": str(items["ids"][dialogue][turn]),
        "dialogue": dialogue,
        "speaker": dialogue[3:5] + items["speakers"][dialogue][turn],
    }


def _meld_row(items: dict, dialogue: int, turn: int) -> dict:
    part = max((p for p in MELD_STARTS if MELD_STARTS[p] <= dialogue), key=MELD_STARTS.get)
    name = f"{part}_{dialogue - MELD_STARTS[part]}"
    speaker = f"party{int(np.argmax(items['speakers'][dialogue][turn]))}"
    return {
        "utterance": f"{name}_turn{turn}",
        "dialogue": name,
        "speaker": speaker,
        "split": "val" if part == "dev" else part,
    }


def _arrays(release: str, values: dict, corpus: Corpus, rows: list, files: dict[str, Path]) -> dict[str, Array]:
    """Each modality's vectors in table order, with what is known of their origin."""
    arrays = {}
    for modality, of in values.items():
        try:
            stacked = np.stack([np.asarray(of[d][t], dtype=np.float32) for d, t in rows])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{files[modality]}: {modality} has no vector of one width for every turn ({error!r})."
            ) from None
        extractor, trained_on = ORIGINS[release, corpus.name, modality]
        version = f"{files[modality].name}, sha256 {sha256(files[modality])[:12]}"
        arrays[modality] = Array(stacked, modality, extractor, version=version, trained_on=trained_on)
    return arrays
