"""RAVDESS is read from the names of its clips, and a name that is not official is refused."""

import itertools
from dataclasses import replace

import pytest

from merlib import cli
from merlib.corpora import layouts, ravdess
from merlib.data import folders, splits, table
from merlib.data.table import CorpusError
from merlib.errors import Notice
from merlib.features import pipeline
from merlib.roots import imports


def layout(folder, actors=range(1, 25), suffix=".wav"):
    """Empty files under all official names of the speech clips of `actors`."""
    for actor in actors:
        actor_folder = folder / f"Actor_{actor:02d}"
        actor_folder.mkdir(parents=True, exist_ok=True)
        for emotion, intensity, statement, repetition in itertools.product(range(1, 9), (1, 2), (1, 2), (1, 2)):
            if (emotion, intensity) != (1, 2):
                name = f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
                (actor_folder / f"{name}{suffix}").touch()
    return folder


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return layout(tmp_path_factory.mktemp("ravdess"))


def test_the_official_layout_is_the_official_corpus(official):
    corpus = ravdess.read(official)
    table.expect(corpus)
    t = corpus.table.set_index("utterance")
    clip = t.loc["03-01-05-02-01-02-13"]
    assert (corpus.labels[clip["label"]], clip["speaker"], clip["dialogue"]) == ("angry", "13", clip.name)
    assert clip["audio"] == "Actor_13/03-01-05-02-01-02-13.wav" and clip["video"] == ""
    assert clip["text"].startswith("Kids") and t.loc["03-01-05-02-02-02-13", "text"].startswith("Dogs")
    of = dict(zip(t["speaker"].astype(int), t["split"], strict=True))
    assert {a for a in of if of[a] == "test"} == set(splits.ACTORS[0])
    assert {a for a in of if of[a] == "val"} == set(splits.ACTORS[1])


def test_songs_are_ignored_and_videos_found(tmp_path):
    layout(tmp_path, actors=range(1, 25), suffix=".flac")
    (tmp_path / "Actor_01" / "03-02-05-02-01-02-01.wav").touch()
    (tmp_path / "Actor_01" / "01-01-05-02-01-02-01.mp4").touch()
    (tmp_path / "Actor_01" / "._03-01-05-02-01-02-01.wav").touch()
    t = ravdess.read(tmp_path).table.set_index("utterance")
    assert len(t) == 1440 and (t["video"] != "").sum() == 1
    assert t.loc["03-01-05-02-01-02-01", "video"] == "Actor_01/01-01-05-02-01-02-01.mp4"


@pytest.mark.parametrize(
    "name",
    [
        "Actor_01/03-01-09-01-01-01-01.wav",  # nine emotions
        "Actor_01/03-01-01-02-01-01-01.wav",  # neutral is never strong
        "Actor_01/03-01-02-01-01-01-02.wav",  # another actor's
        "Actor_25/03-01-02-01-01-01-25.wav",
        "Actor_01/01-01-02-01-01-01-01.wav",  # audio of the video
        "Actor_01/03-01-02-01-01-01-01 (1).wav",
    ],
)
def test_a_name_that_is_not_official_is_refused_with_its_file(tmp_path, name):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    with pytest.raises(CorpusError, match="no name of a clip.*Restore the official name") as error:
        ravdess.read(tmp_path)
    assert name in str(error.value)


def test_missing_and_duplicate_clips_are_reported(tmp_path):
    with pytest.raises(CorpusError, match="no speech clip; expected Actor_01"):
        ravdess.read(tmp_path)
    layout(tmp_path, actors=[3])
    with pytest.raises(CorpusError, match="no utterance for"):
        ravdess.read(tmp_path)
    layout(tmp_path)
    (tmp_path / "Actor_24" / "03-01-08-01-01-01-24.wav").unlink()
    with pytest.raises(CorpusError, match="1439.*expected 1440.*03-01"):
        table.expect(ravdess.read(tmp_path))
    (tmp_path / "Actor_02" / "03-01-08-01-01-01-02.flac").touch()
    with pytest.raises(CorpusError, match="there twice.*Keep one"):
        ravdess.read(tmp_path)


def test_the_command_line_imports_it(official, data_folder):
    cli.main(["data", "import", "ravdess", str(official), "lab"])
    assert folders.dataset("lab", "ravdess").corpus.source == "official layout, speech"


