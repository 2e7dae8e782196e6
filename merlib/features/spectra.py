"""Log-mel spectra and cepstra by the equations of HFF (Sec. 3.1 (1)), whose CNN reads them.

Shapes: s samples, f frequencies, t frames, m mel filters, c coefficients.
"""

from dataclasses import dataclass
from typing import ClassVar

import librosa
import numpy as np
import scipy.fft

from merlib.data.store import FeatureError
from merlib.features import media, sound
from merlib.features.media import Clip


@dataclass(frozen=True, kw_only=True)
class Mel:
    """How sound becomes log-mel spectra (HFF eqs. (1)-(4)); the paper gives the equations and none of these numbers."""

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
    """Natural logarithm of the energies in mel filters: ... s -> ... t m float32, t = 1 + s // shift, frames centred.

    Filters are triangles of height 1, evenly spaced on the scale of eq. (2) (HTK's).
    """
    around = [(0, 0)] * (samples.ndim - 1) + [(settings.fft // 2, settings.fft // 2)]
    spectrum = librosa.stft(  # eq. (1), ... f t
        np.pad(samples, around),
        n_fft=settings.fft,
        win_length=round(settings.rate * settings.window_ms / 1000),
        hop_length=round(settings.rate * settings.shift_ms / 1000),
        window=settings.window,
        center=False,
    )
    filters = sound.mel_filters(settings.rate, settings.fft, settings.filters, htk=True)  # eq. (2)
    energy = np.einsum("...ft,mf->...tm", np.abs(spectrum) ** 2, filters, optimize=True)  # eq. (3)
    return np.log(np.maximum(energy, settings.floor))  # eq. (4)


def cepstra(levels: np.ndarray, *, coefficients: int) -> np.ndarray:
    """The first coefficients c_0, c_1, ... of log-mel spectra (HFF eq. (5), without a norm): ... t m -> ... t c."""
    if coefficients > levels.shape[-1]:
        raise FeatureError(
            f"{coefficients} coefficients of {levels.shape[-1]} mel filters; ask for {levels.shape[-1]}."
        )
    return scipy.fft.dct(levels, axis=-1)[..., :coefficients] / 2


@dataclass(frozen=True, kw_only=True)
class CepstralSteps:
    """The MFCC matrix that HFF's CNN reads (eqs. (1)-(5)), as long as the clip; how many coefficients is unstated."""

    settings: Mel = Mel()
    coefficients: int = 40
    modality: ClassVar[str] = "audio"

    @property
    def rate(self) -> int:
        return self.settings.rate

    def of(self, samples: np.ndarray) -> np.ndarray:
        return cepstra(log_mel(samples, settings=self.settings), coefficients=self.coefficients)

    def __call__(self, clip: Clip) -> np.ndarray:
        return self.of(media.sound(clip, rate=self.rate))

    def about(self) -> dict[str, str]:
        return sound.about(f"{self.coefficients} MFCC (HFF eqs. 1-5), {self.settings}")
