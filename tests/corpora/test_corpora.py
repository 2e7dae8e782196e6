"""Readers find what was written, and checks fail when they should."""

import os
import re
import signal
import tomllib

import numpy as np
import pandas as pd
import pytest
from releases import iemocap_layout, meld_files

from merlib.corpora import iemocap, meld
from merlib.data import official, recordings, table
from merlib.data.table import CorpusError
from merlib.files import atomic
from merlib.places import CHECKOUT
from merlib.twins import dialogues, sequences


@pytest.fixture(scope="module")
def small():
    return {name: dialogues.make(name, scale=0.1)[0] for name in dialogues.TWINS}


# --- the table and its checks


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
    "speakers such as .'1'": lambda t: {"speaker": t["speaker"].replace("03M", "1")},
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
    with pytest.raises(CorpusError, match="speakers such as .'00'.*01 to 24"):
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
        there = classes.isin(official.LABELS[name])
        counts = classes[there].value_counts().reindex(official.LABELS[name])
        assert tuple(counts) == official.CLASSES[name]["all"]
        assert rows["dialogue"][there].nunique() == official.DIALOGUES[name]["all"]
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
        ("iemocap4", r"all has 5530 utterances in 151 dialogues, by class \[.*; expected 5531 .*5531 utterances"),
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


