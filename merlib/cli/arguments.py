"""What the words of the command line mean, and what the shell offers to complete them. Only declarations are read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from typer.core import TyperCommand

from merlib import declarations
from merlib.declarations.leaves import Typed
from merlib.errors import MerlibError, RequestError, one_of
from merlib.places import TWINS, at_home, data_folder, is_word, results_folder, root_name

PARTS = ("paper", "table", "row")


class Address(NamedTuple):
    """A paper, a table of it and rows of that table; a part that is empty stands for all there are."""

    paper: str = ""
    table: str = ""
    rows: tuple[str, ...] = ()

    def holds(self, paper: str, table: str, row: str) -> bool:
        """Whether the row of a cell or of a finding lies at this address."""
        return self.paper in ("", paper) and self.table in ("", table) and (not self.rows or row in self.rows)


def address(words: Sequence[str], *, needs: int = 0, text: bool = False) -> Address:
    """The address that the words of a command give: `mfcre/table4/ours`, or with blanks, `mfcre table4 ours`.

    Further words are rows of the same table, by id or by address. needs: how many of the three parts must be given.
    text: also allow `settings`, `facts` and `claims`, the tables of numbers that a paper prints in its text.
    Raises RequestError for a part that is missing or unknown; the message lists near matches.
    """
    parts, further = [], [word.strip("/") for word in words]
    while further and len(parts) < 2:
        parts += further.pop(0).split("/")
    if len(parts) > len(PARTS):
        raise RequestError(f"{'/'.join(parts)!r}: an address is {'/'.join(PARTS)}")
    if len(parts) + len(further) < needs:
        raise RequestError(f"name a {PARTS[len(parts)]}, as in mfcre/table4/ours: an address is {'/'.join(PARTS)}")
    if not parts:
        return Address()
    paper = declarations.load(parts[0])
    if len(parts) == 1:
        return Address(paper.id)
    table, rows = _numbered(parts[1]), parts[2:]
    known = one_of(_rows(paper, text), table, f"table of {paper.id}")
    for word in further:
        place, _, row = word.rpartition("/")
        if _numbered(place) not in ("", table, f"{paper.id}/{table}"):
            raise RequestError(f"{word!r} is no row of {paper.id}/{table}: name rows of one table")
        rows.append(row)
    return Address(paper.id, table, tuple(one_of(known, row, f"row of {paper.id}/{table}") for row in rows))


def folder(words: Sequence[str]) -> Path | None:
    """The folder that the words name instead of an address, or None: `my_paper/`, but not `mfcre` or `mfcre/table4`.

    Raises RequestError where a path of that form is no folder, or further words follow it.
    """
    word = words[0] if words else ""
    path = at_home(word)
    looks_so = word.startswith((".", "/", "~")) or word.endswith("/") or (word and path.is_dir())
    if not looks_so or word.strip("/") in declarations.folders():
        return None
    if not path.is_dir():
        raise RequestError(f"{word} is no folder: `merlib audit --new {word}` writes one to start from")
    if len(words) > 1:
        raise RequestError(f"{word} is a folder, which is audited as a whole: leave out {' '.join(words[1:])!r}")
    return path if path.name else path.resolve()


def _rows(paper: "declarations.Paper", text: bool) -> dict[str, list[str]]:
    """Table -> the ids of its rows, of those tables whose rows are listed."""
    rows = {name: [row.id for row in table.row] for name, table in paper.tables.items() if table.row}
    for cell in declarations.cells(paper) if text else ():
        if cell.table not in paper.tables:
            rows.setdefault(cell.table, []).append(cell.row)
    return rows


def _numbered(place: str) -> str:
    """`4` is short for `table4`, and `mfcre/4` for `mfcre/table4`."""
    return re.sub(r"(^|/)(\d+)$", r"\1table\2", place)


class WithPairs(TyperCommand):
    """A command whose repeatable option `-p` takes two words, KEY VALUE; typer has no such options."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        joined, rest = [], iter(args)
        for word in rest:
            joined.append(word)
            if word == "-p":
                name, value = next(rest, ""), next(rest, None)
                if value is None or not name.isidentifier():
                    raise RequestError("-p takes two words: the name of a parameter and its value")
                joined.append(f"{name}={value}")
        return super().parse_args(ctx, joined)


def assignment(text: str) -> tuple[str, Typed]:
    """`key=value`; what the value means depends on the leaf or parameter that it is for (`Typed.like`)."""
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write key=value, such as train.lr=1e-3 or readings.cell=slstm")
    return key, Typed(value)


def root(text: str) -> str:
    """The name of a data root, whether it is there or not."""
    try:
        return root_name(text)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from None


