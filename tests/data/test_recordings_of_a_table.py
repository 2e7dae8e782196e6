"""Where the recordings of a table are: parts of longer files, what is there, and what leads out of the folder."""

import os
from dataclasses import replace
from pathlib import PurePosixPath

import pandas as pd
import pytest

from merlib.data import folders, recordings, table
from merlib.data.table import CorpusError
from merlib.errors import RequestError
from merlib.roots import present


@pytest.mark.parametrize(
    ("start", "end", "side", "written"),
    [
        (6.2901, 8.2357, "left", "a b.avi#t=6.2901,8.2357&xywh=percent:0,0,50,100"),
        (0, 10, "right", "a b.avi#t=0,10&xywh=percent:50,0,50,100"),
        (1 / 3, 1.5, "", "a b.avi#t=0.333333,1.5"),
    ],
)
def test_a_part_is_a_media_fragment_that_is_read_again(start, end, side, written):
    assert recordings.part("a b.avi", start, end, side) == written
    path, begin, stop, half = recordings.parse(written)
    assert (path, half) == (PurePosixPath("a b.avi"), side)
    assert (begin, stop) == pytest.approx((start, end), abs=1e-6)


def test_a_whole_file_and_times_without_a_zero_are_read():
    assert recordings.parse("d/a.wav") == (PurePosixPath("d/a.wav"), None, None, "")
    assert recordings.parse("a.wav#t=.5,2.") == (PurePosixPath("a.wav"), 0.5, 2.0, "")
    for text in ("a.wav#t=1", "a.wav#t=-1,2", "a.wav#t=1,2&xywh=percent:25,0,50,100", "a.wav#t=1,2#t=1,2"):
        with pytest.raises(RequestError, match="is no path and no part of a file"):
            recordings.parse(text)


@pytest.fixture
def media(tmp_path):
    """A folder with two recordings, a link to one outside, and one inside to another."""
    folder = tmp_path / "media"
    folder.mkdir()
    for path in (folder / "a.wav", folder / "b.wav", tmp_path / "outside.wav"):
        path.touch()
    (folder / "out.wav").symlink_to(tmp_path / "outside.wav")
    (folder / "in.wav").symlink_to(folder / "a.wav")
    (folder / "c.wav").mkdir()
    return folder


def test_cells_whose_file_is_there_are_counted(media):
    assert recordings.found(["a.wav", "", "a.wav#t=1,2", "b.wav", "c.wav", "nothing.wav"], media) == 3
    assert recordings.found([], media) == 0


def test_what_leads_out_of_the_folder_is_named(media):
    cells = ["a.wav", "", "in.wav", "out.wav#t=1,2", "../outside.wav", "out.wav", "../media/b.wav", "/etc/hosts"]
    assert [str(path) for path in recordings.outside(cells, media)] == ["out.wav", "../outside.wav", "/etc/hosts"]
    for path, leads_out in (("a/b.wav", False), ("/a.wav", True), ("a/../b.wav", True), ("..wav", False)):
        assert recordings.escapes(PurePosixPath(path)) is leads_out


def corpus_of(**columns) -> table.Corpus:
    rows = pd.DataFrame({"utterance": ["u1", "u2", "u3"], "dialogue": ["u1", "u2", "u3"], "speaker": "01", "label": 0})
    return table.build("ravdess", rows.assign(split=["train", "val", "test"], **columns), source="test")


def test_recordings_that_are_there_and_missing_are_counted_column_by_column(media, data_folder):
    corpus = corpus_of(audio=["a.wav", "b.wav", "nothing.wav"], video=["a.wav", "b.wav", "in.wav"])
    home = folders.root_path("lab") / "ravdess"
    home.mkdir(parents=True)
    assert folders.recordings("lab", "ravdess") is None
    none = "0 of 3 recordings found, 3 missing"
    assert folders.recordings_found("lab", corpus) == f"audio: {none}, video: {none}"
    (home / "recordings.txt").write_text(f"{media}\n")
    assert folders.recordings("lab", "ravdess") == media
    both = "audio: 2 of 3 recordings found, 1 missing, video: 3 of 3 recordings found"
    assert folders.recordings_found("lab", corpus) == both
    only_video = corpus_of(video=["a.wav", "", ""])
    assert folders.recordings_found("lab", only_video) == "video: 1 of 3 recordings found, 2 missing"
    assert folders.recordings_found("lab", corpus_of()) == "0 of 3 recordings found"


