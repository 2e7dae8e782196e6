"""Voice and expression of each emotion in the media twins: numbers chosen after the literature on acted speech.

`how(name, strength)` interpolates from neutral to the emotion, and extrapolates where the strength is above 1.
"""

from typing import NamedTuple

import numpy as np


class Tone(NamedTuple):
    """The manner of speaking."""

    pitch: float  # factor on the speaker's own
    range: float  # octaves that the pitch moves
    energy: float  # decibels above the speaker's usual
    tempo: float  # syllables a second
    tilt: float  # decibels that the source loses in an octave
    breath: float  # share of breath in the audio


class Expression(NamedTuple):
    """The expression of a face; 0 is at rest."""

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
MANNERS |= {"joy": MANNERS["happy"], "sadness": MANNERS["sad"], "anger": MANNERS["angry"]}
MANNERS |= {"surprise": MANNERS["surprised"], "fear": MANNERS["fearful"]}
REST = MANNERS["neutral"]
SPREAD = Tone(0.06, 0.06, 1.2, 0.4, 0.7, 0.02)  # of one utterance around the manner of its emotion
TWITCH = Expression(0.12, 0.12, 0.12, 0.12, 0.05)


def how(name: str, strength: float) -> tuple[Tone, Expression]:
    """Tone and expression of an emotion at a strength: 0 is neutral, 1 what `MANNERS` says."""
    tone, face = (
        kind(*np.add(rest, strength * np.subtract(full, rest)))
        for kind, rest, full in zip((Tone, Expression), REST, MANNERS[name], strict=True)
    )
    return _possible(tone), face


def acted(name: str, strength: float, rng: np.random.Generator) -> tuple[Tone, Expression]:
    """The same in one utterance: voice and face show more or less of it, independently, and neither exactly."""
    tone = how(name, strength * rng.uniform(0.4, 1.4))[0]
    face = how(name, strength * rng.uniform(0.3, 1.3))[1]
    return _possible(Tone(*rng.normal(tone, SPREAD))), Expression(*rng.normal(face, TWITCH))


def _possible(tone: Tone) -> Tone:
    return Tone(*np.clip(tone, (0.6, 0.05, -12.0, 2.0, 1.0, 0.01), (2.0, 1.4, 9.0, 8.0, 14.0, 0.5)))
