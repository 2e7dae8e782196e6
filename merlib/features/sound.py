"""Sound -> what a network hears: MFCC, and ComParE's functionals; HFF's are in `spectra`.

Shapes: n sounds of s samples, t frames, m mel filters, c coefficients. Each extractor holds a paper's settings, reads
one clip (`MediaError` where that cannot be used) and gives t d float32; `of` does the same to samples.
"""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import librosa
import numpy as np
import scipy.fft

from merlib.data.store import FeatureError
from merlib.features import media
from merlib.features.media import Clip, MediaError

FUNCTIONALS = 6373  # of ComParE 2016


@dataclass(frozen=True)
class Mfcc:
    """How sound becomes MFCC; times as in the papers, `fft` in samples."""

    rate: int  # Hz
    seconds: float
    cut: str  # which part of a longer file: center or start
    coefficients: int
    window: str  # hamming, hann, ...
    window_ms: float
    shift_ms: float
    fft: int

    def __post_init__(self) -> None:
        if self.cut not in ("center", "start") or self.samples(self.window_ms) > self.fft:
            raise FeatureError(f"{self}; expected cut center or start, and a window that fits fft.")

    def samples(self, ms: float) -> int:
        """A whole number of samples."""
        return round(self.rate * ms / 1000)

    @property
    def steps(self) -> int:
        """Frames of every file."""
        return 1 + self.samples(1000 * self.seconds) // self.samples(self.shift_ms)

    def __str__(self) -> str:
        window = f"{self.window} {self.window_ms:g}/{self.shift_ms:g} ms, fft {self.fft}"
        return f"{self.coefficients} MFCC, {window}, {self.rate} Hz, {self.seconds:g} s ({self.cut})"


def fitted(samples: np.ndarray, *, settings: Mfcc) -> np.ndarray:
    """Samples cut to the settings' seconds at the centre or from the start, or padded with silence at the end."""
    whole = settings.samples(1000 * settings.seconds)
    cut = samples[max(0, len(samples) - whole) // 2 if settings.cut == "center" else 0 :][:whole]
    return np.pad(cut, (0, whole - len(cut)))


def mfcc(sounds: Sequence[np.ndarray], *, settings: Mfcc) -> np.ndarray:
    """MFCC of every sound at the settings' rate, of any length: n t c float32.

    The same bits as `librosa.feature.mfcc` gives one sound, which makes its mel filters anew for each. Sounds go one
    by one because levels are cut 80 dB below the loudest that librosa sees: in a batch, another sound's.
    """
    values = np.empty((len(sounds), settings.steps, settings.coefficients), dtype=np.float32)
    filters = mel_filters(settings.rate, settings.fft, 128, htk=False)
    for value, samples in zip(values, sounds, strict=True):
        spectrum = librosa.stft(
            fitted(samples, settings=settings),
            n_fft=settings.fft,
            win_length=settings.samples(settings.window_ms),
            hop_length=settings.samples(settings.shift_ms),
            window=settings.window,
        )
        mel = np.einsum("...ft,mf->...mt", np.abs(spectrum) ** 2, filters, optimize=True)
        value[:] = scipy.fft.dct(librosa.power_to_db(mel), axis=-2, norm="ortho")[: settings.coefficients].T
    return values


def compare(sounds: Sequence[np.ndarray], *, rate: int) -> np.ndarray:
    """ComParE 2016's functionals of every sound at `rate` Hz by openSMILE: n 6373 float32, some as large as 1e12.

    Raises MediaError for a sound that is shorter than its frames (about 0.06 s), FeatureError without openSMILE.
    """
    smile, found = _smile(), []
    for samples in sounds:
        if len(samples) < 0.1 * rate:  # openSMILE would warn and give NaN
            raise MediaError(f"{len(samples) / rate:.3f} s of sound; ComParE's functionals need 0.1 s")
        found.append(smile.process_signal(samples, rate).to_numpy(dtype=np.float32)[0])
        if bad := int((~np.isfinite(found[-1])).sum()):
            raise MediaError(f"{bad} of ComParE's {FUNCTIONALS} functionals are not finite")
    return np.array(found, dtype=np.float32).reshape(-1, FUNCTIONALS)


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """The sound itself, of its first `seconds` if given, for an encoder that learns: s 1 (GIA-MIC, Sec. 3.1)."""

    rate: int = 16000  # Hz
    seconds: float | None = None
    dtype: str = "float16"  # 11 bits beside the level
    modality: ClassVar[str] = "audio"

    def of(self, samples: np.ndarray) -> np.ndarray:
        return samples[: None if self.seconds is None else round(self.seconds * self.rate), None].astype(self.dtype)

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.of(media.sound(clip, rate=self.rate))

    def about(self) -> dict[str, str]:
        return about(f"waveform, {self.rate} Hz" + ("" if self.seconds is None else f", first {self.seconds:g} s"))


@dataclass(frozen=True, kw_only=True)
class MfccSteps:
    """MFCC by librosa's conventions: ATTSF-Net's and MPAF-Net's, by `audio.settings(paper, corpus)`."""

    settings: Mfcc
    modality: ClassVar[str] = "audio"

    @property
    def rate(self) -> int:
        return self.settings.rate

    def of(self, samples: np.ndarray) -> np.ndarray:
        return mfcc([samples], settings=self.settings)[0]

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.of(media.sound(clip, rate=self.rate))

    def about(self) -> dict[str, str]:
        return about(f"librosa {self.settings}")


@dataclass(frozen=True, kw_only=True)
class ComParE:
    """The 6373 functionals that MFCRE's 512 audio features come from: one step, and float32 (float16 overflows)."""

    rate: int = 16000
    modality: ClassVar[str] = "audio"

    def of(self, samples: np.ndarray) -> np.ndarray:
        return compare([samples], rate=self.rate)

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.of(media.sound(clip, rate=self.rate))

    def about(self) -> dict[str, str]:
        _smile()
        version = f"opensmile {importlib.metadata.version('opensmile')}"
        return about(f"openSMILE ComParE_2016 functionals, {self.rate} Hz") | {"version": version}


def about(extractor: str) -> dict[str, str]:
    """What a passport says of an extractor that has learned nothing."""
    version = f"librosa {librosa.__version__}"
    return {"extractor": extractor, "version": version, "weights_sha256": "", "trained_on": "nothing"}


@cache
def mel_filters(rate: int, fft: int, count: int, *, htk: bool) -> np.ndarray:
    """Mel filters, m f: Slaney's, of equal area, or HTK's, of equal height."""
    return librosa.filters.mel(sr=rate, n_fft=fft, n_mels=count, htk=htk, norm=None if htk else "slaney")


@cache
def _smile():
    """openSMILE, loaded once a process."""
    if importlib.util.find_spec("opensmile") is None:
        raise FeatureError(
            "ComParE's functionals need openSMILE, which merlib does not install because its licence allows research "
            "only: read that, then pip install opensmile."
        )
    import opensmile

    sets, levels = opensmile.FeatureSet, opensmile.FeatureLevel
    return opensmile.Smile(feature_set=sets.ComParE_2016, feature_level=levels.Functionals)
