"""Recordings: the sound and the pictures of one utterance, from a file of its own or from a part of a longer one.

Whatever is wrong with a recording is a `MediaError` whose message is the reason; what follows from it (a zero, an
utterance left out) is the pipeline's business. Nothing here holds more than one picture, or the sound of one
utterance, at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import av
import librosa
import numpy as np
import soundfile

from merlib.data import recordings
from merlib.errors import MerlibError

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")  # read by soundfile; every other file by FFmpeg (PyAV)
LONGEST = 600.0  # seconds of one utterance; MELD has clips of minutes that are cutting errors

WARM_UP = 0.25  # seconds that a decoder of sound needs before what it gives is right


class MediaError(MerlibError, ValueError):
    """A recording that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Clip:
    """One utterance of a recording. `side` is the half of the picture where its speaker is ("left", "right"), or ""."""

    utterance: str
    file: Path
    start: float | None = None  # seconds in the file; None: the whole file
    end: float | None = None
    side: str = ""

    @property
    def whole(self) -> "Clip":
        """The same with the whole picture."""
        return replace(self, side="")


def located(utterance: str, text: str, folder: Path) -> Clip:
    """The recording of an utterance that a table names by `text` (see `merlib.data.recordings`), below `folder`.

    Raises MediaError where there is none, or where a path or a link leads out of the folder.
    """
    if not text:
        raise MediaError("the table names no file")
    try:
        path, start, end, side = recordings.parse(text)
    except ValueError as error:
        raise MediaError(str(error)) from None
    root, file = Path(folder).resolve(), (Path(folder) / path).resolve()
    if not file.is_relative_to(root):
        raise MediaError(f"{path} leads out of the corpus' folder; copy the file there, or give the folder it is in")
    if not file.is_file():
        raise MediaError(f"no such file: {path}")
    if not file.stat().st_size:
        raise MediaError("the file is empty")
    if end is not None and end <= start:
        raise MediaError(f"ends at {end} s, but begins at {start} s")
    return Clip(utterance, file, start, end, side)


def sound(clip: Clip, *, rate: int) -> np.ndarray:
    """The clip's sound, mixed to one channel at `rate` Hz: s, float32 in [-1, 1]."""
    samples, own = (_decoded if clip.file.suffix.lower() not in SOUNDS else _stored)(clip)  # s, s channels
    if not len(samples):
        raise MediaError("no sound in it")
    if not np.isfinite(samples).all():
        raise MediaError("samples that are not finite")
    mono = samples.mean(axis=1, dtype=np.float32)
    return mono if own == rate else librosa.resample(mono, orig_sr=own, target_sr=rate)


def _stored(clip: Clip) -> tuple[np.ndarray, int]:
    """Samples (s channels) and their rate, of a file that libsndfile reads."""
    try:
        with soundfile.SoundFile(clip.file) as file:
            first = 0 if clip.start is None else round(clip.start * file.samplerate)
            last = file.frames if clip.end is None else round(clip.end * file.samplerate)
            if first and first >= file.frames:
                raise MediaError(f"ends at {file.frames / file.samplerate:.2f} s, before the utterance begins")
            longest = round(LONGEST * file.samplerate)
            if last - first > longest:
                raise MediaError(
                    f"{(last - first) / file.samplerate:.0f} s long; an utterance has {LONGEST:.0f} at most"
                )
            file.seek(first)
            return file.read(max(0, last - first), dtype="float32", always_2d=True), file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        raise MediaError(f"cannot be read as sound ({_reason(error)})") from None


