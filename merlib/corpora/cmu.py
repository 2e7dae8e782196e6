"""CMU-MOSI and CMU-MOSEI (Zadeh et al. 2016, 2018) as released: clips, transcripts, labels and folds of the SDK.

    CMU_MOSI_Opinion_Labels.csd       or CMU_MOSEI_Labels.csd: HDF5, <name>/data/<video>/{features,intervals}
    cmu_mosi_std_folds.py             or cmu_mosei_std_folds.py, from the SDK: three lists of videos; parsed, never run
    Raw/Transcript/Segmented/<video>.annotprocessed               MOSI: lines `<clip>_DELIM_<text>`, clips from 1
    Raw/Transcript/Segmented/Combined/<video>.txt                 MOSEI: <video>___<clip>___<start>___<end>___<text>
    Raw/Video/Segmented/<video>_<clip>.mp4                        MOSI
    Raw/Videos/Segmented/Combined/<video>_<clip>.mp4              MOSEI
    Raw/Audio/WAV_16000/Segmented/<video>_<clip>.wav              MOSI

Scores are those of the label file, whose rows have no clip numbers: for MOSI they are in the order of the clips, for
MOSEI a row belongs to the clip with the same times. A clip without a label stays as an utterance without a score.
"""

import ast
import warnings
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from merlib.corpora.reading import media_path, required, visible
from merlib.data.table import Corpus, CorpusError, build
from merlib.errors import Notice, listed
from merlib.foreign import content, read_text

FOLDS = {"standard_train_fold": "train", "standard_valid_fold": "val", "standard_test_fold": "test"}
SECONDS = r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?"
TOLERANCE = 0.05  # seconds by which the times of a clip may differ between transcript and labels


@dataclass(frozen=True)
class Release:
    """The files of a release; `{}` stands for an utterance."""

    labels: str
    folds: str
    transcripts: str  # `*` stands for a video
    fields: str  # the fields of a line of a transcript, after the name of its video
    separator: str
    video: str
    audio: str


RELEASES = {
    "mosi": Release(
        labels="CMU_MOSI_Opinion_Labels.csd",
        folds="cmu_mosi_std_folds.py",
        transcripts="Raw/Transcript/Segmented/*.annotprocessed",
        fields="clip text",
        separator="_DELIM_",
        video="Raw/Video/Segmented/{}.mp4",
        audio="Raw/Audio/WAV_16000/Segmented/{}.wav",
    ),
    "mosei": Release(
        labels="CMU_MOSEI_Labels.csd",
        folds="cmu_mosei_std_folds.py",
        transcripts="Raw/Transcript/Segmented/Combined/*.txt",
        fields="clip start end text",
        separator="___",
        video="Raw/Videos/Segmented/Combined/{}.mp4",
        audio="",
    ),
}


def read(source: Path, name: str) -> Corpus:
    """The corpus `name`, mosi or mosei, in the folder `source`: every clip that has a transcript and a fold."""
    source, release = Path(source), RELEASES[name]
    labels, folds = _labels(source / release.labels), _folds(source / release.folds)
    files = visible(source, release.transcripts)
    if not files:
        raise CorpusError(f"{source / release.transcripts}: no such file; unpack the transcripts there.")
    rows = pd.concat([_clips(file, release, labels) for file in files], ignore_index=True)
    rows = rows.assign(split=rows["dialogue"].map(folds))
    if (foldless := rows["split"].isna()).any():
        videos = rows["dialogue"][foldless].unique()
        what = f"{foldless.sum()} clips of {len(videos)} videos in no fold are left out, first {videos[0]}"
        warnings.warn(Notice(what, source), stacklevel=1)
    rows = rows[~foldless].copy()
    for column, pattern in (("video", release.video), ("audio", release.audio)):
        rows[column] = [media_path(source / pattern.format(u), source) if pattern else "" for u in rows["utterance"]]
    rows["speaker"] = rows["dialogue"]  # every video has one speaker
    return build(name, rows, source="official release, standard folds of the SDK")


