"""The times of a prepared table (`prepared`): seconds, and the parts of recordings that they cut out."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data import recordings
from merlib.data.table import CorpusError

SECONDS = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+")
PLACES = ("recording", "dialogue")


def cut(table: pd.DataFrame, times: str | None, file: Path, declared: Path) -> pd.DataFrame:
    """The table with `start` and `end` as seconds, and with the part of its recording in each cell of audio and video.

    times: where start and end count, "recording" or "dialogue" (then recordings are whole), None where that is clear.
    Raises CorpusError for anything that is no time, and where recordings could be cut in two ways.
    """
    if times not in (None, *PLACES):
        raise CorpusError(f"{declared}: times = {times!r}; expected one of {PLACES}.")
    table = table.assign(**{name: _seconds(table, name, file) for name in ("start", "end") if name in table})
    if {"start", "end"} <= set(table) and (wrong := table["end"] <= table["start"]).any():
        first = table[wrong].head(3).set_index("utterance")[["start", "end"]].to_numpy().tolist()
        what = f"{wrong.sum()} utterances end before they begin, first {table['utterance'][wrong].iloc[0]}, {first[0]}"
        raise CorpusError(f"{file}: {what}. Correct `start` and `end`.")
    cells = {name: _parts(table, name, times, file, declared) for name in ("audio", "video") if name in table}
    return table.assign(**cells)


def _seconds(table: pd.DataFrame, name: str, file: Path) -> pd.Series:
    """The seconds of a column, NaN for an empty cell."""
    given = ~table[name].str.lower().isin(["", "nan"])
    seconds = pd.to_numeric(table[name].where(given), errors="coerce").astype(float)
    good = ~given | (table[name].str.fullmatch(SECONDS) & np.isfinite(seconds))
    if not good.all():
        first = table[~good].head(3).set_index("utterance")[name].to_dict()
        what = f"{(~good).sum()} times in `{name}` are not seconds from 0 on, first {first}"
        raise CorpusError(f"{file}: {what}. Write them as 12.34, with a decimal point, or leave them empty.")
    return seconds


def _parts(table: pd.DataFrame, name: str, times: str | None, file: Path, declared: Path) -> list[str]:
    """The cells of audio or video: recordings as they are, or the part of each that belongs to its utterance."""
    cells = table[name]
    for utterance, cell in zip(table["utterance"], cells, strict=True):
        try:
            _, start, end, _ = recordings.parse(cell)
        except ValueError as error:
            raise CorpusError(f"{file}: {name} of {utterance}: {error}.") from None
        if start is not None and end <= start:
            raise CorpusError(f"{file}: {name} of {utterance} ends before it begins: {cell!r}. Correct it.")
    whole = (cells != "") & ~cells.str.contains("#", regex=False)
    shared = whole & cells.where(whole).duplicated(keep=False)
    timed = {"start", "end"} <= set(table)
    if not timed or not whole.any() or times == "dialogue":
        if shared.any():
            what = (
                f"{shared.sum()} utterances share {cells[shared].nunique()} recordings, first {cells[shared].iloc[0]}"
            )
            remedy = "name `start` and `end` in [columns], in seconds of the recording, or write FILE#t=START,END"
            raise CorpusError(f"{file}: {name}: {what}. To cut them out, {remedy} ({declared}).")
        return list(cells)
    if times is None and not shared.any():
        what = (
            f"each row has a recording of its own, and times. Say in {declared} where these count: in the recording, "
        )
        raise CorpusError(f'{file}: {name}: {what}which they cut (times = "recording"), or not (times = "dialogue").')
    untimed = whole & table[["start", "end"]].isna().any(axis=1)
    if untimed.any():
        what = f"{untimed.sum()} recordings have no start or no end, first {table['utterance'][untimed].iloc[0]}"
        raise CorpusError(f"{file}: {name}: {what}. Fill them in, or leave the recording out.")
    rows = zip(cells, whole, table.get("start"), table.get("end"), strict=True)
    return [recordings.part(cell, start, end) if is_whole else cell for cell, is_whole, start, end in rows]
