"""Files from the web: resumable, checked by size and by the publisher's checksum, unpacked within one folder."""

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

BLOCK = 1 << 16  # bytes that an interruption loses at most
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class RemoteFile:
    """A file of a publisher; size and md5 as the publisher gives them, None where unknown."""

    name: str
    url: str
    size: int | None = None
    md5: str | None = None


def http_session() -> requests.Session:
    """A session that tries again when a server is busy."""
    session = requests.Session()
    retries = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def require_space(folder: Path, remotes: Sequence[RemoteFile]) -> None:
    """CorpusError where the disk has no space for the files and for their unpacked content."""
    needed, free = 2 * sum(f.size or 0 for f in remotes), shutil.disk_usage(folder).free
    if needed > free:
        raise CorpusError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free. Take another folder."
        )


def download(remote: RemoteFile, folder: Path, *, session: requests.Session, progress: bool = True) -> Path:
    """One file, complete and checked; an interrupted download is continued where the server can."""
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / Path(remote.name).name, folder / f"{Path(remote.name).name}.part"
    if target.exists() and (remote.size is None or target.stat().st_size == remote.size):
        return target
    try:
        _continue(remote, part, session, progress)
    except (requests.RequestException, OSError) as error:
        raise CorpusError(
            f"{remote.url}: {error}. {_size(part)} bytes are kept in {part}: call again to continue."
        ) from None
    with part.open("rb") as file:
        size, md5 = _size(part), hashlib.file_digest(file, "md5").hexdigest()
    if remote.size not in (None, size) or remote.md5 not in (None, md5):
        part.unlink()
        raise CorpusError(
            f"{remote.url}: got {size} bytes with md5 {md5}, the publisher says {remote.size} and {remote.md5}. "
            "The file was deleted: fetch it again."
        )
    part.replace(target)
    return target


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
        raise CorpusError(
            f"{file}: cannot be unpacked into {folder} ({error.strerror or error}). Keep the file: make space, or "
            "correct what the message names, and run again."
        ) from None
    return True
