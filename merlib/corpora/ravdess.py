"""RAVDESS (Livingstone and Russo 2018): the speech clips of the official layout, described by their names alone.

    Actor_01 .. Actor_24 / 03-01-05-02-01-02-01.wav     (or .flac; and 01-01-05-02-01-02-01.mp4, with video)

The seven numbers are modality (01 video with audio, 02 video only, 03 audio only), channel (01 speech, 02 song),
emotion, intensity (01 normal, 02 strong; neutral has no strong), statement, repetition and actor (odd: men, even:
women). Only speech is read: 60 clips per actor, 1440 in all. Songs in the same folders are ignored.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd

from merlib.corpora.reading import media_path, visible
from merlib.data import splits
from merlib.data.table import Corpus, CorpusError, build

NAME = re.compile(
    r"0(?P<modality>[123])-0(?P<channel>[12])-0(?P<emotion>[1-8])-0(?P<intensity>[12])-0(?P<statement>[12])-0[12]"
    r"-(?P<actor>\d\d)"
)
STATEMENTS = {"1": "Kids are talking by the door.", "2": "Dogs are sitting by the door."}


def read(source: Path) -> Corpus:
    """The speech clips below the folder `source`: every clip is a dialogue, split as fold 0 of protocol `actors`."""
    source = Path(source)
    files = [f for f in visible(source, "Actor_*/*") if f.suffix in (".wav", ".flac")]
    rows = [row for row in (_clip(file, source) for file in files) if row]
    if not rows:
        raise CorpusError(f"{source}: no speech clip; expected Actor_01/03-01-01-01-01-01-01.wav and its like.")
    table = pd.DataFrame(rows)
    if duplicates := list(table["audio"][table["utterance"].duplicated()][:3]):
        raise CorpusError(f"{source}: clips are there twice, as wav and flac, first {duplicates}. Keep one of each.")
    table["split"] = splits.assign(table, {"split": "actors"})
    return build("ravdess", table, source="official layout, speech")


def clips() -> Iterator[str]:
    """The 1440 speech clips of the release, `Actor_01/03-01-01-01-01-01-01` without suffix."""
    for actor, emotion, intensity, statement, repetition in product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2)):
        if (emotion, intensity) != (1, 2):
            yield f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"


def _clip(file: Path, source: Path) -> dict | None:
    """The row of one audio file; None for a song."""
    name = NAME.fullmatch(file.stem)
    official = name and name["modality"] == "3" and f"Actor_{name['actor']}" == file.parent.name
    if not official or not 1 <= int(name["actor"]) <= 24 or (name["emotion"], name["intensity"]) == ("1", "2"):
        raise CorpusError(
            f"{file}: no name of a clip of {file.parent.name}; expected 03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-"
            "ACTOR, two digits each. Restore the official name, or remove the file."
        )
    if name["channel"] == "2":
        return None
    return {
        "utterance": file.stem,
        "dialogue": file.stem,
        "speaker": name["actor"],
        "label": int(name["emotion"]) - 1,  # the order of the numbers is the order of official.LABELS
        "text": STATEMENTS[name["statement"]],
        "audio": media_path(file, source),
        "video": media_path(file.with_name(f"01{file.stem[2:]}.mp4"), source),
    }
