"""A hostile pickle that names nothing but data crashes nothing, fills no memory, and takes no time: it is refused."""

import pickle
import resource
import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from merlib.corpora import safe_pickle
from merlib.data.table import CorpusError

HUGE = b"J\xff\xff\xff\x7f"
NO_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
ARRAY = NO_ARRAY + b"K\x00tC\x01btR"  # an empty array, whose state follows
TEXTS = b"cnumpy\ndtype\n(X\x02\x00\x00\x00S1\x89\x88tRq\x05"  # a type without its state, in slot 5
COLLIDING = b"".join(b"\x8a\x0a" + (((1 << 61) - 1) * k).to_bytes(10, "little") for k in range(40_000))  # hash 0
KEYS = [b"(J" + b"J".join(struct.pack("<i", i) for i in key) + b"t" for key in product((-1, -2), repeat=10)]  # one hash
ROUNDS = b"".join(b"q" + bytes([i]) + b"](" + (b"h" + bytes([i])) * 10 + b"e" for i in range(12))
LAUGHS = b"](" + b"K\x01" * 10 + b"e" + ROUNDS


def dtype(code: bytes, flags: bytes = b"") -> bytes:
    """A type of numbers; with `flags`, also its state."""
    made = b"cnumpy\ndtype\n(X" + bytes([len(code), 0, 0, 0]) + code + b"K\x00K\x01tR"
    state = b"(K\x03X\x01\x00\x00\x00<NNN" + b"J\xff\xff\xff\xff" * 2 + b"K" + flags + b"tb"
    return made + (state if flags else b"")


def width(width: int) -> bytes:
    """The state of a type of texts."""
    return b"(K\x03X\x01\x00\x00\x00|NNNJ" + struct.pack("<i", width) + b"K\x01K\x00tb"


def state(shape: bytes, of: bytes, values: bytes) -> bytes:
    return b"(K\x01(" + shape + b"t" + of + b"\x89" + values + b"tb."


FULL_ARRAY = b"\x80\x03(" + TEXTS + ARRAY + state(b"K\x64", b"h\x05", b"C\x64" + b"A" * 100)[:-1]
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n(C\x64" + b"A" * 100 + b"h\x05(K\x64tX\x01\x00\x00\x00CtR"
GROWN = b"h\x05" + width(100_000) + b"l."  # the state of the type in slot 5

HOSTILE = {
    "a slot of four thousand million": b"\x80\x02]r\xff\xff\xff\xfe.",
    "a slot in text": b"]p4000000000\n.",
    "tuples a hundred thousand deep": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "lists a hundred thousand deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "dictionaries with deep keys": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a thousand millions of shared members": b"\x80\x02(" + LAUGHS + b"l.",
    "an array of objects longer than its values": b"\x80\x03" + ARRAY + state(HUGE, dtype(b"O8", b"?"), b"](K\x01e"),
    "an array longer than its bytes": b"\x80\x03" + ARRAY + state(HUGE * 2, dtype(b"f8"), b"C\x08" + bytes(8)),
    "an array of objects from bytes": b"\x80\x03" + ARRAY + state(b"K\x08", dtype(b"O8", b"\0"), b"C\x40" + bytes(64)),
    "an array that is not empty at first": b"\x80\x02" + NO_ARRAY + HUGE + b"tX\x01\x00\x00\x00OtR.",
    "an array by its class": b"\x80\x02cnumpy\nndarray\n(" + HUGE + b"X\x01\x00\x00\x00OtR.",
    "numbers said to be pointers": b"\x80\x02" + dtype(b"f8", b"?") + b".",
    "a type of gigabytes": b"\x80\x02cnumpy.core.multiarray\nscalar\n(" + dtype(b"V2147483647") + b"tR.",
    "one text copied a thousand times": b"\x80\x02(X\xff\xff\x0f\x00"
    + b"a" * 0xFFFFF
    + b"q\x00]("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000
    + b"el.",
    "a length beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "a state for a list": b"\x80\x02]K\x01b.",
    "an instruction of classes": b"\x80\x02cbuiltins\nlist\n)\x81.",
    "a persistent name": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a number of five thousand digits": b"I" + b"9" * 5000 + b"\n.",
    "a type that grows after its array was made": FULL_ARRAY.replace(b"q\x05", b"q\x05" + width(1)) + GROWN,
    "a type that gets its first state after its array": FULL_ARRAY + GROWN,
    "a type that grows after its buffer was read": b"\x80\x03(" + TEXTS + BUFFER + GROWN,
    "a type that is doubled and grows": b"\x80\x03(" + TEXTS + b"2" + width(100_000) + b"l.",
    "texts of a negative width": b"\x80\x03" + TEXTS + width(-5) + b".",
    "a set of integers with one hash": b"\x80\x04\x8f(" + COLLIDING + b"\x90.",
    "a set of tuples with one hash": b"\x80\x04\x8f(" + b"".join(KEYS) + b"\x90.",
    "a set of Python 2": b"\x80\x02c__builtin__\nset\n](" + b"".join(KEYS) + b"e\x85R.",
    "a set that is dropped": b"\x80\x04\x8f(" + b"".join(KEYS) + b"\x900].",
    "a dictionary": b"\x80\x02}(" + b"N".join(KEYS) + b"Nu.",
    "a dictionary of pairs": b"\x80\x02ccollections\nOrderedDict\n]("
    + b"".join(b"](" + key + b"Ne" for key in KEYS)
    + b"e\x85R.",
    "a set of an array": b"\x80\x03cbuiltins\nset\n"
    + ARRAY
    + state(b"K\x00", dtype(b"f8", b"\0"), b"C\0")[:-1]
    + b"\x85R.",
    "a name two hundred thousand deep": b"\x80\x04)" + b"\x85" * 200_000 + b"\x8c\x01a\x93.",
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
        "keys": {key for i in range(300) for key in (i, np.int64(-i), np.float32(i / 2), np.str_(i), (f"dia{i}", i))},
        "named": {f"{i}".encode(): i for i in range(300)},
    }
    for protocol in range(6):
        (tmp_path / "data.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
        loaded = safe_pickle.load(tmp_path / "data.pkl")
        assert loaded["labels"] == labels and loaded["objects"][0] == data["objects"][0] and loaded["number"] == 7
        assert (loaded["keys"], loaded["named"]) == (data["keys"], data["named"])
        for name in ("texts", "bytes", "nothing", "truth", "matrix"):
            np.testing.assert_array_equal(loaded[name], data[name])
            assert loaded[name].dtype == data[name].dtype
