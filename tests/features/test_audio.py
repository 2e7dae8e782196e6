"""Features of audio are those of librosa, of HFF's equations and of openSMILE, and what cannot be used is said."""

import pickle
import sys

import librosa
import numpy as np
import pytest
import soundfile

from merlib.errors import FeatureError
from merlib.features import audio, decoding, spectra
from merlib.features.audio import CepstralSteps, ComParE, Mel, Mfcc, MfccSteps
from merlib.features.decoding import Clip, MediaError

ATTSF = Mfcc(16000, 3.6, "center", 12, "hamming", 50, 30, 2048)
MPAF = Mfcc(16000, 8, "start", 40, "hann", 128, 32, 2048)
SMALL = Mel(rate=2000, window="hamming", window_ms=20, shift_ms=10, fft=64, filters=8)


def speechlike(seconds: float, seed: int = 0, rate: int = 16000) -> np.ndarray:
    """A tone that rises and falls, in noise."""
    draw, time = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (150 + 10 * seed) * time + 6 * np.sin(7 * time)) * (1 + np.sin(9 * time)) / 4
    return (tone + 0.01 * draw.normal(size=len(time))).astype(np.float32)


@pytest.fixture
def clip(tmp_path) -> Clip:
    """Two channels at 22.05 kHz."""
    both = np.stack([speechlike(1.3, 1, 22050), speechlike(1.3, 2, 22050)], axis=1)
    soundfile.write(tmp_path / "one.wav", both, 22050)
    return Clip("one", tmp_path / "one.wav")


@pytest.mark.parametrize("how", [ATTSF, MPAF], ids=["attsf_net", "mpaf_net"])
def test_mfcc_are_those_of_librosa(how):
    for samples in (speechlike(1.0), 1e-4 * speechlike(9.3, 1), speechlike(3.6, 2)):
        expected = librosa.feature.mfcc(
            y=audio.fitted(samples, settings=how), sr=how.rate, n_mfcc=how.coefficients, n_fft=how.fft,
            win_length=how.samples(how.window_ms), hop_length=how.samples(how.shift_ms), window=how.window,
        )  # fmt: skip
        found = MfccSteps(settings=how).of(samples)
        assert found.dtype == np.float32 and (np.abs(found - expected.T) < 1e-3 * expected.std(1)).all()


@pytest.mark.parametrize("htk", [False, True], ids=["slaney", "htk"])
@pytest.mark.parametrize(("rate", "fft", "count"), [(16000, 2048, 128), (16000, 512, 40), (1500, 64, 8)])
def test_mel_filters_are_those_of_librosa(rate, fft, count, htk):
    expected = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=count, htk=htk, norm=None if htk else "slaney")
    np.testing.assert_allclose(spectra.mel_filters(rate, fft, count, htk=htk), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("own_rate", "rate"), [(48000, 16000), (22050, 16000), (8000, 16000), (44100, 16000)])
def test_audio_is_resampled_as_librosa_does(own_rate, rate):
    for seconds in (0.3, 1.00003):
        samples = speechlike(seconds, rate=own_rate)
        expected = librosa.resample(samples, orig_sr=own_rate, target_sr=rate)
        np.testing.assert_array_equal(decoding.resampled(samples, own_rate, rate), expected)


EXTRACTORS = [MfccSteps(settings=MPAF), CepstralSteps(coefficients=13), ComParE()]


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda e: type(e).__name__)
def test_an_extractor_reads_a_clip_and_travels_to_other_processes(clip, extractor, tmp_path):
    if isinstance(extractor, ComParE):
        pytest.importorskip("opensmile", reason="openSMILE is an optional extra")
    found = extractor(clip)
    assert found.ndim == 2 and len(found) and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor))(clip), found)
    assert extractor.modality == "audio"
    assert set(extractor.about()) == {"extractor", "version", "weights_sha256", "trained_on"}
    (tmp_path / "bad.wav").write_bytes(b"")
    for file in ("bad.wav", "absent.wav"):
        with pytest.raises(MediaError, match="cannot be read as audio"):
            extractor(Clip("bad", tmp_path / file))


