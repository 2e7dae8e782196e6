"""Faces in video: merlib's MTCNN over all frames of a clip beside the plain loop, frame by frame; and Haar.

    python benchmarks/faces.py [--folder VIDEOS] [--clips 8] [--size 320x240] [--frames 15] [--json FILE]

Without a folder of videos, noisy ones with a real, moving face are made. There are two floors: `decode` reads the
frames and detects nothing; `nets` runs the three networks on the inputs that merlib's MTCNN gives them, and no more.
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

from merlib.features import decoding, faces, mtcnn_faces
from merlib.features.decoding import Clip

VIDEOS = (".mp4", ".avi", ".mkv", ".mov")


def made(folder: Path, clips: int, size: str) -> None:
    """Videos of 3 s, 15 frames a second: a face that moves over a noisy ground."""
    import skimage.data

    width, height = map(int, size.split("x"))
    draw, seen = np.random.default_rng(0), skimage.data.astronaut()[20:220, 120:320]
    for i in range(clips):
        side = int(min(width, height) * draw.uniform(0.5, 0.9))
        small, ground = (
            cv2.resize(seen, (side, side)),
            draw.integers(256, size=(height // 8, width // 8, 3), dtype=np.uint8),
        )
        with av.open(str(folder / f"{i:03d}.mp4"), "w") as video:
            stream = video.add_stream("h264", rate=15)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for t in range(45):
                frame = cv2.resize(ground, (width, height))
                x = int((width - side) * (0.5 + 0.4 * np.sin(t / 7 + i)))
                frame[height - side :, x : x + side] = small
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                    video.mux(packet)
            for packet in stream.encode():
                video.mux(packet)


def with_face(how: str, network, frames: np.ndarray) -> int:
    """Frames in which a face is detected."""
    if how == "plain":
        with torch.inference_mode():
            return sum(len(plain_mtcnn(network, frame)[0]) > 0 for frame in frames)
    look = {"merlib": mtcnn_faces.one_face, "haar": faces.haar}[how]
    return sum(int((~np.isnan(look(part)).any(1)).sum()) for part in faces.batches(frames, mtcnn_faces.TOGETHER))


def measure(how: str, files: list[Path], count: int) -> dict[str, float | str]:
    """One way in this process: clips and frames a second of CPU, and peak memory, also over that at the start."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = mtcnn_faces.network(20, 0.709, (0.6, 0.7, 0.7), "cpu")
    work = {"decode": lambda frames: 0, "nets": partial(_given, network)}.get(how, partial(with_face, how, network))
    for frames in (np.zeros((2, 64, 64, 3), np.uint8), np.stack(list(decoding.frames(Clip("", files[0]), count=2)))):
        work(frames)  # first calls load and compile
    begin, before, worked, seen, total, nets = time.perf_counter(), _peak(), time.process_time(), 0, 0, 0.0
    for file in files:
        frames = np.stack(list(decoding.frames(Clip("", file), count=count)))
        found, total = work(frames), total + len(frames)
        seen, nets = (seen, nets + found) if how == "nets" else (seen + found, nets)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - worked
    cpu = nets if how == "nets" else cpu
    row = {"way": how, "clips": len(files), "frames": total, "with_face": seen, "cpu_seconds": cpu}
    row |= {"clips_per_cpu_second": len(files) / cpu, "frames_per_cpu_second": total / cpu, "seconds": seconds}
    return row | {"peak_mb": _peak(), "above_start_mb": _peak() - before}


def _given(network, frames: np.ndarray) -> float:
    """Seconds of CPU of the three networks alone, on what they are given for these frames."""
    given, nets = [], (network.pnet, network.rnet, network.onet)
    hooks = [net.register_forward_pre_hook(lambda net, x: given.append((net, x[0]))) for net in nets]
    for part in faces.batches(frames, mtcnn_faces.TOGETHER):
        mtcnn_faces.detect(part)
    for hook in hooks:
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
    parser.add_argument("--folder", type=Path, help="videos, at any depth; otherwise they are made")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--frames", type=int, default=15, help="of each clip, spread over it")
    parser.add_argument("--ways", nargs="+", default=["decode", "nets", "plain", "merlib", "haar"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as made_here:
        if args.folder is None:
            made(Path(made_here), args.clips, args.size)
        files = sorted(f for f in (args.folder or Path(made_here)).rglob("*") if f.suffix.lower() in VIDEOS)[
            : args.clips
        ]
        if not files:
            parser.error(f"{args.folder}: no video ({', '.join(VIDEOS)}) in it")
        for way in args.ways:
            row = alone(measure, way, files, args.frames)
            plain = next((r for r in found if r["way"] == "plain"), None)
            found.append(row | ({"times_plain": plain["cpu_seconds"] / row["cpu_seconds"]} if plain else {}))
            show(found[-1])
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
