"""Transcripts by a speech recogniser, and their word error rate (GIA-MIC Sec. 3.2: Whisper, 20.48 % on IEMOCAP).

The recogniser is Whisper tiny.en from a package, or another Whisper, wav2vec 2.0, HuBERT or WavLM (these with a CTC
head), by hub name or folder. It decodes greedily: the same audio gives the same words, except for ties within rounding
where clips are in other batches.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from merlib.errors import FeatureError, is_out_of_memory, listed
from merlib.features import decoding, extractors, speech
from merlib.features.decoding import Clip
from merlib.features.limits import failure
from merlib.files import atomic, sha256
from merlib.foreign import read_json
from merlib.pretrained import encoders
from merlib.pretrained.whisper import is_whisper


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """Speech to text; its model is loaded once a process, when it is first needed."""

    encoder: str = speech.TINY  # or a hub name or folder
    longest: int = 128  # tokens of one piece of 30 s, for Whisper: a second of speech has about three
    device: str = "cpu"

    @torch.inference_mode()
    def of(self, recordings: Sequence[np.ndarray]) -> list[str]:
        """The words of every recording, s float32 at 16 kHz."""
        if is_whisper(self.encoder):
            return self._by_whisper(recordings)
        processor, net, _ = _ctc(self.encoder, self.device)
        texts = []
        for samples in recordings:  # one by one, without padding
            values = processor(samples, sampling_rate=speech.RATE, return_tensors="pt").input_values
            texts += processor.batch_decode(net(values.to(self.device)).logits.argmax(-1))
        return [text.strip() for text in texts]

    def _by_whisper(self, recordings: Sequence[np.ndarray]) -> list[str]:
        model, pieces = speech.whisper(self.encoder, self.device), [speech.windows(samples) for samples in recordings]
        spectra = model.spectra([piece for part in pieces for piece in part])
        real = torch.ones(len(spectra), spectra.shape[-1], dtype=torch.long, device=spectra.device)
        ids = model.net.generate(spectra, attention_mask=real, max_length=self.longest, num_beams=1, do_sample=False)
        texts = iter(model.tokenizer.batch_decode(ids, skip_special_tokens=True))
        return [" ".join(next(texts).strip() for _ in part) for part in pieces]

    def about(self) -> dict[str, str]:
        """Its part of a passport (`extractors.origin`)."""
        known = is_whisper(self.encoder)
        model = speech.whisper(self.encoder, self.device).about if known else _ctc(self.encoder, self.device)[2]
        return model | {"extractor": f"{model['extractor']} transcripts, greedy, {self.longest} tokens"}


def transcribe(clips: Iterable[Clip], file: Path, *, recogniser: Recogniser, batch: int = 8) -> dict[str, Any]:
    """Write the transcripts of `clips` to the CSV `file` (utterance, text); returns the content of FILE.json beside it.

    Every text is written to FILE.part at once, and an interrupted run continues from there; the CSV appears when it is
    complete. A clip that cannot be used has the text "" and its reason among the `failures`. batch: clips at once.
    Raises FeatureError when FILE was made by another recogniser or from other clips: texts are never mixed.
    """
    clips, file = list(clips), Path(file)
    part, beside = (file.with_name(f"{file.name}.{kind}") for kind in ("part", "json"))
    about = recogniser.about()
    keys = {clip.utterance: _key(clip, about) for clip in clips}
    inputs = hashlib.sha256("".join(keys.values()).encode()).hexdigest()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):  # of two runs at once, the second reads what the first wrote
        if file.exists():
            return _written(file, beside, inputs)
        rows = _unfinished(part, keys)
        left = [clip for clip in clips if clip.utterance not in rows]
        with part.open("a", encoding="utf-8") as log, tqdm(total=len(clips), initial=len(rows), unit="clip") as bar:
            for i in range(0, len(left), batch):
                for row in _rows(left[i : i + batch], recogniser):
                    rows[row["utterance"]] = row
                    log.write(json.dumps(row | {"key": keys[row["utterance"]]}) + "\n")
                log.flush()
                bar.update(len(left[i : i + batch]))
        ordered = [rows[clip.utterance] for clip in clips]
        failures = [{k: row[k] for k in ("utterance", "file", "reason")} for row in ordered if "reason" in row]
        with atomic(file) as table:
            pd.DataFrame(ordered, columns=["utterance", "text"]).to_csv(table, index=False)
            about |= {"utterances": len(rows), "failures": failures, "inputs": inputs, "sha256": sha256(table)}
            with atomic(beside) as description:
                description.write_text(json.dumps(about, indent=1) + "\n")
        part.unlink()
    return about


def _rows(clips: Sequence[Clip], recogniser: Recogniser) -> list[dict[str, str]]:
    rows, audio = [{"utterance": clip.utterance, "file": clip.file.name, "text": ""} for clip in clips], {}
    for i, clip in enumerate(clips):
        try:
            audio[i] = decoding.audio(clip, rate=speech.RATE)
        except Exception as error:  # noqa: BLE001 (a damaged file may raise anything in a decoder)
            rows[i]["reason"] = failure(error)
    for i, heard in zip(audio, _heard(list(audio.values()), recogniser), strict=True):
        rows[i] |= {"reason": failure(heard)} if isinstance(heard, Exception) else {"text": heard}
    return rows


def _heard(recordings: Sequence[np.ndarray], recogniser: Recogniser) -> list[str | Exception]:
    """The words of every recording; where the recogniser fails, each is heard alone, and has words or the error."""
    try:
        return recogniser.of(recordings) if recordings else []
    except Exception as error:  # a network may raise anything at a recording that is too short for it
        if len(recordings) > 1:
            return [heard for samples in recordings for heard in _heard([samples], recogniser)]
        if is_out_of_memory(error):
            raise  # that is not the recording's fault
        return [error]


def _key(clip: Clip, about: Mapping[str, str]) -> str:
    """A hash of what determines a transcript: the recogniser, the clip, and its file's size and date."""
    status = clip.file.stat() if clip.file.exists() else None
    file = [status.st_size, status.st_mtime_ns] if status else []
    inputs = json.dumps([dict(about), str(clip.file), clip.start, clip.end, file], sort_keys=True)
    return hashlib.sha256(inputs.encode()).hexdigest()


