"""RAVDESS's media twin: speech clips of 24 actors, odd men and even women, named as released.

    Actor_01 .. Actor_24 / 03-01-EE-II-SS-RR-AA.wav, and 01-01-EE-II-SS-RR-AA.mp4 with frame and the same audio

At scale 1 an actor has 22 of the 60 clips: three of each emotion, one of neutral. Strong intensity is acted stronger.
"""

from pathlib import Path

import pandas as pd

from merlib.data.official import LABELS
from merlib.twins import dialogues
from merlib.twins.releases import takes

SHARE = 1 / 3  # of the clips, at scale 1
STRENGTHS = {"01": 0.8, "02": 1.25}  # by the name's intensity


def table(*, seed: int, scale: float) -> pd.DataFrame:
    """Every clip: utterance (its name), speaker (actor), label and text."""
    return dialogues.make("ravdess", seed=seed, scale=SHARE * scale)[0].table


def fill(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    for row in table(seed=seed, scale=scale).itertuples():
        rng = takes.generator(seed, row.utterance)
        who = takes.actor(f"ravdess {row.speaker}", female=int(row.speaker) % 2 == 0)
        strength = STRENGTHS[row.utterance.split("-")[3]]
        wav = folder / f"Actor_{row.speaker}" / f"{row.utterance}.wav"
        mp4, seconds = wav.with_name(f"01{wav.stem[2:]}.mp4"), rng.uniform(0.85, 1.15)
        emotion = LABELS[name][row.label]
        takes.write_audio(wav, takes.record(mp4, who, emotion, seconds=seconds, rng=rng, strength=strength))