def test_what_settles_the_values_is_in_the_passport():
    said = [CepstralSteps(settings=settings, coefficients=8).about()["extractor"] for settings in (Mel(), SMALL)]
    assert said[0] != said[1] == "8 MFCC (HFF eqs. 1-5), 8 mel filters, hamming 20/10 ms, fft 64, 2000 Hz"


def test_cepstra_are_the_equations_of_hff():
    """Eqs. (1) to (5) of Sec. 3.1, letter by letter, in frames around every shift."""
    samples = speechlike(0.12, rate=2000)
    half, shift, length, count = SMALL.fft // 2, 20, 40, SMALL.filters
    x = np.pad(samples.astype(np.float64), half)
    n = np.arange(length)
    window = np.pad(0.54 - 0.46 * np.cos(2 * np.pi * n / length), (SMALL.fft - length) // 2)
    f = np.arange(half + 1) * SMALL.rate / SMALL.fft
    mel = 2595 * np.log10(1 + f / 700)  # (2)
    edge = 700 * (10 ** (np.linspace(0, mel[-1], count + 2) / 2595) - 1)
    expected = []
    for t in range(0, len(samples) + 1, shift):
        place = np.arange(t, t + SMALL.fft)
        wave = np.exp(-2j * np.pi * f[:, None] / SMALL.rate * place)
        spectrum = (x[place] * window * wave).sum(axis=1)  # (1)
        energy = []
        for m in range(count):
            rise, fall = (f - edge[m]) / (edge[m + 1] - edge[m]), (edge[m + 2] - f) / (edge[m + 2] - edge[m + 1])
            energy.append((abs(spectrum) ** 2 * np.clip(np.minimum(rise, fall), 0, None)).sum())  # (3)
        level = np.log(energy)  # (4)
        m = np.arange(1, count + 1)
        expected.append([(level * np.cos((m - 0.5) * k * np.pi / count)).sum() for k in range(5)])  # (5)
    found = audio.cepstra(audio.log_mel(samples, settings=SMALL), coefficients=5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_log_mel_needs_no_length():
    for samples in (speechlike(0.7)[:1], speechlike(0.7)[:300], np.zeros(900, np.float32)):
        assert np.isfinite(audio.log_mel(samples, settings=Mel())).all()
        assert len(audio.log_mel(samples, settings=Mel())) == 1 + len(samples) // 160


def test_functionals_are_openSMILEs_own(clip, tmp_path):
    opensmile = pytest.importorskip("opensmile", reason="openSMILE is an optional extra")
    samples, extractor = speechlike(0.8), ComParE()
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    soundfile.write(tmp_path / "one.wav", samples, 16000, subtype="FLOAT")
    found = extractor.of(samples)
    np.testing.assert_allclose(found, smile.process_file(tmp_path / "one.wav").to_numpy(), rtol=1e-4)
    assert found.shape == (1, len(smile.feature_names)) and found.dtype == np.float32
    with pytest.raises(MediaError, match=r"0\.050 s of audio"):
        extractor.of(speechlike(0.05))


def test_functionals_without_openSMILE_say_what_to_install(monkeypatch):
    audio._opensmile.cache_clear()
    monkeypatch.setitem(sys.modules, "opensmile", None)
    for ask in (ComParE().about, lambda: ComParE().of(speechlike(1))):
        with pytest.raises(FeatureError, match="research only: read that, then pip install opensmile"):
            ask()


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(FeatureError, match="expected cut center or start"):
        Mfcc(16000, 3.6, "middle", 12, "hann", 50, 30, 2048)
    with pytest.raises(FeatureError, match="41 coefficients of 40 mel filters"):
        CepstralSteps(coefficients=41).of(speechlike(0.2))
