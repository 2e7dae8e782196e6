"""RAVDESS is read from the names of its clips, and a name that is not official is refused."""

import itertools

import pytest

from merlib import cli
from merlib.corpora import ravdess
from merlib.data import folders, splits, table
from merlib.data.table import CorpusError


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
