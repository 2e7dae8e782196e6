"""Audio -> what a network reads: MFCC by librosa's conventions or by HFF's equations, and ComParE's functionals.

Shapes: n recordings of s samples, t frames, m mel filters, c coefficients. Each extractor holds the
settings of a paper, reads one clip (`MediaError` where that cannot be used) and gives t d; `of` does the same to
samples.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import scipy.fft

from merlib.errors import FeatureError
from merlib.features import decoding, spectra
from merlib.features.decoding import Clip, MediaError
from merlib.features.extractors import origin

LIBRARIES = f"scipy {scipy.__version__}, {decoding.RESAMPLER}"  # that settle the values


class AudioExtractor:
    """What all extractors of audio share: they read a clip at their `rate`, and `of` computes from samples."""

    modality: ClassVar[str] = "audio"

    @property
    def rate(self) -> int:  # Hz; an extractor without `settings` has its own
        return self.settings.rate

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.of(decoding.audio(clip, rate=self.rate))


@dataclass(frozen=True)
class Mfcc:
    """The settings of MFCC; times as in the papers, `fft` in samples."""

    rate: int  # Hz
    seconds: float
    cut: str  # which part of a longer recording: center or start
    coefficients: int
    window: str  # hamming, hann, ...
    window_ms: float
    shift_ms: float
    fft: int

    def __post_init__(self) -> None:
        if self.cut not in ("center", "start") or self.samples(self.window_ms) > self.fft:
            raise FeatureError(f"{self}; expected cut center or start, and a window that fits fft.")

    def samples(self, ms: float) -> int:
        return round(self.rate * ms / 1000)

    @property
    def steps(self) -> int:  # of every recording
        return 1 + self.samples(1000 * self.seconds) // self.samples(self.shift_ms)

    def __str__(self) -> str:
        window = f"{self.window} {self.window_ms:g}/{self.shift_ms:g} ms, fft {self.fft}"
        return f"{self.coefficients} MFCC, {window}, {self.rate} Hz, {self.seconds:g} s ({self.cut})"


def fitted(samples: np.ndarray, *, settings: Mfcc) -> np.ndarray:
    """Samples cut to the settings' seconds at the centre or from the start, or padded with silence at the end."""
    length = settings.samples(1000 * settings.seconds)
    cut = samples[max(0, len(samples) - length) // 2 if settings.cut == "center" else 0 :][:length]
    return np.pad(cut, (0, length - len(cut)))


@dataclass(frozen=True, kw_only=True)
class MfccSteps(AudioExtractor):
    """MFCC by librosa's conventions, as ATTSF-Net and MPAF-Net read them."""

    settings: Mfcc

    def of(self, samples: np.ndarray) -> np.ndarray:
        how = self.settings
        return spectra.mfcc(
            fitted(samples, settings=how),
            rate=how.rate,
            coefficients=how.coefficients,
            taper=spectra.window(how.window, how.samples(how.window_ms)),
            shift=how.samples(how.shift_ms),
            fft=how.fft,
        )

    def about(self) -> dict[str, str]:
        return origin(f"librosa's {self.settings}", f"{spectra.DEFINITION}, {LIBRARIES}")


@dataclass(frozen=True, kw_only=True)
class Mel:
    """The settings of log-mel spectra (HFF eqs. (1)-(4)); the paper gives the equations and none of these numbers."""

    rate: int = 16000  # Hz
    window: str = "hann"
    window_ms: float = 25
    shift_ms: float = 10
    fft: int = 512
    filters: int = 40
    floor: float = 1e-10  # smallest energy, so that silence has a logarithm

    def __str__(self) -> str:
        window = f"{self.window} {self.window_ms:g}/{self.shift_ms:g} ms, fft {self.fft}"
        return f"{self.filters} mel filters, {window}, {self.rate} Hz"


def log_mel(samples: np.ndarray, *, settings: Mel) -> np.ndarray:
    """Natural logarithm of the energies in mel filters: s -> t m float32, t = 1 + s // shift, frames centred.

    Filters are triangles of height 1, evenly spaced on the scale of eq. (2) (HTK's).
    """
    taper = spectra.window(settings.window, round(settings.rate * settings.window_ms / 1000))
    shift = round(settings.rate * settings.shift_ms / 1000)
    filters = spectra.mel_filters(settings.rate, settings.fft, settings.filters, htk=True)  # eq. (2)
    power = spectra.power(samples, taper=taper, shift=shift, fft=settings.fft)  # eq. (1), t f
    energy = power @ filters.T  # eq. (3)
    return np.log(np.maximum(energy, settings.floor))  # eq. (4)


def cepstra(levels: np.ndarray, *, coefficients: int) -> np.ndarray:
    """The first coefficients c_0, c_1, ... of log-mel spectra (HFF eq. (5), without a norm): ... t m -> ... t c."""
    if coefficients > (filters := levels.shape[-1]):
        raise FeatureError(f"{coefficients} coefficients of {filters} mel filters; ask for {filters}.")
    return scipy.fft.dct(levels)[..., :coefficients] / 2


@dataclass(frozen=True, kw_only=True)
class CepstralSteps(AudioExtractor):
    """The MFCC matrix that HFF's CNN reads (eqs. (1)-(5)), as long as the clip; how many coefficients is unstated."""

    settings: Mel = Mel()
    coefficients: int = 40

    def of(self, samples: np.ndarray) -> np.ndarray:
        return cepstra(log_mel(samples, settings=self.settings), coefficients=self.coefficients)

    def about(self) -> dict[str, str]:
        return origin(f"{self.coefficients} MFCC (HFF eqs. 1-5), {self.settings}", LIBRARIES)


@dataclass(frozen=True, kw_only=True)
class Waveform(AudioExtractor):
    """The waveform itself, its first `seconds` if given, for an encoder that is trained: s 1 (GIA-MIC, Sec. 3.1)."""

    rate: int = 16000  # Hz
    seconds: float | None = None
    dtype: str = "float16"  # 11 significant bits

    def of(self, samples: np.ndarray) -> np.ndarray:
        return samples[: None if self.seconds is None else round(self.seconds * self.rate), None].astype(self.dtype)

    def about(self) -> dict[str, str]:
        first = "" if self.seconds is None else f", first {self.seconds:g} s"
        return origin(f"waveform, {self.rate} Hz{first}", decoding.RESAMPLER)


@dataclass(frozen=True, kw_only=True)
class ComParE(AudioExtractor):
    """The 6373 functionals that MFCRE's 512 audio features come from: one step, and float32 (float16 overflows)."""

    rate: int = 16000

    def of(self, samples: np.ndarray) -> np.ndarray:
        """s -> 1 6373 float32, some as large as 1e12.

        Raises MediaError for audio that is shorter than a frame (0.06 s), FeatureError without openSMILE.
        """
        smile = _opensmile()
        if len(samples) < 0.1 * self.rate:  # openSMILE would warn and give NaN
            raise MediaError(f"{len(samples) / self.rate:.3f} s of audio; ComParE's functionals need 0.1 s")
        values = smile.process_signal(samples, self.rate).to_numpy(dtype=np.float32)
        if bad := int((~np.isfinite(values)).sum()):
            raise MediaError(f"{bad} of ComParE's {values.size} functionals are not finite")
        return values

    def about(self) -> dict[str, str]:
        _opensmile()
        version = f"opensmile {importlib.metadata.version('opensmile')}"
        return origin(f"openSMILE ComParE_2016 functionals, {self.rate} Hz", version)


@cache
def _opensmile():
    if importlib.util.find_spec("opensmile") is None:
        why = "merlib does not install it because its licence allows research only"
        raise FeatureError(f"ComParE's functionals need openSMILE; {why}: read that, then pip install opensmile.")
    import opensmile

    sets, levels = opensmile.FeatureSet, opensmile.FeatureLevel
    return opensmile.Smile(feature_set=sets.ComParE_2016, feature_level=levels.Functionals)
