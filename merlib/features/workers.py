"""Clips through an extractor, in this process or in several. Any number of workers gives the same bits: each computes
with one thread.

Workers are forked from a server process that has imported the modules of the extractor, and no others: what the command
line or a notebook has imported costs them nothing. They import the main script as Python does, which is why a script
needs a guard.
"""

import ast
import faulthandler
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
from merlib.features.decoding import Clip
from merlib.features.extractors import Extractor
from merlib.features.limits import failure

CHUNK, AHEAD = 8, 3  # recordings that a worker takes at once, and such chunks on their way for each worker
DEADLINE = 3600  # seconds after which a worker ends itself at one recording
CRASHES = 8  # workers that may end one after the other, without a result between
Chunk = tuple[int, list[Clip]]  # the number of its first clip, and its clips
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
    """Where a worker ends, as at a file on which a decoder crashes, those on their way are computed one by one."""
    check_guard()
    serve(extractor)
    size, crashes = min(CHUNK, math.ceil(len(clips) / (4 * workers))), 0
    chunks = ((i, clips[i : i + size]) for i in range(0, len(clips), size))

    def kept(i: int, result: Result) -> None:
        nonlocal crashes
        crashes = 0
        keep(i, result)

    while lost := _pooled(chunks, extractor, workers, AHEAD * workers, kept):
        alone = ((first + i, [clip]) for first, some in lost for i, clip in enumerate(some))
        while culprit := _pooled(alone, extractor, 1, 1, kept):
            crashes += 1
            if crashes == CRASHES:
                remedy = "Run it again with fewer workers: finished results are not computed again"
                raise FeatureError(f"{crashes} workers ended one after the other, perhaps for memory. {remedy}.")
            keep(culprit[0][0], f"ended the process that read it: it crashed, or took more than {DEADLINE} s")


def _pooled(chunks: Iterator[Chunk], extractor: Extractor, workers: int, ahead: int, keep: Callable) -> list[Chunk]:
    """Compute chunks of clips until none is left, or a worker ends: then those that were on their way."""
    start = {"initializer": _as_worker, "initargs": (extractor, dict(os.environ))}
    waiting, on_their_way = set(), {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver"), **start) as pool:

        def send(chunk: Chunk) -> None:
            on_their_way[chunk[0]] = chunk
            waiting.add(pool.submit(_some, *chunk))

        try:
            for chunk in islice(chunks, ahead):
                send(chunk)
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    results = future.result()
                    waiting.remove(future)
                    del on_their_way[results[0][0]]
                    for i, result in results:
                        keep(i, result)
                    for chunk in islice(chunks, 1):
                        send(chunk)
        except BrokenProcessPool:
            return list(on_their_way.values())
        finally:
            pool.shutdown(cancel_futures=True)
    return []


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
    results = []
    with open(os.devnull, "w") as nowhere:
        for i, clip in enumerate(clips, first):
            faulthandler.dump_traceback_later(DEADLINE, exit=True, file=nowhere)  # also where a decoder hangs
            results.append((i, _one(clip, _extractor)))
            faulthandler.cancel_dump_traceback_later()
    return results


def _one(clip: Clip, extractor: Extractor) -> Result:
    """The steps of a clip. Whatever goes wrong with a recording is the reason why it has none, and ends nothing."""
    try:
        values = extractor(clip)
        if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
            return f"gave {values.dtype} {values.shape}, which is empty or not finite"
        return values
    except Exception as error:  # noqa: BLE001 (a damaged file may raise anything in a decoder or a network)
        return failure(error)


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
