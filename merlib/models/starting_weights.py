"""The published weights that a recipe's network starts from, by content: others of that name are another run."""

from collections.abc import Collection
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from merlib.corpora import files
from merlib.declarations import DeclarationError
from merlib.models import weights

ENCODERS = {
    "text_encoder": "text",
    "audio_encoder": "audio",
}  # leaves that may name an encoder, and the modality it reads
NO_ENCODER = ("vectors", "cnn")
CONFIGURED = ("config.json", "preprocessor_config.json")  # what a network reads of an encoder beside its weights


def digests(model: dict[str, Any], modalities: Collection[str]) -> dict[str, str]:
    """Leaf of the section `model` -> a hash of the files behind the name in it; nothing for leaves that name none.

    Files are read once a process, unless they change. Raises DeclarationError where a name leads to no weights.
    """
    try:
        found = _named(model, modalities)
    except ValueError as error:
        raise DeclarationError(f"model {model['name']}: {error}") from error
    return {leaf: sha256("".join(map(_content, paths)).encode()).hexdigest()[:16] for leaf, paths in found.items()}


def check(model: dict[str, Any], layers_above: dict[str, int]) -> None:
    """DeclarationError where stored text is not the states that the tuned layers of the network's own encoder read.

    layers_above: of the array of each modality, how many layers of its encoder its states have yet to pass.
    """
    if "text" not in layers_above or model.get("text_encoder", "vectors") in NO_ENCODER:
        return
    stored, tuned = layers_above["text"], model["text_layers_tuned"]
    if stored != tuned:
        raise DeclarationError(
            f"text_encoder {model['text_encoder']} learns its last {tuned} layers, but the stored states of text have "
            f"{stored} yet to pass: make them with `merlib data text ... --pool tokens --layer N`, N being all layers "
            f"but {tuned}"
        )


def _named(model: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
    found = {}
    for leaf, modality in ENCODERS.items():
        if modality in modalities and model.get(leaf, "vectors") not in NO_ENCODER:
            from merlib.models import encoders  # takes seconds, and only this needs it

            folder = Path(encoders.located(model[leaf]))
            configured = [folder / name for name in CONFIGURED if (folder / name).exists()]
            found[leaf] = [*encoders.weights(folder), *configured]
    if "visual" in modalities and model.get("visual_encoder") == "efficientface" and model["visual_weights"] != "none":
        found["visual_weights"] = [weights.located(model["visual_weights"])]
    return found


def _content(path: Path) -> str:
    about = path.stat()
    return _sha256(path.resolve(), about.st_size, about.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    return files.sha256(path)
