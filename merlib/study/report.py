"""All tables on a data root: a summary, a scoreboard of the headlines, and results/<data>/report.md."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from merlib import declarations
from merlib.declarations import Column, Paper, Table
from merlib.errors import RequestError
from merlib.files import atomic
from merlib.places import TWINS, results_folder
from merlib.study.comparison import compare
from merlib.study.records import records_path

FLOORS = ("majority", "logistic", "ridge")
DOUBTS = {
    "partial": "Not all folds of the protocol, of one seed or more",
    "mixed": "Seeds or folds from more than one recipe, set of features or state of the code",
    "uncommitted": "Run with a changed working copy, which no commit holds",
}


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


def _leads(paper: Paper, column: Column) -> bool:
    corpus = column.corpus or paper.corpora[0]
    selects = declarations.base_recipe(paper, corpus)["protocol"]["select_metric"]
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
        for doubt, meaning in DOUBTS.items():
            if doubted := dict.fromkeys(shown.loc[shown["doubt"].str.contains(doubt), "label"]):
                lines += [f"{meaning}: {'; '.join(doubted)}.", ""]
        lines += [f"{len(board) - len(shown)} further printed numbers of this table have no run here.", ""]
    for figure in sorted((root / "figures").rglob("*.png")):
        lines += [f"![{figure.stem}]({figure.relative_to(root)})", ""]
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
            if table.id != "readings" or records_path(name, table.id, data).exists():
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
