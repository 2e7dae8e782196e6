"""The openly licensed corpora, from their publishers: RAVDESS (CC BY-NC-SA 4.0) and MELD (GPL-3).

An interrupted download is continued by the next call; a complete file is not fetched again.
"""

import fnmatch
from pathlib import Path

import requests

from merlib.corpora.downloads import TIMEOUT, RemoteFile, download, http_session, require_space, unpack
from merlib.data.table import CorpusError

ZENODO = "https://zenodo.org/api/records/"
RAVDESS = "1188976"
MELD = "https://raw.githubusercontent.com/declare-lab/MELD/master/data/MELD/"
MELD_RAW = "https://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz"
LICENCES = {"ravdess": "CC BY-NC-SA 4.0: not for commercial use", "meld": "GPL-3"}


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
        if mark.exists() and mark.stat().st_mtime >= file.stat().st_mtime:
            continue
        if unpack(file, folder):
            mark.touch()
    return paths


def files(corpus: str, *, session: requests.Session, base: str = ZENODO) -> list[RemoteFile]:
    """The files that the publisher has of a corpus; for RAVDESS, speech only, with the checksums of the record."""
    if corpus == "meld":
        tables = [RemoteFile(f"{p}_sent_emo.csv", f"{MELD}{p}_sent_emo.csv") for p in ("train", "dev", "test")]
        return [*tables, RemoteFile("MELD.Raw.tar.gz", MELD_RAW)]
    if corpus != "ravdess":
        raise CorpusError(
            f"{corpus} is not openly licensed; `merlib doctor` says how to get it. Open: {sorted(LICENCES)}."
        )
    try:
        response = session.get(base + RAVDESS, timeout=TIMEOUT)
        response.raise_for_status()
        record = [
            RemoteFile(f["key"], f["links"]["self"], f["size"], f["checksum"].removeprefix("md5:"))
            for f in response.json()["files"]
        ]
    except (requests.RequestException, KeyError, ValueError) as error:
        raise CorpusError(f"{base}{RAVDESS}: no list of files ({error}). Try again later.") from None
    return [f for f in record if "Speech" in f.name]
