"""GIA-MIC's extraction settings: RoBERTa tokens, WavLM states or waveforms, and CLIP embeddings of faces (Sec. 3.1)."""

from typing import Any

from merlib.features import audio, mtcnn_faces, speech, vision


def extractors(data: dict, weights: dict[str, str]) -> dict[str, Any]:
    crops = mtcnn_faces.MtcnnFaces(frames=data["frames"], spread=False, active=data["face"] == "active_side")
    seconds = float(data["audio_seconds"])
    states = speech.SpeechStates(encoder=weights.get("audio", "microsoft/wavlm-large"), seconds=seconds)
    return {
        "text": {"encoder": weights.get("text", "roberta-base"), "pool": "tokens"},
        "audio": audio.Waveform(seconds=seconds) if data["audio"] == "waveforms" else states,
        "visual": vision.ClipFaces(encoder=weights.get("visual", "openai/clip-vit-large-patch14"), faces=crops),
    }


def offline(data: dict) -> dict[str, Any]:
    expressions = {"visual": vision.FerFaces(frames=min(data["frames"], 15))}
    return expressions if data["audio"] == "waveforms" else expressions | {"audio": speech.WhisperStates(seconds=6.0)}
