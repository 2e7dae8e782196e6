"""Synthetic twins of IEMOCAP (six classes) and MELD: the true schema, made from a seed; nobody ever said any of it.

At scale 1 a twin has the official numbers of dialogues and utterances per split and exactly the class counts of the releases (MFCRE
Table 1 in total); a smaller scale has proportionally fewer dialogues, and still every split, session and class. What is built in, so that
models have something to win: each speaker's emotion is a Markov chain over turns (context); every modality carries part of the signal, text
most, then audio, then visual, and each confuses other pairs of classes (fusion); how clearly a modality shows an emotion varies from
utterance to utterance (gates); speakers have habits of their own, and noise makes a perfect score impossible.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from merlib.corpora.iemocap import default_split
from merlib.corpora.table import LABELS, Corpus, build

WIDTHS = {"text": 48, "audio": 32, "visual": 24}
GAINS = {"text": 1.5, "audio": 1.25, "visual": 1.0}  # length of a class's prototype; noise has length 1 in every direction
BLUR = 0.75  # how far each of a confused pair is drawn to the other's prototype's midpoint


@dataclass(frozen=True)
class Twin:
    """What a twin copies: class counts in label order per group of splits, and shapes of the dialogues."""

    counts: dict[str, tuple[int, ...]]
    dialogues: dict[str, int]
    gain: float  # how clear the signal is
    longest: int
    mean_length: float
    stay: float  # chance that a speaker's emotion is still the same at the next turn
    echo: float  # where it is not, chance that it is the one of the turn before, whoever spoke
    switch: float  # chance that the next turn is another speaker's
    confused: dict[str, tuple[tuple[str, str], ...]]


TWINS = {
    "iemocap6": Twin(
        counts={"train": (504, 839, 1324, 933, 742, 1468), "test": (144, 245, 384, 170, 299, 381)},
        dialogues={"train": 120, "test": 31},
        gain=0.93, longest=110, mean_length=49.2, stay=0.65, echo=0.4, switch=0.69,
        confused={
            "text": (("happy", "excited"), ("angry", "frustrated")),
            "audio": (("happy", "neutral"), ("angry", "excited"), ("sad", "frustrated")),
            "visual": (("sad", "neutral"), ("happy", "excited")),
        },
    ),
    "meld": Twin(
        counts={
            "train": (4710, 1205, 268, 683, 1743, 271, 1109),
            "val": (470, 150, 40, 111, 163, 22, 153),
            "test": (1256, 281, 50, 208, 402, 68, 345),
        },
        dialogues={"train": 1038, "val": 114, "test": 280},
        gain=0.7, longest=24, mean_length=9.6, stay=0.6, echo=0.4, switch=0.77,
        confused={
            "text": (("disgust", "anger"), ("fear", "sadness")),
            "audio": (("surprise", "joy"), ("disgust", "neutral"), ("fear", "anger")),
            "visual": (("surprise", "fear"), ("sadness", "neutral")),
        },
    ),
}  # fmt: skip
MAIN = ("Joey", "Ross", "Rachel", "Phoebe", "Monica", "Chandler")  # MELD: five turns of six
PARTIES = (123, 643, 367, 171, 79, 33, 12, 3, 1)  # MELD: dialogues with 1, 2, ..., 9 speakers
WORDS = {
    "": "well so the of it we there that is what you know I then a this go tell about day here time place people thing".split(),
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

    The same name, seed and scale give the same bytes.
    """
    twin = TWINS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    table = _dialogues(name, twin, rng, scale)
    table["label"] = _labels(table, twin, rng)
    table["text"] = _sentences(table["label"].to_numpy(), LABELS[name], rng)
    table["start"], table["end"] = _times(table, rng)
    corpus = build(name, table, source=f"synthetic twin, seed {seed}, scale {scale}")
    return corpus, {m: _values(m, table, LABELS[name], twin, rng) for m in WIDTHS}


def _dialogues(name: str, twin: Twin, rng: np.random.Generator, scale: float) -> pd.DataFrame:
    """Utterance, dialogue, speaker and split of every row."""
    parts = []
    for group, full in twin.dialogues.items():
        number = max(round(full * scale), 8 if group == "train" else 2)
        total = round(sum(twin.counts[group]) * number / full)
        lengths = _lengths(rng, number, total, twin)
        parts += [(group, k, n) for k, n in enumerate(lengths)]
    group, k, n = (np.array(column) for column in zip(*parts, strict=True))
    if name == "iemocap6":
        session = np.where(group == "test", 5, 1 + k % 4)
        dialogue = np.array([f"Ses0{s}{'FM'[i % 2]}_twin{i:02d}" for s, i in zip(session, k, strict=True)])
        split_of = default_split(dialogue, per_session=max(1, round(3 * scale)))
        speakers = [[f"0{s}F", f"0{s}M"] for s in session]
    else:
        dialogue = np.array([f"{'dev' if g == 'val' else g}_{i}" for g, i in zip(group, k, strict=True)])
        split_of = dict(zip(dialogue, group, strict=True))
        speakers = [_cast(rng, length) for length in n]
    table = pd.DataFrame({"dialogue": np.repeat(dialogue, n)})
    table["speaker"] = np.concatenate([_turns(rng, s, m, twin.switch) for s, m in zip(speakers, n, strict=True)])
    table["split"] = table["dialogue"].map(split_of)
    turn = table.groupby("dialogue", sort=False).cumcount()
    table["utterance"] = table["dialogue"] + "_" + turn.astype(str).str.zfill(3)
    return table


