"""Ctrl-C (SIGINT) and SIGTERM: a command ends by them as by an exit, but not in the middle of an epoch."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STATUS = tuple(128 + number for number in SIGNALS)  # the exit statuses 130 and 143 of a command that they have ended


@contextmanager
def ending_the_command() -> Iterator[None]:
    """A signal raises SystemExit in the block, so that what is open is closed and what is done is kept."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    with _handled_by(end):
        yield


@contextmanager
def waiting() -> Iterator[list[int]]:
    """A signal waits until the block ends; a second one acts at once. Yields a list, which holds what has arrived."""
    arrived: list[int] = []

    def wait(number: int, _: object) -> None:
        arrived.append(number)
        restore()

    try:
        with _handled_by(wait) as restore:
            yield arrived
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def _handled_by(handler: Callable) -> Iterator[Callable[[], None]]:
    """`handler` is called by signals that this process does not ignore; yields a function that undoes this early."""
    in_main = threading.current_thread() is threading.main_thread()  # other threads receive none
    before = {number: signal.getsignal(number) for number in SIGNALS} if in_main else {}
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, old in before.items():
            signal.signal(number, old)

    for number in before:
        signal.signal(number, handler)
    try:
        yield restore
    finally:
        restore()
