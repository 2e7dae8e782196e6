"""Official releases: what the doctor reports of complete and partial copies, and the readers of CMU-MOSI and MOSEI."""

import json

import h5py
import numpy as np
import pytest
from releases import iemocap_layout, meld_files

from merlib import cli
from merlib.corpora import cmu, layouts, meld, ravdess
from merlib.data.table import CorpusError
from merlib.errors import Notice
from merlib.twins import dialogues


def touched(folder, files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def sequences(file, name, videos):
    """A computational sequence of the SDK: video -> (features, intervals)."""
    with h5py.File(file, "w") as out:
        for video, (features, intervals) in videos.items():
            group = out.create_group(f"{name}/data/{video}")
            group["features"], group["intervals"] = np.asarray(features, "f4"), np.asarray(intervals, "f4")
        out.create_group(f"{name}/metadata")


def folds(file, train, val, test):
    file.write_text(
        f"standard_train_fold={train!r}\nstandard_valid_fold={val!r}\nstandard_test_fold={test!r}\n", encoding="utf-8"
    )


@pytest.fixture
def mosi(tmp_path):
    folder = tmp_path / "CMU_MOSI"
    texts = folder / "Raw/Transcript/Segmented"
    texts.mkdir(parents=True)
    for video, n in (("aB_c-1", 3), ("xyz", 11), ("t___t", 2)):
        lines = [f"{i}_DELIM_LINE {i} OF {video}" for i in range(n, 0, -1)]
        (texts / f"{video}.annotprocessed").write_text("\n".join(lines) + "\n")
        touched(folder, [f"Raw/Video/Segmented/{video}_{i}.mp4" for i in range(1, n + 1)])
    scores = {
        v: ([[0.5 * i - 1] for i in range(n)], [[i, i + 1] for i in range(n)]) for v, n in (("aB_c-1", 3), ("xyz", 11))
    }
    sequences(
        folder / "CMU_MOSI_Opinion_Labels.csd",
        "Opinion Segment Labels",
        {v: (np.clip(f, -3, 3), t) for v, (f, t) in scores.items()},
    )
    folds(folder / "cmu_mosi_std_folds.py", ["xyz"], ["aB_c-1"], ["t___t", "elsewhere"])
    return folder


@pytest.fixture
def mosei(tmp_path):
    folder = tmp_path / "MOSEI"
    texts = folder / "Raw/Transcript/Segmented/Combined"
    texts.mkdir(parents=True)
    for video in ("a", "b", "c", "d___e_"):
        lines = [f"{video}___{i}___{i}.5___{i + 1}.5___Words with ___ in {i}." for i in range(3)]
        (texts / f"{video}.txt").write_text("\n".join(lines) + "\n")
    order = [2, 0]  # labels in another order than the clips, and one clip has none
    labels = {
        v: ([[i - 1.0, 1, 0, 0, 0, 0, 0] for i in order], [[i + 0.5, i + 1.5] for i in order]) for v in ("a", "b", "c")
    }
    sequences(folder / "CMU_MOSEI_Labels.csd", "All Labels", labels)
    folds(folder / "cmu_mosei_std_folds.py", ["a"], ["b"], ["c", "d___e_"])
    return folder


def test_mosi_is_read_in_the_order_of_its_clips(mosi):
    t = cmu.read(mosi, "mosi").table.set_index("utterance")
    assert list(t.index[t["dialogue"] == "xyz"]) == [f"xyz_{i}" for i in range(1, 12)]
    assert t.loc["xyz_10", "text"] == "LINE 10 OF xyz" and t.loc["aB_c-1_3", "score"] == 0.0
    assert t.loc["xyz_2", ["start", "end", "score"]].tolist() == [1.0, 2.0, -0.5]
    assert t["score"].isna().sum() == 2 and t.loc["t___t_1", "split"] == "test"
    assert t.loc["xyz_11", "video"] == "Raw/Video/Segmented/xyz_11.mp4" and set(t["audio"]) == {""}


def test_transcripts_keep_their_letters_and_their_lines(mosi):
    file = mosi / "Raw/Transcript/Segmented/aB_c-1.annotprocessed"
    lines = ["2_DELIM_IT\u2019S\u2028TWO", "1_DELIM_ONE\u2026", "3_DELIM_THREE"]
    file.write_text("\n".join(lines), encoding="utf-8")
    t = cmu.read(mosi, "mosi").table.set_index("utterance")
    assert list(t["text"][t["dialogue"] == "aB_c-1"]) == ["ONE\u2026", "IT\u2019S\u2028TWO", "THREE"]
    file.write_bytes("\r\n".join(lines).replace("\u2028", " ").encode("cp1252"))
    with pytest.warns(Notice, match="aB_c-1.annotprocessed: is not all UTF-8; the rest was read as cp1252"):
        t = cmu.read(mosi, "mosi").table.set_index("utterance")
    assert list(t["text"][t["dialogue"] == "aB_c-1"]) == ["ONE\u2026", "IT\u2019S TWO", "THREE"]


def test_clips_in_no_fold_are_counted(mosi):
    folds(mosi / "cmu_mosi_std_folds.py", ["xyz"], ["aB_c-1"], [])
    with pytest.warns(Notice, match="2 clips of 1 videos in no fold are left out, first t___t"):
        assert set(cmu.read(mosi, "mosi").table["dialogue"]) == {"xyz", "aB_c-1"}


def test_mosei_joins_labels_and_clips_by_their_times(mosei):
    t = cmu.read(mosei, "mosei").table.set_index("utterance")
    assert t.loc["a_2", "score"] == 1.0 and t.loc["a_0", "score"] == -1.0 and np.isnan(t.loc["a_1", "score"])
    assert t.loc["b_1", "text"] == "Words with ___ in 1." and t.loc["b_1", ["start", "end"]].tolist() == [1.5, 2.5]
    assert dict(t.groupby("dialogue")["split"].first()) == {"a": "train", "b": "val", "c": "test", "d___e_": "test"}
    assert t.loc["d___e__2", ["text", "start"]].tolist() == ["Words with ___ in 2.", 2.5]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cmu_mosi_std_folds.py", "standard_train_fold=[]\n", "no list standard_test_fold"),
        ("cmu_mosi_std_folds.py", "standard_train_fold=__import__('os').listdir()\n", "not the SDK's file of lists"),
        ("cmu_mosi_std_folds.py", "standard_train_fold=" + "[" * 9999, "not the SDK's file of lists"),
        ("cmu_mosi_std_folds.py", "standard_train_fold=" + "-" * 99999 + "1", "not the SDK's file of lists"),
        ("CMU_MOSI_Opinion_Labels.csd", "no HDF5", "no computational sequence"),
        ("CMU_MOSI_Opinion_Labels.csd", "version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("Raw/Transcript/Segmented/xyz.annotprocessed", "1_DELIM_one\n2_DELIM_two\n", "2 clips, but 11 labels"),
        ("Raw/Transcript/Segmented/xyz.annotprocessed", "9" * 5000 + "_DELIM_one\n", "the clip '999.* is no number"),
        ("Raw/Transcript/Segmented/xyz.annotprocessed", "one\n", "lines such as 'one'; expected clip_DELIM_text"),
    ],
)
def test_damaged_releases_of_mosi_are_refused(mosi, file, content, message):
    (mosi / file).write_text(content)
    with pytest.raises(CorpusError, match=message):
        cmu.read(mosi, "mosi")


