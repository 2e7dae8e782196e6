"""A pickle is read as a list of instructions before any of them is carried out: what would it build, and how large?

Well-formed instructions can still fill the memory, or crash the interpreter or numpy: a memo with a slot of four
thousand million, an array said to be longer than its values, a type of numbers said to hold pointers, tuples nested a
million deep, one list that holds another a thousand times, and that one the next. None of the published releases needs
any of it.

The stack of the unpickler is followed with stand-ins: numbers and short texts as they are, everything else as a `Node`
that knows its members.
"""

import mmap
import pickletools
import re
from collections.abc import Callable, Collection
from typing import Any

DEPTH = 60  # of containers within containers
SHARED = 20  # how many times larger than its file the data may be, where parts of it are used several times
SPARE = 1_000_000  # members, and bytes, that are never too many
MARK = object()
ARRAY, DTYPE = "_reconstruct", "dtype"
CALLED = {ARRAY, DTYPE, "scalar", "_frombuffer", "encode", "dict", "list", "tuple", "set", "frozenset"}
CALLED |= {"OrderedDict", "defaultdict", "bytes"}
CODE = re.compile(r"[<>=|]?[A-Za-z]\d{0,6}")  # of a type of numbers
OF_OBJECTS, NEEDS_ZEROS = 63, 8  # numpy's flags of types that hold Python objects, and of texts
WIDEST = 100_000  # bytes of one value, such as a text in an array


class ScanError(ValueError):
    """What makes a pickle impossible or dangerous to read, in a few words."""


class Node:
    """Something that a pickle builds: its kind, its members so far, and its size in bytes where it is a text."""

    __slots__ = ("kind", "members", "size")

    def __init__(self, kind: str, members: list | tuple = (), size: int = 1):
        self.kind, self.members, self.size = kind, list(members), size


def scan(file: mmap.mmap, admitted: Collection[tuple[str, str]], refuse: Callable[[str, str], Any]) -> None:
    """Raise ScanError unless the pickle in `file` is plain data of bounded size and depth.

    refuse: called with the module and name of anything outside `admitted` that the pickle names.
    """
    stack, memo = [], {}
    for count, (op, argument, _) in enumerate(pickletools.genops(file)):
        name = op.name
        if step := STEPS.get(name):
            step(stack)
        elif name == "STOP":
            break
        elif name.endswith("PUT") or name == "MEMOIZE":
            slot = len(memo) if name == "MEMOIZE" else int(argument)
            if slot > count:
                raise ScanError(f"it asks for {slot} slots of memory at instruction {count}")
            memo[slot] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[int(argument)])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            of = argument.split(" ", 1) if name == "GLOBAL" else _taken(stack, 2)
            if tuple(of) not in admitted:
                refuse(*(each if isinstance(each, str) else "?" for each in of))
            stack.append(Node("global", [of[1]]))
        elif not op.stack_before and len(op.stack_after) == 1 and "PERS" not in name and "BUFFER" not in name:
            stack.append(_literal(argument))
        else:
            raise ScanError(f"it has the instruction {name}, which no plain data needs")
    if len(stack) != 1:
        raise ScanError("it leaves no single value")
    _bounded(stack[0], len(file))


def _literal(value: Any) -> Any:
    """A number or a short text as it is; of a long one, its length."""
    if isinstance(value, str | bytes | bytearray):
        return value if len(value) <= 64 and isinstance(value, str) else Node("text", size=len(value))
    return value


def _taken(stack: list, number: int) -> list:
    if len(stack) < number or MARK in stack[-number:]:
        raise ScanError("it takes more values than there are")
    taken = stack[-number:]
    del stack[-number:]
    return taken


def _since_mark(stack: list) -> list:
    """Everything above the last mark, which goes with it."""
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] is MARK:
            taken = stack[i + 1 :]
            del stack[i:]
            return taken
    raise ScanError("a mark is missing")


def _push(kind: str, take: Callable[[list], list]) -> Callable[[list], None]:
    return lambda stack: stack.append(Node(kind, take(stack)))


def _add(take: Callable[[list], list]) -> Callable[[list], None]:
    def add(stack: list) -> None:
        members = take(stack)
        if not stack or not isinstance(stack[-1], Node) or stack[-1].kind in ("tuple", "text", "global"):
            raise ScanError("it adds to something that is no container")
        stack[-1].members += members

    return add


def _called(stack: list) -> None:
    """A call of an admitted function, with the arguments that pickled data has."""
    function, arguments = _taken(stack, 2)
    name = function.members[0] if isinstance(function, Node) and function.kind == "global" else "?"
    given = arguments.members if isinstance(arguments, Node) and arguments.kind == "tuple" else None
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
    stack.append(Node(f"call {name}", given))


