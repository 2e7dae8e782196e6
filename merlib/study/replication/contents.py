"""What stands in a replication report: facts from declarations, notes and records, and gaps for a person to fill."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from merlib import declarations, figures
from merlib.declarations import Paper
from merlib.declarations.printed import PRINTED
from merlib.declarations.works import of_features
from merlib.places import TWINS, commit
from merlib.study import claims, report
from merlib.study.replication import grids
from merlib.study.replication.blocks import Block, Gap, Heading, Picture, Prose, Title

MODULES, DEVIATIONS, PREPROCESSING = "From equations to modules", "Deviations", "Preprocessing"  # sections of notes.md
PANELS = 2  # of a figure: more are too small on a page
MARKS = (
    "*printed* is the paper's number, *ours* the mean over seeds and folds at the epoch that validation selects, with "
    "the standard deviation over them after a slash; *runs* is seeds x folds. A letter says what ours tell of the "
    "printed number where the inputs of both are the same: e equivalent, l lower, h higher, u undecided. *quoted*: the "
    "paper has the number from elsewhere, and it was not run."
)


def document(paper: Paper, data: str) -> list[Block]:
    """The blocks of the report of a paper on a data root."""
    boards, judged = report.boards_of(data, paper=paper.id), claims.judge_claims(paper.id, data)
    notes = dict(_sections(paper))
    return [
        Title(f"[Re] {paper.title}"), *_summary(data), *_scope(paper, judged),
        Heading(1, "Methodology"), *_model(paper, notes), *_datasets(paper, boards, notes), *_settings(paper),
        *_setup(paper, data), *_results(paper, data, boards, judged), *_discussion(paper, notes),
    ]  # fmt: skip


def _sections(paper: Paper) -> Iterator[tuple[str, str]]:
    """Heading -> text of the second level of notes.md; nothing where a paper has no notes."""
    path = declarations.folders()[paper.id] / "notes.md"
    for part in re.split(r"^## ", path.read_text(encoding="utf-8") if path.exists() else "", flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        yield heading.strip(), text.strip()


def _summary(data: str) -> Iterator[Block]:
    yield Heading(1, "Reproducibility summary")
    if data in TWINS:
        yield Prose(report.TWIN_CAVEAT)
    yield Gap(
        "scope, methodology, results, what was easy, what was difficult, and contact with the authors, on a page."
    )
    yield Heading(1, "Introduction")
    yield Gap("what problem the paper addresses, and why its claims were worth the effort.")


def _scope(paper: Paper, judged: pd.DataFrame) -> Iterator[Block]:
    yield Heading(1, "Scope of reproducibility")
    yield Prose(f"This report is about [@{paper.id}]. These of its claims, in our words, are central:")
    central = judged[judged["central"]]
    lines = [f"- {_plain(c.says)} ({c.where}); {c.printed:+.2f} points are printed" for c in central.itertuples()]
    yield Prose("\n".join(lines)) if lines else Gap("the claims that the paper's conclusions rest on.")


def _model(paper: Paper, notes: Mapping[str, str]) -> Iterator[Block]:
    yield Heading(2, "Model description")
    yield Gap("the idea of the network in a paragraph of your own, and a drawing.")
    yield Prose(f"Released code: {_plain(paper.code or 'unknown')}.")
    if MODULES in notes:
        yield Prose(f"What of the paper is which file:\n\n{notes[MODULES]}")
    if DEVIATIONS in notes:
        yield Heading(3, "Where our code deviates from the paper")
        yield Prose(notes[DEVIATIONS])


def _datasets(paper: Paper, boards: list[report.Board], notes: Mapping[str, str]) -> Iterator[Block]:
    yield Heading(2, "Datasets and features")
    yield grids.corpora(paper)
    stated = {name: leaf for name, leaf in paper.printed_on if leaf}
    printed = [f"- {name}: {_plain(source)}" for name, (_, source) in stated.items()]
    yield (
        Prose("What the printed scores were measured with:\n\n" + "\n".join(printed))
        if printed
        else Gap("what the printed scores were measured with.")
    )
    read = sorted({features for _, _, board in boards for features in board["features"].dropna()} - {""})
    named = " ".join(f"[@{key}]" for key in of_features([*read, *(source for _, source in stated.values())]))
    if read:
        yield Prose("What our runs read:\n\n" + "\n".join(f"- {_plain(each)}" for each in read))
    if paper.substitute:
        lines = [f"- {name}: instead of {_plain(each.instead_of)}." for name, each in paper.substitute.items()]
        yield Prose(
            "What stands in for the printed protocol, where features or a machine lack it:\n\n" + "\n".join(lines)
        )
    if named:
        yield Prose(f"Encoders and toolkits among these: {named}.")
    for heading, text in notes.items():
        if heading.startswith(PREPROCESSING):
            yield Heading(3, "Preprocessing, printed and ours")
            yield Prose(text)


def _settings(paper: Paper) -> Iterator[Block]:
    yield Heading(2, "Hyper-parameters")
    yield Prose(
        "A source names the place in the paper, or gives our reason where the paper states none. Points that the paper "
        "leaves open are switchable readings; the default of each is part of the recipe."
        + f" Other systems that we train have theirs in papers/{paper.id}/paper.toml."
        * bool(paper.base)
    )
    yield grids.recipe(paper)
    if paper.readings:
        yield grids.readings(paper)


def _setup(paper: Paper, data: str) -> Iterator[Block]:
    yield Heading(2, "Experimental setup and code")
    yield Prose(f"Code at commit {commit()}. All runs: `make reproduce DATA={data} PAPER={paper.id} SEEDS=0,1,2`.")
    yield Gap("where the code is archived.")
    yield Heading(2, "Computational requirements")
    cost = grids.cost(paper, data)
    yield cost or Prose("Nothing has run yet.")
    yield Gap("what the development of the code took beside these runs, in hours.")


def _results(paper: Paper, data: str, boards: list[report.Board], judged: pd.DataFrame) -> Iterator[Block]:
    yield Heading(1, "Results")
    yield Gap("which claims hold, in a paragraph.")
    yield Heading(2, "Results that reproduce the paper")
    if len(judged):
        yield grids.claims(paper, judged)
    yield Prose(MARKS)
    printed, others = [], []
    for board in boards:
        (printed if any(row.reported for row in board[1].row) else others).append(board)
    yield from _tables(printed)
    yield from _pictures(paper, data, boards)
    if added := [board for board in others if board[2]["reproduced"].notna().any()]:
        yield Heading(2, "Results beyond the paper")
        yield from _tables(added)


def _tables(boards: Iterable[report.Board]) -> Iterator[Block]:
    for paper, table, board in boards:
        yield from grids.results(paper, table, board)
        ran = board[board["reproduced"].notna()]
        told = [f"inputs of {len(of)} numbers, against those of the printed ones: {name}"
                for name, of in ran.groupby("inputs") if name not in ("", "quoted")]  # fmt: skip
        for doubt, meaning in report.DOUBTS.items():
            if labels := dict.fromkeys(ran.loc[[doubt in str(doubts).split() for doubts in ran["doubt"]], "label"]):
                told.append(f"{meaning}: {'; '.join(labels)}")
        if told:
            yield Prose("\n".join(f"- {table.id}: {_plain(line)}." for line in told))


def _pictures(paper: Paper, data: str, boards: list[report.Board]) -> Iterator[Block]:
    board = report.scoreboard(data, boards)
    for (table, column), lines in board.groupby(["table", "column"], sort=False):
        if lines["printed"].notna().any():
            caption = f"{lines['heading'].iloc[0]}: reproduced, printed, and what selection on the test set would give"
            yield Picture(f"{table}-{column}", caption, figures.scoreboard(lines, data=data))
    for _, table, board in boards:
        base = next((row.id for row in table.row if row.runs and not row.change and not row.base), None)
        changed = [row.id for row in table.row if row.runs and row.change and not row.base and row.reported]
        ran = board[board["reproduced"].notna() & board["row"].isin([base, *changed])]
        columns = list(ran.loc[ran["row"] == base, "column"])
        for at in range(0, len(columns), PANELS):
            lines = ran[ran["column"].isin(columns[at : at + PANELS])]
            if lines["row"].nunique() > 2:
                caption = f"{table.where}: what each change costs, against the row {table.find(base).label}"
                yield Picture(f"{table.id}-{at // PANELS + 1}", caption, figures.drops(lines, data=data, base=base))


def _discussion(paper: Paper, notes: Mapping[str, str]) -> Iterator[Block]:
    yield Heading(1, "Discussion")
    yield Gap("what the results say of the paper's claims, and what weakens this reproduction.")
    yield Heading(2, "What was easy")
    sources = [source for _, source in grids.settings(paper).values()]
    printed = sum(bool(PRINTED.match(source)) for source in sources)
    yield Prose(f"Of the {len(sources)} settings of the base recipe, {printed} have a place in the paper.")
    yield Gap("what else was easy.")
    yield Heading(2, "What was difficult")
    yield Prose(f"{len(paper.readings)} points could be read in two ways or more.")
    for heading, text in notes.items():
        if heading not in (MODULES, DEVIATIONS) and not heading.startswith(PREPROCESSING):
            yield Heading(3, heading)
            yield Prose(text)
    yield Gap("what else was difficult.")
    yield Heading(2, "Communication with the authors")
    yield Gap("what was asked, and what was answered.")


def _plain(words: Any) -> str:
    """Text that Markdown takes as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", str(words))
