"""What a paper extracts from recordings and transcripts, by the section `data` of its recipe: an extractor a modality.

Two kinds. `paper`: the encoders that the paper names, from the hub or from a path. `offline`: the same pipeline with
real weights that come with packages (MiniLM, Whisper tiny, mini-XCEPTION) where the paper's are not to be had; the
passport says which it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from merlib import declarations
from merlib.declarations.schema import LETTERS, Row
from merlib.errors import DeclarationError, one_of
from merlib.features import audio, face, pipeline, sound, spectra, speech, text, visual
from merlib.features.augment import AugmentedPictures, AugmentedSound
from merlib.features.media import Clip
from merlib.features.pipeline import Extractor

Weights = dict[str, str]  # modality -> a hub name or a path, instead of the paper's


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Mean and deviation over the steps of another extractor, 1 2d: for networks that read a vector an utterance."""

    of: Extractor

    @property
    def modality(self) -> str:
        return self.of.modality

    def __call__(self, clip: Clip) -> np.ndarray:
        steps = self.of(clip).astype(np.float32)
        return np.concatenate([steps.mean(0), steps.std(0)])[None]

    def about(self) -> dict[str, str]:
        known = self.of.about()
        return known | {"extractor": f"{known['extractor']}, mean and deviation"}


def _mpaf_net(data: dict, weights: Weights) -> dict[str, Any]:
    return {
        "text": {
            "encoder": weights.get("text", "bert-base-uncased"),
            "pool": "tokens",
            "max_tokens": data["text_tokens"],
        },
        "audio": sound.MfccSteps(settings=audio.RECIPES["mpaf_net"](data)),
        "visual": face.HaarFaces(frames=data["frames"], size=data["frame_size"], active=data["face"] == "active_side"),
    }


def _attsf_net(data: dict, weights: Weights) -> dict[str, Any]:
    spread = one_of({"clip": True, "start": False}, data["frame_window"], "option of frame_window")
    faces = face.MtcnnFaces(frames=data["frames"], size=data["face_size"], spread=spread)
    network = {"weights": weights["visual"]} if "visual" in weights else {}
    return {
        "text": {"encoder": weights.get("text", "bert-base-uncased"), "pool": "tokens"},
        "audio": sound.MfccSteps(settings=audio.RECIPES["attsf_net"](data)),
        "visual": faces if data["visual"] == "faces" else visual.EfficientFaces(faces=faces, **network),
    }


def _gia_mic(data: dict, weights: Weights) -> dict[str, Any]:
    shown = face.MtcnnFaces(frames=data["frames"], spread=False, active=data["face"] == "active_side")
    seconds = float(data["audio_seconds"])
    states = speech.SpeechStates(encoder=weights.get("audio", "microsoft/wavlm-large"), seconds=seconds)
    return {
        "text": {"encoder": weights.get("text", "roberta-base"), "pool": "tokens"},
        "audio": sound.Waveform(seconds=seconds) if data["audio"] == "waveforms" else states,
        "visual": visual.ClipFaces(encoder=weights.get("visual", "openai/clip-vit-large-patch14"), faces=shown),
    }


def _hff(data: dict, weights: Weights) -> dict[str, Any]:
    layers = int(data["visual_encoder"].removeprefix("resnet"))
    return {
        "text": {"encoder": weights.get("text", "bert-base-uncased"), "pool": "cls_mean"},
        "audio": Pooled(of=spectra.CepstralSteps()),
        "visual": visual.ResNetPictures(weights=weights.get("visual", f"resnet{layers}.pth"), layers=layers),
    }


def _mfcre(data: dict, weights: Weights) -> dict[str, Any]:
    return {
        "text": {"encoder": weights.get("text", "roberta-base"), "pool": "cls", "context": "dialogue"},
        "audio": sound.ComParE(),
        "visual": visual.VisExtNet(weights=weights.get("visual", "resnet101_vggface2.pth")),
    }


PAPERS: dict[str, Callable[[dict, Weights], dict[str, Any]]] = {
    "mpaf_net": _mpaf_net, "attsf_net": _attsf_net, "gia_mic": _gia_mic, "hff": _hff, "mfcre": _mfcre,
}  # fmt: skip
ENCODERS = {  # what `weights` can replace
    "mpaf_net": ("text",), "attsf_net": ("text", "visual"), "gia_mic": ("text", "audio", "visual"),
    "hff": ("text", "visual"), "mfcre": ("text", "visual"),
}  # fmt: skip


