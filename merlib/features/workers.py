"""Clips through an extractor, in this process or in several. Any number of workers gives the same bits: each computes
with one thread.

Workers are forked from a server process that has imported the modules of the extractor, and no others: what the command
line or a notebook has imported costs them nothing. They import the main script as Python does, which is why a script
needs a guard.
"""

import ast
import linecache
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import is_dataclass
from itertools import islice
from multiprocessing import forkserver
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from merlib.errors import FeatureError
from merlib.features.decoding import Clip, MediaError
from merlib.features.extractors import Extractor

CHUNK, AHEAD = 8, 3  # recordings that a worker takes at once, and such chunks on their way for each worker
Result = np.ndarray | str  # the steps of a clip, t d, or the reason why there are none
_extractor: Extractor  # of a worker


def compute(clips: list[Clip], extractor: Extractor, *, workers: int, keep: Callable[[int, Result], None]) -> None:
    """Call `keep` with the number of each clip and its result, in any order."""
    if workers > 1 and clips:
        _by_workers(clips, extractor, workers, keep)
        return
    torch = sys.modules.get("torch")
    threads = torch and torch.get_num_threads()
    try:
        with _one_thread():
            for i, clip in enumerate(clips):
                keep(i, _one(clip, extractor))
    finally:
        if torch:
            torch.set_num_threads(threads)


def _by_workers(clips: list[Clip], extractor: Extractor, workers: int, keep: Callable[[int, Result], None]) -> None:
    check_guard()
    size = min(CHUNK, math.ceil(len(clips) / (4 * workers)))
    chunks = ((i, clips[i : i + size]) for i in range(0, len(clips), size))
    serve(extractor)
    start = {"initializer": _as_worker, "initargs": (extractor, dict(os.environ))}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver"), **start) as pool:
        try:
            waiting = {pool.submit(_some, *chunk) for chunk in islice(chunks, AHEAD * workers)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                waiting |= {pool.submit(_some, *chunk) for chunk in islice(chunks, len(done))}
                for future in done:
                    for i, result in future.result():
                        keep(i, result)
        except BrokenProcessPool:
            remedy = "Run it again with fewer workers: finished results are not computed again"
            raise FeatureError(f"a worker was ended from outside, perhaps for memory. {remedy}.") from None
        finally:
            pool.shutdown(cancel_futures=True)


def serve(extractor: Extractor) -> None:
    """Start the process that workers are forked from, unless it runs. It finds the modules that this process finds."""
    forkserver.set_forkserver_preload(sorted(_modules(extractor)))
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}  # no thread when it forks
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _modules(extractor: Any) -> set[str]:
    """The modules of an extractor and of what it holds."""
    inner = (_modules(value) for value in vars(extractor).values() if is_dataclass(value))
    return {type(extractor).__module__, __name__}.union(*inner)


def _as_worker(extractor: Extractor, environment: dict[str, str]) -> None:
    """Take over the parent's environment, compute with one thread, and exit when the parent dies."""
    global _extractor
    _extractor = extractor
    os.environ |= environment | {"OMP_NUM_THREADS": "1"}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends its workers
    _one_thread()

    def watch() -> None:  # a killed parent would leave its workers waiting forever
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _one_thread() -> threadpool_limits:
    """Compute with one thread from now on, so that the bits do not depend on the number of threads."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    return threadpool_limits(1)


def _some(first: int, clips: list[Clip]) -> list[tuple[int, Result]]:
    return [(first + i, _one(clip, _extractor)) for i, clip in enumerate(clips)]


def _one(clip: Clip, extractor: Extractor) -> Result:
    try:
        values = extractor(clip)
    except MediaError as error:
        return str(error)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        return f"gave {values.dtype} {values.shape}, which is empty or not finite"
    return values


def check_guard() -> None:
    """Raise FeatureError where a script starts workers without a guard: each would run the whole script again."""
    main = sys.modules["__main__"]
    if getattr(main.__spec__, "name", "").endswith("__main__") or not hasattr(main, "__file__"):
        return  # `python -m package`, a notebook or the interpreter: workers import no main module
    for line in _lines_of(main):
        tree = ast.parse("".join(linecache.getlines(main.__file__)))
        calls = [statement for statement in tree.body if statement.lineno <= line <= statement.end_lineno]
        if calls and not (isinstance(calls[0], ast.If) and "__name__" in ast.unparse(calls[0].test)):
            where = f"{main.__file__}, line {line}"
            remedy = 'put what the script does below `if __name__ == "__main__":`, or take one worker'
            raise FeatureError(f"{where}: workers import this script, and would run it again: {remedy}.")


def _lines_of(main: Any) -> Iterator[int]:
    """The lines of the main script's own level that are running."""
    frame = sys._getframe()
    while frame:
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            yield frame.f_lineno
        frame = frame.f_back
