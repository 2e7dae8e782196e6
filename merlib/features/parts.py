"""What an unfinished extraction has computed: files of many results each, so that a kill loses a second of work.

A file is written at once or not at all, with one fsync, when a second has gone by or `BYTES` have come together.
"""

import time
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merlib.files import atomic

SECONDS, BYTES = 1.0, 1 << 22  # of work, and of results, that one file holds at most


class Parts:
    """Results by key, in the files of a folder; a context, which writes what is left when it is left."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._open = lru_cache(maxsize=32)(lambda file: safe_open(file, framework="numpy"))
        self._files = {key: file for file in folder.glob("*.safetensors") for key in self._open(file).keys()}  # noqa: SIM118
        self._held: dict[str, np.ndarray] = {}
        self._since = time.monotonic()

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def __getitem__(self, key: str) -> np.ndarray:
        return self._open(self._files[key]).get_tensor(key)

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
                save_file(self._held, part)
            self._files |= dict.fromkeys(self._held, file)
        self._held, self._since = {}, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()
