"""Fetching: an interrupted download is continued, damage is refused, nothing is written outside the folder."""

import errno
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from merlib.corpora import fetch
from merlib.corpora.fetch import RemoteFile
from merlib.data.table import CorpusError

BODY = bytes(range(256)) * 4000


class Publisher(BaseHTTPRequestHandler):
    """Serves `server.files`, and ranges of them; closes the connection after `server.stops_after` bytes, once."""

    def do_GET(self):
        body = self.server.files[self.path]
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and self.server.ranges else 0
        self.server.requests.append((self.path, start))
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop, self.server.stops_after = self.server.stops_after, None
        self.wfile.write(body[start : stop and start + stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    server.files, server.requests, server.ranges, server.stops_after = {"/a.bin": BODY}, [], True, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def remote(server, name="a.bin", **known) -> RemoteFile:
    size = {"size": len(BODY), "md5": hashlib.md5(BODY).hexdigest()} | known
    return RemoteFile(name, f"http://127.0.0.1:{server.server_port}/{name}", **size)


def download(server, folder, **known):
    session = fetch.http_session()
    return fetch.download(remote(server, **known), folder, session=session, progress=False)


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on_where_it_stopped(publisher, tmp_path, ranges):
    publisher.stops_after, publisher.ranges = 300_000, ranges
    with pytest.raises(CorpusError, match="262144 bytes are kept.*call again to continue"):
        download(publisher, tmp_path)
    assert (tmp_path / "a.bin.part").stat().st_size == 262_144 == 4 * fetch.BLOCK
    assert not (tmp_path / "a.bin").exists()
    assert download(publisher, tmp_path).read_bytes() == BODY
    assert publisher.requests[-1] == ("/a.bin", 262_144 if ranges else 0)
    n_requests = len(publisher.requests)
    download(publisher, tmp_path)
    assert len(publisher.requests) == n_requests, "what is complete is not fetched again"


@pytest.mark.parametrize("known", [{"md5": "0" * 32}, {"size": len(BODY) + 1}])
def test_what_is_not_as_the_publisher_says_is_deleted(publisher, tmp_path, known):
    with pytest.raises(CorpusError, match="the publisher says.*deleted"):
        download(publisher, tmp_path, **known)
    assert not list(tmp_path.iterdir())


def test_a_record_s_own_list_gives_sizes_and_checksums(publisher, tmp_path):
    names = ("Audio_Speech_Actors_01-24.zip", "Audio_Song_Actors_01-24.zip")
    listed = [{"key": n, "size": 5, "checksum": "md5:abc", "links": {"self": f"http://x/{n}"}} for n in names]
    publisher.files["/" + fetch.RAVDESS] = json.dumps({"files": listed}).encode()
    session, base = fetch.http_session(), f"http://127.0.0.1:{publisher.server_port}/"
    speech = RemoteFile(names[0], f"http://x/{names[0]}", 5, "abc")
    assert fetch.files("ravdess", session=session, base=base) == [speech], "no songs"
    publisher.files["/" + fetch.RAVDESS] = b"<html>"
    with pytest.raises(CorpusError, match="no list of files"):
        fetch.files("ravdess", session=session, base=base)
    with pytest.raises(CorpusError, match="iemocap6 is not openly licensed.*doctor"):
        fetch.files("iemocap6", session=session)


def test_archives_are_unpacked_within_the_folder_only(tmp_path):
    inner, outer = io.BytesIO(), tmp_path / "in" / "outer.tar.gz"
    outer.parent.mkdir()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        entry = tarfile.TarInfo("train_splits/dia0_utt0.mp4")
        tar.addfile(entry, io.BytesIO())
    with tarfile.open(outer, "w:gz") as tar:
        entry = tarfile.TarInfo("MELD.Raw/train.tar.gz")
        entry.size = len(inner.getvalue())
        tar.addfile(entry, io.BytesIO(inner.getvalue()))
    fetch.unpack(outer, tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()] == [
        "MELD.Raw/train_splits/dia0_utt0.mp4"
    ]
    with zipfile.ZipFile(tmp_path / "in" / "slip.zip", "w") as archive:
        archive.writestr("../../slipped.txt", "x")
    fetch.unpack(tmp_path / "in" / "slip.zip", tmp_path / "out")
    assert not list(tmp_path.glob("slipped*")) and not list(tmp_path.parent.glob("slipped*"))
    with tarfile.open(tmp_path / "in" / "slip.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../slipped.txt"), io.BytesIO())
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        fetch.unpack(tmp_path / "in" / "slip.tar", tmp_path / "out")


def test_what_is_unpacked_is_not_unpacked_again(tmp_path, publisher, monkeypatch):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "a")
    publisher.files["/a.zip"] = zipped.getvalue()
    listed = [remote(publisher, "a.zip", size=None, md5=None)]
    monkeypatch.setattr(fetch, "files", lambda *_, **__: listed)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", _full)
        with pytest.raises(CorpusError, match="No space left on device.*Keep the file: make space"):
            fetch.fetch("ravdess", tmp_path)
    fetch.fetch("ravdess", tmp_path)
    (tmp_path / "a.txt").write_text("changed")
    fetch.fetch("ravdess", tmp_path)
    assert (tmp_path / "a.txt").read_text() == "changed"
    (tmp_path / "a.zip.unpacked").unlink()
    fetch.fetch("ravdess", tmp_path)
    assert (tmp_path / "a.txt").read_text() == "a"


def _full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_reported_before_anything_is_fetched(tmp_path, monkeypatch):
    with pytest.raises(CorpusError, match="GB are needed"):
        fetch.require_space(tmp_path, [RemoteFile("big", "http://x", size=1 << 60)])
