"""Hostile pickles run nothing, and plain data is read from every protocol."""

import collections
import os
import pickle
import re

import numpy as np
import pytest

from merlib.corpora import safe_pickle
from merlib.data.table import CorpusError


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
    with pytest.raises(safe_pickle.UnsafePickle, match=f"{re.escape(str(path))}.*{re.escape(what.split('.')[-1])}"):
        safe_pickle.load(path)
    assert not marker.exists() and issubclass(safe_pickle.UnsafePickle, CorpusError), "one plain message"


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
    loaded = safe_pickle.load(tmp_path / "data.pkl")
    for key in ("array", "fortran", "big", "scalar", "objects"):
        np.testing.assert_array_equal(loaded[key], data[key])
        assert np.asarray(loaded[key]).dtype.newbyteorder("=") == np.asarray(data[key]).dtype.newbyteorder("=")
    assert (loaded["kinds"], loaded["dicts"]) == (data["kinds"], data["dicts"])


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
    array, names = safe_pickle.load(tmp_path / "two.pkl")
    np.testing.assert_array_equal(array, np.array([1.5, -2.0], dtype=np.float32))
    assert names == {"caf\u00e9!"}


def test_a_pickle_of_python_2_in_text_is_read(tmp_path):
    raw = (
        b"(dp0\nS'caf\\xe9'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\n"
        b"Rp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\n"
        b"bI00\nS'\\x00\\x00\\xc0?\\x00\\x00\\x00\\xc0'\np15\ntp16\nbs."
    )
    (tmp_path / "two.pkl").write_bytes(raw)
    loaded = safe_pickle.load(tmp_path / "two.pkl")
    np.testing.assert_array_equal(loaded["caf\u00e9"], np.array([1.5, -2.0], dtype=np.float32))


@pytest.mark.parametrize("raw", [b"", b"\x80\x04", b"not a pickle", pickle.dumps({"a": np.ones(9)})[:-9]])
def test_a_damaged_pickle_is_called_so(tmp_path, raw):
    (tmp_path / "features.pkl").write_bytes(raw)
    with pytest.raises(CorpusError, match="features.pkl: damaged"):
        safe_pickle.load(tmp_path / "features.pkl")
