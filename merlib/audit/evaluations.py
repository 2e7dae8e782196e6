"""Which printed scores belong to one evaluation of one test set, and how many utterances of each class it has."""

import json
from dataclasses import dataclass

from merlib import declarations
from merlib.audit.printed import ANY, Interval, is_score, percent
from merlib.data.official import CLASSES, LABELS
from merlib.declarations.schema import LETTERS, Cell, Paper

SYNONYMS = {"balanced_accuracy": "macro_recall", "weighted_recall": "accuracy"}
CLASS_METRICS = ("f1", "precision", "recall")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one system on one test set, with the true utterances of each class (supports) where known.

    stated: the paper prints the supports beside the scores; otherwise they are those of the customary test set.
    quoted: the scores are another paper's, whose test set is not stated here at all.
    """

    cells: tuple[Cell, ...]
    supports: dict[str, int] | None
    stated: bool = False
    quoted: bool = False

    @property
    def n(self) -> int | None:
        """Utterances of the test set."""
        return sum(self.supports.values()) if self.supports else None

    def find(self, metric: str, emotion: str | None = None) -> Cell | None:
        """The cell of a metric, under any of its names; of a class where `emotion` is given."""
        names = {metric} | {a for pair in SYNONYMS.items() if metric in pair for a in pair}
        return next((c for c in self.cells if c.metric in names and c.emotion == emotion), None)

    def classes(self, metric: str) -> list[Interval | None]:
        """The printed scores of all classes, in the order of `supports`."""
        cells = [self.find(metric, emotion) for emotion in self.supports or ()]
        return [percent(c) if c else None for c in cells]

    def filled(self, metric: str) -> list[Interval]:
        """The scores of all classes; where none is printed, any from 0 to 100."""
        return [score or ANY for score in self.classes(metric)]


def system_of(paper: Paper, cell: Cell) -> str:
    """What was evaluated, as text: the recipe by our reading, so that cells of equal recipes agree; else the row."""
    recipe = declarations.recipe_of(paper, cell) if cell.kind == "own" else None
    return f"{cell.table}/{cell.row}" if recipe is None else json.dumps(recipe, sort_keys=True)


def modalities_of(paper: Paper, cell: Cell) -> str | None:
    """The modalities that a column restricts the system to; None where it has all of the recipe's."""
    letters = {letter for letter, name in LETTERS.items() if name in paper.recipe["data"]}
    return None if cell.modalities is None or set(cell.modalities) >= letters else "".join(sorted(cell.modalities))


def key_of(paper: Paper, cell: Cell) -> tuple:
    """Equal for the cells of one evaluation: system, corpus, fold and modalities."""
    return system_of(paper, cell), cell.corpus, cell.fold, modalities_of(paper, cell)


def evaluations(paper: Paper) -> list[Evaluation]:
    """The evaluations of a paper: the scores of one system in one table.

    Where a table prints scores of the classes, averages that it lacks are taken from the paper's other tables.
    """
    grouped: dict[tuple, dict[str, list[Cell]]] = {}
    for cell in declarations.cells(paper):
        in_table = cell.table in paper.tables and cell.kind != "fact" and cell.corpus
        if in_table and (is_score(cell) or cell.metric == "count"):
            grouped.setdefault(key_of(paper, cell), {}).setdefault(cell.table, []).append(cell)
    evaluated = []
    for (_, corpus, fold, _), by_table in grouped.items():
        tables = _joined(list(by_table.values()))
        for cells in tables:
            if any(c.metric in CLASS_METRICS for c in cells):
                cells = _with_averages(cells, tables)
            supports, stated = supports_of(corpus, fold, cells)
            evaluated.append(Evaluation(tuple(cells), supports, stated, quoted=cells[0].kind == "cited"))
    return evaluated


def _joined(tables: list[list[Cell]]) -> list[list[Cell]]:
    """Tables that print different scores of one system's classes (F1 in one, recall in another) become one."""
    joined: list[list[Cell]] = []
    for cells in tables:
        of_classes = {(c.metric, c.emotion) for c in cells if c.emotion}
        fitting = [other for other in joined if of_classes and any(c.emotion for c in other)]
        fitting = [other for other in fitting if not of_classes & {(c.metric, c.emotion) for c in other}]
        if fitting:
            fitting[0].extend(cells)
        else:
            joined.append(list(cells))
    return joined


def _with_averages(cells: list[Cell], tables: list[list[Cell]]) -> list[Cell]:
    """The cells of one table, and the averages that only the other tables print."""
    averages = {c.metric for c in cells if not c.emotion}
    extra: dict[str, Cell] = {}
    for cell in (c for other in tables for c in other if not c.emotion and c.metric not in averages):
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


def size_of(paper: Paper, cell: Cell, evaluated: list[Evaluation]) -> int | None:
    """How many utterances a score is computed on: those of the class, the test set or, with folds, the whole corpus."""
    evaluation = next((e for e in evaluated if cell in e.cells), None)
    supports = evaluation.supports if evaluation else supports_of(cell.corpus, cell.fold)[0]
    if supports:
        return supports.get(cell.emotion) if cell.emotion else sum(supports.values())
    if cell.emotion or cell.fold is not None:
        return None
    return _test_size(paper, cell.corpus) or _size_of_folds(paper, cell)


def _test_size(paper: Paper, corpus: str | None) -> int | None:
    """The size of the test split where a table of counts prints it."""
    cells = (c for c in declarations.cells(paper) if c.metric == "count" and c.column == "test" and c.corpus == corpus)
    return next((int(percent(c).low) for c in cells), None)


def _size_of_folds(paper: Paper, cell: Cell) -> int | None:
    """The utterances of the corpus, where every one of them is tested in some fold."""
    facts = paper.facts.get(cell.corpus, {})
    folds = "folds" in facts or "folds" in paper.recipe["protocol"]
    return int(facts["utterances"][0]) if folds and "utterances" in facts else None
