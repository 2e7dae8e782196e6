"""The declarations of a paper, from its folder of TOML files, checked once a process."""

import os
from collections import Counter
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from merlib.declarations import folder as files_of
from merlib.declarations.printed import addresses, cells, number, row_cells
from merlib.declarations.readings import tables_of_readings
from merlib.declarations.recipes import recipe
from merlib.declarations.schema import LETTERS, SHARES, Cell, Claim, Paper, Table
from merlib.errors import DeclarationError, listed, one_of
from merlib.places import at_home, declared_folder
from merlib.registry import registered

NEEDED = (  # leaves of every base recipe
    "data.unit", "data.modalities", "protocol.split", "protocol.select", "protocol.select_metric",
)  # fmt: skip


def search_path() -> list[Path]:
    """The folders of papers: those of this study, or those that MERLIB_PAPERS names, separated as in PATH."""
    named = os.environ.get("MERLIB_PAPERS", str(declared_folder()))
    return [at_home(name).resolve() for name in named.split(os.pathsep) if name]


def folders() -> dict[str, Path]:
    """Paper id -> the folder of its declarations.

    They are on the search path, and in `declarations/` of the packages that other distributions register under the
    entry point group `merlib.papers`.
    """
    declared = {file.parent.name: file.parent for path in search_path() for file in sorted(path.glob("*/paper.toml"))}
    installed = [Path(str(files(package))) / "declarations" for package in registered().values()]
    return declared | {files_of.toml(folder / "paper.toml")["id"]: folder for folder in installed if folder.is_dir()}


def papers(only: str | None = None) -> list[str]:
    """The ids of all declared papers, DeclarationError where there is none; or of `only` one."""
    if only:
        return [only]
    if not (declared := folders()):
        looked = os.pathsep.join(map(str, search_path())) or "no folder"
        raise DeclarationError(f"{looked}: holds no <paper>/paper.toml; set MERLIB_PAPERS to a folder of declarations")
    return sorted(declared)


def load(paper: str) -> Paper:
    """The declarations of one paper, checked once a process."""
    return _load(one_of(folders(), paper, "paper"))


@cache
def _load(folder: Path) -> Paper:
    paper = read(folder)
    if missing := sorted(set(NEEDED) - _leaves(paper)):
        raise DeclarationError(f"{paper.id}: the base recipe lacks {listed(missing)}: see papers/README.md")
    return paper


def read(folder: Path) -> Paper:
    """The declarations of any folder, checked; without a recipe it is a paper that can be audited, and nothing else."""
    declared = files_of.read(folder)
    try:
        paper = Paper(**declared)
    except ValidationError as error:
        raise files_of.mistakes(folder, declared, error) from None
    try:
        if paper.recipe:
            paper = paper.model_copy(update={"tables": paper.tables | tables_of_readings(paper)})
        _check(paper, folder)
    except DeclarationError as error:
        raise DeclarationError(str(error) if folder.name in str(error) else f"{folder.name}: {error}") from error
    return paper


def _check(paper: Paper, folder: Path) -> None:
    for corpus in paper.supports:
        one_of(paper.corpora, corpus, f"corpus of {paper.id}, so [supports.{corpus}] is of none")
    for corpus in paper.twin_media_arrays:
        one_of(paper.corpora, corpus, f"corpus of {paper.id}, so twin_media_arrays cannot name it")
    leaves = _check_readings(paper)
    _check_substitutes(paper, leaves)
    _check_printed_on(paper)
    sections = {leaf[:at] for leaf in leaves for at, letter in enumerate(leaf) if letter == "."}
    for name, shared in paper.shares.items():
        one_of(paper.base, name, f"base of {paper.id}, so it shares nothing")
        for leaf in shared:
            one_of(leaves | sections, leaf, f"leaf or section of {paper.id}, which base {name} could share")
    for table in paper.tables.values():
        csv = folder / "tables" / f"{table.id}.csv"
        try:
            _check_table(paper, table)
            _check_digits(paper, table)
        except DeclarationError as error:
            raise DeclarationError(f"{csv if csv.exists() else csv.with_suffix('.toml')}: {error}") from error
    for learned in paper.learned.values():
        for address in learned.rows:
            paper.row_at(address)
    known, ids = addresses(paper), Counter(claim.id for claim in paper.claims)
    if repeated := sorted(name for name, count in ids.items() if count > 1):
        raise DeclarationError(f"{paper.id}/claims.toml: claim ids repeat: {listed(repeated)}")
    for claim in paper.claims:
        _check_claim(paper, claim, known)


