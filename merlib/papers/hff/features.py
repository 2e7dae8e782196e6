"""HFF's extraction settings: BERT vectors, MFCC by its own equations, and a ResNet's mean over frames (Sec. 3.1)."""

from typing import Any

from merlib.features import audio, vision
from merlib.features.extractors import Pooled


def extractors(data: dict, weights: dict[str, str]) -> dict[str, Any]:
    layers = int(data["visual_encoder"].removeprefix("resnet"))
    return {
        "text": {"encoder": weights.get("text", "bert-base-uncased"), "pool": "cls_mean"},
        "audio": Pooled(of=audio.CepstralSteps()),
        "visual": vision.ResNetFrames(weights=weights.get("visual", f"resnet{layers}.pth"), layers=layers),
    }


def offline(data: dict) -> dict[str, Any]:
    return {"visual": Pooled(of=vision.FerFaces(frames=min(data.get("frames", 15), 15)))}
