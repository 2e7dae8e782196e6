"""Writing files so that a reader sees the old version or the new one, never a part; their hashes; and seals.

A sealed file has its hash beside it, in `<name>.sha256`, with the place where it was written (its folder's name and its
own). `is_as_written` tells a file that was damaged, edited, or brought from another folder. What results/cache holds is
sealed, since the folder of a run is named by all that determines the run; so are the files of records.
"""

import errno
import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, or what this user or process may write


@contextmanager
def atomic(path: Path, *, when_full: type[Exception] | tuple = (), sealed: bool = False) -> Iterator[Path]:
    """A temporary file beside `path`, which replaces it when the block succeeds and is deleted when it fails.

    A process that is killed leaves `path` as it was, and a `.part` file that nothing reads and that the next process
    to write into the folder removes; of two processes that write at the same time, the file of the later one remains.
    when_full: what the writer raises on a full disk, instead of OSError. sealed: also write its hash beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path.parent.resolve())
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    with suppress(OSError):  # where a drive has no locks, orphans stay
        fcntl.flock(handle, fcntl.LOCK_EX)  # until the process ends, however it ends
    part = Path(name)
    try:
        with naming_full_disk(path, when_full):
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.chmod(0o644)
            if sealed:
                _seal(path, part)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def naming_full_disk(path: Path, when_full: type[Exception] | tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What the system says of a full disk names no file: raise an OSError that does. when_full: as of `atomic`."""
    others = when_full if isinstance(when_full, tuple) else (when_full,)
    try:
        yield
    except (OSError, *others) as error:
        if isinstance(error, OSError) and error.errno not in FULL:
            raise
        remedy = "free space and run again; what is done is kept"
        raise OSError(f"{path} could not be written ({error}): {remedy}") from error


@cache
def _remove_orphans(folder: Path) -> None:
    """Remove the `.part` files of processes that are dead, once a process and folder."""
    for part in folder.glob(".*.????????.part"):
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def seal_of(path: Path) -> Path:
    """The file beside `path` that holds its hash, as `sha256sum` writes it, and as a comment that of the file before.

    It is written first: a process that is killed between the two leaves a file that one of its lines fits. The file
    before is the one that lies there, if it is as it was written: the seal's first line may be of one that never came.
    """
    return path.with_name(f"{path.name}.sha256")


def _seal(path: Path, part: Path) -> None:
    there = [_line(path, path)] if path.is_file() else []
    before = [f"# {line}" for line in there if line in _lines(seal_of(path))]
    with atomic(seal_of(path)) as seal:
        seal.write_text("\n".join([_line(part, path), *before, ""]), encoding="utf-8")


def _line(file: Path, path: Path) -> str:
    return f"{sha256(file)}  {path.absolute().parent.name}/{path.name}"


def _lines(seal: Path) -> list[str]:
    text = seal.read_text("utf-8", errors="replace") if seal.is_file() else ""
    return [line.removeprefix("# ") for line in text.splitlines()]


def is_as_written(path: Path) -> bool | None:
    """Whether a file is the one that was sealed at this place; None where it has no seal, or there is no file."""
    if not (path.is_file() and seal_of(path).is_file()):
        return None
    line = _line(path, path)  # before the seal is read: another process may just now replace both
    return line in _lines(seal_of(path))


def is_sound(path: Path) -> bool:
    """Whether a cached file is there and as it was written; one that is not is set aside, and a line says so."""
    if (as_written := is_as_written(path)) or not os.path.lexists(path):
        return bool(as_written)
    reason = "is not what was written there (damaged, edited, or of another run)"
    if as_written is None:
        reason = f"has no hash {seal_of(path).name} beside it (of an earlier version?)"
    damaged = path.with_name(f"{path.name}.damaged")
    with suppress(FileNotFoundError):  # another process was faster
        os.replace(path, damaged)
        print(f"merlib: {path} {reason}: it is now {damaged.name}, and will be made again", file=sys.stderr)
    return False


def numbered(path: Path) -> Path:
    """The first of `path`-1, `path`-2, ... that is not there."""
    names = (path.with_name(f"{path.name}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def discard(path: Path) -> None:
    """Delete a file and its seal, where they are."""
    for file in (path, seal_of(path)):
        file.unlink(missing_ok=True)


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
