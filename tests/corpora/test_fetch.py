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

from merlib.corpora import fetch, unpacking
from merlib.corpora.fetch import RemoteFile
from merlib.data.table import CorpusError
from merlib.errors import Notice

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
def test_what_is_not_as_the_publisher_says_is_kept_under_another_name(publisher, tmp_path, known):
    for _ in range(2):
        with pytest.raises(CorpusError, match="the publisher says.*is kept as .*a.bin.*fetch it again"):
            download(publisher, tmp_path, **known)
    assert not (tmp_path / "a.bin").exists() and not (tmp_path / "a.bin.part").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin.part.damaged-1", "a.bin.part.damaged-2"]


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
    with pytest.raises(CorpusError, match="openly licensed corpora there are meld, ravdess, and no iemocap6.*doctor"):
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
    assert unpacking.unpack(outer, tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()] == [
        "MELD.Raw/train_splits/dia0_utt0.mp4"
    ]
    with zipfile.ZipFile(tmp_path / "in" / "slip.zip", "w") as archive:
        archive.writestr("../../slipped.txt", "x")
    unpacking.unpack(tmp_path / "in" / "slip.zip", tmp_path / "out")
    assert not list(tmp_path.glob("slipped*")) and not list(tmp_path.parent.glob("slipped*"))
    with tarfile.open(tmp_path / "in" / "slip.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../slipped.txt"), io.BytesIO())
    with pytest.raises(CorpusError, match="cannot be unpacked .../slipped.txt in it lies outside"):
        unpacking.unpack(tmp_path / "in" / "slip.tar", tmp_path / "out")
    assert not list(tmp_path.glob("slipped*"))


def test_links_in_an_archive_are_copies_of_what_they_name_and_never_lead_out_of_it(tmp_path):
    def archive(kind, link):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            entry = tarfile.TarInfo("d/a.txt")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
            entry = tarfile.TarInfo("d/b.txt")
            entry.type, entry.linkname = kind, link
            tar.addfile(entry)
        return tmp_path / "a.tar"

    (tmp_path / "secret").write_text("secret")
    for kind, link in ((tarfile.SYMTYPE, "a.txt"), (tarfile.LNKTYPE, "d/a.txt")):
        assert unpacking.unpack(archive(kind, link), tmp_path / "out") == ["d/a.txt", "d/b.txt"]
        copy = tmp_path / "out" / "d" / "b.txt"
        assert copy.read_text() == "x" and not copy.is_symlink() and copy.stat().st_nlink == 1
    out_of_it = (tarfile.SYMTYPE, str(tmp_path / "secret")), (tarfile.LNKTYPE, "../secret")
    for kind, link in (*out_of_it, (tarfile.SYMTYPE, "b.txt"), (tarfile.FIFOTYPE, "")):
        with pytest.raises(CorpusError, match="d/b.txt in it (links to what it does not hold|is no file)"):
            unpacking.unpack(archive(kind, link), tmp_path / "other")
        assert not list((tmp_path / "other").iterdir())


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


@pytest.mark.parametrize("known", [{}, {"size": None, "md5": None}], ids=["by the publisher", "by its first fetch"])
def test_a_file_that_was_damaged_since_is_kept_aside_and_fetched_again(publisher, tmp_path, known):
    file = download(publisher, tmp_path, **known)
    damaged = BODY[:1000] + b"x" + BODY[1001:]
    file.write_bytes(damaged)
    with pytest.warns(Notice, match="a.bin: md5 .*It is kept as a.bin.damaged-1, and fetched again"):
        assert download(publisher, tmp_path, **known).read_bytes() == BODY
    assert (tmp_path / "a.bin.damaged-1").read_bytes() == damaged


def test_a_server_that_cannot_continue_takes_nothing_away(publisher, tmp_path):
    publisher.ranges, publisher.stops_after = False, 300_000
    with pytest.raises(CorpusError, match="262144 bytes are kept"):
        download(publisher, tmp_path)
    publisher.stops_after = 100_000
    with pytest.raises(CorpusError, match="262144 bytes are kept"):
        download(publisher, tmp_path)
    assert download(publisher, tmp_path).read_bytes() == BODY


def test_a_web_page_in_place_of_a_table_is_no_table(publisher, tmp_path):
    publisher.files["/a.bin"] = b"<!DOCTYPE html><html>Quota exceeded</html>"
    with pytest.raises(CorpusError, match="it is a web page.*kept as"):
        download(publisher, tmp_path, size=None, md5=None)


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


CLIP = bytes(range(256)) * 20
INNER = tarred({"train_splits/dia0_utt0.mp4": CLIP})
DAMAGES = {
    "an inner archive that is none": tarred({"MELD.Raw/train.tar.gz": b"\x1f\x8b" + bytes(50), "MELD.Raw/a.csv": b"a"}),
    "an inner archive that is cut": tarred({"MELD.Raw/train.tar.gz": INNER[: len(INNER) // 2]}),
    "an inner archive with another checksum": tarred({"MELD.Raw/train.tar.gz": INNER[:-8] + b"0000" + INNER[-4:]}),
    "an archive that is cut": tarred({"MELD.Raw/train.tar.gz": INNER, "MELD.Raw/b.csv": CLIP})[:-100],
    "a web page": b"<html>not here</html>",
    "nothing": b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_kept_and_takes_nothing_away(tmp_path, damage):
    archive, there = tmp_path / "MELD.Raw.tar.gz", tmp_path / "MELD.Raw" / "a.csv"
    archive.write_bytes(DAMAGES[damage])
    there.parent.mkdir()
    there.write_bytes(b"what was there")
    with pytest.raises(
        CorpusError, match="MELD.Raw.tar.gz.* cannot be unpacked.*kept: move it away, and fetch it again"
    ):
        unpacking.unpack(archive, tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["MELD.Raw", "MELD.Raw.tar.gz", "a.csv"]
    assert there.read_bytes() == b"what was there" and archive.read_bytes() == DAMAGES[damage]


def test_files_that_have_gone_are_restored_and_files_that_differ_are_kept(tmp_path):
    archive = tmp_path / "MELD.Raw.tar.gz"
    archive.write_bytes(tarred({"MELD.Raw/train.tar.gz": INNER, "MELD.Raw/train_sent_emo.csv": b"a,b\n"}))
    unpacking.unpack_once(archive, tmp_path)
    clip, table = tmp_path / "MELD.Raw/train_splits/dia0_utt0.mp4", tmp_path / "MELD.Raw/train_sent_emo.csv"
    assert clip.read_bytes() == CLIP and not (tmp_path / "MELD.Raw/train.tar.gz").exists()
    clip.unlink()
    table.write_bytes(b"a,b\nedited\n")
    with pytest.warns(Notice) as told:
        unpacking.unpack_once(archive, tmp_path)
    said = " | ".join(str(each.message) for each in told)
    assert "1 files had gone and are restored, first MELD.Raw/train_splits/dia0_utt0.mp4" in said
    assert "1 files have another size than in it, first MELD.Raw/train_sent_emo.csv; delete" in said
    assert clip.read_bytes() == CLIP and table.read_bytes() == b"a,b\nedited\n"
    archive.with_name("MELD.Raw.tar.gz.unpacked").unlink()
    with pytest.warns(
        Notice, match="1 files had other bytes than in it, first MELD.Raw/train_sent_emo.csv; those lie in"
    ):
        unpacking.unpack_once(archive, tmp_path)
    assert table.read_bytes() == b"a,b\n"
    assert (tmp_path / ".replaced/MELD.Raw/train_sent_emo.csv").read_bytes() == b"a,b\nedited\n"
