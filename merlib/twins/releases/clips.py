"""The media twins whose releases have one clip an utterance: RAVDESS, MELD, CMU-MOSI and CMU-MOSEI.

RAVDESS: 24 actors, odd men and even women; at scale 1 each has 22 of the 60 clips: three an emotion, one of neutral.

    Actor_01 .. Actor_24 / 03-01-EE-II-SS-RR-AA.wav, and 01-01-EE-II-SS-RR-AA.mp4 with frames and the same audio

MELD: as in the release, one clip of train is missing and one of test cannot be decoded: `flawed` says which. (Those of
the release, `merlib.corpora.meld.BAD_CLIPS`, are in dialogues that the twin does not have.)

    train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv
    train_splits/, dev_splits_complete/, output_repeated_splits_test/ with dia<Dialogue_ID>_utt<Utterance_ID>.mp4

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

from merlib.corpora.meld import FILES
from merlib.data.official import LABELS
from merlib.twins import dialogues
from merlib.twins.releases import takes
from merlib.twins.releases.voice import RATE

SHARES = {"ravdess": 1 / 3, "meld": 0.022, "mosi": 0.12, "mosei": 0.012}  # of the utterances, at scale 1
STRENGTHS = {"01": 0.8, "02": 1.25}  # RAVDESS: by the name's intensity
WOMEN, MEN = ("Rachel", "Phoebe", "Monica"), ("Joey", "Ross", "Chandler")
SENTIMENT = {"neutral": "neutral", "joy": "positive"}  # MELD: surprise is either; the others are negative
SEQUENCES = {
    "mosi": ("CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels", ["sentiment"]),
    "mosei": ("CMU_MOSEI_Labels.csd", "All Labels", "sentiment happy sad anger surprise disgust fear".split()),
}
FOLDS = {"train": "standard_train_fold", "val": "standard_valid_fold", "test": "standard_test_fold"}
UNLABELLED = 0.1  # share of MOSEI's clips that have a transcript only


def ravdess_rows(*, seed: int, scale: float) -> pd.DataFrame:
    """Every clip: utterance (its name), speaker (actor), label and text."""
    return dialogues.make("ravdess", seed=seed, scale=SHARES["ravdess"] * scale)[0].table


def ravdess(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    for row in ravdess_rows(seed=seed, scale=scale).itertuples():
        rng = takes.generator(seed, row.utterance)
        who = takes.actor(f"ravdess {row.speaker}", female=int(row.speaker) % 2 == 0)
        strength = STRENGTHS[row.utterance.split("-")[3]]
        wav = folder / f"Actor_{row.speaker}" / f"{row.utterance}.wav"
        mp4, seconds = wav.with_name(f"01{wav.stem[2:]}.mp4"), rng.uniform(0.85, 1.15)
        emotion = LABELS[name][row.label]
        takes.write_audio(wav, takes.record(mp4, who, emotion, seconds=seconds, rng=rng, strength=strength))


def meld_rows(*, seed: int, scale: float) -> pd.DataFrame:
    """Every turn in order, as `merlib.corpora.meld` names it, with start and end in the episode."""
    rows = dialogues.make("meld", seed=seed, scale=max(SHARES["meld"] * scale, 1e-6))[0].table
    rng = np.random.default_rng([seed, 2])
    length = rng.uniform(0.7, 1.3, len(rows)).round(3)
    pause = pd.Series(rng.uniform(0.05, 0.3, len(rows)).round(3))
    ends = (length + pause).groupby(rows["dialogue"], sort=False).cumsum()
    scene = rows.groupby("dialogue", sort=False).ngroup() * 61.5  # a dialogue a minute
    return rows.assign(start=(scene + ends - length).round(3), end=(scene + ends).round(3))


def flawed(rows: pd.DataFrame) -> tuple[str, str]:
    """The utterance whose clip is missing, the last of train, and the one whose clip is cut off, the last of test."""
    return tuple(rows.loc[rows["split"] == split, "utterance"].iloc[-1] for split in ("train", "test"))


def meld(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    rows = meld_rows(seed=seed, scale=scale)
    missing, cut = flawed(rows)
    for part, (split, clips) in FILES.items():
        _sheet(rows[rows["split"] == split], seed).to_csv(folder / f"{part}_sent_emo.csv", index=False)
        for row in rows[(rows["split"] == split) & (rows["utterance"] != missing)].itertuples():
            rng = takes.generator(seed, row.utterance)
            guest_female = row.speaker not in MEN and zlib.crc32(row.speaker.encode()) % 2 == 0  # by chance
            who = takes.actor(f"meld {row.speaker}", female=row.speaker in WOMEN or guest_female)
            file = folder / clips / f"{row.utterance.removeprefix(f'{part}_')}.mp4"
            takes.record(file, who, LABELS[name][row.label], seconds=row.end - row.start, rng=rng)
            if row.utterance == cut:
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _sheet(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    emotion = rows["label"].map(dict(enumerate(LABELS["meld"])))
    either = pd.Series(np.random.default_rng([seed, 3]).choice(["positive", "negative"], len(rows)), index=rows.index)
    sentiment = emotion.map(SENTIMENT).fillna("negative").where(emotion != "surprise", either)
    number = rows["dialogue"].str.split("_").str[1].astype(int)
    columns = {
        "Sr No.": range(1, len(rows) + 1), "Utterance": rows["text"], "Speaker": rows["speaker"], "Emotion": emotion,
        "Sentiment": sentiment, "Dialogue_ID": number, "Utterance_ID": rows["turn"],
        "Season": 1 + number // 24, "Episode": 1 + number % 24,
        "StartTime": rows["start"].map(_clock), "EndTime": rows["end"].map(_clock),
    }  # fmt: skip
    return pd.DataFrame(columns)


def _clock(seconds: float) -> str:
    """`hh:mm:ss,mmm`."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"


def cmu_rows(name: str, *, seed: int, scale: float) -> pd.DataFrame:
    """Every clip: dialogue (video), clip (its number), split, score, text, start and end in the video, labelled."""
    rows = dialogues.make(name, seed=seed, scale=SHARES[name] * scale)[0].table
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    codes = [hashlib.sha256(f"{name} {v} {seed}".encode()).digest() for v in rows["dialogue"]]
    rows["dialogue"] = rows["speaker"] = [base64.urlsafe_b64encode(code).decode()[:11] for code in codes]
    rows["clip"] = rows["turn"] + (name == "mosi")
    rows["text"] = rows["text"].str.upper().str.rstrip(".") if name == "mosi" else rows["text"]
    length, pause = rng.uniform(0.7, 1.3, len(rows)).round(3), rng.uniform(0, 0.3, len(rows)).round(3)
    rows["end"] = pd.Series(length + pause).groupby(rows["dialogue"], sort=False).cumsum().round(3)
    rows["start"] = (rows["end"] - length).round(3)
    rows["labelled"] = (rng.random(len(rows)) >= UNLABELLED) | (name == "mosi") | (rows["turn"] == 0)
    rows["utterance"] = rows["dialogue"] + "_" + rows["clip"].astype(str)
    return rows.drop(columns=["turn", "label", "audio", "video"])


def cmu(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    rows = cmu_rows(name, seed=seed, scale=scale)
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
