"""Clips a second and peak memory of MFCC and ComParE, merlib's beside the plain loop over files.

    python benchmarks/audio.py [FOLDER] [--clips 200] [--repeat 3] [--json FILE]

FOLDER holds audio files, also in subfolders (RAVDESS, for instance); without one, noise is made. The settings
are ATTSF-Net's: 12 MFCC of 3.6 s. Each row is measured in a process of its own, one after the other, all rows
`--repeat` times, of which the fastest counts: other work on the machine disturbs them. A first clip is not counted;
several workers are counted with their start. `program` is the CPU time of the whole process with what it imports;
`on_idle_cores` the time that CPU time allows where every process has a core: its own, its server's, and a worker's.
`decode` reads the audio and does nothing with it; `floor` also computes MFCC, and keeps nothing: the pipeline does the
same, stores every result, reports failures and writes the array with its passport.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from side_by_side import alone, show

from merlib.features import decoding
from merlib.features.audio import ComParE, Mfcc, MfccSteps
from merlib.features.decoding import AUDIO_FILES, Clip

HOW = Mfcc(16000, 3.6, "center", 12, "hamming", 50, 30, 2048)


def decode(files: list[Path]) -> None:
    for file in files:
        decoding.audio(Clip(file.stem, file), rate=HOW.rate)


def plain_mfcc(files: list[Path]) -> None:
    """The loop of the field's scripts."""
    import librosa

    for file in files:
        samples, _ = librosa.load(file, sr=16000)
        samples = librosa.util.fix_length(samples, size=57600)
        librosa.feature.mfcc(
            y=samples, sr=16000, n_mfcc=12, n_fft=2048, win_length=800, hop_length=480, window="hamming"
        )


def floor(files: list[Path]) -> None:
    extractor = MfccSteps(settings=HOW)
    for file in files:
        extractor(Clip(file.stem, file))


def mfcc(files: list[Path], workers: int = 1) -> None:
    import pandas as pd

    from merlib.data import table
    from merlib.features import pipeline

    names = [f"clip{i}" for i in range(len(files))]
    rows = pd.DataFrame({"utterance": names, "dialogue": names, "speaker": "01", "label": 0, "split": "train"})
    media = Path(os.path.commonpath([file.parent for file in files]))
    audio = [file.relative_to(media).as_posix() for file in files]
    corpus = table.build("ravdess", rows.assign(audio=audio), source="benchmark")
    with tempfile.TemporaryDirectory() as made:
        how = {"extractor": MfccSteps(settings=HOW), "media": media, "name": "audio", "workers": workers}
        pipeline.into(Path(made) / "corpus", corpus, **how, progress=False)


def mfcc_two_workers(files: list[Path]) -> None:
    mfcc(files, workers=2 if len(files) > 1 else 1)


def plain_compare(files: list[Path]) -> None:
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    for file in files:
        smile.process_file(file)


def compare(files: list[Path]) -> None:
    extractor = ComParE()
    for file in files:
        extractor(Clip(file.stem, file))


ROWS = (decode, floor, plain_mfcc, mfcc, mfcc_two_workers, plain_compare, compare)
AGAINST = {"mfcc": "plain_mfcc", "mfcc_two_workers": "plain_mfcc", "compare": "plain_compare"}


def measure(work, files: list[Path]) -> dict[str, float | str]:
    """One row, in this process: milliseconds a clip, the same of CPU with all workers, and peak memory."""
    work(files[:1])
    before, began = cpu_seconds(), time.perf_counter()
    work(files)
    seconds, after = time.perf_counter() - began, cpu_seconds()
    own, server, workers = (b - a for a, b in zip(before, after, strict=True))
    return {
        "row": work.__name__,
        "ms_per_clip": 1000 * seconds / len(files),
        "cpu_ms_per_clip": 1000 * (own + server + workers) / len(files),
        "on_idle_cores_ms_per_clip": 1000 * (own + server + workers / 2) / len(files),
        "program_cpu_seconds": sum(after),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def cpu_seconds() -> tuple[float, float, float]:
    """Of this process since its start, of the process that its workers are forked from, and of the workers (Linux)."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in children]
    of_children = [[int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in stat[11:15]] for stat in stats]
    server, workers = (sum(sum(times[part]) for times in of_children) for part in (slice(2), slice(2, 4)))
    return sum(os.times()[:4]), server, workers


def noise(folder: Path, count: int) -> list[Path]:
    """Clips of 3 to 5 s."""
    draw = np.random.default_rng(0)
    files = [folder / f"{i:04d}.wav" for i in range(count)]
    for file in files:
        soundfile.write(file, 0.1 * draw.standard_normal(draw.integers(48000, 80000)), 16000)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    names = [row.__name__ for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if find_spec("opensmile") is None:
        print(
            "without opensmile, the ComParE rows are left out: pip install opensmile (its licence allows research only)"
        )
        args.rows = [name for name in args.rows if "compare" not in name]
    with tempfile.TemporaryDirectory() as made:
        every = sorted(f.resolve() for f in args.folder.rglob("*") if f.suffix in AUDIO_FILES) if args.folder else []
        files = (
            every[:: max(1, len(every) // args.clips)][: args.clips] if args.folder else noise(Path(made), args.clips)
        )
        if not files:
            raise SystemExit(f"{args.folder}: no audio file below it; expected one of {AUDIO_FILES}")
        works = [row for row in ROWS if row.__name__ in args.rows]
        runs = [[alone(measure, work, files) for work in works] for _ in range(args.repeat)]
        found: dict[str, dict] = {}
        for of_row in zip(*runs, strict=True):
            row = {k: min(run[k] for run in of_row) for k in of_row[0]}
            if plain := found.get(AGAINST.get(row["row"], "")):
                row["times_faster"] = plain["ms_per_clip"] / row["ms_per_clip"]
                row["times_less_cpu"] = plain["cpu_ms_per_clip"] / row["cpu_ms_per_clip"]
                row["times_faster_on_idle_cores"] = plain["cpu_ms_per_clip"] / row["on_idle_cores_ms_per_clip"]
            found[row["row"]] = row
            show(row)
    if args.json:
        args.json.write_text(json.dumps({"clips": len(files), "rows": list(found.values())}, indent=2) + "\n")


if __name__ == "__main__":
    main()
