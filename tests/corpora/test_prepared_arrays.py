"""The feature arrays of a prepared table arrive in its order, and what is wrong with them is named."""

import numpy as np
import pandas as pd
import pytest
from prepared_lab import ORDER, STORED, VALUES

from merlib.corpora import suspicious
from merlib.data.table import CorpusError
from merlib.errors import Notice


def test_bytes_become_fractions(lab):
    frames = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)
    _, features = lab(toml=[('modality = "audio"', 'modality = "audio"\ndivide = 255')], is10=frames)
    np.testing.assert_allclose(features["audio"].values[0], frames[4] / 255, rtol=1e-6)


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
        ({"utt": np.array(["c1", "a1", "a1", "b2", "b1"])}, r"duplicate ids, first a1"),
        ({"is10": VALUES[:4]}, r"5 ids for values of shape \(4, 2\)"),
        ({"is10": VALUES[:, 0]}, r"expected numbers of shape \(n, d\)"),
        ({"is10": VALUES[:, :0]}, r"values of shape \(5, 0\)"),
        ({"is10": np.ones((5, 3, 2))}, r"values of shape \(5, 3, 2\).*of sequences with `time_axis`"),
        ({"is10": VALUES.astype(str)}, "type <U"),
        ({"is10": VALUES.astype(object)}, r"cannot read .*allow_pickle.*\.astype\(float\)"),
        ({"utt": np.array(STORED, object)}, r"cannot read .*allow_pickle.*texts by \.astype\(str\)"),
    ],
)
def test_what_is_wrong_in_an_array_is_named(lab, arrays, message):
    with pytest.raises(CorpusError, match=message):
        lab(**arrays)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([('values = "is10"\n', "")], "values = None; expected the name of an array in audio.npz"),
        ([('values = "is10"', 'values = "IS10"')], r"audio.npz has no IS10; it has utt, is10\. Correct"),
        ([("audio.npz", "lost.npz")], "No such file.*lost.npz"),
        ([("audio.npz", "audio.npy"), ('ids = "utt"', 'ids = "lost.txt"')], "No such file.*lost.txt"),
        (
            [("audio.npz", "audio.npy"), ('ids = "utt"', 'ids = "ids.txt"\ntime_axis = 1\nlengths = "steps.txt"')],
            "steps.txt: '2.0' is no number of steps",
        ),
        ([("audio.npz", "audio.csv"), ('values = "is10"', 'values = ["f0", "f9"]')], "audio.csv has no f9; it has utt"),
        ([("audio.npz", "audio.csv"), ('values = "is10"', "values = []")], r"5 ids for values of shape \(5, 0\)"),
    ],
)
def test_the_file_and_what_it_has_are_named_where_something_is_missing(lab, edits, message):
    lab()
    np.save(lab.folder / "audio.npy", np.ones((5, 3, 2)))
    (lab.folder / "ids.txt").write_text("\n".join(STORED))
    (lab.folder / "steps.txt").write_text("2.0\n" * 5)
    pd.DataFrame({"utt": STORED, "f0": VALUES[:, 0] ** 2 % 7}).to_csv(lab.folder / "audio.csv", index=False)
    with pytest.raises(CorpusError, match=message):
        lab(toml=edits)


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
        (IN_TIME, {"is10": SEQUENCES[:, :0]}, r"values of shape \(5, 0, 2\)"),
        (IN_TIME.replace("1", "3"), {}, "time_axis = 3"),
        ('modality = "audio"\nlengths = "steps"', {}, "`lengths` needs it"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES}, "audio.npz has no steps; it has utt, is10"),
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


def test_only_the_zeros_of_padding_are_asked_for(lab):
    padded = SEQUENCES + 1
    padded[STORED.index("a1"), 2:] = 0
    padded[STORED.index("c1"), :] = 0  # a failed utterance is no padding
    with pytest.raises(
        CorpusError, match='1 of 4 sequences begin or end with steps of zeros, first a1.*padding = "zeros"'
    ):
        lab(toml=[('modality = "audio"', IN_TIME)], is10=padded)
    as_padding = lab(toml=[('modality = "audio"', f'{IN_TIME}\npadding = "zeros"')], is10=padded)[1]["audio"]
    assert as_padding.lengths.tolist() == [3, 3, 2, 1] and len(as_padding.values) == 9
    as_values = lab(toml=[('modality = "audio"', f'{IN_TIME}\npadding = "none"')], is10=padded)[1]["audio"]
    assert as_values.lengths.tolist() == [3, 3, 3, 3]
    padded[STORED.index("a1")] = padded[STORED.index("a1"), ::-1]  # in front, as older copies of MMSA have it
    in_front = lab(toml=[('modality = "audio"', f'{IN_TIME}\npadding = "zeros"')], is10=padded)[1]["audio"]
    np.testing.assert_array_equal(in_front.values, as_padding.values[[*range(6), 7, 6, 8]])
    with pytest.raises(CorpusError, match="padding = 'none'.*not beside `lengths`"):
        lab(toml=[('modality = "audio"', f'{IN_TIME}\npadding = "none"\nlengths = "steps"')], is10=padded)


