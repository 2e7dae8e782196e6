"""A pickle is read as a list of instructions before any of them is carried out: what would it build, and how large?

Well-formed instructions can still fill the memory, or crash the interpreter or numpy: a memo with a slot of four
thousand million, an array said to be longer than its values, a type of numbers said to hold pointers, tuples nested a
million deep, one list that holds another a thousand times, and that one the next, a set of tuples that all have one
hash. None of the published releases needs any of it.

The stack of the unpickler is followed with stand-ins: numbers, short texts, tuples and lists as they are, everything
else as a `Node` that knows its members.
"""

import codecs
import mmap
import pickletools
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

from merlib.corpora.pickle_arrays import Node, ScanError, call, hashed, in_use, keys, set_state

DEPTH = 60  # of containers within containers
SHARED = 20  # how many times larger than its file the data may be, where parts of it are used several times
SPARE = 1_000_000  # members, and bytes, that are never too many
BITS = 64  # of an integer; a longer one takes time wherever it is a key
EQUAL = 100  # keys of one set or dictionary with the same hash: each is compared with all others
OPCODES = {op.code.encode("latin-1"): (op.name, op.arg and op.arg.reader) for op in pickletools.opcodes}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
TEXTS = {str, bytes, bytearray}
LITERALS = {op.name for op in pickletools.opcodes if not op.stack_before and op.stack_after and op.arg}
LITERALS -= GETS | {"GLOBAL", "PERSID", "EXT1", "EXT2", "EXT4"}


CONTAINERS = {Node, tuple, list}


class Stack(list):
    """The unpickler's stack; `marks` are the heights at which its marks lie."""

    def __init__(self):
        super().__init__()
        self.marks: list[int] = []

    def taken(self, number: int) -> list:
        """The uppermost values, none of them below a mark."""
        height = len(self) - number
        if height < (self.marks[-1] if self.marks else 0):
            raise ScanError("it takes more values than there are")
        taken = self[height:]
        del self[height:]
        return taken

    def since_mark(self) -> list:
        """Everything above the last mark, which goes with it."""
        if not self.marks:
            raise ScanError("a mark is missing")
        height = self.marks.pop()
        taken = self[height:]
        del self[height:]
        return taken


def scan(file: mmap.mmap, admitted: Collection[tuple[str, str]], refuse: Callable[[str, str], Any]) -> None:
    """Raise ScanError unless the pickle in `file` is plain data of bounded size and depth.

    refuse: called with the module and name of anything outside `admitted` that the pickle names.
    """
    stack, memo = Stack(), {}
    for count, (name, argument) in enumerate(_instructions(file)):
        if name in PUTS:
            slot = len(memo) if argument is None else argument
            if slot > count:
                raise ScanError(f"it asks for {slot} slots of memory at instruction {count}")
            memo[slot] = stack[-1]
        elif name in LITERALS:
            stack.append(_literal(argument))
        elif name in TUPLES:
            stack.append(tuple(stack.taken(TUPLES[name])))
        elif step := STEPS.get(name):
            step(stack)
        elif name in GETS:
            stack.append(in_use(memo[argument]))
        elif name == "STOP":
            break
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            of = argument.split(" ", 1) if name == "GLOBAL" else stack.taken(2)
            of = [each if isinstance(each, str) else "?" for each in of]
            if tuple(of) not in admitted:
                refuse(*of)
            stack.append(Node("global", [of[1]]))
        else:
            raise ScanError(f"it has the instruction {name}, which no plain data needs")
    if len(stack) != 1:
        raise ScanError("it leaves no single value")
    if type(stack[0]) in CONTAINERS:
        _bounded(stack[0], len(file))


def _instructions(file: mmap.mmap) -> Iterator[tuple[str, Any]]:
    """Name and argument of every instruction; as `pickletools.genops`, which reads texts of Python 2 in ASCII only."""
    while True:
        name, read = OPCODES.get(code := file.read(1), ("", None))
        if not name:
            raise ValueError(f"it breaks off, or has no instruction at byte {file.tell()}: {code!r}")
        if name == "STRING":
            yield name, codecs.escape_decode(file.readline()[1:-2])[0].decode("latin-1")
        else:
            yield name, read(file) if read else None


