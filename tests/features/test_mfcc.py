"""MFCC are what the papers' settings say."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from merlib import cli
from merlib.corpora import ravdess
from merlib.data import folders, table
from merlib.errors import DeclarationError, FeatureError
from merlib.features.audio import Mfcc, MfccSteps
from merlib.features.decoding import Clip
from merlib.roots import extract

ATTSF = Mfcc(16000, 3.6, "center", 12, "hamming", 50, 30, 2048)
MPAF = Mfcc(16000, 8, "start", 40, "hann", 128, 32, 2048)
CLIPS = [f"Actor_{actor:02d}/03-01-0{e}-01-01-01-{actor:02d}.wav" for actor in range(1, 25) for e in (1, 5)]


def tone(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """A rising tone in noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(scale=0.01, size=len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * time) * time) + noise).astype(np.float32)


def mfcc(paths, how: Mfcc) -> np.ndarray:
    """n t d, as the pipeline gets them."""
    with threadpool_limits(1):
        return np.stack([MfccSteps(settings=how)(Clip(path.stem, path)) for path in paths])


def written(path, samples, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("paper", "corpus", "expected"), [("attsf_net", "ravdess", ATTSF), ("mpaf_net", "iemocap8", MPAF)]
)
def test_settings_are_the_papers_own(paper, corpus, expected):
    assert extract.extractors(paper, corpus)["audio"].settings == expected


def test_settings_that_no_paper_has_are_refused():
    with pytest.raises(DeclarationError, match="mpaf_net has no ravdess: it has iemocap8"):
        extract.extractors("mpaf_net", "ravdess")
    assert not isinstance(extract.extractors("mfcre", "meld")["audio"], MfccSteps)


@pytest.mark.parametrize(
    ("how", "shape", "window", "shift"), [(ATTSF, (121, 12), 800, 480), (MPAF, (251, 40), 2048, 512)]
)
def test_values_are_those_of_the_textbook(tmp_path, how, shape, window, shift):
    """An oracle of plain numpy: windowed power spectrum, mel filters, decibels, cosine transform."""
    long = tone(11.0)
    (found,) = mfcc([written(tmp_path / "long.wav", long)], how)
    assert found.shape == shape == (how.steps, how.coefficients) and found.dtype == np.float32
    whole = round(how.seconds * 16000)
    begin = (len(long) - whole) // 2 if how.cut == "center" else 0
    padded = np.pad(long[begin : begin + whole].astype(np.float64), 1024)
    taper = np.zeros(2048)
    n = np.arange(window)
    cosine = np.cos(2 * np.pi * n / window)
    taper[(2048 - window) // 2 :][:window] = 0.54 - 0.46 * cosine if how.window == "hamming" else 0.5 - 0.5 * cosine
    frames = np.stack([padded[t * shift : t * shift + 2048] * taper for t in range(how.steps)])
    power = np.abs(np.fft.rfft(frames)) ** 2 @ librosa.filters.mel(sr=16000, n_fft=2048).T.astype(np.float64)
    level = 10 * np.log10(np.maximum(power, 1e-10))
    level = np.maximum(level, level.max() - 80)
    k = np.arange(128)
    basis = np.sqrt(2 / 128) * np.cos(np.pi * (2 * k[:, None] + 1) * k / 256)
    basis[:, 0] /= np.sqrt(2)
    np.testing.assert_allclose(found, (level @ basis)[:, : how.coefficients], atol=0.05)


def test_short_audio_is_padded_at_its_end_and_channels_are_mixed(tmp_path):
    short = tone(1.0)
    padded = np.pad(short, (0, 57600 - len(short)))
    stereo = np.stack([short * 2, np.zeros_like(short)], axis=1)
    paths = [written(tmp_path / f"{i}.wav", s) for i, s in enumerate((short, padded, stereo))]
    found = mfcc(paths, ATTSF)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], atol=1e-3)
    ends = mfcc([written(tmp_path / "end.wav", np.pad(short, (57600 - len(short), 0)))], ATTSF)
    assert not np.allclose(found[0], ends[0], atol=1)


def test_other_rates_are_resampled(tmp_path):
    time = np.arange(48000 * 4) / 48000
    tones = [np.sin(2 * np.pi * 440 * time[: rate * 4] * 48000 / rate).astype(np.float32) for rate in (16000, 48000)]
    paths = [written(tmp_path / f"{rate}.flac.wav", t, rate) for rate, t in zip((16000, 48000), tones, strict=True)]
    low, high = mfcc(paths, replace(ATTSF, seconds=3))
    assert np.abs(low - high)[5:-5, :3].max() < 20 < np.abs(low[:, 0]).min()


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"cut": "end"}, {"fft": 512}):
        with pytest.raises(FeatureError, match="expected cut center or start"):
            MfccSteps(settings=replace(ATTSF, **wrong))


@pytest.fixture
def clips(data_folder, tmp_path):
    """A root with two clips of every actor, and the folder of their audio."""
    for i, name in enumerate(CLIPS):
        written(tmp_path / "media" / name, tone(0.5, seed=i))
    table.save(ravdess.read(tmp_path / "media"), folders.root_path("lab") / "ravdess")
    return tmp_path / "media"


def test_a_corpus_gets_its_array_and_passport(clips):
    command = ["data", "extract", "lab", "ravdess", "--recipe", "attsf_net", "--media", str(clips), "--modalities", "A"]
    cli.main([*command, "--name", "sound"])
    data = folders.dataset("lab", "ravdess")
    feature, files = data.features["sound"], data.corpus.table["audio"]
    expected = mfcc([clips / f for f in files], ATTSF)
    np.testing.assert_array_equal(feature.values.reshape(expected.shape), expected)
    assert (feature.lengths == 121).all() and len(feature.lengths) == len(CLIPS) and feature.passport.steps == 121
    assert feature.passport.extractor == "librosa's 12 MFCC, hamming 50/30 ms, fft 2048, 16000 Hz, 3.6 s (center)"
    assert (feature.passport.trained_on, feature.passport.fitted_on) == ("nothing", "nothing")
