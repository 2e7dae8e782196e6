"""MELD (Poria et al. 2019): the official files train_, dev_ and test_sent_emo.csv, and their quirks.

Dialogue_ID starts at 0 in every file: dialogues become train_0, dev_0, test_0, and utterances train_dia0_utt3, after
the clips' names. Utterance_ID has gaps, and train has no dialogue 60; turns are renumbered. The files are UTF-8, in
some copies with single cp1252 bytes, which are read as the quotation marks that they encode. StartTime and EndTime are
times in the episode, `00:16:16,059`, in some rows with one digit for the hour. Clips are expected beside the CSV files,
under the folder names of MELD.Raw, or up to two folders deeper, where some programs unpack its archives.
"""

import re
import warnings
from pathlib import Path

import pandas as pd

from merlib.corpora.reading import media_path, read_csv, required
from merlib.data.official import LABELS
from merlib.data.table import Corpus, CorpusError, build
from merlib.errors import Notice, listed

FILES = {  # prefix of the ids: our split, folder of the clips
    "train": ("train", "train_splits"),
    "dev": ("val", "dev_splits_complete"),
    "test": ("test", "output_repeated_splits_test"),
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
# Clips of MELD.Raw that users report as missing or impossible to decode: their `video` is "", even if the file exists.
BAD_CLIPS = ("train_dia125_utt3", "dev_dia110_utt7", "test_dia110_utt7")


def read(source: Path, *, partial: bool = False) -> Corpus:
    """The seven-class corpus from the three CSV files in the folder `source`; with `partial`, from one or two."""
    source = Path(source)
    parts = [part for part in FILES if (source / f"{part}_sent_emo.csv").exists()] if partial else list(FILES)
    rows = pd.concat([_split(source, part) for part in parts or FILES])
    n_clips = int((~rows["utterance"].isin(BAD_CLIPS)).sum())
    if not (found := int((rows["video"] != "").sum())):
        elsewhere = next(source.glob("**/dia*_utt*.mp4"), None)
        what = f"0 of {n_clips} clips found; expected train_splits/dia0_utt0.mp4 and its like, or one folder deeper"
        where = f"; they seem to be in {elsewhere.parent}" if elsewhere else ""
        warnings.warn(Notice(f"{what}{where}", source), stacklevel=1)
    elif found < n_clips:
        what = f"{n_clips - found} of {n_clips} clips are missing; {len(BAD_CLIPS)} more are known to be damaged"
        warnings.warn(Notice(what, source), stacklevel=1)
    return build("meld", rows, source="official CSV files")


def videos(source: Path, part: str) -> list[str]:
    """The clips of a part, `train_splits/dia0_utt0.mp4`, that its CSV file names and that can be decoded."""
    utterances = [u for u in _split(Path(source), part)["utterance"] if u not in BAD_CLIPS]
    return [f"{clips(Path(source), part)}/{u.removeprefix(f'{part}_')}.mp4" for u in utterances]


def episodes(source: Path) -> dict[str, str]:
    """Utterance -> season and episode, by the three CSV files in the folder `source`."""
    rows = pd.concat([_split(Path(source), part) for part in FILES])
    if "episode" not in rows or rows["episode"].isna().any():
        raise CorpusError(f"{source}: its CSV files have no columns Season and Episode. Take the official files.")
    return dict(zip(rows["utterance"], rows["episode"], strict=True))


def clips(source: Path, part: str) -> str:
    """The folder of the clips of a part below `source`: as in MELD.Raw, or in a folder of the archive's name."""
    name = FILES[part][1]
    folders = (sorted(f for f in source.glob(above + name) if f.is_dir()) for above in ("", "*/", "*/*/"))
    return next((found[0].relative_to(source).as_posix() for found in folders if found), name)


def seconds(time: str) -> float:
    """Seconds of `h:mm:ss,mmm`, with a comma or a point."""
    match = re.fullmatch(r"\s*(\d+):(\d+):(\d+)[,.](\d+)\s*", time)
    if not match:
        raise CorpusError(f"MELD time {time!r}; expected h:mm:ss,mmm. Take the official file.")
    hours, minutes, whole, fraction = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(f"{whole}.{fraction}")


def _split(source: Path, part: str) -> pd.DataFrame:
    """The rows of one CSV file in our columns, in order of dialogue and turn."""
    folder, split = source / clips(source, part), FILES[part][0]
    file = required(source / f"{part}_sent_emo.csv", f"{listed([f'{p}_sent_emo.csv' for p in FILES])} in one folder.")
    raw = read_csv(file)
    if missing := sorted(set(COLUMNS) - set(raw)):
        what = f"{file}: columns {listed(missing)} are missing"
        raise CorpusError(f"{what}; found {listed(raw)}. Take the official file.")
    for name in ("Dialogue_ID", "Utterance_ID"):
        if not (good := raw[name].str.fullmatch(r"\s*\d{1,9}\s*")).all():
            raise CorpusError(f"{file}: the {name} {raw[name][~good].iloc[0]!r} is no number. Take the official file.")
    raw[["d", "u"]] = raw[["Dialogue_ID", "Utterance_ID"]].astype(int)
    raw = raw.sort_values(["d", "u"], kind="stable")
    emotion = raw["Emotion"].str.strip().str.lower()
    if wrong := sorted(set(emotion) - set(LABELS["meld"])):
        what = f"{file}: emotions {listed(wrong)}"
        raise CorpusError(f"{what}; expected {listed(LABELS['meld'])}. Take the official file.")
    try:
        times = {ours: raw[theirs].map(seconds) for ours, theirs in (("start", "StartTime"), ("end", "EndTime"))}
    except CorpusError as error:
        raise CorpusError(f"{file}: {error}") from None
    clip = "dia" + raw["d"].astype(str) + "_utt" + raw["u"].astype(str)
    bad = (f"{part}_" + clip).isin(BAD_CLIPS)
    columns = {
        "utterance": f"{part}_" + clip,
        "dialogue": f"{part}_" + raw["d"].astype(str),
        "speaker": raw["Speaker"].str.strip(),
        "label": emotion.map(LABELS["meld"].index),
        "split": split,
        **times,
        "text": raw["Utterance"],
        "video": clip.map(lambda c: media_path(folder / f"{c}.mp4", source)).mask(bad, ""),
    }
    if {"Season", "Episode"} <= set(raw):
        columns["episode"] = raw["Season"].str.strip() + " " + raw["Episode"].str.strip()
    return pd.DataFrame(columns)
