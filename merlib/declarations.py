"""Declarations: papers/<paper>/*.toml -> typed, checked cells and recipes. The grammar is in papers/README.md.

A recipe is a nested dict of sections (`model`, `loss`, `train`, `data`, `protocol`), resolved for one corpus. It is
merged in this order: the paper's leaves, the default readings, the base of another system, the readings that the row or
the caller chooses, the twin's scale, the leaves that the row sets, those that the caller sets.
"""

import os
import re
import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from merlib.grammar import LETTERS, SCORES, Cell, Claim, Column, DeclarationError, Paper, Row, Table, one_of
from merlib.leaves import checked, flat, for_corpus, sourced

# of a base recipe
NEEDED = (
    "data.unit",
    "data.modalities",
    "protocol.split",
    "protocol.select",
    "protocol.select_metric",
)
SECTIONS = ("model", "loss", "train", "data", "protocol")
DATA = (  # what a run reads; further leaves of `data` say how features are extracted
    "data.unit", "data.modalities", "data.text", "data.audio", "data.visual", "data.standardize", "data.classes",
    "data.augment", "data.on_failure",
)  # fmt: skip
AVERAGED = {(m, a): f"{a}_{m}" for m in ("f1", "precision", "recall") for a in ("macro", "weighted")}
PRINTED = re.compile(r"(Sec\.|Table|eqs?\.|Fig\.|Abstract)")  # a source that starts so is a place in the paper


def papers_folder() -> Path:
    """The declarations: `papers/` of the checkout, or MERLIB_PAPERS."""
    return Path(os.environ.get("MERLIB_PAPERS", Path(__file__).parents[1] / "papers"))


def papers() -> list[str]:
    return sorted(p.parent.name for p in papers_folder().glob("*/paper.toml"))


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
    printed = [_cell(paper, t, r, c, None) for t in paper.tables.values() for r in t.row for c in r.reported if r.runs]
    headline = dict.fromkeys((c.corpus, c.metric) for c in printed if c.metric in SCORES and c.corpus in paper.corpora)
    columns = {
        f"{corpus}_{metric}": Column(metric=metric, label=f"{corpus} {metric}", corpus=corpus)
        for corpus, metric in sorted(headline, key=lambda pair: (paper.corpora.index(pair[0]), SCORES.index(pair[1])))
    }
    rows = [Row(id="default", label="All default readings")]
    for name, reading in paper.readings.items():
        if all(
            key.startswith("data.") and key not in DATA for option in reading.options.values() for key in flat(option)
        ):
            continue  # settled when features are extracted: the arrays at hand cannot switch it
        where = ", ".join(f"{key} = {value}" for key, value in flat(reading.context).items())
        for option in reading.options:
            if option != reading.default or reading.context:
                label = f"{name}: {option}" + f" (where {where})" * bool(where)
                rows.append(
                    Row(id=f"{name}_{option}", label=label, change=flat(reading.context) | {f"readings.{name}": option})
                )
    return Table(id="readings", caption="The range over all readings", where="this study", columns=columns, row=rows)


def load(paper: str) -> Paper:
    """The declarations of one paper, checked once a process."""
    one_of(dict.fromkeys(papers()), paper, "paper")
    return _load(papers_folder() / paper)


def cells(paper: Paper, table: str | None = None) -> list[Cell]:
    """Every printed number of a paper: its tables, those of paper.toml (tables `settings`, `facts`), and `claims`."""
    if table is None:
        return [c for name in paper.tables for c in cells(paper, name)] + _setting_cells(paper) + _claim_cells(paper)
    found = paper.table(table)
    return [_cell(paper, found, row, name, printed) for row in found.row for name, printed in row.reported.items()]


def row_cells(paper: Paper, table: Table, row: Row) -> list[Cell]:
    """The cells of a row, one a column: also those with nothing printed, since a run of ours fills the whole row."""
    reported = table.find(row.same_as).reported if row.same_as else row.reported
    names = row.reported if row.kind == "fact" else table.columns
    return [_cell(paper, table, row, name, reported.get(name)) for name in names]


