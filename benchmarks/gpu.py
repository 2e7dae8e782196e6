"""What a GPU day measures, in one program of at most eight minutes on one card; it needs nothing but the checkout.

    python benchmarks/gpu.py --out FOLDER [--device cuda|cpu] [--size real|tiny] [--sections agreement steps ...]

    agreement    CPU against device: every network, loss and reading, forward, gradients and 20 steps
    waits        where the host waits for the device in a step of the loop, by line
    steps        seconds, operations and memory of a training step of every network at real sizes
    packing      1 to 16 runs on one card at once
    graphs       CUDA graphs; with --compile also torch.compile
    memory       GIA-MIC with an encoder as large as WavLM large that learns with it
    projection   hours for all own rows x 5 seeds, from `steps`

Each section is a process of its own with a budget of seconds: one that fails or runs out of time is reported, keeps the
rows that it has, and the others go on. After each, FOLDER/gpu.json and FOLDER/gpu.md are written anew.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installation too

import gpu_report

BUDGETS = {  # seconds, of 480
    "steps": 110, "projection": 15, "agreement": 130, "waits": 60, "memory": 60, "packing": 65, "graphs": 30,
}  # fmt: skip
MODULES = {"waits": ("gpu_speed", "waits"), "steps": ("gpu_speed", "steps")}  # the others are gpu_<section>.rows


def section_rows(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of a section, computed in this process."""
    import torch

    from merlib.training import loop

    loop.make_deterministic()
    module, function = MODULES.get(name, (f"gpu_{name}", "rows"))
    make = getattr(importlib.import_module(module), function)
    if name == "projection":
        yield from make(gpu_report.read_rows(args.out / "steps.jsonl"))
        return
    options: dict[str, Any] = {"most": args.most}
    if name == "agreement":
        torch.backends.cuda.matmul.allow_tf32 = False
        workers = 0 if args.device == "cpu" else max(1, min(8, (os.cpu_count() or 2) - 2))
        options |= {"planted": args.planted, "workers": workers}
    else:
        options["size"] = "tiny" if name == "waits" else args.size  # how often the host waits depends on no size
    if name == "graphs":
        options["compiled"] = args.compile
    if name == "packing" and args.size == "tiny":
        options |= {"runs": (1, 2), "seconds": 0.2}
    yield from make(args.device, **options)


def run_section(name: str, args: argparse.Namespace) -> None:
    """In the section's own process: writes each row to FOLDER/<section>.jsonl as it comes."""
    with (args.out / f"{name}.jsonl").open("w") as file:
        for row in section_rows(name, args):
            file.write(json.dumps(row) + "\n")
            file.flush()


def spawn_section(name: str, args: argparse.Namespace, argv: list[str], seconds: float) -> dict[str, Any]:
    """How a section went: its status (done, failed, out of time), its seconds, the last line of an error."""
    (args.out / f"{name}.jsonl").write_text("")
    began = time.monotonic()
    with (args.out / f"{name}.log").open("w") as log:
        command = [sys.executable, __file__, *argv, "--only", name]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            status = "done" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "out of time"
        finally:
            _end(process)
    lines = (args.out / f"{name}.log").read_text(errors="replace").strip().splitlines()
    error = lines[-1][:300] if status == "failed" and lines else ""
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "error": error}


def _end(process: subprocess.Popen) -> None:
    """Ends a section with the processes that it has started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return
    process.wait()


def machine(device: str) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if device == "cuda" else "none"
    cpus = {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {
        "gpu": gpu,
        **cpus,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", choices=["real", "tiny"], default="real")
    parser.add_argument("--sections", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--seconds", type=float, default=480, help="of the whole program")
    parser.add_argument("--most", type=int, default=10_000, help="rows a section at most")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, in the section graphs")
    parser.add_argument("--planted", default="", help="disturb this case on the device: agreement has to report it")
    parser.add_argument("--only", choices=BUDGETS, help=argparse.SUPPRESS)  # the section of this process
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only:
        return run_section(args.only, args)
    os.environ["GPU_CASES"] = str(args.out)  # the first section works the cases out, the others read them
    for old in args.out.glob("cases_*.pickle"):
        old.unlink()
    began = time.monotonic()
    report: dict[str, Any] = {"size": args.size, "device": args.device, "sections": {}}
    try:
        report["machine"] = machine(args.device)
    except (RuntimeError, AssertionError, ImportError) as error:  # the sections say more of what is wrong
        report["machine"] = {"error": f"{type(error).__name__}: {error}"}
    for name in args.sections:
        left = args.seconds - (time.monotonic() - began)
        if left < 5:
            report["sections"][name] = {"status": "no time left", "seconds": 0.0, "error": "", "rows": []}
        else:
            state = spawn_section(name, args, argv, min(left, BUDGETS[name] * args.seconds / sum(BUDGETS.values())))
            report["sections"][name] = state | {"rows": gpu_report.read_rows(args.out / f"{name}.jsonl")}
        gpu_report.write(report, args.out)
        state = report["sections"][name]
        print(
            f"{name}: {state['status']}, {len(state['rows'])} rows, {state['seconds']} s {state['error']}", flush=True
        )


if __name__ == "__main__":
    main()
