"""Printed beside reproduced: the one join that notebooks, pages and the README's scoreboard all use."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from merlib import declarations, study
from merlib.data import splits
from merlib.declarations import Paper, Table
from merlib.errors import RequestError
from merlib.files import atomic
from merlib.places import TWINS, results_folder

COLUMNS = [
    "row", "label", "column", "printed", "reproduced", "spread", "n_seeds", "n_folds", "n", "test_peak", "difference",
    "noise", "verdict", "never_predicted", "data", "features", "doubt",
]  # fmt: skip
FLOORS = ("majority", "logistic", "ridge")
DOUBTS = {
    "partial": "Not all folds of the protocol, of one seed or more",
    "mixed": "Seeds or folds from more than one recipe, set of features or state of the code",
    "uncommitted": "Run with a changed working copy, which no commit holds",
}


def compare(paper: str, table: str, data: str = "twin") -> pd.DataFrame:
    """Every cell of a table, one a line, in the unit that is printed (percent, or fractions).

    reproduced: mean over seeds and folds, at the epoch selected on validation (rows that declare `protocol.select =
    "test_peak"`: at the test peak); spread: their standard deviation; n: test utterances of all folds together;
    test_peak: the mean at the best test epoch; noise: half the 95 % interval that n alone allows a score; verdict:
    `within` when printed and reproduced differ by no more than noise and two spreads together, else `below` or `above`,
    `not run`, or `` where nothing is printed; doubt: `partial` where a seed lacks folds of the protocol, `mixed` where
    seeds or folds come from more than one recipe, set of features or state of the code, `uncommitted` where no commit
    holds a run's code.
    """
    declared = declarations.load(paper)
    found = declared.table(table)
    records = study.read_records(paper, found.id, data)
    lines = []
    for row in found.row:
        for cell in declarations.row_cells(declared, found, row):
            mine = records[(records["row"] == row.id) & (records["column"] == cell.column)]
            protocol = _protocol(declared, row, cell.corpus) if row.runs and len(mine) else {}
            if cell.printed is not None or len(mine):
                line = {
                    "row": row.id,
                    "label": row.label,
                    "column": cell.column,
                    "printed": _number(cell.printed),
                    "data": data,
                }
                lines.append(line | _reproduced(mine, protocol, cell) if row.runs else line)
    joined = pd.DataFrame(lines, columns=[c for c in COLUMNS if c != "verdict" and c != "difference"])
    joined[["n_seeds", "n_folds", "n"]] = joined[["n_seeds", "n_folds", "n"]].astype("Int64")
    joined["difference"] = (joined["reproduced"].astype(float) - joined["printed"].astype(float)).round(4)
    joined["verdict"] = [_verdict(line) for line in joined.itertuples()]
    return joined[COLUMNS]


def _protocol(paper: Paper, row: declarations.Row, corpus: str) -> dict:
    return {} if row.kind == "fact" else declarations.recipe(paper, row, corpus)["protocol"]


def _reproduced(records: pd.DataFrame, protocol: dict, cell: declarations.Cell) -> dict:
    chosen = records[records["selection"] == protocol.get("select", "val")]
    if chosen.empty:
        return {"n_seeds": 0, "n_folds": 0}
    scale = 0.01 if cell.unit == "fraction" else 1.0
    value, peak = (
        scale * found["value"].astype(float) for found in (chosen, records[records["selection"] == "test_peak"])
    )
    n = int(chosen.drop_duplicates("fold")["n"].sum())  # of all folds together
    p = min(max(value.mean() / (100 * scale), 0.0), 1.0)
    return {
        "reproduced": value.mean(),
        "spread": value.std(ddof=1) if len(value) > 1 else float("nan"),
        "n_seeds": chosen["seed"].nunique(),
        "n_folds": chosen["fold"].nunique(),
        "n": n,
        "test_peak": peak.mean() if len(peak) else float("nan"),
        "noise": 0.0 if cell.metric in study.AS_THEY_ARE else 196 * scale * math.sqrt(p * (1 - p) / n),
        "never_predicted": " ".join(
            sorted({name for names in chosen.get("never_predicted", []) for name in str(names).split()} - {"nan"})
        ),
        "features": " or ".join(chosen["features"].astype(str).unique()),
        "doubt": " ".join(_doubts(chosen, splits.folds(protocol) if protocol else 1)),
    }


def _doubts(records: pd.DataFrame, folds: int) -> Iterator[str]:
    """What its records say against a mean; old ones, without recipes, tell it by features and commits only."""
    if records.groupby("seed")["fold"].nunique().min() < folds:
        yield "partial"
    held = records.reindex(columns=["recipe", "commit", "features"], fill_value="").astype(str)
    recipes, commits = held["recipe"], held["commit"]
    known = recipes.mask(recipes.isin(["", "nan"]), commits)
    if known.nunique() > 1 or held["features"].nunique() > 1:
        yield "mixed"
    if commits.str.endswith("+").any():
        yield "uncommitted"


def _verdict(line) -> str:
    if pd.isna(line.printed):
        return ""
    if pd.isna(line.reproduced):
        return "not run"
    allowed = line.noise + 2 * (0.0 if pd.isna(line.spread) else line.spread)
    return "within" if abs(line.difference) <= allowed + 1e-9 else "below" if line.difference < 0 else "above"


def _number(printed: str | None) -> float:
    return float("nan") if printed is None else float(printed)


def scoreboard(data: str) -> pd.DataFrame:
    """The headline of every paper: of the tables that have floors, every row that has run, in the scores that select
    its epoch (all scores of a sentiment corpus)."""
    boards = []
    for paper, table in _tables(data):
        if any(row.base in FLOORS for row in table.row):
            board = compare(paper.id, table.id, data)
            shown = [name for name, column in table.columns.items() if column.fold is None and _leads(paper, column)]
            boards.append(
                board[board["column"].isin(shown) & board["reproduced"].notna()].assign(paper=paper.id, table=table.id)
            )
    columns = [
        "paper", "table", "label", "column", "printed", "reproduced", "spread", "n_seeds", "n_folds", "test_peak",
        "verdict",
        "doubt",
    ]  # fmt: skip
    return pd.concat(boards)[columns] if boards else pd.DataFrame(columns=columns)


def _leads(paper: Paper, column: declarations.Column) -> bool:
    corpus = column.corpus or paper.corpora[0]
    base = declarations.Row(id="base", label="the base recipe")
    selects = declarations.recipe(paper, base, corpus)["protocol"]["select_metric"]
    return column.metric in (selects, "acc2", "acc7", "f1_acc2")


def summary(data: str) -> pd.DataFrame:
    """One line a table: how many numbers are printed, how many of them this study reproduced, and how they compare."""
    lines = []
    for paper, table in _tables(data):
        board = compare(paper.id, table.id, data)
        board = board[board["row"].isin({r.id for r in table.row if r.reported}) & board["printed"].notna()]
        board = board[~board["column"].isin({name for name, c in table.columns.items() if c.metric == "setting"})]
        if board.empty:
            continue  # a table of our own, or of settings, which the recipes hold
        mine = board[board["row"].isin({r.id for r in table.row if r.runs})]
        counts = mine["verdict"].value_counts()
        lines.append(
            {
                "paper": paper.id,
                "table": table.id,
                "printed": len(board),
                "ours to reproduce": len(mine),
            }
            | {verdict: int(counts.get(verdict, 0)) for verdict in ("within", "below", "above", "not run")}
            | {
                "mean difference": mine["difference"].mean(),
                "mean test peak - val": (mine["test_peak"] - mine["reproduced"]).mean(),
            }
        )
    return pd.DataFrame(lines)


def write(data: str) -> Path:
    """results/<data>/report.md: the summary, then each table that has records, printed beside reproduced, and the
    figures, of which the scoreboard's is drawn here."""
    from merlib import figures

    root = results_folder(data)
    figures.save(figures.scoreboard(scoreboard(data), data=data), data, "", "scoreboard")
    lines = [f"# Printed beside reproduced, on `{data}`", "", _caveat(data), "", _markdown(summary(data)), ""]
    for paper, table in _tables(data):
        board = compare(paper.id, table.id, data)
        shown = board[board["reproduced"].notna()]
        if shown.empty:
            continue  # the summary counts it
        lines += [f"## {paper.id}/{table.id}: {table.caption}", ""]
        lines += [f"- features: {features}" for features in sorted(set(shown["features"]) - {""})]
        lines += ["", _markdown(shown.drop(columns=["data", "features", "doubt", "row"])), ""]
        for doubt, said in DOUBTS.items():
            if doubted := dict.fromkeys(shown.loc[shown["doubt"].str.contains(doubt), "label"]):
                lines += [f"{said}: {'; '.join(doubted)}.", ""]
        lines += [f"{len(board) - len(shown)} further printed numbers of this table have no run here.", ""]
    for picture in sorted((root / "figures").rglob("*.png")):
        lines += [f"![{picture.stem}]({picture.relative_to(root)})", ""]
    path = root / "report.md"
    with atomic(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_scoreboard(readme: Path, data: str) -> None:
    """Replace what stands between the scoreboard markers of the README by the scoreboard of a data root."""
    text = readme.read_text(encoding="utf-8")
    start, end = "<!-- scoreboard -->\n", "<!-- /scoreboard -->"
    if start not in text or end not in text:
        raise RequestError(f"{readme} has no scoreboard markers {start!r} ... {end!r}")
    before, after = text.split(start)[0], text.split(end)[1]
    with atomic(readme) as part:
        part.write_text(f"{before}{start}{_markdown(scoreboard(data))}\n{end}{after}", encoding="utf-8")


def _tables(data: str) -> Iterator[tuple[Paper, Table]]:
    for name in declarations.papers():
        paper = declarations.load(name)
        for table in paper.tables.values():
            if table.id != "readings" or study.records_path(name, table.id, data).exists():
                yield paper, table


def _caveat(data: str) -> str:
    if data in TWINS:
        return "**Synthetic twin**: these numbers say that everything runs, and nothing about the papers' claims."
    return (
        "Printed numbers come from the papers' own features, reproduced ones from the features named in each table; a "
        "difference mixes both. `reproduced` is selected on validation; `test_peak` is what selection on the test set "
        "would have given."
    )


def _markdown(board: pd.DataFrame) -> str:
    return board.map(lambda v: "" if pd.isna(v) else f"{v:.2f}" if isinstance(v, float) else v).to_markdown(
        index=False, disable_numparse=True
    )