def recipe(
    paper: Paper, row: Row, corpus: str, *, data: str = "", change: dict[str, Any] | None = None,
    modalities: str | None = None,
) -> dict[str, dict]:  # fmt: skip
    """The recipe of a row on a corpus.

    data: the root that it is for; the paper has a scale of its own for the synthetic ones (`places.TWINS`).
    modalities: of the column, where it names them (`data.modalities`).
    change: further leaves (`{"train.lr": 1e-3}`) or readings (`{"readings.cell": "slstm"}`), laid over the row's own.
    Raises DeclarationError for an unknown key or reading, or a value of another type than the declared one.
    """
    asked = ({"data.modalities": modalities} if modalities else {}) | flat(row.change) | flat(change or {})
    base = one_of(paper.base, row.base, f"base of {paper.id}") if row.base else {}
    shared, replaced = paper.shares.get(row.base, []), {"model", "loss"} & set(base)

    def own(tree: dict) -> dict[str, Any]:
        """Without what is the paper's network's or loss's alone, where another system takes their place."""
        return {k: v for k, v in flat(tree).items() if k.split(".")[0] not in replaced or k in shared}

    leaves = own(paper.recipe)
    for reading in paper.readings.values():
        leaves |= own(reading.options[reading.default])
    leaves |= flat(base)
    for name, option in _chosen(paper, asked).items():
        leaves |= own(paper.readings[name].options[option])
    leaves |= {k: v for k, v in _scale(paper, data).items() if k in leaves}
    for key, value in asked.items():
        if not key.startswith("readings."):
            leaves[key] = checked(key, value, leaves)
    result: dict[str, dict] = {section: {} for section in SECTIONS}
    for key, value in sorted(leaves.items()):
        section, name = key.split(".")
        result[section][name] = for_corpus(value, corpus)
    return result


def _scale(paper: Paper, data: str) -> dict[str, Any]:
    """The leaves that a synthetic root sets for all rows (`places.TWINS`)."""
    return {"twin": flat(paper.twin), "twin_media": flat(paper.twin) | flat(paper.twin_media)}.get(data, {})


