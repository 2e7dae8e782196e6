"""All tables on a data root: a summary, a scoreboard of the headline scores, and results/<data>/report.md."""

from pathlib import Path

import pandas as pd

from merlib import declarations
from merlib.data import official
from merlib.declarations import Paper, Row, Table
from merlib.files import atomic
from merlib.places import TWINS, results_folder
from merlib.study import claims, front_page, verdicts
from merlib.study.claims_page import TWIN_CAVEAT
from merlib.study.comparison import compare
from merlib.study.recorded import records_path
from merlib.study.records import PLAIN

FLOORS = ("majority", "logistic", "ridge")
DOUBTS = {
    "partial": "Not all folds of the protocol, of one seed or more",
    "mixed": "Seeds or folds from more than one recipe, set of features or state of the code",
    "uncommitted": "Run with a changed working copy, which no commit holds",
    "part-of-corpus": "Trained and tested on a part of the official corpus",
    "stale": "Recorded under another recipe or by other code than the present ones, or before records said which",
}
CAVEAT = (
    "Printed numbers come from the papers' own features, reproduced ones from the features named in each table. "
    "`inputs` says how these relate; only where they are the `same` does `verdict` judge the printed number, by an "
    "interval of the difference. `reproduced` is selected on validation; `test_peak` is what selection on the test set "
    "would have given."
)
FINDINGS = (
    "Each is judged by differences between our own runs on equal inputs: points are percentage points, positive in the "
    "direction of the claim. A verdict is at 5 % after Holm's adjustment over all tested claims of a paper. Intervals "
    "are not adjusted. Nor are numbers of seeds: with so many, four of five studies would find the printed difference. "
    "All claims: `claims.md`."
)
Board = tuple[Paper, Table, pd.DataFrame]  # a table, and `compare` of it


def boards_of(data: str, *, only_with_floors: bool = False, paper: str | None = None) -> list[Board]:
    """Every table with rows of all papers, or of one, printed beside reproduced; those `when_named` with records."""
    return [
        (paper, table, compare(paper.id, table.id, data))
        for paper in map(declarations.load, declarations.papers(paper))
        for table in paper.tables.values()
        if table.row and (not table.when_named or records_path(paper.id, table.id, data).exists())
        if _has_floors(table) or not only_with_floors
    ]


def _has_floors(table: Table) -> bool:
    return any(row.base in FLOORS for row in table.row)


def headline_columns(paper: Paper, table: Table) -> list[str]:
    """The scores that select the epoch, and all scores of a sentiment corpus; none of a table without floors."""
    names = []
    for name, column in table.columns.items() if _has_floors(table) else ():
        recipe = declarations.base_recipe(paper, column.corpus or paper.corpora[0])
        scores = (recipe["protocol"]["select_metric"], "acc2", "acc7", "f1_acc2")
        names += [name] if column.fold is None and column.metric in scores else []
    return names


def scoreboard(data: str, boards: list[Board] | None = None) -> pd.DataFrame:
    """The headline scores of every paper: all rows that have run, of the tables that have floors.

    heading: paper, table and score in words; kind: `proposed` for the paper's own network, `floor`, or `other`. boards:
    computed where not given.
    """
    headlines = []
    for paper, table, board in boards or boards_of(data, only_with_floors=True):
        if names := headline_columns(paper, table):
            lines = board[board["column"].isin(names) & board["reproduced"].notna()]
            kinds = {row.id: _kind(row) for row in table.row}
            headings = {name: _heading(paper, table, name) for name in names}
            lines = lines.assign(paper=paper.id, table=table.id, heading=lines["column"].map(headings))
            lines = lines.assign(kind=lines["row"].map(kinds))
            headlines.append(lines)
    columns = [
        "paper", "table", "heading", "kind", "label", "column", "printed", "reproduced", "spread", "n_seeds", "n_folds",
        "test_peak", "inputs", "verdict", "doubt", "features",
    ]  # fmt: skip
    return pd.concat(headlines)[columns] if headlines else pd.DataFrame(columns=columns)


def _heading(paper: Paper, table: Table, name: str) -> str:
    column = table.columns[name]
    corpus = official.NAMES[column.corpus or paper.corpora[0]]
    score = column.label.removeprefix(f"{corpus.split('-')[0]} ")  # some papers print the corpus in the column's head
    return f"{paper.name} on {corpus}: {score} ({table.where.split(',')[0]})"


def _kind(row: Row) -> str:
    floor = row.label.startswith("Floor:")  # as a newcomer reads it in every table
    return "floor" if floor else "other" if row.base else "proposed"


