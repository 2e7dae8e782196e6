"""How emotions show in voice and face, after the literature on acted speech; and the voice, from source and filter.

The source is the harmonics of a moving pitch; the filter weights them by formants that move through syllables.

Shapes: s samples at `RATE`, f control frames at `STEP` a second, n syllables, k harmonics.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RATE, STEP = 16000, 100
TOP = 5000.0  # Hz, no harmonic above
LEVEL = 0.06  # root mean square of a neutral utterance
VOWELS = (  # formants of a, e, i, o, u and uh in Hz: means of men's vowels in Peterson and Barney (1952), Table II
    (730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240), (640, 1190, 2390),
)  # fmt: skip
WIDTHS = (90.0, 120.0, 180.0)  # bandwidths in Hz


class Tone(NamedTuple):
    pitch: float  # factor on the speaker's own
    range: float  # octaves that the pitch moves
    energy: float  # decibels above the speaker's usual
    tempo: float  # syllables a second
    tilt: float  # decibels that the source loses in an octave
    breath: float  # share of breath in the audio


class Expression(NamedTuple):  # of a face; 0 is at rest
    brows: float  # raised, -1 to 1
    frown: float  # inner ends of the brows drawn down (1) or up (-1)
    smile: float  # corners of the mouth up (1) or down (-1)
    lids: float  # eyes wider (1) or narrower (-1) than at rest
    jaw: float  # mouth open also in silence, 0 to 1


MANNERS = {
    "neutral": (Tone(1.00, 0.25, 0.0, 4.5, 6.0, 0.06), Expression(0.0, 0.0, 0.0, 0.0, 0.0)),
    "calm": (Tone(0.94, 0.16, -3.0, 3.7, 7.5, 0.12), Expression(0.1, -0.1, 0.3, -0.3, 0.0)),
    "happy": (Tone(1.22, 0.60, 3.0, 5.2, 5.0, 0.06), Expression(0.2, -0.1, 1.0, -0.2, 0.15)),
    "excited": (Tone(1.42, 0.80, 5.0, 6.0, 4.2, 0.05), Expression(0.7, -0.1, 1.0, 0.4, 0.5)),
    "sad": (Tone(0.86, 0.12, -5.0, 3.2, 9.0, 0.20), Expression(0.2, -1.0, -0.8, -0.5, 0.0)),
    "angry": (Tone(1.24, 0.45, 6.0, 5.6, 3.0, 0.03), Expression(-0.7, 1.0, -0.6, 0.1, 0.1)),
    "frustrated": (Tone(1.07, 0.35, 3.0, 4.2, 4.2, 0.08), Expression(-0.4, 0.6, -0.4, -0.4, 0.0)),
    "fearful": (Tone(1.40, 0.30, 0.0, 6.4, 7.0, 0.18), Expression(0.8, -0.7, -0.4, 0.8, 0.3)),
    "surprised": (Tone(1.48, 0.95, 3.0, 4.6, 5.4, 0.08), Expression(1.0, -0.1, 0.1, 1.0, 0.8)),
    "disgust": (Tone(0.90, 0.35, 1.0, 3.5, 4.8, 0.10), Expression(-0.3, 0.5, -0.8, -0.7, 0.2)),
}
SAME = {"joy": "happy", "sadness": "sad", "anger": "angry", "surprise": "surprised", "fear": "fearful"}
MANNERS |= {name: MANNERS[other] for name, other in SAME.items()}
SPREAD = Tone(0.06, 0.06, 1.2, 0.4, 0.7, 0.02)  # of one utterance around the manner of its emotion
TWITCH = Expression(0.12, 0.12, 0.12, 0.12, 0.05)


def how(name: str, strength: float) -> tuple[Tone, Expression]:
    """Tone and expression of an emotion at a strength: 0 is neutral, 1 what `MANNERS` says."""
    pairs = zip(MANNERS["neutral"], MANNERS[name], strict=True)
    tone, face = (np.add(rest, strength * np.subtract(full, rest)) for rest, full in pairs)
    return _possible(tone), Expression(*face)


def acted(name: str, strength: float, rng: np.random.Generator) -> tuple[Tone, Expression]:
    """The same in one utterance: voice and face show more or less of it, independently, and neither exactly."""
    tone = how(name, strength * rng.uniform(0.4, 1.4))[0]
    face = how(name, strength * rng.uniform(0.3, 1.3))[1]
    return _possible(rng.normal(tone, SPREAD)), Expression(*rng.normal(face, TWITCH))


def _possible(tone: np.ndarray) -> Tone:
    return Tone(*np.clip(tone, (0.6, 0.05, -12.0, 2.0, 1.0, 0.01), (2.0, 1.4, 9.0, 8.0, 14.0, 0.5)))


@dataclass(frozen=True, kw_only=True)
class Voice:
    pitch: float  # Hz, at rest
    tract: float  # factor on the formants; a shorter vocal tract has higher ones
    tilt: float  # decibels an octave, added to the tone's
    hurry: float  # factor on the tempo


def voice(rng: np.random.Generator, *, female: bool) -> Voice:
    """The voice of a woman or a man."""
    pitch, tract = rng.normal(*((205, 18) if female else (118, 13))), rng.normal(1.17 if female else 1, 0.04)
    return Voice(pitch=float(pitch), tract=float(tract), tilt=rng.normal(0, 0.8), hurry=rng.uniform(0.9, 1.1))


def speak(who: Voice, tone: Tone, *, seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An utterance (s, float32, within -1 to 1) and how far the mouth is open at every control frame (f, 0 to 1)."""
    time = np.arange(max(round(seconds * STEP), 4)) / STEP  # f
    number = max(1, round(tone.tempo * who.hurry * seconds))
    width = seconds / number
    centre = (np.arange(number) + rng.uniform(0.35, 0.65, number)) * width  # n
    stress = rng.uniform(0.6, 1.0, number)
    bump = np.exp(-(((time[:, None] - centre) / (0.36 * width)) ** 2))  # f n
    loud = np.minimum(bump @ stress, 1.0) * np.minimum(1, np.minimum(time, time[-1] - time) / 0.04)
    pitch = who.pitch * tone.pitch * 2 ** (tone.range * _melody(time, bump @ (stress - stress.mean()), rng))
    vowel = np.array(VOWELS)[rng.integers(len(VOWELS), size=number)] * who.tract  # n 3
    formants = (bump @ vowel + 1e-6 * vowel.mean(axis=0)) / (bump.sum(axis=1, keepdims=True) + 1e-6)  # f 3
    audio = _voiced(pitch, loud, formants, tone.tilt + who.tilt, round(seconds * RATE))
    audio /= np.sqrt(np.mean(audio**2))
    hiss = np.exp(-(((time[:, None] - centre + 0.45 * width) / (0.12 * width)) ** 2)) @ (rng.random(number) < 0.5)
    audio += _breath(loud * tone.breath * 2 + 0.5 * hiss, len(audio), rng)
    audio *= LEVEL * 10 ** (tone.energy / 20)
    jaw = (vowel[:, 0] / who.tract - 270) / 460  # a high first formant is an open mouth
    return np.tanh(audio).astype(np.float32), np.clip(bump @ (stress * (0.35 + 0.65 * jaw)), 0, 1)