def test_a_complete_copy_is_found_and_called_complete(tmp_path, mosi, mosei):
    corpus, _ = dialogues.make("iemocap6", seed=0, scale=0.1)
    folder = iemocap_layout(tmp_path / "in" / "IEMOCAP_full_release", corpus)
    t = corpus.table
    touched(
        folder, [f"Session{u[4]}/sentences/wav/{d}/{u}.wav" for u, d in zip(t["utterance"], t["dialogue"], strict=True)]
    )
    touched(folder, [f"Session{d[4]}/dialog/avi/DivX/{d}.avi" for d in t["dialogue"].unique()])
    touched(tmp_path / "RAVDESS", [f"{clip}.wav" for clip in ravdess.clips()])
    videos = [f"Raw/Videos/Segmented/Combined/{v}_{i}.mp4" for v in ("a", "b", "c", "d___e_") for i in range(3)]
    touched(mosei, videos)
    releases = {layout.kind: layout for layout in layouts.survey(tmp_path)}
    assert {kind: layout.missing for kind, layout in releases.items()} == dict.fromkeys(
        ("iemocap", "ravdess", "mosi", "mosei"), ()
    )
    assert releases["iemocap"].folder == folder and releases["iemocap"].counts["sentences"] == len(t)
    assert releases["ravdess"].counts == {"audio files": 1440} and releases["mosi"].counts["videos"] == 16
    assert len(set(ravdess.clips())) == 1440