def _decoded(clip: Clip) -> tuple[np.ndarray, int]:
    """Samples (s channels) and their rate, of the sound track of a film."""
    try:
        with av.open(str(clip.file)) as film:
            if not film.streams.audio:
                raise MediaError("has no sound track")
            stream = film.streams.audio[0]
            rate, parts = stream.rate, []
            resampler = av.AudioResampler(format="fltp", rate=rate)  # the film's own rate and channels, as floats
            begin, end = clip.start or 0.0, clip.end if clip.end is not None else (clip.start or 0.0) + LONGEST
            if begin:
                film.seek(int(max(0.0, begin - WARM_UP) / stream.time_base), stream=stream)
            first = None  # seconds where the first kept sample stands
            for frame in film.decode(stream):
                if frame.time is not None and frame.time >= end:
                    break
                first = frame.time if first is None else first
                parts += [part.to_ndarray() for part in resampler.resample(frame)]
            if not parts:
                return np.zeros((0, 1), np.float32), rate
            whole, skip = np.concatenate(parts, axis=1).T, max(0, round((begin - (first or 0.0)) * rate))  # s channels
            return whole[skip:][: round((end - begin) * rate)], rate
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be decoded ({_reason(error)})") from None


def pictures(clip: Clip, *, count: int | None = None, fps: float | None = None) -> Iterator[np.ndarray]:
    """The clip's pictures in order, h w 3 RGB bytes: all of them; `fps` a second; or `count`, in the middles of equal
    parts.

    Of a short film, one picture may come several times, so that there are `count`. Raises MediaError, also half-way.
    """
    if count is not None:
        length = duration(clip)
        wanted = ((clip.start or 0.0) + length * (i + 0.5) / count for i in range(count))
    else:
        wanted = None if fps is None else ((clip.start or 0.0) + i / fps for i in range(1 << 40))
    try:
        with av.open(str(clip.file)) as film:
            if not film.streams.video:
                raise MediaError("has no pictures")
            film.streams.video[0].thread_type = "AUTO" if wanted is None else "SLICE"
            yield from islice(_shown(film, clip, wanted), count)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be decoded ({_reason(error)})") from None


def _shown(film, clip: Clip, wanted: Iterator[float] | None) -> Iterator[np.ndarray]:
    """The pictures nearest to the `wanted` seconds; all of the clip's where that is None."""
    stream, begin = film.streams.video[0], clip.start or 0.0
    if begin:
        film.seek(int(begin / stream.time_base), stream=stream)
    half = 0.5 / float(stream.average_rate or 25)
    due, shown, some = next(wanted) if wanted else None, None, False
    for frame in film.decode(stream):
        now = frame.time or 0.0
        if clip.end is not None and now >= clip.end - 1e-6:
            break
        if now < begin - half:
            continue
        some, shown = True, frame
        if due is None:
            yield _rgb(frame, clip.side)
            continue
        while due < now + half:
            yield _rgb(frame, clip.side)
            due = next(wanted, float("inf"))
    if not some:
        raise MediaError("no picture in it")
    last = clip.end if clip.end is not None else now + 2 * half
    while due is not None and due < last:  # the film stops before the utterance does: its last picture stays
        yield _rgb(shown, clip.side)
        due = next(wanted, float("inf"))


def _rgb(frame, side: str) -> np.ndarray:
    picture = frame.to_ndarray(format="rgb24")
    middle = picture.shape[1] // 2
    return {"": picture, "left": picture[:, :middle], "right": picture[:, middle:]}[side]


def duration(clip: Clip) -> float:
    """Seconds of the clip: as its table says, or as the film's header does."""
    if clip.end is not None:
        return clip.end - (clip.start or 0.0)
    try:
        with av.open(str(clip.file)) as film:
            stream = (*film.streams.video, *film.streams.audio)[0]
            known = stream.duration * stream.time_base if stream.duration else (film.duration or 0) / av.time_base
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be opened ({_reason(error)})") from None
    if not 0 < known <= LONGEST:
        raise MediaError(f"lasts {float(known):.1f} s; an utterance has more than 0 and at most {LONGEST:.0f}")
    return float(known) - (clip.start or 0.0)


def _reason(error: Exception) -> str:
    """An error in a few words, without the file's path."""
    return str(getattr(error, "strerror", None) or error).split("'")[0].strip(" :.") or type(error).__name__
