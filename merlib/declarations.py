"""Declarations: papers/<paper>/*.toml -> typed, checked cells and recipes. The grammar is in papers/README.md; no torch here.

A recipe is a nested dict of sections (`model`, `loss`, `train`, `data`, `protocol`), resolved for one corpus. It is merged in this
order: the paper's leaves, the base of another system, the default readings, the twin's scale, the row's change, the caller's change.
"""

import difflib
import os
import re
import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SECTIONS = ("model", "loss", "train", "data", "protocol")
PRINTED = re.compile(r"(Sec\.|Table|eqs?\.|Fig\.|Abstract)")  # a source that starts so is a place in the paper


class DeclarationError(ValueError):
    """A declaration or a request for one is wrong; the message says where and what would be right."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Strict):
    """What a column of a printed table measures. `corpus` and `emotion` may differ by row, then the row names them."""

    metric: Literal["accuracy", "weighted_f1", "f1", "count"]
    label: str
    corpus: str | None = None
    emotion: str | dict[str, str] | None = None


class Row(Strict):
    """A row as printed (`reported`: the digits, as strings), or one that this study adds (nothing reported)."""

    id: str
    label: str
    kind: Literal["own", "fact"] = "own"
    cited: bool = False
    reference: str | None = None
    corpus: str | None = None
    reported: dict[str, str] = {}
    same_as: str | None = Field(None, description="row whose printed numbers this added row is compared with")
    base: str | None = Field(None, description="another system of paper.toml's [base.*], trained by us")
    change: dict[str, Any] = {}

    @property
    def runs(self) -> bool:
        """Whether this study computes the row itself: every own row, and a cited one whose system we train."""
        return not self.cited or self.base is not None


class Table(Strict):
    id: str
    caption: str
    where: str
    note: str = ""
    columns: dict[str, Column]
    row: list[Row]

    def find(self, row: str) -> Row:
        return _one_of({r.id: r for r in self.row}, row, f"row of {self.id}")


class Reading(Strict):
    """A point the paper leaves open: every option changes the same leaves; `default` is what the base recipe takes."""

    question: str
    default: str
    why: str
    options: dict[str, dict[str, Any]]


class Paper(Strict):
    id: str
    title: str
    authors: str
    code: str
    corpora: list[str]
    facts: dict[str, Any] = {}
    recipe: dict[str, Any]
    readings: dict[str, Reading]
    base: dict[str, dict[str, Any]] = {}
    twin: dict[str, Any]
    tables: dict[str, Table]

    def table(self, name: str) -> Table:
        return _one_of(self.tables, f"table{name}" if name.isdigit() else name, f"table of {self.id}")


class Cell(Strict):
    """One printed number, or one place of a row we add (`printed` is None)."""

    paper: str
    table: str
    row: str
    column: str
    printed: str | None
    kind: Literal["own", "cited", "fact", "added"]
    corpus: str | None
    metric: str
    emotion: str | None = None

    @property
    def address(self) -> str:
        return f"{self.paper}/{self.table}/{self.row}"


def papers_folder() -> Path:
    """The declarations: `papers/` of the checkout, or MERLIB_PAPERS."""
    return Path(os.environ.get("MERLIB_PAPERS", Path(__file__).parents[1] / "papers"))


def papers() -> list[str]:
    return sorted(p.parent.name for p in papers_folder().glob("*/paper.toml"))


@cache
def _load(folder: Path) -> Paper:
    tables = {p.stem: {"id": p.stem, **_toml(p)} for p in sorted((folder / "tables").glob("table*.toml"))}
    try:
        paper = Paper(**_toml(folder / "paper.toml"), tables=tables)
    except ValidationError as error:
        raise DeclarationError(
            f"{folder.name}: the declarations do not fit the grammar of papers/README.md: {error}"
        ) from None
    paper = paper.model_copy(update={"tables": paper.tables | {"readings": _readings_table(paper)}})
    _check(paper)
    return paper


def _readings_table(paper: Paper) -> Table:
    """A table of our own: the headline scores under every reading that the base recipe does not take, one at a time."""
    columns = {
        f"{corpus}_{metric}": Column(metric=metric, label=f"{corpus} {metric}", corpus=corpus)
        for corpus in paper.corpora for metric in ("accuracy", "weighted_f1")
    }  # fmt: skip
    rows = [Row(id="default", label="All default readings")]
    for name, reading in paper.readings.items():
        for option in reading.options:
            if option != reading.default:
                rows.append(Row(id=f"{name}_{option}", label=f"{name}: {option}", change={"readings": {name: option}}))
    return Table(id="readings", caption="The range over all readings", where="this study", columns=columns, row=rows)


def load(paper: str) -> Paper:
    """The declarations of one paper, checked once a process."""
    _one_of(dict.fromkeys(papers()), paper, "paper")
    return _load(papers_folder() / paper)


def cells(paper: Paper, table: str | None = None) -> list[Cell]:
    """Every printed number of a paper: its tables, and the settings and facts of paper.toml (tables `settings`, `facts`)."""
    if table is None:
        return [c for name in paper.tables for c in cells(paper, name)] + _setting_cells(paper)
    found = paper.table(table)
    return [_cell(paper, found, row, name, printed) for row in found.row for name, printed in row.reported.items()]


def row_cells(paper: Paper, table: Table, row: Row) -> list[Cell]:
    """The cells of a row, one a column: also those with nothing printed, since a run of ours fills the whole row."""
    reported = table.find(row.same_as).reported if row.same_as else row.reported
    names = row.reported if row.kind == "fact" else table.columns
    return [_cell(paper, table, row, name, reported.get(name)) for name in names]


def recipe(
    paper: Paper, row: Row, corpus: str, *, twin: bool = False, change: dict[str, Any] | None = None
) -> dict[str, dict]:
    """The recipe of a row on a corpus.

    change: further leaves (`{"train.lr": 1e-3}`) or readings (`{"readings.cell": "slstm"}`), laid over the row's own.
    Raises DeclarationError for an unknown key or reading, or a value of another type than the declared one.
    """
    asked = _leaves(row.change) | _leaves(change or {})
    chosen = {k.split(".", 1)[1]: v for k, v in asked.items() if k.startswith("readings.")}
    for name, option in chosen.items():
        _one_of(_one_of(paper.readings, name, f"reading of {paper.id}").options, option, f"option of reading {name}")
    base = _one_of(paper.base, row.base, f"base of {paper.id}") if row.base else {}
    leaves = {k: v for k, v in _leaves(paper.recipe).items() if k.split(".")[0] not in set(base) & {"model", "loss"}}
    for name, reading in paper.readings.items():
        option = _leaves(reading.options[chosen.get(name, reading.default)])
        leaves |= {k: v for k, v in option.items() if k.split(".")[0] not in set(base) & {"model", "loss"}}
    leaves |= _leaves(base)
    leaves |= {k: v for k, v in _leaves(paper.twin).items() if twin and k in leaves}
    for key, value in asked.items():
        if not key.startswith("readings."):
            leaves[key] = _checked(key, value, leaves)
    result: dict[str, dict] = {section: {} for section in SECTIONS}
    for key, value in sorted(leaves.items()):
        section, name = key.split(".")
        result[section][name] = _for_corpus(value, corpus)
    return result


def recipe_of(paper: Paper, cell: Cell) -> dict[str, dict] | None:
    """The recipe behind a printed number; None where it is quoted or a fact."""
    row = paper.tables[cell.table].find(cell.row) if cell.table in paper.tables else None
    return recipe(paper, row, cell.corpus) if row and row.runs and row.kind == "own" else None


def needs() -> dict[str, dict[str, list[str]]]:
    """{paper: {corpus: modalities}}: what each paper reads."""
    modalities = ("text", "audio", "visual")
    return {
        paper.id: {corpus: [m for m in modalities if m in paper.recipe["data"]] for corpus in paper.corpora}
        for paper in map(load, papers())
    }


def _cell(paper: Paper, table: Table, row: Row, name: str, printed: str | None) -> Cell:
    column = _one_of(table.columns, name, f"column of {table.id}")
    corpus = column.corpus or row.corpus
    kind = "cited" if row.cited else "fact" if row.kind == "fact" else "own" if row.reported else "added"
    emotion = column.emotion[corpus] if isinstance(column.emotion, dict) else column.emotion
    return Cell(
        paper=paper.id, table=table.id, row=row.id, column=name, printed=printed, kind=kind,
        corpus=corpus, metric=column.metric, emotion=emotion,
    )  # fmt: skip


def _setting_cells(paper: Paper) -> list[Cell]:
    settings = [("settings", paper.recipe), ("facts", paper.facts)]
    settings += [("settings", option) for reading in paper.readings.values() for option in reading.options.values()]
    found = {}
    for table, tree in settings:
        for key, (value, source) in _sourced(tree).items():
            for corpus, number in (value if isinstance(value, dict) else {None: value}).items():
                if PRINTED.match(source) and isinstance(number, (int, Decimal)) and not isinstance(number, bool):
                    found[table, key, corpus] = Cell(
                        paper=paper.id, table=table, row=key, column=corpus or "value", printed=format(number, "f")
                        if isinstance(number, Decimal) else str(number), kind="fact", corpus=corpus, metric="setting",
                    )  # fmt: skip
    return list(found.values())


def _check(paper: Paper) -> None:
    for name, reading in paper.readings.items():
        _one_of(reading.options, reading.default, f"option of reading {name}")
        keys = {option: set(_leaves(change)) for option, change in reading.options.items()}
        if len(set(map(frozenset, keys.values()))) > 1:
            raise DeclarationError(f"{paper.id}: the options of reading {name} must change the same leaves: {keys}")
    for table in paper.tables.values():
        ids = [row.id for row in table.row]
        if len(ids) != len(set(ids)):
            raise DeclarationError(f"{paper.id}/{table.id}: row ids repeat: {ids}")
        for row in table.row:
            for name in row.reported:
                _one_of(table.columns, name, f"column of {paper.id}/{table.id}")
            for cell in row_cells(paper, table, row):
                if row.runs and row.kind == "own":
                    recipe(paper, row, _one_of({c: c for c in paper.corpora}, cell.corpus, f"corpus of {paper.id}"))


def _toml(path: Path) -> dict:
    try:
        return tomllib.loads(
            path.read_text(encoding="utf-8"), parse_float=Decimal
        )  # Decimal keeps the digits as printed
    except FileNotFoundError:
        raise DeclarationError(f"{path} is missing: see papers/README.md for the files of a paper") from None
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{path} is not valid TOML: {error}") from None


def _sourced(tree: dict) -> dict[str, tuple[Any, str]]:
    """`section.name` -> (value, source). A leaf is [value, source] or a bare value; a value may itself be a table by corpus."""
    found = {}
    for section, leaves in tree.items():
        inner = {section: leaves} if "." in section else {f"{section}.{name}": leaf for name, leaf in leaves.items()}
        found |= {key: tuple(leaf) if isinstance(leaf, list) else (leaf, "") for key, leaf in inner.items()}
    return found


def _leaves(tree: dict) -> dict[str, Any]:
    return {key: value for key, (value, _) in _sourced(tree).items()}


def _checked(key: str, value: Any, leaves: dict[str, Any]) -> Any:
    if key not in leaves:
        near = difflib.get_close_matches(key, leaves, n=3)
        raise DeclarationError(
            f"unknown recipe key {key!r}; " + (f"did you mean {near}?" if near else f"there are: {sorted(leaves)}")
        )
    asked, declared = ({_kind(v) for v in (x.values() if isinstance(x, dict) else [x])} for x in (value, leaves[key]))
    if not asked <= declared:
        raise DeclarationError(
            f"{key} = {value!r} is a {asked}; expected a {declared}, as the declared {leaves[key]!r}"
        )
    return value


def _kind(value: Any) -> str:
    return (
        "number" if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else type(value).__name__
    )


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _for_corpus(value: Any, corpus: str) -> Any:
    if isinstance(value, dict):
        value = _one_of(value, corpus, "corpus of a leaf")
    return _plain(value)


def _one_of(known: dict, name: Any, what: str) -> Any:
    if name not in known:
        raise DeclarationError(f"{name!r} is no {what}; there are: {', '.join(map(str, known))}")
    return known[name]
