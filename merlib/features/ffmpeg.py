"""A recording as FFmpeg (PyAV) opens it: under limits, on a clock that starts at 0, and whole or refused.

The time stamps of a recording may begin anywhere (broadcasts, cuts without encoding again). Here the first of its
streams begins at second 0, and the others keep their distance to it.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from merlib.features import limits
from merlib.features.limits import MediaError, little_memory, paced, reason
from merlib.foreign import content

PIXELS = 1 << 26  # of the largest frame
PRIMING = 0.1  # encoders of audio begin up to so many seconds before 0, and decoders leave that out again
ROUNDING = 1.001e-3  # seconds; Matroska's time stamps are whole milliseconds
SLACK = 0.1  # seconds that a stream may end before its header says: encoders pad and round
# Containers of media. Playlists and scripts, which FFmpeg reads too, lead to other files or never end.
FORMATS = (
    "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mp3,mpeg,mpegts,mpegvideo,mxf,nut,"
    "ogg,rm,w64,wav,wv"
)
TIMED = set("aiff au caf flac mov w64 wav".split())  # those whose headers say how long their streams are
SIZED = {"avi", "matroska"}  # those whose first bytes say how long the file is


@dataclass(frozen=True)
class Span:
    """When a stream begins and how long it is, in seconds."""

    start: float
    length: float


@contextmanager
def opened(file: Path, *kinds: str) -> Iterator[tuple[av.container.InputContainer, av.stream.Stream, float]]:
    """A recording, its first stream of these kinds (audio, video), and the time stamp at which its clock starts."""
    formats = {"format_whitelist": FORMATS}
    try:
        with little_memory():
            recording = av.open(str(file), options=formats, timeout=limits.PATIENCE, metadata_errors="replace")
        with recording:
            streams = [stream for kind in kinds for stream in getattr(recording.streams, kind)]
            if not streams:
                raise MediaError(f"has no {' or '.join(kinds)} stream")
            start = (recording.start_time or 0) / av.time_base
            yield recording, streams[0], 0.0 if -PRIMING < start < 0 else start
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot be decoded ({content(file) or reason(error)})") from None


def span(file: Path, *kinds: str) -> Span:
    """The span of a recording's stream: as its header says, or else by its packets, all of which are read.

    Raises MediaError where the file ends before its header says, as after an interrupted copy.
    """
    with opened(file, *kinds) as (recording, stream, origin):
        firsts, ends, broken = _packets(recording)
        if stream.index not in ends:
            raise MediaError(f"no {stream.type} in it{broken}")
        first = firsts[stream.index] if stream.start_time is None else float(stream.start_time * stream.time_base)
        readable, length = ends[stream.index] - first, _announced(recording, stream, first)
        whole, formats = readable if length is None else length, set(recording.format.name.split(","))
        if formats & SIZED and (broken or _bytes(file) > file.stat().st_size):
            raise cut_off(readable, max(readable, _end(recording, file) - first), broken)
        if formats & TIMED and (broken or whole - readable > SLACK):
            raise cut_off(readable, max(readable, whole), broken)
        return Span(first - origin, whole)


def cut_off(readable: float, announced: float, broken: str = "") -> MediaError:
    """The error for a recording that is shorter than its header says."""
    return MediaError(f"{readable:.2f} of {announced:.2f} s readable{broken}: cut off or damaged; get the file again")


def _packets(recording: av.container.InputContainer) -> tuple[dict[int, float], dict[int, float], str]:
    """By stream, the time stamps at which its packets begin and end; and why no more can be read, if that is so."""
    firsts, ends, broken = {}, {}, ""
    try:
        for packet in paced(recording.demux([*recording.streams.video, *recording.streams.audio])):
            at = packet.dts if packet.pts is None else packet.pts
            if at is None:
                continue  # the empty packet at the end of a stream
            broken = " (a packet is not complete)" if packet.is_corrupt else broken
            index, base = packet.stream.index, packet.time_base
            firsts[index] = min(firsts.get(index, float("inf")), float(at * base))
            ends[index] = max(ends.get(index, float("-inf")), float((at + (packet.duration or 0)) * base))
    except av.error.FFmpegError as error:
        broken = f" ({reason(error)})"
    return firsts, ends, broken


def _announced(recording: av.container.InputContainer, stream: av.stream.Stream, first: float) -> float | None:
    """Seconds of a stream by its header: in Matroska, a tag says when it ends. None where nothing is said."""
    if "matroska" not in recording.format.name:
        return None if stream.duration is None else float(stream.duration * stream.time_base)
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    if not (match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", tag)):
        return None
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) - first


def _bytes(file: Path) -> int:
    """How long a file is by its first bytes: RIFF's size, or that of Matroska's segment; 0 where they do not say."""
    with file.open("rb") as raw:
        head = raw.read(1 << 10)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    at, size = 0, 0
    for _ in range(2):  # the header, and the segment: each has a name of four bytes and a size of one to eight
        at += size + 4
        width = 9 - head[at].bit_length() if at < len(head) else 9
        size = int.from_bytes(head[at : at + width], "big") & (most := (1 << 7 * width) - 1)
        if width > 8 or size == most:  # all bits: a stream that was written before its size was known
            return 0
        at += width
    return at + size


def _end(recording: av.container.InputContainer, file: Path) -> float:
    """The time stamp at which a recording ends by its header, or 0: of an AVI that is cut off, FFmpeg does not say it.

    There, scale, rate, start and length stand 20 bytes after the mark of the first video stream.
    """
    if recording.format.name != "avi":
        return (recording.duration or 0) / av.time_base
    with file.open("rb") as raw:
        head = raw.read(1 << 12)
    if (at := head.find(b"vids")) < 0 or len(head) < at + 36:
        return 0.0
    scale, rate, _, length = struct.unpack_from("<4I", head, at + 20)
    return length * scale / max(1, rate)


def decoded(recording, stream, origin: float, begin: float, *, before: float = 0.0) -> Iterator[av.frame.Frame]:
    """The frames, or blocks of audio, of a stream from second `begin` or earlier; looked for `before` seconds earlier.

    Where that leads too far (MPEG-TS has no index) or into the middle of something, all are decoded from the start.
    """
    if begin:
        recording.seek(int((origin + max(0.0, begin - before)) / stream.time_base), stream=stream)
        items = paced(recording.decode(stream))
        try:
            first = next(items, None)
        except av.error.FFmpegError:
            first = None
        if first is not None and (first.time or 0.0) - origin <= begin:
            return chain([first], items)
        recording.seek(0)
    return paced(recording.decode(stream))


def shown(file: Path, *, begin: float, end: float | None, times: Iterator[float] | None) -> Iterator[np.ndarray]:
    """The frames of a part of a recording that are nearest to the given `times`, or all of them: h w 3 RGB bytes.

    A frame before the part stands where none is stored in it by then, and the last one for every time after it.
    """
    due, latest, inside, latest_end = next(times) if times else None, None, False, 0.0
    with opened(file, "video") as (recording, stream, origin):
        if stream.width * stream.height > PIXELS:
            raise MediaError(f"frames of {stream.width} x {stream.height} pixels; at most {PIXELS} can be read")
        stream.codec_context.options = {"max_pixels": str(PIXELS)}  # where the size changes within the stream
        stream.thread_type = "AUTO" if times is None else "SLICE"
        half, converter = 0.5 / float(stream.average_rate or 25), VideoReformatter()  # one for all: it is slow to make
        for frame, now, reach in _timed(decoded(recording, stream, origin, begin), origin, half):
            if end is not None and now >= end - 1e-6:
                break
            latest, latest_end = frame, now + (float((frame.duration or 0) * frame.time_base) or 2 * half)
            if now < begin - reach:
                continue
            inside = True
            if due is None:
                yield _rgb(frame, converter)
                continue
            while due < now + reach:
                yield _rgb(frame, converter)
                due = next(times, float("inf"))
        else:  # the recording ends
            if latest is not None and not inside and latest_end <= begin:
                raise MediaError(f"ends at {latest_end:.2f} s, before the utterance begins")
            if end is not None and latest_end < end:
                span(file, "video")  # raises where the file is cut off
        if latest is None:
            raise MediaError("no frame in it")
        if due is None and not inside:
            yield _rgb(latest, converter)
        while due is not None and due != float("inf"):
            yield _rgb(latest, converter)
            due = next(times, float("inf"))


def _timed(frames: Iterable[av.VideoFrame], origin: float, half: float) -> Iterator[tuple[av.VideoFrame, float, float]]:
    """Each frame, its second, and for how many seconds around that it is the nearest: `half` at the regular rate."""
    for frame, following in pairwise(chain(frames, [None])):
        now, reach = (frame.time or 0.0) - origin, half
        if following is not None:
            gap = (following.time or 0.0) - origin - now
            reach = half if abs(gap - 2 * half) <= ROUNDING else max(0.0, gap / 2)
        yield frame, now, reach


def _rgb(frame: av.VideoFrame, converter: VideoReformatter) -> np.ndarray:
    """The pixels, turned as the recording asks for (a telephone that was held upright)."""
    pixels = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
