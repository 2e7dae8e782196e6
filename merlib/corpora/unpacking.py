"""Archives are unpacked whole or not at all, within one folder, and without losing what lies there."""

import filecmp
import gzip
import os
import shutil
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

from merlib.data.table import CorpusError
from merlib.errors import Notice
from merlib.files import atomic
from merlib.foreign import content, read_text

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
INNER = (".tar.gz", ".tgz")  # archives within a release, which are unpacked as well
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
REPLACED = ".replaced"  # the folder of files that were there with other bytes
BLOCK = 1 << 20


def unpack_once(file: Path, folder: Path) -> None:
    """Unpack an archive unless that was done; files that have gone since are restored, which a `Notice` says.

    `<file>.unpacked` lists what was unpacked; without it, everything is unpacked again.
    """
    mark = file.with_name(f"{file.name}.unpacked")
    if mark.exists() and mark.stat().st_mtime >= file.stat().st_mtime:
        listed = dict(line.split(" ", 1)[::-1] for line in read_text(mark).split("\n") if " " in line)
        gone = {name for name in listed if not (folder / name).exists()}
        changed = [n for n, size in listed.items() if n not in gone and f"{(folder / n).stat().st_size}" != size]
        if changed:
            what = (
                f"{len(changed)} files have another size than in it, first {changed[0]}; delete {mark} to restore them"
            )
            warnings.warn(Notice(what, file), stacklevel=2)
        if gone:
            unpack(file, folder, only=gone)
            warnings.warn(Notice(f"{len(gone)} files had gone and are restored, first {min(gone)}", file), stacklevel=2)
    elif names := unpack(file, folder):
        with atomic(mark) as part:
            lines = (f"{(folder / name).stat().st_size} {name}\n" for name in names)
            part.write_text("".join(lines), encoding="utf-8")


def unpack(file: Path, folder: Path, *, only: Collection[str] = ()) -> list[str]:
    """Unpack a zip or tar file, and the tar files in it, into `folder` and nowhere else; returns the files in it.

    only: put in place some of them alone. There are none in a file of another kind. Nothing is put in place before the
    whole archive is read and its checksums agree. A file that is there with other bytes is moved to `.replaced`. Raises
    CorpusError for a damaged archive, which stays.
    """
    if not _is_archive(file):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".{file.name}.unpacking"
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    try:
        _extract(file, work)
        return _put(work, folder, file, only)
    except DAMAGE as error:
        remedy = "Nothing was unpacked, and it is kept: move it away, and fetch it again."
        raise CorpusError(f"{file}: damaged, cannot be unpacked ({error}). {remedy}") from None
    except OSError as error:
        remedy = "Keep the file: make space, or correct what the message names, and run again."
        raise CorpusError(f"{file}: cannot be unpacked into {folder} ({error.strerror or error}). {remedy}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_archive(file: Path) -> bool:
    """Whether a file is a zip or tar archive; CorpusError where only its name says so."""
    if zipfile.is_zipfile(file) or tarfile.is_tarfile(file):
        return True
    if file.name.endswith(ARCHIVES):
        kind = content(file) or "something else"
        what = f"no archive, or a damaged one, though it is named so; by its first bytes it is {kind}"
        raise CorpusError(f"{file}: cannot be unpacked: {what}. It is kept: move it away, and fetch it again.")
    return False


def _extract(file: Path, work: Path) -> None:
    """Everything in an archive, also in the archives in it, into the folder `work`, with all checksums compared."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(work)  # drops absolute names and "..", and compares the checksums
        return
    with tarfile.open(file) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
        _write_members(archive, work)
        while archive.fileobj.read(BLOCK):  # to its end, where the checksum of gzip stands
            pass
    for path in [work / name for name in names if name.endswith(INNER)]:
        if not tarfile.is_tarfile(path):
            raise tarfile.ReadError(f"{path.relative_to(work)} in it is no archive: {content(path) or 'damaged'}")
        _extract(path, path.parent)
        path.unlink()


def _write_members(archive: tarfile.TarFile, work: Path) -> None:
    """The files of a tar archive, a link as a copy of what it names.

    Before Python 3.11.4 `tarfile` has no filters, and might write outside of `work`.
    """
    for member in archive.getmembers():
        if member.isdir():
            continue
        target = work / member.name.lstrip("/")
        if not target.resolve().is_relative_to(work.resolve()):
            raise tarfile.ReadError(f"{member.name} in it lies outside of the folder")
        try:
            source = archive.extractfile(member)
        except (KeyError, RecursionError):  # of a link in circles
            raise tarfile.ReadError(f"{member.name} in it links to what it does not hold") from None
        if source is None:
            raise tarfile.ReadError(f"{member.name} in it is no file")
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK)


def _put(work: Path, folder: Path, file: Path, only: Collection[str]) -> list[str]:
    """Move what was extracted into its place; what is there with other bytes is set aside."""
    names, replaced = [], []
    for path in sorted(p for p in work.rglob("*") if p.is_file()):
        name = path.relative_to(work)
        if only and name.as_posix() not in only:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not filecmp.cmp(path, target, shallow=False):
            aside = folder / REPLACED / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(target, aside)
            replaced.append(name.as_posix())
        os.replace(path, target)
        names.append(name.as_posix())
    if replaced:
        what = (
            f"{len(replaced)} files had other bytes than in it, first {replaced[0]}; those lie in {folder / REPLACED}"
        )
        warnings.warn(Notice(what, file), stacklevel=4)
    return names
