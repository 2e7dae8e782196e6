"""Memory and time of GIA-MIC with a speech encoder as large as WavLM large, of random weights, that learns with it."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_cases
import gpu_trainer
import numpy as np
import torch
import transformers
from gpu_speed import forget, peak_gb, wait

from merlib import declarations
from merlib.data import batches

LARGE = {  # microsoft/wavlm-large
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True,
}  # fmt: skip
SMALL = LARGE | {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
RATE, SECONDS = 16_000, {"real": 6.0, "tiny": 0.2}


def encoder(folder: Path, size: str) -> Path:
    """A WavLM of random weights, saved as published ones are."""
    torch.manual_seed(0)
    config = transformers.WavLMConfig(**(LARGE if size == "real" else SMALL))
    transformers.WavLMModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True).save_pretrained(folder)
    return folder


def rows(device: str, size: str, most: int = 100) -> Iterator[dict[str, Any]]:
    """Section `memory`: a row a batch size, those of the recipe last; bf16, activations computed twice."""
    with tempfile.TemporaryDirectory() as folder:
        name = str(encoder(Path(folder), size))
        for count, checkpointing in [(4, True), (4, False), (32, True), (32, False)][:most]:
            row: dict[str, Any] = {"utterances": count, "checkpointing": checkpointing}
            try:
                yield row | measured(fine_tuned(name, size, checkpointing), device, size, count) | {"error": ""}
            except gpu_cases.FAILURES as error:  # a card that is too small is a finding, and so is a missing kernel
                yield row | {"error": gpu_cases.described(error)}
            if device == "cuda":
                torch.cuda.empty_cache()


def fine_tuned(encoder_folder: str, size: str, checkpointing: bool) -> gpu_cases.Case:
    paper = declarations.load("gia_mic")
    change = {
        "substitute.stored_speech": False, "model.extractors.audio.encoder": encoder_folder,
        "model.extractors.audio.checkpointing": checkpointing, "train.precision": "bf16",
    }  # fmt: skip
    row = paper.table("table2").find("gia_mic_vst")
    recipe = declarations.recipe(paper, row, "iemocap4", change=change, data="twin" if size == "tiny" else "")
    return gpu_cases.Case("gia_mic", "gia_mic/table2/gia_mic_vst, WavLM learns", "iemocap4", recipe)


def measured(case: gpu_cases.Case, device: str, size: str, count: int) -> dict[str, Any]:
    split = with_waveforms(gpu_cases.split_of(case, size, count, device), round(SECONDS[size] * RATE), device)
    trainer, items = gpu_trainer.Trainer(case, split, device), torch.arange(count)
    forget(device)
    took = []
    for _ in range(3 if size == "real" else 1):
        wait(device)
        began = time.perf_counter()
        trainer.step(items)
        wait(device)
        took.append(time.perf_counter() - began)
    parameters = sum(p.numel() for p in trainer.learned.parameters())
    return {"seconds": min(took), "peak_gb": peak_gb(device), "parameters": parameters}


def with_waveforms(split: batches.Utterances, samples: int, device: str) -> batches.Utterances:
    """The same utterances, with random waveforms of so many samples as audio."""
    draw, count = np.random.default_rng(1), len(split)
    audio = torch.from_numpy(draw.standard_normal((count * samples, 1), dtype=np.float32)).to(device)
    starts, steps = samples * torch.arange(count, device=device), torch.full((count,), samples, device=device)
    return batches.Utterances(
        features=split.features | {"audio": audio}, starts=split.starts | {"audio": starts},
        steps=split.steps | {"audio": steps}, target=split.target, ids=split.ids,
    )  # fmt: skip
