"""The public feature releases are read as they were written, and another layout is refused."""

import warnings

import numpy as np
import pytest
from releases import dump, items, vectors

from merlib.corpora import pickles
from merlib.data.table import CorpusError


@pytest.mark.parametrize(("name", "visual"), [("iemocap6", True), ("meld", True), ("meld", False)])
@pytest.mark.parametrize("protocol", [2, 5])
def test_conv_emotion_releases_are_read(small, tmp_path, name, visual, protocol):
    corpus = small[name]
    read, arrays = pickles.conv_emotion(dump(tmp_path / "features.pkl", items(corpus, visual=visual), protocol))
    assert set(arrays) == ({"text", "audio", "visual"} if visual else {"text", "audio"})
    order = _same_utterances(read, corpus)
    for modality, array in arrays.items():
        np.testing.assert_array_equal(array.values, vectors(corpus, modality)[order])
        assert array.modality == modality and array.trained_on and array.version.startswith("features.pkl, sha256 ")


@pytest.mark.parametrize("name", ["iemocap6", "meld"])
def test_multiemo_folders_are_read(small, tmp_path, name):
    corpus = small[name]
    all_items = items(corpus)
    dump(tmp_path / "Speakers.pkl", (*all_items[:3], None, None, None, *all_items[6:]))
    for k, file in enumerate(("Text", "Audio", "Visual")):
        dump(tmp_path / f"{file}Features.pkl", all_items[3 + k], 4)
    read, arrays = pickles.multiemo(tmp_path)
    order = _same_utterances(read, corpus)
    for modality, array in arrays.items():
        np.testing.assert_array_equal(array.values, vectors(corpus, modality)[order])
    assert arrays["text"].trained_on == "labels of this corpus"


def _same_utterances(read, corpus) -> np.ndarray:
    """Rows of `corpus` in the order of `read`, by text and dialogue; labels and test dialogues agree."""
    of = {key: i for i, key in enumerate(zip(corpus.table["dialogue"], corpus.table["turn"], strict=True))}
    order = np.array([of[key] for key in zip(read.table["dialogue"], read.table["turn"], strict=True)])
    theirs = corpus.table.iloc[order]
    assert sorted(order) == list(range(len(corpus.table)))
    for column in ("label", "text"):
        assert list(read.table[column]) == list(theirs[column])
    assert ((read.table["split"] == "test").to_numpy() == (theirs["split"] == "test").to_numpy()).all()
    return order


def test_a_release_in_another_layout_is_refused(small, tmp_path):
    path = tmp_path / "features.pkl"
    good = list(items(small["iemocap6"]))
    dialogue = next(iter(good[3]))
    narrow = {**good[3], dialogue: [v[:2] for v in good[3][dialogue]]}
    short = {**good[3], dialogue: good[3][dialogue][1:]}
    long = {**good[3], dialogue: good[3][dialogue] + good[3][dialogue][:1]}
    damaged = {**good[3], dialogue: [good[3][dialogue][0], good[3][dialogue][1] * np.nan, *good[3][dialogue][2:]]}
    for bad, message in (
        ([1, 2, 3], "found a list of 3 items; expected one of these layouts"),
        (tuple(good[:8]), "found a tuple of 8 items"),
        ((*good[:3], narrow, *good[4:]), "text has no vector of one width for every turn"),
        ((*good[:3], short, *good[4:]), "text has no vector of one width for every turn"),
        ((*good[:3], long, *good[4:]), f"text has more vectors than labels in 1 dialogues, first {dialogue}"),
        ((*good[:3], damaged, *good[4:]), f"text has NaN or infinity in 1 utterances, first turn 1 of {dialogue}"),
        ((*good[:2], {d: [0] for d in good[2]}, *good[3:]), "found 0 label items with classes 0 to 5"),
        ((*good[:8], good[8][1:]), "1 dialogues are test in it or in our split only"),
    ):
        with pytest.raises(CorpusError, match=message):
            pickles.conv_emotion(dump(path, bad))


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("don\u2019t".encode().decode("latin-1"), "don\u2019t"),  # UTF-8 of Python 2, as its unpickler gives it
        ("it\x92s caf\xe9", "it\u2019s caf\u00e9"),  # cp1252 of Python 2
        (b"it\x92s", "it\u2019s"),
        ("caf\u00e9", "caf\u00e9"),
        ("caf\u00e9 \u2019", "caf\u00e9 \u2019"),
    ],
)
def test_texts_of_python_2_and_bytes_are_read_as_they_were_written(small, tmp_path, stored, read):
    good = list(items(small["iemocap6"]))
    dialogue = next(iter(good[6]))
    sentences = {**good[6], dialogue: [stored] * len(good[6][dialogue])}
    path = dump(tmp_path / "features.pkl", (*good[:6], sentences, *good[7:]))
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        table = pickles.conv_emotion(path)[0].table
    assert set(table["text"][table["dialogue"] == dialogue]) == {read}
    changed = isinstance(stored, str) and stored != read
    assert [f"{len(sentences[dialogue])} texts of Python 2" in str(n.message) for n in notices] == [True] * changed
