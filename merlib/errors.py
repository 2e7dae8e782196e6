"""What can be wrong, for one place to tell a caller's mistake from a failure; and the one look-up by name."""

import difflib
import errno
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Anything = TypeVar("Anything")
FEW = 60  # names that a message lists in full; of more it lists the nearest
LONGEST = 2000  # characters of a message that the command line prints


class MerlibError(Exception):
    """Anything that merlib refuses or cannot do. `exit_code` is that of the command line: 1 the run failed."""

    exit_code = 1


class RequestError(MerlibError, ValueError):
    """The caller asks for something wrong: an unknown name, a value out of range, parts that do not fit together."""

    exit_code = 2


class FeatureError(MerlibError, ValueError):
    """A feature file that must not be used, or an extraction that cannot be; the message says which and what to do."""


class DeclarationError(RequestError):
    """A declaration, a recipe or a change of one is wrong; the message says where, and what would be right."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU; for that of the processor PyTorch has no class."""
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    of_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return no_memory or of_system or "DefaultCPUAllocator: can't allocate memory" in str(error)


def one_line(message: str) -> str:
    """A message in one line; the middle of a very long one is left out, since names and remedies stand at its ends."""
    line = " ".join(message.split("\n")).strip()
    if len(line) <= LONGEST:
        return line
    left_out = f" [... {len(line) - LONGEST} characters ...] "
    return line[: LONGEST * 3 // 4] + left_out + line[-LONGEST // 4 :]


def one_of(known: Mapping[str, Anything] | Iterable[str], name: Any, what: str) -> Anything:
    """known[name] (of a plain list of names: the name itself), or a DeclarationError that lists the names there are.

    what: what a name stands for, such as "table of mfcre".
    """
    known = known if isinstance(known, Mapping) else {each: each for each in known}
    if name in known:
        return known[name]
    names = [str(each) for each in known]
    near = difflib.get_close_matches(str(name), names, n=3)
    listed = near if near and len(names) > FEW else names[:FEW]
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise DeclarationError(f"{name!r} is no {what}; there are: {', '.join(listed)}{hint}")
