"""More samples of rare classes, as in MPAF-Net (Sec. 3.2): noise and pitch shift; rotated and cropped frames.

The paper names these operations and no amounts, so amounts are fields. One draw holds for a whole clip and depends on
seed, utterance and copy alone. Only training utterances may have copies. ATTSF-Net draws its flips, rotation and centre
crop anew in every epoch instead: `merlib.papers.attsf_net.video.Augment`.

Shapes: s samples, t frames of h x w pixels.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import librosa
import numpy as np

from merlib.errors import FeatureError
from merlib.features import decoding
from merlib.features.audio import AudioExtractor
from merlib.features.decoding import Clip
from merlib.features.extractors import Extractor


def draws(utterance: str, *, seed: int, copy: int) -> np.random.Generator:
    """The random numbers of one copy of one utterance."""
    digest = hashlib.sha256(f"{seed} {copy} {utterance}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))


def noisy(samples: np.ndarray, *, decibels: float, draw: np.random.Generator) -> np.ndarray:
    """Audio with white noise that is `decibels` weaker than the audio: s -> s."""
    power = np.mean(np.square(samples, dtype=np.float64))
    noise = draw.standard_normal(len(samples)) * math.sqrt(power * 10 ** (-decibels / 10))
    return (samples + noise).astype(samples.dtype)


def shifted(samples: np.ndarray, *, semitones: float, rate: int) -> np.ndarray:
    """Audio with its pitch shifted up by `semitones`, as long as before: s -> s."""
    fft = min(2048, 1 << max(4, len(samples).bit_length() - 1))  # very short audio gets shorter windows
    return librosa.effects.pitch_shift(samples, sr=rate, n_steps=semitones, n_fft=fft)


def rotated(frames: np.ndarray, *, degrees: float) -> np.ndarray:
    """Frames rotated counter-clockwise about their centre, edges replicated: t h w or t h w 3, of any dtype."""
    height, width = frames.shape[1:3]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return _each(frames, lambda one: cv2.warpAffine(one, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))


def cropped(frames: np.ndarray, *, share: float, top: float, left: float) -> np.ndarray:
    """The part with `share` of height and width, resized to the old size: t h w or t h w 3, of any dtype.

    share in (0, 1]. top and left in [0, 1]: which share of what is cut off lies above the part, and to its left.
    """
    if not (0 < share <= 1 and 0 <= top <= 1 and 0 <= left <= 1):
        raise FeatureError(f"a crop of share {share} at {top}, {left}; expected a share in (0, 1], places in [0, 1]")
    height, width = frames.shape[1:3]
    inside = [max(1, round(share * side)) for side in (height, width)]
    y, x = (round(at * (side - part)) for at, side, part in zip((top, left), (height, width), inside, strict=True))
    part = frames[:, y : y + inside[0], x : x + inside[1]]
    return _each(part, lambda one: cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True, kw_only=True)
class AugmentedAudio:
    """What `extractor` gives for a noisier clip of another pitch; all amounts are unstated in the paper."""

    extractor: AudioExtractor
    decibels: tuple[float, float] = (15.0, 30.0)  # of audio over noise: least and most
    semitones: float = 2.0  # most, up or down
    seed: int = 0
    copy: int = 1  # further copies of an utterance differ by this
    modality: ClassVar[str] = "audio"

    def changed(self, samples: np.ndarray, utterance: str) -> np.ndarray:  # s -> s
        draw = draws(utterance, seed=self.seed, copy=self.copy)
        semitones = draw.uniform(-self.semitones, self.semitones)
        samples = shifted(samples, semitones=semitones, rate=self.extractor.rate)
        return noisy(samples, decibels=draw.uniform(*self.decibels), draw=draw)

    def __call__(self, clip: Clip) -> np.ndarray:
        samples = decoding.audio(clip, rate=self.extractor.rate)
        return self.extractor.of(self.changed(samples, clip.utterance))

    def about(self) -> dict[str, str]:
        low, high = self.decibels
        how = f"noise {low:g} to {high:g} dB below, pitch +-{self.semitones:g} semitones"
        return _named(self.extractor.about(), f"{how}, seed {self.seed}, copy {self.copy}")


@dataclass(frozen=True, kw_only=True)
class AugmentedFrames:
    """The flat, square frames of `extractor`, those of a clip rotated and cropped alike; all amounts are unstated."""

    extractor: Extractor
    colours: int = 1  # 1: grey; 3: RGB
    degrees: float = 10.0  # most, to either side
    share: float = 0.85  # least share of height and width that a crop keeps
    seed: int = 0
    copy: int = 1
    modality: ClassVar[str] = "visual"

    def changed(self, steps: np.ndarray, utterance: str) -> np.ndarray:  # t (h h colours) -> the same
        side = math.isqrt(steps.shape[1] // self.colours)
        if side * side * self.colours != steps.shape[1]:
            raise FeatureError(f"steps of {steps.shape[1]} values are no square frames of {self.colours} colours.")
        draw = draws(utterance, seed=self.seed, copy=self.copy)
        degrees, share = draw.uniform(-self.degrees, self.degrees), draw.uniform(self.share, 1)
        frames = rotated(steps.reshape(-1, side, side, self.colours), degrees=degrees)
        frames = cropped(frames, share=share, top=draw.uniform(), left=draw.uniform())
        return frames.reshape(steps.shape)

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.changed(self.extractor(clip), clip.utterance)

    def about(self) -> dict[str, str]:
        how = f"rotated +-{self.degrees:g} degrees, cropped to {self.share:g} or more"
        return _named(self.extractor.about(), f"{how}, seed {self.seed}, copy {self.copy}")


def augmented(extractors: Mapping[str, Any]) -> dict[str, Any]:
    """The extractors of audio and frames, by modality, of recordings that are changed first (MPAF-Net, Sec. 3.2)."""
    changed = {"audio": AugmentedAudio, "visual": AugmentedFrames}
    return {m: kind(extractor=extractors[m]) for m, kind in changed.items() if m in extractors}


def _each(frames: np.ndarray, change) -> np.ndarray:
    """`change` on every frame as float32; integers are rounded again."""
    result = np.stack([change(np.ascontiguousarray(one, dtype=np.float32)) for one in frames])
    result = result.reshape(len(frames), *result.shape[1:3], *frames.shape[3:])  # OpenCV drops an axis of one colour
    return (np.round(result) if frames.dtype.kind in "iu" else result).astype(frames.dtype)


def _named(about: dict[str, str], how: str) -> dict[str, str]:
    version = f"{about['version']}, librosa {librosa.__version__}, OpenCV {cv2.__version__}"
    return about | {"extractor": f"{about['extractor']}, augmented ({how})", "version": version}
