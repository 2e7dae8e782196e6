"""What all synthetic twins are made of: words, dialogue lengths, lasting emotions, exact class counts, prototypes."""

import numpy as np
import pandas as pd

WIDTHS = {"text": 48, "audio": 32, "visual": 24}  # of vectors
BLUR = 0.75  # how far the prototypes of a confused pair are moved to their middle
WORDS = {
    "common": "well so of it we there that what you know I then a this go tell about day here time place people thing",
    "happy": "glad smile lovely sweet nice pleased warm",
    "excited": "wow amazing finally awesome wonderful incredible best",
    "joy": "great yay love fun wonderful laugh happy",
    "sadness": "sorry miss lost cry alone gone tears",
    "anger": "hate shut stop damn liar furious out",
    "frustrated": "again never useless why annoying stuck nothing",
    "surprise": "what really oh god suddenly unbelievable seriously",
    "fear": "afraid scared danger please run help terrified",
    "disgust": "gross ew disgusting nasty awful sick yuck",
    "neutral": "okay yes table number form morning street",
}
WORDS |= {"sad": WORDS["sadness"], "angry": WORDS["anger"], "surprised": WORDS["surprise"], "fearful": WORDS["fear"]}
WORDS |= dict.fromkeys(("-3", "-2", "-1"), "boring worst waste bad poor dull mess")
WORDS |= dict.fromkeys(("1", "2", "3"), "loved great funny best clever recommend superb")
WORDS["0"] = "film scene actor story minutes cinema year"
WORDS = {name: words.split() for name, words in WORDS.items()}


def lengths(rng: np.random.Generator, number: int, total: int, shortest: int, longest: int, shape: float) -> np.ndarray:
    """`number` dialogue lengths that add up to `total`, spread as in the corpus."""
    sizes = rng.gamma(shape, total / number / shape, number).round().clip(shortest, longest).astype(int)
    while gap := total - sizes.sum():
        able = np.flatnonzero(sizes < longest if gap > 0 else sizes > shortest)
        sizes[rng.permutation(able)[: abs(gap)]] += np.sign(gap)
    return sizes


def line(dialogue: pd.Series, speaker: pd.Series, stay: float, echo: float, rng: np.random.Generator) -> np.ndarray:
    """The rows in an order in which those that share an emotion stand together.

    A turn has the emotion of its speaker's last turn (`stay`), else that of the turn before, whoever spoke (`echo`),
    else its own. These runs are put in random order; cut where the counts of the classes say, the line gives every row
    its class, without replacement, so that counts are exact.
    """
    stays, echoes = rng.random((2, len(dialogue))) < [[stay], [echo]]
    run, last, dialogues = np.arange(len(dialogue)), {}, list(dialogue)
    for i, key in enumerate(zip(dialogues, speaker, strict=True)):
        if key in last and stays[i]:
            run[i] = run[last[key]]
        elif i and dialogues[i - 1] == dialogues[i] and echoes[i]:
            run[i] = run[i - 1]
        last[key] = i
    return np.argsort(rng.permutation(len(dialogue))[run], kind="stable")


def apportion(counts: tuple[int, ...], total: int) -> np.ndarray:
    """`total` in the proportions of `counts`, by largest remainder and at least one each."""
    exact = np.array(counts) * total / sum(counts)
    shares = np.maximum(np.floor(exact).astype(int), 1)
    while gap := total - shares.sum():
        shares[np.argmax(np.sign(gap) * (exact - shares))] += np.sign(gap)
    return shares


def cover(labels: np.ndarray, group: pd.Series, within: pd.Series) -> None:
    """Swap labels in place until every group has every class with at least as many rows as there are groups.

    Two rows that swap share their value of `within`, and neither class is its group's last: where there are no two
    such rows, the group stays without the class. The numbers of classes, also in each `within`, do not change.
    """
    group, within = group.to_numpy(), within.to_numpy()
    names = sorted(set(group))
    for c in range(labels.max() + 1):
        for g in names if (labels == c).sum() >= len(names) else ():
            if ((labels == c) & (group == g)).any():
                continue
            counts = {name: np.bincount(labels[group == name], minlength=c + 1) for name in names}
            spare = np.array([counts[h][k] > 1 for h, k in zip(group, labels, strict=True)])
            givers, takers = np.flatnonzero(spare & (labels == c)), np.flatnonzero(spare & (group == g))
            for i, j in ((i, j) for i in givers for j in takers if within[i] == within[j]):
                labels[i], labels[j] = labels[j], c
                break


def move(labels: np.ndarray, c: int, places: list[pd.Series]) -> None:
    """Move the rows of class `c`, one to each of `places` (u, true there), exchanged for the commonest class there."""
    for row, place in zip(np.flatnonzero(labels == c), places, strict=True):
        inside = np.flatnonzero(place)
        taken = inside[labels[inside] == np.bincount(labels[inside]).argmax()][0]
        labels[row], labels[taken] = labels[taken], c


def blurred(sharp: np.ndarray, names: tuple[str, ...], confused: tuple[tuple[str, str], ...]) -> np.ndarray:
    """The prototypes `sharp` (c d) with those of each confused pair moved towards their middle."""
    prototypes = sharp.copy()
    for pair in confused:
        i = [names.index(p) for p in pair]
        prototypes[i] = BLUR * sharp[i].mean(axis=0) + (1 - BLUR) * sharp[i]
    return prototypes


def directions(rng: np.random.Generator, width: int, number: int) -> np.ndarray:
    """`number` random orthogonal directions of length 1, number x width."""
    return np.linalg.qr(rng.normal(size=(width, number)))[0].T


def sentences(labels: pd.Series, names: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """Three to nine words each, one of three from the class's own list."""
    sizes = rng.integers(3, 10, len(labels))
    own, draw = rng.random((2, sizes.sum()))
    classes = zip(np.repeat(labels, sizes), own, strict=True)
    lists = [WORDS[names[k] if x < 1 / 3 else "common"] for k, x in classes]
    words = [words[int(x * len(words))] for words, x in zip(lists, draw, strict=True)]
    return [" ".join(words[e - n : e]).capitalize() + "." for e, n in zip(sizes.cumsum(), sizes, strict=True)]


def times(dialogue: pd.Series, rng: np.random.Generator) -> tuple[pd.Series, pd.Series]:
    """Start and end of every row in seconds: four seconds on average, with short pauses."""
    length, pause = rng.gamma(2.5, 1.6, len(dialogue)).clip(0.5).round(3), rng.gamma(1.0, 0.4, len(dialogue)).round(3)
    end = pd.Series(length + pause).groupby(dialogue, sort=False).cumsum().round(3)
    return (end - length).round(3), end
