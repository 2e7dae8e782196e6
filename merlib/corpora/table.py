"""One table of utterances for every corpus, and the checks that keep it honest.

Columns, one row per utterance, dialogues one after the other and turns in order within each:

    utterance  unique id                          label       index into `Corpus.labels`, -1 for none
    dialogue   id of the conversation             split       train, val or test
    turn       0, 1, 2, ... within the dialogue   start, end  seconds, NaN when unknown
    speaker    name or code of who speaks         text, audio, video  transcript; media paths below the source, "" for none
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora.files import atomic, sha256

SPLITS = ("train", "val", "test")
DTYPES = {
    "utterance": "str", "dialogue": "str", "turn": "int64", "speaker": "str", "label": "int64", "split": "str",
    "start": "float64", "end": "float64", "text": "str", "audio": "str", "video": "str",
}  # fmt: skip
LABELS = {
    "iemocap6": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "iemocap6_majority": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
}
MODALITIES = ("text", "audio", "visual")
# Published counts (MFCRE Table 1; the releases themselves). IEMOCAP names no validation split, so train and val count together.
OFFICIAL = {
    "iemocap6": {
        "utterances": {"train+val": 5810, "test": 1623},
        "dialogues": {"train+val": 120, "test": 31},
        "classes": dict(zip(LABELS["iemocap6"], (648, 1084, 1708, 1103, 1041, 1849), strict=True)),
    },
    "iemocap6_majority": {
        "classes": dict(zip(LABELS["iemocap6"], (595, 1084, 1708, 1103, 1041, 1849), strict=True)),
    },
    "meld": {
        "utterances": {"train": 9989, "val": 1109, "test": 2610},
        "dialogues": {"train": 1038, "val": 114, "test": 280},
        "classes": dict(zip(LABELS["meld"], (6436, 1636, 358, 1002, 2308, 361, 1607), strict=True)),
    },
}
REMEDY = {
    "iemocap6": (
        "7433 utterances with 648 happy ones are the conversational release (IEMOCAP_features.pkl, or a prepared table made from "
        "it). Majority labels of the raw release give 7380 with 595 happy: those are iemocap6_majority, never to be mixed."
    ),
    "iemocap6_majority": "Use the full release, Session1 to Session5, with every dialog/EmoEvaluation and dialog/transcriptions file.",
    "meld": "Use the three official files train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, unchanged.",
}


class CorpusError(ValueError):
    """A corpus that is not what it should be; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus: its table (see the module), its classes in label order, and where it came from."""

    name: str
    labels: tuple[str, ...]
    table: pd.DataFrame
    source: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Utterance ids in table order: the order of every feature array."""
        return tuple(self.table["utterance"])

    def counts(self) -> dict:
        """Utterances and dialogues per split, utterances per class, as plain numbers."""
        groups = self.table.groupby("split")
        utterances, dialogues = groups.size(), groups["dialogue"].nunique()
        classes = self.table["label"].value_counts()
        return {
            "utterances": {s: int(utterances.get(s, 0)) for s in SPLITS},
            "dialogues": {s: int(dialogues.get(s, 0)) for s in SPLITS},
            "classes": {name: int(classes.get(i, 0)) for i, name in enumerate(self.labels)},
        }


@dataclass(frozen=True, eq=False)
class Array:
    """One value (n, ...) per utterance, in table order, and what its passport will say of its origin.

    `trained_on` names the data (and labels) the extractor has learned from; `fitted_on` names the split that any further fit, such as
    a projection or a normalisation, has seen. Both are "unknown" when a release does not say.
    """

    values: np.ndarray
    modality: str
    extractor: str
    version: str = "unknown"
    weights_sha256: str = ""
    trained_on: str = "unknown"
    fitted_on: str = "unknown"


def build(name: str, rows: pd.DataFrame, source: str) -> Corpus:
    """Complete the columns of `rows` (missing start and end become NaN, missing text and media ""), set dtypes, and check."""
    missing = [c for c in ("utterance", "dialogue", "speaker", "label", "split") if c not in rows]
    if missing:
        raise CorpusError(f"{name}: columns {missing} are missing; found {sorted(rows)}; a table needs {sorted(DTYPES)}.")
    rows = rows.reset_index(drop=True)
    defaults = {"turn": rows.groupby("dialogue").cumcount(), "start": np.nan, "end": np.nan, "text": "", "audio": "", "video": ""}
    rows = rows.assign(**{c: v for c, v in defaults.items() if c not in rows})
    made = Corpus(name=name, labels=LABELS[name], table=rows[list(DTYPES)].astype(DTYPES), source=source)
    check(made)
    return made


