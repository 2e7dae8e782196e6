"""What an extractor is, and extractors that are made from others.

Worker processes import this module, `decoding` and the modules of their extractor, and must start quickly: none of
these imports pandas or a library of declarations, and torch only where a network runs.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from merlib.features.decoding import Clip
from merlib.files import sha256


class Extractor(Protocol):
    """One recording -> its steps, t d floats or bytes, t >= 1; a recording that cannot be used is a MediaError.

    Its `repr` has all its settings; `about` gives its part of a passport: extractor, version, weights_sha256 and
    trained_on.
    """

    modality: str

    def __call__(self, clip: Clip) -> np.ndarray: ...

    def about(self) -> dict[str, str]: ...


def origin(extractor: str, version: str, trained_on: str = "nothing", *weights: Path) -> dict[str, str]:
    """An extractor's part of a passport, with the hash of the files of its weights."""
    digest = sha256(*weights) if weights else ""
    return {"extractor": extractor, "version": version, "weights_sha256": digest, "trained_on": trained_on}


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Mean and standard deviation over the steps of another extractor, 1 2d: for networks that read one vector."""

    of: Extractor

    @property
    def modality(self) -> str:
        return self.of.modality

    def __call__(self, clip: Clip) -> np.ndarray:
        steps = self.of(clip).astype(np.float32)
        return np.concatenate([steps.mean(0), steps.std(0)])[None]

    def about(self) -> dict[str, str]:
        about = self.of.about()
        return about | {"extractor": f"{about['extractor']}, mean and standard deviation"}


def on_device(extractor: Extractor, device: str) -> Extractor:
    """The same extractor with its networks, and those of the extractors inside it, on a device."""
    inner = {f.name: getattr(extractor, f.name) for f in fields(extractor)}
    moved = {name: on_device(value, device) for name, value in inner.items() if is_dataclass(value)}
    return replace(extractor, **moved | ({"device": device} if hasattr(extractor, "device") else {}))
