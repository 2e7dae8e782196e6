"""What the table of a corpus must be: whole and in order (`check_corpus`), and with the official counts (`expect`)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from merlib.data import official
from merlib.data.official import SPLITS
from merlib.errors import MerlibError, listed


class CorpusError(MerlibError, ValueError):
    """A corpus that is not as expected; the message says what was found, what was expected and what to do."""


def check_corpus(corpus: Any) -> None:
    """Raise CorpusError unless ids are unique, labels and splits known, dialogues whole and turns 0, 1, 2, ...

    Speakers of IEMOCAP and RAVDESS have the names by which the protocols split them (`official.SPEAKERS`), and a
    dialogue of IEMOCAP belongs to one session. The six-class protocol of IEMOCAP tests on speakers that are not in the
    training set, which is checked; other corpora are split anew by every paper. Scores are in [-3, 3] and determine the
    label; only sentiment corpora have them.
    """
    t, last = corpus.table, len(corpus.labels) - 1

    def demand(good: pd.Series, what: str, remedy: str) -> None:
        if not good.all():
            first = list(t["utterance"][~good][:3])
            raise CorpusError(f"{corpus.name}: {what}: {(~good).sum()} rows, first {listed(first)}. {remedy}")

    demand(~t["utterance"].duplicated(), "duplicate utterance ids", "Make them unique, from dialogue and turn.")
    demand(t["label"].between(-1, last), f"labels outside -1 to {last}", f"Map them to {listed(corpus.labels)}.")
    demand(t["split"].isin(SPLITS), f"splits other than {listed(SPLITS)}", "Map the source's names to these.")
    whole = t["split"] == t.groupby("dialogue")["split"].transform("first")
    demand(whole, "dialogues that cross splits", "Split by dialogue: context must not leak into the test set.")
    block = t["dialogue"].ne(t["dialogue"].shift()).cumsum()
    in_order = t["turn"] == t.groupby(block).cumcount()
    demand(in_order, "turns that are not 0, 1, 2, ...", "Sort by dialogue and turn; renumber.")
    demand(~t.duplicated(["dialogue", "turn"]), "dialogues in several pieces", "Put each dialogue's rows together.")
    _check_speakers(corpus.name, t, demand)
    if corpus.name not in official.SENTIMENT:
        demand(t["score"].isna(), "scores where the corpus has none", f"Only {listed(official.SENTIMENT)} have them.")
        return
    good = t["score"].isna() | t["score"].between(-3, 3)
    demand(good, "scores outside -3 to 3", "Scale them, or leave them out.")
    rounded = t["label"] == official.sentiment_class(t["score"])
    demand(rounded, "labels that are not the rounded score", "Leave the label out: build makes it.")


def _check_speakers(name: str, t: pd.DataFrame, demand: Callable) -> None:
    if name in official.SPEAKERS:
        good = t["speaker"].str.fullmatch(official.SPEAKERS[name])
        names = "01F to 05M, session and sex" if name.startswith("iemocap") else "01 to 24"
        demand(good, f"speakers such as {listed(t['speaker'][~good][:1])}", f"Name them as the release does, {names}.")
    if name.startswith("iemocap"):
        session = t["speaker"].str[:2]
        same = session == session.groupby(t["dialogue"]).transform("first")
        demand(same, "dialogues of two sessions", "A dialogue is between the two speakers of a session: correct them.")
    if name in ("iemocap6", "iemocap6_majority"):
        tests = t["split"] == "test"
        unseen = ~tests | ~t["speaker"].isin(set(t["speaker"][~tests]))
        demand(unseen, "test speakers who also train", "Test on Session 5 only.")


def expect(corpus: Any, *, partial: bool = False) -> Any:
    """The `table.Corpus`, if it has the utterances, dialogues and classes that `official` counts; else CorpusError.

    Counts are of a split, or of a group of splits (`official.GROUPS`). partial: it may also have fewer of each, which
    its source then says.
    """
    t, name = corpus.table, corpus.name
    classes, dialogues = official.CLASSES.get(name, {}), official.DIALOGUES.get(name, {})
    totals = official.UTTERANCES.get(name) or {group: sum(of_class) for group, of_class in classes.items()}
    wrong, too_many = [], False
    for group, total in totals.items():
        part = t[t["split"].isin(official.GROUPS.get(group, (group,)))]
        actual, expected = f"{len(part)} utterances", f"{total} utterances"
        too_many |= len(part) > total
        if group in dialogues:
            actual += f" in {part['dialogue'].nunique()} dialogues"
            expected += f" in {dialogues[group]} dialogues"
        if group in classes:
            of_class = [int((part["label"] == i).sum()) for i in range(len(corpus.labels))]
            actual += f", by class {listed(of_class)}"
            expected += f", by class {listed(classes[group])}"
            too_many |= any(n > most for n, most in zip(of_class, classes[group], strict=True))
        if actual != expected and len(part) != official.ALSO.get(name, {}).get(group):
            wrong.append(f"{group} has {actual}; expected {expected}")
    scored = int(t["score"].notna().sum())
    if scored < official.SCORED.get(name, 0):
        wrong.append(f"{scored} utterances have a score; expected {official.SCORED[name]} or more")
    if wrong and (partial or corpus.partial) and len(t) and not too_many:
        share = f"partial: {len(t)} of {sum(totals.values())} utterances"
        return corpus if corpus.partial else replace(corpus, source=f"{corpus.source}; {share}")
    if wrong:
        hint = "" if too_many or partial else " To import a part of the corpus, add --partial."
        raise CorpusError(f"{name} from {corpus.source}: {'; '.join(wrong)}. {official.REMEDY[name]}{hint}")
    return corpus
