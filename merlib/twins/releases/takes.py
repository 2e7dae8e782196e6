"""Actors before the camera: the audio of their utterances, the frames of a face over time, and files of both.

Files have the same bits every time: one thread encodes them, and no time of writing is in them.

Shapes: s samples, p frames, 5 the values of an `Expression`.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

from merlib.twins.releases import face, voice
from merlib.twins.releases.voice import LEVEL, RATE, STEP, Expression

SIZE, FPS = (160, 120), 12  # w h of the frame of one face; frames a second of a clip with one actor
LISTENING = 0.4  # share of an expression that stays when its speaker is silent
CODECS = {  # of video and audio, by suffix
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "24", "threads": "1"}, "aac", 64_000),
    ".avi": ("mpeg4", {"qscale": "4", "flags": "+qscale+bitexact", "threads": "1"}, "pcm_s16le", None),
}


@dataclass(frozen=True, kw_only=True)
class Actor:
    voice: voice.Voice
    look: face.Look


class Take(NamedTuple):
    """One utterance: its audio, how far the mouth is open at each time, and the expression of the face."""

    audio: np.ndarray  # s
    mouth: np.ndarray  # control frames of `voice`
    face: Expression


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of the recording `name`, which do not depend on other recordings."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def actor(name: str, *, female: bool) -> Actor:
    """The actor of that name, always the same."""
    rng = generator(0, name)
    return Actor(voice=voice.voice(rng, female=female), look=face.look(rng, female=female))


def take(who: Actor, emotion: str, *, seconds: float, rng: np.random.Generator, strength: float = 1.0) -> Take:
    """`who` says something for `seconds`, with an emotion of `voice.MANNERS`."""
    tone, shown = voice.acted(emotion, strength, rng)
    return Take(*voice.speak(who.voice, tone, seconds=seconds, rng=rng), shown)


def room(samples: int, rng: np.random.Generator) -> np.ndarray:
    """The noise of one recording: hiss and hum, 12 to 30 dB below a neutral voice, s."""
    noise = rng.normal(size=samples)
    noise[1:] += 0.7 * noise[:-1]
    hum = np.sin(2 * np.pi * (rng.choice((50, 60)) * np.arange(samples) / RATE + rng.random()))
    return LEVEL * 10 ** (-rng.uniform(12, 30) / 20) * (0.8 * noise + 0.3 * hum)


def acting(takes: list[tuple[float, Take]], count: int, fps: int) -> tuple[np.ndarray, np.ndarray]:
    """An actor's expression (p 5) and mouth opening (p) in `count` frames, with takes at given seconds.

    An expression grows to the middle of its utterance, and a part of it stays until the next.
    """
    time = (np.arange(count) + 0.5) / fps
    shown, mouth = np.zeros((count, len(Expression._fields))), np.zeros(count)
    for start, one in takes:
        end = start + len(one.mouth) / STEP
        now = (time >= start) & (time < end)
        swell = 0.7 + 0.3 * np.sin(np.pi * (time[now] - start) / (end - start))
        shown[now] = swell[:, None] * one.face
        mouth[now] = one.mouth[((time[now] - start) * STEP).astype(int)]
        shown[time >= end] = LISTENING * np.array(one.face)
    return shown, mouth


def faces(who: face.Sketch, shown: np.ndarray, mouth: np.ndarray, fps: int, rng: np.random.Generator) -> Iterator:
    """The p frames of a face, h w 3 RGB bytes; it sways, nods while it speaks, and blinks now and then."""
    time = np.arange(len(mouth)) / fps
    pace, phase, wide = rng.uniform(0.1, 0.5, (3, 1)), rng.random((3, 1)), np.array([[4.0], [1.5], [2.5]])
    x, y, turn = rng.normal(scale=wide / 2) + wide * np.sin(2 * np.pi * (pace * time + phase))
    blink, size = rng.random(len(mouth)) < 0.25 / fps, rng.uniform(0.8, 0.9)
    for i in range(len(mouth)):
        pose = face.Pose(x[i], 4 + y[i] + 1.5 * mouth[i], turn[i], size)
        yield face.show(who, Expression(*shown[i]), mouth=mouth[i], blink=bool(blink[i]), pose=pose)


def clip(one: Take, who: Actor, fps: int, rng: np.random.Generator) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """A recording of one take alone: its audio with the noise of the room (s), and its frames."""
    shown, mouth = acting([(0.0, one)], max(2, round(len(one.audio) / RATE * fps)), fps)
    audio = np.clip(one.audio + room(len(one.audio), rng), -1, 1).astype(np.float32)
    return audio, faces(face.sketch(who.look, SIZE), shown, mouth, fps, rng)


def record(
    file: Path, who: Actor, emotion: str, *, seconds: float, rng: np.random.Generator, strength: float = 1.0
) -> np.ndarray:
    """Write the video of one take alone into `file`, and return its audio (s)."""
    audio, frames = clip(take(who, emotion, seconds=seconds, rng=rng, strength=strength), who, FPS, rng)
    write_video(file, frames, fps=FPS, audio=audio[:, None])
    return audio


def write_audio(file: Path, audio: np.ndarray) -> None:
    """A mono wav of 16 bits at `RATE` from samples in [-1, 1] (s)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, audio, RATE, subtype="PCM_16")


def write_video(file: Path, frames: Iterable[np.ndarray], *, fps: int, audio: np.ndarray) -> None:
    """An mp4 (H.264 and AAC) or avi (MPEG-4 and PCM) of frames (h w 3 RGB bytes) and audio (s channels)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    codec, options, audio_codec, bits = CODECS[file.suffix]
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(codec, rate=fps, options=options, pix_fmt="yuv420p")
        track = container.add_stream(audio_codec, rate=RATE, layout="mono" if audio.shape[1] == 1 else "stereo")
        if bits:
            track.bit_rate = bits
        for i, pixels in enumerate(frames):
            if not i:
                video.height, video.width = pixels.shape[:2]
                for block in _blocks(track, audio):
                    container.mux(track.encode(block))
                container.mux(track.encode())
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode())


def _blocks(track: av.AudioStream, audio: np.ndarray) -> Iterator[av.AudioFrame]:
    """All samples (s channels), in the pieces that the codec takes."""
    track.codec_context.open()
    size = track.codec_context.frame_size or RATE
    for start in range(0, len(audio), size):
        planes = np.ascontiguousarray(audio[start : start + size].T, dtype=np.float32)
        block = av.AudioFrame.from_ndarray(planes, format="fltp", layout=track.layout.name)
        block.sample_rate, block.pts = RATE, start
        yield block
