"""IEMOCAP (Busso et al. 2008): the official layout with majority labels, and the split of the six-class task.

    Session1..5/dialog/EmoEvaluation/<dialogue>.txt       times, and the majority label of the raters, or `xxx`
    Session1..5/dialog/transcriptions/<dialogue>.txt      the turns in order, with text
    Session1..5/sentences/wav/<dialogue>/<utterance>.wav  and dialog/avi/DivX/<dialogue>.avi, where present

Two lists of labels are in use. The conversational release (IEMOCAP_features.pkl; 7433 utterances) has 648 happy
utterances, of which 53 have no majority label. The majority labels of the raw release give 595 happy utterances, 7380
in all. This reader makes the corpora of the second list, `iemocap6_majority`, `iemocap4` and `iemocap8`; with the first
list (`labels={utterance: class}`), it makes `iemocap6`.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from merlib.corpora.reading import media_path, required
from merlib.data import recordings
from merlib.data.official import LABELS
from merlib.data.table import Corpus, CorpusError, build
from merlib.errors import Notice, listed
from merlib.foreign import read_text

SHORT = {  # labels of the raters
    "hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated",
    "fea": "fearful", "sur": "surprised", "dis": "disgust",
}  # fmt: skip
MERGED = {"iemocap4": {"exc": "happy"}}  # labels of the raters that become another class
MAJORITY = ("iemocap6_majority", "iemocap4", "iemocap8")  # the corpora of the majority labels
TEST_SESSION = "Ses05"
RATED = re.compile(r"(?m)^\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<utterance>Ses\S+)\t(?P<majority>\w+)\t")
TURN = re.compile(r"(?m)^(?P<utterance>Ses\d\d[FM]_\S+) \[[\d.]+-[\d.]+\]: ?(?P<text>.*)$")


def default_split(dialogues: Iterable[str], *, seed: int = 5, per_session: int = 3) -> dict[str, str]:
    """The split of each dialogue: Session 5 is test, three dialogues of each other session are val, the rest train.

    The release names no validation dialogues. Ours, 12 of 120, are those of each session whose sha256 of
    "<seed>:<dialogue>" is smallest: a draw that no version of any library can change. Of the seeds 0 to 11, seed 5
    draws the class shares closest to those of all dialogues.
    """
    names = sorted(set(dialogues), key=lambda d: hashlib.sha256(f"{seed}:{d}".encode()).hexdigest())
    split = {d: "test" if d.startswith(TEST_SESSION) else "train" for d in names}
    for session in {d[:5] for d in names} - {TEST_SESSION}:
        split |= dict.fromkeys([d for d in names if d.startswith(session)][:per_session], "val")
    return split


def read(
    source: Path, *, name: str = "iemocap6_majority", labels: Mapping[str, str] | None = None, partial: bool = False
) -> Corpus:
    """The corpus `name`, one of `MAJORITY` or iemocap6, from the folder `source` that holds Session1 to Session5.

    labels: for iemocap6, the class of every utterance of the conversational release: the corpus has exactly these.
    partial: sessions may be missing.
    """
    source = Path(source)
    if name not in MAJORITY and (name != "iemocap6" or labels is None):
        raise CorpusError(
            f"{name}: the official layout has majority labels only, those of {MAJORITY} (595 happy; 7380 in six "
            "classes). The list of iemocap6 (648 happy, 7433 in all) is in IEMOCAP_features.pkl: import that first."
        )
    sessions = [source / f"Session{i}" for i in range(1, 6)]
    missing = [s.name for s in sessions if not (s / "dialog" / "EmoEvaluation").is_dir()]
    if missing and (not partial or len(missing) == len(sessions)):
        what = f"dialog/EmoEvaluation is missing of {listed(missing)}; expected all five sessions"
        raise CorpusError(f"{source}: {what}, or with --partial some of them.")
    rows = pd.DataFrame([row for s in sessions if s.name not in missing for row in _session(s, source)])
    if rows.empty:
        raise CorpusError(f"{source}: no dialog/EmoEvaluation has a Ses*.txt with ratings. Unpack the full release.")
    index_of = {c: i for i, c in enumerate(LABELS[name])}
    if labels is None:
        rows["label"] = rows["majority"].map(SHORT | MERGED.get(name, {})).map(index_of)
    elif unknown := sorted(set(labels) - set(rows["utterance"])):
        what = f"{source}: {len(unknown)} labelled utterances are not in the release"
        raise CorpusError(f"{what}, first {listed(unknown[:3])}.")
    else:
        rows["label"] = rows["utterance"].map({u: index_of[c] for u, c in labels.items()})
    without = rows["majority"][rows["label"].isna()].value_counts().to_dict()
    if without:
        what = f"{sum(without.values())} of {len(rows)} turns have no class of {name} and are left out: {without}"
        warnings.warn(Notice(what, source), stacklevel=1)
    rows = rows.dropna(subset="label")
    rows["split"] = rows["dialogue"].map(default_split(rows["dialogue"]))
    return build(name, rows, source=f"official layout, {'majority' if labels is None else 'given'} labels")


def _session(session: Path, source: Path) -> list[dict]:
    """Every rated turn of a session, dialogue by dialogue, in the order of the transcriptions."""
    rows = []
    for file in sorted((session / "dialog" / "EmoEvaluation").glob("Ses*.txt")):
        script = session / "dialog" / "transcriptions" / file.name
        required(script, "a transcription. Unpack the full release.")
        evaluation = read_text(file)
        rated = {m["utterance"]: m for m in RATED.finditer(evaluation)}
        lines = [line for line in evaluation.split("\n") if line.startswith("[") and not RATED.match(line)]
        if lines or not rated:
            what = f"such as {lines[0][:80]!r}" if lines else "of which none is a rating"
            raise CorpusError(f"{file}: lines {what}; expected [START - END], turn, label and [V, A, D], between tabs.")
        turns = {m["utterance"]: m["text"].strip() for m in TURN.finditer(read_text(script))}
        if missing := sorted(set(rated) - set(turns)):
            what = f"{script}: {len(missing)} rated utterances have no transcript"
            raise CorpusError(f"{what}, first {listed(missing[:3])}.")
        avi = session / "dialog" / "avi" / "DivX" / f"{file.stem}.avi"
        for name in (u for u in turns if u in rated):
            wav = session / "sentences" / "wav" / file.stem / f"{name}.wav"
            start, end = float(rated[name]["start"]), float(rated[name]["end"])
            row = {"utterance": name, "dialogue": file.stem, "speaker": name[3:5] + name.rsplit("_", 1)[1][0]}
            row |= {"text": turns[name], "majority": rated[name]["majority"], "start": start, "end": end}
            video = media_path(avi, source) and recordings.part(media_path(avi, source), start, end, side(name))
            rows.append(row | {"audio": media_path(wav, source), "video": video})
    return rows


def side(utterance: str) -> str:
    """The half of the frame that shows the speaker of an utterance: every video shows both actors.

    The actor after whom the dialogue is named, F in Ses01F_impro01, sits on the left.
    """
    return "left" if utterance[5] == utterance.rsplit("_", 1)[1][0] else "right"
