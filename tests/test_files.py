"""A file that is written is the old one or the new one, never half of either; one that is read is a file, and text."""

import codecs
import os
import signal
import socket
import warnings
from pathlib import Path

import pytest

from merlib import files
from merlib.errors import Notice, RequestError
from merlib.files import atomic


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path, exit_status_of):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with atomic(path) as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert exit_status_of(write) == -signal.SIGKILL
    assert path.read_text() == "old"
    with atomic(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


TEXT = "caf\u00e9, it\u2019s \u2026 \u201cfine\u201d\u2028one line\n"


@pytest.mark.parametrize(
    ("raw", "guess"),
    [
        (TEXT.encode(), ""),
        (TEXT.encode("utf-8-sig"), ""),
        (TEXT.encode("utf-16"), ""),
        (TEXT.encode("utf-32"), ""),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), ""),
        (("x" * 99 + TEXT).encode("utf-16-le"), "no byte order mark; read as UTF-16-LE"),
        (("x" * 99 + TEXT).encode("utf-16-be"), "no byte order mark; read as UTF-16-BE"),
        (TEXT.replace("\u2028", " ").encode("cp1252"), "not all UTF-8; the rest was read as cp1252"),
        (TEXT[:5].encode() + TEXT[5:].replace("\u2028", " ").encode("cp1252"), "not all UTF-8"),
        (TEXT.replace("\u2019", "\x92").replace("\u2026", "\x85").encode(), "control characters 80 to 9F"),
    ],
)
def test_one_decoder_reads_every_encoding_and_says_where_it_had_to_guess(tmp_path, raw, guess):
    (tmp_path / "a.txt").write_bytes(raw)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        text = files.read_text(tmp_path / "a.txt")
    assert text.replace("\u2028", " ").lstrip("x") == TEXT.replace("\u2028", " ")
    assert [guess in str(each.message) for each in told] == [True] * bool(guess)


def test_lines_end_where_a_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\u2028b\u0085c\x0cd\r\ne\rf\n".encode())
    with pytest.warns(Notice):
        assert files.read_text(tmp_path / "a.txt").split("\n") == ["a\u2028b\u2026c\x0cd", "e", "f", ""]


@pytest.mark.parametrize(
    "raw", [b"\x00\x01\x02binary", b"a\0b", "a\u2028".encode("utf-16")[:-1], b"PK\x03\x04" + b"a" * 60]
)
def test_what_is_no_text_is_refused(tmp_path, raw):
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(OSError, match="a.txt") as error:
        files.read_text(tmp_path / "a.txt")
    assert "\n" not in str(error.value)


def made(path, kind):
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))
    elif kind == "levels of symbolic links":
        path.symlink_to(path)
    elif kind == "it holds a zero byte":
        return f"{path}\0"
    elif kind == "name too long":
        return path.with_name("a" * 300)
    return path


KINDS = [
    "a named pipe",
    "a device",
    "a folder",
    "a socket",
    "levels of symbolic links",
    "it holds a zero byte",
    "name too long",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [files.read_text, files.read_toml, files.read_json, files.content])
def test_only_regular_files_are_opened(tmp_path, monkeypatch, kind, read):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=f"a.*{kind}|{kind}.*a"):
        read(made(Path("a"), kind))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (files.read_toml, "a = " + "[" * 100_000),
        (files.read_toml, "a = " + "9" * 5000),
        (files.read_toml, "a = "),
        (files.read_json, "[" * 100_000),
        (files.read_json, '{"a": ' + "9" * 5000 + "}"),
        (files.read_json, "{"),
    ],
)
def test_deep_nesting_and_long_numbers_are_errors_of_the_file(tmp_path, read, text):
    (tmp_path / "a").write_text(text)
    with pytest.raises(ValueError, match=f"{tmp_path}/a: .") as error:
        read(tmp_path / "a")
    assert len(str(error.value)) < 500


def test_long_messages_are_cut_in_the_middle():
    message = str(RequestError(f"begin {'x' * 156_000}\n  remedy"))
    assert len(message) < 2100 and message.startswith("begin") and message.endswith("x remedy")
    assert "characters left out" in message
    assert str(RequestError("short\n message")) == "short message"
