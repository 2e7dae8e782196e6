"""What an unfinished extraction has computed: files of many results each, so that a kill loses a second of work.

A file is written at once or not at all, with one fsync, when a second has gone by or `BYTES` have come together.
"""

import hashlib
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merlib.files import atomic
from merlib.foreign import regular

SECONDS, BYTES = 1.0, 1 << 22  # of work, and of results, that one file holds at most


class Parts:
    """Results by key, in the files of a folder; a context, which writes what is left when it is left.

    of: what they belong to, such as corpus and array. Each file carries a digest of that and of its content. One that
    does not fit it is set aside, and its results are missing. Only one process may use the folder at a time.
    """

    def __init__(self, folder: Path, *, of: str):
        self.folder, self.of = folder, of
        folder.mkdir(parents=True, exist_ok=True)
        self._open = lru_cache(maxsize=32)(lambda file: safe_open(file, framework="numpy"))
        self._files = {key: file for file in folder.glob("*.safetensors") for key in self._keys(file)}
        self._held: dict[str, np.ndarray] = {}
        self._since = time.monotonic()

    def _keys(self, file: Path) -> list[str]:
        try:
            regular(file)
            content = {key: self._open(file).get_tensor(key) for key in self._open(file).keys()}  # noqa: SIM118
            if (self._open(file).metadata() or {}).get("digest") == self._digest(content):
                return list(content)
        except (OSError, SafetensorError):
            pass
        aside = file.replace(file.with_name(f"{file.name}.damaged"))
        what = f"is damaged, or not of {self.of}: it is now {aside.name}, and its recordings are computed again"
        print(f"merlib: {file} {what}", file=sys.stderr)
        return []

    def _digest(self, content: Mapping[str, np.ndarray]) -> str:
        digest = hashlib.sha256(self.of.encode())
        for key in sorted(content):
            digest.update(f"{key} {content[key].dtype} {content[key].shape}".encode())
            digest.update(content[key])
        return digest.hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def __getitem__(self, key: str) -> np.ndarray:
        return self._open(self._files[key]).get_tensor(key)

    def kind(self, key: str) -> tuple[str, int]:
        """Type and width of the steps of a result."""
        part = self._open(self._files[key]).get_slice(key)
        return part.get_dtype(), part.get_shape()[1]

    def add(self, key: str, values: np.ndarray) -> None:
        self._held[key] = np.ascontiguousarray(values)
        large = sum(array.nbytes for array in self._held.values()) >= BYTES
        if large or time.monotonic() - self._since >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write what is held; OSError on a full disk."""
        if self._held:
            file = self.folder / f"{next(iter(self._held))}.safetensors"
            with atomic(file, when_full=SafetensorError) as part:
                save_file(self._held, part, {"digest": self._digest(self._held)})
            self._files |= dict.fromkeys(self._held, file)
        self._held, self._since = {}, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()
