"""Augmentation: noise as strong as asked, pitch as high, frames rotated and cropped, the same for a seed."""

import pickle
from collections import Counter
from dataclasses import dataclass, replace

import librosa
import numpy as np
import pytest
import soundfile
from skimage import transform

from merlib.data.inputs import minority
from merlib.errors import FeatureError
from merlib.features.audio import Mfcc, MfccSteps
from merlib.features.augment import AugmentedAudio, AugmentedFrames, cropped, draws, noisy, rotated, shifted
from merlib.features.decoding import Clip, MediaError

MFCC = MfccSteps(settings=Mfcc(16000, 1, "start", 12, "hann", 50, 30, 1024))


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def smooth(count: int = 3, side: int = 40) -> np.ndarray:
    """Soft blobs, t h w float32 of 0 to 255."""
    y, x = np.mgrid[:side, :side] / side
    blobs = [np.exp(-20 * ((x - 0.3 - 0.1 * k) ** 2 + 2 * (y - 0.6 + 0.1 * k) ** 2)) + 0.3 * x for k in range(count)]
    return (190 * np.stack(blobs)).astype(np.float32)


def test_classes_below_the_median_are_the_minority():
    draw = np.random.default_rng(0)
    labels = draw.choice([-1, 0, 1, 2, 4, 7], p=[0.1, 0.4, 0.25, 0.14, 0.1, 0.01], size=900)
    counts = Counter(labels[labels >= 0].tolist())
    middle = sorted(counts.values())[len(counts) // 2]
    assert minority(labels).tolist() == [label >= 0 and counts[label] < middle for label in labels.tolist()]
    assert 0 < minority(labels).sum() < len(labels) / 2
    assert not minority(np.array([0, 0, 1, 1, -1])).any() and not minority(np.array([-1, -1])).any()


@pytest.mark.parametrize("decibels", [-3, 10, 40])
def test_noise_is_as_weak_as_asked(decibels):
    clean = tone(300)
    noise = noisy(clean, decibels=decibels, draw=np.random.default_rng(0)).astype(np.float64) - clean
    assert 10 * np.log10(np.square(clean).mean() / np.square(noise).mean()) == pytest.approx(decibels, abs=0.2)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert spectrum[:4000].mean() == pytest.approx(spectrum[4000:].mean(), rel=0.1)  # white
    assert not noisy(np.zeros(9, np.float32), decibels=decibels, draw=np.random.default_rng(0)).any()


@pytest.mark.parametrize("semitones", [-4, 0, 3])
def test_pitch_moves_by_semitones_and_length_stays(semitones):
    found = shifted(tone(220), semitones=semitones, rate=16000)
    heard = librosa.yin(found, fmin=100, fmax=500, sr=16000)
    assert np.median(heard) == pytest.approx(220 * 2 ** (semitones / 12), rel=0.01) and len(found) == 16000
    for samples in (1, 100, 3000):
        assert shifted(tone(220)[:samples], semitones=semitones, rate=16000).shape == (samples,)


def test_frames_turn_as_scikit_image_turns_them():
    frames = smooth()
    found = rotated(frames, degrees=25)
    for one, frame in zip(found, frames, strict=True):
        np.testing.assert_allclose(one, transform.rotate(frame, 25, mode="edge", preserve_range=True), atol=4)
    assert np.abs(found - frames).max() > 40
    colours = np.stack([frames, frames / 2, frames * 0], axis=-1)
    np.testing.assert_allclose(rotated(colours, degrees=25)[..., 1], found / 2, atol=0.01)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (1, 0.5), (0.5, 1)])
def test_a_crop_is_that_part_in_the_old_size(top, left):
    frames = smooth()
    found = cropped(frames, share=0.75, top=top, left=left)
    y, x = round(10 * top), round(10 * left)
    for one, frame in zip(found, frames, strict=True):
        part = frame[y : y + 30, x : x + 30]
        expected = transform.resize(part, (40, 40), mode="edge", preserve_range=True, anti_aliasing=False)
        np.testing.assert_allclose(one, expected, atol=1)
    np.testing.assert_array_equal(cropped(frames, share=1, top=top, left=left), frames)
    with pytest.raises(FeatureError, match=r"share in \(0, 1\]"):
        cropped(frames, share=0, top=top, left=left)


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32])
def test_frames_stay_what_they_were(kind):
    frames = smooth().astype(kind)
    for found in (rotated(frames, degrees=10), cropped(frames, share=0.5, top=0, left=1)):
        assert found.dtype == kind and found.shape == frames.shape
        assert frames.min() <= found.min() and found.max() <= frames.max()


def test_draws_differ_by_utterance_seed_and_copy_only():
    keys = [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1), ("a", 1, 1), ("1 a", 0, 0), ("a", 1, 11), ("a", 11, 1)]
    first, again = ([tuple(draws(u, seed=s, copy=c).random(3)) for u, s, c in order] for order in (keys, keys[::-1]))
    assert first == again[::-1] and len(set(first)) == len(keys)


@pytest.fixture
def clip(tmp_path) -> Clip:
    soundfile.write(tmp_path / "one.wav", tone(300, 0.8), 16000, subtype="FLOAT")
    return Clip("one", tmp_path / "one.wav")


@dataclass(frozen=True, kw_only=True)
class Frames:
    """An extractor of the same frames of every clip."""

    colours: int = 1

    def __call__(self, clip: Clip) -> np.ndarray:
        if clip.utterance == "none":
            raise MediaError("no face in 3 frames")
        return np.repeat(smooth().reshape(3, -1, 1), self.colours, axis=2).reshape(3, -1).astype(np.float16)

    def about(self) -> dict[str, str]:
        return {"extractor": "frames", "version": "1", "weights_sha256": "", "trained_on": "nothing"}


EXTRACTORS = [
    AugmentedAudio(extractor=MFCC),
    AugmentedFrames(extractor=Frames()),
    AugmentedFrames(extractor=Frames(colours=3), colours=3),
]


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=["audio", "grey", "colours"])
def test_a_copy_is_another_sample_and_always_the_same(clip, extractor):
    plain, found = extractor.extractor(clip), extractor(clip)
    assert found.shape == plain.shape and found.dtype == plain.dtype and np.isfinite(found).all()
    assert not np.array_equal(found, plain)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor))(clip), found)
    others = [replace(extractor, copy=2), replace(extractor, seed=1)]
    found = [found, *(other(clip) for other in others), extractor(replace(clip, utterance="two"))]
    assert len({values.tobytes() for values in found}) == 4
    assert len({e.about()["extractor"] for e in (extractor, extractor.extractor, *others)}) == 4
    with pytest.raises(MediaError):
        extractor(Clip("none", clip.file.with_name("none.wav")))


def test_all_frames_of_a_clip_change_alike(clip):
    still = np.repeat(smooth(1).reshape(1, -1), 5, axis=0)
    found = AugmentedFrames(extractor=Frames()).changed(still, "one")
    assert (found == found[0]).all() and not np.array_equal(found, still)


def test_amounts_of_zero_change_nothing(clip):
    off = AugmentedFrames(extractor=Frames(), degrees=0, share=1)
    np.testing.assert_array_equal(off(clip), Frames()(clip))
    quiet = AugmentedAudio(extractor=MFCC, decibels=(200, 200), semitones=0)
    np.testing.assert_allclose(quiet.changed(tone(300), "one"), tone(300), atol=1e-3)


def test_steps_that_are_no_frames_are_refused():
    with pytest.raises(FeatureError, match="no square frames of 3 colours"):
        AugmentedFrames(extractor=Frames(), colours=3).changed(np.zeros((2, 40), np.float32), "one")