def test_a_broken_release_does_not_hide_the_others(data_folder, mosi, capsys):
    (mosi / "CMU_MOSI_Opinion_Labels.csd").write_bytes(b"")
    touched(data_folder / "MELD", ["train_sent_emo.csv"])
    touched(data_folder / "RAVDESS", [f"{clip}.wav" for clip in ravdess.clips()])
    mosi.rename(data_folder / "CMU_MOSI")
    cli.main(["doctor"])
    report = capsys.readouterr().out
    assert "looks like mosi, but cannot be used" in report and "looks like meld, but cannot be used" in report
    assert "is ravdess: 1440 audio files; complete" in report
    cli.main(["doctor", "--json"])
    errors = {release["kind"]: release.get("error", "") for release in json.loads(capsys.readouterr().out)["releases"]}
    assert errors["mosi"] and errors["meld"] and not errors["ravdess"]


def test_a_cloned_repository_is_searched_and_a_twin_is_not(data_folder, capsys):
    corpus, _ = dialogues.make("meld", seed=0, scale=0.02)
    for folder in ("MELD/data/MELD", "twin_media/releases/meld"):
        meld_files(data_folder / folder, corpus)
    cli.main(["doctor"])
    report = capsys.readouterr().out
    assert f"data import meld {data_folder / 'MELD/data/MELD'} real" in report and "releases/meld" not in report


def test_of_a_partial_copy_the_doctor_names_what_is_missing(tmp_path, monkeypatch, capsys, mosi):
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path))
    corpus, _ = dialogues.make("meld", seed=0, scale=0.02)
    meld_files(tmp_path / "MELD", corpus)
    videos = {part: meld.videos(tmp_path / "MELD", part) for part in meld.FILES}
    touched(tmp_path / "MELD", [video for part in videos for video in videos[part][1:]])
    clips = list(ravdess.clips())
    touched(tmp_path / "RAVDESS", [f"{clip}.wav" for clip in clips[:-2]])
    (mosi / "cmu_mosi_std_folds.py").unlink()
    (mosi / "Raw/Video/Segmented/xyz_4.mp4").unlink()
    missing = {layout.kind: set(layout.missing) for layout in layouts.survey(tmp_path)}
    assert missing == {
        "meld": {videos[part][0] for part in videos},
        "ravdess": {f"{clip}.wav" for clip in clips[-2:]},
        "mosi": {"cmu_mosi_std_folds.py", "Raw/Video/Segmented/xyz_4.mp4"},
    }
    cli.main(["doctor"])
    report = capsys.readouterr().out
    assert "1438 audio files; 2 files are missing: Actor_24/" in report
    assert f"data import meld {tmp_path / 'MELD'}" in report
