"""Faces in video: merlib's MTCNN over all pictures of a clip beside the plain loop, picture by picture; and Haar.

    python benchmarks/faces.py [--folder FILMS] [--clips 8] [--size 320x240] [--pictures 15] [--json FILE]

Without a folder of films, noisy ones with a real, moving face are made. Two floors are named: `decode` reads the
pictures and looks at none; `nets` runs the three networks on what merlib's MTCNN has given them, and nothing else.
Every row runs in a process of its own, on one thread, so that its peak memory is its own; ratios are of processor
time, which other work on the machine hardly touches.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

from plain_mtcnn import plain_mtcnn
from side_by_side import alone, show

from merlib.features import detectors, face
from merlib.features.media import Clip, pictures

FILMS = (".mp4", ".avi", ".mkv", ".mov")


def made(folder: Path, clips: int, size: str) -> None:
    """Films of 3 s, 15 pictures a second: a face that moves over a noisy ground."""
    import skimage.data

    width, height = map(int, size.split("x"))
    draw, seen = np.random.default_rng(0), skimage.data.astronaut()[20:220, 120:320]
    for i in range(clips):
        side = int(min(width, height) * draw.uniform(0.5, 0.9))
        small, ground = (
            cv2.resize(seen, (side, side)),
            draw.integers(256, size=(height // 8, width // 8, 3), dtype=np.uint8),
        )
        with av.open(str(folder / f"{i:03d}.mp4"), "w") as film:
            stream = film.add_stream("h264", rate=15)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for t in range(45):
                picture = cv2.resize(ground, (width, height))
                x = int((width - side) * (0.5 + 0.4 * np.sin(t / 7 + i)))
                picture[height - side :, x : x + side] = small
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    film.mux(packet)
            for packet in stream.encode():
                film.mux(packet)


def looked(how: str, network, many: np.ndarray) -> int:
    """Pictures in which a face is seen."""
    if how == "plain":
        with torch.inference_mode():
            return sum(len(plain_mtcnn(network, picture)[0]) > 0 for picture in many)
    look = {"merlib": detectors.mtcnn, "haar": detectors.haar}[how]
    return sum(int((~np.isnan(look(part)).any(1)).sum()) for part in face.stacks(many, face.TOGETHER))


def measure(how: str, files: list[Path], count: int) -> dict[str, float | str]:
    """One way in this process: clips and pictures a second of CPU, and peak memory, also over that at the start."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = detectors.network(20, 0.709, (0.6, 0.7, 0.7), "cpu")
    work = {"decode": lambda many: 0, "nets": partial(_given, network)}.get(how, partial(looked, how, network))
    for many in (np.zeros((2, 64, 64, 3), np.uint8), np.stack(list(pictures(Clip("", files[0]), count=2)))):
        work(many)  # first calls load and compile
    begin, before, worked, seen, total, nets = time.perf_counter(), _peak(), time.process_time(), 0, 0, 0.0
    for file in files:
        many = np.stack(list(pictures(Clip("", file), count=count)))
        found, total = work(many), total + len(many)
        seen, nets = (seen, nets + found) if how == "nets" else (seen + found, nets)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - worked
    cpu = nets if how == "nets" else cpu
    row = {"way": how, "clips": len(files), "pictures": total, "with_face": seen, "cpu_seconds": cpu}
    row |= {"clips_per_cpu_second": len(files) / cpu, "pictures_per_cpu_second": total / cpu, "seconds": seconds}
    return row | {"peak_mb": _peak(), "above_start_mb": _peak() - before}


def _given(network, many: np.ndarray) -> float:
    """Seconds of CPU of the three networks alone, on what they are given for these pictures."""
    given, nets = [], (network.pnet, network.rnet, network.onet)
    kept = [net.register_forward_pre_hook(lambda net, x: given.append((net, x[0]))) for net in nets]
    for part in face.stacks(many, face.TOGETHER):
        detectors.detect(part)
    for hook in kept:
        hook.remove()
    began = time.process_time()
    with torch.inference_mode():
        for net, x in given:
            net(x)
    return time.process_time() - began


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="films, at any depth; otherwise they are made")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--pictures", type=int, default=15, help="of each clip, spread over it")
    parser.add_argument("--ways", nargs="+", default=["decode", "nets", "plain", "merlib", "haar"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as made_here:
        if args.folder is None:
            made(Path(made_here), args.clips, args.size)
        files = sorted(f for f in (args.folder or Path(made_here)).rglob("*") if f.suffix.lower() in FILMS)[
            : args.clips
        ]
        if not files:
            parser.error(f"{args.folder}: no film ({', '.join(FILMS)}) in it")
        for way in args.ways:
            row = alone(measure, way, files, args.pictures)
            plain = next((r for r in found if r["way"] == "plain"), None)
            found.append(row | ({"times_plain": plain["cpu_seconds"] / row["cpu_seconds"]} if plain else {}))
            show(found[-1])
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
