"""Recordings: the audio and the frames of one utterance, from a file of its own or from a part of a longer one.

Whatever is wrong with a recording is a `MediaError` whose message is the reason; the pipeline decides what follows from
it. Nothing here holds more than two frames, or the audio of one utterance, at a time. Times are seconds from the start
of the recording (see `ffmpeg`).
"""

import math
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from merlib.data import recordings
from merlib.features import ffmpeg
from merlib.features.ffmpeg import Span
from merlib.features.limits import MediaError, reason
from merlib.foreign import content

AUDIO_FILES = (".wav", ".flac", ".ogg", ".mp3")  # read by soundfile; every other file by FFmpeg (PyAV)
LOUDEST = 8.0  # of samples that may be a little beyond 1; beyond this, a float file holds integers
LONGEST = 600.0  # seconds of one utterance; MELD has clips of minutes that are cutting errors
RESAMPLER = f"soxr {soxr.__version__}"  # part of what settles the values of audio
WARM_UP = 0.25  # seconds that an audio decoder needs before its output is right
GAP = 0.1  # seconds without audio that are kept as silence; where fewer seem to be missing, time stamps were rounded
CUT = 0.01  # seconds that libsndfile may read less than a header announces
VALUES = 1 << 28  # of the audio of one utterance, all its channels together
CANCELLED = 0.01  # a mix with a smaller share of its channels' power is what remains where they cancel out
UNKNOWN = (1, 4)  # libsndfile's codes for a format, and for an encoding, that it does not know
SIZE = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")  # bytes, in libsndfile's log
STREAMED = 0x7FFFF000  # bytes or more are announced by programs that write a header before they know the size


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
        root, file = Path(folder).resolve(), (Path(folder) / path).resolve()
        status = file.stat() if file.exists() else None
    except (OSError, ValueError) as error:  # such as a name that is too long, or that holds a zero byte
        raise MediaError(reason(error)) from None
    except RuntimeError:
        raise MediaError("a link that leads to itself") from None
    if not file.is_relative_to(root) and (not links or recordings.escapes(path)):
        raise MediaError("leads out of the corpus' folder: copy the file there, or give the folder it is in")
    if status is None:
        raise MediaError("no such file")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("a folder, a pipe or a device; expected a file")
    if not status.st_size:
        raise MediaError("the file is empty")
    if end is not None and end <= start:
        raise MediaError(f"ends at {end} s, but begins at {start} s")
    return Clip(utterance, file, start, end, side)


def audio(clip: Clip, *, rate: int) -> np.ndarray:
    """The clip's audio, mixed to one channel at `rate` Hz: s, float32, up to about 1; silence until it begins."""
    samples, own_rate = _samples(clip)  # s channels
    if not len(samples):
        raise MediaError("no audio in it")
    if not np.isfinite(samples).all():
        raise MediaError("samples that are not finite")
    if (peak := max(samples.max(), -samples.min())) > LOUDEST:
        raise MediaError(f"samples up to {peak:g}; expected -1 to 1: normalise the file")
    mono = samples[:, 0] if samples.shape[1] == 1 else _mixed(samples)
    if not mono.any():
        raise MediaError("digital silence: every sample is 0")
    return mono if own_rate == rate else resampled(mono, own_rate, rate)


