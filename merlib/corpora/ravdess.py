"""RAVDESS (Livingstone and Russo 2018): the speech clips of the official layout, described by their names alone.

    Actor_01 .. Actor_24 / 03-01-05-02-01-02-01.wav     (or .flac; and 01-01-05-02-01-02-01.mp4, with video)

The seven numbers are modality (01 video with audio, 02 video only, 03 audio only), channel (01 speech, 02 song),
emotion, intensity (01 normal, 02 strong; neutral has no strong), statement, repetition and actor (odd: men, even:
women). Only speech is read: 60 clips per actor, 1440 in all. Songs in the same folders are ignored. The actors' folders
may lie up to two folders deeper, and in several copies; the case of letters does not count.
"""

import filecmp
import re
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd

from merlib.corpora.reading import visible
from merlib.data import splits
from merlib.data.table import Corpus, CorpusError, build
from merlib.errors import Notice, listed

NAME = re.compile(
    r"0(?P<modality>[123])-0(?P<channel>[12])-0(?P<emotion>[1-8])-0(?P<intensity>[12])-0(?P<statement>[12])-0[12]"
    r"-(?P<actor>\d\d)"
)
ACTOR = re.compile(r"actor_(\d\d)", re.IGNORECASE)
AUDIO = (".wav", ".flac")
STATEMENTS = {"1": "Kids are talking by the door.", "2": "Dogs are sitting by the door."}


def read(source: Path, *, partial: bool = False) -> Corpus:
    """The speech clips below the folder `source`: every clip is a dialogue, split as fold 0 of protocol `actors`.

    partial: actors may be missing.
    """
    source = Path(source)
    found = index(source)
    audio = {name: [f for f in files if f.suffix.lower() in AUDIO] for name, files in found.items()}
    clips = [_clip(_one(files, source), found, source) for files in audio.values() if files]
    rows = [clip for clip in clips if clip]
    if not rows:
        raise CorpusError(f"{source}: no speech clip; expected Actor_01/03-01-01-01-01-01-01.wav and its like.")
    if songs := len(clips) - len(rows):
        warnings.warn(Notice(f"{songs} songs (03-02-*) are left out", source), stacklevel=1)
    if copies := sum(len(files) > 1 for files in audio.values()):
        what = f"{copies} clips lie in several folders with the same bytes; of each the first copy is taken"
        warnings.warn(Notice(what, source), stacklevel=1)
    table = pd.DataFrame(rows)
    protocol = {"split": "actors"}
    draw = splits.PROTOCOLS["actors"](table, protocol, "corpus", 0) if partial else splits.assign(table, protocol)
    return build("ravdess", table.assign(split=draw), source="official layout, speech")


def index(source: Path, *, depth: int = 3) -> dict[str, list[Path]]:
    """Name of a clip, without suffix -> its files in the folders of actors, those that are least deep first."""
    found: dict[str, list[Path]] = {}
    folders = [source]
    for _ in range(depth):
        below = [f for folder in folders for f in visible(folder, "*") if f.is_dir()]
        for file in (file for f in below if ACTOR.fullmatch(f.name) for file in visible(f, "*")):
            if file.suffix.lower() in (*AUDIO, ".mp4"):
                found.setdefault(file.stem, []).append(file)
        folders = [f for f in below if not ACTOR.fullmatch(f.name)]
    return found


def clips() -> Iterator[str]:
    """The 1440 speech clips of the release, `Actor_01/03-01-01-01-01-01-01` without suffix."""
    for actor, emotion, intensity, statement, repetition in product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2)):
        if (emotion, intensity) != (1, 2):
            yield f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"


def _one(files: list[Path], source: Path) -> Path:
    """The first of several copies of a clip, which must be equal."""
    first, *others = files
    for other in others:
        if other.suffix.lower() != first.suffix.lower():
            both = [f.relative_to(source).as_posix() for f in (first, other)]
            what = f"{source}: clips are there twice, as wav and flac, first {listed(both)}"
            raise CorpusError(f"{what}. Keep one of each.")
        if not filecmp.cmp(first, other, shallow=False):
            raise CorpusError(f"{other} has other bytes than {first}. Keep the right one of the two.")
    return first


def _clip(file: Path, found: dict[str, list[Path]], source: Path) -> dict | None:
    """The row of one audio file; None for a song."""
    name, folder = NAME.fullmatch(file.stem), ACTOR.fullmatch(file.parent.name)
    official = name and name["modality"] == "3" and name["actor"] == folder[1]
    if not official or not 1 <= int(name["actor"]) <= 24 or (name["emotion"], name["intensity"]) == ("1", "2"):
        raise CorpusError(
            f"{file}: no name of a clip of {file.parent.name}; expected 03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-"
            "ACTOR, two digits each. Restore the official name, or remove the file."
        )
    if name["channel"] == "2":
        return None
    video = next(iter(found.get(f"01{file.stem[2:]}", ())), None)
    return {
        "utterance": file.stem,
        "dialogue": file.stem,
        "speaker": name["actor"],
        "label": int(name["emotion"]) - 1,  # the order of the numbers is the order of official.LABELS
        "text": STATEMENTS[name["statement"]],
        "audio": file.relative_to(source).as_posix(),
        "video": video.relative_to(source).as_posix() if video else "",
    }
