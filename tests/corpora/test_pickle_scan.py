"""A hostile pickle that names nothing but data crashes nothing, fills no memory, and takes no time: it is refused."""

import pickle
import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from merlib.corpora import safe_pickle
from merlib.data.table import CorpusError

ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"  # an empty array, whose state follows
)
FLOATS = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR"
OBJECTS = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
)
LAUGHS = (
    b"]"
    + b"("
    + b"K\x01" * 10
    + b"e"
    + b"".join(b"q" + bytes([i]) + b"](" + (b"h" + bytes([i])) * 10 + b"e" for i in range(12))
)


def state(shape: bytes, dtype: bytes, values: bytes) -> bytes:
    return b"(K\x01(" + shape + b"t" + dtype + b"\x89" + values + b"tb"


HOSTILE = {
    "a slot of four thousand million": b"\x80\x02]r\xff\xff\xff\xfe.",
    "a slot in text": b"]p4000000000\n.",
    "tuples a hundred thousand deep": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "lists a hundred thousand deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "dictionaries with deep keys": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a thousand millions of shared members": b"\x80\x02" + LAUGHS + b".",
    "an array of objects longer than its values": b"\x80\x03"
    + ARRAY
    + state(b"J\x00\x00\x00\x10", OBJECTS, b"](K\x01e")
    + b".",
    "an array longer than its bytes": b"\x80\x03"
    + ARRAY
    + state(b"J\xff\xff\xff\x7f" * 2, FLOATS, b"C\x08" + bytes(8))
    + b".",
    "an array of objects from bytes": b"\x80\x03"
    + ARRAY
    + state(b"K\x08", OBJECTS.replace(b"K?tb", b"K\x00tb"), b"C\x40" + bytes(64))
    + b".",
    "an array that is not empty at first": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7ftX\x01\x00\x00\x00OtR.",
    "an array by its class": b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7fX\x01\x00\x00\x00OtR.",
    "numbers said to be pointers": b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb.",
    "a type of two thousand million bytes": b"\x80\x02cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x0b\x00\x00\x00V2147483647K\x00K\x01tRtR.",
    "one text copied a thousand times": b"\x80\x02X\xff\xff\x0f\x00"
    + b"a" * 0xFFFFF
    + b"q\x00]("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000
    + b"e.",
    "a length beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "a state for a list": b"\x80\x02]K\x01b.",
    "an instruction of classes": b"\x80\x02cbuiltins\nlist\n)\x81.",
    "a persistent name": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a number of five thousand digits": b"I" + b"9" * 5000 + b"\n.",
    "no end": b"\x80\x02]",
    "nothing on the stack": b"\x80\x02a.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_a_child_with_little_memory(tmp_path, exit_status_of, name):
    file = tmp_path / "features.pkl"
    file.write_bytes(HOSTILE[name])

    def load():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), -1))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        with pytest.raises(CorpusError, match="features.pkl: ") as error:
            safe_pickle.load(file)
        assert len(str(error.value)) < 2100 and "\n" not in str(error.value)

    assert exit_status_of(load) == 0


def test_data_that_shares_its_parts_and_holds_texts_and_objects_is_read(tmp_path):
    shared = np.arange(1000.0)
    labels = [f"a sentence of the corpus, number {i % 50}, that is used several times" for i in range(1000)]
    data = {
        "arrays": [shared] * 20,
        "texts": np.array(labels[:50]),
        "bytes": np.array([b"abc", b"d"]),
        "objects": np.array([{"deep": [(1, [2, {"x": (3,)}])]}, None, "x"], dtype=object),
        "labels": labels,
        "nothing": np.zeros((0, 3), np.float32),
        "truth": np.array([True, False]),
        "matrix": np.zeros((2, 3, 4), np.float64),
        "number": np.int64(7),
    }
    for protocol in range(6):
        (tmp_path / "data.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
        loaded = safe_pickle.load(tmp_path / "data.pkl")
        assert loaded["labels"] == labels and loaded["objects"][0] == data["objects"][0] and loaded["number"] == 7
        for name in ("texts", "bytes", "nothing", "truth", "matrix"):
            np.testing.assert_array_equal(loaded[name], data[name])
            assert loaded[name].dtype == data[name].dtype
