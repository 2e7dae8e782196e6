"""The times of a prepared table are seconds, and cut the recordings that several rows share."""

import numpy as np
import pytest
import soundfile
from prepared_lab import CSV, ORDER

from merlib.data.table import CorpusError
from merlib.features import decoding, pipeline

TIMED = [('start = "from"', 'start = "from"\nend = "to"\naudio = "wav"')]


def timed(lab, rows, toml=(), more=()):
    """The lab's table with `from`, `to` and `wav` of each utterance."""
    head, *lines = CSV.splitlines()
    lines = [
        f"{line.rpartition(',')[0]},{','.join(rows.get(line.split(',')[0], ('1', '2', 'c.wav')))}" for line in lines
    ]
    table = "\n".join([f"{head},to,wav", *lines, ""])
    return lab(toml=[*TIMED, *toml], csv=[(CSV, table), *more])[0].table.set_index("utterance")


SHARED = {"b1": ("0", "1", "b.wav"), "b2": ("1.0", "2.5", "b.wav"), "a1": (".5", "2", "a.wav")}


def test_rows_that_share_a_recording_hear_their_part_of_it(lab):
    t = timed(lab, SHARED)
    assert list(t.index) == ORDER
    assert list(t["audio"]) == ["b.wav#t=0,1", "b.wav#t=1,2.5", "a.wav#t=0.5,2", "c.wav#t=1,2"]
    assert t.loc["b2", ["start", "end"]].tolist() == [1.0, 2.5]
    for name in ("a", "b", "c"):
        tones = [np.sin(2 * np.pi * hertz * np.arange(8000) / 8000) / 3 for hertz in (200, 400, 800)]
        soundfile.write(lab.folder / f"{name}.wav", np.concatenate(tones), 8000)
    clip = decoding.located("b2", t.loc["b2", "audio"], lab.folder)
    heard = decoding.audio(clip, rate=8000)
    spectrum = np.abs(np.fft.rfft(heard[:8000]))
    assert len(heard) == 12_000 and spectrum.argmax() == 400


def test_where_each_row_has_a_recording_of_its_own_the_table_is_asked(lab):
    own = {u: ("3", "4.25", f"{u}.wav") for u in ORDER}
    with pytest.raises(
        CorpusError, match='recording of its own, and times. Say in .* where these count.*times = "dialogue"'
    ):
        timed(lab, own)
    say = ('unlabelled = "drop"', 'unlabelled = "drop"\ntimes = "{}"')
    whole = timed(lab, own, toml=[(say[0], say[1].format("dialogue"))])
    assert list(whole["audio"]) == [f"{u}.wav" for u in ORDER] and set(whole["end"]) == {4.25}
    parts = timed(lab, own, toml=[(say[0], say[1].format("recording"))])
    assert list(parts["audio"]) == [f"{u}.wav#t=3,4.25" for u in ORDER]
    with pytest.raises(CorpusError, match="times = 'episode'; expected one of"):
        timed(lab, own, toml=[(say[0], say[1].format("episode"))])


def test_a_part_that_is_written_is_kept(lab):
    written = {
        "b1": ("0", "1", "b.wav"),
        "b2": ("", "", '"b.wav#t=4,5.5"'),
        "a1": ("2", "3", "b.wav"),
        "c1": ("", "", ""),
    }
    assert list(timed(lab, written)["audio"]) == ["b.wav#t=0,1", "b.wav#t=4,5.5", "b.wav#t=2,3", ""]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (('"0,5"', "2", "a.wav"), "1 times in `start` are not seconds.*'0,5'.*decimal point"),
        (("0:00:01", "2", "a.wav"), "1 times in `start` are not seconds from 0 on, first a1: 0:00:01"),
        (("-1", "2", "a.wav"), "1 times in `start` are not seconds.*: -1"),
        (("1", "inf", "a.wav"), "1 times in `end` are not seconds.*: inf"),
        (("1", "1e999", "a.wav"), "1 times in `end` are not seconds"),
        (("1", "soon", "a.wav"), "1 times in `end` are not seconds"),
        (("3", "2", "a.wav"), "1 utterances end before they begin, first a1, 3.0 to 2.0 s"),
        (("2", "2", "a.wav"), "1 utterances end before they begin"),
        (("1", "", "a.wav"), "audio: 1 recordings have no start or no end, first a1"),
        (("1", "2", '"a.wav#t=3,1"'), "audio of a1 ends before it begins"),
        (("1", "2", "a.wav#t=x"), "audio of a1: .* is no path and no part of a file"),
    ],
)
def test_what_is_no_time_is_refused(lab, row, message):
    with pytest.raises(CorpusError, match=message):
        timed(lab, SHARED | {"a1": row})


def test_a_shared_recording_without_times_is_refused(lab):
    rows = {u: ("", "", "all.wav") for u in ORDER}
    with pytest.raises(CorpusError, match="audio: 4 recordings have no start or no end"):
        timed(lab, rows)
    with pytest.raises(CorpusError, match="audio: several utterances share a recording, first all.wav.*name `start`"):
        timed(lab, rows, toml=[('\nend = "to"', "")])


def test_a_video_of_the_dialogue_is_cut_beside_audio_of_the_utterance(lab):
    """As in IEMOCAP: sentences have files of their own, a video shows the whole dialogue."""
    rows = {u: ("3", "4.25", f"{u}.wav") for u in ORDER}
    t = timed(lab, rows, toml=[('audio = "wav"', 'audio = "wav"\nvideo = "fold"')])
    assert list(t["audio"]) == [f"{u}.wav" for u in ORDER]
    assert list(t["video"]) == ["train#t=3,4.25", "train#t=3,4.25", "dev#t=3,4.25", "test#t=3,4.25"]


def test_times_alone_are_stored(lab):
    t = timed(lab, {u: ("", "", "") for u in ORDER})
    assert t["start"].isna().all() and set(t["audio"]) == {""}
    corpus, _ = lab(csv=[("b2,Ses01F_b,7,01M,fru,train,NA,2.5", "b2,Ses01F_b,7,01M,fru,train,NA,7.25")])
    assert corpus.table.set_index("utterance").loc["b2", "start"] == 7.25
    assert not pipeline.clips(corpus, lab.folder)[0]
