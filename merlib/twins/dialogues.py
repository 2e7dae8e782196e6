"""Synthetic twins of IEMOCAP (six classes) and MELD: the true schema, from a seed; nothing in them is real.

At scale 1 a twin has the official numbers of dialogues, utterances and classes in every split; a smaller scale has
proportionally fewer dialogues, and still every split, session and class. What models can learn is
built in: each speaker's emotion is a Markov chain over turns that influences others (context); every modality carries
part of the signal, text most, then audio, then visual, and each confuses other pairs of classes (fusion); how clearly a
modality shows an emotion varies from utterance to utterance (gates); speakers have habits, and noise makes a perfect
score impossible. `make` makes the other corpora's twins too (`merlib.twins.sequences`).
"""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from merlib.corpora.iemocap import default_split
from merlib.data.official import CLASSES, DIALOGUES, LABELS
from merlib.data.table import Corpus, build
from merlib.errors import RequestError
from merlib.twins import parts, sequences
from merlib.twins.parts import WIDTHS
from merlib.twins.sequences import Steps

GAINS = {"text": 1.5, "audio": 1.25, "visual": 1.0}  # length of a class's prototype; noise is 1 in every direction


@dataclass(frozen=True)
class Twin:
    """The shape of a corpus' dialogues, measured, and how lasting and clear emotions are, chosen for clear floors."""

    lengths: tuple[int, int, float]  # shortest and longest dialogue; shape of the gamma distribution between
    switch: float  # chance that the next turn is another speaker's
    stay: float  # chance that a speaker's emotion is still the same at the next turn
    echo: float  # where it is not, chance that it is the emotion of the turn before, whoever spoke
    gain: float  # factor on `GAINS`
    confused: dict[str, tuple[tuple[str, str], ...]]


DIALOGUE_TWINS = {
    "iemocap6": Twin(
        lengths=(8, 110, 6.0), switch=0.69, stay=0.78, echo=0.45, gain=0.93, confused={
            "text": (("happy", "excited"), ("angry", "frustrated")),
            "audio": (("happy", "neutral"), ("angry", "excited"), ("sad", "frustrated")),
            "visual": (("sad", "neutral"), ("happy", "excited")),
        },
    ),
    "meld": Twin(
        lengths=(1, 24, 1.8), switch=0.77, stay=0.75, echo=0.45, gain=0.7, confused={
            "text": (("disgust", "anger"), ("fear", "sadness")),
            "audio": (("surprise", "joy"), ("disgust", "neutral"), ("fear", "anger")),
            "visual": (("surprise", "fear"), ("sadness", "neutral")),
        },
    ),
}  # fmt: skip
MAIN = ("Joey", "Ross", "Rachel", "Phoebe", "Monica", "Chandler")  # MELD: 83 of 100 turns
PARTIES = np.array([123, 643, 367, 171, 79, 33, 12, 3, 1]) / 1432  # MELD: dialogues with 1, 2, ..., 9 speakers
TWINS = DIALOGUE_TWINS | sequences.TWINS


def make(name: str, *, seed: int = 0, scale: float = 1.0) -> tuple[Corpus, dict[str, np.ndarray | Steps]]:
    """The twin of `name` and its arrays by name, float32: vectors (n, d), or sequences (`Steps`).

    The same name, seed and scale give the same twin.
    """
    if name not in TWINS or not 0 < scale <= 1:
        expected = f"expected one of {sorted(TWINS)}, and a scale in (0, 1]"
        raise RequestError(f"twin of {name!r} at scale {scale}; {expected}.")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name in DIALOGUE_TWINS:
        table = _turns(name, rng, scale)
        table["label"] = _labels(table, name, rng)
        table["text"] = parts.sentences(table["label"], LABELS[name], rng)
    else:
        table = sequences.TWINS[name].rows(name, rng, scale)
    table["start"], table["end"] = parts.times(table["dialogue"], rng)
    corpus = build(name, table, source=f"synthetic twin, seed {seed}, scale {scale}")
    if name in DIALOGUE_TWINS:
        return corpus, {m: _values(m, table, name, rng) for m in WIDTHS}
    return corpus, sequences.arrays(name, corpus.table, rng)


