"""Faces in the frames of a recording: detection by a Haar cascade, and crops as extractors (by MTCNN: `mtcnn_faces`).

An extractor gives one row of pixels a face, integers from 0 to 255 in a byte each; `faces(clip)` also says where the
faces are, and which frames have none. A box is left, top, right, bottom in pixels, NaN where no face is detected.

Shapes: n frames of h x w pixels, RGB in bytes; m faces of size x size.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from merlib.features import decoding
from merlib.features.decoding import Clip, MediaError
from merlib.features.extractors import origin

CASCADE = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"


@cache
def _cascade() -> cv2.CascadeClassifier:
    cv2.setNumThreads(1)  # the pipeline has a process for every core
    return cv2.CascadeClassifier(str(CASCADE))


def haar(frames: np.ndarray, *, scale: float = 1.1, neighbors: int = 3, min_face: int = 24) -> np.ndarray:
    """The largest frontal face of each frame by OpenCV's Haar cascade: n h w 3 -> n 4. The defaults are OpenCV's."""
    boxes = np.full((len(frames), 4), np.nan, np.float32)
    for i, frame in enumerate(frames):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        detected = _cascade().detectMultiScale(grey, scale, neighbors, minSize=(min_face, min_face))
        if len(detected):
            x, y, width, height = max(detected.tolist(), key=lambda box: (box[2] * box[3], box))
            boxes[i] = x, y, x + width, y + height
    return boxes


def crop(frame: np.ndarray, box: np.ndarray, *, size: int, margin: int = 0, grey: bool = False) -> np.ndarray:
    """The box of a frame, as far as it is inside, resized by area: h w 3 -> size size 3, or size size if `grey`.

    margin: how many of the crop's `size` pixels lie outside of the box, half of them at each side.
    """
    around = margin * (box[2:] - box[:2]) / (size - margin) / 2
    left, top = np.maximum(box[:2] - around, 0).astype(int)
    right, bottom = np.minimum(box[2:] + around, frame.shape[1::-1]).astype(int)
    part = frame[top:bottom, left:right]
    part = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) if grey else part
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, eq=False)
class Faces:
    """The m faces of one clip, in order of time.

    In a frame without a face, an extractor that holds boxes uses the box of the frame before again (of the first face,
    at the beginning); any other leaves the frame out.
    """

    pixels: np.ndarray  # m size size, or m size size 3; bytes
    box: np.ndarray  # m 4, pixels of the recording
    frames: int  # frames in which a face was looked for
    missing: tuple[int, ...]  # the numbers of those without a face


def follow(
    frames: Iterable[np.ndarray], look: Callable, cut: Callable, *, hold: bool, together: int, most: int | None = None
) -> Faces:
    """The faces of consecutive frames, `together` at a time, until there are `most`. MediaError where there is none.

    look: a detector, n h w 3 -> n 4. cut: a frame and a box to pixels. hold: what happens without a face (`Faces`).
    """
    pixels, boxes, missing, early, last, count = [], [], [], [], None, 0
    for batch in batches(frames, together):
        for frame, box in zip(batch, look(batch), strict=True):
            count += 1
            if np.isnan(box).any():
                missing.append(count - 1)
                if last is None or not hold:
                    early += [frame] if hold else []
                    continue
                box = last
            pixels += [cut(one, box) for one in (*early, frame)]
            boxes += [box] * (len(early) + 1)
            early, last = [], box
            if most is not None and len(pixels) >= most:
                return Faces(np.stack(pixels[:most]), np.stack(boxes[:most]), count, tuple(missing))
    if not pixels:
        raise MediaError(f"no face in {count} frames")
    return Faces(np.stack(pixels), np.stack(boxes), count, tuple(missing))


def batches(frames: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Consecutive frames, `count` together: n h w 3."""
    frames = iter(frames)
    while batch := list(islice(frames, count)):
        if len({frame.shape for frame in batch}) > 1:
            raise MediaError("its frames change their size")
        yield np.stack(batch)


@dataclass(frozen=True, kw_only=True)
class HaarFaces:
    """The largest face of every frame, grey, `frames` of them (MPAF-Net, Sec. 3.1.2).

    Later ones are cut off; where there are fewer, the last is repeated. t d = frames (size size), 0 to 255. The paper
    does not say that a frame without a face is left out, nor the cascade's settings: these are OpenCV's defaults.
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
        frames = decoding.frames(clip if self.active else clip.whole)
        return follow(frames, look, cut, hold=False, together=1, most=self.frames)

    def __call__(self, clip: Clip) -> np.ndarray:
        pixels = self.faces(clip).pixels
        steps = np.minimum(np.arange(self.frames), len(pixels) - 1)
        return pixels[steps].reshape(self.frames, -1)

    def about(self) -> dict[str, str]:
        how = f"scale {self.scale:g}, {self.neighbors} neighbours, from {self.min_face} pixels"
        how += ", the speaker's half" if self.active else ""
        name = f"Haar cascade's largest face, grey {self.size}x{self.size}, {self.frames} frames ({how})"
        return origin(name, f"opencv {cv2.__version__}", "frontal faces (OpenCV's own)", CASCADE)
