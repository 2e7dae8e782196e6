"""A foreign file is read where it is a file, as the text that it is, and refused by its name where it is neither."""

import codecs
import os
import socket
import warnings
from pathlib import Path

import pytest

from merlib import foreign
from merlib.errors import Notice, RequestError

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
        text = foreign.read_text(tmp_path / "a.txt")
    assert text.replace("\u2028", " ").lstrip("x") == TEXT.replace("\u2028", " ")
    assert [guess in str(each.message) for each in told] == [True] * bool(guess)


def test_lines_end_where_a_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\u2028b\u0085c\x0cd\r\ne\rf\n".encode())
    with pytest.warns(Notice):
        assert foreign.read_text(tmp_path / "a.txt").split("\n") == ["a\u2028b\u2026c\x0cd", "e", "f", ""]


@pytest.mark.parametrize(
    "raw", [b"\x00\x01\x02binary", b"a\0b", "a\u2028".encode("utf-16")[:-1], b"PK\x03\x04" + b"a" * 60]
)
def test_what_is_no_text_is_refused(tmp_path, raw):
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(OSError, match="a.txt") as error:
        foreign.read_text(tmp_path / "a.txt")
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
@pytest.mark.parametrize("read", [foreign.read_text, foreign.read_toml, foreign.read_json, foreign.content])
def test_only_regular_files_are_opened(tmp_path, monkeypatch, kind, read):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=f"a.*{kind}|{kind}.*a"):
        read(made(Path("a"), kind))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (foreign.read_toml, "a = " + "[" * 100_000),
        (foreign.read_toml, "a = " + "9" * 5000),
        (foreign.read_toml, "a = "),
        (foreign.read_json, "[" * 100_000),
        (foreign.read_json, '{"a": ' + "9" * 5000 + "}"),
        (foreign.read_json, "{"),
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
