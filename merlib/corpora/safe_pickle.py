"""A pickle can run any code: this unpickler reads containers, numbers, strings and numpy arrays only."""

import collections
import mmap
import pickle
from pathlib import Path
from typing import NoReturn

import numpy as np

from merlib.corpora import pickle_scan
from merlib.corpora.pickle_arrays import ScanError
from merlib.data.table import CorpusError
from merlib.foreign import content


class UnsafePickle(CorpusError):
    """A pickle that names more than data; no code of it was run."""


def load(path: Path) -> object:
    """The data in a pickle of Python 2 or 3, numpy 1 or 2; UnsafePickle, or CorpusError if missing or damaged.

    Its instructions are looked through first (`pickle_scan`), then carried out.
    """
    try:
        if (kind := content(path)) not in ("", "a pickle"):
            raise CorpusError(f"{path}: damaged, or no pickle: it is {kind}.")
        with Path(path).open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as instructions:
                pickle_scan.scan(instructions, _DataOnly.admitted, _refuse)
            return _DataOnly(file, encoding="latin1").load()
    except UnsafePickle as error:
        raise UnsafePickle(f"{path}: {error}") from None
    except ScanError as error:
        raise UnsafePickle(f"{path}: not carried out: {error}. Get the release again from its authors.") from None
    except CorpusError:
        raise
    except OSError as error:
        raise CorpusError(
            f"{path}: {str(error.strerror or error).rstrip('.')}. Correct the path, or get the release again."
        ) from None
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise CorpusError(f"{path}: damaged, or no pickle ({error!r}). Get the release again.") from error


def _refuse(module: str, name: str) -> NoReturn:
    raise UnsafePickle(
        f"the pickle names {module}.{name}; only containers, numbers, strings and numpy arrays are read. "
        "Do not load it by other means: ask its authors for npz or CSV files, and write a prepared table."
    )


def _bytes(text: str, encoding: str) -> bytes:
    """Replaces `_codecs.encode`, with which old protocols write bytes; it encodes latin1 only."""
    if encoding != "latin1":
        raise UnsafePickle(f"the pickle encodes text as {encoding!r}; only plain bytes (latin1) are admitted.")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], object]:
    """(module, name) -> what a pickle may name; numpy and builtins under their old and new module names."""
    array, scalar = np.empty(0), np.float32(0)
    numpy_helpers = {
        ("multiarray", "_reconstruct"): array.__reduce__()[0],
        ("multiarray", "scalar"): scalar.__reduce__()[0],
        ("numeric", "_frombuffer"): array.__reduce_ex__(5)[0],
    }
    containers = (dict, list, tuple, set, frozenset)
    return {
        **{(f"numpy.{core}.{m}", name): f for core in ("core", "_core") for (m, name), f in numpy_helpers.items()},
        **{("numpy", kind.__name__): kind for kind in (np.ndarray, np.dtype)},
        **{(m, kind.__name__): kind for m in ("builtins", "__builtin__") for kind in containers},
        **{(m, "bytes"): bytes for m in ("builtins", "__builtin__")},  # as old protocols write no bytes
        **{("collections", kind.__name__): kind for kind in (collections.OrderedDict, collections.defaultdict)},
        ("_codecs", "encode"): _bytes,
    }


class _DataOnly(pickle.Unpickler):
    """Finds globals by exact name among the admitted ones; it imports nothing and resolves no dotted names."""

    admitted = _admitted()

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.admitted:
            _refuse(module, name)
        return self.admitted[module, name]