@pytest.mark.parametrize("name", ["rav ", " rav", "a\r\n", "a\nb", "two\x85", os.fsdecode(b"caf\xe9"), "\ufeffrav"])
def test_the_folder_of_the_recordings_is_kept_byte_for_byte(data_folder, tmp_path, name):
    home, folder = folders.root_path("lab") / "ravdess", tmp_path / name
    folder.mkdir()
    (folder / "a.wav").touch()
    present.write(home, corpus_of(audio="a.wav"), {}, folder, replace_old=False, recorded=folder)
    assert folders.recordings("lab", "ravdess") == folder
    assert folders.recordings_found("lab", corpus_of(audio="a.wav")) == "audio: 3 of 3 recordings found"


def test_a_damaged_name_of_the_folder_of_the_recordings_is_no_other_folder(data_folder):
    file = folders.root_path("lab") / "ravdess" / "recordings.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert folders.recordings("lab", "ravdess") is None
    file.write_bytes(b"/media\0\n")
    with pytest.raises(CorpusError, match="recordings.txt is damaged.*delete it and import"):
        folders.recordings("lab", "ravdess")


def test_roots_corpora_and_arrays_are_what_has_files(data_folder):
    for place in ("lab/meld", "lab/iemocap6", "field/meld"):
        (data_folder / place / "features").mkdir(parents=True)
        (data_folder / place / "corpus.json").touch()
    (data_folder / "empty" / "meld").mkdir(parents=True)
    for name in ("text", "audio"):
        (data_folder / "lab/meld/features" / f"{name}.safetensors").touch()
    (data_folder / "lab/meld/features/failed.csv").touch()
    assert folders.roots() == ["field", "lab"] and folders.corpora("lab") == ["iemocap6", "meld"]
    assert folders.arrays("lab", "meld") == ["audio", "text"] and folders.arrays("lab", "iemocap6") == []
    with folders.lock(data_folder / "new" / "meld"):
        assert (data_folder / "new" / ".meld.lock").exists() and not (data_folder / "new" / "meld").exists()


def test_media_and_times_come_from_a_release_and_all_else_stays(small):
    plain = replace(small["meld"], table=small["meld"].table.assign(audio="", video="", start=float("nan")))
    rows = plain.table.iloc[::-1].assign(audio=lambda t: t["utterance"] + ".wav", video="v.mp4", start=1.0, end=2.0)
    layout = replace(plain, table=rows.assign(text="other", speaker="other").reset_index(drop=True), links=True)
    joined = table.with_recordings(plain, layout)
    assert joined.links and joined.source == plain.source
    assert joined.table["audio"].tolist() == [f"{u}.wav" for u in plain.ids]
    assert (joined.table[["video", "start", "end"]] == ["v.mp4", 1.0, 2.0]).all(axis=None)
    kept = ["utterance", "dialogue", "turn", "speaker", "label", "split", "text"]
    pd.testing.assert_frame_equal(joined.table[kept], plain.table[kept])
    short = replace(layout, table=layout.table.iloc[2:], source="a copy")
    ids = list(plain.ids[-2:])
    with pytest.raises(CorpusError, match=rf"meld: a copy has not 2 utterances, first {ids[0]}, {ids[1]}\.$"):
        table.with_recordings(plain, short)


def test_counts_are_by_split_and_class_and_a_part_says_of_what(small):
    corpus = small["iemocap4"]
    counts = corpus.counts()
    for split in ("train", "val", "test"):
        part = corpus.table[corpus.table["split"] == split]
        assert counts["utterances"][split] == len(part)
        assert counts["dialogues"][split] == len(set(part["dialogue"]))
        assert counts["classes"][split] == [list(part["label"]).count(k) for k in range(4)]
    assert corpus.partial == ""
    assert replace(corpus, source="a lab; partial: 4 of 9 utterances").partial == "partial: 4 of 9 utterances"
    assert replace(corpus, source="partial: 4 of 9 utterances; a lab").partial == ""


def test_missing_columns_are_filled_in_and_needed_ones_named():
    columns = corpus_of().table
    assert (columns[["text", "audio", "video"]] == "").all(axis=None)
    assert columns[["start", "end", "score"]].isna().all(axis=None) and columns["turn"].tolist() == [0, 0, 0]
    assert list(columns) == list(table.DTYPES)
    rows = pd.DataFrame({"utterance": ["u1"], "dialogue": ["u1"], "split": ["train"]})
    with pytest.raises(CorpusError, match=r"meld: columns speaker, label are missing; found dialogue, split"):
        table.build("meld", rows, source="test")