def _check_readings(paper: Paper) -> set[str]:
    """Check that the readings are complete; returns the leaves of the base recipe, with those that readings set."""
    for name, reading in paper.readings.items():
        one_of(reading.options, reading.default, f"option of reading {name}")
        keys = {option: set(paper.flat(change)) for option, change in reading.options.items()}
        if len(set(map(frozenset, keys.values()))) > 1:
            changed = "; ".join(f"{option} changes {listed(sorted(leaves))}" for option, leaves in keys.items())
            raise DeclarationError(f"{paper.id}: the options of reading {name} must change the same leaves: {changed}")
    return _leaves(paper)


def _leaves(paper: Paper) -> set[str]:
    chosen = {key for reading in paper.readings.values() for key in paper.flat(reading.options[reading.default])}
    return chosen | paper.flat(paper.recipe).keys()


def _check_substitutes(paper: Paper, leaves: set[str]) -> None:
    for name, substitute in paper.substitute.items():
        change, array = paper.flat(substitute.change), f"data.{substitute.modality}"
        one_of(paper.flat(paper.recipe), array, f"leaf of the base recipe of {paper.id}, whose substitute is {name}")
        for leaf in change if substitute.learned else (*change, *filter(None, [substitute.weights])):
            one_of(leaves, leaf, f"leaf of {paper.id}, which substitute {name} could name")
        if substitute.learned:
            one_of(
                paper.learned, substitute.learned, f"learned arrays of {paper.id}, which substitute {name} could name"
            )
        for base in substitute.always:
            one_of(paper.base, base, f"base of {paper.id}, which substitute {name} could always have")
        if others := sorted(change.keys() & {f"data.{modality}" for modality in LETTERS.values()} - {array}):
            what = f"{paper.id}: substitute {name}, of {substitute.modality}"
            raise DeclarationError(f"{what}, must not change {listed(others)}")


def _check_printed_on(paper: Paper) -> None:
    for name, (value, _) in ((name, leaf) for name, leaf in paper.printed_on if leaf):
        where = f"printed_on.{name} of {paper.id}"
        for corpus in value if isinstance(value, dict) else ():
            one_of(paper.corpora, corpus, f"corpus in {where}")
        for each in value.values() if isinstance(value, dict) else [value]:
            if name == "selected":
                one_of(("val", "test", "unstated"), each, f"value of {where}")
            for modality in each if name == "learns" else ():
                one_of(LETTERS.values(), modality, f"modality in {where}")


def _check_table(paper: Paper, table: Table) -> None:
    ids = [row.id for row in table.row]
    if len(ids) != len(set(ids)):
        raise DeclarationError(f"{paper.id}/{table.id}: row ids repeat: {listed(ids)}")
    for row in table.row:
        for name in row.reported:
            one_of(table.columns, name, f"column of {paper.id}/{table.id}")
        for name in row.bold:
            one_of(row.reported, name, f"printed cell of {paper.id}/{table.id}/{row.id}, so it cannot be bold")
        corpora = {cell.corpus for cell in row_cells(paper, table, row)} if row.trains else ()
        for corpus in corpora:
            one_of(paper.corpora, corpus, f"corpus of {paper.id}")
            if paper.recipe:
                recipe(paper, row, corpus)


def _check_digits(paper: Paper, table: Table) -> None:
    """What is printed are numbers, shares of a test set from 0 to 100 percent, and counts whole numbers."""
    for cell in cells(paper, table.id):
        where, value = f"{cell.row}, {cell.column} is {cell.printed!r}", number(cell.printed)
        if value is None:
            raise DeclarationError(f"{where}: expected the digits of a number, such as '68.75'; leave out what is none")
        most = 1 if cell.unit == "fraction" else 100
        if cell.metric in SHARES and not 0 <= value <= most:
            other = "; is its unit percent?" if most == 1 else ""
            raise DeclarationError(f"{where}: expected 0 to {most} for {cell.metric} (unit {cell.unit}){other}")
        if cell.metric == "count" and (value < 0 or value != int(value)):
            raise DeclarationError(f"{where}: expected a whole number, since the column counts")


def _check_claim(paper: Paper, claim: Claim, known: dict[str, Cell]) -> None:
    where = f"{paper.id}/claims.toml, {claim.id}"
    cells = [one_of(known, address, f"printed number of {paper.id} (named by {where})") for address in claim.of]
    if claim.printed is not None and number(claim.printed) is None:
        raise DeclarationError(f"{where}: printed = {claim.printed!r}: expected the digits of a number, such as '4.23'")
    expected = {"value": 1, "difference": 2, "relative": 2, "best": 1}.get(claim.kind)
    if expected and len(cells) != expected:
        raise DeclarationError(f"{where}: a claim of kind {claim.kind} takes {expected} addresses; found {claim.of}")
    if claim.kind in ("value", "difference", "relative", "sum") and claim.printed is None:
        raise DeclarationError(f"{where}: a claim of kind {claim.kind} needs its digits in `printed`")
    if claim.kind == "best" and not isinstance(claim.among, str):
        for row in claim.among:
            paper.table(cells[0].table).find(row)
