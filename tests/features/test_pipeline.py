"""The pipeline: the same bits however it runs, nothing lost by a kill, every bad recording named with its reason."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from merlib import files
from merlib.data import folders, inputs, recordings, store, table
from merlib.errors import FeatureError
from merlib.features import decoding, pipeline, workers
from merlib.features.decoding import Clip, MediaError
from merlib.roots import extract

RATE = 16000


@dataclass(frozen=True)
class Energy:
    """The loudness of every hundredth of a second; `pause` seconds a file, so that it can be killed on the way."""

    pause: float = 0.0
    modality: str = "audio"

    def __call__(self, clip: Clip) -> np.ndarray:
        time.sleep(self.pause)
        samples = decoding.audio(clip, rate=RATE)
        steps = samples[: len(samples) // 160 * 160].reshape(-1, 160)
        if not len(steps):
            raise MediaError("shorter than a hundredth of a second")
        return np.stack([steps.std(1), np.abs(steps).max(1)], axis=1)

    def about(self) -> dict[str, str]:
        return {"extractor": "energy", "version": "1", "weights_sha256": "", "trained_on": "nothing"}


@dataclass(frozen=True)
class Brightness:
    """Mean and standard deviation of ten frames."""

    modality: str = "visual"

    def __call__(self, clip: Clip) -> np.ndarray:
        return np.array([[p.mean(), p.std()] for p in decoding.frames(clip, count=10)], dtype=np.float32)

    def about(self) -> dict[str, str]:
        return {"extractor": "brightness", "version": "1", "weights_sha256": "", "trained_on": "nothing"}


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


def video(path: Path, *, seconds: float, shades=(64, 192), rate: int = 10, audio: float | None = None) -> Path:
    """A video whose left and right half have one grey each, with `audio` seconds of noise (None: its own length)."""
    with av.open(str(path), "w") as out:
        frames = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "qp": "0"})
        frames.width, frames.height, frames.pix_fmt = 64, 48, "yuv444p"
        track = out.add_stream("aac", rate=RATE, layout="mono")
        for _ in range(round(seconds * rate)):
            pixels = np.repeat(np.repeat(np.array(shades, np.uint8), 32)[None, :, None], 48, axis=0).repeat(3, axis=2)
            out.mux(frames.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(noise(audio or seconds)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        out.mux(track.encode(frame))
        out.mux([*frames.encode(None), *track.encode(None)])
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with 12 clips of RAVDESS, each of its own length and loudness."""
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path / "data"))
    return make_root(tmp_path, {f"c{i:02d}": noise(0.1 + 0.02 * i, seed=i) for i in range(12)})


def make_root(folder: Path, sounds: dict[str, np.ndarray], videos: dict[str, str] | None = None) -> Path:
    """Writes the corpus into data/real/ravdess and its wav files into media/; returns that folder."""
    (folder / "media").mkdir(exist_ok=True)
    for name, samples in sounds.items():
        soundfile.write(folder / "media" / f"{name}.wav", samples, RATE)
    rows = pd.DataFrame({"utterance": list(sounds), "dialogue": list(sounds)})
    rows["speaker"], rows["label"] = [f"{1 + i % 24:02d}" for i in range(len(rows))], [i % 8 for i in range(len(rows))]
    rows["split"] = [("train", "val", "test")[i % 3] for i in range(len(rows))]
    rows["audio"] = [f"{name}.wav" for name in sounds]
    rows["video"] = [(videos or {}).get(name, "") for name in sounds]
    table.save(table.build("ravdess", rows, source="test"), folder / "data" / "real" / "ravdess")
    return folder / "media"


def extracted(folder: Path, name: str = "audio", **options):
    file = extract.extract_array(
        "real", "ravdess", extractor=Energy(), media=folder, name=name, progress=False, **options
    )
    corpus = folders.dataset("real", "ravdess", features=()).corpus
    return store.read(file.parent.parent, name, ids=corpus.ids)


def test_one_worker_and_two_give_the_same_bits_as_a_plain_loop(root):
    one, two = extracted(root), extracted(root, name="again", workers=2)
    plain = [Energy()(Clip(p.stem, p)) for p in sorted(root.glob("*.wav"))]
    np.testing.assert_array_equal(one.values, np.concatenate(plain))
    np.testing.assert_array_equal(one.lengths, [len(values) for values in plain])
    assert one.passport.sha256 == two.passport.sha256 and one.passport.failed == ()


