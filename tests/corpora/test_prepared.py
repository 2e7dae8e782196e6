"""A prepared table maps a lab's own files to ours, and says precisely what is wrong when it cannot."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prepared_lab import CSV, ORDER, STORED, TOML, VALUES

from merlib.corpora import prepared
from merlib.data.table import CorpusError


def test_table_and_features_arrive_in_our_order(lab):
    corpus, features = lab()
    t = corpus.table
    assert list(t["utterance"]) == ORDER and list(t["turn"]) == [0, 1, 0, 0]
    assert list(t["label"]) == [0, 5, 0, 5] and list(t["split"]) == ["train", "train", "val", "test"]
    assert list(t["text"]) == ["caf\u00e9, no", "NA", "yes", "so"] and t["start"].isna().tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert corpus.source == "prepared: a lab"
    array = features["audio"]
    np.testing.assert_array_equal(array.values, VALUES[[STORED.index(u) for u in ORDER]])
    assert array.values.dtype == np.float32
    assert (array.modality, array.extractor, array.version) == ("audio", "openSMILE IS10", "2.3")
    assert (array.trained_on, array.fitted_on, array.weights_sha256) == ("nothing", "train", "")


def test_unlabelled_rows_may_stay_as_context(lab):
    every_row = {"utt": np.array([*ORDER, "a2", "a3"]), "is10": np.ones((6, 2))}
    corpus, _ = lab(toml=[('unlabelled = "drop"', 'unlabelled = "keep"')], **every_row)
    assert list(corpus.table["utterance"]) == ["b1", "b2", "a1", "a2", "a3", "c1"]
    assert list(corpus.table["label"]) == [0, 5, 0, -1, -1, 5]


def test_without_turns_the_order_of_the_rows_counts(lab):
    corpus, _ = lab(toml=[('turn = "pos"\n', "")])
    assert list(corpus.table["utterance"]) == ["b2", "b1", "a1", "c1"]


def test_splits_by_dialogue_and_by_default(lab):
    no_column = [('split = "fold"\n', ""), ('[split]\ndev = "val"\n', "")]
    by_dialogue = '[dialogues]\nval = ["Ses01F_b"]\ntest = ["Ses05F_c"]\n'
    corpus, _ = lab(toml=[*no_column[:1], ('[split]\ndev = "val"\n', by_dialogue)])
    assert list(corpus.table["split"]) == ["val", "val", "train", "test"]
    with pytest.raises(CorpusError, match=r"lab.toml \[dialogues\]: 1 are in val and in test, first Ses05F_c"):
        twice = by_dialogue.replace('val = ["', 'val = ["Ses05F_c ", "')
        lab(toml=[*no_column[:1], ('[split]\ndev = "val"\n', twice)])
    assert list(lab(toml=no_column)[0].table["split"]) == ["val", "val", "val", "test"]  # one dialogue a session
    meld = [('corpus = "iemocap6"', 'corpus = "meld"'), ('"happy"', '"joy"'), ('"frustrated"', '"anger"')]
    with pytest.raises(CorpusError, match="no split; name its column"):
        lab(toml=[*no_column, *meld])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[columns]", "[column]", r"unknown keys column, missing keys columns"),
        ('corpus = "iemocap6"', 'corpus = "iemocap"', "corpus = 'iemocap'.*expected one of"),
        ('unlabelled = "drop"', 'unlabelled = "yes"', "unlabelled = 'yes'"),
        ('name = "a lab"', "name = ", "lab.toml.*docstring"),
        ('utterance = "utt"', 'utterance = "id"', r"columns id are not there; found utt"),
        ('speaker = "who"\n', "", r"\[columns\]: unknown keys none, missing keys speaker"),
        ('fru = "frustrated"', 'fru = "cross"', r"cross are no classes of iemocap6"),
        ('xxx = ""', "", r"the values xxx are not mapped"),
        ('dev = "val"', "", r"the values dev are not mapped"),
        ('[split]\ndev = "val"', "[dialogues]\nval = []\ntest = []", r"the values dev"),
        ('ids = "utt"', 'ids = "id"', r"\[features.audio\]: .*audio.npz has no id; it has"),
        ('file = "audio.npz"', 'file = "none.npz"', "No such file.*none.npz"),
        ('modality = "audio"', 'modality = "sound"', "modality = 'sound'"),
        ('fitted_on = "train"', "", r"missing keys fitted_on"),
        ('corpus = "iemocap6"', 'corpus = "iemocap6"\ndialogues = "x"', "dialogues = .x.; expected a section"),
        ('[split]\ndev = "val"', '[dialogues]\nval = "Ses01F_b"\ntest = []', "Ses01F_b; expected lists of dialogues"),
    ],
)
def test_what_is_wrong_in_the_toml_file_is_named(lab, old, new, message):
    with pytest.raises(CorpusError, match=message):
        lab(toml=[(old, new)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b2,", "b1,", "duplicate utterance ids.*first b1"),
        ("01M,fru,train", "01M,fru,test", "dialogues that cross splits"),
        ("01F_b,7", "01F_b,3", "2 turns are no numbers, or repeat"),
        ("01F_b,7", "01F_b,", "1 turns are no numbers"),
        ("05F,fru", "01F,fru", "test speakers who also train"),
        ("c1,Ses05F_c", "c9,Ses05F_c", "1 utterances are not found, first c9"),
    ],
)
def test_what_is_wrong_in_the_table_is_named(lab, old, new, message):
    with pytest.raises(CorpusError, match=message):
        lab(csv=[(old, new)])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_files_of_windows_editors_say_the_same_in_every_encoding(lab, encoding):
    expected, _ = lab(toml=[("a lab", "caf\u00e9")])
    for file, text in (("utterances.csv", CSV), ("lab.toml", TOML.replace("a lab", "caf\u00e9"))):
        (lab.folder / file).write_bytes(text.replace("\n", "\r\n").encode(encoding))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        corpus, _ = prepared.read(lab.folder / "lab.toml")
    pd.testing.assert_frame_equal(corpus.table, expected.table)
    assert corpus.source == "prepared: caf\u00e9"
    guessed = {Path(t.message.where).name for t in told if "read as" in str(t.message)}
    assert guessed == ({"utterances.csv", "lab.toml"} if encoding in ("cp1252", "utf-16-le") else set())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "utterances.csv",
            b"version https://git-lfs.github.com/spec/v1\n",
            "utterances.csv is a Git LFS pointer; run `git",
        ),
        ("utterances.csv", b"<!DOCTYPE html><html>", "utterances.csv is a web page"),
        ("utterances.csv", b"PK\x03\x04" + bytes(60), "utterances.csv is a zip archive"),
        ("utterances.csv", CSV.replace(",", ";").replace("said;from", "said").encode(), "separated by ';'"),
        ("utterances.csv", CSV.encode()[:-12], "row 6 below the header has 5 cells, the header 8, first .'c1'"),
        (
            "utterances.csv",
            CSV.replace("\n", ",\n").replace("from,", "from").encode(),
            "row 1 below the header has 9 cells, the header 8",
        ),
        ("utterances.csv", CSV.replace("said,from", "said,said").encode(), "several columns are named said"),
        ("utterances.csv", b"", "utterances.csv: No columns"),
        ("lab.toml", b"a = " + b"[" * 50_000, "lab.toml: .*Expected a TOML file"),
        ("lab.toml", b"a = " + b"9" * 5_000, "lab.toml: .*Expected a TOML file"),
        ("lab.toml", b"corpus = 3\n" + TOML.replace('corpus = "iemocap6"', "").encode(), "corpus = 3; expected text"),
        ("lab.toml", TOML.replace('"utterances.csv"', '"a\\u0000b"').encode(), "holds a zero byte"),
        ("lab.toml", TOML.replace("utterances.csv", "a" * 300).encode(), "File name too long"),
        ("lab.toml", TOML.replace("utterances.csv", "pipe").encode(), "pipe is a named pipe; expected a file"),
        ("lab.toml", TOML.replace("audio.npz", "pipe.npz").encode(), "pipe.npz is a named pipe; expected a file"),
        ("lab.toml", TOML.replace("audio.npz", "a\\u0000.npz").encode(), "holds a zero byte"),
        ("lab.toml", TOML.replace('start = "from"', "start = 3").encode(), r"\[columns\]: start: 3; expected text"),
    ],
)
def test_files_that_are_none_are_refused_in_one_line(lab, file, content, message):
    lab()
    os.mkfifo(lab.folder / "pipe")
    os.mkfifo(lab.folder / "pipe.npz")
    (lab.folder / file).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as error:
        prepared.read(lab.folder / "lab.toml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 2100


def test_blanks_at_the_ends_of_names_make_no_other_speaker(lab):
    expected, _ = lab()
    spaces = [("02F,0,dev", "02F ,0, dev"), ("b1,Ses01F_b,", "b1 ,Ses01F_b\xa0,"), ("05F,fru", "05F,fru ")]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        corpus, _ = lab(csv=spaces)
    pd.testing.assert_frame_equal(corpus.table, expected.table)
    assert any("1 cells of 'who' lose blanks at their ends, first '02F '" in str(t.message) for t in told)
    with pytest.raises(CorpusError, match="1 rows have no 'who', first in row 2 below the header"):
        lab(csv=[("b1,Ses01F_b,3,01F", "b1,Ses01F_b,3, ")])


def test_several_values_may_share_a_class_and_some_have_none(lab):
    four = [('corpus = "iemocap6"', 'corpus = "iemocap4"'), ('"frustrated"', '"happy"')]
    corpus, _ = lab(toml=four)
    assert list(corpus.table["utterance"]) == ORDER and set(corpus.table["label"]) == {0}
    every_row = {"utt": np.array([*ORDER, "a2", "a3"]), "is10": np.ones((6, 2))}
    everything, _ = lab(toml=[*four, ('"drop"', '"keep"')], **every_row)
    assert list(everything.table["label"]) == [0, 0, 0, -1, -1, 0]


SCORES = (
    CSV.replace(",emo,", ",score,")
    .replace("0.0,train", "-2.6,train")
    .replace(",fru,", ",1.5,")
    .replace(",xxx,", ",nan,")
)
SCORED = [
    ('corpus = "iemocap6"', 'corpus = "mosi"'),
    ('label = "emo"', 'score = "score"'),
    ('[labels]\n0 = "happy"\nfru = "frustrated"\nxxx = ""\n', ""),
]


def scored(lab, toml=(), csv=(), **arrays):
    return lab(toml=[*SCORED, *toml], csv=[(CSV, SCORES), *csv], **arrays)


def test_scores_settle_the_classes_of_a_sentiment_corpus(lab):
    corpus, features = scored(lab, csv=[("02F,0,dev", "02F,0.2,dev")])
    assert list(corpus.table["utterance"]) == ORDER and len(features["audio"].values) == 4
    np.testing.assert_allclose(corpus.table["score"], [-2.6, 1.5, 0.2, 1.5])
    assert [corpus.labels[k] for k in corpus.table["label"]] == ["-3", "2", "0", "2"]
    every_row = {"utt": np.array([*ORDER, "a2", "a3"]), "is10": np.ones((6, 2))}
    everything, _ = scored(lab, toml=[('"drop"', '"keep"')], **every_row)
    assert everything.table["label"].tolist() == [0, 5, 3, -1, -1, 5] and everything.table["score"].isna().sum() == 2


@pytest.mark.parametrize(
    ("toml", "csv", "message"),
    [
        ([('score = "score"', 'label = "score"')], [], r"unknown keys label, missing keys score"),
        ([("[split]", "[labels]\n[split]")], [], r"unknown keys labels"),
        ([], [("-2.6", "3.2")], r"utterances.csv: 1 scores are not numbers from -3 to 3, first b1: 3.2"),
        ([], [("-2.6", "good")], "1 scores are not numbers.*good.*Scale or empty them"),
    ],
)
def test_what_is_wrong_with_scores_is_named(lab, toml, csv, message):
    with pytest.raises(CorpusError, match=message):
        scored(lab, toml, csv)


def test_scores_are_only_for_sentiment(lab):
    with pytest.raises(CorpusError, match=r"\[columns\]: unknown keys score"):
        lab(toml=[('label = "emo"', 'label = "emo"\nscore = "emo"')])


def test_ravdess_has_a_default_split(lab):
    toml = [
        ('corpus = "iemocap6"', 'corpus = "ravdess"'), ('"frustrated"', '"calm"'), ('split = "fold"\n', ""),
        ('[split]\ndev = "val"\n', ""),
    ]  # fmt: skip
    csv = [("01M", "02"), ("01F,", "02,"), ("0,02F", "0,03"), ("05F,", "24,")]
    corpus, _ = lab(toml=toml, csv=csv)  # Luna-Jimenez' first fold: actor 2 tests, 3 validates, 24 trains
    assert list(corpus.table["split"]) == ["test", "test", "val", "train"]
    with pytest.raises(CorpusError, match="speakers 01F.*01 to 24"):
        lab(toml=toml, csv=csv[:1])