def _built(stack: list) -> None:
    """The state of an array or of its type of numbers, which numpy believes."""
    (state,) = _taken(stack, 1)
    target = stack[-1] if stack else None
    values = state.members if isinstance(state, Node) and state.kind == "tuple" else []
    if not isinstance(target, Node) or target.kind not in (f"call {ARRAY}", f"call {DTYPE}"):
        raise ScanError("it sets the state of something that is no array")
    if target.kind == f"call {ARRAY}":
        if len(values) != 5 or not _holds(values[4], _shape(values[1])):
            raise ScanError("it has an array that is longer than its values")
    elif len(values) != 8 or values[2:5] != [None, None, None] or not _plain(target.members[0], *values[5:]):
        raise ScanError("it has a type of numbers that plain arrays do not have")
    target.members.append(state)


def _plain(code: str, width: Any, alignment: Any, flags: Any) -> bool:
    """Whether the state of a type of numbers is what numpy writes: a small width, and the flags of its code."""
    of_code = (OF_OBJECTS,) if code.strip("<>=|")[0] == "O" else (0, NEEDS_ZEROS)
    return isinstance(width, int) and width <= WIDEST and flags in of_code


def _shape(shape: Any) -> int:
    """How many values an array of this shape has; -1 for what is no shape."""
    total, lengths = 1, shape.members if isinstance(shape, Node) and shape.kind == "tuple" else [-1]
    for length in lengths:
        if not isinstance(length, int) or length < 0:
            return -1
        total *= length
    return total


def _holds(values: Any, length: int) -> bool:
    """Whether the raw values of an array can have this many."""
    if isinstance(values, str):
        return 0 <= length <= len(values)
    if not isinstance(values, Node):
        return False
    if values.kind == "list":
        return length == len(values.members)
    if values.kind == "call encode":  # with which older protocols write bytes
        return _holds(values.members[0], length)
    return 0 <= length <= {"text": values.size, "call bytes": 0}.get(values.kind, -1)


def _bounded(root: Any, size: int) -> None:
    """Raise ScanError where `root` is nested too deep, or too large, with everything counted where it is used."""
    measured: dict[int, tuple[int, int]] = {}  # of a node: depth, size
    open_, pending = set(), [root]
    while pending:
        node = pending[-1]
        if not isinstance(node, Node) or id(node) in measured:
            pending.pop()
            continue
        members = [member for member in node.members if isinstance(member, Node)]
        if id(node) in open_:
            open_.discard(id(node))
            pending.pop()
            inner = [measured[id(member)] for member in members]
            total = node.size + len(node.members) + sum(each for _, each in inner)
            measured[id(node)] = (1 + max((depth for depth, _ in inner), default=0), total)
            if measured[id(node)][0] > DEPTH:
                raise ScanError(f"its containers are nested more than {DEPTH} deep")
            if total > SHARED * size + SPARE:
                raise ScanError(f"its data would have {total} members, of a file of {size} bytes")
            continue
        open_.add(id(node))
        left = [member for member in members if id(member) not in measured]
        if any(id(member) in open_ for member in left):
            raise ScanError("it has a container that holds itself")
        pending += left


STEPS: dict[str, Callable[[list], Any]] = {
    "PROTO": lambda stack: None,
    "FRAME": lambda stack: None,
    "MARK": lambda stack: stack.append(MARK),
    "POP": lambda stack: stack.pop(),
    "POP_MARK": _since_mark,
    "DUP": lambda stack: stack.append(stack[-1]),
    "EMPTY_LIST": _push("list", lambda stack: []),
    "EMPTY_DICT": _push("dict", lambda stack: []),
    "EMPTY_SET": _push("set", lambda stack: []),
    "EMPTY_TUPLE": _push("tuple", lambda stack: []),
    "LIST": _push("list", _since_mark),
    "DICT": _push("dict", _since_mark),
    "FROZENSET": _push("frozenset", _since_mark),
    "TUPLE": _push("tuple", _since_mark),
    "TUPLE1": _push("tuple", lambda stack: _taken(stack, 1)),
    "TUPLE2": _push("tuple", lambda stack: _taken(stack, 2)),
    "TUPLE3": _push("tuple", lambda stack: _taken(stack, 3)),
    "APPEND": _add(lambda stack: _taken(stack, 1)),
    "APPENDS": _add(_since_mark),
    "SETITEM": _add(lambda stack: _taken(stack, 2)),
    "SETITEMS": _add(_since_mark),
    "ADDITEMS": _add(_since_mark),
    "REDUCE": _called,
    "BUILD": _built,
}
