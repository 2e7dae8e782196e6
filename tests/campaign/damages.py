"""Ways in which a file comes to harm: each takes the path of a file, changes what lies there, and says how."""

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

PAGE = b"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head><body>Too many users.</body></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
NUMBER = re.compile(rb"-?\d+(\.\d+)?")
WRONG_NUMBERS = (b"nan", b"inf", b"-1", b"0", b"1e999", b"9" * 5000, b"1,5", b"", b"x", b"99999")

Damage = Callable[[Path, random.Random], None]


def _rewritten(change: Callable[[bytes, random.Random], bytes]) -> Damage:
    def damage(path: Path, draw: random.Random) -> None:
        path.write_bytes(change(path.read_bytes(), draw))

    return damage


def _place(data: bytes, draw: random.Random) -> tuple[int, int]:
    """Where a block of the file begins and ends."""
    begin = draw.randrange(max(1, len(data)))
    return begin, min(len(data), begin + draw.choice((1, 16, 512, 4096)))


def truncated(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(max(1, len(data)))]


def flipped(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(max(1, len(data)))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :] if data else b"\0"


def zeroed(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:begin] + bytes(end - begin) + data[end:]


def cut_out(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:begin] + data[end:]


def doubled(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:end] + data[begin:]


def overwritten(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:begin] + draw.randbytes(end - begin) + data[end:]


def appended(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.choice((1, 100, 5000)))


def random_bytes(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(min(len(data), 100_000) or 1)


def other_number(data: bytes, draw: random.Random) -> bytes:
    found = list(NUMBER.finditer(data))
    if not found:
        return flipped(data, draw)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(WRONG_NUMBERS) + data[one.end() :]


def _of_lines(change: Callable[[list[bytes], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def changed(data: bytes, draw: random.Random) -> bytes:
        lines = data.splitlines(keepends=True)
        if len(lines) > 1:
            change(lines, draw)
        return b"".join(lines)

    return changed


def _swap(lines: list[bytes], draw: random.Random) -> None:
    i, j = draw.sample(range(len(lines)), 2)
    lines[i], lines[j] = lines[j], lines[i]


def _lose(lines: list[bytes], draw: random.Random) -> None:
    del lines[draw.randrange(len(lines))]


def _repeat(lines: list[bytes], draw: random.Random) -> None:
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))


def _quote(lines: list[bytes], draw: random.Random) -> None:
    lines[draw.randrange(len(lines))] = b'"' + lines[draw.randrange(len(lines))]


def utf16(data: bytes, draw: random.Random) -> bytes:
    return data.decode("latin-1").encode("utf-16")


def with_mark(data: bytes, draw: random.Random) -> bytes:
    return b"\xef\xbb\xbf" + data


def windows_lines(data: bytes, draw: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def windows_characters(data: bytes, draw: random.Random) -> bytes:
    return data.replace(b"e", b"\x92", 1)


def nested(data: bytes, draw: random.Random) -> bytes:
    depth = draw.choice((1_000, 100_000))
    return draw.choice((b"[" * depth, b'{"a":' * depth, b"a = " + b"[" * depth, b"(" * depth + b"t" * depth + b"."))


def _replaced(make: Callable[[Path], None]) -> Damage:
    """Something else than a regular file, of the same name."""

    def damage(path: Path, draw: random.Random) -> None:
        path.unlink()
        make(path)

    return damage


OF_BYTES = {
    each.__name__: _rewritten(each)
    for each in (truncated, flipped, zeroed, cut_out, doubled, overwritten, appended, random_bytes, nested)
} | {
    "emptied": _rewritten(lambda data, draw: b""),
    "a web page": _rewritten(lambda data, draw: PAGE),
    "a pointer of Git LFS": _rewritten(lambda data, draw: POINTER),
}  # fmt: skip
OF_TEXT = {
    each.__name__: _rewritten(each) for each in (other_number, utf16, with_mark, windows_lines, windows_characters)
} | {
    "lines swapped": _rewritten(_of_lines(_swap)), "a line lost": _rewritten(_of_lines(_lose)),
    "a line twice": _rewritten(_of_lines(_repeat)), "a quote": _rewritten(_of_lines(_quote)),
}  # fmt: skip
OF_FILES = {
    "missing": _replaced(lambda path: None),
    "a folder": _replaced(lambda path: path.mkdir()),
    "a pipe": _replaced(lambda path: os.mkfifo(path)),
    "a device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to nothing": _replaced(lambda path: path.symlink_to("nothing")),
    "a link to itself": _replaced(lambda path: path.symlink_to(path.name)),
}
GONE = ("missing",)
