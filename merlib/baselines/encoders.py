"""Pretrained encoders that learn from the labels of utterances: of text, as the first stage of two, and of speech.

MFCRE Sec. 3.1.1 fine-tunes RoBERTa on windows of a dialogue, and its network reads the vectors (EmoBERTa, Kim and
Vossen 2021). `merlib data fine-tune` turns a trained encoder into an array of vectors. Both are also what there is
without fusion: one modality alone, its encoder tuned.

Shapes: b utterances, t tokens or samples of an utterance (padded), w width of the encoder, d = dim, c classes.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merlib.data.store import Passport
from merlib.errors import DeclarationError, listed, one_of
from merlib.layers.ragged import masked_mean
from merlib.pretrained import encoders, whisper

VERSION = 1


def check_tokens(section: dict[str, Any], passports: dict[str, Passport]) -> None:
    """DeclarationError where the stored text is not the input of the network's own encoder."""
    name, passport = section["encoder"], passports["text"]
    if passport.weights_sha256 != encoders.sha256_of(name) or "token ids" not in passport.extractor:
        what = f"text encoder {name} reads the ids of its own tokens, and the array holds {passport.summary()}"
        raise DeclarationError(f"{what}: make them with `merlib data text ... --pool ids --encoder {name}`")


class Head(nn.Module):
    """One hidden layer on a vector of each utterance, b w: the embedding b d, which a second stage reads, and b c."""

    def __init__(self, *, width: int, dim: int, classes: int, dropout: float):
        super().__init__()
        self.embed, self.classify, self.drop = nn.Linear(width, dim), nn.Linear(dim, classes), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = torch.tanh(self.embed(self.drop(x)))
        return {"logits": self.classify(self.drop(z)), "embedding": z}


class TextEncoder(nn.Module):
    """A text encoder, the mean of its states over the words of the utterance, one hidden layer, class scores.

    It reads token ids and marks (`features.text.encode` with the pool "ids"), b t 2. `forward` returns `logits` b c and
    `embedding` b d.

    encoder: a folder or hub name that AutoModel can load. pool: "words", the mean over the words of the current
    utterance, or "cls", the first token's state. dim: width of the embedding. dropout: before and after the hidden
    layer. checkpointing: compute activations again in the backward pass: the same numbers, a fraction of the memory.
    """

    PRETRAINED = "encoder."  # see `registry`
    KEPT = True
    check_states = staticmethod(check_tokens)

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, encoder: str, pool: str, dim: int, dropout: float,
        checkpointing: bool,
    ):  # fmt: skip
        super().__init__()
        one_of(("words", "cls"), pool, "option of model.pool")
        if dims != {"text": 2}:
            raise DeclarationError(
                f"a text encoder that learns reads ids and marks of text, text: 2; found {listed(dims)}"
            )
        self.encoder, self.pool = encoders.text_encoder(encoders.located(encoder)), pool
        if checkpointing:
            self.encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        width = self.encoder.config.hidden_size
        self.head = Head(width=width, dim=dim, classes=1 if sentiment else classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        states, words = self.states(batch)
        return self.head(states[:, 0] if self.pool == "cls" else masked_mean(states, words))

    def states(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The last states of the encoder, b t w, and which of them are of words of the current utterance, b t."""
        (ids, words), real = batch["text"].unbind(-1), batch["text_mask"]  # b t
        states = self.encoder(input_ids=ids.long(), attention_mask=real.long()).last_hidden_state
        return states, (words > 0) & real

    @staticmethod
    def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
        """Leaf -> the files of the encoder that a network of this section starts from."""
        return {"encoder": encoders.pretrained_files(section["encoder"])}


class SpeechEncoder(nn.Module):
    """A speech encoder on waveforms, the mean of its states, one hidden layer, class scores.

    It reads samples at the encoder's rate, b t 1. `forward` returns `logits` b c and `embedding` b d.

    encoder: "tiny.en" (Whisper's, from a package), or the folder or hub name of a Whisper, WavLM, HuBERT or wav2vec
    2.0. learns: otherwise the encoder is frozen. dim, dropout: as of `TextEncoder`.
    """

    PRETRAINED = "encoder."
    KEPT = True

    def __init__(
        self, *, dims: dict[str, int], classes: int, sentiment: bool, encoder: str, learns: bool, dim: int,
        dropout: float,
    ):  # fmt: skip
        super().__init__()
        if dims != {"audio": 1}:
            raise DeclarationError(
                f"a speech encoder that learns reads samples of audio, audio: 1; found {listed(dims)}"
            )
        make = whisper.WhisperEncoder if whisper.is_whisper(encoder) else encoders.AudioEncoder
        self.encoder = make(encoder=encoder, learns=learns)
        self.head = Head(width=self.encoder.width, dim=dim, classes=1 if sentiment else classes, dropout=dropout)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        states, real = self.encoder(batch["audio"].squeeze(-1), batch["audio_mask"])  # b t w
        return self.head(masked_mean(states, real))

    @staticmethod
    def starting_weights(section: dict[str, Any], modalities: Collection[str]) -> dict[str, list[Path]]:
        """Leaf -> the files of the encoder that a network of this section starts from."""
        name = section["encoder"]
        files = [whisper.installed() / "model.bin"] if name == whisper.TINY else encoders.pretrained_files(name)
        return {"encoder": files}
