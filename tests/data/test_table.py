"""The table of a corpus: its checks, the official counts, and what is saved and loaded."""

import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from merlib.data import official, table
from merlib.data.table import CorpusError


def _with(corpus, **columns):
    return table.Corpus(corpus.name, corpus.labels, corpus.table.assign(**columns), corpus.source)


BREAKS = {
    "duplicate utterance ids": lambda t: {"utterance": t["utterance"].where(t.index != 1, t["utterance"][0])},
    "labels outside": lambda t: {"label": t["label"].where(t.index != 0, 6)},
    "splits other than": lambda t: {"split": t["split"].where(t.index != 0, "dev")},
    "dialogues that cross splits": lambda t: {"split": t["split"].where(t.index != 0, "test")},
    "turns that are not": lambda t: {"turn": t["turn"].where(t.index != 3, 7)},
    "dialogues in several pieces": lambda t: {
        "dialogue": t["dialogue"].where(t["dialogue"] != t["dialogue"].iloc[-1], t["dialogue"][0]),
        "split": "train",
    },
    "test speakers who also train": lambda t: {"split": t["split"].mask(t["dialogue"] == t["dialogue"][0], "test")},
    "speakers such as 1": lambda t: {"speaker": t["speaker"].replace("03M", "1")},
    "dialogues of two sessions": lambda t: {"speaker": t["speaker"].replace("03M", "04M")},
    "scores where the corpus has none": lambda t: {"score": t["score"].where(t.index != 2, 1.0)},
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_table_is_refused_and_the_rows_are_named(small, what):
    corpus = small["iemocap6"]
    table.check_corpus(corpus)
    with pytest.raises(CorpusError, match=f"{what}.*first"):
        table.check_corpus(_with(corpus, **BREAKS[what](corpus.table)))


def test_actors_of_ravdess_are_numbered_as_the_release_does(small):
    zero = small["ravdess"].table["speaker"].astype(int).sub(1).map("{:02d}".format)
    with pytest.raises(CorpusError, match="speakers such as 00.*01 to 24"):
        table.check_corpus(_with(small["ravdess"], speaker=zero))


def test_speakers_may_return_where_the_protocol_allows_it(small):
    table.check_corpus(_with(small["meld"], speaker="Joey"))
    for name in ("iemocap4", "iemocap8"):
        dialogue = small[name].table["dialogue"]
        table.check_corpus(_with(small[name], split=np.where(dialogue.str.endswith("1"), "test", "train")))


def test_a_score_settles_the_class_and_halves_go_to_the_even_one():
    scores = [-3, -2.6, -2.5, -1.5, -0.6, -0.5, 0, 0.4, 0.5, 1.5, 2.5, 2.6, 3, np.nan]
    classes = [official.SCORES[k] if k >= 0 else "" for k in official.sentiment_class(scores)]
    assert classes == ["-3", "-3", "-2", "-2", "-1", "0", "0", "0", "0", "2", "2", "3", "3", ""]
    values = np.random.default_rng(0).uniform(-3, 3, 1000)
    assert (np.abs(official.sentiment_class(values) - 3 - values) <= 0.5).all()
    assert official.sentiment_class([-9, 9.0]).tolist() == [0, 6]


def test_a_sentiment_corpus_is_built_from_its_scores_and_checked(small):
    corpus = small["mosi"]
    rows = corpus.table.drop(columns=["label", "turn"])
    pd.testing.assert_frame_equal(table.build("mosi", rows, "again").table, corpus.table)
    assert (corpus.table["label"] == -1).sum() == corpus.table["score"].isna().sum() > 0
    with pytest.raises(CorpusError, match="scores outside -3 to 3: 1 rows"):
        table.build("mosi", rows.assign(score=rows["score"].where(rows.index != 4, 5.0)), "again")
    with pytest.raises(CorpusError, match="labels that are not the rounded score"):
        table.check_corpus(_with(corpus, label=corpus.table["label"].clip(0, 3)))


def test_a_corpus_is_read_as_it_was_saved(small, tmp_path):
    table.save(small["meld"], tmp_path)
    first = (tmp_path / "utterances.parquet").read_bytes()
    loaded = table.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.table, small["meld"].table)
    assert (loaded.name, loaded.labels, loaded.source) == ("meld", small["meld"].labels, small["meld"].source)
    table.save(loaded, tmp_path)
    assert (tmp_path / "utterances.parquet").read_bytes() == first


