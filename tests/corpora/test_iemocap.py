"""The reader of IEMOCAP in its official layout, and the default split."""

import re

import numpy as np
import pandas as pd
import pytest
from releases import iemocap_layout

from merlib.corpora import iemocap
from merlib.data import official, recordings, table
from merlib.data.table import CorpusError


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
    majority = iemocap.read(folder)
    agreed = corpus.table[~corpus.table["utterance"].isin(unsure)]
    assert majority.name == "iemocap6_majority"
    rows = majority.table.set_index("utterance").loc[list(agreed["utterance"])]
    for column in ("dialogue", "speaker", "label", "text"):
        assert list(rows[column]) == list(agreed[column])
    turns, expected = (t.groupby("dialogue")["utterance"].agg(list).to_dict() for t in (majority.table, agreed))
    assert turns == expected
    np.testing.assert_allclose(rows[["start", "end"]], agreed[["start", "end"]], atol=1e-4)
    assert rows.loc[corpus.ids[4], "audio"] == str(wav.relative_to(folder)) and (rows["audio"] != "").sum() == 1
    avi = folder / "Session1/dialog/avi/DivX" / f"{corpus.table['dialogue'][4]}.avi"
    avi.parent.mkdir(parents=True)
    avi.touch()
    for utterance, video in iemocap.read(folder).table.set_index("utterance")["video"].items():
        if corpus.table["dialogue"][4] not in utterance:
            assert video == ""
            continue
        path, start, end, side = recordings.parse(video)
        assert str(path) == str(avi.relative_to(folder)) and [start, end] == list(rows.loc[utterance, ["start", "end"]])
        assert side == ("left" if f"{utterance[5]}0" in utterance[6:] else "right"), "its actor's half of the frame"
    with pytest.raises(CorpusError, match="majority labels only.*7433"):
        iemocap.read(folder, name="iemocap6")


def test_a_list_of_labels_makes_the_conversational_release(small, tmp_path):
    corpus = small["iemocap6"]
    folder = iemocap_layout(tmp_path, corpus, majority=dict.fromkeys(corpus.ids[:2], "xxx"))
    labels = {u: corpus.labels[k] for u, k in zip(corpus.ids, corpus.table["label"], strict=True)}
    given = iemocap.read(folder, name="iemocap6", labels=labels)
    assert given.name == "iemocap6" and set(given.ids) == set(corpus.ids)
    assert dict(zip(given.ids, given.table["label"], strict=True)) == dict(
        zip(corpus.ids, corpus.table["label"], strict=True)
    )
    with pytest.raises(CorpusError, match="1 labelled utterances are not in the release"):
        iemocap.read(folder, name="iemocap6", labels=labels | {"Ses01F_impro99_F000": "sad"})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_transcripts_of_windows_editors_say_the_same(small, tmp_path, encoding):
    corpus = small["iemocap6"]
    folder = iemocap_layout(tmp_path, corpus)
    for file in folder.glob("Session*/dialog/*/Ses*.txt"):
        lines = file.read_text(encoding="latin-1").split("\n")
        if file.parent.name == "transcriptions":
            lines = [f"{line} it\u2019s \u2026" if line.startswith("Ses") else line for line in lines]
        if encoding.startswith("utf-8") and file.parent.name == "transcriptions":
            lines = [line.replace(" it", " it\u2028") for line in lines]  # no end of a line
        file.write_bytes("\r\n".join(lines).encode(encoding))
    read = iemocap.read(folder).table
    assert len(read) == len(corpus.table)
    assert read["text"].str.replace("\u2028", "").str.endswith(" it\u2019s \u2026").all()


def test_one_session_is_read_when_asked_for(small, tmp_path):
    folder = iemocap_layout(tmp_path, small["iemocap6"])
    for session in (1, 2, 4, 5):
        (folder / f"Session{session}").rename(folder / f"later{session}")
    with pytest.raises(CorpusError, match="Session1.*all five sessions, or with --partial some"):
        iemocap.read(folder)
    part = iemocap.read(folder, partial=True)
    assert set(part.table["speaker"].str[:2]) == {"03"} and set(part.table["split"]) <= {"train", "val"}
    with pytest.raises(CorpusError, match="Session5"):
        iemocap.read(folder / "later1", partial=True)


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
    with pytest.raises(CorpusError, match="Session4.*all five sessions"):
        iemocap.read(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t", "    ", r"lines such as '\[.*; expected .* between tabs"),
        ("[", "% [", "lines of which none is a rating"),
    ],
)
def test_an_evaluation_that_an_editor_has_changed_is_named_also_in_a_part(small, tmp_path, old, new, message):
    folder = iemocap_layout(tmp_path, small["iemocap6"])
    evaluation = next((folder / "Session2/dialog/EmoEvaluation").glob("Ses*"))
    evaluation.write_text(evaluation.read_text(encoding="latin-1").replace(old, new))
    with pytest.raises(CorpusError, match=re.escape(f"{evaluation}: ") + message):
        iemocap.read(folder, partial=True)


def test_the_real_majority_labels_are_7380(shared_data, tmp_path):
    rows = pd.read_csv(shared_data / "iemocap" / "utterances.csv").rename(columns={"utt": "utterance"})
    rows = rows.assign(label=0, split=rows["session"].map(lambda s: "test" if s == 5 else "train"))
    rows = table.Corpus("iemocap6_majority", official.SIX, rows, "real")
    folder = iemocap_layout(tmp_path, rows, majority=dict(zip(rows.ids, rows.table["emotion"], strict=True)))
    for name in iemocap.MAJORITY:
        corpus = iemocap.read(folder, name=name)
        table.expect(corpus)
        assert corpus.counts()["dialogues"] == {"train": 108, "val": 12, "test": 31}