def _melody(time: np.ndarray, accents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pitch in units of the range, f: it falls through the utterance, rises on accents, sways and trembles."""
    sway = np.sin(2 * np.pi * (rng.uniform(0.7, 1.6) * time + rng.random()))
    return 0.3 - 0.6 * time / time[-1] + 2 * accents + 0.4 * sway + rng.normal(scale=0.02, size=len(time))


def _voiced(pitch: np.ndarray, loud: np.ndarray, formants: np.ndarray, tilt: float, samples: int) -> np.ndarray:
    """Sum of the harmonics below `TOP`, s. The k-th power of the first one's phasor is the k-th."""
    place = np.arange(samples) * STEP / RATE  # in frames
    frames = np.arange(len(pitch))
    first = np.exp(2j * np.pi * np.cumsum(np.interp(place, frames, pitch)) / RATE)  # s
    k = np.arange(1, int(TOP / pitch.min()) + 1)
    hertz = np.minimum(k[:, None] * pitch, TOP)  # k f
    gain = loud * 10 ** (-tilt * np.log2(k) / 20)[:, None] * (hertz < TOP)
    for formant, width in zip(formants.T, WIDTHS, strict=True):
        gain *= formant**2 / np.sqrt((formant**2 - hertz**2) ** 2 + (width * hertz) ** 2)
    audio, phasor = np.zeros(samples), np.ones(samples, dtype=complex)
    for weight in gain:
        phasor *= first
        audio += np.interp(place, frames, weight) * phasor.imag
    return audio


def _breath(share: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise that grows with frequency, as loud as `share` (f) says, s."""
    noise = np.diff(rng.normal(scale=0.7, size=samples + 1))
    return noise * np.interp(np.arange(samples) * STEP / RATE, np.arange(len(share)), share)
