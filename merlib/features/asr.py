"""Transcripts by a speech recogniser, and their word error rate (GIA-MIC Sec. 3.2: Whisper, 20.48 % on IEMOCAP).

The recogniser is Whisper tiny.en, installed, or another Whisper, or a wav2vec 2.0, HuBERT or WavLM with a CTC head, by
hub name or folder. It decodes greedily: the same sound gives the same words, but for ties within rounding where
clips are in other batches.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pandas as pd
import torch
import transformers
from filelock import FileLock
from tqdm.auto import tqdm

from merlib.data.store import FeatureError
from merlib.features import media, speech
from merlib.features.media import Clip, MediaError
from merlib.files import atomic, sha256
from merlib.pretrained import encoders


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """Speech to text; its model is loaded once a process, when it is first needed."""

    encoder: str = speech.TINY  # or a hub name or folder
    longest: int = 128  # tokens of one piece of 30 s, for Whisper: a second of speech has about three
    device: str = "cpu"

    @torch.inference_mode()
    def of(self, sounds: Sequence[np.ndarray]) -> list[str]:
        """The words of every sound, s float32 at 16 kHz."""
        if _is_whisper(self.encoder):
            return self._written(sounds)
        processor, net, _ = _ctc(self.encoder, self.device)
        found = []
        for samples in sounds:  # one by one, so that no padding is heard
            values = processor(samples, sampling_rate=speech.RATE, return_tensors="pt").input_values
            found += processor.batch_decode(net(values.to(self.device)).logits.argmax(-1))
        return [text.strip() for text in found]

    def _written(self, sounds: Sequence[np.ndarray]) -> list[str]:
        """Whisper's way; what is longer than 30 s is heard in pieces of that."""
        model, pieces = speech.whisper(self.encoder, self.device), [speech.windows(samples) for samples in sounds]
        spectra = model.spectra([piece for part in pieces for piece in part])
        real = torch.ones(len(spectra), spectra.shape[-1], dtype=torch.long, device=spectra.device)
        ids = model.net.generate(spectra, attention_mask=real, max_length=self.longest, num_beams=1, do_sample=False)
        texts = iter(model.tokenizer.batch_decode(ids, skip_special_tokens=True))
        return [" ".join(next(texts).strip() for _ in part) for part in pieces]

    def about(self) -> dict[str, str]:
        """What a passport says: extractor, version, weights_sha256 and trained_on."""
        known = speech.whisper(self.encoder, self.device).about if _is_whisper(self.encoder) else {}
        known = known or _ctc(self.encoder, self.device)[2]
        return known | {"extractor": f"{known['extractor']} transcripts, greedy, {self.longest} tokens"}


def transcribe(clips: Iterable[Clip], file: Path, *, recogniser: Recogniser, batch: int = 8) -> dict[str, Any]:
    """Write the transcripts of `clips` to the CSV `file` (utterance, text); returns what FILE.json beside it says.

    Every text goes to FILE.part at once, and a run that was ended goes on from there; the CSV appears when it is
    complete. A clip that cannot be used has the text "" and its reason among the `failures`. batch: clips at once.
    Raises FeatureError when FILE is of another recogniser or of other clips; its texts are never mixed with these.
    """
    clips, file = list(clips), Path(file)
    part, beside = (file.with_name(f"{file.name}.{kind}") for kind in ("part", "json"))
    about = recogniser.about()
    keys = {clip.utterance: _key(clip, about) for clip in clips}
    inputs = hashlib.sha256("".join(keys.values()).encode()).hexdigest()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):  # of two runs, the second finds the work done
        if file.exists():
            return _same(file, beside, inputs)
        done = _kept(part, keys)
        left = [clip for clip in clips if clip.utterance not in done]
        with part.open("a", encoding="utf-8") as log, tqdm(total=len(clips), initial=len(done), unit="clip") as bar:
            for some in _chunks(left, batch):
                for row in _rows(some, recogniser):
                    done[row["utterance"]] = row
                    log.write(json.dumps(row | {"key": keys[row["utterance"]]}) + "\n")
                log.flush()
                bar.update(len(some))
        rows = [done[clip.utterance] for clip in clips]
        failures = [{k: row[k] for k in ("utterance", "file", "reason")} for row in rows if "reason" in row]
        with atomic(file) as made:
            pd.DataFrame([(row["utterance"], row["text"]) for row in rows], columns=["utterance", "text"]).to_csv(
                made, index=False
            )
            about |= {"utterances": len(rows), "failures": failures, "inputs": inputs, "sha256": sha256(made)}
            with atomic(beside) as told:
                told.write_text(json.dumps(about, indent=1) + "\n")
        part.unlink()
    return about


