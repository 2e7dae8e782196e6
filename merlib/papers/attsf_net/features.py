"""ATTSF-Net's extraction settings: BERT tokens, MFCC, and MTCNN faces or EfficientFace's vectors of them (Sec. III)."""

from typing import Any

from merlib.errors import one_of
from merlib.features import audio, mtcnn_faces, speech, vision


def extractors(data: dict, weights: dict[str, str]) -> dict[str, Any]:
    spread = one_of({"clip": True, "start": False}, data["frame_window"], "option of frame_window")
    crops = mtcnn_faces.MtcnnFaces(frames=data["frames"], size=data["face_size"], spread=spread)
    mfcc = audio.Mfcc(  # Sec. III-A
        rate=data["audio_rate"], seconds=data["audio_seconds"], cut=data["audio_window"],
        coefficients=data["mfcc_coefficients"], window=data["mfcc_window"], window_ms=data["mfcc_window_ms"],
        shift_ms=data["mfcc_shift_ms"], fft=data["mfcc_fft"],
    )  # fmt: skip
    network = {"weights": weights["visual"]} if "visual" in weights else {}
    return {
        "text": {"encoder": weights.get("text", "bert-base-uncased"), "pool": "tokens"},
        "audio": speech_of(data) or audio.MfccSteps(settings=mfcc),
        "visual": crops if data["visual"] == "faces" else vision.EfficientFaces(faces=crops, **network),
    }


def speech_of(data: dict) -> audio.AudioExtractor | None:
    """What the added rows of Table VI read in the place of MFCC: waveforms, or the states of a frozen Whisper."""
    seconds = float(data["audio_seconds"])
    arrays = {"waveforms": audio.Waveform(seconds=seconds), "whisper": speech.WhisperStates(seconds=seconds)}
    return arrays.get(data["audio"])


def offline(data: dict) -> dict[str, Any]:
    return {} if data["visual"] == "faces" else {"visual": vision.FerFaces(frames=min(data["frames"], 15))}
