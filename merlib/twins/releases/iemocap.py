"""IEMOCAP's media twin: five sessions of two actors, both in every frame, with majority labels and raters' lines.

    Session1..5/dialog/EmoEvaluation/<dialogue>.txt       times, utterance, majority, [V, A, D]; the raters' lines
    Session1..5/dialog/transcriptions/<dialogue>.txt      `utterance [start-end]: text`
    Session1..5/dialog/avi/DivX/<dialogue>.avi            320 x 120, two actors side by side; one actor a channel
    Session1..5/sentences/wav/<dialogue>/<utterance>.wav

Dialogues are named after the release, Ses01F_impro01 and Ses01M_script01_1; the letter after the session is of the
actor who wears the markers, and who sits where `merlib.corpora.iemocap.side` says. The shares of the majority labels
are those of the release, but a rare class keeps ten utterances (disgust and other their two and three). There are more
and shorter dialogues than the release has for its utterances: of each session, three validate.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora.iemocap import default_split, side
from merlib.twins import parts
from merlib.twins.releases import face, takes
from merlib.twins.releases.voice import RATE

FPS = 10
DIALOGUES, TURNS = 40, 360  # at scale 1
RELEASED = {  # utterances of each majority label, of 10039
    "ang": 1103, "hap": 595, "exc": 1041, "neu": 1708, "sad": 1084, "fru": 1849, "fea": 40, "sur": 107, "dis": 2,
    "oth": 3, "xxx": 2507,
}  # fmt: skip
FEW = 10  # utterances that a rare class keeps
CODES = {
    "ang": ("angry", "Anger"), "hap": ("happy", "Happiness"), "exc": ("excited", "Excited"),
    "neu": ("neutral", "Neutral"), "sad": ("sad", "Sadness"), "fru": ("frustrated", "Frustration"),
    "fea": ("fearful", "Fear"), "sur": ("surprised", "Surprise"), "dis": ("disgust", "Disgust"),
}  # fmt: skip
FELT = {  # valence, activation and dominance, 1 to 5, of raters: chosen
    "angry": (1.9, 3.8, 3.9), "happy": (4.1, 3.2, 3.0), "excited": (4.2, 3.9, 3.3), "neutral": (3.0, 2.6, 2.8),
    "sad": (2.1, 2.2, 2.5), "frustrated": (2.2, 3.1, 3.2), "fearful": (2.0, 3.6, 2.2), "surprised": (3.2, 3.7, 2.7),
    "disgust": (1.9, 3.0, 3.4),
}  # fmt: skip


def rows_of(*, seed: int, scale: float) -> pd.DataFrame:
    """Every turn in order: utterance, dialogue, speaker, majority (code), emotion as acted, text, start and end."""
    rng = np.random.default_rng([seed, 1])
    rows = _turns(rng, max(4, round(DIALOGUES / 5 * scale)))
    codes, counts = list(RELEASED), _counts(len(rows))
    labels = np.empty(len(rows), dtype=np.int64)
    labels[parts.line(rows["dialogue"], rows["speaker"], 0.7, 0.4, rng)] = np.repeat(range(len(codes)), counts)
    parts.cover(labels, rows["speaker"], within=pd.Series(0, index=rows.index))
    split = rows["dialogue"].map(default_split(rows["dialogue"]))
    parts.cover(labels, split, within=rows["speaker"])
    parts.move(labels, codes.index("dis"), [(split == "train") & (rows["speaker"] == a) for a in ("01M", "03M")])
    rows["majority"] = [codes[k] for k in labels]
    names = tuple(name for name, _ in CODES.values())
    drawn = rng.integers(6, size=len(rows))  # acted where raters have no majority, or one for another emotion
    acted = pd.Series([codes.index(c) if c in CODES else d for c, d in zip(rows["majority"], drawn, strict=True)])
    rows["emotion"], rows["text"] = acted.map(dict(enumerate(names))), parts.sentences(acted, names, rng)
    words = rows["text"].str.split().str.len()
    length = np.clip(0.35 + 0.09 * words + rng.normal(scale=0.08, size=len(rows)), 0.6, 1.2).round(2)
    pause = rng.uniform(0.1, 0.4, len(rows)).round(2)
    rows["end"] = (length + pause).groupby(rows["dialogue"], sort=False).cumsum().round(4)
    rows["start"] = (rows["end"] - length).round(4)
    return rows


def iemocap(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    for dialogue, rows in rows_of(seed=seed, scale=scale).groupby("dialogue", sort=False):
        session, rng = folder / f"Session{dialogue[4]}", takes.generator(seed, dialogue)
        lines = "".join(f"{r.utterance} [{r.start:08.4f}-{r.end:08.4f}]: {r.text}\n" for r in rows.itertuples())
        for kind, text in (("EmoEvaluation", _rated(rows, rng)), ("transcriptions", lines)):
            file = session / "dialog" / kind / f"{dialogue}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="latin-1")
        cast = {a: takes.actor(f"iemocap {dialogue[3:5]}{a}", female=a == "F") for a in "FM"}
        acts = {a: _acts(rows[rows["speaker"].str[-1] == a], cast[a], rng) for a in "FM"}
        samples = round((rows["end"].max() + 0.3) * RATE)
        audio = _mixed(acts, dialogue, samples, rng)  # s 2
        for row in rows.itertuples():
            wav = session / "sentences" / "wav" / dialogue / f"{row.utterance}.wav"
            takes.write_audio(wav, audio[round(row.start * RATE) : round(row.end * RATE)].mean(axis=1))
        frames = _two_shot(acts, cast, dialogue, round(samples / RATE * FPS), rng)
        takes.write_video(session / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", frames, fps=FPS, audio=audio)


def _turns(rng: np.random.Generator, per_session: int) -> pd.DataFrame:
    """Utterance, dialogue and speaker of every row; turns are numbered per actor, as in the release."""
    kinds = ["F_impro", "M_impro", "F_script", "M_script"]
    number, rows = 5 * per_session, []
    lengths = iter(parts.lengths(rng, number, round(number * TURNS / DIALOGUES), 5, 20, 6.0))
    for session in range(1, 6):
        for i in range(per_session):
            kind, take = kinds[i % 4], i // 4 + 1
            dialogue = f"Ses0{session}{kind}{take:02d}" + ("_1" if "script" in kind else "")
            who = (rng.integers(2) + (rng.random(next(lengths)) < 0.69).cumsum()) % 2
            turn = [int((who[:t] == k).sum()) for t, k in enumerate(who)]
            for t, k in zip(turn, who, strict=True):
                rows.append((f"{dialogue}_{'FM'[k]}{t:03d}", dialogue, f"0{session}{'FM'[k]}"))
    return pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker"])


def _counts(total: int) -> np.ndarray:
    """Rows of each majority label: the shares of the release, and enough of each rare class."""
    least = np.minimum(list(RELEASED.values()), FEW)
    counts = np.maximum(parts.apportion(tuple(RELEASED.values()), total), least)
    counts[np.argmax(counts)] -= counts.sum() - total  # utterances without a majority label, the most frequent case
    return counts


def _acts(rows: pd.DataFrame, who: takes.Actor, rng: np.random.Generator) -> list[tuple[float, takes.Take]]:
    done = []
    for r in rows.itertuples():
        strength = 0.6 if r.majority == "xxx" else 1
        done.append((r.start, takes.take(who, r.emotion, seconds=r.end - r.start, rng=rng, strength=strength)))
    return done


def _mixed(acts: dict, dialogue: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """The dialogue's audio, s 2: each actor's microphone also records the other one, at a quarter of the amplitude."""
    audio = np.zeros((samples, 2), dtype=np.float64)
    for actor, done in acts.items():
        near = 0 if side(f"{dialogue}_{actor}000") == "left" else 1
        for start, one in done:
            first = round(start * RATE)
            audio[first : first + len(one.audio), near] += one.audio
            audio[first : first + len(one.audio), 1 - near] += 0.25 * one.audio
    return np.clip(audio + takes.room(samples, rng)[:, None], -1, 1).astype(np.float32)


def _two_shot(acts: dict, cast: dict, dialogue: str, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    halves = {}
    for actor, done in acts.items():
        shown = takes.acting(done, count, FPS)
        sketch = face.sketch(cast[actor].look, takes.SIZE)
        halves[side(f"{dialogue}_{actor}000")] = takes.faces(sketch, *shown, FPS, rng)
    for left, right in zip(halves["left"], halves["right"], strict=True):
        yield np.concatenate([left, right], axis=1)


def _rated(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    """A file of EmoEvaluation: the majority label of every turn, and the labels of three raters and the actor."""
    words = [word for _, word in CODES.values()]
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for r in rows.itertuples():
        own = dict(CODES.values())[r.emotion]
        others = [w for w in rng.permutation(words) if w != own]
        agreed = "Other" if r.majority == "oth" else own
        votes = [agreed, *others[:2]] if r.majority == "xxx" else [agreed, agreed, rng.choice([agreed, others[0]])]
        marks = np.clip(np.round(rng.normal(FELT[r.emotion], 0.6, (3, 3))), 1, 5).astype(int)  # two raters, the actor
        mean = marks[:2].mean(axis=0)
        vad, actor = ", ".join(f"{m:.4f}" for m in mean), f"{r.speaker[-1]}1"
        lines.append(f"[{r.start:.4f} - {r.end:.4f}]\t{r.utterance}\t{r.majority}\t[{vad}]")
        lines += [f"C-{w}:\t{v};\t()" for w, v in zip(("E1", "E2", "E3", actor), (*votes, own), strict=True)]
        for rater, (v, a, d) in zip(("E1", "E2", actor), marks, strict=True):
            lines.append(f"A-{rater}:\tval {v}; act {a}; dom  {d};\t()")
        lines.append("")
    return "\n".join(lines) + "\n"
