"""Strangers' pickles run nothing, and the public feature releases are read as they were written."""

import collections
import os
import pickle
import re

import numpy as np
import pytest
from releases import dump, items, vectors

from merlib.corpora import pickles
from merlib.data.table import CorpusError
from merlib.twins import dialogues


@pytest.fixture(scope="module")
def small():
    return {name: dialogues.make(name, scale=0.1)[0] for name in dialogues.TWINS}


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def _hostile(marker) -> dict[str, bytes]:
    touch = f"touch {marker}"
    module = Call(__import__, "os")
    chain = Call(getattr, module, "system")
    return {
        "posix.system": pickle.dumps(Call(os.system, touch)),
        "builtins.eval": pickle.dumps(Call(eval, f"open({str(marker)!r}, 'w')")),
        "builtins.getattr": pickle.dumps([1, {"a": (chain,)}], protocol=4),
        "os.system": b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "builtins.exec": b"\x80\x02c__builtin__\nexec\nX\x01\x00\x00\x001\x85R.",
        "numpy.testing._private": b"\x80\x04\x8c\x05numpy\x8c\x16testing._private.utils\x93.",
        "collections.OrderedDict.fromkeys": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        "copyreg._reconstructor": pickle.dumps(Plain(), protocol=0),
        "numpy.load": pickle.dumps(np.array([Call(np.load, "x")], dtype=object)),
        "'zip'": pickle.dumps(Call(__import__("_codecs").encode, "a", "zip")),
    }


class Plain:
    pass


HOSTILE = list(_hostile("marker"))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path, what):
    marker, path = tmp_path / "marker", tmp_path / "features.pkl"
    path.write_bytes(_hostile(marker)[what])
    with pytest.raises(pickles.UnsafePickle, match=f"{re.escape(str(path))}.*{re.escape(what.split('.')[-1])}"):
        pickles.load(path)
    assert not marker.exists() and issubclass(pickles.UnsafePickle, CorpusError), "one plain message"


def test_the_hostile_pickles_are_hostile(tmp_path):
    for what in ("posix.system", "builtins.eval", "os.system"):
        pickle.loads(_hostile(tmp_path / what)[what])
        assert (tmp_path / what).exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])  # numpy 2 and numpy 1
def test_plain_data_is_read_from_every_protocol_and_numpy(tmp_path, protocol, core):
    data = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "objects": np.array([b"\xff\x00", [1, None]], dtype=object),
        "kinds": (1, 2.5, True, "caf\u00e9", b"\x80", {1, 2}, frozenset("a")),
        "dicts": [collections.OrderedDict(a=1), collections.defaultdict(list, {3: [4]})],
    }
    (tmp_path / "data.pkl").write_bytes(_renamed(pickle.dumps(data, protocol=protocol), core))
    found = pickles.load(tmp_path / "data.pkl")
    for key in ("array", "fortran", "big", "scalar", "objects"):
        np.testing.assert_array_equal(found[key], data[key])
        assert np.asarray(found[key]).dtype.newbyteorder("=") == np.asarray(data[key]).dtype.newbyteorder("=")
    assert (found["kinds"], found["dicts"]) == (data["kinds"], data["dicts"])


def _renamed(raw: bytes, core: bytes) -> bytes:
    """The pickle as the numpy whose core module is named `core` would have written it."""
    raw = re.sub(rb"cnumpy\._?core\.(\w+)\n", rb"c" + core + rb".\1\n", raw)  # protocols 0 to 3
    raw = re.sub(rb"\x95.{8}", b"", raw, flags=re.DOTALL, count=1)  # the frame's length, which may be left out
    for end in (b".multiarray", b".numeric"):  # protocols 4 and 5 give a name's length
        for old in (b"numpy._core", b"numpy.core"):
            raw = raw.replace(
                b"\x8c" + bytes([len(old + end)]) + old + end, b"\x8c" + bytes([len(core + end)]) + core + end
            )
    return raw


def test_a_pickle_of_python_2_is_read(tmp_path):
    data = np.array([1.5, -2.0], dtype="<f4").tobytes()
    raw = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05R"
        b"q\x06(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02f4q\tK\x00K\x01\x87q\nRq\x0b(K\x03U\x01<q\x0cNNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x08" + data + b"q\x0etq\x0fb"
        b"c__builtin__\nset\n]U\x05caf\xe9!a\x85R\x86."
    )
    (tmp_path / "two.pkl").write_bytes(raw)
    array, names = pickles.load(tmp_path / "two.pkl")
    np.testing.assert_array_equal(array, np.array([1.5, -2.0], dtype=np.float32))
    assert names == {"caf\u00e9!"}


@pytest.mark.parametrize("raw", [b"", b"\x80\x04", b"not a pickle", pickle.dumps({"a": np.ones(9)})[:-9]])
def test_a_damaged_pickle_is_called_so(tmp_path, raw):
    (tmp_path / "features.pkl").write_bytes(raw)
    with pytest.raises(CorpusError, match="features.pkl: damaged"):
        pickles.load(tmp_path / "features.pkl")


# --- the releases


@pytest.mark.parametrize(("name", "visual"), [("iemocap6", True), ("meld", True), ("meld", False)])
@pytest.mark.parametrize("protocol", [2, 5])
def test_conv_emotion_releases_are_read(small, tmp_path, name, visual, protocol):
    corpus = small[name]
    found, arrays = pickles.conv_emotion(dump(tmp_path / "features.pkl", items(corpus, visual=visual), protocol))
    assert set(arrays) == ({"text", "audio", "visual"} if visual else {"text", "audio"})
    order = _same_utterances(found, corpus)
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
    found, arrays = pickles.multiemo(tmp_path)
    order = _same_utterances(found, corpus)
    for modality, array in arrays.items():
        np.testing.assert_array_equal(array.values, vectors(corpus, modality)[order])
    assert arrays["text"].trained_on == "labels of this corpus"


def _same_utterances(found, corpus) -> np.ndarray:
    """Rows of `corpus` in the order of `found`, by text and dialogue; labels and test dialogues agree."""
    of = {key: i for i, key in enumerate(zip(corpus.table["dialogue"], corpus.table["turn"], strict=True))}
    order = np.array([of[key] for key in zip(found.table["dialogue"], found.table["turn"], strict=True)])
    theirs = corpus.table.iloc[order]
    assert sorted(order) == list(range(len(corpus.table)))
    for column in ("label", "text"):
        assert list(found.table[column]) == list(theirs[column])
    assert ((found.table["split"] == "test").to_numpy() == (theirs["split"] == "test").to_numpy()).all()
    return order


def test_a_release_in_another_layout_is_refused(small, tmp_path):
    path = tmp_path / "features.pkl"
    good = list(items(small["iemocap6"]))
    dialogue = next(iter(good[3]))
    narrow = {**good[3], dialogue: [v[:2] for v in good[3][dialogue]]}
    short = {**good[3], dialogue: good[3][dialogue][1:]}
    for bad, message in (
        ([1, 2, 3], "found a list of 3 items; expected one of these layouts"),
        (tuple(good[:8]), "found a tuple of 8 items"),
        ((*good[:3], narrow, *good[4:]), "text has no vector of one width for every turn"),
        ((*good[:3], short, *good[4:]), "text has no vector of one width for every turn"),
        ((*good[:2], {d: [0] for d in good[2]}, *good[3:]), "found 0 label items with classes 0 to 5"),
        ((*good[:8], good[8][1:]), "1 dialogues are test for it or for us only"),
    ):
        with pytest.raises(CorpusError, match=message):
            pickles.conv_emotion(dump(path, bad))
