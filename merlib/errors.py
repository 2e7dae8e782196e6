"""What can be wrong, for one place to tell a caller's mistake from a failure; and the one look-up by name."""

import difflib
import errno
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Anything = TypeVar("Anything")
FEW = 60  # names that a message lists in full; of more it lists the nearest
LONGEST = 2000  # characters of a message; what foreign files hold may be of any length


class MerlibError(Exception):
    """Anything that merlib refuses or cannot do: one line, or several things wrong, a line each.

    `exit_code` is the command line's: 1 for a failed run.
    """

    exit_code = 1

    @property
    def lines(self) -> list[str]:
        return [shortened(str(each)) for each in self.args]

    def __str__(self) -> str:
        return shortened("; ".join(self.lines))


class RequestError(MerlibError, ValueError):
    """The caller asks for something wrong: an unknown name, a value out of range, parts that do not fit together."""

    exit_code = 2


class FeatureError(MerlibError, ValueError):
    """A feature file that must not be used, or an extraction that cannot be; the message says which and what to do."""


class TrainingError(MerlibError, RuntimeError):
    """Training cannot continue; the message says where it stopped and what to try."""


class DeclarationError(RequestError):
    """A declaration, a recipe or a change of one is wrong; the message says where, and what would be right."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU; for that of the processor PyTorch has no class."""
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    of_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return no_memory or of_system or "DefaultCPUAllocator: can't allocate memory" in str(error)


class Notice(UserWarning):
    """What a reader took otherwise than it is written, or left out: `what`, and the file or corpus `where` it was."""

    def __init__(self, what: str, where: object = ""):
        super().__init__(what, where)
        self.what, self.where = what, str(where)

    def __str__(self) -> str:
        return shortened(f"{self.where}: {self.what}" if self.where else self.what)


def shortened(text: str) -> str:
    """A message with its beginning and its end, where the remedy stands, and no more than LONGEST characters."""
    text = re.sub(r"\s*\n\s*", " ", text).strip()
    if len(text) <= LONGEST:
        return text
    begin, end = LONGEST * 3 // 4, LONGEST // 5
    return f"{text[:begin]} ... ({len(text) - begin - end} characters left out) ... {text[-end:]}"


def listed(names: Iterable[object]) -> str:
    """Names as a sentence has them: `a, b`, or `a: 1, b: 2` of a mapping; `none` where there are none.

    What is more than one plain word stands in quotes.
    """
    plain = [str(n) if re.fullmatch(r"[\w./:{}-]+", str(n)) else repr(str(n)) for n in names]
    if isinstance(names, Mapping):
        plain = [f"{n}: {listed([value])}" for n, value in zip(plain, names.values(), strict=True)]
    return ", ".join(plain) or "none"


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