def _mixed(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels, s c -> s; the loudest alone where they cancel out, as on a line with swapped wires."""
    mean, norms = samples.mean(axis=1, dtype=np.float32), np.linalg.norm(samples, axis=0)
    cancelled = np.linalg.norm(mean) ** 2 < CANCELLED * np.mean(norms**2)
    return samples[:, norms.argmax()] if cancelled else mean


def resampled(samples: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """Audio at another rate, as `librosa.resample` does it: s -> ceil(s rate / own_rate), float32."""
    length = math.ceil(len(samples) * rate / own_rate)
    made = soxr.resample(samples, own_rate, rate)[:length]
    return np.pad(made, (0, length - len(made)))


def _samples(clip: Clip) -> tuple[np.ndarray, int]:
    """All channels as they are, s c, and their rate: by libsndfile where it knows the format, else by FFmpeg."""
    if clip.file.suffix.lower() not in AUDIO_FILES:
        return _by_ffmpeg(clip)
    try:
        return _by_libsndfile(clip)
    except (OSError, soundfile.SoundFileError) as error:
        why = reason(error)
        if getattr(error, "code", None) not in UNKNOWN:
            raise MediaError(f"cannot be read as audio ({why})") from None
    try:
        return _by_ffmpeg(clip)
    except MediaError as error:
        raise MediaError(f"cannot be read as audio ({content(clip.file) or f'{why}; by FFmpeg: {error}'})") from None


def _by_libsndfile(clip: Clip) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(clip.file) as file:
        rate, announced = file.samplerate, _announced(file)
        first = 0 if clip.start is None else round(clip.start * rate)
        last = announced if clip.end is None else round(clip.end * rate)
        if first and first >= announced:
            raise MediaError(f"ends at {announced / rate:.2f} s, before the utterance begins")
        if last - first > round(LONGEST * rate):
            raise MediaError(f"{(last - first) / rate:.0f} s long; an utterance has {LONGEST:.0f} at most")
        _check_size((last - first) * file.channels)
        file.seek(min(first, file.frames))
        samples = file.read(max(0, last - first), dtype="float32", always_2d=True)
        end = first + len(samples)
        if not _estimated(file):
            if end < min(last, announced) - CUT * rate:
                raise ffmpeg.cut_off(min(end, file.frames) / rate, announced / rate)
        elif end == file.frames:  # where the guess ends, and perhaps not the file
            return _by_ffmpeg(clip)
        return samples, rate


def _announced(file: soundfile.SoundFile) -> int:
    """Samples of a channel that the header announces, of which libsndfile counts only those that are there."""
    size = SIZE.search(file.extra_info)
    streamed = size is None or int(size[1]) >= STREAMED
    return file.frames if streamed else file.frames * int(size[1]) // max(1, int(size[2]))


def _estimated(file: soundfile.SoundFile) -> bool:
    """Whether an MP3 has no header (Xing, Info or VBRI), so that its length is a guess from its rate of bits."""
    if file.format != "MP3":
        return False
    with open(file.name, "rb") as raw:
        return not re.search(b"Xing|Info|VBRI", raw.read(1 << 20))


def _check_size(values: int) -> None:
    if values > VALUES:
        raise MediaError(f"{values} values of audio; an utterance has {VALUES} at most, all its channels together")


def _by_ffmpeg(clip: Clip) -> tuple[np.ndarray, int]:
    _span(clip, "audio")  # raises where it is too long, and where the whole file is cut off
    begin = clip.start or 0.0
    end = begin + LONGEST if clip.end is None else clip.end
    with ffmpeg.opened(clip.file, "audio") as (recording, stream, origin):
        rate, blocks = stream.rate, ffmpeg.decoded(recording, stream, origin, begin, before=WARM_UP)
        first, parts = _blocks(blocks, rate, origin, end)
    samples = np.concatenate(parts, axis=1).T if parts else np.zeros((0, 1), np.float32)
    if clip.end is not None and first + len(samples) / rate < end - ffmpeg.SLACK:
        ffmpeg.span(clip.file, "audio")  # raises where the file is cut off
    late = round((first - begin) * rate) if parts else 0
    samples = np.pad(samples, ((late, 0), (0, 0))) if late > 0 else samples[-late:]
    return samples[: round((end - begin) * rate)], rate


def _blocks(blocks: Iterable[av.AudioFrame], rate: int, origin: float, end: float) -> tuple[float, list[np.ndarray]]:
    """The second at which decoded audio begins, and its samples until `end`, c s each, with silence for lost ones."""
    resampler = av.AudioResampler(format="fltp", rate=rate)  # the stream's own rate and channels, as floats
    first, parts, count = None, [], 0
    for block in blocks:
        now = None if block.time is None else block.time - origin
        if now is not None and now >= end:
            break
        first = now if first is None else first
        made = [part.to_ndarray() for part in resampler.resample(block)]
        lost = 0 if now is None else round((now - first) * rate) - count
        if made and lost > GAP * rate:
            made.insert(0, np.zeros((len(made[0]), lost), np.float32))
        parts += made
        count += sum(part.shape[1] for part in made)
        _check_size(count * max((len(part) for part in made), default=1))
    return first or 0.0, parts


def frames(clip: Clip, *, count: int | None = None) -> Iterator[np.ndarray]:
    """The clip's frames in order, h w 3 RGB bytes: all, or those nearest to the middle of `count` equal parts of it.

    In a short video, or one that stores a frame only when something changes, the same frame may come several times.
    Raises MediaError, possibly after some frames.
    """
    whole = _span(clip, "video")
    times = None if count is None else (whole.start + whole.length * (i + 0.5) / count for i in range(count))
    for pixels in ffmpeg.shown(clip.file, begin=clip.start or 0.0, end=clip.end, times=times):
        middle = pixels.shape[1] // 2
        yield {"": pixels, "left": pixels[:, :middle], "right": pixels[:, middle:]}[clip.side]


def duration(clip: Clip) -> float:
    """Seconds of the clip, from its table or else those of its file's video, or audio where it has no video."""
    return _span(clip, "video", "audio").length


def _span(clip: Clip, *kinds: str) -> Span:
    """When the clip begins and how long it is: by its table, or else by the file's first stream of these kinds."""
    begin = clip.start or 0.0
    if clip.end is None:
        found = ffmpeg.span(clip.file, *kinds)
        start = max(begin, found.start)
        clip_span = Span(start, found.start + found.length - start)
    else:
        clip_span = Span(begin, clip.end - begin)
    if not 0 < clip_span.length <= LONGEST:
        raise MediaError(f"lasts {clip_span.length:.1f} s; an utterance has more than 0 and at most {LONGEST:.0f}")
    return clip_span
