"""Videos with a real face in them, for the tests of extractors."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data

ASTRONAUT = skimage.data.astronaut()  # 512 x 512, one real face, at about (180, 62) to (268, 172)
CLOSE = ASTRONAUT[20:220, 120:320]


def scenes() -> np.ndarray:
    """200 x 240 each: the face small, upright and mirrored; two faces; noise; at the edge; none."""
    draw = np.random.default_rng(0)
    blank = np.full((200, 240, 3), 90, np.uint8)
    small, two, edge = blank.copy(), blank.copy(), blank.copy()
    small[40:140, 60:160] = cv2.resize(CLOSE, (100, 100), interpolation=cv2.INTER_AREA)
    two[30:180, :150] = cv2.resize(CLOSE, (150, 150), interpolation=cv2.INTER_AREA)
    two[60:160, 140:240] = small[40:140, 60:160][:, ::-1]
    edge[:140, :] = cv2.resize(CLOSE[60:, :], (240, 140), interpolation=cv2.INTER_AREA)
    noise = draw.integers(256, size=blank.shape, dtype=np.uint8)
    return np.stack([small, two, noise, edge, blank, small[:, ::-1]])


def video(path: Path, frames, rate: int = 10) -> Path:
    """A lossless video: the frames that are read are those that were written."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "bgr0"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path