def expected(folder: Path, name: str) -> dict[str, list[str]]:
    """The files that the transcripts and labels of a release name, by kind."""
    release = RELEASES[name]
    files, labels = visible(folder, release.transcripts), folder / release.labels
    clips = [f"{file.stem}_{clip}" for file in files for clip in _lines(file, release)["clip"]]
    videos = sorted(_labels(labels)) if labels.exists() else []
    return {
        "lists of folds": [release.folds],
        "transcripts": [release.transcripts.replace("*", video) for video in videos],
        "videos": [release.video.format(clip) for clip in clips],
    }


def _labels(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The label file: video -> the scores (n; the first column) and times (n 2, seconds) of its clips."""
    required(file, "the label file of the CMU-Multimodal SDK.")
    try:
        with h5py.File(file) as sequences:
            (name,) = sequences
            data = sequences[name]["data"]
            return {v: (data[v]["features"][:, 0].astype(float), data[v]["intervals"][:].astype(float)) for v in data}
    except Exception as error:  # noqa: BLE001, damaged bytes make HDF5 raise almost anything
        reason = content(file) if content(file) not in ("", "an HDF5 file") else error
        raise CorpusError(f"{file}: no computational sequence of the SDK ({reason}). Fetch it again.") from None


def _folds(file: Path) -> dict[str, str]:
    """The SDK's file of lists: video -> train, val or test. The file is parsed, never run."""
    required(file, "the standard folds of the CMU-Multimodal SDK, a file of lists.")
    try:
        lists = {
            target.id: ast.literal_eval(node.value)
            for node in ast.parse(read_text(file)).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in FOLDS
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CorpusError(f"{file}: not the SDK's file of lists ({error}). Take it unchanged.") from None
    if missing := sorted(set(FOLDS) - set(lists)):
        what = f"{file}: no list {listed(missing)}"
        raise CorpusError(f"{what}; expected {listed(sorted(FOLDS))}. Take the SDK's file unchanged.")
    return {video: FOLDS[name] for name, videos in lists.items() for video in videos}


def _lines(file: Path, release: Release) -> pd.DataFrame:
    """The lines of a transcript as a table, in the order of their clips."""
    fields = release.fields.split()
    lines = [line for line in read_text(file).split("\n") if line.strip()]
    lines = [line.removeprefix(f"{file.stem}___") for line in lines]  # in MOSEI; a video's name may end with _
    values = [line.split(release.separator, len(fields) - 1) for line in lines]
    sound = [len(each) == len(fields) and each[0].strip().isdecimal() for each in values]
    if malformed := [line[:40] for line, each in zip(lines, sound, strict=True) if not each]:
        raise CorpusError(f"{file}: lines such as {malformed[0]!r}; expected {release.separator.join(fields)}.")
    table = pd.DataFrame(values, columns=fields)
    for name, number in (("clip", r"\d{1,9}"), ("start", SECONDS), ("end", SECONDS)):
        if name in table and not (good := table[name].str.fullmatch(number)).all():
            raise CorpusError(
                f"{file}: the {name} {table[name][~good].iloc[0]!r} is no number. Take the official file."
            )
    return table.assign(clip=table["clip"].astype(int)).sort_values("clip", ignore_index=True)


def _clips(file: Path, release: Release, labels: dict) -> pd.DataFrame:
    """The clips of one video: utterance, dialogue, text, times and score."""
    lines, video = _lines(file, release), file.stem
    scores, times = labels.get(video, (np.zeros(0), np.zeros((0, 2))))
    if "start" in lines:
        spans = lines[["start", "end"]].apply(pd.to_numeric)
        matches = [np.flatnonzero((np.abs(times - span) < TOLERANCE).all(axis=1)) for span in spans.to_numpy()]
        lines[["start", "end"]], lines["score"] = spans, [scores[rows[0]] if len(rows) else np.nan for rows in matches]
    elif len(scores) == len(lines):
        lines["start"], lines["end"], lines["score"] = *times.T, scores
    elif len(scores):
        raise CorpusError(f"{file}: {len(lines)} clips, but {len(scores)} labels. Take both from one release.")
    return lines.drop(columns="clip").assign(utterance=[f"{video}_{clip}" for clip in lines["clip"]], dialogue=video)
