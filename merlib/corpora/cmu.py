"""CMU-MOSI and CMU-MOSEI (Zadeh et al. 2016, 2018) as released: clips, transcripts, labels of the SDK, standard folds.

    CMU_MOSI_Opinion_Labels.csd       or CMU_MOSEI_Labels.csd: HDF5, <name>/data/<video>/{features,intervals}
    cmu_mosi_std_folds.py             or cmu_mosei_std_folds.py, from the SDK: three lists of videos; read, never run
    Raw/Transcript/Segmented/<video>.annotprocessed               MOSI: lines `<clip>_DELIM_<text>`, clips from 1
    Raw/Transcript/Segmented/Combined/<video>.txt                 MOSEI: <video>___<clip>___<start>___<end>___<text>
    Raw/Video/Segmented/<video>_<clip>.mp4                        MOSI
    Raw/Videos/Segmented/Combined/<video>_<clip>.mp4              MOSEI
    Raw/Audio/WAV_16000/Segmented/<video>_<clip>.wav              MOSI

Scores are those of the label file. Its rows have no clip numbers: MOSI's are in the order of the clips; those of MOSEI
belong to the clip with the same times. A clip without a label stays as an utterance without a score.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from merlib.data.table import Corpus, CorpusError, build

FOLDS = {"standard_train_fold": "train", "standard_valid_fold": "val", "standard_test_fold": "test"}
SAME = 0.05  # seconds by which the times of a clip may differ between transcript and labels


@dataclass(frozen=True)
class Release:
    """Where a release keeps what."""

    labels: str
    folds: str
    transcripts: str
    suffix: str
    lines: str  # the parts of a line of a transcript, after the name of its video
    separator: str
    video: str
    audio: str


RELEASES = {
    "mosi": Release(
        labels="CMU_MOSI_Opinion_Labels.csd",
        folds="cmu_mosi_std_folds.py",
        transcripts="Raw/Transcript/Segmented",
        suffix=".annotprocessed",
        lines="clip text",
        separator="_DELIM_",
        video="Raw/Video/Segmented/{}.mp4",
        audio="Raw/Audio/WAV_16000/Segmented/{}.wav",
    ),
    "mosei": Release(
        labels="CMU_MOSEI_Labels.csd",
        folds="cmu_mosei_std_folds.py",
        transcripts="Raw/Transcript/Segmented/Combined",
        suffix=".txt",
        lines="clip start end text",
        separator="___",
        video="Raw/Videos/Segmented/Combined/{}.mp4",
        audio="",
    ),
}


def read(source: Path, name: str) -> Corpus:
    """The corpus `name`, mosi or mosei, in the folder `source`: every clip that has a transcript and a fold."""
    source, release = Path(source), RELEASES[name]
    scores, folds = _scores(source / release.labels), _folds(source / release.folds)
    files = transcripts(source, release)
    if not files:
        raise CorpusError(f"{source / release.transcripts}: no {release.suffix} file; unpack the transcripts there.")
    rows = pd.concat([_video(file, release, scores) for file in files], ignore_index=True)
    rows["split"] = rows["dialogue"].map(folds)
    rows = rows.dropna(subset="split")
    for column, place in (("video", release.video), ("audio", release.audio)):
        files = [place.format(u) if place else "" for u in rows["utterance"]]
        rows[column] = [file if file and (source / file).exists() else "" for file in files]
    rows["speaker"] = rows["dialogue"]  # one speaker a video
    return build(name, rows, source="official release, standard folds of the SDK")


def expected(folder: Path, name: str) -> dict[str, list[str]]:
    """The files that a release's own transcripts and labels name, by what they are."""
    release = RELEASES[name]
    clips = [f"{file.stem}_{clip}" for file in transcripts(folder, release) for clip in _lines(file, release)["clip"]]
    labels = folder / release.labels
    videos = sorted(_scores(labels)) if labels.exists() else []
    return {
        "lists of folds": [release.folds],
        "transcripts": [f"{release.transcripts}/{video}{release.suffix}" for video in videos],
        "films": [release.video.format(clip) for clip in clips],
    }


def transcripts(source: Path, release: Release) -> list[Path]:
    """The files of text, one a video."""
    return [f for f in sorted((source / release.transcripts).glob(f"*{release.suffix}")) if f.name[0] != "."]


def _scores(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Video -> its clips' scores (n; the first column) and times (n 2, seconds)."""
    if not file.exists():
        raise CorpusError(f"{file} is not there; expected the label file of the CMU-Multimodal SDK.")
    try:
        with h5py.File(file) as opened:
            (name,) = opened
            data = opened[name]["data"]
            return {v: (data[v]["features"][:, 0].astype(float), data[v]["intervals"][:].astype(float)) for v in data}
    except (OSError, KeyError, ValueError) as error:
        raise CorpusError(f"{file}: no computational sequence of the SDK ({error}). Fetch it again.") from None


def _folds(file: Path) -> dict[str, str]:
    """Video -> train, val or test, from the SDK's file of lists; nothing in it is run."""
    if not file.exists():
        raise CorpusError(
            f"{file} is not there; expected the standard folds of the CMU-Multimodal SDK, a file of lists."
        )
    try:
        lists = {
            target.id: ast.literal_eval(node.value)
            for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in FOLDS
        }
    except (SyntaxError, ValueError) as error:
        raise CorpusError(f"{file}: not the SDK's file of lists ({error}). Take it unchanged.") from None
    if missing := sorted(set(FOLDS) - set(lists)):
        raise CorpusError(f"{file}: no list {missing}; expected {sorted(FOLDS)}. Take the SDK's file unchanged.")
    return {video: FOLDS[name] for name, videos in lists.items() for video in videos}


def _lines(file: Path, release: Release) -> pd.DataFrame:
    """A transcript's lines, by clip."""
    names = release.lines.split()
    lines = [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    lines = [line.removeprefix(f"{file.stem}___") for line in lines]  # MOSEI's begin so; a video's name may end with _
    parts = [line.split(release.separator, len(names) - 1) for line in lines]
    if bad := [line[:40] for line, part in zip(lines, parts, strict=True) if len(part) != len(names)]:
        raise CorpusError(f"{file}: lines such as {bad[0]!r}; expected {release.separator.join(names)}.")
    table = pd.DataFrame(parts, columns=names)
    return table.assign(clip=table["clip"].astype(int)).sort_values("clip", ignore_index=True)


def _video(file: Path, release: Release, scores: dict) -> pd.DataFrame:
    """The clips of one video: utterance, dialogue, text, times and score."""
    lines, video = _lines(file, release), file.stem
    values, times = scores.get(video, (np.zeros(0), np.zeros((0, 2))))
    if "start" in lines:
        lines = lines.astype({"start": float, "end": float})
        found = [
            np.flatnonzero((np.abs(times - [s, e]) < SAME).all(1))
            for s, e in zip(lines["start"], lines["end"], strict=True)
        ]
        lines["score"] = [values[at[0]] if len(at) else np.nan for at in found]
    else:
        if len(values) and len(values) != len(lines):
            raise CorpusError(f"{file}: {len(lines)} clips, but {len(values)} labels. Take both from one release.")
        lines["start"], lines["end"] = times.T if len(times) else np.full((2, len(lines)), np.nan)
        lines["score"] = values if len(values) else np.nan
    lines["utterance"], lines["dialogue"] = [f"{video}_{clip}" for clip in lines["clip"]], video
    return lines[["utterance", "dialogue", "text", "start", "end", "score"]]
