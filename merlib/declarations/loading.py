"""The declarations of a paper, from its folder of TOML files, checked once a process."""

import os
import tomllib
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from merlib.declarations.printed import addresses, cell_of, row_cells
from merlib.declarations.recipes import recipe
from merlib.declarations.schema import SCORES, Cell, Claim, Column, Paper, Row, Table
from merlib.errors import DeclarationError, one_of
from merlib.places import CHECKOUT
from merlib.registry import registered

NEEDED = (  # leaves of every base recipe
    "data.unit", "data.modalities", "protocol.split", "protocol.select", "protocol.select_metric",
)  # fmt: skip
READ = (  # leaves of `data` that a run reads; further ones say how features are extracted
    "data.unit", "data.modalities", "data.text", "data.audio", "data.visual", "data.standardize", "data.classes",
    "data.augment", "data.on_failure",
)  # fmt: skip


def search_path() -> list[Path]:
    """The folders of papers: `papers/` of the checkout, or those that MERLIB_PAPERS names, separated as in PATH."""
    named = os.environ.get("MERLIB_PAPERS", str(CHECKOUT / "papers"))
    return [Path(name).resolve() for name in named.split(os.pathsep) if name]


def folders() -> dict[str, Path]:
    """Paper id -> the folder of its declarations.

    They stand on the search path, and in `declarations/` of the packages that other distributions register under the
    entry point group `merlib.papers`.
    """
    inside = [Path(str(files(package))) / "declarations" for package in registered().values()]
    found = {path.parent.name: path.parent for folder in search_path() for path in sorted(folder.glob("*/paper.toml"))}
    return found | {
        tomllib.loads((f / "paper.toml").read_text(encoding="utf-8"))["id"]: f for f in inside if f.is_dir()
    }


def papers() -> list[str]:
    """The ids of all declared papers."""
    return sorted(folders())


def load(paper: str) -> Paper:
    """The declarations of one paper, checked once a process."""
    return _load(one_of(folders(), paper, "paper"))


@cache
def _load(folder: Path) -> Paper:
    tables = {p.stem: {"id": p.stem, **_toml(p)} for p in sorted((folder / "tables").glob("table*.toml"))}
    claims = _toml(folder / "claims.toml") if (folder / "claims.toml").exists() else {"claim": []}
    if list(claims) != ["claim"]:
        raise DeclarationError(f"{folder.name}/claims.toml: expected only [[claim]] tables, found {sorted(claims)}")
    try:
        paper = Paper(**_toml(folder / "paper.toml"), tables=tables, claims=claims["claim"])
    except ValidationError as error:
        raise DeclarationError(
            f"{folder.name}: the declarations do not fit the grammar of papers/README.md: {error}"
        ) from None
    paper = paper.model_copy(update={"tables": paper.tables | {"readings": _readings_table(paper)}})
    _check(paper)
    return paper


def _readings_table(paper: Paper) -> Table:
    """A table of our own: the headline scores under every reading that the base recipe does not take, one at a time.

    A reading with a context has a row for its default too, since the others are to be compared with that one.
    """
    printed = [
        cell_of(paper, t, r, c, None) for t in paper.tables.values() for r in t.row for c in r.reported if r.runs
    ]
    headline = dict.fromkeys((c.corpus, c.metric) for c in printed if c.metric in SCORES and c.corpus in paper.corpora)
    columns = {
        f"{corpus}_{metric}": Column(metric=metric, label=f"{corpus} {metric}", corpus=corpus)
        for corpus, metric in sorted(headline, key=lambda pair: (paper.corpora.index(pair[0]), SCORES.index(pair[1])))
    }
    rows = [Row(id="default", label="All default readings")]
    for name, reading in paper.readings.items():
        if all(
            key.startswith("data.") and key not in READ
            for option in reading.options.values()
            for key in paper.flat(option)
        ):
            continue  # settled when features are extracted: the arrays at hand cannot switch it
        where = ", ".join(f"{key} = {value}" for key, value in paper.flat(reading.context).items())
        for option in reading.options:
            if option != reading.default or reading.context:
                label = f"{name}: {option}" + f" (where {where})" * bool(where)
                rows.append(
                    Row(
                        id=f"{name}_{option}",
                        label=label,
                        change=paper.flat(reading.context) | {f"readings.{name}": option},
                    )
                )
    return Table(id="readings", caption="The range over all readings", where="this study", columns=columns, row=rows)