def _unfinished(part: Path, keys: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The rows that an interrupted run has written for these keys, by utterance; an incomplete last line is removed."""
    if not part.exists():
        return {}
    lines = part.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
        with atomic(part) as whole:
            whole.write_bytes(b"".join(lines))
    try:
        rows = [json.loads(line) for line in lines]
        return {row["utterance"]: row for row in rows if row.pop("key") == keys.get(row["utterance"])}
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # no JSON, or no rows
        raise FeatureError(f"{part} is damaged ({error!r}). Delete it; its clips are then transcribed again.") from None


def _written(file: Path, beside: Path, inputs: str) -> dict[str, Any]:
    """The description of a transcript file; FeatureError if it has other inputs or was edited."""
    try:
        about = dict(read_json(beside)) if beside.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        remedy = f"Delete it and {file}; its clips are then transcribed again"
        raise FeatureError(f"{beside} is damaged ({error}). {remedy}.") from None
    if (about.get("inputs"), about.get("sha256")) != (inputs, sha256(file)):
        what = "is of another recogniser or of other clips, or was edited"
        raise FeatureError(f"{file} {what}. Delete it, or name another file.")
    return about


@dataclass(frozen=True)
class WordErrors:
    """Counts over a corpus; `rate` is the number of all errors divided by the number of words in the reference."""

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int


def normalised(text: str) -> str:
    """Lower-case words of letters, digits and apostrophes, without remarks such as [LAUGHTER]; no accents."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>", " ", text)).replace("’", "'")
    letters = "".join(c for c in plain.lower() if not unicodedata.combining(c))
    return " ".join(word for w in re.sub(r"[^\w']|_", " ", letters).split() if (word := w.strip("'")))


def as_written(text: str) -> str:
    """The text itself, one blank between words."""
    return " ".join(text.split())


# The same texts have other rates by other rules, and papers seldom say theirs.
NORMALISATIONS = {"as written": as_written, "words": normalised, "Whisper's basic": BasicTextNormalizer()}


def word_errors(
    *, reference: Mapping[str, str], recognised: Mapping[str, str], normalise: Callable[[str], str] = normalised
) -> WordErrors:
    """Errors of the recognised texts, by utterance id, both normalised; every utterance of `reference` needs one.

    Where the reference has no words, all recognised words are insertions.
    """
    if absent := [u for u in reference if u not in recognised]:
        what = f"{len(absent)} of {len(reference)} utterances have no transcript, first {listed(absent[:3])}"
        raise FeatureError(f"{what}. Add them.")
    pairs = [(normalise(reference[u]), normalise(recognised[u])) for u in reference]
    with_words = [(spoken, text) for spoken, text in pairs if spoken]
    if not with_words:
        raise FeatureError(f"no words in the reference of {len(reference)} utterances; a rate needs some.")
    counts = jiwer.process_words(*map(list, zip(*with_words, strict=True)))
    added = counts.insertions + sum(len(text.split()) for spoken, text in pairs if not spoken)
    words = counts.hits + counts.substitutions + counts.deletions
    wrong = counts.substitutions + counts.deletions + added
    return WordErrors(wrong / words, counts.substitutions, counts.deletions, added, words, len(pairs))


def rates(*, reference: Mapping[str, str], recognised: Mapping[str, str]) -> pd.DataFrame:
    """`WordErrors` by each of the `NORMALISATIONS`, which is the index."""
    texts = {"reference": reference, "recognised": recognised}
    found = {name: asdict(word_errors(**texts, normalise=way)) for name, way in NORMALISATIONS.items()}
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("normalisation")


@cache
def _ctc(encoder: str, device: str) -> tuple[transformers.Wav2Vec2Processor, torch.nn.Module, dict[str, str]]:
    """The processor, the network and the part of a passport of a model with a CTC head."""
    folder = encoders.located(encoder)
    config = encoders.read(transformers.AutoConfig, folder)
    if not any(name.endswith("ForCTC") for name in config.architectures or ()):
        what = f"is {config.architectures}; expected a Whisper, or a model with a CTC head (...ForCTC)"
        raise FeatureError(f"{encoder} {what}. Choose one that was fine-tuned to transcribe.")
    net = encoders.filled(transformers.AutoModelForCTC, folder, unused=encoders.SPEC_AUGMENT).to(device)
    version = f"transformers {transformers.__version__}"
    about = extractors.origin(Path(encoder).name, version, "unknown", *encoders.weights(folder))
    return encoders.read(transformers.Wav2Vec2Processor, folder), net, about