def _chunks(clips: list[Clip], size: int) -> list[list[Clip]]:
    return [clips[i : i + size] for i in range(0, len(clips), size)]


def _rows(clips: Sequence[Clip], recogniser: Recogniser) -> list[dict[str, str]]:
    """Utterance, file and text of each clip; where there is none, "" and the reason."""
    rows, sounds = [{"utterance": clip.utterance, "file": clip.file.name, "text": ""} for clip in clips], {}
    for i, clip in enumerate(clips):
        try:
            sounds[i] = media.sound(clip, rate=speech.RATE)
        except MediaError as error:
            rows[i]["reason"] = str(error)
    for i, text in zip(sounds, recogniser.of(list(sounds.values())) if sounds else [], strict=True):
        rows[i]["text"] = text
    return rows


def _key(clip: Clip, about: Mapping[str, str]) -> str:
    """What settles a transcript: the recogniser, the clip, and its file's size and date."""
    seen = clip.file.stat() if clip.file.exists() else None
    file = [seen.st_size, seen.st_mtime_ns] if seen else []
    told = json.dumps([dict(about), str(clip.file), clip.start, clip.end, file], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _kept(part: Path, keys: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The rows that an ended run has left for just these keys; a last line that is not whole is taken off the file."""
    if not part.exists():
        return {}
    lines = part.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
        with atomic(part) as whole:
            whole.write_bytes(b"".join(lines))
    try:
        rows = [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise FeatureError(f"{part} is damaged ({error}). Delete it; its clips are then heard again.") from None
    return {row["utterance"]: row for row in rows if row.pop("key") == keys.get(row["utterance"])}


def _same(file: Path, beside: Path, inputs: str) -> dict[str, Any]:
    """What the file says of itself, if it is of these inputs and as it was written."""
    about = json.loads(beside.read_text()) if beside.exists() else {}
    if (about.get("inputs"), about.get("sha256")) != (inputs, sha256(file)):
        what = "of another recogniser or of other clips, or was edited"
        raise FeatureError(f"{file} is {what}. Delete it, or name another file.")
    return about


@dataclass(frozen=True)
class WordErrors:
    """Counts over a corpus; `rate` is all errors over all words of the reference."""

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int


def word_errors(*, reference: Mapping[str, str], heard: Mapping[str, str]) -> WordErrors:
    """Errors of the texts that were heard, by utterance id, both normalised; all of `reference` must have been heard.

    Where the reference has no words, all that were heard are insertions.
    """
    if absent := [u for u in reference if u not in heard]:
        raise FeatureError(
            f"{len(absent)} of {len(reference)} utterances were not heard, first {absent[:3]}. Add them."
        )
    pairs = [(normalised(reference[u]), normalised(heard[u])) for u in reference]
    spoken = [(said, got) for said, got in pairs if said]
    if not spoken:
        raise FeatureError(f"no words in the reference of {len(reference)} utterances; a rate needs some.")
    found = jiwer.process_words(*map(list, zip(*spoken, strict=True)))
    added = found.insertions + sum(len(got.split()) for said, got in pairs if not said)
    words = found.hits + found.substitutions + found.deletions
    wrong = found.substitutions + found.deletions + added
    return WordErrors(wrong / words, found.substitutions, found.deletions, added, words, len(pairs))


def normalised(text: str) -> str:
    """Lower-case words of letters, digits and apostrophes, without remarks such as [LAUGHTER]; no accents."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>", " ", text)).replace("’", "'")
    kept = "".join(c for c in plain.lower() if not unicodedata.combining(c))
    return " ".join(word for w in re.sub(r"[^\w']|_", " ", kept).split() if (word := w.strip("'")))


@cache
def _is_whisper(encoder: str) -> bool:
    if encoder == speech.TINY:
        return True
    return transformers.AutoConfig.from_pretrained(encoders.located(encoder)).model_type == "whisper"


@cache
def _ctc(encoder: str, device: str) -> tuple[transformers.Wav2Vec2Processor, torch.nn.Module, dict[str, str]]:
    """The processor, the network and the passport's words of a model with a CTC head."""
    folder = encoders.located(encoder)
    config = transformers.AutoConfig.from_pretrained(folder)
    if not any(name.endswith("ForCTC") for name in config.architectures or ()):
        what = f"is {config.architectures}; expected a Whisper, or a model with a CTC head (...ForCTC)"
        raise FeatureError(f"{encoder} {what}. Choose one that was fine-tuned to transcribe.")
    net = transformers.AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    about = {"extractor": Path(encoder).name, "version": f"transformers {transformers.__version__}"}
    about |= {"weights_sha256": sha256(*encoders.weights(folder)), "trained_on": "unknown"}
    return transformers.Wav2Vec2Processor.from_pretrained(folder), net, about