def _lengths(rng: np.random.Generator, number: int, total: int, twin: Twin) -> np.ndarray:
    """`number` dialogue lengths that add up to `total`, spread as in the corpus (a gamma cut at the longest)."""
    shape = 6.0 if twin.mean_length > 20 else 1.8
    shortest = 8 if twin.mean_length > 20 else 1
    lengths = rng.gamma(shape, twin.mean_length / shape, number).round().clip(shortest, twin.longest).astype(int)
    while gap := total - lengths.sum():
        able = np.flatnonzero(lengths < twin.longest if gap > 0 else lengths > shortest)
        some = rng.permutation(able)[: abs(gap)]
        lengths[some] += np.sign(gap)
    return lengths


def _cast(rng: np.random.Generator, length: int) -> list[str]:
    """Who speaks in a MELD dialogue: up to nine, mostly the six main characters."""
    number = min(1 + rng.choice(9, p=np.array(PARTIES) / sum(PARTIES)), length)
    others = [f"Guest {i}" for i in rng.choice(298, size=number, replace=False)]
    main = list(rng.permutation(MAIN))[:number]
    return [main.pop() if main and rng.random() < 0.83 else others.pop() for _ in range(number)]


def _turns(rng: np.random.Generator, speakers: list[str], length: int, switch: float) -> np.ndarray:
    """The speaker of each of `length` turns: with chance `switch` one of the others."""
    step = np.where(rng.random(length) < switch, rng.integers(1, max(len(speakers), 2), length), 0)
    return np.array(speakers)[step.cumsum() % len(speakers)]


def _labels(table: pd.DataFrame, twin: Twin, rng: np.random.Generator) -> np.ndarray:
    """Class of every row: at a speaker's next turn the emotion stays with chance `stay`, else is caught from the turn before with chance
    `echo`, else is drawn anew by share.

    The draw is without replacement, so that counts are exact: runs of one emotion are put in random order, and the line of utterances that
    they form is cut where the counts of the classes say.
    """
    stay, echo = rng.random((2, len(table)))
    run, last = np.arange(len(table)), {}
    for i, key in enumerate(zip(table["dialogue"], table["speaker"], strict=True)):
        if key in last and stay[i] < twin.stay:
            run[i] = run[last[key]]
        elif i and table["dialogue"].iat[i - 1] == key[0] and echo[i] < twin.echo:
            run[i] = run[i - 1]
        last[key] = i
    line = np.argsort(rng.permutation(len(table))[run], kind="stable")
    split, labels = table["split"].to_numpy(), np.empty(len(table), dtype=int)
    for part in table["split"].unique():
        labels[line[split[line] == part]] = np.repeat(np.arange(len(twin.counts["train"])), _quota(table, part, twin))
    return labels


def _quota(table: pd.DataFrame, split: str, twin: Twin) -> np.ndarray:
    """How many of a split's rows each class gets: the official share, by largest remainder, and at least one."""
    size = (table["split"] == split).sum()
    if split == "train" and "val" not in twin.counts:  # IEMOCAP's val is drawn from the training sessions
        rest = (table["split"] == "val").sum()
        return _apportion(twin.counts["train"], size + rest) - _apportion(twin.counts["train"], rest)
    return _apportion(twin.counts.get(split, twin.counts["train"]), size)


def _apportion(counts: tuple[int, ...], total: int) -> np.ndarray:
    exact = np.array(counts) * total / sum(counts)
    shares = np.maximum(np.floor(exact).astype(int), 1)
    order = np.argsort(shares - exact, kind="stable")
    while gap := total - shares.sum():
        shares[order[: abs(gap)] if gap > 0 else [shares.argmax()]] += np.sign(gap)
    return shares


def _values(modality: str, table: pd.DataFrame, names: tuple[str, ...], twin: Twin, rng: np.random.Generator) -> np.ndarray:
    """clarity * prototype(class) + habit(speaker) + noise, n d."""
    width = WIDTHS[modality]
    prototype = twin.gain * GAINS[modality] * np.linalg.qr(rng.normal(size=(width, len(names))))[0].T  # c d, all equally far apart
    sharp = prototype.copy()
    for pair in twin.confused[modality]:
        i = [names.index(p) for p in pair]
        prototype[i] = BLUR * sharp[i].mean(axis=0) + (1 - BLUR) * sharp[i]
    who, speakers = pd.factorize(table["speaker"])
    habit = rng.normal(scale=0.2, size=(len(speakers), width))
    clarity = rng.uniform(0.2, 1.8, size=(len(table), 1))
    noise = rng.normal(size=(len(table), width))
    return (clarity * prototype[table["label"]] + habit[who] + noise).astype(np.float32)


def _sentences(labels: np.ndarray, names: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """Three to nine words; one of three is from the class's own list."""
    sizes = rng.integers(3, 10, len(labels))
    own = rng.random(sizes.sum()) < 1 / 3
    draws = rng.random(sizes.sum())
    lists = [WORDS[names[k]] if mine else WORDS[""] for k, mine in zip(np.repeat(labels, sizes), own, strict=True)]
    words = [words[int(x * len(words))] for words, x in zip(lists, draws, strict=True)]
    ends = sizes.cumsum()
    return [" ".join(words[e - n : e]).capitalize() + "." for e, n in zip(ends, sizes, strict=True)]


def _times(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.Series, pd.Series]:
    """Start and end of every row in seconds: durations around 4 s, short pauses."""
    length = pd.Series(rng.gamma(2.5, 1.6, len(table)).clip(0.5).round(3))
    pause = pd.Series(rng.gamma(1.0, 0.4, len(table)).round(3))
    end = (length + pause).groupby(table["dialogue"], sort=False).cumsum().round(3)
    return (end - length).round(3), end
