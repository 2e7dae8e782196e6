"""The tables of a replication report: settings, readings, corpora, cost, claims, and every table of the paper."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from merlib.data import official
from merlib.declarations import Column, Paper, Row, Table, row_cells
from merlib.declarations.leaves import sourced
from merlib.declarations.works import of_corpora, quoted
from merlib.study.recorded import records_path
from merlib.study.records import read_records
from merlib.study.replication.blocks import Entry, Grid

LETTERS = {"equivalent": " e", "lower": " l", "higher": " h", "undecided": " u"}  # of verdicts, in a cell
MOST = 4  # columns of a table side by side, printed and ours each; the others follow below


def settings(paper: Paper) -> dict[str, tuple[Any, str]]:
    """Each setting of the base recipe under the default readings -> its value and its source."""
    leaves = sourced(paper.recipe, paper.corpora)
    for name, reading in paper.readings.items():
        for leaf, (value, source) in sourced(reading.options[reading.default], paper.corpora).items():
            leaves[leaf] = value, "; ".join(filter(None, (source, f"reading {name}: {reading.default}")))
    return dict(sorted(leaves.items()))


def recipe(paper: Paper) -> Grid:
    """The base recipe under the default readings: each setting with its value and its source."""
    rows = [[Entry(name), Entry(_value(value)), Entry(source)] for name, (value, source) in settings(paper).items()]
    columns = [("setting",), ("value",), ("source",)]
    return Grid("recipe", "The base recipe and where its values come from", columns, rows, (0.3, 0.22, 0.4))


def readings(paper: Paper) -> Grid:
    """The points that the paper leaves open, the options and the default."""
    rows = [
        list(map(Entry, (name, each.question, ", ".join(each.options), f"{each.default}: {each.why}")))
        for name, each in paper.readings.items()
    ]
    columns = [("reading",), ("question",), ("options",), ("default, and why",)]
    caption = "What the paper leaves open, and how we read it"
    return Grid("open-points", caption, columns, rows, (0.14, 0.26, 0.16, 0.36))


def corpora(paper: Paper) -> Grid:
    """Size, splits and access of each corpus."""
    rows = []
    for corpus in paper.corpora:
        sizes = {split: sum(classes) for split, classes in official.CLASSES.get(corpus, {}).items()}
        sizes = sizes or official.UTTERANCES.get(corpus, {})
        utterances = ", ".join(f"{split} {size}" for split, size in sizes.items())
        classes = ", ".join(official.LABELS.get(corpus, ()))
        work = next(iter(of_corpora([corpus])), None)
        others = map(Entry, (utterances, classes, official.ACCESS.get(corpus, "")))
        rows.append([Entry(official.NAMES.get(corpus, corpus), work), *others])
    columns = [("corpus",), ("utterances",), ("classes",), ("access",)]
    return Grid("corpora", "Corpora: official sizes, and how to get them", columns, rows, (0.14, 0.18, 0.22, 0.38))


def cost(paper: Paper, data: str) -> Grid | None:
    """Runs, hours and memory by device, from the records, each run once; None where nothing has run."""
    tables = [name for name in paper.tables if records_path(paper.id, name, data).exists()]
    records = pd.concat([read_records(paper.id, name, data) for name in tables]) if tables else pd.DataFrame()
    if records.empty or records["run"].isna().all():
        return None
    runs = records[records["run"].fillna("") != ""].drop_duplicates("run")
    rows = [
        [Entry(str(device)), Entry(str(len(of))), Entry(f"{of['seconds'].sum() / 3600:.1f}"),
         Entry(f"{of['peak_memory_mb'].max() / 1000:.1f}")]
        for device, of in runs.groupby("device")
    ]  # fmt: skip
    columns = [("device",), ("runs",), ("hours",), ("peak memory (GB)",)]
    return Grid("cost", "Training and scoring, each run once", columns, rows, (0.5, None, None, None))


def claims(paper: Paper, judged: pd.DataFrame) -> Grid:
    """The claims that our runs could judge, and all central ones, with their verdicts."""
    rows = []
    for line in judged[judged["central"] | judged["estimate"].notna()].itertuples():
        has = not pd.isna(line.estimate)
        interval = f" ({line.low:+.2f} to {line.high:+.2f})" if has and not pd.isna(line.low) else ""
        says = f"{line.says} ({line.where}){' *' * line.central}"
        ours = f"{line.estimate:+.2f}{interval}" if has else ""
        verdict = f"{line.verdict}, p {line.p_holm:.2g}" if has and not pd.isna(line.p_holm) else line.verdict
        rows.append(list(map(Entry, (says, f"{line.printed:+.2f}", ours, str(line.seeds or ""), verdict))))
    columns = [("claim",), ("printed",), ("ours (95 % interval)",), ("seeds",), ("verdict, p after Holm",)]
    judged_by = "judged by differences between our own runs on equal inputs, in percentage points"
    caption = f"Claims of {paper.id}, {judged_by}; central ones have a star"
    return Grid("claims", caption, columns, rows, (0.4, None, 0.2, None, 0.18))


def results(paper: Paper, table: Table, board: pd.DataFrame) -> Iterator[Grid]:
    """A table of the paper, printed beside ours: one grid, or several where it has many columns."""
    lines = {(line.row, line.column): line for line in board.itertuples()}
    shown = [name for name in table.columns if any((row.id, name) in lines for row in table.row)]
    parts = [shown[at : at + MOST] for at in range(0, len(shown), MOST)]
    for at, names in enumerate(parts, start=1):
        cells = {row.id: _cells(paper, table, row, names, lines) for row in table.row}
        rows = [
            [Entry(row.label, quoted(paper, row)), *cells[row.id], Entry(_runs(row, names, lines))]
            for row in table.row if any(cell.text for cell in cells[row.id])
        ]  # fmt: skip
        labels = _distinct([table.columns[name].label or name.replace("_", " ") for name in names])
        head = [(label, kind) for label in labels for kind in ("printed", "ours")]
        part = f", part {at} of {len(parts)}" if len(parts) > 1 else ""
        caption, name = f"{table.where}: {table.caption}{part}", f"{table.id}-{at}" if part else table.id
        widths = (0.17 if len(names) == MOST else 0.3, *[None] * len(head), None)
        if rows:
            yield Grid(name, caption, [("row", ""), *head, ("runs", "")], rows, widths)


def _distinct(labels: list[str]) -> list[str]:
    """Labels that stand above several columns are numbered, so that these stay apart."""
    return [label if labels.count(label) == 1 else f"{label} ({at})" for at, label in enumerate(labels, start=1)]


def _cells(paper: Paper, table: Table, row: Row, names: list[str], lines: dict) -> list[Entry]:
    """The printed number and ours in each of the columns."""
    printed = {cell.column: cell.printed for cell in row_cells(paper, table, row)}
    pairs = [(printed.get(name) or "", _ours(row, table.columns[name], lines.get((row.id, name)))) for name in names]
    return [Entry(text) for pair in pairs for text in pair]


def _ours(row: Row, column: Column, line: Any) -> str:
    if line is None or column.metric == "setting":
        return ""  # settings are part of the recipe
    if pd.isna(line.reproduced):
        return "" if pd.isna(line.printed) else "not run" if row.runs else "quoted"
    if column.metric == "count":
        return f"{line.reproduced:.0f}"
    digits = 4 if column.unit == "fraction" else 2
    spread = "" if pd.isna(line.spread) else f" / {line.spread:.{digits}f}"
    return f"{line.reproduced:.{digits}f}{spread}{LETTERS.get(line.verdict, '')}"


def _runs(row: Row, names: list[str], lines: dict) -> str:
    ran = [line for name in names if (line := lines.get((row.id, name))) and not pd.isna(line.reproduced)]
    counts = sorted({(int(line.n_seeds), int(line.n_folds)) for line in ran})
    return ", ".join(str(seeds) if folds == 1 else f"{seeds} x {folds}" for seeds, folds in counts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{corpus}: {_value(each)}" for corpus, each in value.items())
    return f"{value:f}".rstrip("0").rstrip(".") if hasattr(value, "as_tuple") else str(value)
