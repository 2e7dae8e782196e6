"""Which printed scores belong to one evaluation of one test set, and what is known of that test set."""

import json
from dataclasses import dataclass

from merlib import declarations
from merlib.audit.printed import ANY, Interval, is_score, percent
from merlib.data.official import CLASSES, LABELS
from merlib.declarations.schema import LETTERS, Cell, Paper

SAME = {"balanced_accuracy": "macro_recall", "weighted_recall": "accuracy"}  # names of one quantity
CLASS_METRICS = ("f1", "precision", "recall")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one system on one test set, with the true utterances of each class where they are known.

    stated: the paper prints these counts beside the scores; otherwise they are the corpus's customary test set.
    quoted: the scores are another paper's, so that its test set is not stated here at all.
    """

    cells: tuple[Cell, ...]
    supports: dict[str, int] | None
    stated: bool = False
    quoted: bool = False

    @property
    def n(self) -> int | None:
        return sum(self.supports.values()) if self.supports else None

    def find(self, metric: str, emotion: str | None = None) -> Cell | None:
        names = {metric} | {a for pair in SAME.items() if metric in pair for a in pair}
        return next((c for c in self.cells if c.metric in names and c.emotion == emotion), None)

    def classes(self, metric: str) -> list[Interval | None]:
        """The printed scores of all classes, in the order of `supports`."""
        found = [self.find(metric, emotion) for emotion in self.supports or ()]
        return [percent(c) if c else None for c in found]

    def filled(self, metric: str) -> list[Interval]:
        return [score or ANY for score in self.classes(metric)]


def system_of(paper: Paper, cell: Cell) -> str:
    """What was evaluated, as a text: equal for two cells of our reading's same recipe; quoted rows stand alone."""
    recipe = declarations.recipe_of(paper, cell) if cell.kind == "own" else None
    return f"{cell.table}/{cell.row}" if recipe is None else json.dumps(recipe, sort_keys=True)


def modalities_of(paper: Paper, cell: Cell) -> str | None:
    """The modalities that a column restricts the system to; None where that is all of them."""
    have = {letter for letter, name in LETTERS.items() if name in paper.recipe["data"]}
    return None if cell.modalities is None or set(cell.modalities) >= have else "".join(sorted(cell.modalities))


def key_of(paper: Paper, cell: Cell) -> tuple:
    return system_of(paper, cell), cell.corpus, cell.fold, modalities_of(paper, cell)


def evaluations(paper: Paper) -> list[Evaluation]:
    """Scores of one system in one table; one that prints classes only has its averages from the paper's others."""
    grouped: dict[tuple, dict[str, list[Cell]]] = {}
    for cell in declarations.cells(paper):
        if (
            cell.table in paper.tables
            and cell.kind != "fact"
            and cell.corpus
            and (is_score(cell) or cell.metric == "count")
        ):
            grouped.setdefault(key_of(paper, cell), {}).setdefault(cell.table, []).append(cell)
    found = []
    for (_, corpus, fold, _), by_table in grouped.items():
        tables = _joined(list(by_table.values()))
        for cells in tables:
            if any(c.metric in CLASS_METRICS for c in cells):
                cells = _with_averages(cells, tables)
            supports, stated = supports_of(corpus, fold, cells)
            found.append(Evaluation(tuple(cells), supports, stated, quoted=cells[0].kind == "cited"))
    return found


def _joined(tables: list[list[Cell]]) -> list[list[Cell]]:
    """Tables that print different scores of the classes of one system (F1 here, recall there) are one."""
    joined: list[list[Cell]] = []
    for cells in tables:
        mine = {(c.metric, c.emotion) for c in cells if c.emotion}
        fits = [other for other in joined if mine and any(c.emotion for c in other)]
        fits = [other for other in fits if not mine & {(c.metric, c.emotion) for c in other}]
        if fits:
            fits[0].extend(cells)
        else:
            joined.append(list(cells))
    return joined


def _with_averages(cells: list[Cell], tables: list[list[Cell]]) -> list[Cell]:
    mine = {c.metric for c in cells if not c.emotion}
    extra: dict[str, Cell] = {}
    for cell in (c for other in tables for c in other if not c.emotion and c.metric not in mine):
        extra.setdefault(cell.metric, cell)
    return cells + list(extra.values())


def supports_of(corpus: str, fold: int | str | None, cells: list[Cell] = ()) -> tuple[dict[str, int] | None, bool]:
    """The test set's utterances by class (None: unknown), and whether the paper prints them beside the scores."""
    printed = {c.emotion: int(percent(c).low) for c in cells if c.metric == "count" and c.emotion}
    if printed:
        return printed, True
    if fold is None and "test" in CLASSES.get(corpus, {}):
        return dict(zip(LABELS[corpus], CLASSES[corpus]["test"], strict=True)), False
    return None, False


def size_of(paper: Paper, cell: Cell, found: list[Evaluation]) -> int | None:
    """How many utterances a score is of: the class's own, the test set's, or, with folds, the whole corpus's."""
    mine = next((e for e in found if cell in e.cells), None)
    supports = mine.supports if mine else supports_of(cell.corpus, cell.fold)[0]
    if supports:
        return supports.get(cell.emotion) if cell.emotion else sum(supports.values())
    if cell.emotion or cell.fold is not None:
        return None
    return split_size(paper, cell.corpus, "test") or _in_folds(paper, cell)


def split_size(paper: Paper, corpus: str | None, split: str) -> int | None:
    """A split's size where a table of counts prints it."""
    cells = (c for c in declarations.cells(paper) if c.metric == "count" and c.column == split and c.corpus == corpus)
    return next((int(percent(c).low) for c in cells), None)


def _in_folds(paper: Paper, cell: Cell) -> int | None:
    facts = paper.facts.get(cell.corpus, {})
    folds = "folds" in facts or "folds" in paper.recipe["protocol"]
    return int(facts["utterances"][0]) if folds and "utterances" in facts else None
