"""The reader of the official CSV files of MELD."""

import pytest
from releases import meld_files

from merlib.corpora import layouts, meld
from merlib.data import official, table
from merlib.data.table import CorpusError
from merlib.errors import Notice

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
        (b"Emotion", b"Feeling", "columns Emotion are missing"),
        (b"neutral", b"bored", "emotions bored"),
        (b"00:16:16,059", b"soon", "MELD time 'soon'"),
        (b",61,4,", b",6x,4,", "train_sent_emo.csv: the Dialogue_ID '6x' is no number"),
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
    reread = meld.read(meld_files(tmp_path, corpus))
    assert list(reread.table["label"]) == list(corpus.table["label"]) and reread.counts() == corpus.counts()


@pytest.mark.parametrize("above", ["train", "MELD.Raw/train"])
def test_clips_are_found_where_archives_were_unpacked_into_folders_of_their_own(meld_folder, above):
    clip = meld_folder / above / "train_splits" / "dia61_utt1.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    t = meld.read(meld_folder).table.set_index("utterance")
    assert t.loc["train_dia61_utt1", "video"] == f"{above}/train_splits/dia61_utt1.mp4"
    assert f"{above}/train_splits/dia61_utt4.mp4" in meld.videos(meld_folder, "train")


def test_clips_that_are_not_found_are_told_and_no_release_without_them_is_complete(meld_folder):
    for clip in meld_folder.glob("*/*.mp4"):
        clip.unlink()
    elsewhere = meld_folder / "a/b/c/train_splits"
    elsewhere.mkdir(parents=True)
    (elsewhere / "dia61_utt1.mp4").touch()
    with pytest.warns(
        Notice, match="0 of 5 clips found; expected train_splits.*they seem to be in .*a/b/c/train_splits"
    ):
        meld.read(meld_folder)
    (found,) = layouts.survey(meld_folder)
    assert found.counts["videos"] == 0 and len(found.missing) == 5
    assert "3 tables, 0 of 5 videos; 5 files are missing" in layouts.as_text(found.about())


def test_some_of_the_tables_are_read_when_asked_for(meld_folder):
    (meld_folder / "dev_sent_emo.csv").unlink()
    with pytest.raises(CorpusError, match="dev_sent_emo.csv is not there"):
        meld.read(meld_folder)
    assert set(meld.read(meld_folder, partial=True).table["split"]) == {"train", "test"}
    (meld_folder / "train_sent_emo.csv").write_text("a;b\n1;2\n")
    with pytest.raises(CorpusError, match="train_sent_emo.csv: its columns are separated by ';'"):
        meld.read(meld_folder, partial=True)
