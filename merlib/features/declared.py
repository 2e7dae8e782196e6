"""The extractors of a paper, as its recipe and its module `features` declare them.

There are two kinds. `paper`: with the encoders that the paper names, from the hub or from a path. `offline`: the same
pipeline with weights that come with packages (MiniLM, Whisper tiny, mini-XCEPTION) where the paper's do not; the
passport says which.
"""

from typing import Any

from merlib import declarations, registry
from merlib.errors import DeclarationError, one_of


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
        installed.setdefault("text", own["text"] | {"encoder": "minilm"})
    plain, named = settings.extractors(data, {}), settings.extractors(data, dict.fromkeys(own, "named"))
    readers = [modality for modality in own if named[modality] != plain[modality]]
    if unused := sorted(set(weights) - (set(readers) - set(installed))):
        why = f"{', '.join(readers)} have encoders here, and offline takes those that come with packages"
        raise DeclarationError(f"{paper}, kind {kind}: nothing reads weights of {', '.join(unused)}; {why}")
    return own | installed