def summary(data: str, boards: list[Board] | None = None) -> pd.DataFrame:
    """One line per table: how many numbers are printed, how many of them are reproduced, and how they compare.

    Verdicts on scores and on counts stand apart; means are of shares only, in percentage points.
    """
    lines = []
    for paper, table, board in boards or boards_of(data):
        board = board[board["row"].isin({r.id for r in table.row if r.reported}) & board["printed"].notna()]
        board = board[~board["column"].isin({name for name, c in table.columns.items() if c.metric == "setting"})]
        if board.empty:
            continue  # a table that this study adds, or one of settings, which are part of the recipes
        ours = board[board["row"].isin({r.id for r in table.row if r.runs})]
        counts = ours["verdict"].value_counts()
        line = {"paper": paper.id, "table": table.id, "printed": len(board), "ours to reproduce": len(ours)}
        line |= {verdict: int(counts.get(verdict, 0)) for verdict in (*verdicts.OF_SCORES, *verdicts.COUNTS, "not run")}
        line["mean difference"] = _points(table, ours, ours["difference"])
        line["mean test peak - val"] = _points(table, ours, ours["test_peak"] - ours["reproduced"])
        lines.append(line)
    return pd.DataFrame(lines)


def _points(table: Table, board: pd.DataFrame, differences: pd.Series) -> float:
    """The mean of differences between shares, in percentage points: without counts, errors and correlations."""
    columns = {name: c for name, c in table.columns.items() if c.metric not in PLAIN and c.unit in verdicts.PERCENT}
    shares = board["column"].isin(columns)
    unit = board.loc[shares, "column"].map(lambda name: verdicts.PERCENT[columns[name].unit])
    return (differences[shares].astype(float) * unit.astype(float)).mean()


def write(data: str, boards: list[Board] | None = None) -> Path:
    """results/<data>/report.md: the summary, the tables that have records, printed beside reproduced, and figures."""
    from merlib import figures

    root, boards = results_folder(data), boards or boards_of(data)
    board = scoreboard(data, boards)
    figures.save(figures.headlines(board, data=data), data, "", "scoreboard")
    for paper, lines in board.groupby("paper"):
        figures.save(figures.scoreboard(lines, data=data), data, paper, "scoreboard")
    lines = [
        f"# Printed beside reproduced, on `{data}`",
        "",
        TWIN_CAVEAT if data in TWINS else CAVEAT,
        "",
        "## What the central claims come to",
        "",
        FINDINGS,
        "",
        front_page.findings(claims.judge_claims(data=data)),
        "",
        "## How many numbers have run, and what they say of the printed ones",
        "",
        _markdown(summary(data, boards)),
        "",
        "## Scoreboard: the headline scores that have run, with their floors",
        "",
        _markdown(board.drop(columns=["heading", "kind", "features"])),
        "",
    ]
    for each in boards:
        lines += _section(*each)
    for figure in sorted((root / "figures").rglob("*.png")):
        lines += [f"![{figure.stem}]({figure.relative_to(root)})", ""]
    path = root / "report.md"
    with atomic(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")
    return path


def _section(paper: Paper, table: Table, board: pd.DataFrame) -> list[str]:
    """The lines of one table in the report; none where nothing has run, since the summary counts those numbers."""
    reproduced = board[board["reproduced"].notna()]
    if reproduced.empty:
        return []
    lines = [f"## {paper.id}/{table.id}: {table.caption}", ""]
    lines += [f"- features: {features}" for features in sorted(set(reproduced["features"]) - {""})]
    shown = reproduced.drop(columns=["data", "features", "doubt", "score"]).astype(object)
    of_counts = shown["column"].isin({name for name, column in table.columns.items() if column.metric == "count"})
    for name in ("printed", "reproduced", "difference"):
        shown.loc[of_counts, name] = shown.loc[of_counts, name].map("{:.0f}".format, na_action="ignore")
    lines += ["", _markdown(shown), ""]
    for doubt, meaning in DOUBTS.items():
        if labels := dict.fromkeys(reproduced.loc[reproduced["doubt"].str.contains(doubt), "label"]):
            lines += [f"{meaning}: {'; '.join(labels)}.", ""]
    if missing := len(board) - len(reproduced):
        numbers = "number of this table has" if missing == 1 else "numbers of this table have"
        lines += [f"{missing} further printed {numbers} no run here.", ""]
    return lines


def _markdown(board: pd.DataFrame) -> str:
    cells = board.map(lambda v: "" if pd.isna(v) else f"{v:z.2f}" if isinstance(v, float) else v)
    return cells.to_markdown(index=False, disable_numparse=True)