def _check(paper: Paper) -> None:
    for corpus in paper.twin_media_arrays:
        one_of(paper.corpora, corpus, f"corpus of {paper.id}, so twin_media_arrays cannot name it")
    for name, reading in paper.readings.items():
        one_of(reading.options, reading.default, f"option of reading {name}")
        keys = {option: set(paper.flat(change)) for option, change in reading.options.items()}
        if len(set(map(frozenset, keys.values()))) > 1:
            raise DeclarationError(f"{paper.id}: the options of reading {name} must change the same leaves: {keys}")
    chosen = {key for reading in paper.readings.values() for key in paper.flat(reading.options[reading.default])}
    if missing := sorted(set(NEEDED) - set(paper.flat(paper.recipe)) - chosen):
        raise DeclarationError(f"{paper.id}: the base recipe lacks {missing}: see papers/README.md")
    leaves = chosen | paper.flat(paper.recipe).keys()
    sections = {leaf[:at] for leaf in leaves for at, letter in enumerate(leaf) if letter == "."}
    for name, shared in paper.shares.items():
        one_of(paper.base, name, f"base of {paper.id}, so it shares nothing")
        for key in shared:
            one_of(leaves | sections, key, f"leaf or section of {paper.id}, which base {name} could share")
    for table in paper.tables.values():
        ids = [row.id for row in table.row]
        if len(ids) != len(set(ids)):
            raise DeclarationError(f"{paper.id}/{table.id}: row ids repeat: {ids}")
        for row in table.row:
            for name in row.reported:
                one_of(table.columns, name, f"column of {paper.id}/{table.id}")
            for name in row.bold:
                one_of(row.reported, name, f"printed cell of {paper.id}/{table.id}/{row.id}, so it cannot be bold")
            for cell in row_cells(paper, table, row):
                if row.runs and row.kind == "own":
                    recipe(paper, row, one_of({c: c for c in paper.corpora}, cell.corpus, f"corpus of {paper.id}"))
    known = addresses(paper)
    ids = [claim.id for claim in paper.claims]
    if len(ids) != len(set(ids)):
        raise DeclarationError(
            f"{paper.id}/claims.toml: claim ids repeat: {sorted({i for i in ids if ids.count(i) > 1})}"
        )
    for claim in paper.claims:
        _check_claim(paper, claim, known)


def _check_claim(paper: Paper, claim: Claim, known: dict[str, Cell]) -> None:
    where = f"{paper.id}/claims.toml, {claim.id}"
    cells_of = [one_of(known, address, f"printed number of {paper.id} (asked by {where})") for address in claim.of]
    expected = {"value": 1, "difference": 2, "relative": 2, "best": 1}.get(claim.kind)
    if expected and len(cells_of) != expected:
        raise DeclarationError(f"{where}: a claim of kind {claim.kind} takes {expected} addresses; found {claim.of}")
    if claim.kind in ("value", "difference", "relative", "sum") and claim.printed is None:
        raise DeclarationError(f"{where}: a claim of kind {claim.kind} needs its digits in `printed`")
    if claim.kind == "best" and not isinstance(claim.among, str):
        for row in claim.among:
            paper.table(cells_of[0].table).find(row)


def _toml(path: Path) -> dict:
    try:
        return tomllib.loads(
            path.read_text(encoding="utf-8"), parse_float=Decimal
        )  # Decimal keeps the digits as printed
    except FileNotFoundError:
        raise DeclarationError(f"{path} is missing: see papers/README.md for the files of a paper") from None
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{path} is not valid TOML: {error}") from None
