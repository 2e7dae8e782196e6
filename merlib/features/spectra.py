"""Power spectra, mel filters and MFCC by librosa's definitions: framed FFTs and matrix products in numpy and scipy.

librosa itself takes two seconds to import (numba) and makes its filters anew for every recording. The values agree to
rounding: tests hold them to 1e-3 of the coefficients' spread.

Shapes: s samples, t frames, f frequencies, m mel filters, c coefficients.
"""

from functools import cache

import numpy as np
import scipy.fft

from merlib.errors import one_of

DEFINITION = "librosa 0.11's definition"  # in passports
WINDOWS = {"hann": np.hanning, "hamming": np.hamming}
FLOOR = 1e-10  # smallest power that has a level
RANGE = 80.0  # decibels below the loudest at which levels are cut
BLOCK = 32  # frames that are transformed together: larger arrays cost a page fault every 4 KB


@cache
def window(name: str, length: int) -> np.ndarray:
    """A periodic window, float32."""
    return one_of(WINDOWS, name, "window")(length + 1)[:-1].astype(np.float32)


def power(samples: np.ndarray, *, taper: np.ndarray, shift: int, fft: int) -> np.ndarray:
    """Power spectra of frames that are centred on every `shift`-th sample, silence around: s -> t f float32.

    taper: the window of a frame. Silence fills the frame up to the length `fft`: at which end changes no power.
    """
    padded = np.pad(samples, (fft // 2 - (fft - len(taper)) // 2, fft // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(taper))[: len(samples) + 1 : shift]  # t window
    values = np.empty((len(frames), fft // 2 + 1), dtype=np.float32)
    for i in range(0, len(frames), BLOCK):
        spectra = scipy.fft.rfft(frames[i : i + BLOCK] * taper, n=fft)
        np.square(np.abs(spectra), out=values[i : i + BLOCK])
    return values


def mfcc(samples: np.ndarray, *, rate: int, coefficients: int, taper: np.ndarray, shift: int, fft: int) -> np.ndarray:
    """s -> t c, t = 1 + s // shift: levels in 128 of Slaney's mel filters, in decibels, and their cosine transform."""
    energy = power(samples, taper=taper, shift=shift, fft=fft) @ mel_filters(rate, fft, 128, htk=False).T  # t m
    level = 10 * np.log10(np.maximum(energy, FLOOR))
    return scipy.fft.dct(np.maximum(level, level.max() - RANGE), norm="ortho")[:, :coefficients]


@cache
def mel_filters(rate: int, fft: int, count: int, *, htk: bool) -> np.ndarray:
    """Triangles, evenly spaced on a mel scale up to rate / 2: Slaney's, of equal area, or HTK's, of height 1. m f.

    Slaney's scale is linear up to 1 kHz, where it has 15 mel, and above it logarithmic.
    """
    knee, step = 15.0, np.log(6.4) / 27  # mel; nepers a mel
    top = rate / 2
    if htk:
        edges = 700 * (10 ** (np.linspace(0, np.log10(1 + top / 700), count + 2)) - 1)
    else:
        mel = np.linspace(0, knee + np.log(top / 1000) / step if top >= 1000 else top * knee / 1000, count + 2)
        edges = np.where(mel < knee, mel * 1000 / knee, 1000 * np.exp(step * (mel - knee)))
    width = np.diff(edges)
    ramps = edges[:, None] - np.fft.rfftfreq(fft, 1 / rate)  # (m + 2) f
    filters = np.maximum(0, np.minimum(-ramps[:-2] / width[:-1, None], ramps[2:] / width[1:, None]))
    return (filters if htk else filters * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