@dataclass(frozen=True)
class Noise:
    """A megabyte of pixels of every video."""

    modality: str = "visual"

    def __call__(self, clip: Clip) -> np.ndarray:
        return np.random.default_rng(len(clip.utterance)).integers(0, 256, (16, 1 << 16), dtype=np.uint8)

    def about(self) -> dict[str, str]:
        return {"extractor": "noise", "version": "1", "weights_sha256": "", "trained_on": "nothing"}


def test_frames_are_bytes_and_memory_never_holds_the_whole_array(root, tmp_path):
    make_root(tmp_path, {f"c{i:02d}": noise(0.1) for i in range(48)}, {f"c{i:02d}": f"c{i:02d}.wav" for i in range(48)})
    tracemalloc.start()
    file = extract.extract_array("real", "ravdess", extractor=Noise(), media=root, name="pixels", progress=False)
    assert tracemalloc.get_traced_memory()[1] < 12 << 20  # of 48
    tracemalloc.stop()
    corpus = folders.dataset("real", "ravdess", features=()).corpus
    found = store.read(file.parent.parent, "pixels", ids=corpus.ids)
    assert found.values.dtype == np.uint8 and found.values.shape == (48 * 16, 1 << 16)
    np.testing.assert_array_equal(found.values[-16:], Noise()(Clip("c47", root / "c47.wav")))


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed_it_computes_only_what_is_missing(root, tmp_path, workers):
    script = (
        "from pathlib import Path; from test_pipeline import Energy; from merlib.roots import extract; "
        f"extract.extract_array('real', 'ravdess', extractor=Energy(0.2), media=Path({str(root)!r}), name='slow', "
        f"workers={workers}, progress=False)"
    )
    env = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"}
    process = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)
    parts = tmp_path / "data" / "real" / "ravdess" / "parts" / "slow"
    while process.poll() is None and not list(parts.glob("*.safetensors")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = [key for part in parts.glob("*.safetensors") for key in load_file(part)]
    assert 0 < len(there) < 12, "a part holds about a second of work"
    seen = []

    @dataclass(frozen=True)
    class Watched(Energy):
        def __call__(self, clip: Clip) -> np.ndarray:
            seen.append(clip.utterance)
            return super().__call__(clip)

        def __repr__(self) -> str:
            return repr(Energy(0.2))

    file = extract.extract_array("real", "ravdess", extractor=Watched(), media=root, name="slow", progress=False)
    assert len(seen) == 12 - len(there) and not parts.exists()
    assert store.read_passport(file).sha256 == extracted(root).passport.sha256
    extract.extract_array("real", "ravdess", extractor=Watched(), media=root, name="slow", progress=False)
    assert len(seen) == 12 - len(there), "what is done is not done again"
    soundfile.write(root / "c00.wav", noise(0.5), RATE)
    extract.extract_array("real", "ravdess", extractor=Watched(), media=root, name="slow", progress=False)
    assert len(seen) == 2 * 12 - len(there), "a changed file is another input"


def test_an_array_of_other_settings_or_with_fewer_failures_is_not_replaced(root):
    """Settings are what `about` says: of another extractor, version or weights nothing is overwritten."""

    @dataclass(frozen=True)
    class Newer(Energy):
        field: str = ""

        def about(self) -> dict[str, str]:
            return super().about() | {self.field: "2"}

    (root / "c00.wav").rename(root / "c00.later")
    before = extracted(root).passport
    run = {"media": root, "name": "audio", "progress": False}
    for field in ("extractor", "version", "weights_sha256"):
        with pytest.raises(FeatureError, match=f"audio.safetensors holds audio: energy .*, of another {field}. Give"):
            extract.extract_array("real", "ravdess", extractor=Newer(field=field), **run)
    whole = (root / "c01.wav").read_bytes()
    for change, reason in ((Path.unlink, "no such file"), (lambda file: file.write_bytes(b"no sound"), "cannot be")):
        change(root / "c01.wav")
        with pytest.raises(FeatureError, match=f"would lose 1 of its 11 recordings: c01 c01.wav: {reason}.* delete"):
            extracted(root)
    file = folders.root_path("real") / "ravdess" / "features" / "audio.safetensors"
    assert store.read_passport(file) == before
    assert list(extract.failures("real", "ravdess", "audio")["utterance"]) == ["c00"]
    (root / "c01.wav").write_bytes(whole)
    (root / "c00.later").rename(root / "c00.wav")
    assert extracted(root).passport.failed == (), "what was missing may be added"


def test_workers_end_with_the_process_that_started_them(root):
    script = (
        "from pathlib import Path; from test_pipeline import Energy; from merlib.roots import extract; "
        f"extract.extract_array('real', 'ravdess', extractor=Energy(60), media=Path({str(root)!r}), name='slow', "
        "workers=2, progress=False)"
    )
    env = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"}
    process = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)

    def below(pid: str) -> set[str]:
        """All descendants: the server, the workers that it forks, and the tracker of resources."""
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return set(children).union(*map(below, children))

    while process.poll() is None and len(below(str(process.pid))) < 4:
        time.sleep(0.05)
    time.sleep(2)  # until they work
    started = below(str(process.pid))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while (left := {p for p in started if Path(f"/proc/{p}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(started) >= 4 and not left


SCRIPT = """
from pathlib import Path
from merlib.features import decoding, workers
from merlib.features.audio import Waveform

def work():
    clips = [decoding.Clip("u", file) for file in sorted(Path(FOLDER).glob("*.wav"))]
    workers.compute(clips, Waveform(), workers=2, keep=lambda i, values: print(i, len(values)))

"""


@pytest.mark.parametrize("guard", [True, False])
def test_a_script_without_a_guard_is_told_so(root, tmp_path, guard):
    script = tmp_path / "script.py"
    call = 'if __name__ == "__main__":\n    work()\n' if guard else "work()\n"
    script.write_text(SCRIPT.replace("FOLDER", repr(str(root))) + call)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    if guard:
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 12)
    else:
        assert "line 10: workers import this script, and would run it again: put what the script does" in done.stderr
        assert done.stdout == "" and 'below `if __name__ == "__main__":`' in done.stderr


def test_workers_import_neither_torch_nor_numba_nor_pandas():
    """What the server of the workers imports for audio and for Haar's faces."""
    heavy = "('torch', 'numba', 'librosa', 'pandas', 'sklearn', 'pydantic', 'transformers')"
    imports = "import sys; from merlib.features import audio, faces, workers"
    code = f"{imports}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_killed_before_the_array_is_whole_it_leaves_its_failures_to_read(root, monkeypatch, exit_status_of):
    (root / "c00.wav").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert exit_status_of(lambda: extracted(root)) == -signal.SIGKILL
    for _ in range(2):
        assert list(extract.failures("real", "ravdess", "audio")["utterance"]) == ["c00"]
        extracted(root)


@pytest.mark.parametrize("damaged", [b"", b"utterance\n"])
def test_failures_that_cannot_be_read_are_said_to_be_damaged(root, damaged):
    extracted(root)
    (root.parent / "data" / "real" / "ravdess" / "features" / "audio.failures.csv").write_bytes(damaged)
    with pytest.raises(FeatureError, match="audio.failures.csv is damaged .* Delete it and audio.safetensors"):
        extract.failures("real", "ravdess", "audio")


def test_two_extractions_at_once_leave_one_whole_array(root):
    run = {"extractor": Energy(0.05), "media": root, "name": "both", "progress": False}
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=extract.extract_array, args=("real", "ravdess"), kwargs=run) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    file = extract.extract_array("real", "ravdess", **run)
    assert store.read_passport(file).sha256 == extracted(root).passport.sha256


def bad_media(folder: Path) -> dict[str, str]:
    """Bad recordings: file name -> what the reason must say."""
    good = noise(0.3)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"no sound at all" * 100)
    soundfile.write(folder / "zero.wav", np.zeros(0, np.float32), RATE)
    soundfile.write(folder / "nan.wav", np.where(np.arange(len(good)) == 99, np.nan, good), RATE, subtype="FLOAT")
    soundfile.write(folder / "integers.wav", np.append(good, -1) * 32768, RATE, subtype="FLOAT")
    soundfile.write(folder / "outside.wav", good, RATE)
    (folder / "outside.wav").rename(folder.parent / "outside.wav")
    (folder / "link.wav").symlink_to(folder.parent / "outside.wav")
    whole = video(folder / "whole.mp4", seconds=1.0).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "long.wav", np.zeros(601 * 100, np.float32), 100)
    return {
        "empty.wav": "empty", "text.wav": "cannot be read", "zero.wav": "no audio", "nan.wav": "not finite",
        "integers.wav": "samples up to 32768; expected -1 to 1: normalise the file",
        "link.wav": "leads out", "cut.mp4": "cannot be decoded", "absent.wav": "no such file", "long.wav": "601 s long",
        "../outside.wav": "leads out", "c00.wav#t=9,10": "before the utterance begins", "c00.wav#t=2,1": "ends at",
    }  # fmt: skip


