"""Sound files -> sequences of MFCC (t d), by librosa, with the settings that a paper declares.

A file is read whole, mixed to one channel and resampled; cut to `seconds` at its centre or from its start, or padded
with silence at its end; then analysed in centred frames, 1 + samples // shift of them, whatever was speech.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import librosa
import numpy as np
from tqdm import tqdm

from merlib import declarations
from merlib.corpora.table import Array
from merlib.features import media as recordings
from merlib.features import roots
from merlib.features.media import Clip, MediaError
from merlib.features.sound import Mfcc
from merlib.features.sound import mfcc as mfcc_of
from merlib.features.store import FeatureError
from merlib.grammar import DeclarationError, Row


def settings(paper: str, corpus: str) -> Mfcc:
    """The settings of a paper's recipe, all readings at their default, for a corpus that the paper has."""
    declared = declarations.load(paper)
    if corpus not in declared.corpora or paper not in RECIPES:
        raise DeclarationError(
            f"no MFCC of {paper} for {corpus}; papers with MFCC: "
            f"{ {name: list(declarations.load(name).corpora) for name in RECIPES} }"
        )
    recipe = declarations.recipe(declared, Row(id="default", label="All default readings"), corpus)
    return RECIPES[paper](recipe["data"])


def _attsf_net(data: dict) -> Mfcc:
    return Mfcc(
        rate=data["audio_rate"],
        seconds=data["audio_seconds"],
        cut=data["audio_window"],
        coefficients=data["mfcc_coefficients"],
        window=data["mfcc_window"],
        window_ms=data["mfcc_window_ms"],
        shift_ms=data["mfcc_shift_ms"],
        fft=data["mfcc_fft"],
    )


def _mpaf_net(data: dict) -> Mfcc:
    rate = 1000 * data["audio_khz"]
    return Mfcc(
        rate=rate,
        seconds=data["audio_seconds"],
        cut="start",  # Sec. 3.1.2: longer signals are truncated
        coefficients=data["mfcc"],
        window="hann",  # librosa's default, as the window's length and the shift
        window_ms=1000 * data["mfcc_window"] / rate,
        shift_ms=1000 * data["mfcc_hop"] / rate,
        fft=data["mfcc_window"],
    )


RECIPES = {"attsf_net": _attsf_net, "mpaf_net": _mpaf_net}


def mfcc(
    paths: Sequence[Path],
    *,
    rate: int,
    seconds: float,
    cut: str,
    coefficients: int,
    window: str,
    window_ms: float,
    shift_ms: float,
    fft: int,
    workers: int = 1,
) -> np.ndarray:
    """MFCC of every file, n t d float32; the same bits whatever the number of `workers` (processes).

    Each worker holds one file at a time; with several, a script needs its `if __name__ == "__main__":`. Raises
    FeatureError, with the file's name, for one that is missing, empty, unreadable or not finite.
    """
    how = Mfcc(rate, seconds, cut, coefficients, window, window_ms, shift_ms, fft)
    if workers < 1:
        raise FeatureError(f"{workers} workers; expected one or more.")
    values = np.empty((len(paths), how.steps, coefficients), dtype=np.float32)
    extract, bar = partial(_extracted, how=how), {"total": len(paths), "desc": "audio", "unit": "file"}
    if workers == 1 or len(paths) < 2:
        for i, found in enumerate(tqdm(map(extract, paths), **bar)):
            values[i] = found
        return values
    with ProcessPoolExecutor(min(workers, len(paths)), mp_context=get_context("spawn")) as pool:
        try:
            for i, found in enumerate(tqdm(pool.map(extract, paths, chunksize=8), **bar)):
                values[i] = found
        except BrokenProcessPool as error:
            raise FeatureError(f"a worker was ended from outside, perhaps for memory ({error}). Use fewer.") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return values


def add(data: str, corpus: str, *, media: Path, settings: Mfcc, name: str = "audio", workers: int = 1) -> Path:
    """MFCC of a corpus of the root `data` as its feature `name`; returns the file.

    media: the folder that the column `audio` of the corpus is relative to.
    """
    loaded = roots.dataset(data, corpus, features=()).corpus
    files = loaded.table["audio"]
    paths = [Path(media) / file for file in files]
    absent = [u for u, file, path in zip(loaded.ids, files, paths, strict=True) if not file or not path.is_file()]
    if absent:
        first = f"{len(absent)} of {len(paths)} utterances have no sound file below {media}, first {absent[:3]}"
        raise FeatureError(
            f"{corpus} of the root {data!r}: {first}. Give the folder that the corpus was imported from."
        )
    values = mfcc(paths, **asdict(settings), workers=workers)
    array = Array(
        values.reshape(-1, settings.coefficients),  # n t d -> s d
        "audio",
        f"librosa {settings}",
        version=f"librosa {librosa.__version__}",
        trained_on="nothing",
        fitted_on="nothing",
        lengths=np.full(len(paths), settings.steps, dtype=np.int64),
    )
    return roots.add(roots.root_path(data) / corpus, loaded, name, array)


def _extracted(path: Path, how: Mfcc) -> np.ndarray:
    """MFCC of one file, t d."""
    try:
        return mfcc_of([recordings.sound(Clip(path.stem, path), rate=how.rate)], settings=how)[0]
    except MediaError as error:
        raise FeatureError(f"{path}: {error}. Get the file again.") from None