def _turns(name: str, rng: np.random.Generator, scale: float) -> pd.DataFrame:
    rows = []
    for group, full in DIALOGUES[name].items():
        number = max(round(full * scale), 8 if group.startswith("train") else 2)
        total = round(sum(CLASSES[name][group]) * number / full)
        lengths = parts.lengths(rng, number, total, *DIALOGUE_TWINS[name].lengths)
        for i, length in enumerate(lengths):
            session = 5 if group == "test" else 1 + i % 4
            if name == "meld":
                dialogue, cast = f"{'dev' if group == 'val' else group}_{i}", _cast(rng, length)
            else:
                dialogue, cast = f"Ses0{session}{'FM'[i // 4 % 2]}_twin{i:03d}", [f"0{session}F", f"0{session}M"]
            change = rng.random(length) < DIALOGUE_TWINS[name].switch
            who = np.where(change, rng.integers(1, max(len(cast), 2), length), 0).cumsum() % len(cast)
            for turn, speaker in enumerate(cast[k] for k in who):
                meld = f"{dialogue.replace('_', '_dia')}_utt{turn}"
                utterance = meld if name == "meld" else f"{dialogue}_{speaker[-1]}{turn:03d}"
                rows.append((utterance, dialogue, speaker, group))
    table = pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker", "split"])
    if name != "meld":
        table["split"] = table["dialogue"].map(default_split(table["dialogue"], per_session=max(1, round(3 * scale))))
    return table


def _cast(rng: np.random.Generator, length: int) -> list[str]:
    """Who speaks in a dialogue of MELD: up to nine, mostly the six main characters."""
    number = min(1 + rng.choice(9, p=PARTIES), length)
    main, others = list(rng.permutation(MAIN)), [f"Guest {i}" for i in rng.choice(298, size=number, replace=False)]
    return [str(main.pop()) if main and rng.random() < 0.83 else others.pop() for _ in range(number)]


def _labels(table: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    """Class of every row, with the exact counts of every split."""
    line = parts.line(table["dialogue"], table["speaker"], DIALOGUE_TWINS[name].stay, DIALOGUE_TWINS[name].echo, rng)
    split, labels = table["split"].to_numpy()[line], np.empty(len(table), dtype=int)
    for part, counts in _quotas(table["split"].value_counts(), CLASSES[name]).items():
        labels[line[split == part]] = np.repeat(np.arange(len(counts)), counts)
    return labels


def _quotas(sizes: pd.Series, classes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Rows of each class in every split: the official shares, exact where the split has its official size."""
    if "train+val" not in classes:
        return {s: parts.apportion(classes[s], sizes[s]) for s in classes}
    both, val = (parts.apportion(classes["train+val"], n) for n in (sizes["train"] + sizes["val"], sizes["val"]))
    return {"train": both - val, "val": val, "test": parts.apportion(classes["test"], sizes["test"])}


def _values(modality: str, table: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    """clarity * prototype(class) + habit(speaker) + noise, n d."""
    names, width = LABELS[name], WIDTHS[modality]
    sharp = parts.directions(rng, width, len(names))  # c d, all equally far apart
    prototype = parts.blurred(sharp, names, DIALOGUE_TWINS[name].confused[modality])
    prototype *= DIALOGUE_TWINS[name].gain * GAINS[modality]
    who, speakers = pd.factorize(table["speaker"])
    habit = rng.normal(scale=0.2, size=(len(speakers), width))
    clarity = rng.uniform(0.2, 1.8, size=(len(table), 1))
    return (clarity * prototype[table["label"]] + habit[who] + rng.normal(size=(len(table), width))).astype(np.float32)
