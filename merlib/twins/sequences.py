"""Synthetic twins whose utterances are sequences: IEMOCAP with four and eight classes, RAVDESS and MOSI; and MOSEI.

Everything that holds for `merlib.twins.dialogues` holds here. In addition the signal is spread unevenly over time: it
swells and fades around one moment of the utterance, nearly the same in all modalities, and some steps carry none, so
that a model that attends to the informative steps gains over one that averages. A step with signal is marked by a
further direction that is the same for all classes. The 64 values of a visual step are an 8 x 8 image, row by row, and
its patterns are smooth. MOSEI has vectors. In the sentiment corpora every modality follows the score, text the most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from merlib.corpora.iemocap import default_split
from merlib.corpora.ravdess import STATEMENTS
from merlib.data import splits
from merlib.data.official import CLASSES, DIALOGUES, LABELS, SENTIMENT, SPLITS, UTTERANCES, sentiment_class
from merlib.twins import parts

WIDTHS = {"text": 48, "audio": 32, "visual": 64}  # of a step; vectors have those of parts.WIDTHS
STEPS = {"text": (3, 14), "audio": (10, 24), "visual": (5, 12)}  # fewest and most of an utterance
TELLING = 2.5  # length of the direction that says only that a step carries signal
VECTORS = ("mosei",)
HAZE = 0.6  # noise that all steps of an utterance share, in every direction; that of each step alone is 1
FEW = 20  # utterances that a class keeps at every scale, or all of a rarer class
MOSI_VIDEOS = {"train": 52, "val": 10, "test": 31}
MOSI_SCORES = {  # utterances of each class, -3 to 3, as released; four of train have no score
    "train": (24, 198, 227, 247, 227, 312, 46),
    "val": (10, 30, 32, 49, 39, 50, 19),
    "test": (46, 155, 145, 106, 113, 100, 20),
}
MOSEI_SCORES = (1, 5, 16, 41, 26, 9, 2)  # shares, chosen


class Steps(NamedTuple):
    """Sequences: the steps of all utterances one after the other, (sum of lengths, d), and the lengths (n)."""

    values: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Twin:
    """Who makes the rows, how clear each modality is, and which pairs of classes each modality confuses."""

    rows: Callable[[str, np.random.Generator, float], pd.DataFrame]
    gains: dict[str, float]
    confused: dict[str, tuple[tuple[str, str], ...]]


def arrays(name: str, table: pd.DataFrame, rng: np.random.Generator) -> dict[str, np.ndarray | Steps]:
    """The arrays of the twin `name` by name, float32: sequences, or vectors n d."""
    moment, duration = rng.uniform([[0.25], [0.0]], [[0.75], [1.0]], (2, len(table)))
    who, speakers = pd.factorize(table["speaker"])
    values = {}
    for modality, gain in TWINS[name].gains.items():
        pattern, telling = _patterns(modality, name, table, rng)
        pattern *= gain * rng.uniform(0.2, 1.8, (len(table), 1))
        same = rng.normal(scale=0.2, size=(len(speakers), pattern.shape[1]))[who]
        if name in VECTORS:
            values[modality] = (pattern + same + rng.normal(size=pattern.shape)).astype(np.float32)
        else:
            same += rng.normal(scale=HAZE, size=pattern.shape)
            values[modality] = _steps(STEPS[modality], pattern + telling, same, moment, duration, rng)
    if name == "iemocap4":
        values["text_asr"] = _misheard(values["text"], rng)
    return values


def _patterns(modality: str, name: str, table: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The signal of an utterance at its strongest, n d, for a gain of 1; and the direction that marks such steps, d."""
    names = LABELS[name]
    if modality == "visual" and name not in VECTORS:
        wave = np.cos(np.pi / 8 * np.outer(np.arange(4), np.arange(8) + 0.5))
        wave /= np.linalg.norm(wave, axis=1, keepdims=True)
        sharp = parts.directions(rng, 16, len(names) + 1) @ np.kron(wave, wave)  # c+1 64, smooth along both sides
    else:
        sharp = parts.directions(rng, (parts.WIDTHS if name in VECTORS else WIDTHS)[modality], len(names) + 1)
    if name in SENTIMENT:
        return table["score"].fillna(0).to_numpy()[:, None] / 1.5 * sharp[0], TELLING * sharp[-1]
    return parts.blurred(sharp[:-1], names, TWINS[name].confused[modality])[table["label"]], TELLING * sharp[-1]


