"""Writing files so that a reader sees the old version or the new one, never a part; and their hashes."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path, *, when_full: type[Exception] | tuple = ()) -> Iterator[Path]:
    """A temporary file beside `path`, which replaces it when the block succeeds and is deleted when it fails.

    A process that is killed leaves `path` as it was, and a `.part` file that nothing reads; of two processes that write
    at the same time, the file of the later one remains. when_full: what the writer raises on a full disk, instead of
    OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        os.replace(part, path)
    except when_full as error:
        raise OSError(
            f"{path} could not be written ({error}): free space and run again; what is done is kept"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def sha256(*paths: Path) -> str:
    """Hex digest of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_loaded(path: Path) -> None:
    """Write the files of this package that the process has loaded, one a line: what its work depends on."""
    package = __name__.partition(".")[0]
    modules = (module for name, module in list(sys.modules.items()) if name.partition(".")[0] == package)
    with atomic(path) as part:
        part.write_text("".join(sorted({f"{file}\n" for module in modules if (file := module.__file__)})))