def test_what_cannot_be_used_is_named_counted_and_zero(root, tmp_path):
    reasons = bad_media(root)
    files = [*reasons, "c00.wav", "c01.wav", "c02.wav", "whole.mp4", "c03.wav"]
    rows = pd.DataFrame({"utterance": [f"u{i}" for i in range(len(files))], "audio": files})
    rows["dialogue"], rows["speaker"], rows["label"] = rows["utterance"], "01", [i % 8 for i in range(len(rows))]
    rows["split"] = [("train", "val", "test")[i % 3] for i in range(len(rows))]
    home = tmp_path / "data" / "real" / "ravdess"
    table.save(table.build("ravdess", rows, source="test"), home)
    found = extracted(root)
    bad = [f"u{i}" for i in range(len(reasons))]
    assert list(found.passport.failed) == bad and f"{len(bad)} failed" in found.passport.summary()
    said = extract.failures("real", "ravdess", "audio")
    assert list(said["utterance"]) == bad and list(said["file"]) == list(reasons)
    for reason, expected in zip(said["reason"], reasons.values(), strict=True):
        assert expected in reason and str(root) not in reason
    assert (found.lengths[: len(bad)] == 1).all() and (found.values[: len(bad)] == 0).all()
    assert (found.lengths[len(bad) :] > 1).all()
    dataset, protocol = folders.dataset("real", "ravdess"), {"split": "corpus"}
    data = {"unit": "utterance", "modalities": "A", "audio": "audio", "standardize": False}
    kept = inputs.splits(dataset, data=data, protocol=protocol)
    left = inputs.splits(dataset, data=data | {"on_failure": "discard"}, protocol=protocol)
    assert sum(map(len, kept.values())) == len(files) and sum(map(len, left.values())) == len(files) - len(bad)
    assert not {u for split in left.values() for u in split.ids} & set(bad)


