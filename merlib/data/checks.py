"""What every table of utterances must satisfy (`check_corpus`), and what the official release has (`expect`)."""

from functools import partial

import numpy as np
import pandas as pd

from merlib.data import official
from merlib.data.corpus import Corpus, CorpusError
from merlib.data.official import SPLITS


def check_corpus(corpus: Corpus) -> None:
    """Raise CorpusError unless ids are unique, labels and splits known, dialogues whole and turns 0, 1, 2, ...

    Speakers of IEMOCAP and RAVDESS have the names by which the protocols split them (`official.SPEAKERS`), and a
    dialogue of IEMOCAP belongs to one session. The six-class protocol of IEMOCAP tests on speakers that are not in the
    training set, which is checked; other corpora are split anew by every paper. Scores are in [-3, 3] and determine the
    label.
    """
    _check_structure(corpus)
    _check_speakers(corpus)
    _check_scores(corpus)


def _demand(corpus: Corpus, good: pd.Series, what: str, remedy: str) -> None:
    """Raise CorpusError unless all rows are good; the message counts the others and names the first three."""
    if not good.all():
        first = list(corpus.table["utterance"][~good][:3])
        raise CorpusError(f"{corpus.name}: {what}: {(~good).sum()} rows, first {first}. {remedy}")


def _check_structure(corpus: Corpus) -> None:
    """Check ids, labels, splits, dialogues and turns."""
    t, demand, last = corpus.table, partial(_demand, corpus), len(corpus.labels) - 1
    demand(~t["utterance"].duplicated(), "duplicate utterance ids", "Make them unique, from dialogue and turn.")
    demand(t["label"].between(-1, last), f"labels outside -1 to {last}", f"Map them to {corpus.labels}.")
    demand(t["split"].isin(SPLITS), f"splits other than {SPLITS}", "Map the source's names to these.")
    whole = t["split"] == t.groupby("dialogue")["split"].transform("first")
    demand(whole, "dialogues that cross splits", "Split by dialogue: context must not leak into the test set.")
    block = t["dialogue"].ne(t["dialogue"].shift()).cumsum()
    in_order = t["turn"] == t.groupby(block).cumcount()
    demand(in_order, "turns that are not 0, 1, 2, ...", "Sort by dialogue and turn; renumber.")
    demand(~t.duplicated(["dialogue", "turn"]), "dialogues in several pieces", "Put each dialogue's rows together.")


def _check_speakers(corpus: Corpus) -> None:
    """Check names and sessions of speakers, and that the test speakers of six-class IEMOCAP are in no other split."""
    t, demand, name = corpus.table, partial(_demand, corpus), corpus.name
    if name in official.SPEAKERS:
        good = t["speaker"].str.fullmatch(official.SPEAKERS[name])
        names = "01F to 05M, session and sex" if name.startswith("iemocap") else "01 to 24"
        demand(good, f"speakers such as {list(t['speaker'][~good][:1])}", f"Name them as the release does, {names}.")
    if name.startswith("iemocap"):
        session = t["speaker"].str[:2]
        same = session == session.groupby(t["dialogue"]).transform("first")
        demand(same, "dialogues of two sessions", "A dialogue is between the two speakers of a session: correct them.")
    if name in ("iemocap6", "iemocap6_majority"):
        tests = t["split"] == "test"
        unseen = ~tests | ~t["speaker"].isin(set(t["speaker"][~tests]))
        demand(unseen, "test speakers who also train", "Test on Session 5 only.")


def _check_scores(corpus: Corpus) -> None:
    """Check that scores are in range and determine the label, and that only sentiment corpora have them."""
    t, demand = corpus.table, partial(_demand, corpus)
    if corpus.name not in official.SENTIMENT:
        demand(t["score"].isna(), "scores where the corpus has none", f"Only {official.SENTIMENT} have them.")
        return
    good = t["score"].isna() | t["score"].between(-3, 3)
    demand(good, "scores outside -3 to 3", "Scale them, or leave them out.")
    rounded = t["label"] == official.sentiment_class(t["score"])
    demand(rounded, "labels that are not the rounded score", "Leave the label out: build makes it.")


def expect(corpus: Corpus) -> None:
    """Raise CorpusError unless the corpus has the utterances, dialogues and classes that `official` counts.

    Counts are of a split, or of a group of splits (`official.GROUPS`).
    """
    counts, name = corpus.counts(), corpus.name
    for by_split in counts.values():
        by_split |= {g: np.sum([by_split[s] for s in splits], axis=0).tolist() for g, splits in official.GROUPS.items()}
    classes, dialogues = official.CLASSES.get(name, {}), official.DIALOGUES.get(name, {})
    totals = official.UTTERANCES.get(name) or {group: sum(of_class) for group, of_class in classes.items()}
    wrong = []
    for group, total in totals.items():
        expected = (total, dialogues.get(group), list(classes[group]) if group in classes else None)
        actual = (counts["utterances"][group], counts["dialogues"][group], counts["classes"][group])
        actual = tuple(a if e is not None else None for a, e in zip(actual, expected, strict=True))
        if actual != expected and actual[0] != official.ALSO.get(name, {}).get(group):
            wrong.append(f"{group} has {_in_words(*actual)}; expected {_in_words(*expected)}")
    scored = int(corpus.table["score"].notna().sum())
    if scored < official.SCORED.get(name, 0):
        wrong.append(f"{scored} utterances have a score; expected {official.SCORED[name]} or more")
    if wrong:
        raise CorpusError(f"{name} from {corpus.source}: {'; '.join(wrong)}. {official.REMEDY[name]}")


def _in_words(utterances: int, dialogues: int | None, classes: list[int] | None) -> str:
    """The counts in words, without those that are None."""
    words = f"{utterances} utterances" + (f" in {dialogues} dialogues" if dialogues is not None else "")
    return words + (f", by class {classes}" if classes is not None else "")