def test_a_table_of_an_older_version_is_refused(small, tmp_path):
    older = small["meld"].table.drop(columns="score")
    table.save(table.Corpus("meld", small["meld"].labels, older, "old"), tmp_path)
    with pytest.raises(CorpusError, match="another version; delete .* and import the corpus again"):
        table.load(tmp_path)


def test_the_source_is_known_without_the_table(small, tmp_path):
    assert table.source(tmp_path) == ""
    table.save(small["meld"], tmp_path)
    assert table.source(tmp_path) == small["meld"].source
    (tmp_path / "corpus.json").write_text("{")
    assert table.source(tmp_path) == ""


def test_a_kill_at_any_moment_leaves_the_old_corpus_or_none(small, tmp_path, exit_status_of, monkeypatch):
    old = replace(small["meld"], source="old")
    new = replace(old, source="new", links=True, table=old.table.assign(audio=old.table["utterance"] + ".wav"))
    put, placed = os.replace, []

    def die_before(number):
        def counting(*names):
            placed.append(names)
            if len(placed) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            put(*names)

        monkeypatch.setattr(os, "replace", counting)
        table.save(new, tmp_path)
        os._exit(7)

    for number in (1, 2, 2):  # the table, then its description: without that, it is no corpus
        assert exit_status_of(lambda number=number: die_before(number)) == -signal.SIGKILL
        assert not (tmp_path / "corpus.json").exists() and table.source(tmp_path) == ""
    table.save(old, tmp_path)
    for number, known in ((1, "old"), (2, ""), (2, "")):  # the description, then the table that it is the source of
        assert exit_status_of(lambda number=number: die_before(number)) == -signal.SIGKILL
        pd.testing.assert_frame_equal(table.load(tmp_path).table, old.table)
        assert table.source(tmp_path) == known
    assert exit_status_of(lambda: die_before(3)) == 7 and table.source(tmp_path) == "new"
    pd.testing.assert_frame_equal(table.load(tmp_path).table, new.table)
    (tmp_path / "utterances.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match="damaged, or of two imports"):
        table.load(tmp_path)


@pytest.mark.parametrize(
    "old, new", [('"neutral"', '"fear"'), ('"name": "meld"', '"name": "ravdess"'), ("twin", "real")]
)
def test_labels_and_names_that_were_edited_are_noticed(small, tmp_path, old, new):
    table.save(replace(small["meld"], source="twin"), tmp_path)
    file = tmp_path / "corpus.json"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(CorpusError, match="corpus.json was edited.*import the corpus again"):
        table.load(tmp_path)


OF_OTHER_KINDS = '{"labels": [], "source": "", "table_sha256": %s, "name": %s}'


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "[]", "3", "{}", '{"table_sha256": 3}', OF_OTHER_KINDS % (3, '""'), OF_OTHER_KINDS % ('""', "[]")],
)
def test_whatever_is_wrong_in_corpus_json_is_one_line(small, tmp_path, content):
    table.save(small["meld"], tmp_path)
    (tmp_path / "corpus.json").write_text(content)
    with pytest.raises(CorpusError, match="corpus.json is damaged.*delete it and import"):
        table.load(tmp_path)
    assert table.source(tmp_path) == ""


@pytest.mark.parametrize("file", ["utterances.parquet", "corpus.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_corpus_is_refused(small, tmp_path, file, damage):
    table.save(small["meld"], tmp_path)
    path = tmp_path / file
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="import the corpus again"):
        table.load(tmp_path)
