"""Synthetic twins of IEMOCAP (six classes) and MELD: the true schema, made from a seed; nobody ever said any of it.

At scale 1 a twin has the official numbers of dialogues, utterances and classes in every split; a smaller scale has
proportionally fewer dialogues, and still every split, session and class. Built in, so that models have something to
win: each speaker's emotion is a Markov chain over turns that others catch (context); every modality carries part of
the signal, text most, then audio, then visual, and each confuses other pairs of classes (fusion); how clearly a
modality shows an emotion varies from utterance to utterance (gates); speakers have habits, and noise makes a perfect
score impossible.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from merlib.corpora.iemocap import default_split
from merlib.corpora.official import CLASSES, DIALOGUES, LABELS
from merlib.corpora.table import Corpus, build

WIDTHS = {"text": 48, "audio": 32, "visual": 24}
GAINS = {"text": 1.5, "audio": 1.25, "visual": 1.0}  # length of a class's prototype; noise is 1 in every direction
BLUR = 0.75  # how far the prototypes of a confused pair are moved to their middle


@dataclass(frozen=True)
class Twin:
    """The shape of a corpus' dialogues, measured, and how lasting and clear emotions are, chosen for clear floors."""

    lengths: tuple[int, int, float]  # shortest and longest dialogue; shape of the gamma distribution between
    switch: float  # chance that the next turn is another speaker's
    stay: float  # chance that a speaker's emotion is still the same at the next turn
    echo: float  # where it is not, chance that it is the emotion of the turn before, whoever spoke
    gain: float  # factor on `GAINS`
    confused: dict[str, tuple[tuple[str, str], ...]]


TWINS = {
    "iemocap6": Twin(
        lengths=(8, 110, 6.0),
        switch=0.69,
        stay=0.78,
        echo=0.45,
        gain=0.93,
        confused={
            "text": (("happy", "excited"), ("angry", "frustrated")),
            "audio": (("happy", "neutral"), ("angry", "excited"), ("sad", "frustrated")),
            "visual": (("sad", "neutral"), ("happy", "excited")),
        },
    ),
    "meld": Twin(
        lengths=(1, 24, 1.8),
        switch=0.77,
        stay=0.75,
        echo=0.45,
        gain=0.7,
        confused={
            "text": (("disgust", "anger"), ("fear", "sadness")),
            "audio": (("surprise", "joy"), ("disgust", "neutral"), ("fear", "anger")),
            "visual": (("surprise", "fear"), ("sadness", "neutral")),
        },
    ),
}
MAIN = ("Joey", "Ross", "Rachel", "Phoebe", "Monica", "Chandler")  # MELD: 83 of 100 turns
PARTIES = np.array([123, 643, 367, 171, 79, 33, 12, 3, 1]) / 1432  # MELD: dialogues with 1, 2, ..., 9 speakers
COMMON = (
    "well so of it we there that what you know I then a this go tell about day here time place people thing".split()
)
WORDS = {
    "happy": "glad smile lovely sweet nice pleased warm".split(),
    "excited": "wow amazing finally awesome wonderful incredible best".split(),
    "joy": "great yay love fun wonderful laugh happy".split(),
    "sad": "sorry miss lost cry alone gone tears".split(),
    "sadness": "sorry miss lost cry alone gone tears".split(),
    "angry": "hate shut stop damn liar furious out".split(),
    "anger": "hate shut stop damn liar furious out".split(),
    "frustrated": "again never useless why annoying stuck nothing".split(),
    "surprise": "what really oh god suddenly unbelievable seriously".split(),
    "fear": "afraid scared danger please run help terrified".split(),
    "disgust": "gross ew disgusting nasty awful sick yuck".split(),
    "neutral": "okay yes table number form morning street".split(),
}


def make(name: str, *, seed: int = 0, scale: float = 1.0) -> tuple[Corpus, dict[str, np.ndarray]]:
    """The twin of `name` (iemocap6 or meld) and its arrays text (n, 48), audio (n, 32) and visual (n, 24), float32.

    The same name, seed and scale give the same twin.
    """
    if name not in TWINS or not 0 < scale <= 1:
        raise ValueError(f"twin of {name!r} at scale {scale}; expected one of {sorted(TWINS)}, and a scale in (0, 1].")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    table = _turns(name, rng, scale)
    table["label"] = _labels(table, name, rng)
    table["text"] = _sentences(table["label"], LABELS[name], rng)
    table["start"], table["end"] = _times(table["dialogue"], rng)
    corpus = build(name, table, source=f"synthetic twin, seed {seed}, scale {scale}")
    return corpus, {m: _values(m, table, name, rng) for m in WIDTHS}


def _turns(name: str, rng: np.random.Generator, scale: float) -> pd.DataFrame:
    """Utterance, dialogue, speaker and split of every row."""
    rows = []
    for group, full in DIALOGUES[name].items():
        number = max(round(full * scale), 8 if group.startswith("train") else 2)
        lengths = _lengths(rng, number, round(sum(CLASSES[name][group]) * number / full), *TWINS[name].lengths)
        for i, length in enumerate(lengths):
            session = 5 if group == "test" else 1 + i % 4
            if name == "meld":
                dialogue, cast = f"{'dev' if group == 'val' else group}_{i}", _cast(rng, length)
            else:
                dialogue, cast = f"Ses0{session}{'FM'[i // 4 % 2]}_twin{i:03d}", [f"0{session}F", f"0{session}M"]
            change = rng.random(length) < TWINS[name].switch
            who = np.where(change, rng.integers(1, max(len(cast), 2), length), 0).cumsum() % len(cast)
            for turn, speaker in enumerate(cast[k] for k in who):
                meld = f"{dialogue.replace('_', '_dia')}_utt{turn}"
                utterance = meld if name == "meld" else f"{dialogue}_{speaker[-1]}{turn:03d}"
                rows.append((utterance, dialogue, speaker, group))
    table = pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker", "split"])
    if name != "meld":
        table["split"] = table["dialogue"].map(default_split(table["dialogue"], per_session=max(1, round(3 * scale))))
    return table


