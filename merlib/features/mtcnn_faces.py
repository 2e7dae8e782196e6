"""Faces in the frames of a recording, detected by MTCNN: crops as an extractor. Boxes and crops are those of `faces`.

Shapes: n frames of h x w pixels, RGB in bytes; m faces of size x size.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice

import numpy as np
import torch

from merlib.features import decoding
from merlib.features.decoding import Clip
from merlib.features.extractors import origin
from merlib.features.faces import Faces, crop, follow
from merlib.pretrained import mtcnn

TOGETHER = 32  # frames in a batch; with their integral images, all that memory holds of a video


@cache
def network(min_face: int, factor: float, thresholds: tuple[float, float, float], device: str) -> mtcnn.Mtcnn:
    """MTCNN with its published weights, loaded once a process."""
    return mtcnn.Mtcnn(min_face=min_face, factor=factor, thresholds=thresholds).load().to(device)


def detect(
    frames: np.ndarray, *, min_face: int = 20, factor: float = 0.709,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7), device: str = "cpu",
) -> mtcnn.Detections:  # fmt: skip
    """Every face by MTCNN, of all frames together: n h w 3 -> boxes, probabilities, landmarks, on the CPU.

    min_face: side of the smallest square that is proposed, in pixels. The defaults are facenet-pytorch's.
    """
    faces = network(min_face, factor, thresholds, device)(torch.from_numpy(np.ascontiguousarray(frames)))
    return mtcnn.Detections(**{name: value.cpu() for name, value in vars(faces).items()})


def one_face(frames: np.ndarray, **settings) -> np.ndarray:
    """The largest face of each frame by MTCNN: n h w 3 -> n 4. settings: of `detect`."""
    faces, boxes = detect(frames, **settings), np.full((len(frames), 4), np.nan, np.float32)
    box = faces.box.numpy()
    edges = np.array(frames.shape[2:0:-1])
    inside = (np.minimum(box[:, 2:].astype(int), edges) > np.maximum(box[:, :2].astype(int), 0)).all(1)
    for k in np.argsort((box[:, 2:] - box[:, :2]).prod(1), kind="stable"):  # the largest one last
        if inside[k]:
            boxes[faces.frame[k]] = box[k]
    return boxes


@dataclass(frozen=True, kw_only=True)
class MtcnnFaces:
    """One face a frame by MTCNN, in colour. t d = frames (3 size size), 0 to 255: red, green, blue.

    spread: `frames` frames from all over the clip (ATTSF-Net: 15, Sec. IV-B); otherwise its first `frames` (GIA-MIC:
    180), or all. hold: in a frame without a face, the box of the frame before is cropped (as in the code that ATTSF-Net
    comes from); otherwise the frame is left out. The rest: see `detect` and `crop`.
    """

    frames: int | None = 15
    spread: bool = True
    size: int = 224
    margin: int = 0
    hold: bool = True
    active: bool = True  # look only in the half where the speaker is, if the recording names it
    min_face: int = 20
    factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    device: str = "cpu"
    modality: str = "visual"

    @property
    def settings(self) -> dict:  # of the detector
        return {name: getattr(self, name) for name in ("min_face", "factor", "thresholds", "device")}

    def sampled(self, clip: Clip) -> Iterable[np.ndarray]:
        """The frames in which faces are looked for."""
        clip = clip if self.active else clip.whole
        return decoding.frames(clip, count=self.frames) if self.spread else islice(decoding.frames(clip), self.frames)

    def faces(self, clip: Clip) -> Faces:
        look = partial(one_face, **self.settings)
        cut = partial(crop, size=self.size, margin=self.margin)
        return follow(self.sampled(clip), look, cut, hold=self.hold, together=TOGETHER)

    def __call__(self, clip: Clip) -> np.ndarray:
        pixels = self.faces(clip).pixels
        return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)  # m s s 3 -> m (3 s s)

    def about(self) -> dict[str, str]:
        which = f"{self.frames or 'all'} frames{' over the clip' if self.spread else ''}"
        gaps = "held" if self.hold else "left out"
        how = f"from {self.min_face} pixels, pyramid {self.factor:g}, thresholds {self.thresholds}"
        how += f", margin {self.margin}" + ("" if self.active else ", of the whole frame")
        name = f"MTCNN's largest face, {self.size}x{self.size}, {which}, gaps {gaps} ({how})"
        return origin(name, f"merlib's MTCNN, torch {torch.__version__}", "WIDER FACE, CelebA", *mtcnn.weights())
