"""A drawn face: the speaker determines its look, the utterance its expression, and the mouth opens with the voice.

The parts that do not move are painted once a speaker (`sketch`); brows, eyes and mouth are drawn into a copy for every
frame, which is then rotated, scaled and laid over the background (`show`). All coordinates are of the canvas, which is
`SIDE` square; colours are RGB. OpenCV takes coordinates with `BITS` bits behind the point.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from merlib.twins.releases.voice import Expression

SIDE, BITS = 128, 4
MIDDLE, EYES, NOSE, MOUTH = 64.0, 58.0, 77.0, 92.0  # across; and down
SKINS = ((240, 200, 175), (226, 178, 148), (205, 152, 118), (178, 124, 92), (142, 98, 72))
HAIRS = ((35, 25, 20), (75, 48, 28), (120, 85, 45), (160, 125, 72), (110, 50, 25), (98, 95, 92))
WALLS = ((120, 135, 150), (150, 145, 130), (95, 110, 100), (160, 160, 165), (110, 95, 90))


@dataclass(frozen=True, kw_only=True)
class Look:  # of a speaker: colours, and factors on proportions
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    iris: tuple[int, int, int]
    wall: tuple[int, int, int]
    wide: float
    apart: float  # of the eyes
    brow: float  # thickness
    lips: float  # thickness
    long_hair: bool


class Pose(NamedTuple):
    x: float  # pixels right of the middle
    y: float  # pixels below it
    turn: float  # degrees
    size: float  # frame pixels to a canvas pixel


class Sketch(NamedTuple):  # the parts of a face that do not move
    look: Look
    head: np.ndarray  # SIDE SIDE 3, uint8
    cover: np.ndarray  # SIDE SIDE, uint8: 255 where the head hides the wall
    wall: np.ndarray  # h w 3, uint8


def look(rng: np.random.Generator, *, female: bool) -> Look:
    shade = rng.integers(-8, 9, 3)

    def one(colours: tuple) -> tuple[int, int, int]:
        return tuple(int(c) for c in np.clip(np.add(colours[rng.integers(len(colours))], shade), 0, 255))

    skin, hair = one(SKINS), one(HAIRS)
    dark = min(1.0, 0.6 * sum(skin) / sum(hair))  # a cascade finds faces by hair that is darker
    return Look(
        skin=skin, hair=tuple(int(dark * c) for c in hair),
        iris=one(((60, 40, 25), (50, 80, 110), (60, 85, 50))), wall=one(WALLS),
        wide=rng.uniform(0.94, 1.06) * (0.97 if female else 1.02), apart=rng.uniform(0.95, 1.05),
        brow=rng.uniform(0.8, 1.1) * (0.85 if female else 1.2), lips=rng.uniform(0.9, 1.1) * (1.2 if female else 0.9),
        long_hair=bool(rng.random() < (0.85 if female else 0.1)),
    )  # fmt: skip


def sketch(who: Look, size: tuple[int, int]) -> Sketch:
    """The head without brows, eyes and mouth, and the wall of a frame of `size` (w, h) behind it."""
    skin, wide = np.array(who.skin, dtype=np.float32), who.wide
    head = np.full((SIDE, SIDE, 3), who.hair, dtype=np.float32)
    if not who.long_hair:
        _lay(head, skin * 0.9, [(MIDDLE - 36 * wide, 63, 5, 10), (MIDDLE + 36 * wide, 63, 5, 10)], 1.0)  # ears
    _lay(head, skin * 0.72, [(MIDDLE, 118, 17 * wide, 24)], 2.0)  # neck
    face = [(MIDDLE, 68, 36 * wide, 46)]
    _lay(head, skin, face, 1.0)
    hollow = [(MIDDLE + s * 16 * who.apart, EYES - 1, 11, 8) for s in (-1, 1)]
    _shade(head, 0.60, hollow, 3.5)  # sockets
    _shade(head, 1.16, [(MIDDLE, 40, 22, 9), *((MIDDLE + s * 20, 76, 8, 7) for s in (-1, 1))], 6.0)  # forehead, cheeks
    _shade(head, 1.12, [(MIDDLE, 66, 2.5, 12)], 2.0)  # bridge of the nose
    _shade(head, 0.80, [(MIDDLE + s * 6, 72, 2.0, 9) for s in (-1, 1)], 2.0)  # its sides
    _shade(head, 0.62, [(MIDDLE, NOSE + 4, 7, 1.8)], 1.2)  # below it
    _shade(head, 0.82, [(MIDDLE, MOUTH + 9, 9, 2)], 2.0)  # below the lip
    _shade(head, 0.55, [(MIDDLE + s * 3.4, NOSE + 2.6, 1.5, 0.9) for s in (-1, 1)], 0.5)  # nostrils
    edge = 0.72 + 0.28 * _soft([(MIDDLE, 66, 30 * wide, 40)], 7.0)
    inside = _soft(face, 1.0)
    head *= (inside * edge + 1 - inside)[..., None]  # the sides turn away from the light
    fringe = _soft([(MIDDLE, 20, 40 * wide, 17)], 1.5)[..., None]
    head = head * (1 - fringe) + np.array(who.hair) * fringe
    crown = [(MIDDLE, 54, 41 * wide, 44), *face, (MIDDLE, 120, 17 * wide, 24)]
    crown += [(MIDDLE, 84, 43 * wide, 46)] if who.long_hair else [(MIDDLE, 63, 40 * wide, 10)]
    cover = (255 * _soft(crown, 0.8)).astype(np.uint8)
    return Sketch(who, np.clip(head, 0, 255).astype(np.uint8), cover, _wall(who, size))


def show(of: Sketch, expression: Expression, *, mouth: float, blink: bool, pose: Pose) -> np.ndarray:
    """One frame of a face, h w 3 RGB bytes; `mouth` from 0 (closed) to 1."""
    head, (h, w) = of.head.copy(), of.wall.shape[:2]
    for side in (-1, 1):
        _eye(head, of.look, side, 0.05 if blink else np.clip(1 + 0.30 * expression.lids, 0.35, 1.45))
        _brow(head, of.look, side, expression)
    _mouth(head, of.look, expression, max(mouth, 0.55 * expression.jaw))
    turn = cv2.getRotationMatrix2D((MIDDLE, 68), pose.turn, pose.size)
    turn[:, 2] += (w / 2 + pose.x - MIDDLE, h / 2 + pose.y - 68)
    cover = cv2.warpAffine(of.cover, turn, (w, h), flags=cv2.INTER_LINEAR)[..., None].astype(np.uint16)
    head = cv2.warpAffine(head, turn, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return ((head * cover + of.wall * (255 - cover) + 127) // 255).astype(np.uint8)


def _wall(who: Look, size: tuple[int, int]) -> np.ndarray:
    """The background with the speaker's shoulders, h w 3 bytes."""
    w, h = size
    frame = np.linspace(0.8, 1.15, h)[:, None, None] * np.full((h, w, 3), who.wall)
    frame = np.clip(frame, 0, 255).astype(np.uint8)
    shirt = tuple(int(255 - c) // 2 for c in who.wall)
    cv2.ellipse(frame, (w // 2, h + h // 8), (int(0.45 * w), int(0.3 * h)), 0, 0, 360, shirt, -1, cv2.LINE_AA)
    return frame


def _eye(head: np.ndarray, who: Look, side: int, opening: float) -> None:
    x, dark = MIDDLE + side * 16 * who.apart, tuple(int(0.35 * c) for c in who.skin)
    tall = 3.3 * opening
    if opening > 0.2:
        _ellipse(head, (x, EYES), (7.2, tall), tuple(int(90 + 0.5 * c) for c in who.skin))
        _ellipse(head, (x, EYES), (3.5, min(3.5, tall)), who.iris)
        _ellipse(head, (x, EYES), (1.7, min(1.7, tall)), (12, 10, 10))
        _ellipse(head, (x + 1.2, EYES - 1.2), (0.6, 0.6), (250, 250, 250))
    across = np.linspace(-1, 1, 9)
    lid = np.stack([x + 7.6 * across, EYES - tall * np.sqrt(1 - across**2)], axis=1)
    _line(head, lid, dark, 2)


def _brow(head: np.ndarray, who: Look, side: int, shown: Expression) -> None:
    out = np.linspace(-1, 1, 7)  # from the inner end
    x = MIDDLE + side * (16 * who.apart + 9.0 * out)
    y = EYES - 11.0 - 2.4 * shown.brows - 2.8 * shown.frown * out * (out < 0.5) - 1.8 * (1 - out**2) + 1.2 * out
    colour = tuple(int(c) for c in np.minimum(np.multiply(who.hair, 0.7), np.multiply(who.skin, 0.5)))
    _line(head, np.stack([x, y], axis=1), colour, max(2, round(3.2 * who.brow)))


def _mouth(head: np.ndarray, who: Look, shown: Expression, opening: float) -> None:
    across = np.linspace(-1, 1, 13)
    wide, bow = 13.5 + 2.5 * shown.smile - 2.5 * opening, 1 - across**2
    middle = MOUTH - 5.5 * shown.smile * (across**2 - 0.4)  # the corners rise, the middle sinks
    lip = tuple(int(c) for c in np.array(who.skin) * (0.80, 0.52, 0.52))
    thick, gap = 2.4 * who.lips, 6.5 * opening
    upper, lower = middle - (gap * 0.35 + 0.4) * bow, middle + (gap + 0.4) * bow
    outside = _ring(across * (wide + 1), upper - thick * bow, lower + 1.3 * thick * bow)
    cv2.fillPoly(head, [outside], lip, cv2.LINE_AA, BITS)
    cv2.fillPoly(head, [_ring(across * wide, upper, lower)], (58, 22, 24), cv2.LINE_AA, BITS)
    if gap > 1.5:
        teeth = _ring(across * wide * 0.8, upper + 0.2, np.minimum(upper + 1.8 * bow, lower))
        cv2.fillPoly(head, [teeth], (225, 220, 212), cv2.LINE_AA, BITS)


def _ring(x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The closed outline between two curves, as OpenCV wants it."""
    points = np.concatenate([np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)[::-1]]) + (MIDDLE, 0)
    return np.round(points * (1 << BITS)).astype(np.int32)


def _line(frame: np.ndarray, points: np.ndarray, colour: tuple, thickness: int) -> None:
    points = np.round(points * (1 << BITS)).astype(np.int32)
    cv2.polylines(frame, [points], False, colour, thickness, cv2.LINE_AA, BITS)


def _ellipse(frame: np.ndarray, middle: tuple, axes: tuple, colour: tuple) -> None:
    middle, axes = (tuple(round(v * (1 << BITS)) for v in pair) for pair in (middle, axes))
    cv2.ellipse(frame, middle, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, BITS)


def _soft(ellipses: list[tuple], blur: float) -> np.ndarray:
    """1 in the ellipses (x, y, half width, half height), 0 elsewhere, with a soft edge: SIDE SIDE."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for x, y, wide, tall in ellipses:
        _ellipse(mask, (x, y), (wide, tall), 255)
    return cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), blur)


def _lay(head: np.ndarray, colour: np.ndarray, ellipses: list[tuple], blur: float) -> None:
    head += _soft(ellipses, blur)[..., None] * (colour - head)


def _shade(head: np.ndarray, factor: float, ellipses: list[tuple], blur: float) -> None:
    head *= 1 + (factor - 1) * _soft(ellipses, blur)[..., None]