def test_the_real_clips_are_all_there(shared_data):
    table.expect(ravdess.read(shared_data / "ravdess"))


def test_letters_of_either_case_and_folders_further_down_are_found(tmp_path):
    layout(tmp_path / "audio_speech_actors_01-24", actors=range(1, 13))
    for actor in range(13, 25):
        layout(tmp_path, actors=[actor])
        folder = (tmp_path / f"Actor_{actor}").rename(tmp_path / f"actor_{actor}")
        for file in list(folder.iterdir()):
            file.rename(file.with_suffix(".WAV"))
    (tmp_path / "actor_13" / "01-01-05-02-01-02-13.MP4").touch()
    t = ravdess.read(tmp_path).table.set_index("utterance")
    assert len(t) == 1440 and t.loc["03-01-05-02-01-02-13", "audio"] == "actor_13/03-01-05-02-01-02-13.WAV"
    assert t.loc["03-01-05-02-01-02-13", "video"] == "actor_13/01-01-05-02-01-02-13.MP4"
    assert t.loc["03-01-05-02-01-02-01", "audio"].startswith("audio_speech_actors_01-24/Actor_01/")
    (found,) = layouts.survey(tmp_path / "audio_speech_actors_01-24")
    assert found.counts == {"audio files": 720} and len(found.missing) == 720


def test_copies_of_the_release_within_it_count_once_and_must_be_equal(tmp_path):
    layout(tmp_path)
    layout(tmp_path / "copy", actors=[1, 2])
    with pytest.warns(
        Notice, match="120 clips lie in several folders with the same bytes; of each the first copy is taken"
    ):
        t = ravdess.read(tmp_path).table
    assert len(t) == 1440 and not t["audio"].str.startswith("copy").any()
    (tmp_path / "copy/Actor_02/03-01-08-01-01-01-02.wav").write_bytes(b"other")
    with pytest.raises(CorpusError, match="copy/Actor_02/03-01-08-01-01-01-02.wav has other bytes than"):
        ravdess.read(tmp_path)


def test_links_that_lead_out_of_the_folder_are_followed_when_that_is_said(tmp_path, data_folder, capsys):
    layout(tmp_path / "disk", actors=[24])
    layout(tmp_path / "release", actors=range(1, 24))
    outside = tmp_path / "release" / "Actor_24"
    outside.symlink_to(tmp_path / "disk" / "Actor_24")
    (tmp_path / "release/Actor_01/03-01-01-01-01-01-01.wav").rename(tmp_path / "release/elsewhere.wav")
    (tmp_path / "release/Actor_01/03-01-01-01-01-01-01.wav").symlink_to("../elsewhere.wav")
    with pytest.raises(CorpusError, match="60 recordings lie behind links that lead out of .*Actor_24.*--follow-links"):
        imports.import_source("ravdess", tmp_path / "release", "lab")
    cli.main(["data", "import", "ravdess", str(tmp_path / "release"), "lab", "--follow-links"])
    assert "audio: 1440 of 1440 recordings found" in capsys.readouterr().out.splitlines()[-1]
    corpus = folders.dataset("lab", "ravdess").corpus
    assert corpus.links
    for file in tmp_path.glob("*/Actor_*/*24.wav"):
        file.write_bytes(b"x")
    clips, failed = pipeline.clips(corpus, tmp_path / "release")
    assert len(clips) == 60 and set(failed.values()) == {"the file is empty"}
    assert len(pipeline.clips(replace(corpus, links=False), tmp_path / "release")[0]) == 0


def test_a_part_of_the_release_is_read_when_asked_for(tmp_path, data_folder, capsys):
    layout(tmp_path, actors=[2, 3])
    cli.main(["data", "import", "ravdess", str(tmp_path), "lab", "--partial"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("ravdess: 120 utterances in 120 dialogues (neutral 8, calm 16")
    assert last.endswith("audio: 120 of 120 recordings found; official layout, speech; partial: 120 of 1440 utterances")
    split = folders.dataset("lab", "ravdess").corpus.table.groupby("speaker")["split"].first()
    assert split.to_dict() == {"02": "test", "03": "val"}
