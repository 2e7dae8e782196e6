"""The openly licensed corpora, from their publishers: RAVDESS (CC BY-NC-SA 4.0) and MELD (GPL-3).

An interrupted download is continued by the next call; a complete file is not fetched again. Every file is checked by
its size and by the publisher's checksum, where there is one, and unpacked within one folder.
"""

import fnmatch
import gzip
import hashlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.util import Retry

from merlib.data.table import CorpusError

ZENODO = "https://zenodo.org/api/records/"
RAVDESS = "1188976"
MELD = "https://raw.githubusercontent.com/declare-lab/MELD/master/data/MELD/"
MELD_RAW = "https://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz"
LICENCES = {"ravdess": "CC BY-NC-SA 4.0: not for commercial use", "meld": "GPL-3"}
BLOCK = 1 << 16  # bytes that an interruption loses at most
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class RemoteFile:
    """A file of a publisher; size and md5 as the publisher gives them, None where unknown."""

    name: str
    url: str
    size: int | None = None
    md5: str | None = None


def fetch(corpus: str, folder: Path, *, only: str = "*") -> list[Path]:
    """Fetch a corpus into `folder`: the files whose names match `only`, unpacked; returns the files.

    An unpacked file gets an empty file `<file>.unpacked` beside it; delete that one to unpack the file again.
    Raises CorpusError where a file cannot be fetched or is not what its publisher says; a later call continues.
    """
    folder, session = Path(folder), http_session()
    published = files(corpus, session=session)
    remotes = [f for f in published if fnmatch.fnmatch(f.name, only)]
    if not remotes:
        raise CorpusError(f"{corpus}: no file matches {only!r}; there are {[f.name for f in published]}.")
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, remotes)
    paths = [download(remote, folder, session=session) for remote in remotes]
    for file in paths:
        mark = file.with_name(f"{file.name}.unpacked")
        unpacked = mark.exists() and mark.stat().st_mtime >= file.stat().st_mtime
        if not unpacked and unpack(file, folder):
            mark.touch()
    return paths


def files(corpus: str, *, session: requests.Session, base: str = ZENODO) -> list[RemoteFile]:
    """The files that the publisher has of a corpus; for RAVDESS, speech only, with the checksums of the record."""
    if corpus == "meld":
        tables = [f"{part}_sent_emo.csv" for part in ("train", "dev", "test")]
        return [*(RemoteFile(name, MELD + name) for name in tables), RemoteFile("MELD.Raw.tar.gz", MELD_RAW)]
    if corpus != "ravdess":
        raise CorpusError(f"{corpus} is not openly licensed, as {sorted(LICENCES)} are; see `merlib doctor`.")
    try:
        response = session.get(base + RAVDESS, timeout=TIMEOUT)
        response.raise_for_status()
        return [
            RemoteFile(f["key"], f["links"]["self"], f["size"], f["checksum"].removeprefix("md5:"))
            for f in response.json()["files"]
            if "Speech" in f["key"]
        ]
    except (requests.RequestException, KeyError, ValueError) as error:
        raise CorpusError(f"{base}{RAVDESS}: no list of files ({error}). Try again later.") from None


def http_session() -> requests.Session:
    """A session that tries again when a server is busy."""
    session = requests.Session()
    retries = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def require_space(folder: Path, remotes: Sequence[RemoteFile]) -> None:
    """CorpusError where the disk has no space for the files and for their unpacked content."""
    needed, free = (size / 1e9 for size in (2 * sum(f.size or 0 for f in remotes), shutil.disk_usage(folder).free))
    if needed > free:
        raise CorpusError(f"{folder}: {needed:.1f} GB are needed, {free:.1f} GB are free. Take another folder.")


def download(remote: RemoteFile, folder: Path, *, session: requests.Session, progress: bool = True) -> Path:
    """One file, complete and checked; an interrupted download is continued where the server can."""
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / Path(remote.name).name, folder / f"{Path(remote.name).name}.part"
    if target.exists() and remote.size in (None, _size(target)):
        return target
    try:
        _continue(remote, part, session, progress)
    except (requests.RequestException, OSError) as error:
        remaining = f"{_size(part)} bytes are kept in {part}: call again to continue."
        raise CorpusError(f"{remote.url}: {error}. {remaining}") from None
    with part.open("rb") as file:
        size, md5 = _size(part), hashlib.file_digest(file, "md5").hexdigest()
    if remote.size not in (None, size) or remote.md5 not in (None, md5):
        part.unlink()
        raise CorpusError(
            f"{remote.url}: got {size} bytes with md5 {md5}, the publisher says {remote.size} and {remote.md5}. "
            "The file was deleted: fetch it again."
        )
    return part.replace(target)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _continue(remote: RemoteFile, part: Path, session: requests.Session, progress: bool) -> None:
    """Fetch into `part` the bytes that it does not have yet."""
    offset = _size(part)
    if remote.size is not None and offset >= remote.size:
        return
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with session.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # `part` is complete, or the file has changed, which its checksum shows
        response.raise_for_status()
        offset = offset if response.status_code == requests.codes.partial_content else 0
        length = int(response.headers.get("Content-Length", 0)) + offset or remote.size
        bar = {"initial": offset, "total": length, "unit": "B", "unit_scale": True, "disable": not progress}
        with part.open("ab" if offset else "wb") as file, tqdm(desc=remote.name, **bar) as shown:
            for block in response.iter_content(BLOCK):
                file.write(block)
                shown.update(len(block))
    if length and _size(part) < length:
        raise OSError(f"the connection ended after {_size(part)} of {length} bytes")


def unpack(file: Path, folder: Path) -> bool:
    """Unpack a zip or tar file, and the tar files in it, into `folder` and nowhere else; False for other files."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)  # drops absolute names and ".."
        elif tarfile.is_tarfile(file):
            with tarfile.open(file) as archive:
                inner = [folder / m.name for m in archive.getmembers() if m.name.endswith(".tar.gz")]
                archive.extractall(folder, filter="data")
            for path in inner:
                unpack(path, path.parent)
                path.unlink()
        else:
            return False
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CorpusError(f"{file}: cannot be unpacked ({error}). Delete it and fetch it again.") from None
    except OSError as error:
        remedy = "Keep the file: make space, or correct what the message names, and run again."
        raise CorpusError(f"{file}: cannot be unpacked into {folder} ({error.strerror or error}). {remedy}") from None
    return True