def _offline(paper: str, found: dict[str, Any], data: dict) -> dict[str, Any]:
    """Modality -> one whose weights come with a package, where those of the paper's encoder do not."""
    expressions = visual.FerFaces(frames=min(data.get("frames", 15), 15))
    instead = {
        "attsf_net": {} if data["visual"] == "faces" else {"visual": expressions},
        "gia_mic": {"visual": expressions}
        | ({} if data["audio"] == "waveforms" else {"audio": speech.WhisperStates(seconds=6.0)}),
        "hff": {"visual": Pooled(of=expressions)},
        "mfcre": {"audio": Pooled(of=spectra.CepstralSteps()), "visual": Pooled(of=expressions)},
    }
    return instead.get(paper, {}) | {"text": found["text"] | {"encoder": "minilm"}}


def extractors(
    paper: str, corpus: str, *, kind: str = "paper", weights: Weights | None = None, data: dict | None = None
) -> dict[str, Any]:
    """Modality -> what makes the paper's array: an extractor; of text, the options of `text.add`.

    kind: paper or offline (see the module). weights: hub names or paths instead of the paper's, by modality.
    data: the section of a recipe, by default that of the paper's base recipe for the corpus.
    """
    weights = weights or {}
    data = data or declared_data(paper, corpus)
    one_of(dict.fromkeys(("paper", "offline")), kind, "kind of extractors")
    found = PAPERS[paper](data, weights)
    instead = _offline(paper, found, data) if kind == "offline" else {}
    if unused := sorted(set(weights) - {m for m in ENCODERS[paper] if m not in instead}):
        raise DeclarationError(
            f"{paper}, kind {kind}: nothing reads weights of {', '.join(unused)}; {', '.join(ENCODERS[paper])} have "
            "encoders, and offline takes those that come with packages"
        )
    return found | instead


def declared_data(paper: str, corpus: str, change: dict[str, Any] | None = None) -> dict[str, Any]:
    """The section `data` of a paper's base recipe for a corpus, with a change laid over it."""
    declared = declarations.load(paper)
    if corpus not in declared.corpora:
        raise DeclarationError(f"{paper} has no {corpus}: it has {', '.join(declared.corpora)}")
    row = Row(id="default", label="All default readings")
    return declarations.recipe(declared, row, corpus, change=change)["data"]


def augmented(found: dict[str, Any]) -> dict[str, Any]:
    """The extractors of sound and pictures, of recordings that are changed first (MPAF-Net, Sec. 3.2)."""
    return {"audio": AugmentedSound(extractor=found["audio"]), "visual": AugmentedPictures(extractor=found["visual"])}


def extract(
    root: str, corpus: str, paper: str, *, folder: Path, modalities: str = "TAV", names: dict[str, str] | None = None,
    kind: str = "paper", weights: Weights | None = None, change: dict[str, Any] | None = None, changed: bool = False,
    workers: int = 1, device: str = "cpu",
) -> dict[str, Path]:  # fmt: skip
    """Make a paper's arrays of a corpus in a data root; returns their files by modality.

    folder: what the media paths of the corpus are relative to. names: how to call the arrays (default: as the recipe
    names them). change: laid over the base recipe, such as `{"readings.face": "active"}`.
    changed: of augmented recordings, sound and pictures only, as `<name>_augmented`. device: of the networks among the
    extractors that can be elsewhere than on the CPU.
    """
    data = declared_data(paper, corpus, change)
    found = extractors(paper, corpus, kind=kind, weights=weights, data=data)
    found = augmented(found) if changed else found
    called = {
        m: (names or {}).get(m, data[m]) + "_augmented" * changed
        for k, m in LETTERS.items()
        if k in modalities and m in found
    }
    if len(set(called.values())) < len(called):
        raise DeclarationError(
            f"one name for several arrays: {called}. Extract one modality at a time (--modalities A)."
        )
    made = {}
    for modality, name in called.items():
        if modality == "text":
            made[modality] = text.add(root, corpus, name=name, device=device, **found[modality])
            continue
        how = {"extractor": _on(found[modality], device), "media": folder, "name": name, "workers": workers}
        made[modality] = pipeline.extract(root, corpus, **how)
    if not made:
        raise DeclarationError(f"{paper}: nothing to make of {modalities}; it makes {', '.join(found)}")
    return made


def _on(extractor: Extractor, device: str) -> Extractor:
    """The same with its networks, and those of the extractors inside it, on a device."""
    inner = {f.name: getattr(extractor, f.name) for f in fields(extractor) if f.name in ("faces", "of", "extractor")}
    changed = {name: _on(value, device) for name, value in inner.items() if is_dataclass(value)}
    return replace(extractor, **changed | ({"device": device} if hasattr(extractor, "device") else {}))
