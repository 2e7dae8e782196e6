"""One table of utterances for every corpus, and the checks that keep it honest.

Columns, one row per utterance, dialogues one after the other and turns in order within each:

    utterance  unique id                          label       index into `Corpus.labels`, -1 for none
    dialogue   id of the conversation             split       train, val or test
    turn       0, 1, 2, ... within the dialogue   start, end  seconds, NaN when unknown
    speaker    name or code of who speaks         text, audio, video  transcript; media paths below the source; or ""
    score      sentiment in [-3, 3] of the corpora `official.SENTIMENT`, whose labels follow from it; NaN elsewhere
"""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data import official
from merlib.data.official import SPLITS
from merlib.errors import MerlibError
from merlib.files import atomic, sha256

DTYPES = {
    "utterance": "str", "dialogue": "str", "turn": "int64", "speaker": "str", "label": "int64", "split": "str",
    "start": "float64", "end": "float64", "text": "str", "audio": "str", "video": "str", "score": "float64",
}  # fmt: skip
MODALITIES = ("text", "audio", "visual")


class CorpusError(MerlibError, ValueError):
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
        """Utterances, dialogues and utterances of each class, per split and as plain numbers."""
        parts = {s: self.table[self.table["split"] == s] for s in SPLITS}
        return {
            "utterances": {s: len(part) for s, part in parts.items()},
            "dialogues": {s: part["dialogue"].nunique() for s, part in parts.items()},
            "classes": {
                s: [int((part["label"] == i).sum()) for i in range(len(self.labels))] for s, part in parts.items()
            },
        }


@dataclass(frozen=True, eq=False)
class Array:
    """One value (n, ...) per utterance, in table order, and what its passport will say of its origin.

    Sequences have `lengths` (n, int64), the steps of each utterance, at least one: then the values are
    (sum of lengths, ...), the steps of one utterance one after the other, utterances in table order.

    `trained_on` names the data and labels that the extractor has learned from; `fitted_on` names the split that any
    further fit, such as a projection or a normalisation, has seen. Both are "unknown" when a release does not say.
    `failed` names the utterances whose recording could not be used: their row is zeros. `inputs` is a hash of what an
    extraction has read and of its settings, so that the same is not computed twice. `layers_above` is how many layers
    of an encoder these states have yet to pass (0: all are passed).
    """

    values: np.ndarray
    modality: str
    extractor: str
    version: str = "unknown"
    weights_sha256: str = ""
    trained_on: str = "unknown"
    fitted_on: str = "unknown"
    lengths: np.ndarray | None = None
    failed: tuple[str, ...] = ()
    inputs: str = ""
    layers_above: int = 0