def _lengths(
    rng: np.random.Generator, number: int, total: int, shortest: int, longest: int, shape: float
) -> np.ndarray:
    """`number` dialogue lengths that add up to `total`, spread as in the corpus."""
    lengths = rng.gamma(shape, total / number / shape, number).round().clip(shortest, longest).astype(int)
    while gap := total - lengths.sum():
        able = np.flatnonzero(lengths < longest if gap > 0 else lengths > shortest)
        lengths[rng.permutation(able)[: abs(gap)]] += np.sign(gap)
    return lengths


def _cast(rng: np.random.Generator, length: int) -> list[str]:
    """Who speaks in a dialogue of MELD: up to nine, mostly the six main characters."""
    number = min(1 + rng.choice(9, p=PARTIES), length)
    main, others = list(rng.permutation(MAIN)), [f"Guest {i}" for i in rng.choice(298, size=number, replace=False)]
    return [str(main.pop()) if main and rng.random() < 0.83 else others.pop() for _ in range(number)]


def _labels(table: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    """Class of every row: the speaker's last (`stay`), else that of the turn before (`echo`), else drawn by share.

    The draw is without replacement, so that counts are exact: runs of one emotion are put in random order, and the
    line of utterances that they form is cut where the counts of the classes say.
    """
    stay, echo = rng.random((2, len(table))) < [[TWINS[name].stay], [TWINS[name].echo]]
    run, last, dialogues = np.arange(len(table)), {}, list(table["dialogue"])
    for i, key in enumerate(zip(dialogues, table["speaker"], strict=True)):
        if key in last and stay[i]:
            run[i] = run[last[key]]
        elif i and dialogues[i - 1] == dialogues[i] and echo[i]:
            run[i] = run[i - 1]
        last[key] = i
    line = np.argsort(rng.permutation(len(table))[run], kind="stable")
    split, labels = table["split"].to_numpy()[line], np.empty(len(table), dtype=int)
    for part, counts in _quotas(table["split"].value_counts(), CLASSES[name]).items():
        labels[line[split == part]] = np.repeat(np.arange(len(counts)), counts)
    return labels


def _quotas(sizes: pd.Series, classes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Rows of each class in every split: the official shares, exact where the split has its official size."""
    if "train+val" not in classes:
        return {s: _apportion(classes[s], sizes[s]) for s in classes}
    both, val = (_apportion(classes["train+val"], n) for n in (sizes["train"] + sizes["val"], sizes["val"]))
    return {"train": both - val, "val": val, "test": _apportion(classes["test"], sizes["test"])}


def _apportion(counts: tuple[int, ...], total: int) -> np.ndarray:
    """`total` in the proportions of `counts`, by largest remainder and at least one each."""
    exact = np.array(counts) * total / sum(counts)
    shares = np.maximum(np.floor(exact).astype(int), 1)
    while gap := total - shares.sum():
        shares[np.argmax(np.sign(gap) * (exact - shares))] += np.sign(gap)
    return shares


def _values(modality: str, table: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    """clarity * prototype(class) + habit(speaker) + noise, n d."""
    names, width = LABELS[name], WIDTHS[modality]
    sharp = np.linalg.qr(rng.normal(size=(width, len(names))))[0].T  # c d, all equally far apart
    prototype = sharp.copy()
    for pair in TWINS[name].confused[modality]:
        i = [names.index(p) for p in pair]
        prototype[i] = BLUR * sharp[i].mean(axis=0) + (1 - BLUR) * sharp[i]
    prototype *= TWINS[name].gain * GAINS[modality]
    who, speakers = pd.factorize(table["speaker"])
    habit = rng.normal(scale=0.2, size=(len(speakers), width))
    clarity = rng.uniform(0.2, 1.8, size=(len(table), 1))
    return (clarity * prototype[table["label"]] + habit[who] + rng.normal(size=(len(table), width))).astype(np.float32)


def _sentences(labels: pd.Series, names: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """Three to nine words each, one of three from the class's own list."""
    sizes = rng.integers(3, 10, len(labels))
    own, draw = rng.random((2, sizes.sum()))
    lists = [WORDS[names[k]] if x < 1 / 3 else COMMON for k, x in zip(np.repeat(labels, sizes), own, strict=True)]
    words = [words[int(x * len(words))] for words, x in zip(lists, draw, strict=True)]
    return [" ".join(words[e - n : e]).capitalize() + "." for e, n in zip(sizes.cumsum(), sizes, strict=True)]


def _times(dialogue: pd.Series, rng: np.random.Generator) -> tuple[pd.Series, pd.Series]:
    """Start and end of every row in seconds: four seconds on average, with short pauses."""
    length, pause = rng.gamma(2.5, 1.6, len(dialogue)).clip(0.5).round(3), rng.gamma(1.0, 0.4, len(dialogue)).round(3)
    end = pd.Series(length + pause).groupby(dialogue, sort=False).cumsum().round(3)
    return (end - length).round(3), end
