"""results/real/prepare.py, which prepares the data root of the records on real data."""

import tomllib

import numpy as np
import pandas as pd
import pytest

from merlib.corpora import prepared
from merlib.data import table


@pytest.mark.parametrize("corpus", ["iemocap4", "iemocap6", "iemocap8", "mosi"])
def test_the_real_tables_have_the_official_counts(prepare, corpus, shared_data, tmp_path):
    corpus_read, features = prepared.read(prepare.described(corpus, shared_data, tmp_path, seconds=False))
    table.expect(corpus_read)
    if corpus == "iemocap6":
        assert corpus_read.counts()["dialogues"] == {"train": 108, "val": 12, "test": 31}
        assert features["audio"].values.shape == (7433, 47)
    if corpus == "mosi":
        assert corpus_read.counts()["dialogues"] == {"train": 51, "val": 11, "test": 31}
        assert {name: array.values.shape for name, array in features.items()} == {
            "text": (2199, 100), "audio": (2199, 73), "visual": (2199, 100)
        }  # fmt: skip


def test_the_table_of_spectrograms_in_seconds_says_so(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "in_seconds", lambda folder, file: None)
    stretched, seconds = tmp_path / "stretched", tmp_path / "seconds"
    stretched.mkdir()
    seconds.mkdir()
    before, after = (
        tomllib.loads(prepare.described("iemocap4", tmp_path, work, seconds=work == seconds).read_text())
        for work in (stretched, seconds)
    )
    was, now = (about["features"].pop("audio") for about in (before, after))
    assert before == after
    assert (was["time_axis"], now["time_axis"], now["lengths"], now["file"]) == (2, 1, "steps", "logmel.npz")
    assert "12.5 steps a second" in now["extractor"] and "lengths" not in was


def test_stretched_spectrograms_come_back_to_seconds(prepare, tmp_path):
    """Against the mean of a spectrogram with 1000 columns per step, for utterances of 0.5, 5.91 and 20 s."""
    seconds, bands, columns, fine = (0.5, 5.91, 20.0), 64, 96, 1000
    level = np.random.default_rng(0).integers(256, size=(3, bands, columns), dtype=np.uint8)
    ids = [f"u{k}" for k in range(3)]
    np.savez(tmp_path / "logmel.npz", utt=np.array(ids), level=level)
    spans = pd.DataFrame(
        {"utt": ids, "start": [3.0, 0.0, 1.0], "end": [3.0 + seconds[0], seconds[1], 1.0 + seconds[2]]}
    )
    spans.to_csv(tmp_path / "utterances.csv", index=False)
    prepare.in_seconds(tmp_path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        values, steps = arrays["level"], arrays["steps"]
    assert list(steps) == [7, 74, 75] and values.shape == (3, 75, bands)
    for k, duration in enumerate(seconds):
        for t in range(steps[k]):
            times = (t + (np.arange(fine) + 0.5) / fine) / 12.5
            seen = (times[times < min(duration, 6.0)] / duration * columns).astype(int)
            np.testing.assert_allclose(values[k, t], level[k][:, seen].mean(axis=1), atol=0.6)