def check(corpus: Corpus) -> None:
    """Raise CorpusError unless ids are unique, labels and splits known, dialogues whole and turns 0, 1, 2, ...

    IEMOCAP's protocol tests on actors that training never hears, so there the test speakers must be new.
    """
    t, name = corpus.table, corpus.name

    def demand(good: pd.Series, what: str, remedy: str) -> None:
        if not good.all():
            bad = t[~good]
            raise CorpusError(f"{name}: {what}: {len(bad)} rows, first {list(bad['utterance'][:3])}. {remedy}")

    demand(~t["utterance"].duplicated(), "duplicate utterance ids", "Ids must be unique; make them from dialogue and turn.")
    demand(t["label"].between(-1, len(corpus.labels) - 1), f"labels outside -1..{len(corpus.labels) - 1}", "Map them to classes.")
    demand(t["split"].isin(SPLITS), f"splits other than {SPLITS}", "Map the source's names to these.")
    first = t.groupby("dialogue")["split"].transform("first")
    demand(t["split"] == first, "dialogues that cross splits", "Split by dialogue: context must not leak into the test set.")
    turn = t["dialogue"].ne(t["dialogue"].shift()).cumsum().pipe(lambda run: t.groupby(run).cumcount())
    demand(t["turn"] == turn, "turns that are not 0, 1, 2, ... in order", "Sort by dialogue and turn, and number them anew.")
    heads = t[t["turn"] == 0]["dialogue"]
    demand(~t["dialogue"].isin(heads[heads.duplicated()]), "dialogues in several pieces", "Put each dialogue's rows together.")
    if name.startswith("iemocap"):
        heard = set(t.loc[t["split"] != "test", "speaker"])
        demand(~((t["split"] == "test") & t["speaker"].isin(heard)), "test speakers who also train", "Test on Session 5 only.")


def expect(corpus: Corpus) -> None:
    """Raise CorpusError unless the counts are those that the corpus is known by (`OFFICIAL`)."""
    found = corpus.counts()
    for part in ("utterances", "dialogues"):
        found[part]["train+val"] = found[part]["train"] + found[part]["val"]
    wrong = [
        f"{part} {key}: found {found[part][key]}, expected {n}"
        for part, numbers in OFFICIAL[corpus.name].items()
        for key, n in numbers.items()
        if found[part][key] != n
    ]
    if wrong:
        raise CorpusError(f"{corpus.name} from {corpus.source}: {'; '.join(wrong)}. {REMEDY[corpus.name]}")


def save(corpus: Corpus, folder: Path) -> None:
    """Write `utterances.parquet` and `corpus.json` (which holds the parquet's hash) into `folder`, each atomically."""
    folder = Path(folder)
    with atomic(folder / "utterances.parquet") as part:
        corpus.table.to_parquet(part, index=False)
        digest = sha256(part)
    about = {"name": corpus.name, "labels": corpus.labels, "source": corpus.source, "table_sha256": digest, **corpus.counts()}
    with atomic(folder / "corpus.json") as part:
        part.write_text(json.dumps(about, indent=1) + "\n")


def load(folder: Path) -> Corpus:
    """Read what `save` wrote; a missing, damaged or mixed pair of files is a CorpusError."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "corpus.json").read_text())
        digest = sha256(folder / "utterances.parquet")
    except FileNotFoundError as error:
        raise CorpusError(f"{error.filename} is not there; import the corpus again: merlib data import.") from None
    except json.JSONDecodeError as error:
        raise CorpusError(f"{folder / 'corpus.json'} is damaged ({error}); import the corpus again.") from None
    if digest != about["table_sha256"]:
        raise CorpusError(
            f"{folder / 'utterances.parquet'} has sha256 {digest[:12]}, corpus.json expects {about['table_sha256'][:12]}: "
            "a damaged file or two imports mixed; delete the folder and import the corpus again."
        )
    table = pd.read_parquet(folder / "utterances.parquet").astype(DTYPES)
    loaded = Corpus(name=about["name"], labels=tuple(about["labels"]), table=table, source=about["source"])
    check(loaded)
    return loaded
