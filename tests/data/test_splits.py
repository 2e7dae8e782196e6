"""Protocols: who is tested, who trains, and that what must be unseen is."""

import numpy as np
import pandas as pd
import pytest

from merlib.data import splits
from merlib.data.table import CorpusError

ACTORS = [f"0{session}{sex}" for session in range(1, 6) for sex in "FM"]


@pytest.fixture(scope="module")
def iemocap():
    """Twelve dialogues a session, twenty turns each, both actors."""
    rows = [
        (f"Ses0{s}_d{d}_{t}", f"Ses0{s}_d{d}", f"0{s}{'FM'[t % 2]}", "test" if s == 5 else "val" if d < 2 else "train")
        for s in range(1, 6)
        for d in range(12)
        for t in range(20)
    ]
    return pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker", "split"])


@pytest.fixture(scope="module")
def ravdess():
    rows = [(f"{a:02d}_{c}", f"{a:02d}_{c}", f"{a:02d}") for a in range(1, 25) for c in range(60)]
    return pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker"])


def share(names: np.ndarray) -> dict[str, float]:
    return {name: float((names == name).mean()) for name in ("train", "val", "test")}


def test_ravdess_folds_test_every_actor_once_and_share_none(ravdess):
    tested = []
    for fold in range(splits.folds({"split": "actors"})):
        names = pd.Series(splits.assign(ravdess, {"split": "actors"}, fold))
        speakers = {name: set(ravdess["speaker"][names == name]) for name in ("train", "val", "test")}
        assert sum(map(len, speakers.values())) == 24  # disjoint, and everybody is somewhere
        tested += sorted(speakers["test"])
    assert sorted(tested) == sorted(set(ravdess["speaker"]))


def test_random_clips_are_6_2_2_and_test_every_clip_once(ravdess):
    names = [splits.assign(ravdess, {"split": "clips"}, fold) for fold in range(5)]
    assert (np.sum([n == "test" for n in names], axis=0) == 1).all()
    assert share(names[0]) == pytest.approx({"train": 0.6, "val": 0.2, "test": 0.2}, abs=0.01)


@pytest.mark.parametrize("validation", ["next_session", "random_10_percent"])
def test_each_session_is_held_out_once(iemocap, validation):
    session = iemocap["speaker"].str[1].astype(int)
    for fold in range(5):
        names = splits.assign(iemocap, {"split": "sessions", "validation": validation}, fold)
        assert set(session[names == "test"]) == {fold + 1} and (names[session == fold + 1] == "test").all()
        if validation == "next_session":
            assert set(session[names == "val"]) == {(fold + 1) % 5 + 1}
        else:
            assert pd.Series(names).groupby(iemocap["dialogue"]).nunique().max() == 1  # whole dialogues
            assert iemocap["dialogue"][names == "val"].nunique() == round(0.1 * 48)


def test_actors_rotate_with_their_partner_as_validation(iemocap):
    for fold, actor in enumerate(ACTORS):
        names = splits.assign(iemocap, {"split": "each_actor"}, fold)
        assert set(iemocap["speaker"][names == "test"]) == {actor}
        assert set(iemocap["speaker"][names == "val"]) == {actor[:2] + {"F": "M", "M": "F"}[actor[2]]}
    fixed = splits.assign(iemocap, {"split": "actor", "test_actor": "05M", "val_actor": "05F"})
    assert (fixed == splits.assign(iemocap, {"split": "each_actor"}, ACTORS.index("05M"))).all()


def test_session_5_tests_and_validation_is_the_tables_own_or_session_4(iemocap):
    own, fourth = (splits.assign(iemocap, {"split": "session5", "validation": v}) for v in ("corpus", "session_4"))
    assert (own == iemocap["split"]).all()
    assert ((fourth == "test") == (own == "test")).all() and set(iemocap["speaker"][fourth == "val"]) == {"04F", "04M"}


def test_without_a_validation_set_nothing_is_held_out_and_the_test_set_validates(iemocap):
    names = splits.assign(iemocap, {"split": "session5", "validation": "test"})
    assert set(names) == {"train", "test"} and (splits.members(names, "val") == (iemocap["split"] == "test")).all()
    own = splits.assign(iemocap, {"split": "session5", "validation": "corpus"})
    assert (splits.members(own, "val") == (own == "val")).all()


def test_random_811_has_its_shares(iemocap):
    assert share(splits.assign(iemocap, {"split": "random_811"})) == pytest.approx(
        {"train": 0.8, "val": 0.1, "test": 0.1}
    )


@pytest.mark.parametrize("split", ["random_811", "clips"])
def test_random_utterances_are_drawn_by_name_whatever_the_order_of_a_source(iemocap, split):
    shuffled = iemocap.sample(frac=1, random_state=0)
    names, again = (pd.Series(splits.assign(t, {"split": split}), t["utterance"]) for t in (iemocap, shuffled))
    assert names.equals(again[names.index])


def test_the_released_validation_draws_whole_dialogues_and_leaves_test_alone(iemocap):
    released = {"split": "corpus", "validation": "random_5_percent"}
    names = pd.Series(splits.assign(iemocap, released))
    assert ((names == "test") == (iemocap["split"] == "test")).all()
    assert (names.groupby(iemocap["dialogue"]).nunique() == 1).all()
    assert iemocap["dialogue"][names == "val"].nunique() == round(0.05 * 48)
    assert (names == splits.assign(iemocap, released)).all()


@pytest.mark.parametrize(
    ("protocol", "fold", "error", "message"),
    [
        ({"split": "leave_one_out"}, 0, ValueError, "there are"),
        ({"split": "sessions", "validation": "next_session"}, 5, ValueError, "folds 0 to 4"),
        ({"split": "corpus", "validation": "session_4"}, 0, ValueError, "random_5_percent"),
        ({"split": "actor", "test_actor": "06M", "val_actor": "05F"}, 0, CorpusError, "06M"),
    ],
)
def test_what_does_not_fit_is_refused(iemocap, protocol, fold, error, message):
    with pytest.raises(error, match=message):
        splits.assign(iemocap, protocol, fold)


def test_a_corpus_without_some_actors_has_fewer_folds_of_actors(iemocap):
    some = iemocap[iemocap["speaker"].str[:2].isin(["01", "02", "05"])]
    assert set(some["speaker"][splits.assign(some, {"split": "each_actor"}, 5) == "test"]) == {"05M"}
    with pytest.raises(CorpusError, match="'each_actor', fold 6: the corpus has 6 speakers, for folds 0 to 5; name"):
        splits.assign(some, {"split": "each_actor"}, 6)


def test_a_part_of_a_corpus_is_no_protocol(iemocap):
    with pytest.raises(CorpusError, match="whole corpus"):
        splits.assign(
            iemocap[iemocap["speaker"].str[:2] == "01"], {"split": "sessions", "validation": "next_session"}, 0
        )