def _literal(value: Any) -> Any:
    """A number or a short text as it is; of a long one, and of bytes, only the length is needed."""
    if type(value) is int and value.bit_length() > BITS:
        raise ScanError(f"it has an integer of more than {BITS} bits")
    if type(value) not in TEXTS or (len(value) <= 64 and isinstance(value, str)):
        return value
    return Node("text", [], len(value))


def _push(kind: str, take: Callable[[Stack], list]) -> Callable[[Stack], None]:
    return lambda stack: stack.append(Node(kind, take(stack)))


def _add(take: Callable[[Stack], list]) -> Callable[[Stack], None]:
    def add(stack: Stack) -> None:
        members = take(stack)
        target = stack[-1] if stack else None
        if type(target) is list:
            target += members
        elif isinstance(target, Node) and target.kind not in ("text", "global"):
            target.members += members
        else:
            raise ScanError("it adds to something that is no container")

    return add


def _built(stack: Stack) -> None:
    (state,) = stack.taken(1)
    set_state(stack[-1] if stack else None, state)


def _bounded(root: Any, size: int) -> None:
    """Raise ScanError where `root` is nested too deep, too large (everything counts where it is used), or slow to make.

    Nothing is ever taken from the stack and lost, so that everything a pickle builds is in `root`.
    """
    measured: dict[int, tuple[int, int]] = {}  # of a container: depth, size
    waiting, pending = set(), [root]
    while pending:
        node = pending[-1]
        if id(node) in measured:
            pending.pop()
            continue
        members, own = (node.members, node.size) if type(node) is Node else (node, 1)
        inner = [member for member in members if type(member) in CONTAINERS]
        if id(node) in waiting or not inner:
            waiting.discard(id(node))
            pending.pop()
            below = [measured[id(member)] for member in inner]
            total = own + len(members) + sum(each for _, each in below)
            measured[id(node)] = depth, _ = 1 + max((depth for depth, _ in below), default=0), total
            if depth > DEPTH:
                raise ScanError(f"its containers are nested more than {DEPTH} deep")
            if total > SHARED * size + SPARE:
                raise ScanError(f"its data would have {total} members, of a file of {size} bytes")
            if (most := max(Counter(map(hashed, keys(node))).values(), default=0)) > EQUAL:
                raise ScanError(f"{most} keys of a set or dictionary have the same hash, as far as can be known")
        else:
            waiting.add(id(node))
            left = [member for member in inner if id(member) not in measured]
            if any(id(member) in waiting for member in left):
                raise ScanError("it has a container that holds itself")
            pending += left


STEPS: dict[str, Callable[[list], Any]] = {
    "PROTO": lambda stack: None,
    "FRAME": lambda stack: None,
    "MARK": lambda stack: stack.marks.append(len(stack)),
    "NONE": lambda stack: stack.append(None),
    "NEWTRUE": lambda stack: stack.append(True),
    "NEWFALSE": lambda stack: stack.append(False),
    "DUP": lambda stack: stack.append(in_use(stack[-1])),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "EMPTY_DICT": _push("dict", lambda stack: []),
    "EMPTY_SET": _push("set", lambda stack: []),
    "LIST": lambda stack: stack.append(stack.since_mark()),
    "TUPLE": lambda stack: stack.append(tuple(stack.since_mark())),
    "DICT": _push("dict", Stack.since_mark),
    "FROZENSET": _push("frozenset", Stack.since_mark),
    "APPEND": _add(lambda stack: stack.taken(1)),
    "APPENDS": _add(Stack.since_mark),
    "SETITEM": _add(lambda stack: stack.taken(2)),
    "SETITEMS": _add(Stack.since_mark),
    "ADDITEMS": _add(Stack.since_mark),
    "REDUCE": lambda stack: stack.append(call(*stack.taken(2))),
    "BUILD": _built,
}
