"""What stops a training from outside: Ctrl-C, SIGTERM, and memory that runs out."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from merlib.errors import MerlibError, is_out_of_memory


class TrainingError(MerlibError, RuntimeError):
    """Training cannot continue; the message says where it stopped and what to try."""


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Ctrl-C (SIGINT) and SIGTERM wait until the block ends, so that an epoch is finished and kept; a second one acts
    at once.

    Yields a list that holds a signal as soon as it has come. Threads other than the main one get no signals.
    """
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, _: object) -> None:
        arrived.append(number)
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in before:
            signal.signal(number, hold)
    try:
        yield arrived
    finally:
        if threading.current_thread() is threading.main_thread():
            restore()
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Raise TrainingError where memory runs out in the block, of the processor or of the GPU."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory at {what}: {remedy}") from error
