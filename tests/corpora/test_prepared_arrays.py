"""The feature arrays of a prepared table arrive in its order, and what is wrong with them is named."""

import numpy as np
import pytest
from prepared_lab import ORDER, STORED, VALUES

from merlib.data.table import CorpusError
from merlib.errors import Notice


def test_bytes_become_fractions(lab):
    frames = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    _, features = lab(toml=[('modality = "audio"', 'modality = "audio"\ndivide = 255')], is10=frames)
    np.testing.assert_allclose(features["audio"].values[0], frames[4] / 255, rtol=1e-6)
    assert features["audio"].values.shape == (4, 2, 3)


def test_npy_and_csv_files_serve_as_well(lab):
    expected = lab()[1]["audio"].values
    np.save(lab.folder / "audio.npy", VALUES)
    (lab.folder / "ids.txt").write_text("\n".join(STORED))
    edits = [
        ('file = "audio.npz"', 'file = "audio.npy"'),
        ('ids = "utt"', 'ids = "ids.txt"'),
        ('values = "is10"\n', ""),
    ]
    np.testing.assert_array_equal(lab(toml=edits)[1]["audio"].values, expected)
    shown = VALUES[[1, 0, 3, 2, 4]]  # not in an order, which would make an index of them
    expected = shown[[STORED.index(u) for u in ORDER]]
    rows = "\n".join(f"{u},{a + 0.5},{b + 0.5}" for u, (a, b) in zip(STORED, shown, strict=True))
    (lab.folder / "audio.csv").write_text(f"utt,f0,f1\n{rows}\n")
    edits = [('file = "audio.npz"', 'file = "audio.csv"'), ('values = "is10"\n', "")]
    with pytest.warns(Notice, match="takes 2 columns: f0, f1"):
        np.testing.assert_array_equal(lab(toml=edits)[1]["audio"].values, expected + 0.5)
    edits[1] = ('values = "is10"', 'values = ["f1"]')
    np.testing.assert_array_equal(lab(toml=edits)[1]["audio"].values, expected[:, 1:] + 0.5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"is10": np.where(VALUES == 6, np.nan, VALUES)}, "NaN or infinity in 1 rows, first b2"),
        ({"utt": np.array(["c1", "a1", "a1", "b2", "b1"])}, r"duplicate ids, first \['a1'\]"),
        ({"is10": VALUES[:4]}, r"5 ids for values of shape \(4, 2\)"),
        ({"is10": VALUES[:, 0]}, r"expected numbers of shape \(n, ...\)"),
        ({"is10": VALUES.astype(str)}, "type <U"),
        ({"is10": VALUES.astype(object)}, "cannot read .*allow_pickle"),
    ],
)
def test_what_is_wrong_in_an_array_is_named(lab, arrays, message):
    with pytest.raises(CorpusError, match=message):
        lab(**arrays)


SEQUENCES = np.arange(5 * 3 * 2, dtype=np.float64).reshape(5, 3, 2)  # n t d
IN_TIME = 'modality = "audio"\ntime_axis = 1'
IN_ORDER = [STORED.index(u) for u in ORDER]


def test_sequences_have_time_on_either_axis(lab):
    for axis, values in ((1, SEQUENCES), (2, SEQUENCES.swapaxes(1, 2))):
        _, features = lab(toml=[('modality = "audio"', IN_TIME.replace("1", str(axis)))], is10=values)
        np.testing.assert_array_equal(features["audio"].values, SEQUENCES[IN_ORDER].reshape(12, 2))
        assert features["audio"].lengths.tolist() == [3] * 4 and features["audio"].lengths.dtype == np.int64
        assert features["audio"].values.dtype == np.float32


def test_padding_is_cut_off_by_the_lengths(lab):
    padded, steps = SEQUENCES.copy(), np.array([2, 1, 3, 1, 2])
    for row, n in zip(padded, steps, strict=True):
        row[n:] = np.nan
    toml = [('modality = "audio"', f'{IN_TIME}\nlengths = "steps"')]
    array = lab(toml=toml, is10=padded, steps=steps)[1]["audio"]
    assert array.lengths.tolist() == [2, 1, 3, 2]
    np.testing.assert_array_equal(array.values, np.concatenate([SEQUENCES[i, : steps[i]] for i in IN_ORDER]))
    np.save(lab.folder / "audio.npy", padded)
    (lab.folder / "ids.txt").write_text("\n".join(STORED))
    (lab.folder / "steps.txt").write_text("\n".join(map(str, steps)))
    toml = [
        ('file = "audio.npz"', 'file = "audio.npy"'), ('ids = "utt"', 'ids = "ids.txt"'), ('values = "is10"\n', ""),
        ('modality = "audio"', f'{IN_TIME}\nlengths = "steps.txt"'),
    ]  # fmt: skip
    np.testing.assert_array_equal(lab(toml=toml)[1]["audio"].values, array.values)
    padded[STORED.index("b2"), 0] = np.inf
    with pytest.raises(CorpusError, match="NaN or infinity in 1 rows, first b2"):
        lab(toml=[('modality = "audio"', f'{IN_TIME}\nlengths = "steps"')], is10=padded, steps=steps)


@pytest.mark.parametrize(
    ("new", "arrays", "message"),
    [
        (IN_TIME, {}, r"\(5, 2\).*expected numbers of shape \(n, t, d\)"),
        (IN_TIME.replace("1", "2"), {}, r"expected numbers of shape \(n, d, t\)"),
        (IN_TIME.replace("1", "3"), {}, "time_axis = 3"),
        ('modality = "audio"\nlengths = "steps"', {}, "`lengths` needs it"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES}, "cannot read .*steps is not a file"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES, "steps": np.ones(4, int)}, r"\(4,\).*one integer"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES, "steps": np.ones(5)}, "one integer per id"),
        (
            f'{IN_TIME}\nlengths = "steps"',
            {"is10": SEQUENCES, "steps": np.array([0, 0, 1, 0, 4])},
            "3 lengths are not from 1 to 3, first b1 with 4.*one step of zeros",
        ),
    ],
)
def test_what_is_wrong_with_sequences_is_named(lab, new, arrays, message):
    with pytest.raises(CorpusError, match=message):
        lab(toml=[('modality = "audio"', new)], **arrays)
