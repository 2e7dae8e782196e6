"""Recordings: the audio and the frames of one utterance, from a file of its own or from a part of a longer one.

Whatever is wrong with a recording is a `MediaError` whose message is the reason; the pipeline decides what follows from
it. Nothing here holds more than one frame, or the audio of one utterance, at a time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from av.video.reformatter import VideoReformatter

from merlib.data import recordings
from merlib.errors import MerlibError

AUDIO_FILES = (".wav", ".flac", ".ogg", ".mp3")  # read by soundfile; every other file by FFmpeg (PyAV)
LONGEST = 600.0  # seconds of one utterance; MELD has clips of minutes that are cutting errors
RESAMPLER = f"soxr {soxr.__version__}"  # part of what settles the values of audio
WARM_UP = 0.25  # seconds that an audio decoder needs before its output is right


class MediaError(MerlibError, ValueError):
    """A recording that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Clip:
    """One utterance of a recording. `side` is the half of the frame where its speaker is ("left", "right"), or ""."""

    utterance: str
    file: Path
    start: float | None = None  # seconds in the file; None: the whole file
    end: float | None = None
    side: str = ""

    @property
    def whole(self) -> "Clip":
        """The same clip with whole frames."""
        return replace(self, side="")


def located(utterance: str, text: str, folder: Path, *, links: bool = False) -> Clip:
    """The recording of an utterance that a table names by `text` (see `merlib.data.recordings`), below `folder`.

    Raises MediaError where there is none, or where a path or, unless `links` says that it may, a link leads out of the
    folder.
    """
    if not text:
        raise MediaError("the table names no file")
    try:
        path, start, end, side = recordings.parse(text)
    except ValueError as error:
        raise MediaError(str(error)) from None
    root, file = Path(folder).resolve(), (Path(folder) / path).resolve()
    if not file.is_relative_to(root) and (not links or recordings.escapes(path)):
        raise MediaError(f"{path} leads out of the corpus' folder; copy the file there, or give the folder it is in")
    if not file.is_file():
        raise MediaError(f"no such file: {path}")
    if not file.stat().st_size:
        raise MediaError("the file is empty")
    if end is not None and end <= start:
        raise MediaError(f"ends at {end} s, but begins at {start} s")
    return Clip(utterance, file, start, end, side)


def audio(clip: Clip, *, rate: int) -> np.ndarray:
    """The clip's audio, mixed to one channel at `rate` Hz: s, float32 in [-1, 1]."""
    decode = _from_audio_file if clip.file.suffix.lower() in AUDIO_FILES else _from_video
    samples, own_rate = decode(clip)  # s channels
    if not len(samples):
        raise MediaError("no audio in it")
    if not np.isfinite(samples).all():
        raise MediaError("samples that are not finite")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return mono if own_rate == rate else resampled(mono, own_rate, rate)


