"""Openly licensed corpora from their publishers: resumable, checked by size and by the publisher's checksum, unpacked.

Only what the licence lets anyone have is here: RAVDESS (CC BY-NC-SA 4.0) and MELD (GPL-3). A download that was
interrupted goes on where it stopped; a file that is complete is not fetched again.
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
SECONDS = 60  # without a byte, after which a server counts as silent


@dataclass(frozen=True)
class Remote:
    """A file of a publisher; size and md5 as the publisher gives them, None where not."""

    name: str
    url: str
    size: int | None = None
    md5: str | None = None


def fetch(corpus: str, folder: Path, *, only: str = "*") -> list[Path]:
    """Fetch a corpus into `folder`: the files whose names match `only`, unpacked; returns the files.

    A file that is unpacked gets a mark beside it, `<file>.unpacked`; delete that one to unpack it again.
    Raises CorpusError where a file cannot be had or is not what its publisher says; then a later call goes on.
    """
    folder, session = Path(folder), _session()
    there = files(corpus, session=session)
    wanted = [f for f in there if fnmatch.fnmatch(f.name, only)]
    if not wanted:
        raise CorpusError(f"{corpus}: no file matches {only!r}; there are {[f.name for f in there]}.")
    folder.mkdir(parents=True, exist_ok=True)
    room(folder, wanted)
    found = [download(remote, folder, session=session) for remote in wanted]
    for file in found:
        mark = file.with_name(f"{file.name}.unpacked")
        if mark.exists() and mark.stat().st_mtime >= file.stat().st_mtime:
            continue
        if unpacked(file, folder):
            mark.touch()
    return found


def files(corpus: str, *, session: requests.Session | None = None, base: str = ZENODO) -> list[Remote]:
    """What the publisher has of a corpus; for RAVDESS, speech only, with the checksums of the record itself."""
    if corpus == "meld":
        tables = [Remote(f"{p}_sent_emo.csv", f"{MELD}{p}_sent_emo.csv") for p in ("train", "dev", "test")]
        return [*tables, Remote("MELD.Raw.tar.gz", MELD_RAW)]
    if corpus != "ravdess":
        raise CorpusError(
            f"{corpus} is not openly licensed; `merlib doctor` says how to get it. Open: {sorted(LICENCES)}."
        )
    try:
        answer = (session or _session()).get(base + RAVDESS, timeout=SECONDS)
        answer.raise_for_status()
        listed = answer.json()["files"]
        found = [Remote(f["key"], f["links"]["self"], f["size"], f["checksum"].removeprefix("md5:")) for f in listed]
    except (requests.RequestException, KeyError, ValueError) as error:
        raise CorpusError(f"{base}{RAVDESS}: no list of files ({error}). Try again later.") from None
    return [f for f in found if "Speech" in f.name]


def download(remote: Remote, folder: Path, *, session: requests.Session | None = None, progress: bool = True) -> Path:
    """One file, complete and checked; what an earlier attempt left is continued where the server can."""
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / Path(remote.name).name, folder / f"{Path(remote.name).name}.part"
    if target.exists() and (remote.size is None or target.stat().st_size == remote.size):
        return target
    try:
        _continue(remote, part, session or _session(), progress)
    except (requests.RequestException, OSError) as error:
        there = part.stat().st_size if part.exists() else 0
        raise CorpusError(f"{remote.url}: {error}. {there} bytes are kept in {part}: call again to go on.") from None
    with part.open("rb") as opened:
        size, md5 = part.stat().st_size, hashlib.file_digest(opened, "md5").hexdigest()
    if remote.size not in (None, size) or remote.md5 not in (None, md5):
        part.unlink()
        raise CorpusError(
            f"{remote.url}: got {size} bytes with md5 {md5}, the publisher says {remote.size} and {remote.md5}. "
            "The file was deleted: fetch it again."
        )
    part.replace(target)
    return target


def _continue(remote: Remote, part: Path, session: requests.Session, progress: bool) -> None:
    """Fetch into `part` what is not there yet."""
    there = part.stat().st_size if part.exists() else 0
    if remote.size is not None and there >= remote.size:
        return
    headers = {"Range": f"bytes={there}-"} if there else {}
    with session.get(remote.url, headers=headers, stream=True, timeout=SECONDS) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it is there, or it has changed: the check will say
        answer.raise_for_status()
        there = there if answer.status_code == requests.codes.partial_content else 0
        length = int(answer.headers.get("Content-Length", 0)) + there or remote.size
        bar = {"initial": there, "total": length, "unit": "B", "unit_scale": True, "disable": not progress}
        with part.open("ab" if there else "wb") as file, tqdm(desc=remote.name, **bar) as shown:
            for block in answer.iter_content(BLOCK):
                file.write(block)
                shown.update(len(block))
    if length and part.stat().st_size < length:
        raise OSError(f"the connection ended after {part.stat().st_size} of {length} bytes")


def unpacked(file: Path, folder: Path) -> bool:
    """Unpack a zip or tar file, and the tar files in it, into `folder`, nothing outside it; False for other files."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)  # drops absolute names and ".."
        elif tarfile.is_tarfile(file):
            with tarfile.open(file) as archive:
                names = [m.name for m in archive.getmembers() if m.name.endswith(".tar.gz")]
                archive.extractall(folder, filter="data")
            for name in names:
                unpacked(folder / name, (folder / name).parent)
                (folder / name).unlink()
        else:
            return False
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CorpusError(f"{file}: cannot be unpacked ({error}). Delete it and fetch it again.") from None
    except OSError as error:
        raise CorpusError(
            f"{file}: cannot be unpacked into {folder} ({error.strerror or error}). Keep the file: make room there, or "
            "put right what the message says, and run again."
        ) from None
    return True


def room(folder: Path, wanted: Sequence[Remote]) -> None:
    """Raise CorpusError where the disk has not room for the files and for what is in them."""
    needed, free = 2 * sum(f.size or 0 for f in wanted), shutil.disk_usage(folder).free
    if needed > free:
        raise CorpusError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free. Take another folder."
        )


def _session() -> requests.Session:
    session = requests.Session()
    again = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    return session