def _steps(
    span: tuple[int, int], signal: np.ndarray, same: np.ndarray, moment: np.ndarray, duration: np.ndarray,
    rng: np.random.Generator,
) -> Steps:  # fmt: skip
    """The signal (n d) swelling and fading around `moment` (n), on a vector that all steps share (n d), with noise."""
    fewest, most = span
    longer = (duration + rng.normal(scale=0.1, size=len(duration))).clip(0, 1)
    lengths = fewest + np.round(longer * (most - fewest)).astype(np.int64)
    who, first = np.repeat(np.arange(len(lengths)), lengths), np.repeat(lengths.cumsum() - lengths, lengths)
    place = (np.arange(len(who)) - first + 0.5) / lengths[who]  # 0 to 1 through the utterance
    moment = moment + rng.normal(scale=0.05, size=len(moment))
    share = np.exp(-(((place - moment[who]) / 0.25) ** 2)) * (rng.random(len(who)) < 0.8)
    values = share[:, None] * signal[who] + same[who] + rng.normal(size=(len(who), signal.shape[1]))
    return Steps(values.astype(np.float32), lengths)


def _misheard(text: Steps, rng: np.random.Generator) -> Steps:
    """The text with a fifth of its steps replaced by steps of other utterances."""
    values, lengths = text.values.copy(), text.lengths
    who = np.repeat(np.arange(len(lengths)), lengths)
    wrong = rng.permutation(len(who))[: round(0.2 * len(who))]
    other = (who[wrong] + rng.integers(1, len(lengths), len(wrong))) % len(lengths)
    step = (rng.random(len(wrong)) * lengths[other]).astype(np.int64)
    values[wrong] = text.values[(lengths.cumsum() - lengths)[other] + step]
    return Steps(values, lengths)