def build(name: str, rows: pd.DataFrame, source: str) -> Corpus:
    """The corpus `name` from `rows`, checked; columns that are missing are completed, but for the five `needed`.

    The label of a sentiment corpus is that of its column `score`.
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
    check(corpus)
    return corpus


def check(corpus: Corpus) -> None:
    """Raise CorpusError unless ids are unique, labels and splits known, dialogues whole and turns 0, 1, 2, ...

    Speakers of IEMOCAP and RAVDESS are named as their protocols split them (`official.SPEAKERS`), and a dialogue of
    IEMOCAP is of one session. The six-class protocol of IEMOCAP tests on actors whom training never hears, so there the
    test speakers must be new; the other corpora are split by every paper anew. Scores are in [-3, 3] and settle the
    label.
    """
    _check_structure(corpus)
    _check_speakers(corpus)
    _check_scores(corpus)


def _demand(corpus: Corpus, good: pd.Series, what: str, remedy: str) -> None:
    """CorpusError that counts the rows which are not good, and names the first ones."""
    if not good.all():
        first = list(corpus.table["utterance"][~good][:3])
        raise CorpusError(f"{corpus.name}: {what}: {(~good).sum()} rows, first {first}. {remedy}")


def _check_structure(corpus: Corpus) -> None:
    """Ids, labels, splits, dialogues and turns."""
    t, demand, last = corpus.table, partial(_demand, corpus), len(corpus.labels) - 1
    demand(~t["utterance"].duplicated(), "duplicate utterance ids", "Make them unique, from dialogue and turn.")
    demand(t["label"].between(-1, last), f"labels outside -1 to {last}", f"Map them to {corpus.labels}.")
    demand(t["split"].isin(SPLITS), f"splits other than {SPLITS}", "Map the source's names to these.")
    whole = t["split"] == t.groupby("dialogue")["split"].transform("first")
    demand(whole, "dialogues that cross splits", "Split by dialogue: context must not leak into the test set.")
    run = t["dialogue"].ne(t["dialogue"].shift()).cumsum()
    counted = t["turn"] == t.groupby(run).cumcount()
    demand(counted, "turns that are not 0, 1, 2, ...", "Sort by dialogue and turn; renumber.")
    demand(~t.duplicated(["dialogue", "turn"]), "dialogues in several pieces", "Put each dialogue's rows together.")


def _check_speakers(corpus: Corpus) -> None:
    """Names of speakers as the protocols split them, sessions, and who trains beside who tests."""
    t, demand, name = corpus.table, partial(_demand, corpus), corpus.name
    if name in official.SPEAKERS:
        named = t["speaker"].str.fullmatch(official.SPEAKERS[name])
        people = "01F to 05M, session and sex" if name.startswith("iemocap") else "01 to 24"
        demand(named, f"speakers such as {list(t['speaker'][~named][:1])}", f"Name them as the release does, {people}.")
    if name.startswith("iemocap"):
        session = t["speaker"].str[:2]
        one = session == session.groupby(t["dialogue"]).transform("first")
        demand(one, "dialogues of two sessions", "A dialogue is between the two speakers of one session: correct them.")
    if name in ("iemocap6", "iemocap6_majority"):
        tests = t["split"] == "test"
        new = ~tests | ~t["speaker"].isin(set(t["speaker"][~tests]))
        demand(new, "test speakers who also train", "Test on Session 5 only.")


def _check_scores(corpus: Corpus) -> None:
    """Scores of the sentiment corpora, which settle the label; other corpora have none."""
    t, demand = corpus.table, partial(_demand, corpus)
    if corpus.name not in official.SENTIMENT:
        demand(t["score"].isna(), "scores where the corpus has none", f"Only {official.SENTIMENT} have them.")
        return
    good = t["score"].isna() | t["score"].between(-3, 3)
    demand(good, "scores outside -3 to 3", "Scale them, or leave them out.")
    rounded = t["label"] == official.sentiment_class(t["score"])
    demand(rounded, "labels that are not the rounded score", "Leave the label out: build makes it.")


def expect(corpus: Corpus) -> None:
    """Raise CorpusError unless every group of splits has as many dialogues, and of each class, as `official` says."""
    found, name = corpus.counts(), corpus.name
    for counts in found.values():
        counts |= {g: np.sum([counts[s] for s in splits], axis=0).tolist() for g, splits in official.GROUPS.items()}
    classes, dialogues = official.CLASSES.get(name, {}), official.DIALOGUES.get(name, {})
    totals = official.UTTERANCES.get(name) or {group: sum(numbers) for group, numbers in classes.items()}
    wrong = []
    for group, total in totals.items():
        said = (total, dialogues.get(group), list(classes[group]) if group in classes else None)
        here = (found["utterances"][group], found["dialogues"][group], found["classes"][group])
        here = tuple(h if s is not None else None for h, s in zip(here, said, strict=True))
        if here != said and here[0] != official.ALSO.get(name, {}).get(group):
            wrong.append(f"{group} has {_counted(*here)}; expected {_counted(*said)}")
    scored = int(corpus.table["score"].notna().sum())
    if scored < official.SCORED.get(name, 0):
        wrong.append(f"{scored} utterances have a score; expected {official.SCORED[name]} or more")
    if wrong:
        raise CorpusError(f"{name} from {corpus.source}: {'; '.join(wrong)}. {official.REMEDY[name]}")


def _counted(utterances: int, dialogues: int | None, classes: list[int] | None) -> str:
    """The counts in words, but for those that are None."""
    words = f"{utterances} utterances" + (f" in {dialogues} dialogues" if dialogues is not None else "")
    return words + (f", by class {classes}" if classes is not None else "")


def located(corpus: Corpus, layout: Corpus) -> Corpus:
    """`corpus` with the recordings and times that `layout`, the same utterances read elsewhere, has of them."""
    found = layout.table.set_index("utterance")
    if absent := [u for u in corpus.ids if u not in found.index]:
        raise CorpusError(f"{corpus.name}: {layout.source} has not {len(absent)} utterances, first {absent[:3]}.")
    rows = found.loc[list(corpus.ids), ["audio", "video", "start", "end"]].reset_index(drop=True)
    return replace(corpus, table=corpus.table.assign(**rows))


def save(corpus: Corpus, folder: Path) -> None:
    """Write `utterances.parquet` and `corpus.json` (which holds the parquet's hash) into `folder`, each atomically."""
    folder = Path(folder)
    with atomic(folder / "utterances.parquet") as part:
        corpus.table.to_parquet(part, index=False)
        digest = sha256(part)
    about = {
        "name": corpus.name,
        "labels": corpus.labels,
        "source": corpus.source,
        "table_sha256": digest,
        **corpus.counts(),
    }
    with atomic(folder / "corpus.json") as part:
        part.write_text(json.dumps(about, indent=1) + "\n")


def load(folder: Path) -> Corpus:
    """Read what `save` wrote; a missing, damaged or mixed pair of files is a CorpusError."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "corpus.json").read_text())
        found, said = sha256(folder / "utterances.parquet"), about["table_sha256"]
    except FileNotFoundError as error:
        raise CorpusError(f"{error.filename} is not there; import the corpus again.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CorpusError(
            f"{folder / 'corpus.json'} is damaged ({error!r}); delete it and import the corpus again."
        ) from None
    if found != said:
        what = f"{folder / 'utterances.parquet'} has sha256 {found[:12]}, corpus.json expects {said[:12]}"
        raise CorpusError(f"{what}: damaged, or two imports mixed; delete {folder} and import the corpus again.")
    table = pd.read_parquet(folder / "utterances.parquet")
    if list(table) != list(DTYPES):
        what = f"has columns {list(table)}, expected {list(DTYPES)}: written by another version"
        raise CorpusError(f"{folder / 'utterances.parquet'} {what}; delete {folder} and import the corpus again.")
    table = table.astype(DTYPES)
    corpus = Corpus(name=about["name"], labels=tuple(about["labels"]), table=table, source=about["source"])
    check(corpus)
    return corpus


def source(folder: Path) -> str:
    """Where the corpus saved in `folder` came from, by its `corpus.json` alone; "" where that says nothing."""
    try:
        return json.loads((Path(folder) / "corpus.json").read_text())["source"]
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""
