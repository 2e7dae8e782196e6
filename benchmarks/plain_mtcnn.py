"""MTCNN as it is usually run: one frame after the other, each candidate resized by itself, suppression in numpy.

Written for comparison, with the networks of merlib and nothing else of it: the same arithmetic in another order.
"""

import numpy as np
import torch
from torch.nn.functional import interpolate


def plain_mtcnn(network, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """network: merlib's Mtcnn; frame: h w 3 bytes. Boxes k 4, probabilities k, landmarks k 5 2; best first."""
    x = torch.from_numpy(frame).permute(2, 0, 1).unsqueeze(0).float()
    height, width = x.shape[2:]
    first, second, third = network.thresholds
    levels, scale = [], 12 / network.min_face
    while min(height, width) * scale >= 12:
        level = interpolate(x, (int(height * scale + 1), int(width * scale + 1)), mode="area")
        score, shift = (v[0].numpy() for v in network.pnet((level - 127.5) / 128))
        y, x0 = np.nonzero(score >= first)
        corner = np.stack([x0, y], 1) * 2 + 1
        box = np.floor(np.concatenate([corner, corner + 11], 1).astype(np.float32) / np.float32(scale))
        keep = plain_suppress(box, score[y, x0], 0.5)
        levels.append((box[keep], score[y, x0][keep], shift[:, y, x0].T[keep]))
        scale *= network.factor
    if not levels:
        return np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
    box, score, shift = (np.concatenate(v) for v in zip(*levels, strict=True))
    keep = plain_suppress(box, score, 0.7)
    box = square(box[keep] + shift[keep] * np.tile(box[keep, 2:] - box[keep, :2], 2))
    box, pixels = cut(x, box, 24)
    score, shift = (v.numpy() for v in network.rnet(pixels)) if len(pixels) else (np.zeros(0), np.zeros((0, 4)))
    box, shift, score = box[score > second], shift[score > second], score[score > second]
    keep = plain_suppress(box, score, 0.7)
    box, pixels = cut(x, square(moved(box[keep], shift[keep])), 48)
    if not len(pixels):
        return np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
    score, shift, points = (v.numpy() for v in network.onet(pixels))
    box, shift, points, score = (v[score > third] for v in (box, shift, points, score))
    side = box[:, 2:] - box[:, :2] + 1
    points = np.stack([points[:, :5] * side[:, :1] + box[:, :1], points[:, 5:] * side[:, 1:] + box[:, 1:2]], 2) - 1
    box = moved(box, shift)
    keep = plain_suppress(box, score, 0.7, smaller=True)
    return box[keep], score[keep], points[keep]


def moved(box: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return box + shift * np.tile(box[:, 2:] - box[:, :2] + 1, 2)


def square(box: np.ndarray) -> np.ndarray:
    width, height = (box[:, 2:] - box[:, :2]).T
    side = np.maximum(width, height)
    left, top = box[:, 0] + width / 2 - side / 2, box[:, 1] + height / 2 - side / 2
    return np.stack([left, top, left + side, top + side], 1)


def cut(x: torch.Tensor, box: np.ndarray, size: int) -> tuple[np.ndarray, torch.Tensor]:
    """The boxes that are not empty, and their pixels."""
    rows, pixels = [], []
    for row in box:
        left, top, right, bottom = np.trunc(row).astype(int)
        part = x[:, :, max(top, 1) - 1 : min(bottom, x.shape[2]), max(left, 1) - 1 : min(right, x.shape[3])]
        if part.numel():
            rows.append(row)
            pixels.append((interpolate(part, (size, size), mode="area") - 127.5) / 128)
    return np.stack(rows) if rows else box[:0], torch.cat(pixels) if pixels else torch.zeros(0, 3, size, size)


def plain_suppress(box: np.ndarray, score: np.ndarray, threshold: float, *, smaller: bool = False) -> list[int]:
    """Greedy: the best box stays, those that share too much with it go, and so on. Counts edges twice if `smaller`."""
    pixel, left, keep = int(smaller), np.argsort(-score, kind="stable"), []
    area = (box[:, 2] - box[:, 0] + pixel) * (box[:, 3] - box[:, 1] + pixel)
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        first, last = np.maximum(box[best, :2], box[left, :2]), np.minimum(box[best, 2:], box[left, 2:])
        both = np.maximum(last - first + pixel, 0).prod(1)
        share = both / (np.minimum(area[best], area[left]) if smaller else area[best] + area[left] - both)
        left = left[share <= threshold]
    return keep