def test_rows_of_zeros_and_constant_columns_are_counted_in_the_passport(lab):
    values = VALUES.copy()
    values[STORED.index("b1")] = 0
    assert lab(is10=VALUES)[1]["audio"].note == ""
    with pytest.warns(Notice, match=r"\[features.audio\]: 1 of 4 utterances have zeros only"):
        array = lab(is10=values)[1]["audio"]
    assert array.note == "1 of 4 utterances have zeros only"
    constant = np.column_stack([VALUES, np.full(len(VALUES), 7.0)])
    assert lab(is10=constant)[1]["audio"].note == "1 of 3 columns are constant"


@pytest.mark.parametrize("stored", [np.array(STORED, "S9"), np.array([f" {u} " for u in STORED])])
def test_ids_may_be_bytes_or_padded_with_blanks(lab, stored):
    np.testing.assert_array_equal(lab(utt=stored)[1]["audio"].values, lab()[1]["audio"].values)


def test_ids_of_a_text_file_stand_one_a_line(lab):
    np.save(lab.folder / "audio.npy", VALUES)
    (lab.folder / "ids.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(u.replace("b", "b ") for u in STORED).encode())
    edits = [('"audio.npz"', '"audio.npy"'), ('ids = "utt"', 'ids = "ids.txt"'), ('values = "is10"\n', "")]
    with_blanks = [("b2,", "b 2,"), ("b1,", "b 1,")]
    np.testing.assert_array_equal(lab(toml=edits, csv=with_blanks)[1]["audio"].values, lab()[1]["audio"].values)


N = 60
NOISE = np.random.default_rng(0).normal(size=(N, 2)).round(3)
TARGET = np.arange(N) % 3
COLUMNS = {
    "an index": (np.arange(N), "counts the rows"),
    "a falling index": (N - np.arange(N), "counts the rows"),
    "a shuffled index": (np.random.default_rng(1).permutation(N), "counts the rows"),
    "a shuffled index of a part": (np.random.default_rng(1).permutation(3 * N)[:N], "counts the rows"),
    "a constant": (np.full(N, 2.5), "is always 2.5"),
    "the label": (TARGET, "gives the label"),
    "the label by other numbers": (np.array([7, 1, 4])[TARGET], "gives the label"),
    "one class": ((TARGET == 1), "gives the label"),
    "finer classes": (TARGET + 3 * (np.arange(N) // 30), "gives the label"),
    "a class that is noisy": (np.where(np.arange(N) < 5, 9, TARGET), None),
    "a feature": (NOISE[:, 0], None),
    "counts": (np.arange(N) // 7 % 4, None),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_is_likely_no_feature_is_known(name):
    column, reason = COLUMNS[name]
    values = np.column_stack([NOISE, column.astype(float)])
    found = suspicious.columns(values, values, TARGET.astype(float), ["a", "b", name])
    assert found == ({} if reason is None else {name: reason})
    assert suspicious.columns(values, values, TARGET.astype(float), ["a", "b", "Unnamed: 0"])["Unnamed: 0"]
    leaks = suspicious.leaks(values, np.where(TARGET == 2, np.nan, TARGET), ["a", "b", name])
    assert leaks == [name] * (reason == "gives the label")


def test_a_csv_file_with_an_index_or_texts_is_refused_and_columns_that_are_named_are_taken(lab):
    frame = pd.DataFrame({"utt": STORED, "f0": VALUES[::-1, 0] ** 2 % 7, "kind": "wav"})
    frame.to_csv(lab.folder / "audio.csv")
    edits = [('file = "audio.npz"', 'file = "audio.csv"'), ('values = "is10"\n', "")]
    with pytest.raises(CorpusError, match="audio.csv: 1 columns are no numbers, first kind: wav"):
        lab(toml=edits)
    frame.drop(columns="kind").to_csv(lab.folder / "audio.csv")
    with pytest.raises(CorpusError, match="'Unnamed: 0' has no name. Name those wanted in `values`"):
        lab(toml=edits)
    named = [edits[0], ('values = "is10"', 'values = ["f0"]')]
    assert lab(toml=named)[1]["audio"].values.shape == (4, 1)


def test_files_that_are_something_else_are_called_so(lab):
    lab()
    for content, name in (
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<html>", "web page"),
    ):
        for file in ("audio.npy", "audio.csv"):
            (lab.folder / "ids.txt").write_text("\n".join(STORED))
            (lab.folder / file).write_bytes(content)
            ids = "utt" if file == "audio.csv" else "ids.txt"
            edits = [('"audio.npz"', f'"{file}"'), ('ids = "utt"', f'ids = "{ids}"'), ('values = "is10"\n', "")]
            with pytest.raises(CorpusError, match=f"{file}.* is a {name}"):
                lab(toml=edits)


def test_columns_of_an_npz_file_that_are_likely_no_features_are_told(lab):
    with pytest.warns(
        Notice, match=r"\[features.audio\]: 1 columns are likely no features, first 'column 1' counts the rows"
    ):
        lab(is10=np.column_stack([VALUES[:, 0] ** 2 % 7, np.arange(5)]))
