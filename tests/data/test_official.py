"""The official counts are those of the releases, and a copy with another count is refused."""

import tomllib

import numpy as np
import pandas as pd
import pytest

from merlib.data import official, table
from merlib.data.table import CorpusError
from merlib.places import CHECKOUT
from merlib.twins import dialogues, sequences


def test_official_counts_are_those_of_the_published_table():
    total = {name: np.sum(list(parts.values()), axis=0).tolist() for name, parts in official.CLASSES.items()}
    assert total["iemocap6"] == [648, 1084, 1708, 1103, 1041, 1849] and sum(total["iemocap6"]) == 7433
    assert dict(zip(official.LABELS["meld"], total["meld"], strict=True)) == {
        "joy": 2308, "sadness": 1002, "neutral": 6436, "anger": 1607, "disgust": 361, "fear": 358, "surprise": 1636,
    }  # fmt: skip
    assert sum(total["iemocap6_majority"]) == 7380
    assert [sum(total[name]) for name in ("iemocap4", "iemocap8", "ravdess")] == [5531, 7529, 1440]
    assert all(len(total[name]) == len(official.LABELS[name]) for name in total)
    assert all(len(set(facts)) == 8 for facts in (official.LABELS, official.REMEDY, official.ACCESS))
    assert set(official.LABELS) == set(official.CLASSES) | set(official.UTTERANCES)


def test_the_splits_of_mosei_are_those_that_are_printed():
    path = CHECKOUT / "papers" / "hff" / "tables" / "table1.toml"
    row = tomllib.loads(path.read_text())["row"][0]["reported"]
    assert {s: str(n) for s, n in official.UTTERANCES["mosei"].items()} == {s: row[s] for s in official.SPLITS}


def test_the_real_releases_have_the_official_counts(shared_data):
    rows = pd.read_csv(shared_data / "iemocap" / "utterances.csv")
    short = {"hap": "happy", "exc": "excited", "fru": "frustrated", "neu": "neutral", "ang": "angry", "fea": "fearful"}
    short |= {"sad": "sad", "sur": "surprised", "dis": "disgust"}
    for name, merged in (("iemocap8", {}), ("iemocap4", {"excited": "happy"})):
        classes = rows["emotion"].map(short).replace(merged)
        labelled = classes.isin(official.LABELS[name])
        counts = classes[labelled].value_counts().reindex(official.LABELS[name])
        assert tuple(counts) == official.CLASSES[name]["all"]
        assert rows["dialogue"][labelled].nunique() == official.DIALOGUES[name]["all"]
    clips = [int(f.name.split("-")[2]) for f in shared_data.glob("ravdess/Actor_*/03-01-*")]
    assert tuple(np.bincount(clips)[1:]) == official.CLASSES["ravdess"]["all"]
    with np.load(shared_data / "mosi" / "utterances.npz") as mosi:
        assert len(mosi["id"]) == official.UTTERANCES["mosi"]["all"] and np.isnan(mosi["y"]).sum() == 4
        assert len(set(mosi["video"])) == official.DIALOGUES["mosi"]["all"] == sum(sequences.MOSI_VIDEOS.values())
        every = np.bincount(official.sentiment_class(mosi["y"]) + 1)[1:]
        test = np.bincount(official.sentiment_class(mosi["y"][mosi["split_official"] == "test"]))
    assert tuple(every) == tuple(np.sum(list(sequences.MOSI_SCORES.values()), axis=0))
    assert tuple(test) == sequences.MOSI_SCORES["test"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("iemocap4", "all has 5530 utterances in 151 dialogues, by class 1635, .*; expected 5531 .*5531 utterances"),
        ("ravdess", "all has 1439 utterances in 1439 dialogues.*expected 1440.*all 24 actors"),
        ("mosi", "all has 2198 utterances in 93 dialogues; expected 2199 utterances in 93 dialogues."),
        ("mosei", "test has 4661 utterances; expected 4662 utterances."),
    ],
)
def test_one_utterance_too_few_is_noticed_where_splits_are_free(name, message):
    corpus, _ = dialogues.make(name)
    table.expect(corpus)
    with pytest.raises(CorpusError, match=message):
        table.expect(table.Corpus(name, corpus.labels, corpus.table.iloc[:-1], "a copy"))


def test_one_utterance_too_few_is_noticed():
    corpus, _ = dialogues.make("meld")
    short = table.Corpus(corpus.name, corpus.labels, corpus.table.iloc[:-1], "a copy")
    with pytest.raises(
        CorpusError, match="test has 2609 utterances in 280 dialogues.*expected 2610 utterances in 280 dialogues"
    ):
        table.expect(short)


def test_majority_labels_cannot_pass_for_the_conversational_release():
    corpus, _ = dialogues.make("iemocap6")
    lost = corpus.table.index[corpus.table["label"] == 0][:53]
    rows = corpus.table.drop(index=lost).drop(columns="turn")
    with pytest.raises(CorpusError, match="595 happy: they are iemocap6_majority"):
        table.expect(table.build("iemocap6", rows, "a copy"))
