"""Feature releases and official layouts written from a table of utterances, for the tests of their readers."""

import pickle
from pathlib import Path

import numpy as np

from merlib.data.table import Corpus

CODES = ("hap", "sad", "neu", "ang", "exc", "fru")
DIMS = {"text": 5, "audio": 4, "visual": 3}


def vectors(corpus: Corpus, modality: str) -> np.ndarray:
    """One recognisable vector per utterance, (n, d): 100 * row + dimension."""
    rows = np.arange(len(corpus.table), dtype=np.float32)[:, None]
    return 100 * rows + np.arange(DIMS[modality], dtype=np.float32)


def dialogues(corpus: Corpus) -> dict:
    """Dialogue -> its key in conv-emotion, in order: the names of IEMOCAP, running numbers for MELD."""
    names = list(corpus.table["dialogue"].unique())
    if corpus.name != "meld":
        return {name: name for name in names}
    starts = {"train": 0, "dev": 1039, "test": 1153}
    return {name: starts[name.split("_")[0]] + int(name.split("_")[1]) for name in names}


def items(corpus: Corpus, *, visual: bool = True) -> tuple:
    """The tuple of conv-emotion's IEMOCAP_features.pkl or MELD_features_raw(1).pkl."""
    keys = dialogues(corpus)
    rows = {keys[name]: part for name, part in corpus.table.groupby("dialogue", sort=False)}

    def by_dialogue(column) -> dict:
        return {key: column(part) for key, part in rows.items()}

    values = {m: by_dialogue(lambda part, m=m: list(vectors(corpus, m)[part.index])) for m in DIMS}
    sentences, labels = by_dialogue(lambda p: list(p["text"])), by_dialogue(lambda p: [int(k) for k in p["label"]])
    test = [keys[d] for d in corpus.table.loc[corpus.table["split"] == "test", "dialogue"].unique()]
    train = [key for key in keys.values() if key not in test]
    if corpus.name != "meld":
        ids, speakers = (
            by_dialogue(lambda p: list(p["utterance"])),
            by_dialogue(lambda p: [s[-1] for s in p["speaker"]]),
        )
        return ids, speakers, labels, *values.values(), sentences, train, test
    ids = by_dialogue(lambda p: list(range(len(p))))
    speakers = by_dialogue(lambda p: [list(np.eye(9, dtype=int)[k]) for k in p["speaker"].factorize()[0]])
    for empty in (labels, sentences, ids, speakers, *values.values()):
        empty[1038] = []  # the dialogue without utterances
    sentiments = {key: [k % 3 for k in turns] for key, turns in labels.items()}
    features = values.values() if visual else [values["text"], values["audio"]]
    return ids, speakers, labels, *features, sentences, [*train, 1038], test, sentiments


def dump(path: Path, data: object, protocol: int = 2) -> Path:
    """Pickle `data` into the file `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path


def iemocap_layout(folder: Path, corpus: Corpus, *, majority: dict[str, str] | None = None) -> Path:
    """EmoEvaluation (turns in another order) and transcriptions of `corpus`, with the noise of the official files."""
    for name, part in corpus.table.groupby("dialogue", sort=False):
        base = folder / f"Session{name[4]}" / "dialog"
        rated, turns = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"], []
        for u in part.itertuples():
            label = (majority or {}).get(u.utterance) or CODES[u.label]
            rated += [f"[{u.start:.4f} - {u.end:.4f}]\t{u.utterance}\t{label}\t[2.5000, 2.5000, 2.5000]\n"]
            rated += ["C-E2:\tNeutral;\t()\n", "A-E3:\tval 3; act 2; dom  2;\t()\n", "\n"]
            turns += [f"{u.utterance} [{u.start:08.4f}-{u.end:08.4f}]: {u.text}\n"]
        turns.insert(1, f"{name}_MXX0 [000.0000-001.0000]: not rated\n")
        for kind, lines in (("EmoEvaluation", rated[::-1]), ("transcriptions", [*turns, "M: aside\n"])):
            (base / kind).mkdir(parents=True, exist_ok=True)
            (base / kind / f"{name}.txt").write_text("".join(lines), encoding="latin-1")
            (base / kind / f"._{name}.txt").write_bytes(b"\x00\x05\x16\x07")
    return folder


def meld_files(folder: Path, corpus: Corpus) -> Path:
    """The three CSV files of MELD."""
    folder.mkdir(parents=True, exist_ok=True)
    t = corpus.table.assign(part=corpus.table["dialogue"].str.split("_").str[0])
    for part, rows in t.groupby("part"):
        columns = {
            "Sr No.": range(1, len(rows) + 1),
            "Utterance": rows["text"],
            "Speaker": rows["speaker"],
            "Emotion": [corpus.labels[k] for k in rows["label"]],
            "Sentiment": "neutral",
            "Dialogue_ID": rows["dialogue"].str.split("_").str[1],
            "Utterance_ID": rows["turn"],
            "Season": 1,
            "Episode": 1,
            "StartTime": [f"0:00:{s % 60:02.0f},000" for s in rows["start"] // 1],
            "EndTime": [f"00:01:{s % 60:02.0f},500" for s in rows["end"] // 1],
        }
        rows.assign(**columns)[list(columns)].to_csv(folder / f"{part}_sent_emo.csv", index=False)
    return folder
