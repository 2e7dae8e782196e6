"""Reading files that others have written, as what they are.

They are opened only where a regular file lies, text has one decoder, and what lies there instead of the file that was
expected is named by its first bytes.
"""

import codecs
import json
import os
import re
import stat
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from merlib.errors import Notice

KINDS = {  # what lies at a path where a file was expected
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
CONTENTS = {  # the first bytes of files that are taken for others
    rb"version https://git-lfs": "a Git LFS pointer; run `git lfs pull` in the repository that it came from",
    rb"[./]*\.git/annex/|/annex/objects/": "a git-annex pointer; run `git annex get` in its repository",
    rb"(?i)\s*<(!doctype|html|head|\?xml)": "a web page; look at it in a browser, and download the file again",
    rb"\x1f\x8b": "a gzip archive; unpack it first (gunzip)",
    rb"PK\x03\x04.{26,90}data\.pkl": "a file of torch.save; save its arrays as npz",
    rb"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19": "a file of torch.save; save its arrays as npz",
    rb"PK\x03\x04": "a zip archive (npz and xlsx are some too); unpack it, or save it in the form that is expected",
    rb"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV in UTF-8",
    rb"BZh\d": "a bzip2 archive; unpack it first (bunzip2)",
    rb"\xfd7zXZ": "an xz archive; unpack it first (unxz)",
    rb"7z\xbc\xaf": "a 7z archive; unpack it first",
    rb"Rar!": "a rar archive; unpack it first",
    rb".{257}ustar": "a tar archive; unpack it first",
    rb"\x89HDF": "an HDF5 file",
    rb"\x93NUMPY": "an npy file",
    rb"\x80[\x02-\x05]": "a pickle",
    rb"\x00{64}": "zeros only, so far: a download that was not finished",
    rb"\Z": "empty; get it again",
}
MARKS = {  # byte order marks; that of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be",
}  # fmt: skip


def regular(path: str | Path) -> Path:
    """The path, where a regular file lies; OSError, which names what lies there, for anything else.

    A pipe or a device could be waited for without end, and some names are none: all are refused before they are opened.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except ValueError:
        raise OSError(f"{str(path)!r} is no name of a file: it holds a zero byte. Correct the name.") from None
    if kind != stat.S_IFREG:
        raise OSError(f"{path} is {KINDS.get(kind, 'no file')}; expected a file. Put the file itself there.")
    return Path(path)


def content(path: str | Path) -> str:
    """What a file is by its first bytes, and what to do: "a Git LFS pointer; run ...". "" for what is unknown."""
    with regular(path).open("rb") as file:
        return _content(file.read(512))


def _content(start: bytes) -> str:
    return next((what for pattern, what in CONTENTS.items() if re.match(pattern, start, re.DOTALL)), "")


def decode(raw: bytes, where: object) -> str:
    """The text of the bytes of a file: UTF-8 or UTF-16, with or without a byte order mark; other bytes are cp1252.

    So are control characters 80 to 9F, which an earlier, wrong decoding leaves. A `Notice` says where that was guessed.
    Raises OSError for what is no text; `where` names the file.
    """
    mark = next((mark for mark in MARKS if raw.startswith(mark)), b"")
    encoding, guess = MARKS.get(mark) or _utf16(raw) or "utf-8", ""
    if not mark and encoding != "utf-8":
        guess = f"has no byte order mark; read as {encoding.upper()}"
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise OSError(f"{where}: the text breaks off or is damaged ({error}). Save it in UTF-8.") from None
        text = raw[len(mark) :].decode(encoding, errors="cp1252")
        guess = "is not all UTF-8; the rest was read as cp1252"
    if "\0" in text or (raw and _content(raw[:512])):
        raise OSError(f"{where} is {_content(raw[:512]) or 'no text: it has zero bytes'}. Expected text in UTF-8.")
    if re.search("[\x80-\x9f]", text):
        guess = guess or "has control characters 80 to 9F; they were read as cp1252"
        text = re.sub("[\x80-\x9f]", lambda c: c[0].encode("latin-1").decode("cp1252", errors="replace"), text)
    if guess:
        warnings.warn(Notice(f"{guess}. Save it in UTF-8 if letters are wrong.", where), stacklevel=3)
    return text


codecs.register_error("cp1252", lambda e: (e.object[e.start : e.end].decode("cp1252", errors="replace"), e.end))


def _utf16(raw: bytes) -> str:
    """UTF-16 without a mark has a zero in most pairs of bytes, always on the same side; "" for anything else."""
    even, odd = (raw[side:1000:2].count(0) for side in (0, 1))
    pairs = len(raw[:1000]) // 2
    return "utf-16-le" if odd > pairs / 2 and not even else "utf-16-be" if even > pairs / 2 and not odd else ""


def read_text(path: str | Path) -> str:
    """The text of a file (see `decode`), with "\\n" at the end of its lines, and only there."""
    return re.sub("\r\n?", "\n", decode(regular(path).read_bytes(), path))


def read_toml(path: str | Path, **options: Any) -> dict:
    """A TOML file; OSError or ValueError, which name it, where it cannot be read."""
    return _parsed(path, lambda text: tomllib.loads(text, **options))


def read_json(path: str | Path) -> Any:
    """A JSON file; OSError or ValueError, which name it, where it cannot be read."""
    return _parsed(path, json.loads)


def _parsed(path: str | Path, parse: Callable[[str], Any]) -> Any:
    text = read_text(path)
    try:
        return parse(text)
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None
    except ValueError as error:  # also for a number of thousands of digits
        raise ValueError(f"{path}: {error}") from None
