"""MFCRE's extraction settings: EmoBERTa's dialogue windows, ComParE's functionals, VisExtNet's scores (Sec. 3.1)."""

from typing import Any

from merlib.features import audio, vision
from merlib.features.extractors import Pooled


def extractors(data: dict, weights: dict[str, str]) -> dict[str, Any]:
    pool = "cls" if data["text"] == "text" else "ids"  # vectors of a frozen encoder, or what one that learns reads
    return {
        "text": {"encoder": weights.get("text", "roberta-base"), "pool": pool, "context": "dialogue"},
        "audio": audio.ComParE(),
        "visual": vision.VisExtNet(weights=weights.get("visual", "resnet101_vggface2.pth")),
    }


def offline(data: dict) -> dict[str, Any]:
    """Modality -> an extractor whose weights, or licence, come with a package that merlib installs."""
    expressions = vision.FerFaces(frames=min(data.get("frames", 15), 15))
    return {"audio": Pooled(of=audio.CepstralSteps()), "visual": Pooled(of=expressions)}
