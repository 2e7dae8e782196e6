"""Time in recordings: whatever the clock, frames and audio are those of the second asked for; cut files fail."""

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from merlib.data import recordings
from merlib.features import decoding, ffmpeg, limits
from merlib.features.decoding import Clip, MediaError

RATE, FPS = 16000, 25


def steps(count: int = RATE * 2, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def write(
    path: Path, *, times: list[float] | None = None, start: float = 0.0, sound: np.ndarray | None = None,
    audio_at: float = 0.0, codecs: tuple[str, str] = ("mpeg4", "pcm_s16le"), size: tuple[int, int] = (32, 32),
    noise: int = 0, **options,
) -> Path:  # fmt: skip
    """Frame k is grey of 20 + 4 k, at times[k] or `start` + k / 25 (s); the audio begins at `audio_at`."""
    base, draw = Fraction(1, 1000 if times else FPS), np.random.default_rng(0)
    with av.open(str(path), "w", **options) as out:
        frames = out.add_stream(codecs[0], rate=FPS)
        frames.width, frames.height, frames.pix_fmt, frames.bit_rate = *size, "yuv420p", 8_000_000
        if times:
            frames.codec_context.time_base = frames.time_base = base
        packets = []
        for k, at in enumerate(times or [start + k / FPS for k in range(50)]):
            pixels = np.full((*size[::-1], 3), 20 + 4 * k) + draw.integers(-noise, noise + 1, (*size[::-1], 3))
            pixels[:4, :4] = 0  # the upper left corner
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(at / base), base
            packets += frames.encode(frame)
        packets += frames.encode()
        if sound is not None:
            track = out.add_stream(codecs[1], rate=RATE, layout="mono")
            for i in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, i : i + 1024].copy(), format="fltp", layout="mono")
                block.rate, block.pts, block.time_base = RATE, i + round(audio_at * RATE), Fraction(1, RATE)
                packets += track.encode(block)
            packets += track.encode()
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


def shades(clip: Clip, count: int | None = None) -> list[int]:
    """The numbers of the frames, by their grey."""
    return [round((float(np.median(pixels)) - 20) / 4) for pixels in decoding.frames(clip, count=count)]


@pytest.mark.parametrize("count", [1, 7, 8, 25, 80])
def test_at_a_constant_rate_each_time_has_its_frame(tmp_path, count):
    clip = Clip("u", write(tmp_path / "ffmpeg.mp4"))
    assert decoding.duration(clip) == 2.0
    half = [round(2.0 * (i + 0.5) / count * FPS, 6) for i in range(count)]  # in frames; a tie is the later frame's
    assert shades(clip, count) == [min(49, int(at + 0.5)) for at in half]
    assert shades(clip) == list(range(50))


def test_where_a_frame_is_stored_only_when_something_changes_the_nearest_one_stands(tmp_path):
    times = [0, 0.04, 0.08, 2.0, 2.04]
    clip = Clip("u", write(tmp_path / "ffmpeg.mp4", times=times))
    asked = [decoding.duration(clip) * (i + 0.5) / 8 for i in range(8)]
    assert shades(clip, 8) == [int(np.abs(np.array(times) - at).argmin()) for at in asked]
    assert shades(Clip("u", clip.file, 0.5, 1.9), 3) == [2, 2, 2], "none is stored within: the one on the screen"
    assert shades(Clip("u", clip.file, 0.5, 1.9)) == [2]
    with pytest.raises(MediaError, match=r"ends at 2\.08 s, before the utterance begins"):
        shades(Clip("u", clip.file, 2.5, 2.9), 3)


@pytest.mark.parametrize("name", ["ffmpeg.mkv", "ffmpeg.ts", "ffmpeg.mpg"])
def test_time_stamps_may_begin_anywhere(tmp_path, name):
    codecs = ("mpeg4", "pcm_s16le") if name.endswith("mkv") else ("mpeg2video", "mp2")
    films = []
    for start in (0.0, 10.0):
        films.append(write(tmp_path / f"{start}{name}", start=start, sound=steps(), audio_at=start, codecs=codecs))
    for part in ((None, None), (0.1, 0.9), (1.0, 2.0)):
        (one, other) = (Clip("u", file, *part) for file in films)
        assert shades(one, 8) == shades(other, 8) and len(set(shades(one, 8))) == 8
        assert decoding.duration(one) == pytest.approx(decoding.duration(other))
        heard = [decoding.audio(clip, rate=RATE) for clip in (one, other)]
        np.testing.assert_allclose(*heard, atol=2e-3)
        assert len(heard[0]) >= 0.8 * RATE - 1


