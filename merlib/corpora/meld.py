"""MELD (Poria et al. 2019): the official files train_, dev_ and test_sent_emo.csv, and their quirks.

Dialogue_ID starts at 0 in every file: dialogues become train_0, dev_0, test_0, and utterances train_dia0_utt3, after
the clips' names. Utterance_ID has gaps, and train has no dialogue 60; turns are renumbered. The files are UTF-8, in
some copies with single cp1252 bytes, which are read as the quotation marks that they encode. StartTime and EndTime are
times in the episode, `00:16:16,059`, in some rows with one digit for the hour. Clips are expected beside the CSV files,
under the folder names of MELD.Raw.
"""

import codecs
import io
import re
from pathlib import Path

import pandas as pd

from merlib.corpora.reading import media_path, required
from merlib.data.official import LABELS
from merlib.data.table import Corpus, CorpusError, build

FILES = {  # prefix of the ids: our split, folder of the clips
    "train": ("train", "train_splits"),
    "dev": ("val", "dev_splits_complete"),
    "test": ("test", "output_repeated_splits_test"),
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
# Clips of MELD.Raw that users report as missing or impossible to decode: their `video` is "", even if the file exists.
BAD_CLIPS = ("train_dia125_utt3", "dev_dia110_utt7", "test_dia110_utt7")

codecs.register_error("cp1252", lambda e: (e.object[e.start : e.end].decode("cp1252", errors="replace"), e.end))


def read(source: Path) -> Corpus:
    """The seven-class corpus from the three CSV files in the folder `source`."""
    return build("meld", pd.concat([_split(Path(source), part) for part in FILES]), source="official CSV files")


def videos(source: Path, part: str) -> list[str]:
    """The clips of a part, `train_splits/dia0_utt0.mp4`, that its CSV file names and that can be decoded."""
    utterances = [u for u in _split(Path(source), part)["utterance"] if u not in BAD_CLIPS]
    return [f"{FILES[part][1]}/{u.removeprefix(f'{part}_')}.mp4" for u in utterances]


def decode(raw: bytes) -> str:
    """UTF-8 text; bytes that are not UTF-8, and the C1 controls that a wrong decoding leaves, are read as cp1252."""
    text = raw.decode("utf-8", errors="cp1252").removeprefix("\ufeff")
    return re.sub("[\x80-\x9f]", lambda c: c[0].encode("latin-1").decode("cp1252", errors="replace"), text)


def seconds(time: str) -> float:
    """Seconds of `h:mm:ss,mmm`, with a comma or a point."""
    match = re.fullmatch(r"\s*(\d+):(\d+):(\d+)[,.](\d+)\s*", time)
    if not match:
        raise CorpusError(f"MELD time {time!r}; expected h:mm:ss,mmm. Take the official file.")
    hours, minutes, whole, fraction = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(f"{whole}.{fraction}")


def _split(source: Path, part: str) -> pd.DataFrame:
    """The rows of one CSV file in our columns, in order of dialogue and turn."""
    split, clips = FILES[part]
    file = required(source / f"{part}_sent_emo.csv", f"{[f'{p}_sent_emo.csv' for p in FILES]} in one folder.")
    raw = pd.read_csv(io.StringIO(decode(file.read_bytes())), dtype=str, keep_default_na=False)
    if missing := sorted(set(COLUMNS) - set(raw)):
        raise CorpusError(f"{file}: columns {missing} are missing; found {list(raw)}. Take the official file.")
    raw[["d", "u"]] = raw[["Dialogue_ID", "Utterance_ID"]].astype(int)
    raw = raw.sort_values(["d", "u"], kind="stable")
    emotion = raw["Emotion"].str.strip().str.lower()
    if wrong := sorted(set(emotion) - set(LABELS["meld"])):
        raise CorpusError(f"{file}: emotions {wrong}; expected {LABELS['meld']}. Take the official file.")
    clip = "dia" + raw["d"].astype(str) + "_utt" + raw["u"].astype(str)
    bad = (f"{part}_" + clip).isin(BAD_CLIPS)
    columns = {
        "utterance": f"{part}_" + clip,
        "dialogue": f"{part}_" + raw["d"].astype(str),
        "speaker": raw["Speaker"].str.strip(),
        "label": emotion.map(LABELS["meld"].index),
        "split": split,
        "start": raw["StartTime"].map(seconds),
        "end": raw["EndTime"].map(seconds),
        "text": raw["Utterance"],
        "video": clip.map(lambda c: media_path(source / clips / f"{c}.mp4", source)).mask(bad, ""),
    }
    return pd.DataFrame(columns)
