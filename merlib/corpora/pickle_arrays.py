"""What a pickle may call, and which states of arrays are true: numpy believes them, and reads beyond the end if not."""

import re
from typing import Any

ARRAY, DTYPE = "_reconstruct", "dtype"
IN_USE = f"call {DTYPE}, in use"  # the kind of a type of numbers that is complete
CALLED = {ARRAY, DTYPE, "scalar", "_frombuffer", "encode", "dict", "list", "tuple", "set", "frozenset"}
CALLED |= {"OrderedDict", "defaultdict", "bytes"}
SETS, DICTIONARIES = {"set", "frozenset"}, {"dict", "OrderedDict", "defaultdict"}  # Nodes of these kinds have keys
RANDOM = re.compile(r"[<>=|]?([biu]\d?|f[248]|[SU]\d*)")  # codes of values of which few can be made to have one hash
CODE = re.compile(r"[<>=|]?[A-Za-z]\d{0,6}")  # of a type of numbers
WITH_WIDTH = "SUVac"  # the codes of types whose state says how wide they are
OF_OBJECTS, NEEDS_ZEROS = 63, 8  # numpy's flags of types that hold Python objects, and of texts
WIDEST = 100_000  # bytes of one value, such as a text in an array


class ScanError(ValueError):
    """What makes a pickle impossible or dangerous to read, in a few words."""


class Node:
    """Something that a pickle builds: its kind, its members so far, and its size in bytes where it is a text."""

    __slots__ = ("kind", "members", "size")

    def __init__(self, kind: str, members: list, size: int = 1):
        self.kind, self.members, self.size = kind, members, size


def call(function: Any, arguments: Any) -> Node:
    """A call of an admitted function; ScanError for arguments that no pickled data has."""
    name = function.members[0] if isinstance(function, Node) and function.kind == "global" else "?"
    given = list(arguments) if type(arguments) is tuple else None
    if name not in CALLED or given is None:
        raise ScanError(f"it calls {name!r}, which is no part of plain data, or without arguments")
    if name == ARRAY and not (len(given) == 3 and _shape(given[1]) == 0):
        raise ScanError("it makes an array that is not empty at first")
    if name == DTYPE and not (given and isinstance(given[0], str) and CODE.fullmatch(given[0])):
        raise ScanError("it makes a type of numbers that plain arrays do not have")
    if name == "scalar" and len(given) != 2:
        raise ScanError("it makes a number without a value")
    if name == "bytes" and given:
        raise ScanError("it makes bytes of something else")
    if name in SETS | DICTIONARIES:
        return Node(name, _content(name, given))
    return Node(f"call {name}", given)


def _content(name: str, given: list) -> list:
    """The members of a set, or keys and values of a dictionary by turns, that is made of a list."""
    if name == "defaultdict" and len(given) < 2:
        return []
    if len(given) > 1 or any(type(each) is not list for each in given):
        raise ScanError(f"it makes a {name} of something other than a list")
    members = given[0] if given else []
    if name in SETS:
        return list(members)
    if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in members):
        raise ScanError(f"it makes a {name} of something other than pairs")
    return [each for pair in members for each in pair]


def keys(node: Any) -> list:
    """What Python hashes to build a set or a dictionary; nothing for any other node."""
    if type(node) is not Node or node.kind not in SETS | DICTIONARIES:
        return []
    return node.members if node.kind in SETS else node.members[::2]


def hashed(key: Any) -> int:
    """A number that keys have in common which may have the same hash; else one of its own."""
    if type(key) is tuple:
        return hash(tuple(map(hashed, key)))
    if type(key) is not Node:
        return 0 if type(key) is list else hash(key)
    if key.kind == "call scalar":
        return id(key) if RANDOM.fullmatch(str(key.members[0].members[0])) else 0
    return id(key) if key.kind in ("text", "call encode", "call bytes") else 0


def set_state(target: Any, state: Any) -> None:
    """Give an array or its type of numbers its state; ScanError for what numpy would believe, though it is wrong."""
    values = list(state) if type(state) is tuple else []
    if isinstance(target, Node) and target.kind == IN_USE:
        raise ScanError("it changes a type of numbers that is in use")
    if not isinstance(target, Node) or target.kind not in (f"call {ARRAY}", f"call {DTYPE}"):
        raise ScanError("it sets the state of something that is no array")
    if target.kind == f"call {ARRAY}":
        if len(values) != 5 or not _holds(values[4], _shape(values[1])):
            raise ScanError("it has an array that is longer than its values")
    elif len(values) != 8 or values[2:5] != [None, None, None] or not _plain(target.members[0], *values[5:]):
        raise ScanError("it has a type of numbers that plain arrays do not have")
    target.members.append(state)
    in_use(target)


def in_use(value: Any) -> Any:
    """The value itself; a type of numbers gets no state any more, since numpy would change it in arrays that have it.

    Pickled data gives a type its state before it is used, and so before it is taken from the memo or doubled.
    """
    if type(value) is Node and value.kind == f"call {DTYPE}":
        value.kind = IN_USE
    return value


def _plain(code: str, width: Any, alignment: Any, flags: Any) -> bool:
    """Whether the state of a type of numbers is what numpy writes: a small width, and the flags of its code."""
    letter = code.strip("<>=|")[0]
    of_code, least = (OF_OBJECTS,) if letter == "O" else (0, NEEDS_ZEROS), 0 if letter in WITH_WIDTH else -1
    return isinstance(width, int) and least <= width <= WIDEST and flags in of_code


def _shape(shape: Any) -> int:
    """How many values an array of this shape has; -1 for what is no shape."""
    total = 1
    for length in shape if type(shape) is tuple else (-1,):
        if not isinstance(length, int) or length < 0:
            return -1
        total *= length
    return total


def _holds(values: Any, length: int) -> bool:
    """Whether the raw values of an array can have this many."""
    if isinstance(values, str):
        return 0 <= length <= len(values)
    if type(values) is list:
        return length == len(values)
    if not isinstance(values, Node):
        return False
    if values.kind == "call encode":  # with which older protocols write bytes
        return _holds(values.members[0], length)
    return 0 <= length <= {"text": values.size, "call bytes": 0}.get(values.kind, -1)
