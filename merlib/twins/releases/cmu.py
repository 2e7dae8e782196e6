"""The media twins of CMU-MOSI and CMU-MOSEI: raw clips, transcripts and labels, as the archives unpack.

MOSI; clips are numbered from 1, and the i-th row of a video's labels is its clip i:

    Raw/Video/Segmented/<video>_<clip>.mp4              Raw/Audio/WAV_16000/Segmented/<video>_<clip>.wav
    Raw/Transcript/Segmented/<video>.annotprocessed     lines `<clip>_DELIM_TEXT`, in capitals
    CMU_MOSI_Opinion_Labels.csd                         "Opinion Segment Labels": the score in [-3, 3]; NaN for none

MOSEI; clips are numbered from 0, and some have no label: a clip's row is the one with its interval:

    Raw/Videos/Segmented/Combined/<video>_<clip>.mp4    Raw/Audio/Full/WAV_16000/<video>.wav, the whole video's audio
    Raw/Transcript/Segmented/Combined/<video>.txt       lines `<video>___<clip>___<start>___<end>___<text>`
    CMU_MOSEI_Labels.csd                                "All Labels": sentiment, then six emotions from 0 to 3

A `.csd` is the SDK's HDF5 file, <name>/data/<video>/{features (n d), intervals (n 2, seconds)} and <name>/metadata.
The standard folds are the SDK's lists, in `cmu_mosi_std_folds.py` or `cmu_mosei_std_folds.py`: text to be parsed, not
to be run. Videos are named as on YouTube: eleven characters, `_` and `-` among them, also at either end.
"""

import base64
import hashlib
import json
import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from merlib.twins import dialogues
from merlib.twins.releases import takes
from merlib.twins.releases.voice import RATE

SHARES = {"mosi": 0.12, "mosei": 0.012}  # of the utterances, at scale 1
SEQUENCES = {
    "mosi": ("CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels", ["sentiment"]),
    "mosei": ("CMU_MOSEI_Labels.csd", "All Labels", "sentiment happy sad anger surprise disgust fear".split()),
}
FOLDS = {"train": "standard_train_fold", "val": "standard_valid_fold", "test": "standard_test_fold"}
UNLABELLED = 0.1  # share of MOSEI's clips that have a transcript only


def table(name: str, *, seed: int, scale: float) -> pd.DataFrame:
    """Every clip: dialogue (video), clip (its number), split, score, text, start and end in the video, labelled."""
    rows = dialogues.make(name, seed=seed, scale=SHARES[name] * scale)[0].table
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    rows["dialogue"] = rows["speaker"] = [_youtube(f"{name} {v} {seed}") for v in rows["dialogue"]]
    first = 1 if name == "mosi" else 0
    rows["clip"] = rows["turn"] + first
    rows["text"] = rows["text"].str.upper().str.rstrip(".") if name == "mosi" else rows["text"]
    length, pause = rng.uniform(0.7, 1.3, len(rows)).round(3), rng.uniform(0, 0.3, len(rows)).round(3)
    rows["end"] = pd.Series(length + pause).groupby(rows["dialogue"], sort=False).cumsum().round(3)
    rows["start"] = (rows["end"] - length).round(3)
    rows["labelled"] = (rng.random(len(rows)) >= UNLABELLED) | (name == "mosi") | (rows["turn"] == 0)
    rows["utterance"] = rows["dialogue"] + "_" + rows["clip"].astype(str)
    return rows.drop(columns=["turn", "label", "audio", "video"])


def fill(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    rows = table(name, seed=seed, scale=scale)
    _labels(folder, name, rows)
    videos = {s: list(rows.loc[rows["split"] == s, "dialogue"].unique()) for s in FOLDS}
    lists = "\n".join(f"{FOLDS[s]} = {videos[s]!r}" for s in FOLDS)
    (folder / f"cmu_{name}_std_folds.py").write_text(lists + "\n")
    raw = folder / "Raw"
    for video, clips in rows.groupby("dialogue", sort=False):
        _transcript(raw / "Transcript" / "Segmented", name, video, clips)
        whole = np.zeros(round(clips["end"].max() * RATE) + RATE // 10, dtype=np.float32)
        for row in clips.itertuples():
            rng = takes.generator(seed, row.utterance)
            who = takes.actor(f"{name} {video}", female=zlib.crc32(video.encode()) % 2 == 0)
            place = raw / ("Video/Segmented" if name == "mosi" else "Videos/Segmented/Combined")
            score = 0.0 if np.isnan(row.score) else row.score
            acted = {"emotion": "happy" if score > 0 else "sad", "strength": 0.7 * abs(score) / 3}
            length = row.end - row.start
            audio = takes.record(place / f"{row.utterance}.mp4", who, seconds=length, rng=rng, **acted)
            whole[round(row.start * RATE) :][: len(audio)] = audio[: len(whole) - round(row.start * RATE)]
            if name == "mosi":
                takes.write_audio(raw / "Audio" / "WAV_16000" / "Segmented" / f"{row.utterance}.wav", audio)
        if name == "mosei":
            takes.write_audio(raw / "Audio" / "Full" / "WAV_16000" / f"{video}.wav", whole)


def _transcript(folder: Path, name: str, video: str, clips: pd.DataFrame) -> None:
    if name == "mosi":
        file, lines = folder / f"{video}.annotprocessed", [f"{r.clip}_DELIM_{r.text}" for r in clips.itertuples()]
    else:
        file = folder / "Combined" / f"{video}.txt"
        lines = [f"{video}___{r.clip}___{r.start:.4f}___{r.end:.4f}___{r.text}" for r in clips.itertuples()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _labels(folder: Path, name: str, rows: pd.DataFrame) -> None:
    file, root, columns = SEQUENCES[name]
    with h5py.File(folder / file, "w") as sequence:
        for video, clips in rows[rows["labelled"]].groupby("dialogue"):
            score = clips["score"].to_numpy()
            values = np.zeros((len(clips), len(columns)), dtype=np.float32)
            values[:, 0] = score
            if name == "mosei":
                values[:, 1], values[:, 2] = np.round(np.maximum(score, 0), 2), np.round(np.maximum(-score, 0), 2)
            sequence[f"{root}/data/{video}/features"] = values
            sequence[f"{root}/data/{video}/intervals"] = clips[["start", "end"]].to_numpy(dtype=np.float64)
        metadata = {"root name": root, "dimension names": columns, "dataset name": f"CMU-{name.upper()}"}
        for key, value in metadata.items():
            sequence.create_dataset(f"{root}/metadata/{key}", data=[json.dumps(value)], dtype=h5py.string_dtype())


def _youtube(name: str) -> str:
    """Eleven letters, digits, `-` and `_`."""
    return base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()[:11]