def resampled(samples: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """Audio at another rate, as `librosa.resample` does it: s -> ceil(s rate / own_rate), float32."""
    length = math.ceil(len(samples) * rate / own_rate)
    made = soxr.resample(samples, own_rate, rate)[:length]
    return np.pad(made, (0, length - len(made)))


def _from_audio_file(clip: Clip) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(clip.file) as file:
            first = 0 if clip.start is None else round(clip.start * file.samplerate)
            last = file.frames if clip.end is None else round(clip.end * file.samplerate)
            if first and first >= file.frames:
                raise MediaError(f"ends at {file.frames / file.samplerate:.2f} s, before the utterance begins")
            if last - first > round(LONGEST * file.samplerate):
                seconds = (last - first) / file.samplerate
                raise MediaError(f"{seconds:.0f} s long; an utterance has {LONGEST:.0f} at most")
            file.seek(first)
            return file.read(max(0, last - first), dtype="float32", always_2d=True), file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        raise MediaError(f"cannot be read as audio ({_reason(error)})") from None


def _from_video(clip: Clip) -> tuple[np.ndarray, int]:
    try:
        with av.open(str(clip.file)) as video:
            if not video.streams.audio:
                raise MediaError("has no audio stream")
            stream = video.streams.audio[0]
            rate, parts = stream.rate, []
            resampler = av.AudioResampler(format="fltp", rate=rate)  # the stream's own rate and channels, as floats
            begin, end = clip.start or 0.0, clip.end if clip.end is not None else (clip.start or 0.0) + LONGEST
            if begin:
                video.seek(int(max(0.0, begin - WARM_UP) / stream.time_base), stream=stream)
            first = None  # second at which the first decoded sample stands
            for block in video.decode(stream):
                if block.time is not None and block.time >= end:
                    break
                first = block.time if first is None else first
                parts += [part.to_ndarray() for part in resampler.resample(block)]
            if not parts:
                return np.zeros((0, 1), np.float32), rate
            samples, skip = np.concatenate(parts, axis=1).T, max(0, round((begin - (first or 0.0)) * rate))
            return samples[skip:][: round((end - begin) * rate)], rate
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be decoded ({_reason(error)})") from None


def frames(clip: Clip, *, count: int | None = None) -> Iterator[np.ndarray]:
    """The clip's frames in order, h w 3 RGB bytes: all, or those in the middle of `count` equal parts of the clip.

    In a short video the same frame may come several times. Raises MediaError, possibly after some frames.
    """
    times = None
    if count is not None:
        length = duration(clip)
        times = ((clip.start or 0.0) + length * (i + 0.5) / count for i in range(count))
    try:
        with av.open(str(clip.file)) as video:
            if not video.streams.video:
                raise MediaError("has no video stream")
            video.streams.video[0].thread_type = "AUTO" if times is None else "SLICE"
            yield from islice(_nearest(video, clip, times), count)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be decoded ({_reason(error)})") from None


def _nearest(video: av.container.InputContainer, clip: Clip, times: Iterator[float] | None) -> Iterator[np.ndarray]:
    """The frames nearest to the given `times` in seconds; every frame of the clip where that is None."""
    stream, begin = video.streams.video[0], clip.start or 0.0
    if begin:
        video.seek(int(begin / stream.time_base), stream=stream)
    half, converter = 0.5 / float(stream.average_rate or 25), VideoReformatter()  # one for all: it takes time to make
    due, latest = next(times) if times else None, None
    for frame in video.decode(stream):
        now = frame.time or 0.0
        if clip.end is not None and now >= clip.end - 1e-6:
            break
        if now < begin - half:
            continue
        latest = frame
        if due is None:
            yield _rgb(frame, clip.side, converter)
            continue
        while due < now + half:
            yield _rgb(frame, clip.side, converter)
            due = next(times, float("inf"))
    if latest is None:
        raise MediaError("no frame in it")
    last = clip.end if clip.end is not None else now + 2 * half
    while due is not None and due < last:  # the video ends before the utterance does: its last frame is repeated
        yield _rgb(latest, clip.side, converter)
        due = next(times, float("inf"))


def _rgb(frame: av.VideoFrame, side: str, converter: VideoReformatter) -> np.ndarray:
    pixels = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    middle = pixels.shape[1] // 2
    return {"": pixels, "left": pixels[:, :middle], "right": pixels[:, middle:]}[side]


def duration(clip: Clip) -> float:
    """Seconds of the clip, from its table or else from the header of its file."""
    if clip.end is not None:
        return clip.end - (clip.start or 0.0)
    try:
        with av.open(str(clip.file)) as file:
            stream = (*file.streams.video, *file.streams.audio)[0]
            seconds = stream.duration * stream.time_base if stream.duration else (file.duration or 0) / av.time_base
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be opened ({_reason(error)})") from None
    if not 0 < seconds <= LONGEST:
        raise MediaError(f"lasts {float(seconds):.1f} s; an utterance has more than 0 and at most {LONGEST:.0f}")
    return float(seconds) - (clip.start or 0.0)


def _reason(error: Exception) -> str:
    """An error in a few words, without the file's path."""
    return str(getattr(error, "strerror", None) or error).split("'")[0].strip(" :.") or type(error).__name__
