"""The times of a prepared table (`prepared`): seconds, and the parts of recordings that they cut out."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data import recordings
from merlib.data.table import CorpusError
from merlib.errors import listed

SECONDS = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+")
PLACES = ("recording", "dialogue")


def cut(table: pd.DataFrame, times: str | None, file: Path, declared: Path) -> pd.DataFrame:
    """The table with `start` and `end` as seconds, and with the part of its recording in each cell of audio and video.

    times: where start and end count. In "recording", they cut it. In "dialogue", they cut the recordings that several
    rows share, and those of one row are whole; so it is by default, where any is shared.
    Raises CorpusError for anything that is no time, and where it is open whether the times cut recordings.
    """
    if times not in (None, *PLACES):
        raise CorpusError(f"{declared}: times = {times!r}; expected one of {PLACES}.")
    table = table.assign(**{name: _seconds(table, name, file) for name in ("start", "end") if name in table})
    if {"start", "end"} <= set(table) and (wrong := table["end"] <= table["start"]).any():
        utterance, start, end = table.loc[wrong, ["utterance", "start", "end"]].iloc[0]
        what = f"{wrong.sum()} utterances end before they begin, first {utterance}, {start} to {end} s"
        raise CorpusError(f"{file}: {what}. Correct `start` and `end`.")
    names, timed = [name for name in ("audio", "video") if name in table], {"start", "end"} <= set(table)
    shared = {name: _shared(table, name, file) for name in names}
    if timed and times is None and any(_whole(table[n]).any() for n in names) and not any(shared.values()):
        what = f"each row has a recording of its own, and times. Say in {declared} where these count"
        places = 'in the recording, which they cut (times = "recording"), or not (times = "dialogue")'
        raise CorpusError(f"{file}: {what}: {places}.")
    cutting = [name for name in names if timed and (times == "recording" or shared[name])]
    if uncut := [name for name in names if shared[name] and name not in cutting]:
        what = f"{uncut[0]}: several utterances share a recording, first {shared[uncut[0]]}"
        remedy = "name `start` and `end` in [columns], in seconds of the recording, or write FILE#t=START,END"
        raise CorpusError(f"{file}: {what}. To cut them out, {remedy} ({declared}).")
    return table.assign(**{name: _parts(table, name, file) for name in cutting})


def _whole(cells: pd.Series) -> pd.Series:
    """Which cells name a recording, and no part of it."""
    return (cells != "") & ~cells.str.contains("#", regex=False)


def _shared(table: pd.DataFrame, name: str, file: Path) -> str:
    """The first recording that several rows name, as a whole; "" where there is none. Checks every cell."""
    for utterance, cell in zip(table["utterance"], table[name], strict=True):
        try:
            _, start, end, _ = recordings.parse(cell)
        except ValueError as error:
            raise CorpusError(f"{file}: {name} of {utterance}: {error}.") from None
        if start is not None and end <= start:
            raise CorpusError(f"{file}: {name} of {utterance} ends before it begins: {cell!r}. Correct it.")
    whole = table[name][_whole(table[name])]
    return next(iter(whole[whole.duplicated()]), "")


def _seconds(table: pd.DataFrame, name: str, file: Path) -> pd.Series:
    """The seconds of a column, NaN for an empty cell."""
    given = ~table[name].str.lower().isin(["", "nan"])
    seconds = pd.to_numeric(table[name].where(given), errors="coerce").astype(float)
    good = ~given | (table[name].str.fullmatch(SECONDS) & np.isfinite(seconds))
    if not good.all():
        first = table[~good].head(3).set_index("utterance")[name].to_dict()
        what = f"{(~good).sum()} times in `{name}` are not seconds from 0 on, first {listed(first)}"
        raise CorpusError(f"{file}: {what}. Write them as 12.34, with a decimal point, or leave them empty.")
    return seconds


def _parts(table: pd.DataFrame, name: str, file: Path) -> list[str]:
    """The cells of audio or video, with the part of each recording that belongs to its utterance."""
    cells, whole = table[name], _whole(table[name])
    untimed = whole & table[["start", "end"]].isna().any(axis=1)
    if untimed.any():
        what = f"{untimed.sum()} recordings have no start or no end, first {table['utterance'][untimed].iloc[0]}"
        raise CorpusError(f"{file}: {name}: {what}. Fill them in, or leave the recording out.")
    rows = zip(cells, whole, table["start"], table["end"], strict=True)
    return [recordings.part(cell, start, end) if is_whole else cell for cell, is_whole, start, end in rows]
