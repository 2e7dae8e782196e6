"""The openly licensed corpora, from their publishers: RAVDESS (CC BY-NC-SA 4.0) and MELD (GPL-3).

An interrupted download is continued by the next call; a complete file is not fetched again. Every file is checked by
its size and by the publisher's checksum; where the publisher has none, by the checksum that it had when it was fetched
(`<file>.md5`). Archives are unpacked within one folder. Nothing that is there is deleted or written over: what is not
as it should be is kept under another name, and fetched again.
"""

import fnmatch
import hashlib
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.util import Retry

from merlib.corpora.unpacking import unpack_once
from merlib.data.table import CorpusError
from merlib.errors import Notice, listed
from merlib.files import atomic, numbered
from merlib.foreign import content

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

    An unpacked file gets a list `<file>.unpacked` beside it; delete that one to unpack the file again.
    Raises CorpusError where a file cannot be fetched or is not what its publisher says; a later call continues.
    """
    folder, session = Path(folder), http_session()
    published = files(corpus, session=session)
    remotes = [f for f in published if fnmatch.fnmatch(f.name, only)]
    if not remotes:
        raise CorpusError(f"{corpus}: no file matches {only!r}; there are {listed([f.name for f in published])}.")
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, remotes)
    with FileLock(folder / ".fetch.lock"):  # of two calls at once, the second finds everything there
        paths = [download(remote, folder, session=session) for remote in remotes]
        for file in paths:
            unpack_once(file, folder)
    return paths


def files(corpus: str, *, session: requests.Session, base: str = ZENODO) -> list[RemoteFile]:
    """The files that the publisher has of a corpus; for RAVDESS, speech only, with the checksums of the record."""
    if corpus == "meld":
        tables = [f"{part}_sent_emo.csv" for part in ("train", "dev", "test")]
        return [*(RemoteFile(name, MELD + name) for name in tables), RemoteFile("MELD.Raw.tar.gz", MELD_RAW)]
    if corpus != "ravdess":
        what = f"of the openly licensed corpora there are {listed(sorted(LICENCES))}, and no {corpus}"
        raise CorpusError(f"{what}: `merlib doctor` says where the others come from.")
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
    if target.exists():
        if not (fault := _fault(remote, target)):
            return target
        what = f"{fault}. It is kept as {_aside(target).name}, and fetched again"
        warnings.warn(Notice(what, target), stacklevel=2)
    try:
        _continue(remote, part, session, progress)
    except (requests.RequestException, OSError) as error:
        remaining = f"{_size(part)} bytes are kept in {part}: call again to continue."
        raise CorpusError(f"{remote.url}: {error}. {remaining}") from None
    if fault := _fault(remote, part):
        raise CorpusError(f"{remote.url}: {fault}. What was got is kept as {_aside(part)}: fetch it again.")
    part.replace(target)
    with atomic(_own_md5(target)) as checksum:
        checksum.write_text(f"{_md5(target)}  {target.name}\n")
    return target


def _fault(remote: RemoteFile, file: Path) -> str:
    """What is wrong with a file that was fetched, now or earlier; "" for nothing."""
    if remote.size not in (None, size := _size(file)):
        return f"{size} bytes, the publisher says {remote.size}"
    if (kind := content(file)).startswith("a web page"):
        return f"it is {kind}"
    own = _own_md5(file).read_text(errors="replace") if _own_md5(file).exists() else ""
    known = remote.md5 or own.partition(" ")[0]
    if known and (md5 := _md5(file)) != known:
        return f"md5 {md5}, {'the publisher says' if remote.md5 else 'when it was fetched it had'} {known}"
    return ""


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()


def _own_md5(file: Path) -> Path:
    """The file with the checksum that a file had when it was fetched."""
    return file.with_name(f"{file.name}.md5")


def _aside(file: Path) -> Path:
    """Rename a file that is not as it should be, to the first name that is free; returns the new path."""
    return file.rename(numbered(file.with_name(f"{file.name}.damaged")))


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _continue(remote: RemoteFile, part: Path, session: requests.Session, progress: bool) -> None:
    """Fetch into `part` the bytes that it does not have yet."""
    offset = _size(part)
    if remote.size is not None and offset >= remote.size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with session.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total.isdigit() and int(total) != offset:
                aside = _aside(part)
                raise OSError(f"the publisher's file has {total} bytes, not {offset}, which are kept as {aside}")
            return  # `part` is complete, or the file has changed, which its checksum shows
        response.raise_for_status()
        start = offset if response.status_code == requests.codes.partial_content else 0
        length = int(response.headers.get("Content-Length", 0)) + start or remote.size
        bar = {"initial": start, "total": length, "unit": "B", "unit_scale": True, "disable": not progress}
        with part.open("ab") as file, tqdm(desc=remote.name, **bar) as shown:
            for block in response.iter_content(BLOCK):
                file.write(block[max(0, offset - start) :])  # a server that cannot continue sends what is there again
                start += len(block)
                shown.update(len(block))
    if length and _size(part) < length:
        raise OSError(f"the connection ended after {_size(part)} of {length} bytes")
