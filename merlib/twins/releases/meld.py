"""MELD's media twin: the three CSV files with the official columns, and one clip an utterance.

    train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv
    train_splits/, dev_splits_complete/, output_repeated_splits_test/ with dia<Dialogue_ID>_utt<Utterance_ID>.mp4

As in the release, one clip of train is missing and one of test cannot be decoded: `flawed` says which. (Those of the
release, `merlib.corpora.meld.BAD_CLIPS`, are in dialogues that the twin does not have.)
"""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora.meld import FILES
from merlib.data.official import LABELS
from merlib.twins import dialogues
from merlib.twins.releases import takes

SHARE = 0.022  # of the utterances, at scale 1
WOMEN, MEN = ("Rachel", "Phoebe", "Monica"), ("Joey", "Ross", "Chandler")
SENTIMENT = {"neutral": "neutral", "joy": "positive"}  # surprise is either; the others are negative


def table(*, seed: int, scale: float) -> pd.DataFrame:
    """Every turn in order, as `merlib.corpora.meld` names it, with start and end in the episode."""
    rows = dialogues.make("meld", seed=seed, scale=max(SHARE * scale, 1e-6))[0].table
    rng = np.random.default_rng([seed, 2])
    length = rng.uniform(0.7, 1.3, len(rows)).round(3)
    pause = pd.Series(rng.uniform(0.05, 0.3, len(rows)).round(3))
    ends = (length + pause).groupby(rows["dialogue"], sort=False).cumsum()
    scene = rows.groupby("dialogue", sort=False).ngroup() * 61.5  # a dialogue a minute
    return rows.assign(start=(scene + ends - length).round(3), end=(scene + ends).round(3))


def flawed(rows: pd.DataFrame) -> tuple[str, str]:
    """The utterance whose clip is missing, the last of train, and the one whose clip is cut off, the last of test."""
    return tuple(rows.loc[rows["split"] == split, "utterance"].iloc[-1] for split in ("train", "test"))


def fill(name: str, folder: Path, *, seed: int, scale: float) -> None:
    """Write the release into the empty `folder`."""
    rows = table(seed=seed, scale=scale)
    missing, cut = flawed(rows)
    for part, (split, clips) in FILES.items():
        _sheet(rows[rows["split"] == split], seed).to_csv(folder / f"{part}_sent_emo.csv", index=False)
        for row in rows[(rows["split"] == split) & (rows["utterance"] != missing)].itertuples():
            rng = takes.generator(seed, row.utterance)
            guest_female = row.speaker not in MEN and zlib.crc32(row.speaker.encode()) % 2 == 0  # by chance
            who = takes.actor(f"meld {row.speaker}", female=row.speaker in WOMEN or guest_female)
            file = folder / clips / f"{row.utterance.removeprefix(f'{part}_')}.mp4"
            takes.record(file, who, LABELS[name][row.label], seconds=row.end - row.start, rng=rng)
            if row.utterance == cut:
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _sheet(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    emotion = rows["label"].map(dict(enumerate(LABELS["meld"])))
    either = pd.Series(np.random.default_rng([seed, 3]).choice(["positive", "negative"], len(rows)), index=rows.index)
    sentiment = emotion.map(SENTIMENT).fillna("negative").where(emotion != "surprise", either)
    number = rows["dialogue"].str.split("_").str[1].astype(int)
    columns = {
        "Sr No.": range(1, len(rows) + 1), "Utterance": rows["text"], "Speaker": rows["speaker"], "Emotion": emotion,
        "Sentiment": sentiment, "Dialogue_ID": number, "Utterance_ID": rows["turn"],
        "Season": 1 + number // 24, "Episode": 1 + number % 24,
        "StartTime": rows["start"].map(_clock), "EndTime": rows["end"].map(_clock),
    }  # fmt: skip
    return pd.DataFrame(columns)


def _clock(seconds: float) -> str:
    """`hh:mm:ss,mmm`."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"
