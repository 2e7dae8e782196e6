"""Faces in the pictures of a recording: where they are, by a Haar cascade or MTCNN, and what they show.

An extractor gives one row of pixels a face, whole numbers from 0 to 255 in a byte each; `faces(clip)` also says where
they are, and which pictures have none. Shapes: n pictures of h x w, m faces of size x size.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import cv2
import numpy as np
import torch

from merlib.features.detectors import CASCADE, crop, haar, mtcnn, packaged
from merlib.features.media import Clip, MediaError, pictures
from merlib.files import sha256
from merlib.pretrained.mtcnn import FILES

TOGETHER = 32  # pictures that MTCNN looks at together; with their integral images, all that is held at a time


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one clip: m of them, in order of time.

    Where a picture shows none, the box of the picture before (of the first face, at the beginning) is used again if the
    extractor holds boxes; otherwise the picture is left out.
    """

    pixels: np.ndarray  # m size size, or m size size 3; bytes
    box: np.ndarray  # m 4, pixels of the recording
    looked: int  # pictures that were looked at
    missing: tuple[int, ...]  # which of them, by number, have no face


def follow(
    film: Iterable[np.ndarray],
    look: Callable[[np.ndarray], np.ndarray],
    cut: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    hold: bool,
    together: int,
    most: int | None = None,
) -> Faces:
    """The faces of pictures as they come, `together` at a time, until there are `most`. MediaError where there is none.

    look: a detector, n h w 3 -> n 4. cut: a picture and a box to pixels. hold: what happens without a face (`Faces`).
    """
    pixels, boxes, missing, early, last, looked = [], [], [], [], None, 0
    for some in stacks(film, together):
        for picture, box in zip(some, look(some), strict=True):
            looked += 1
            if np.isnan(box).any():
                missing.append(looked - 1)
                if last is None or not hold:
                    early += [picture] if hold else []
                    continue
                box = last
            pixels += [cut(shown, box) for shown in (*early, picture)]
            boxes += [box] * (len(early) + 1)
            early, last = [], box
            if most is not None and len(pixels) >= most:
                return Faces(np.stack(pixels[:most]), np.stack(boxes[:most]), looked, tuple(missing))
    if not pixels:
        raise MediaError(f"no face in {looked} pictures")
    return Faces(np.stack(pixels), np.stack(boxes), looked, tuple(missing))


def stacks(film: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Pictures as they come, `count` together: n h w 3."""
    film = iter(film)
    while some := list(islice(film, count)):
        if len({picture.shape for picture in some}) > 1:
            raise MediaError("its pictures change their size")
        yield np.stack(some)


@dataclass(frozen=True, kw_only=True)
class HaarFaces:
    """The largest face of every picture, grey, `frames` of them (MPAF-Net, Sec. 3.1.2).

    Later ones are cut off; where there are fewer, the last is repeated. A picture without a face is left out; the paper
    does not say. t d = frames (size size), 0 to 255. `scale`, `neighbors` and `min_face` are OpenCV's defaults, which
    the paper does not give either; a larger `min_face` is faster by its square.
    """

    frames: int = 150
    size: int = 64
    scale: float = 1.1
    neighbors: int = 3
    min_face: int = 24  # pixels
    active: bool = False  # look only in the half where the speaker is
    modality: str = "visual"

    def faces(self, clip: Clip) -> Faces:
        look = partial(haar, scale=self.scale, neighbors=self.neighbors, min_face=self.min_face)
        cut = partial(crop, size=self.size, grey=True)
        film = pictures(clip if self.active else clip.whole)
        return follow(film, look, cut, hold=False, together=1, most=self.frames)

    def __call__(self, clip: Clip) -> np.ndarray:
        pixels = self.faces(clip).pixels
        steps = np.minimum(np.arange(self.frames), len(pixels) - 1)
        return pixels[steps].reshape(self.frames, -1)

    def about(self) -> dict[str, str]:
        how = f"scale {self.scale:g}, {self.neighbors} neighbours, from {self.min_face} pixels"
        how += ", the speaker's half" if self.active else ""
        return {
            "extractor": f"Haar cascade's largest face, grey {self.size}x{self.size}, {self.frames} frames ({how})",
            "version": f"opencv {cv2.__version__}",
            "weights_sha256": sha256(CASCADE),
            "trained_on": "frontal faces (OpenCV's own)",
        }


@dataclass(frozen=True, kw_only=True)
class MtcnnFaces:
    """One face a picture by MTCNN, in colour. t d = pictures (3 size size), 0 to 255: red, green, blue.

    spread: `frames` pictures from all over the clip (ATTSF-Net: 15, Sec. IV-B); otherwise its first `frames` (GIA-MIC:
    180), or all. hold: a picture without a face shows the place of the face before (as the code that ATTSF-Net comes
    from); otherwise it is left out. choose and the rest: see `mtcnn` and `crop`.
    """

    frames: int | None = 15
    spread: bool = True
    size: int = 224
    margin: int = 0
    hold: bool = True
    active: bool = True  # look only in the half where the speaker is, if the recording names it
    choose: str = "largest"
    min_face: int = 20
    factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    device: str = "cpu"
    modality: str = "visual"

    @property
    def settings(self) -> dict:
        """The detector's."""
        return {name: getattr(self, name) for name in ("min_face", "factor", "thresholds", "device")}

    def shown(self, clip: Clip) -> Iterable[np.ndarray]:
        """The pictures that are looked at."""
        clip = clip if self.active else clip.whole
        return pictures(clip, count=self.frames) if self.spread else islice(pictures(clip), self.frames)

    def faces(self, clip: Clip) -> Faces:
        look = partial(mtcnn, choose=self.choose, **self.settings)
        cut = partial(crop, size=self.size, margin=self.margin)
        return follow(self.shown(clip), look, cut, hold=self.hold, together=TOGETHER)

    def __call__(self, clip: Clip) -> np.ndarray:
        pixels = self.faces(clip).pixels
        return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)  # m s s 3 -> m (3 s s)

    def about(self) -> dict[str, str]:
        folder = packaged("facenet-pytorch", "data")
        which = f"{self.frames or 'all'} pictures{' over the clip' if self.spread else ''}"
        gap = "held" if self.hold else "left out"
        how = (
            f"from {self.min_face} pixels, pyramid {self.factor:g}, thresholds {self.thresholds}, margin {self.margin}"
        )
        how += "" if self.active else ", of the whole picture"
        return {
            "extractor": f"MTCNN's {self.choose} face, {self.size}x{self.size}, {which}, gaps {gap} ({how})",
            "version": f"merlib's MTCNN, torch {torch.__version__}",
            "weights_sha256": sha256(*(folder / name for name in FILES)),
            "trained_on": "WIDER FACE, CelebA",
        }
