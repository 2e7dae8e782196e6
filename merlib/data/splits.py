"""Protocols: the split of every utterance, train, val or test. One function per protocol; folds are counted from 0.

A recipe's section `protocol` names one in `split`, and in `validation` how validation is drawn where that is open:

    corpus      the column of the table; validation: corpus, random_5_percent (of train and val, as MultiEMO's code)
    session5    IEMOCAP: test on Session 5; validation: corpus (the column of the table, from the other sessions),
                session_4, or test (Session 5 again, with nothing held out, where a paper names no validation set)
    sessions    IEMOCAP, five folds: test on one session; validation: next_session, random_10_percent (of the other
                dialogues)
    actor       IEMOCAP: test on `test_actor`, validate on `val_actor`, train on all others
    each_actor  IEMOCAP, ten folds: test on each actor in turn, validate on the partner in the dialogues
    random_811  utterances at random, 8:1:1; splits share speakers and dialogues, as in much published work
    actors      RAVDESS, five folds of unseen actors (Luna-Jimenez et al. 2021): test on fold k, validate on fold k+1
    clips       RAVDESS, five folds of clips at random, 6:2:2; splits share speakers

`protocol.parts` cuts the training dialogues into so many parts at random, and `protocol.without` names the part that is
left out of training (from 1; 0 for none), so that an encoder can be fitted without the dialogues that it will encode.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from merlib.data.table import CorpusError
from merlib.errors import RequestError, listed, one_of

FOLDS = {"sessions": 5, "each_actor": 10, "actors": 5, "clips": 5}  # the others have one
ACTORS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
DRAWN = "protocol.validation of this split"
SEED = 2023  # of every random split here, so that a protocol is the same for all seeds of a study


def folds(protocol: dict[str, Any]) -> int:
    """How many folds a section `protocol` of a recipe has."""
    return FOLDS.get(protocol["split"], 1)


def assign(table: pd.DataFrame, protocol: dict[str, Any], fold: int = 0) -> np.ndarray:
    """train, val or test for every utterance of a table (u); without val, test also validates (see `members`).

    Raises RequestError for an unknown protocol or fold, CorpusError where the table does not fit the protocol.
    """
    split, validation = protocol["split"], protocol.get("validation", "corpus")
    draw = one_of(PROTOCOLS, split, "protocol.split")
    if not 0 <= fold < folds(protocol):
        raise RequestError(f"fold {fold}: protocol.split {split!r} has folds 0 to {folds(protocol) - 1}")
    names = draw(table, protocol, validation, fold)
    expected = {"train", "test"} if validation == "test" else {"train", "val", "test"}
    if empty := sorted(expected - set(names)):
        what = f"protocol.split {split!r}, fold {fold}: no utterance for {listed(empty)}"
        raise CorpusError(f"{what}; is this the whole corpus?")
    if without := protocol.get("without", 0):
        names = np.where(parts(table, names, protocol["parts"]) == without, "omitted", names)
    return names


def parts(table: pd.DataFrame, names: np.ndarray, number: int) -> np.ndarray:
    """The part of every training utterance (u), 1 to `number`, dialogue by dialogue; 0 where it does not train."""
    dialogues = np.sort(table["dialogue"][names == "train"].unique())
    if not 2 <= number <= len(dialogues):
        raise RequestError(f"protocol.parts {number}: expected 2 to {len(dialogues)}, the training dialogues")
    drawn = np.random.default_rng([SEED, number]).permutation(np.arange(len(dialogues)) % number) + 1
    part = table["dialogue"].map(dict(zip(dialogues, drawn, strict=True)))
    return np.where(names == "train", part.fillna(0), 0).astype(int)


def members(names: np.ndarray, part: str) -> np.ndarray:
    """Which utterances are train, val or test (`part`), from the names that `assign` gives: u bools."""
    return names == ("test" if part == "val" and "val" not in names else part)


def _corpus(table, protocol, validation, fold) -> np.ndarray:
    names = table["split"].to_numpy(str)
    if validation == "corpus":
        return names
    one_of(("corpus", "random_5_percent"), validation, DRAWN)
    pool = table.loc[names != "test", "dialogue"].unique()
    drawn = np.random.default_rng(SEED).permutation(pool)[: max(1, round(0.05 * len(pool)))]
    return np.where(names == "test", "test", np.where(table["dialogue"].isin(drawn), "val", "train"))


def _session5(table, protocol, validation, fold) -> np.ndarray:
    one_of(("corpus", "session_4", "test"), validation, DRAWN)
    if validation == "corpus":
        return table["split"].to_numpy(str)
    session = _session(table)
    val = session == 4 if validation == "session_4" else np.zeros(len(table), dtype=bool)
    return np.select([session == 5, val], ["test", "val"], "train")


def _sessions(table, protocol, validation, fold) -> np.ndarray:
    session = _session(table)
    test = session == fold + 1
    if validation == "next_session":
        val = session == (fold + 1) % 5 + 1
    else:
        one_of(("next_session", "random_10_percent"), validation, DRAWN)
        pool = table.loc[~test, "dialogue"].unique()
        drawn = np.random.default_rng([SEED, fold]).permutation(pool)[: max(1, round(0.1 * len(pool)))]
        val = table["dialogue"].isin(drawn).to_numpy()
    return np.select([test, val], ["test", "val"], "train")


def in_turn(speakers: Iterable[str], fold: int) -> dict[str, str]:
    """A fold of `each_actor` as the protocol `actor`; CorpusError where there are fewer speakers."""
    known = sorted(speakers)
    if fold >= len(known):
        what = f"protocol.split 'each_actor', fold {fold}: the corpus has {len(known)} speakers"
        raise CorpusError(f"{what}, for folds 0 to {len(known) - 1}; name these (--folds), or import all of it.")
    test = known[fold]
    return {"split": "actor", "test_actor": test, "val_actor": test[:-1] + {"F": "M", "M": "F"}[test[-1]]}


def _each_actor(table, protocol, validation, fold) -> np.ndarray:
    actor = in_turn(table["speaker"].unique(), fold)
    return _by_speaker(table, actor["test_actor"], actor["val_actor"])


def _actors(table, protocol, validation, fold) -> np.ndarray:
    actor = table["speaker"].astype(int)
    return np.select([actor.isin(ACTORS[fold]), actor.isin(ACTORS[(fold + 1) % 5])], ["test", "val"], "train")


def _by_speaker(table, test: str, val: str) -> np.ndarray:
    if unknown := sorted({test, val} - set(table["speaker"])):
        what = f"actors {listed(unknown)} are not in the corpus"
        raise CorpusError(f"{what}; it has {listed(sorted(table['speaker'].unique()))}")
    return np.select([table["speaker"] == test, table["speaker"] == val], ["test", "val"], "train")


def _at_random(table, *, parts: int, fold: int) -> np.ndarray:
    # in the order of the names, so that the split does not depend on the order of the rows in a source
    by_name = np.argsort(table["utterance"].to_numpy(str))
    part = np.empty(len(table), dtype=int)
    part[by_name] = np.random.default_rng([SEED, parts]).permutation(np.arange(len(table)) % parts)
    return np.select([part == fold, part == (fold + 1) % parts], ["test", "val"], "train")


def _session(table) -> np.ndarray:
    return table["speaker"].str[:2].astype(int).to_numpy()  # IEMOCAP's speakers are 01F to 05M


PROTOCOLS = {
    "corpus": _corpus, "session5": _session5, "sessions": _sessions, "each_actor": _each_actor, "actors": _actors,
    "actor": lambda table, protocol, *_: _by_speaker(table, protocol["test_actor"], protocol["val_actor"]),
    "random_811": lambda table, *_: _at_random(table, parts=10, fold=0),
    "clips": lambda table, protocol, validation, fold: _at_random(table, parts=5, fold=fold),
}  # fmt: skip