def test_a_header_that_lies_of_three_gigabytes_costs_no_memory(tmp_path):
    """A wav file whose header announces 3 GB of samples: what is there is read, or it is refused, in little memory."""
    soundfile.write(tmp_path / "lie.wav", noise(0.3), RATE, subtype="PCM_16")
    raw = bytearray((tmp_path / "lie.wav").read_bytes())
    at = raw.index(b"data") + 4
    raw[at : at + 4] = (3 << 30).to_bytes(4, "little")
    (tmp_path / "lie.wav").write_bytes(raw)
    code = (
        "import resource, sys; from pathlib import Path; from merlib.features import decoding\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: print(len(decoding.audio(decoding.Clip('u', Path(sys.argv[1])), rate=16000)))\n"
        "except decoding.MediaError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lie.wav")], env=env, capture_output=True, text=True, check=True
    )
    assert int(done.stderr.split()[-1]) < 200_000, "KiB"
    assert done.stdout.strip() == str(round(0.3 * RATE)) or " s long" in done.stdout


@dataclass(frozen=True)
class Faulty(Energy):
    """As Energy, but each of the first clips does something wrong."""

    def __call__(self, clip: Clip) -> np.ndarray:
        values = super().__call__(clip)
        match clip.utterance:
            case "c00":
                raise ZeroDivisionError("division by zero")
            case "c01":
                raise MemoryError
            case "c02":
                raise FeatureError("two lines\nof words")
            case "c03":
                return values[:, :1]
            case "c04":
                return values.astype(np.float64)
            case "c05":
                return values.astype(np.int64)
            case "c06":
                return None
        return values


@pytest.mark.parametrize("processes", [1, 2])
def test_whatever_a_row_does_it_is_one_counted_failure(root, processes):
    file = extract.extract_array(
        "real", "ravdess", extractor=Faulty(), media=root, name="audio", progress=False, workers=processes
    )
    assert store.read_passport(file).failed == tuple(f"c{i:02d}" for i in range(7))
    reasons = dict(extract.failures("real", "ravdess", "audio")[["utterance", "reason"]].to_numpy())
    assert reasons["c00"] == "ZeroDivisionError: division by zero" and reasons["c01"] == "MemoryError: MemoryError"
    assert reasons["c02"] == "FeatureError: two lines of words"
    assert "gave F32 of width 1, others F32 of width 2" in reasons["c03"]
    assert "gave F64" in reasons["c04"] and "gave int64; expected floats" in reasons["c05"]
    assert "AttributeError" in reasons["c06"]


