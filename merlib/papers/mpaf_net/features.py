"""MPAF-Net's extraction settings: BERT tokens, MFCC, and grey faces by a Haar cascade (Sec. 3.1.2)."""

from typing import Any

from merlib.features import audio, faces


def extractors(data: dict, weights: dict[str, str]) -> dict[str, Any]:
    rate = 1000 * data["audio_khz"]
    mfcc = audio.Mfcc(  # Sec. 3.1.2
        rate=rate,
        seconds=data["audio_seconds"],
        cut="start",  # longer signals are truncated
        coefficients=data["mfcc"],
        window="hann",  # librosa's default, as are the window's length and the shift
        window_ms=1000 * data["mfcc_window"] / rate,
        shift_ms=1000 * data["mfcc_hop"] / rate,
        fft=data["mfcc_window"],
    )
    haar = faces.HaarFaces(frames=data["frames"], size=data["frame_size"], active=data["face"] == "active_side")
    return {
        "text": _text(data, weights.get("text", "bert-base-uncased"), layers=12),
        "audio": audio.MfccSteps(settings=mfcc),
        "visual": haar,
    }


def offline(data: dict) -> dict[str, Any]:
    return {"text": _text(data, "minilm", layers=6)}


def _text(data: dict, encoder: str, *, layers: int) -> dict[str, Any]:
    """One state a token: of the last of the encoder's layers, or for `text_states` of that below the two that learn."""
    below = {"layer": layers - 2} if data["text"] == "text_states" else {}  # Sec. 2.2
    return {"encoder": encoder, "pool": "tokens", "max_tokens": data["text_tokens"]} | below