def overruled(paper: Paper, corpus: str, data: str, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves of readings chosen by `changes` that a synthetic root sets otherwise, so that the option is not what
    would run.

    How long and how fast one trains there (section `train`) is not what an option is about.
    """
    asked, scale = {k: v for change in changes for k, v in flat(change).items()}, _scale(paper, data)
    twins = {k: for_corpus(v, corpus) for k, v in scale.items() if not k.startswith("train.") and k not in asked}
    found = {}
    for name, option in _chosen(paper, asked).items():
        reading = paper.readings[name]
        usual, wanted = (
            {k: for_corpus(v, corpus) for k, v in flat(reading.options[o]).items()} for o in (reading.default, option)
        )
        found |= {k: v for k, v in wanted.items() if k in twins and v not in (usual[k], twins[k])}
    return found


def _chosen(paper: Paper, asked: dict[str, Any]) -> dict[str, str]:
    """Reading -> option, of flat changes."""
    chosen = {k.split(".", 1)[1]: v for k, v in asked.items() if k.startswith("readings.")}
    for name, option in chosen.items():
        one_of(one_of(paper.readings, name, f"reading of {paper.id}").options, option, f"option of reading {name}")
    return chosen


def changed(paper: Paper, *changes: dict[str, Any]) -> dict[str, Any]:
    """The leaves that changes set, those of the readings they choose among them."""
    asked = {key: value for change in changes for key, value in flat(change).items()}
    options = [paper.readings[name].options[option] for name, option in _chosen(paper, asked).items()]
    return {key: value for option in options for key, value in flat(option).items()} | asked


def recipe_of(paper: Paper, cell: Cell) -> dict[str, dict] | None:
    """The recipe behind a printed number; None where it is quoted or a fact."""
    row = paper.tables[cell.table].find(cell.row) if cell.table in paper.tables else None
    return (
        recipe(paper, row, cell.corpus, modalities=cell.modalities) if row and row.runs and row.kind == "own" else None
    )


def addresses(paper: Paper) -> dict[str, Cell]:
    """{address within the paper: printed number}: `table4/ours.meld_accuracy`, `settings/train.batch.meld`."""
    loose = ("settings", "facts", "claims")
    return {
        f"{c.table}/{c.row}" + ("" if c.table in loose and c.column == "value" else f".{c.column}"): c
        for c in cells(paper)
    }


def needs() -> dict[str, dict[str, list[str]]]:
    """{paper: {corpus: modalities}}: what each paper reads."""
    base = Row(id="base", label="the base recipe")
    found = {}
    for paper in map(load, papers()):
        asked = {corpus: recipe(paper, base, corpus)["data"]["modalities"] for corpus in paper.corpora}
        found[paper.id] = {corpus: [m for k, m in LETTERS.items() if k in those] for corpus, those in asked.items()}
    return found


def _cell(paper: Paper, table: Table, row: Row, name: str, printed: str | None) -> Cell:
    column = one_of(table.columns, name, f"column of {table.id}")
    corpus = column.corpus or row.corpus or (paper.corpora[0] if len(paper.corpora) == 1 else None)
    kind = "cited" if row.cited else "fact" if row.kind == "fact" else "own" if row.reported else "added"
    emotion = one_of(column.emotion, corpus, "corpus") if isinstance(column.emotion, dict) else column.emotion
    return Cell(
        paper=paper.id, table=table.id, row=row.id, column=name, printed=printed, kind=kind, corpus=corpus,
        metric=AVERAGED.get((column.metric, row.average), column.metric), emotion=emotion or row.emotion,
        modalities=column.modalities, fold=column.fold, unit=column.unit,
    )  # fmt: skip


def _setting_cells(paper: Paper) -> list[Cell]:
    settings = [("settings", paper.recipe), ("facts", paper.facts)]
    settings += [("settings", option) for reading in paper.readings.values() for option in reading.options.values()]
    found = {}
    for table, tree in settings:
        for key, (value, source) in sourced(tree).items():
            for corpus, number in (value if isinstance(value, dict) else {None: value}).items():
                if PRINTED.match(source) and isinstance(number, (int, Decimal)) and not isinstance(number, bool):
                    found[table, key, corpus] = Cell(
                        paper=paper.id, table=table, row=key, column=corpus or "value", printed=format(number, "f")
                        if isinstance(number, Decimal) else str(number), kind="fact", corpus=corpus, metric="setting",
                    )  # fmt: skip
    return list(found.values())


def _claim_cells(paper: Paper) -> list[Cell]:
    return [
        Cell(paper=paper.id, table="claims", row=claim.id, column="value", printed=claim.printed, kind="fact",
             corpus=None, metric=claim.kind)
        for claim in paper.claims if claim.printed is not None
    ]  # fmt: skip


def _check(paper: Paper) -> None:
    for name, reading in paper.readings.items():
        one_of(reading.options, reading.default, f"option of reading {name}")
        keys = {option: set(flat(change)) for option, change in reading.options.items()}
        if len(set(map(frozenset, keys.values()))) > 1:
            raise DeclarationError(f"{paper.id}: the options of reading {name} must change the same leaves: {keys}")
    chosen = {key for reading in paper.readings.values() for key in flat(reading.options[reading.default])}
    if missing := sorted(set(NEEDED) - set(flat(paper.recipe)) - chosen):
        raise DeclarationError(f"{paper.id}: the base recipe lacks {missing}: see papers/README.md")
    for name, shared in paper.shares.items():
        one_of(paper.base, name, f"base of {paper.id}, so it shares nothing")
        for key in shared:
            one_of(
                dict.fromkeys(chosen | flat(paper.recipe).keys()),
                key,
                f"leaf of {paper.id}, which base {name} could share",
            )
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