@dataclass(frozen=True)
class Crashing(Energy):
    """As Energy; two recordings end the process that reads them, as a decoder that crashes does."""

    crashing: tuple[str, ...] = ("c02", "c07")

    def __call__(self, clip: Clip) -> np.ndarray:
        if clip.utterance in self.crashing:
            os.abort()
        return super().__call__(clip)


def test_a_recording_that_ends_its_worker_is_one_counted_failure(root):
    run = {"media": root, "progress": False, "workers": 2}
    file = extract.extract_array("real", "ravdess", extractor=Crashing(), name="audio", **run)
    assert store.read_passport(file).failed == ("c02", "c07")
    reasons = extract.failures("real", "ravdess", "audio")["reason"]
    assert reasons.str.startswith("ended the process that read it").all()
    everything = Crashing(crashing=tuple(f"c{i:02d}" for i in range(12)))
    with pytest.raises(FeatureError, match="8 workers ended one after the other"):
        extract.extract_array("real", "ravdess", extractor=everything, name="other", **run)


def test_a_worker_that_hangs_ends_itself(root, exit_status_of, monkeypatch):
    monkeypatch.setattr(workers, "DEADLINE", 0.2)
    monkeypatch.setattr(workers, "_extractor", Energy(60), raising=False)
    begin = time.monotonic()
    assert exit_status_of(lambda: workers._some(0, [Clip("c00", root / "c00.wav")])) == 1
    assert 0.2 < time.monotonic() - begin < 30


def test_many_failures_of_one_kind_are_one_line(root, tmp_path):
    home = tmp_path / "data" / "real" / "ravdess"
    corpus = table.load(home)
    files = corpus.table["audio"].where(corpus.table["utterance"] < "c03", "")
    files[3:5], files[5] = np.nan, "nan"
    corpus = table.Corpus("ravdess", corpus.labels, corpus.table.assign(audio=files), "test")
    assert pipeline.named(corpus, "audio") == ["c00.wav", "c01.wav", "c02.wav", *[""] * 9]
    (root / "c02.wav").unlink()
    pipeline.into(home, corpus, extractor=Energy(), media=root, name="audio", progress=False)
    failures = extract.failures("real", "ravdess", "audio")
    assert "nan" not in failures.to_csv() and len(failures) == 10
    assert pipeline.grouped(failures.itertuples(index=False)) == [
        "c02 c02.wav: no such file",
        "9 recordings, first c03: the table names no file",
    ]
    numbers = [("a", "a.mp4", "1.2 of 3.0 s readable"), ("b", "b.mp4", "0.4 of 2.1 s readable")]
    assert pipeline.grouped(numbers) == ["2 recordings, first a a.mp4: 1.2 of 3.0 s readable"]


