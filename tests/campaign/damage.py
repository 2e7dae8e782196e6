"""Thousands of damaged inputs of all kinds, each used once in a process of its own: what comes of them is counted.

    python tests/campaign/damage.py [--cases 2000] [--seed 0] [--kind KIND ...] [--keep FOLDER] [--write FILE]

What can come of a damaged file (`damages.py`) of an input (`sound_inputs.py`):

    clear error   one message that names the file (or its folder), exit 1 or 2
    told          the work is done, and a message says what was wrong (skipped, set aside, made again)
    harmless      the work is done, with the result of the sound input
    changed       another result, and not a word
    unnamed       an error message that names neither file nor folder
    traceback     a traceback, a signal, or another exit status
    hang          nothing after `--seconds`, or more memory than `--memory` GiB

Traceback, hang and unnamed are faults; changed is one where a digest or a range can know (`Kind.knows`). Exits with 1
where there is a fault.
"""

import argparse
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

import damages
import sound_inputs

from merlib.errors import MerlibError
from merlib.places import commit

OUTCOMES = ["clear error", "told", "harmless", "changed", "unnamed", "traceback", "hang"]
FAULTS = {"unnamed", "traceback", "hang"}
LONGEST_MESSAGE = 4000  # characters of standard error that are an answer and not a flood


@dataclass(frozen=True)
class Ending:
    """How a process ended: its exit status (None: it did not), what it gave, and what it said."""

    status: int | None
    value: Any = None
    said: str = ""


def forked(folder: Path, work: Callable[[], Any], *, seconds: float, memory: float) -> Ending:
    """Do `work` in a child process that works in `folder`, as the command line does it."""
    said, value = folder.with_suffix(".said"), folder.with_suffix(".value")
    if not (pid := os.fork()):
        os.setsid()
        for stream in (1, 2):
            os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w") for stream in (1, 2))
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory * 2**30),) * 2)
        os._exit(_child(folder, work, value))
    status, end = None, time.monotonic() + seconds
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else time.sleep(0.005)
    if status is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    text = said.read_text(errors="replace") if said.exists() else ""
    given = pickle.loads(value.read_bytes()) if value.exists() else None
    return Ending(status, given, text)


def _child(folder: Path, work: Callable[[], Any], value: Path) -> int:
    code = 0
    try:
        sound_inputs.environment(folder)
        value.write_bytes(pickle.dumps(work()))
    except (MerlibError, OSError) as error:
        print(f"merlib: {error}", file=sys.stderr)
        code = 1
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (whatever comes out is what the campaign looks for)
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def outcome(ending: Ending, sound: Ending, file: Path) -> str:
    """What came of a damaged file."""
    more = [line for line in ending.said.splitlines() if line not in sound.said.splitlines()]
    if ending.status is None:
        return "hang"
    if "Traceback (most recent call last)" in ending.said or ending.status not in (0, 1, 2):
        return "traceback"
    names = [file.name, file.stem, *(part for part in file.parent.parts[-2:] if part)]
    if ending.status:
        return "clear error" if any(name in line for name in names for line in more) else "unnamed"
    if more and any(name in line for name in names for line in more):
        return "told"
    return "harmless" if ending.value == sound.value else "changed"


def cases_of(kind: sound_inputs.Kind, home: Path) -> tuple[list[Path], dict[str, damages.Damage]]:
    """The files of a sound input that can come to harm, and the damages that suit them."""
    files = sorted(
        {f for pattern in kind.files for f in home.glob(pattern) if f.is_file() and not f.name.startswith(".")}
    )
    if not files:
        raise SystemExit(f"no file below {home} matches {kind.files}: the sound input was not made")
    ways = damages.OF_BYTES | damages.OF_FILES | (damages.OF_TEXT if kind.text else {})
    return files, {name: way for name, way in ways.items() if not (kind.optional and name in damages.GONE)}


def campaign(kinds: list[str], *, cases: int, seed: int, work: Path, seconds: float, memory: float) -> pd.DataFrame:
    """One row for each case: kind, file, damage, outcome, message."""
    rows = []
    bar = tqdm(total=cases, unit="case", disable=not sys.stderr.isatty())
    for number, name in enumerate(kinds):
        kind, home = sound_inputs.KINDS[name], work / f"sound{number}"
        home.mkdir(parents=True)
        limits = {"seconds": seconds, "memory": memory}
        made = forked(home, kind.make, seconds=300, memory=memory)
        if made.status:
            raise SystemExit(f"the sound input of {name} was not made: {made.said[-2000:]}")
        sound = forked(shutil.copytree(home, work / "sound_used", symlinks=True), kind.use, seconds=300, memory=memory)
        if sound.status or sound.value is None:
            raise SystemExit(f"the sound input of {name} cannot be used: {sound.said[-2000:]}")
        shutil.rmtree(work / "sound_used")
        files, ways = cases_of(kind, home)
        order = random.Random(f"{seed} {name}").sample(list(ways), len(ways))
        share = cases // len(kinds) + (number < cases % len(kinds))
        for case in range(share):
            draw = random.Random(f"{seed} {name} {case}")
            way = order[case % len(order)]
            original = draw.choice(files)
            folder = Path(shutil.copytree(home, work / f"case{number}_{case}", symlinks=True))
            harmed = folder / original.relative_to(home)
            ways[way](harmed, draw)
            began = time.monotonic()
            ending = forked(folder, kind.use, **limits)
            took = round(time.monotonic() - began, 1)
            what = outcome(ending, sound, original.relative_to(home))
            if len(ending.said) > LONGEST_MESSAGE + len(sound.said) and what not in FAULTS:
                what = "traceback"  # a flood is no message
            rows.append(
                (name, str(original.relative_to(home)), way, what, took, ending.said[-500:].replace("\n", " | "))
            )
            for left in (folder, folder.with_suffix(".said"), folder.with_suffix(".value")):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            bar.update()
        shutil.rmtree(home)
        for left in work.glob("sound*"):
            left.unlink()
    return pd.DataFrame(rows, columns=["kind", "file", "damage", "outcome", "seconds", "message"])


def faults(found: pd.DataFrame) -> pd.DataFrame:
    """The cases that should not be."""
    known = found["kind"].map(lambda name: sound_inputs.KINDS[name].knows)
    return found[found["outcome"].isin(FAULTS) | (known & (found["outcome"] == "changed"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=sound_inputs.KINDS)
    parser.add_argument("--seconds", type=float, default=60, help="after which a case hangs")
    parser.add_argument("--memory", type=float, default=3, help="GiB that a case may take")
    parser.add_argument("--write", type=Path, help="a CSV file for every case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(
            args.kind or list(sound_inputs.KINDS), cases=args.cases, seed=args.seed, work=Path(folder),
            seconds=args.seconds, memory=args.memory,
        )  # fmt: skip
    if args.write:
        found.to_csv(args.write, index=False)
    counts = pd.crosstab(found["kind"], found["outcome"], margins=True).reindex(
        columns=[*OUTCOMES, "All"], fill_value=0
    )
    print(counts.to_string())
    wrong = faults(found)
    print(f"\n{len(wrong)} faults of {len(found)} cases; commit {commit()}, seed {args.seed}")
    print(wrong[["kind", "file", "damage", "outcome", "message"]].head(60).to_string(index=False, max_colwidth=200))
    sys.exit(bool(len(wrong)))


if __name__ == "__main__":
    main()