def _iemocap(name: str, rng: np.random.Generator, scale: float) -> pd.DataFrame:
    """Rows of dialogues of two in five sessions; every actor has every class that is not rare."""
    counts = [max(round(c * scale), min(c, FEW)) for c in CLASSES[name]["all"]]
    full = DIALOGUES[name]["all"]
    number = min(max(round(full * scale), 50), sum(counts) // 8)
    rows = []
    for i, length in enumerate(parts.lengths(rng, number, sum(counts), 5, 112, 6.0)):
        session = 5 - i % 5
        dialogue = f"Ses0{session}{'FM'[i // 5 % 2]}_twin{i:03d}"
        who = (rng.integers(2) + (rng.random(length) < 0.69).cumsum()) % 2
        rows += [(f"{dialogue}_{'FM'[k]}{t:03d}", dialogue, f"0{session}{'FM'[k]}") for t, k in enumerate(who)]
    table = pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker"])
    per_session = max(1, round(3 * number / full))
    table["split"] = table["dialogue"].map(default_split(table["dialogue"], per_session=per_session))
    labels = np.empty(len(table), dtype=np.int64)
    labels[parts.line(table["dialogue"], table["speaker"], 0.7, 0.4, rng)] = np.repeat(range(len(counts)), counts)
    parts.cover(labels, table["speaker"], within=pd.Series(0, index=table.index))
    parts.cover(labels, table["split"], within=table["speaker"])
    tenths = pd.Series(splits.assign(table, {"split": "random_811"}))
    parts.cover(labels, tenths, within=table["speaker"] + table["split"])
    if name == "iemocap8":  # in the true corpus too, disgust is one turn each of these two
        train = table["split"] == "train"
        parts.move(labels, LABELS[name].index("disgust"), [train & (table["speaker"] == a) for a in ("01M", "03M")])
    table["label"] = labels
    table["text"] = parts.sentences(table["label"], LABELS[name], rng)
    return table


def _ravdess(name: str, rng: np.random.Generator, scale: float) -> pd.DataFrame:
    """Rows of clips by 24 actors, of whom the first fold of `splits` tests; neutral is never strong."""
    rows = []
    for actor in range(1, 25):
        for label in range(len(LABELS[name])):
            kinds = [(i, s, r) for i in ((1, 2) if label else (1,)) for s in (1, 2) for r in (1, 2)]
            drawn = rng.permutation(len(kinds))[: max(1, round(len(kinds) * scale))]
            for i, s, r in (kinds[k] for k in sorted(drawn)):
                clip = f"03-01-{label + 1:02d}-{i:02d}-{s:02d}-{r:02d}-{actor:02d}"
                rows.append((clip, clip, f"{actor:02d}", label, STATEMENTS[str(s)]))
    table = pd.DataFrame(rows, columns=["utterance", "dialogue", "speaker", "label", "text"])
    return table.assign(split=splits.assign(table, {"split": "actors"}))


def _videos(name: str, rng: np.random.Generator, scale: float) -> pd.DataFrame:
    """Rows of videos of one speaker each, with scores that last: the share of a video and that of the last sentence."""
    rows = []
    for split in SPLITS:
        if name == "mosi":
            shares, shape, unscored = MOSI_SCORES[split], (3, 62, 6.0), 4 if split == "train" else 0
            full, videos = sum(shares) + unscored, MOSI_VIDEOS[split]
        else:
            shares, shape, unscored = MOSEI_SCORES, (1, 40, 1.8), 0
            full, videos = UTTERANCES[name][split], UTTERANCES[name][split] / 7
        unscored = min(unscored, max(1, round(unscored * scale)))
        total = max(round(full * scale), 3 * len(shares))
        lengths = parts.lengths(rng, max(2, round(videos * total / full)), total, *shape)
        feeling = np.concatenate([_feelings(length, rng) for length in lengths])
        feeling[rng.permutation(total)[:unscored]] = np.nan
        score = _scores(feeling, parts.apportion(shares, total - unscored), 3 if name == "mosei" else 5)
        video = np.repeat([f"{split}{i:03d}" for i in range(len(lengths))], lengths)
        rows.append(pd.DataFrame({"dialogue": video, "split": split, "score": score}))
    table = pd.concat(rows, ignore_index=True)
    turn = table.groupby("dialogue", sort=False).cumcount() + 1
    table["utterance"] = table["dialogue"] + "_" + turn.astype(str)
    table["speaker"], table["label"] = table["dialogue"], sentiment_class(table["score"])
    table["text"] = parts.sentences(table["label"].replace(-1, LABELS[name].index("0")), LABELS[name], rng)
    return table


def _feelings(length: int, rng: np.random.Generator) -> np.ndarray:
    """Normal values with a part that is the video's own (variance 0.31, as in MOSI) and a part that wanes slowly."""
    own, new = rng.normal(scale=0.31**0.5), rng.normal(scale=0.69**0.5, size=length)
    for i in range(1, length):
        new[i] = 0.4 * new[i - 1] + (1 - 0.4**2) ** 0.5 * new[i]
    return own + new


def _scores(feeling: np.ndarray, counts: np.ndarray, parts_of_one: int) -> np.ndarray:
    """The scores in [-3, 3], multiples of 1 / `parts_of_one`, in the order of the feelings; `counts` in each class."""
    around = np.arange(-(parts_of_one // 2), parts_of_one // 2 + 1) / parts_of_one
    values = [[v for v in np.round(c + around, 4) if -3 <= v <= 3] for c in range(-3, 4)]
    shares = [np.diff(np.arange(len(v) + 1) * k // len(v)) for v, k in zip(values, counts, strict=True)]  # even
    line = np.repeat(np.concatenate(values), np.concatenate(shares))
    score = np.full(len(feeling), np.nan)
    score[np.argsort(feeling)[: len(line)]] = line  # NaN is sorted last
    return score


TWINS = {
    "iemocap4": Twin(_iemocap, {"text": 4.0, "audio": 3.6, "visual": 3.4}, {
        "text": (("sad", "neutral"),),
        "audio": (("happy", "angry"), ("sad", "neutral")),
        "visual": (("neutral", "angry"), ("happy", "sad")),
    }),
    "iemocap8": Twin(_iemocap, {"text": 4.0, "audio": 3.5, "visual": 3.3}, {
        "text": (("happy", "excited"), ("angry", "frustrated")),
        "audio": (("happy", "neutral"), ("angry", "excited"), ("sad", "frustrated")),
        "visual": (("sad", "neutral"), ("happy", "excited"), ("fearful", "surprised")),
    }),
    "ravdess": Twin(_ravdess, {"audio": 4.2, "visual": 4.6}, {
        "audio": (("calm", "neutral"), ("happy", "surprised"), ("sad", "fearful")),
        "visual": (("calm", "sad"), ("angry", "disgust"), ("fearful", "surprised")),
    }),
    "mosi": Twin(_videos, {"text": 3.4, "audio": 1.9, "visual": 1.8}, {}),
    "mosei": Twin(_videos, {"text": 2.4, "audio": 1.5, "visual": 1.3}, {}),
}  # fmt: skip
