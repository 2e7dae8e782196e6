"""What a recording may cost, whatever is in it: time and memory; and the error for one that cannot be used."""

import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from merlib.errors import MerlibError

Item = TypeVar("Item")
PATIENCE = 600.0  # seconds that reading one recording may take, without what is done with its frames
MEMORY = 1 << 29  # bytes that opening a recording may take


class MediaError(MerlibError, ValueError):
    """A recording that cannot be used; the message is the reason."""


def reason(error: Exception) -> str:
    """An error in a few words, without the file's path."""
    words = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    return words.split("\n")[0].strip(" :.")[:200] or type(error).__name__


def failure(error: Exception) -> str:
    """Why a recording has no result, where this was raised: a line of its failures."""
    return str(error) if isinstance(error, MediaError) else f"{type(error).__name__}: {reason(error)}"


def paced(items: Iterable[Item]) -> Iterator[Item]:
    """The same packets, blocks or frames; MediaError once they have taken `PATIENCE` seconds to come."""
    items, spent = iter(items), 0.0
    while True:
        since = time.monotonic()
        item = next(items, None)
        spent += time.monotonic() - since
        if item is None:
            return
        if spent > PATIENCE:
            raise MediaError(f"takes more than {PATIENCE:.0f} s to read")
        yield item


@contextmanager
def little_memory() -> Iterator[None]:
    """Let this process allocate `MEMORY` at most meanwhile: a header of a kilobyte may announce gigabytes of index."""
    usage = Path("/proc/self/statm")  # of Linux, whose limit it is, too
    if not usage.exists():
        yield
        return
    used = int(usage.read_text().split()[5]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + MEMORY, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