def killed_in_the_middle(root, patch) -> Path:
    """The folder of parts that an extraction leaves when nothing but the array is missing."""
    with patch.context() as at_the_end, pytest.raises(KeyboardInterrupt):
        at_the_end.setattr(store, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        extracted(root)
    return root.parent / "data" / "real" / "ravdess" / "parts" / "audio"


def flipped(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 8
    file.write_bytes(raw)


def renamed(file: Path) -> None:
    """A result under the name of another: its header is one of safetensors still."""
    content = load_file(file)
    first, second, *_ = content
    save_file(content | {first: content[second]}, file, safe_open(file, framework="numpy").metadata())


DAMAGES = {
    "flipped": flipped,
    "renamed": renamed,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "empty": lambda file: file.write_bytes(b""),
    "old": lambda file: save_file(load_file(file), file),  # of a version without digests
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_part_that_is_not_as_it_was_written_is_set_aside_and_made_again(root, monkeypatch, capsys, damage):
    whole = extracted(root, name="plain").passport.sha256
    folder = killed_in_the_middle(root, monkeypatch)
    (file,) = folder.glob("*.safetensors")
    damage(file)
    (folder / ".left.abcdefgh.part").touch()  # of a process that was killed
    files._remove_orphans.cache_clear()  # as in a new process
    folder = killed_in_the_middle(root, monkeypatch)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line and "is now" in line and "computed again" in line
    assert {f.suffix for f in folder.iterdir() if f.name != "all"} == {".damaged", ".safetensors"}
    assert extracted(root).passport.sha256 == whole and not folder.exists()


def test_parts_of_another_array_are_not_believed(root, monkeypatch, capsys):
    folder = killed_in_the_middle(root, monkeypatch)
    folder.rename(folder.with_name("other"))
    extracted(root, name="other")
    assert "is damaged, or not of ravdess/other" in capsys.readouterr().err


def test_a_folder_without_any_recording_is_an_error_that_says_so(root, tmp_path):
    with pytest.raises(FeatureError, match="none of 12 recordings.*no such file.*the folder of the recordings"):
        extracted(tmp_path / "data")


def test_eight_kilohertz_in_stereo_becomes_one_channel_at_the_rate_asked(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, 0 * tone], axis=1), 8000)
    found = decoding.audio(Clip("u", tmp_path / "stereo.wav"), rate=RATE)
    inside = slice(1000, 15000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert len(found) == RATE
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-3)


def test_a_part_of_a_file_is_that_part(tmp_path):
    samples = noise(2.0)
    soundfile.write(tmp_path / "whole.flac", samples, RATE)
    whole = decoding.audio(Clip("u", tmp_path / "whole.flac"), rate=RATE)
    cut = decoding.located("u", recordings.part("whole.flac", 0.5, 1.25), tmp_path)
    np.testing.assert_array_equal(decoding.audio(cut, rate=RATE), whole[8000:20000])


def test_the_audio_of_a_video_is_cut_where_asked(tmp_path):
    video(tmp_path / "video.mp4", seconds=2.0)
    whole = decoding.audio(Clip("u", tmp_path / "video.mp4"), rate=RATE)
    part = decoding.audio(Clip("u", tmp_path / "video.mp4", 0.5, 1.5), rate=RATE)
    assert abs(len(whole) - 2 * RATE) <= 2048 and abs(len(part) - RATE) <= 1
    np.testing.assert_allclose(part, whole[8000:24000], atol=1e-3)


def test_frames_come_as_many_as_asked_and_of_the_right_half(tmp_path):
    video(tmp_path / "video.mp4", seconds=1.0)
    for side, shade in (("left", 64), ("right", 192)):
        clip = decoding.located("u", recordings.part("video.mp4", 0.2, 0.7, side), tmp_path)
        frames = list(decoding.frames(clip, count=8))
        assert len(frames) == 8 and frames[0].shape == (48, 32, 3)
        assert all(abs(p.astype(int) - shade).max() <= 3 for p in frames)
    assert len(list(decoding.frames(Clip("u", tmp_path / "video.mp4")))) == 10


def test_a_video_that_is_shorter_than_its_audio_repeats_its_last_frame(tmp_path):
    video(tmp_path / "short.mp4", seconds=0.5, audio=1.5)
    frames = list(decoding.frames(Clip("u", tmp_path / "short.mp4", 0.0, 1.5), count=6))
    assert (
        len(frames) == 6 and abs(len(decoding.audio(Clip("u", tmp_path / "short.mp4"), rate=RATE)) - 1.5 * RATE) <= 2048
    )
    np.testing.assert_array_equal(frames[-1], frames[2])


def test_a_table_may_name_the_video_where_there_is_no_audio_file(root, tmp_path):
    video(root / "both.mp4", seconds=0.5)
    make_root(tmp_path, {"c00": noise(0.2), "c01": noise(0.2), "c02": noise(0.2)}, {"c00": "both.mp4"})
    corpus = folders.dataset("real", "ravdess", features=()).corpus
    assert pipeline.named(corpus, "audio")[0] == "c00.wav" and pipeline.named(corpus, "visual") == ["both.mp4", "", ""]
    file = extract.extract_array("real", "ravdess", extractor=Brightness(), media=root, name="visual", progress=False)
    assert store.read_passport(file).failed == ("c01", "c02")
    assert set(extract.failures("real", "ravdess", "visual")["reason"]) == {"the table names no file"}


@pytest.mark.parametrize("text", ["a.avi#t=1", "a.avi#t=1,2&xywh=percent:10,0,50,100", "a.avi#track=1"])
def test_what_is_no_part_of_a_file_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match="is no path"):
        recordings.parse(text)
    with pytest.raises(MediaError, match="is no path"):
        decoding.located("u", text, tmp_path)