def word(text: str) -> str:
    """The name of a corpus or of a feature array, which names a file."""
    if not is_word(text):
        raise typer.BadParameter(f"{text!r}: take letters, digits, and _ . - inside, such as audio_wavlm")
    return text


def modalities(text: str) -> str:
    """Letters of T text, A audio, V visual."""
    if not text or set(text) - set(declarations.LETTERS):
        raise typer.BadParameter(f"{text!r}: write letters of T text, A audio, V visual, such as AV")
    return text


def integers(text: str) -> tuple[int, ...]:
    """Non-negative integers, comma-separated."""
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in text.split(",")):
        raise typer.BadParameter(f"{text!r}: give integers of at most nine digits, such as 0,1,2")
    return tuple(map(int, text.split(",")))


def device(name: str | None) -> str | None:
    """Where networks run; RequestError for a GPU where there is none."""
    if name == "cuda":
        import torch  # takes seconds, and only this needs it

        if not torch.cuda.is_available():
            raise RequestError("--device cuda: PyTorch finds no GPU here; take --device cpu, or leave the option out")
    return name


def data_roots() -> list[str]:
    """The data roots that hold a corpus or have records, and the synthetic ones."""
    filled = (file.parents[1].name for file in data_folder().glob("*/*/corpus.json"))
    recorded = (folder.parent.name for folder in results_folder("").glob("*/records"))
    return sorted({*TWINS, *filled, *recorded})


def complete_address(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell: the papers, the tables of the paper or the rows of the table that the words so far have named."""
    *place, _ = incomplete.split("/")
    before = [part for word in ctx.params.get("words") or () for part in word.split("/")]
    inside = (before if len(before) < 2 else []) + place if place else before[:2]
    try:
        names = declarations.papers() if not inside else list(_rows(paper := declarations.load(inside[0]), text=False))
        names = names if len(inside) < 2 else [row.id for row in paper.table(inside[1]).row]
    except MerlibError:
        return []
    return ["/".join([*place, name]) for name in names]


def _words(parts: str, help: str) -> typer.models.ArgumentInfo:
    """An address of which a command needs these parts; those in brackets may be left out."""
    return typer.Argument(metavar=parts, help=help, show_default=False, autocompletion=complete_address)


PLACE = "An address, or its parts with blanks: mfcre table4 ours. Further rows of the table may follow."
Rows = Annotated[list[str], _words("PAPER/TABLE[/ROW]", PLACE)]
FIRST = "The address of a row, then of those to compare it with: mfcre table4 ours wo_simam. Default: all of the table."
FirstRow = Annotated[list[str], _words("PAPER/TABLE/ROW", FIRST)]
PaperOrTable = Annotated[list[str], _words("PAPER[/TABLE]", "A paper or a table of it: mfcre/table4.")]
OnePaper = Annotated[list[str], _words("PAPER", "A paper, such as mfcre.")]
OptionalPaper = Annotated[list[str] | None, _words("PAPER", "A paper, such as mfcre. Default: all papers.")]
Anything = Annotated[list[str] | None, _words("PAPER/TABLE/ROW", f"{PLACE} Default: everything.")]
STALE_ROWS = f"{PLACE} With --stale, all of it may be left out."
RunRows = Annotated[list[str] | None, _words("PAPER/TABLE[/ROW]", STALE_ROWS)]
BATCH = "Papers or tables, such as mfcre or mfcre/table4. Default: all tables whose corpora the root has."
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]
ROOT = "Data root: a folder below data/ (or MERLIB_DATA)."
Root = Annotated[str, typer.Option(help=ROOT, parser=root, metavar="NAME", autocompletion=data_roots)]
Seeds = Annotated[tuple, typer.Option(parser=integers, metavar="N,N", help="Seeds, comma-separated.")]
Folds = Annotated[tuple | None, typer.Option(parser=integers, metavar="N,N", help="Folds, from 0. Default: all.")]
ONLY = "Ids of runs of the table, comma-separated, as `merlib plan` lists them."
Only = Annotated[list | None, typer.Option(parser=lambda text: text.split(","), metavar="ID,ID", help=ONLY)]
DEVICE = typer.Option(callback=device, help="Where networks run. Default: cuda where there is one.")
Device = Annotated[Literal["cpu", "cuda"] | None, DEVICE]
LEAF = "A leaf or a reading of the recipe, such as readings.cell=slstm."
Changes = Annotated[list[tuple] | None, typer.Option("--set", parser=assignment, metavar="KEY=VALUE", help=LEAF)]
CODE = "Also write the paths of the code that was loaded into this file."
Code = Annotated[Path | None, typer.Option(help=CODE)]
PAIR = typer.Option("-p", parser=assignment, metavar="KEY VALUE", help="A parameter; repeatable.")
Parameters = Annotated[list[tuple] | None, PAIR]
