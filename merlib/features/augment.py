"""More samples of rare classes, as MPAF-Net makes them (Sec. 3.2): noise and pitch; rotated and cropped pictures.

The paper names the means and no amounts, so these are fields. One draw holds for a whole clip, and seed, utterance and
copy settle it: the same whatever was drawn before and whoever draws. Only training utterances may have copies.
ATTSF-Net's flips, rotation and centre crop are drawn anew every epoch instead: `papers.attsf_net.video.Augment`.

Shapes: s samples, t pictures of h x w pixels.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import cv2
import librosa
import numpy as np

from merlib.data.store import FeatureError
from merlib.features import media
from merlib.features.media import Clip


def draws(utterance: str, *, seed: int, copy: int) -> np.random.Generator:
    """The random numbers of one copy of one utterance."""
    digest = hashlib.sha256(f"{seed} {copy} {utterance}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))


def noisy(samples: np.ndarray, *, decibels: float, draw: np.random.Generator) -> np.ndarray:
    """Sound with white noise that is so many decibels weaker than it: s -> s."""
    power = np.mean(np.square(samples, dtype=np.float64))
    noise = draw.standard_normal(len(samples)) * math.sqrt(power * 10 ** (-decibels / 10))
    return (samples + noise).astype(samples.dtype)


def shifted(samples: np.ndarray, *, semitones: float, rate: int) -> np.ndarray:
    """Sound higher by so many semitones, as long as before: s -> s."""
    fft = min(2048, 1 << max(4, len(samples).bit_length() - 1))  # what is very short gets shorter windows
    return librosa.effects.pitch_shift(samples, sr=rate, n_steps=semitones, n_fft=fft)


def rotated(pictures: np.ndarray, *, degrees: float) -> np.ndarray:
    """Pictures turned counter-clockwise about their centre, edges drawn out: t h w or t h w 3, of any number type."""
    height, width = pictures.shape[1:3]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return _each(pictures, lambda one: cv2.warpAffine(one, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))


def cropped(pictures: np.ndarray, *, share: float, top: float, left: float) -> np.ndarray:
    """The part with `share` of height and width, at so much of the room above and beside it, in the old size.

    pictures: t h w or t h w 3, of any number type; share in (0, 1], top and left in [0, 1].
    """
    if not (0 < share <= 1 and 0 <= top <= 1 and 0 <= left <= 1):
        raise FeatureError(
            f"a crop of share {share} at {top}, {left}; expected a share in (0, 1] and places in [0, 1]."
        )
    height, width = pictures.shape[1:3]
    inside = [max(1, round(share * side)) for side in (height, width)]
    y, x = (round(at * (side - part)) for at, side, part in zip((top, left), (height, width), inside, strict=True))
    part = pictures[:, y : y + inside[0], x : x + inside[1]]
    return _each(part, lambda one: cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR))


class SoundExtractor(Protocol):
    """An extractor that also takes samples, at its own rate: those of `sound`, `spectra` and `speech`."""

    rate: int

    def of(self, samples: np.ndarray) -> np.ndarray: ...

    def about(self) -> dict[str, str]: ...


class PictureExtractor(Protocol):
    """An extractor whose steps are flat pictures."""

    def __call__(self, clip: Clip) -> np.ndarray: ...

    def about(self) -> dict[str, str]: ...


@dataclass(frozen=True, kw_only=True)
class AugmentedSound:
    """What `extractor` gives for a noisier clip of another pitch; all amounts are unstated in the paper."""

    extractor: SoundExtractor
    decibels: tuple[float, float] = (15.0, 30.0)  # of sound over noise: least and most
    semitones: float = 2.0  # most, up or down
    seed: int = 0
    copy: int = 1  # further copies of an utterance differ by this
    modality: ClassVar[str] = "audio"

    def changed(self, samples: np.ndarray, utterance: str) -> np.ndarray:
        """The augmented sound, s -> s."""
        draw = draws(utterance, seed=self.seed, copy=self.copy)
        semitones = draw.uniform(-self.semitones, self.semitones)
        higher = shifted(samples, semitones=semitones, rate=self.extractor.rate)
        return noisy(higher, decibels=draw.uniform(*self.decibels), draw=draw)

    def __call__(self, clip: Clip) -> np.ndarray:
        samples = media.sound(clip, rate=self.extractor.rate)
        return self.extractor.of(self.changed(samples, clip.utterance))

    def about(self) -> dict[str, str]:
        low, high = self.decibels
        how = f"noise {low:g} to {high:g} dB below, pitch +-{self.semitones:g} semitones"
        return _named(self.extractor.about(), f"{how}, seed {self.seed}, copy {self.copy}")


@dataclass(frozen=True, kw_only=True)
class AugmentedPictures:
    """What `extractor` gives, every picture of a clip turned and cropped alike; the paper states no amount."""

    extractor: PictureExtractor
    colours: int = 1  # 1: flat grey pictures; 3: flat RGB
    degrees: float = 10.0  # most, to either side
    share: float = 0.85  # least share of height and width that a crop keeps
    seed: int = 0
    copy: int = 1
    modality: ClassVar[str] = "visual"

    def changed(self, steps: np.ndarray, utterance: str) -> np.ndarray:
        """The augmented pictures, t (h h colours) -> t (h h colours)."""
        side = math.isqrt(steps.shape[1] // self.colours)
        if side * side * self.colours != steps.shape[1]:
            raise FeatureError(f"steps of {steps.shape[1]} values are no square pictures of {self.colours} colours.")
        draw = draws(utterance, seed=self.seed, copy=self.copy)
        degrees, share = draw.uniform(-self.degrees, self.degrees), draw.uniform(self.share, 1)
        pictures = rotated(steps.reshape(-1, side, side, self.colours), degrees=degrees)
        pictures = cropped(pictures, share=share, top=draw.uniform(), left=draw.uniform())
        return pictures.reshape(steps.shape)

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.changed(self.extractor(clip), clip.utterance)

    def about(self) -> dict[str, str]:
        how = f"turned +-{self.degrees:g} degrees, cropped to {self.share:g} or more"
        return _named(self.extractor.about(), f"{how}, seed {self.seed}, copy {self.copy}")


def _each(pictures: np.ndarray, change) -> np.ndarray:
    """`change` on every picture as float32; whole numbers are rounded again."""
    found = np.stack([change(np.ascontiguousarray(one, dtype=np.float32)) for one in pictures])
    found = found.reshape(len(pictures), *found.shape[1:3], *pictures.shape[3:])  # OpenCV drops an axis of one colour
    return (np.round(found) if pictures.dtype.kind in "iu" else found).astype(pictures.dtype)


def _named(about: dict[str, str], how: str) -> dict[str, str]:
    version = f"{about['version']}, librosa {librosa.__version__}, OpenCV {cv2.__version__}"
    return about | {"extractor": f"{about['extractor']}, augmented ({how})", "version": version}
