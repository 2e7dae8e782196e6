"""A lab's folder with a prepared table and one feature, for the tests of `prepared` and its parts."""

import numpy as np
import pytest
from prepared_lab import CSV, STORED, TOML, VALUES

from merlib.corpora import prepared


@pytest.fixture
def lab(tmp_path):
    """A lab's folder, and a way to read it after edits of the TOML file and the CSV file."""

    def read(toml=(), csv=(), **arrays):
        changed = [TOML, CSV]
        for k, edits in enumerate((toml, csv)):
            for old, new in edits:
                assert old in changed[k]
                changed[k] = changed[k].replace(old, new)
        (tmp_path / "lab.toml").write_text(changed[0], encoding="utf-8")
        (tmp_path / "utterances.csv").write_text(changed[1], encoding="utf-8")
        np.savez(tmp_path / "audio.npz", **({"utt": np.array(STORED), "is10": VALUES} | arrays))
        return prepared.read(tmp_path / "lab.toml")

    read.folder = tmp_path
    return read