def test_sound_that_begins_later_keeps_its_distance(tmp_path):
    clip = Clip("u", write(tmp_path / "late.mkv", sound=steps(), audio_at=0.5))
    heard = decoding.audio(clip, rate=RATE)
    assert len(heard) == 2.5 * RATE and not heard[: RATE // 2].any()
    np.testing.assert_allclose(heard[RATE // 2 :], steps(), atol=1e-4)
    np.testing.assert_array_equal(decoding.audio(Clip("u", clip.file, 0.25, 1.25), rate=RATE), heard[4000:20000])
    assert shades(clip, 8) == [3, 9, 16, 22, 28, 34, 41, 47], "the length of the frames is their own"


def test_sound_that_was_lost_within_is_silence(tmp_path):
    early, late = (write(tmp_path / f"{at}.mkv", sound=steps(), audio_at=at) for at in (0.0, 3.0))
    file = tmp_path / "gap.mkv"
    with av.open(str(early)) as one, av.open(str(late)) as two, av.open(str(file), "w") as out:
        track = out.add_stream_from_template(one.streams.audio[0])
        for source in (one, two):
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = track
                    out.mux(packet)
    heard = decoding.audio(Clip("u", file), rate=RATE)
    assert len(heard) == 5 * RATE and not heard[2 * RATE : 3 * RATE].any()
    np.testing.assert_allclose(heard[3 * RATE :], steps(), atol=1e-4)


@pytest.mark.parametrize(("turns", "corner"), [(1, (0, -1)), (2, (-1, -1)), (3, (-1, 0))])
def test_frames_are_turned_as_the_recording_asks_for(tmp_path, turns, corner):
    """A telephone that is held upright writes how its frames are to be turned, clockwise, into the header."""
    file = write(tmp_path / "ffmpeg.mp4", size=(48, 32))
    raw, one = bytearray(file.read_bytes()), 1 << 16
    cosine, sine = ((0, one), (-one, 0), (0, -one))[turns - 1]
    at = raw.index(b"tkhd") + 44
    matrix = (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    raw[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    file.write_bytes(raw)
    pixels = next(decoding.frames(Clip("u", file), count=1))
    assert pixels.shape == ((48, 32, 3) if turns % 2 else (32, 48, 3))
    assert pixels[corner].max() < 12 < pixels[tuple(-1 - c for c in corner)].min()


CUT = [(f"r.{kind}", share) for kind in ("wav", "aiff", "mp3", "mp4", "mkv", "avi") for share in (0.4, 0.8)]
CUT += [("r.wav", 0.97), ("r.mp3", 0.97), ("r.mp4", 0.97)]  # of the others, that cuts off their index alone


@pytest.mark.parametrize(("name", "share"), CUT)
def test_a_recording_that_ends_before_its_header_says_is_a_failure(tmp_path, name, share):
    file = tmp_path / name
    if file.suffix in (".wav", ".aiff", ".mp3"):
        soundfile.write(file, steps(), RATE)
    else:
        codec = "mp3" if name.endswith("avi") else "aac"
        options = {"options": {"movflags": "faststart"}} if name.endswith("mp4") else {}
        write(file, sound=steps(), codecs=("mpeg4", codec), noise=8, **options)
    clip = Clip("u", file)
    whole, seen = decoding.audio(clip, rate=RATE), file.suffix in (".mp4", ".mkv", ".avi")
    assert abs(len(whole) - 2 * RATE) <= 2048
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(MediaError, match=r"[\d.]+ of 2\.\d+ s readable"):
        decoding.audio(clip, rate=RATE)
    for count in (5, None) if seen else ():
        with pytest.raises(MediaError, match=r"[\d.]+ of 2\.\d+ s readable"):
            list(decoding.frames(clip, count=count))
    if share > 0.5:  # what is there is the same as before
        part = Clip("u", file, 0.2, 0.7)
        np.testing.assert_allclose(decoding.audio(part, rate=RATE), whole[3200:11200], atol=1e-3)
        assert not seen or shades(part, 3) == [7, 11, 15] or name.endswith("avi")
    with pytest.raises(MediaError, match="readable|before the utterance begins|cannot be decoded"):
        decoding.audio(Clip("u", file, 1.0, 2.0), rate=RATE)


def test_an_mp3_without_a_header_is_read_to_its_end(tmp_path):
    """Its length is a guess from its first frames: after loud ones, much is missing from it."""
    sound = np.concatenate([3 * steps(3 * RATE), np.zeros(3 * RATE, np.float32)])
    with av.open(str(tmp_path / "r.mp3"), "w", options={"write_xing": "0"}) as out:
        track = out.add_stream("libmp3lame", rate=RATE, layout="mono")
        track.codec_context.qscale, track.codec_context.global_quality = True, 472
        for i in range(0, len(sound), 1152):
            block = av.AudioFrame.from_ndarray(sound[None, i : i + 1152].copy(), format="fltp", layout="mono")
            block.rate, block.pts, block.time_base = RATE, i, Fraction(1, RATE)
            out.mux(track.encode(block))
        out.mux(track.encode())
    with soundfile.SoundFile(tmp_path / "r.mp3") as file:
        assert file.frames < 5 * RATE, "the guess"
    assert abs(len(decoding.audio(Clip("u", tmp_path / "r.mp3"), rate=RATE)) - 6 * RATE) < 3000


def test_channels_that_cancel_out_are_no_silence_and_silence_is_told(tmp_path):
    sound = steps()
    for name, other in (("opposite", -sound), ("nearly", -0.95 * sound), ("alike", 0.5 * sound)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([sound, other], 1), RATE, subtype="FLOAT")
    heard = {name: decoding.audio(Clip("u", tmp_path / f"{name}.wav"), rate=RATE) for name in ("opposite", "nearly")}
    np.testing.assert_array_equal(heard["opposite"], sound)
    np.testing.assert_array_equal(heard["nearly"], sound)
    np.testing.assert_allclose(decoding.audio(Clip("u", tmp_path / "alike.wav"), rate=RATE), 0.75 * sound, rtol=1e-5)
    soundfile.write(tmp_path / "zeros.wav", 0 * sound, RATE)
    with pytest.raises(MediaError, match="digital silence"):
        decoding.audio(Clip("u", tmp_path / "zeros.wav"), rate=RATE)


def test_what_libsndfile_does_not_know_is_read_by_ffmpeg_and_else_the_reason_survives(tmp_path):
    for form in ("mp4", "adts"):
        write_aac(tmp_path / "r.wav", form)
        heard = decoding.audio(Clip("u", tmp_path / "r.wav"), rate=RATE)
        assert abs(len(heard) - 2 * RATE) <= 2048 and heard.std() == pytest.approx(steps().std(), rel=0.2)
    page, words = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>", b"no recording at all, but words"
    for content, says in ((page, "a web page"), (words, "Format not recognised.*Invalid data")):
        (tmp_path / "r.wav").write_bytes(content)
        with pytest.raises(MediaError, match=says):
            decoding.audio(Clip("u", tmp_path / "r.wav"), rate=RATE)


def write_aac(path: Path, form: str) -> None:
    with av.open(str(path), "w", format=form) as out:
        track = out.add_stream("aac", rate=RATE, layout="mono")
        for i in range(0, 2 * RATE, 1024):
            block = av.AudioFrame.from_ndarray(steps()[None, i : i + 1024].copy(), format="fltp", layout="mono")
            block.rate, block.pts, block.time_base = RATE, i, Fraction(1, RATE)
            out.mux(track.encode(block))
        out.mux(track.encode())


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "folder.wav").mkdir()
    expected = {
        "pipe.wav": "a pipe",
        "zero.wav": "leads out",
        "loop.wav": "leads to itself|no such",
        "folder.wav": "a folder",
    }
    expected |= {"x" * 300 + ".wav": "name too long", "a\0.wav": "null", "": "names no file"}
    for name, reason in expected.items():
        with pytest.raises(MediaError, match=reason):
            decoding.located("u", name, tmp_path)
    with pytest.raises(MediaError, match="is no path"):
        decoding.located("u", recordings.part("a.wav", 0, 1) + "x", tmp_path)


def test_hostile_recordings_end_within_limits(tmp_path, monkeypatch):
    good = write(tmp_path / "good.mp4", sound=steps(), codecs=("mpeg4", "aac"))
    for name, script in (
        ("list.mp4", f"ffconcat version 1.0\nfile {good}\n"),
        ("play.mp4", f"#EXTM3U\n#EXTINF:9,\n{good}"),
    ):
        (tmp_path / name).write_text(script)
        with pytest.raises(MediaError, match="cannot be decoded"):
            list(decoding.frames(Clip("u", tmp_path / name), count=2))
    clip = Clip("u", good)
    for module, limit, value in ((ffmpeg, "PIXELS", 100), (limits, "PATIENCE", 1e-9), (decoding, "VALUES", 100)):
        with monkeypatch.context() as patch, pytest.raises(MediaError):
            patch.setattr(module, limit, value)
            decoding.audio(clip, rate=RATE) if limit == "VALUES" else list(decoding.frames(clip, count=2))
    with pytest.raises(MediaError, match="at most 600"):
        decoding.audio(Clip("u", good, 0.0, 1e9), rate=RATE)


BOMB = """
import re, sys; from pathlib import Path; from merlib.features import decoding
try: print(len(list(decoding.frames(decoding.Clip("u", Path(sys.argv[1])), count=2))))
except decoding.MediaError as error: print(error)
print(*re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()), file=sys.stderr)
"""


def test_a_header_of_a_kilobyte_that_announces_gigabytes_of_index_takes_little_memory(tmp_path):
    raw, count = bytearray(write(tmp_path / "bomb.mp4").read_bytes()), 60_000_000
    for mark, offset, values in ((b"stsz", 8, (1, count)), (b"stsc", 16, (count,)), (b"stts", 12, (count,))):
        struct.pack_into(f">{len(values)}I", raw, raw.index(mark) + offset, *values)
    (tmp_path / "bomb.mp4").write_bytes(raw)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", BOMB, str(tmp_path / "bomb.mp4")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stdout.strip().isdigit() and int(done.stderr.split()[-1]) < 700_000, "KiB"