@pytest.mark.parametrize("file", ["utterances.parquet", "corpus.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_corpus_is_refused(small, tmp_path, file, damage):
    table.save(small["meld"], tmp_path)
    path = tmp_path / file
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="import the corpus again"):
        table.load(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path, exit_status_of):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with atomic(path) as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert exit_status_of(write) == -signal.SIGKILL
    assert path.read_text() == "old"
    with atomic(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


# --- IEMOCAP


def test_the_default_split_is_a_fixed_balanced_draw():
    names = [f"Ses0{s}{sex}_impro{i:02d}" for s in range(1, 6) for sex in "FM" for i in range(8)]
    split = iemocap.default_split(names)
    assert split == iemocap.default_split(reversed(names))
    drawn = sorted(d for d, s in split.items() if s == "val")
    assert drawn[:3] == ["Ses01F_impro07", "Ses01M_impro04", "Ses01M_impro07"]  # for ever
    assert [d[:5] for d in drawn] == [f"Ses0{s}" for s in (1, 2, 3, 4) for _ in range(3)]
    assert {d for d, s in split.items() if s == "test"} == {d for d in names if d.startswith("Ses05")}
    assert drawn != sorted(d for d, s in iemocap.default_split(names, seed=0).items() if s == "val")


def test_the_official_layout_gives_majority_labels_only(small, tmp_path):
    corpus = small["iemocap6"]
    unsure = dict.fromkeys(corpus.ids[:2], "xxx") | {corpus.ids[5]: "oth"}
    folder = iemocap_layout(tmp_path, corpus, majority=unsure)
    wav = folder / "Session1/sentences/wav" / corpus.table["dialogue"][4] / f"{corpus.ids[4]}.wav"
    wav.parent.mkdir(parents=True)
    wav.touch()
    found = iemocap.read(folder)
    kept = corpus.table[~corpus.table["utterance"].isin(unsure)]
    assert found.name == "iemocap6_majority"
    got = found.table.set_index("utterance").loc[list(kept["utterance"])]
    for column in ("dialogue", "speaker", "label", "text"):
        assert list(got[column]) == list(kept[column])
    turns, expected = (t.groupby("dialogue")["utterance"].agg(list).to_dict() for t in (found.table, kept))
    assert turns == expected
    np.testing.assert_allclose(got[["start", "end"]], kept[["start", "end"]], atol=1e-4)
    assert got.loc[corpus.ids[4], "audio"] == str(wav.relative_to(folder)) and (got["audio"] != "").sum() == 1
    avi = folder / "Session1/dialog/avi/DivX" / f"{corpus.table['dialogue'][4]}.avi"
    avi.parent.mkdir(parents=True)
    avi.touch()
    for utterance, video in iemocap.read(folder).table.set_index("utterance")["video"].items():
        if corpus.table["dialogue"][4] not in utterance:
            assert video == ""
            continue
        path, start, end, side = recordings.parse(video)
        assert str(path) == str(avi.relative_to(folder)) and [start, end] == list(got.loc[utterance, ["start", "end"]])
        assert side == ("left" if f"{utterance[5]}0" in utterance[6:] else "right"), "its actor's half of the picture"
    with pytest.raises(CorpusError, match="majority labels only.*7433"):
        iemocap.read(folder, name="iemocap6")


def test_a_list_of_labels_makes_the_conversational_release(small, tmp_path):
    corpus = small["iemocap6"]
    folder = iemocap_layout(tmp_path, corpus, majority=dict.fromkeys(corpus.ids[:2], "xxx"))
    labels = {u: corpus.labels[k] for u, k in zip(corpus.ids, corpus.table["label"], strict=True)}
    found = iemocap.read(folder, name="iemocap6", labels=labels)
    assert found.name == "iemocap6" and set(found.ids) == set(corpus.ids)
    assert dict(zip(found.ids, found.table["label"], strict=True)) == dict(
        zip(corpus.ids, corpus.table["label"], strict=True)
    )
    with pytest.raises(CorpusError, match="1 labelled utterances are not in the release"):
        iemocap.read(folder, name="iemocap6", labels=labels | {"Ses01F_impro99_F000": "sad"})


def test_an_incomplete_release_is_refused(small, tmp_path):
    folder = iemocap_layout(tmp_path, small["iemocap6"])
    script = next((folder / "Session2/dialog/transcriptions").glob("Ses*"))
    text = script.read_text(encoding="latin-1")
    script.write_text("\n".join(text.splitlines()[3:]))
    with pytest.raises(CorpusError, match=re.escape(f"{script}") + ".*no transcript"):
        iemocap.read(folder)
    script.unlink()
    with pytest.raises(CorpusError, match="expected a transcription"):
        iemocap.read(folder)
    (folder / "Session4").rename(folder / "Session6")
    with pytest.raises(CorpusError, match="'Session4'.*all five sessions"):
        iemocap.read(folder)


def test_the_real_majority_labels_are_7380(shared_data, tmp_path):
    rows = pd.read_csv(shared_data / "iemocap" / "utterances.csv").rename(columns={"utt": "utterance"})
    rows = rows.assign(label=0, split=rows["session"].map(lambda s: "test" if s == 5 else "train"))
    rows = table.Corpus("iemocap6_majority", official.SIX, rows, "real")
    folder = iemocap_layout(tmp_path, rows, majority=dict(zip(rows.ids, rows.table["emotion"], strict=True)))
    for name in iemocap.MAJORITY:
        found = iemocap.read(folder, name=name)
        table.expect(found)
        assert found.counts()["dialogues"] == {"train": 108, "val": 12, "test": 31}


# --- MELD

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


@pytest.fixture
def meld_folder(tmp_path):
    train = (
        b'1,You must\x92ve had your hands full.,Chandler,neutral,x,61,4,8,21,"00:16:16,059","00:16:21,731"\n'
        b'2,"\xe2\x80\x9cNA\xe2\x80\x9d, caf\xc3\xa9",The Interviewer ,Joy,x,61,1,8,21,"0:36:59,425","0:37:01,439"\n'
        b'3,NA,Joey,fear,x,0,3,8,21,"00:00:01,000","00:00:02,000"\n'
    )
    for part, rows in (
        ("train", train),
        ("dev", "1,It\u0092s on\u0085,Ross,anger,x,110,7,1,1,0:0:1.5,0:0:2.25\n".encode()),
    ):
        (tmp_path / f"{part}_sent_emo.csv").write_bytes(HEADER.encode() + rows)
    rows = "".join(f'{i},hi,Ross,sadness,x,125,{i},1,1,"0:0:1,0","0:0:2,0"\n' for i in (3, 4))
    (tmp_path / "test_sent_emo.csv").write_text("\ufeff" + HEADER + rows, encoding="utf-8")
    for clip in ("dev_splits_complete/dia110_utt7", "output_repeated_splits_test/dia125_utt3"):
        (tmp_path / f"{clip}.mp4").parent.mkdir()
        (tmp_path / f"{clip}.mp4").touch()
    return tmp_path


def test_quirks_of_the_official_csv_files_are_mended(meld_folder):
    t = meld.read(meld_folder).table.set_index("utterance")
    names = ["train_dia0_utt3", "train_dia61_utt1", "train_dia61_utt4"]
    assert list(t.index) == [*names, "dev_dia110_utt7", "test_dia125_utt3", "test_dia125_utt4"]
    texts = [
        "NA",
        "\u201cNA\u201d, caf\u00e9",
        "You must\u2019ve had your hands full.",
        "It\u2019s on\u2026",
        "hi",
        "hi",
    ]
    assert list(t["text"]) == texts
    assert list(t["dialogue"][:4]) == ["train_0", "train_61", "train_61", "dev_110"]
    assert list(t["turn"]) == [0, 0, 1, 0, 0, 1]
    assert t.loc[names[1], ["speaker", "start", "end"]].tolist() == ["The Interviewer", 2219.425, 2221.439]
    assert t.loc["dev_dia110_utt7", ["start", "end", "split"]].tolist() == [1.5, 2.25, "val"]
    assert [official.LABELS["meld"][k] for k in t["label"][:4]] == ["fear", "joy", "neutral", "anger"]
    videos = t["video"][t["video"] != ""]
    assert videos.to_dict() == {
        "test_dia125_utt3": "output_repeated_splits_test/dia125_utt3.mp4"
    }  # the dev clip is bad


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"Emotion", b"Feeling", "columns .'Emotion'. are missing"),
        (b"neutral", b"bored", "emotions .'bored'."),
        (b"00:16:16,059", b"soon", "MELD time 'soon'"),
    ],
)
def test_other_csv_files_are_refused(meld_folder, old, new, message):
    file = meld_folder / "train_sent_emo.csv"
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(CorpusError, match=message):
        meld.read(meld_folder)
    file.unlink()
    with pytest.raises(CorpusError, match="train_sent_emo.csv is not there"):
        meld.read(meld_folder)


def test_the_real_csv_files_have_the_official_counts(shared_data):
    corpus = meld.read(shared_data / "meld")
    table.expect(corpus)
    assert corpus.counts()["dialogues"] == {"train": 1038, "val": 114, "test": 280}
    assert not corpus.table["text"].str.contains("[\x80-\x9f\ufffd]").any()
    assert (corpus.table["end"] >= corpus.table["start"]).all()


def test_the_official_csv_files_can_be_written_and_read(small, tmp_path):
    corpus = small["meld"]
    found = meld.read(meld_files(tmp_path, corpus))
    assert list(found.table["label"]) == list(corpus.table["label"]) and found.counts() == corpus.counts()
