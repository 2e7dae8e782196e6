"""What an extractor is, those of a paper, and extractors that are made from others.

Each paper's `features` module says what it extracts. There are two kinds of its extractors. `paper`: with the encoders
that the paper names, from the hub or from a path. `offline`: the same pipeline with weights that come with packages
(MiniLM, Whisper tiny, mini-XCEPTION) where the paper's do not; the passport says which.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from merlib import declarations, registry
from merlib.errors import DeclarationError, one_of
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


def declared_data(paper: str, corpus: str, change: dict[str, Any] | None = None, *, data: str = "") -> dict[str, Any]:
    """The section `data` of a paper's base recipe for a corpus (of the root `data`), with a change laid over it."""
    declared = declarations.load(paper)
    if corpus not in declared.corpora:
        raise DeclarationError(f"{paper} has no {corpus}: it has {', '.join(declared.corpora)}")
    return declarations.base_recipe(declared, corpus, data=data, change=change)["data"]


def extractors(
    paper: str, corpus: str, *, kind: str = "paper", weights: dict[str, str] | None = None, data: dict | None = None
) -> dict[str, Any]:
    """Modality -> the extractor of a paper's array; of text, the options of `text.encode`.

    kind: paper or offline (see the module). weights: hub names or paths instead of the paper's, by modality.
    data: the section of a recipe, by default that of the paper's base recipe for the corpus.
    """
    weights = weights or {}
    data = data or declared_data(paper, corpus)
    one_of(("paper", "offline"), kind, "kind of extractors")
    settings = registry.features(paper)
    own = settings.extractors(data, weights)
    installed = settings.offline(data) if kind == "offline" else {}
    if kind == "offline" and "text" in own:
        installed["text"] = own["text"] | {"encoder": "minilm"}
    if unused := sorted(set(weights) - (set(settings.ENCODERS) - set(installed))):
        why = f"{', '.join(settings.ENCODERS)} have encoders, and offline takes those that come with packages"
        raise DeclarationError(f"{paper}, kind {kind}: nothing reads weights of {', '.join(unused)}; {why}")
    return own | installed


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
