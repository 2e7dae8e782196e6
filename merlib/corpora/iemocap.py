"""IEMOCAP (Busso et al. 2008): the official layout with majority labels, and the protocol of the six-class task.

    <source>/Session1..5/dialog/EmoEvaluation/<dialogue>.txt      times, majority label of three raters or `xxx`
    <source>/Session1..5/dialog/transcriptions/<dialogue>.txt     the turns in order, with text
    <source>/Session1..5/sentences/wav/<dialogue>/<utterance>.wav and dialog/avi/DivX/<dialogue>.avi, where present

Two label lists are in use. The *conversational release* (IEMOCAP_features.pkl, 7433 utterances) has 648 happy utterances, of which the
raters of 53 had no majority (`xxx`). The *majority* labels of the raw release give 595, hence 7380. This reader gives the second, as
the corpus `iemocap6_majority`; with a label list of the first (`labels={utterance: class}`) it gives `iemocap6`.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from merlib.corpora.table import Corpus, CorpusError, build

CLASSES = {"hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated"}
TEST_SESSION = "Ses05"
EVALUATION = re.compile(r"^\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<utterance>Ses\S+)\t(?P<majority>\w+)\t", re.MULTILINE)
TURN = re.compile(r"^(?P<utterance>Ses\d\d[FM]_\S+) \[[\d.]+-[\d.]+\]: ?(?P<text>.*)$", re.MULTILINE)


def default_split(dialogues: Iterable[str], *, seed: int = 0, per_session: int = 3) -> dict[str, str]:
    """Split of each dialogue: Session 5 is test; three dialogues of each other session are val, twelve of 120; the rest train.

    The release names no validation dialogues. Ours are those whose sha256 of "<seed>:<dialogue>" is smallest: a draw that no version of
    any library can change.
    """
    names = sorted(set(dialogues))
    split = {d: "test" if d.startswith(TEST_SESSION) else "train" for d in names}
    for session in sorted({d[:5] for d in names} - {TEST_SESSION}):
        drawn = sorted((d for d in names if d[:5] == session), key=lambda d: hashlib.sha256(f"{seed}:{d}".encode()).hexdigest())
        split |= dict.fromkeys(drawn[:per_session], "val")
    return split


def speaker(utterance: str) -> str:
    """The actor of an utterance id, session and sex: Ses01M_impro01_F000 -> 01F."""
    return utterance[3:5] + utterance.rsplit("_", 1)[1][0]


def read(source: Path, *, labels: str | Mapping[str, str] = "majority") -> Corpus:
    """The six-class corpus in the official layout at `source`.

    Args:
        source: the folder that holds Session1 to Session5.
        labels: "majority", or the class of each utterance as a release lists them (see `pickles.iemocap`): then exactly those
            utterances are kept.
    """
    source = Path(source)
    if labels == "conversational":
        raise CorpusError(
            "The official layout has no conversational labels: 53 of their 648 happy utterances have no majority here. Read them with "
            "merlib.corpora.pickles from IEMOCAP_features.pkl, or from a prepared table, or take labels='majority' (595 happy)."
        )
    sessions = [source / f"Session{i}" for i in range(1, 6)]
    if missing := [s.name for s in sessions if not (s / "dialog" / "EmoEvaluation").is_dir()]:
        raise CorpusError(f"{source}: {missing} have no dialog/EmoEvaluation; expected the official full release, all five sessions.")
    rows = pd.DataFrame([row for session in sessions for row in _session(session, source)])
    if isinstance(labels, str):
        rows["label"] = rows["majority"].map({short: i for i, short in enumerate(CLASSES)})
    else:
        if unknown := sorted(set(labels) - set(rows["utterance"])):
            raise CorpusError(f"{source}: {len(unknown)} labelled utterances are not in the release, first {unknown[:3]}.")
        rows["label"] = rows["utterance"].map(labels).map({name: i for i, name in enumerate(CLASSES.values())})
    rows = rows.dropna(subset="label")
    rows["split"] = rows["dialogue"].map(default_split(rows["dialogue"]))
    name = "iemocap6_majority" if isinstance(labels, str) else "iemocap6"
    return build(name, rows, source=f"official layout, {'majority' if isinstance(labels, str) else 'given'} labels")


def _session(session: Path, source: Path) -> list[dict]:
    """Every turn of a session that has an evaluation, dialogue by dialogue, in the order of the transcription."""
    rows = []
    for file in sorted((session / "dialog" / "EmoEvaluation").glob("Ses*.txt")):
        rated = {m["utterance"]: m for m in EVALUATION.finditer(file.read_text(encoding="latin-1"))}
        script = session / "dialog" / "transcriptions" / file.name
        if not script.exists():
            raise CorpusError(f"{script} is not there; expected a transcription for {file.name}. Unpack the full release.")
        turns = {m["utterance"]: m["text"].strip() for m in TURN.finditer(script.read_text(encoding="latin-1"))}
        if missing := sorted(set(rated) - set(turns)):
            raise CorpusError(f"{script}: {len(missing)} rated utterances have no transcript, first {missing[:3]}.")
        for name in (u for u in turns if u in rated):
            wav, avi = session / "sentences" / "wav" / file.stem / f"{name}.wav", session / "dialog" / "avi" / "DivX" / f"{file.stem}.avi"
            rows.append(
                {"utterance": name, "dialogue": file.stem, "speaker": speaker(name), "text": turns[name]}
                | {key: float(rated[name][key]) for key in ("start", "end")}
                | {"majority": rated[name]["majority"], "audio": _media(wav, source), "video": _media(avi, source)}
            )
    return rows


def _media(file: Path, source: Path) -> str:
    return str(file.relative_to(source)) if file.exists() else ""
