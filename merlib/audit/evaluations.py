"""Which printed scores belong to one evaluation of one test set, and how many utterances of each class it has."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merlib import declarations
from merlib.audit.printed import ANY, Interval, is_score, percent
from merlib.data.official import CLASSES, LABELS
from merlib.declarations.schema import LETTERS, OF_CLASS, Cell, Paper

CUSTOMARY = "the corpus's customary test set"
SYNONYMS = {"balanced_accuracy": "macro_recall", "weighted_recall": "accuracy"}


@dataclass(frozen=True)
class Evaluation:
    """The scores of one system on one test set, with the true utterances of each class (supports) where known.

    stated: the paper prints the supports beside the scores, so that these are of one run; otherwise they are those of
    the test set, by `source`.
    quoted: the scores are another paper's, whose test set is not stated here at all.
    elsewhere: scores of the same system on other folds and splits of the corpus.
    """

    cells: tuple[Cell, ...]
    supports: dict[str, int] | None
    stated: bool = False
    quoted: bool = False
    elsewhere: tuple[Cell, ...] = ()
    source: str = CUSTOMARY

    @property
    def n(self) -> int | None:
        """Utterances of the test set."""
        return sum(self.supports.values()) if self.supports else None

    @property
    def severity(self) -> str:
        """Of a finding: a quoted score may be of other utterances."""
        return "note" if self.quoted else "error"

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


def key_of(paper: Paper, cell: Cell) -> tuple:
    """Equal for the cells of one evaluation: system, corpus, fold and modalities.

    The system is the recipe by our reading, so that cells of equal recipes agree, or else the row, or those rows of
    a table that are the classes of one reference. The modalities are None where a column does not restrict those of
    the recipe.
    """
    recipe = declarations.recipe_of(paper, cell) if cell.kind == "own" else None
    row = paper.row_of(cell)
    of_class = row is not None and bool(row.emotion or row.average)
    by_itself = f"{cell.table}/{(row.reference, row.base) if of_class else cell.row}"
    system = json.dumps(recipe, sort_keys=True) if recipe else by_itself
    letters = {letter for letter, name in LETTERS.items() if name in paper.recipe.get("data", LETTERS.values())}
    restricted = cell.modalities is not None and not set(cell.modalities) >= letters
    return system, cell.corpus, cell.fold, "".join(sorted(cell.modalities)) if restricted else None


def evaluations(paper: Paper) -> list[Evaluation]:
    """The evaluations of a paper: the scores of one system in one table.

    Where a table prints scores of the classes, averages that it lacks are taken from the paper's other tables.
    """
    grouped: dict[tuple, dict[str, list[Cell]]] = {}
    for cell in declarations.cells(paper):
        counted = is_score(cell) or cell.metric == "count"
        if counted and cell.table in paper.tables and cell.kind != "fact" and cell.corpus:
            grouped.setdefault(key_of(paper, cell), {}).setdefault(cell.table, []).append(cell)
    evaluated = []
    for (system, corpus, fold, letters), by_table in grouped.items():
        others = (by for (s, c, f, m), by in grouped.items() if (s, c, m) == (system, corpus, letters) and f != fold)
        elsewhere = tuple(c for by in others for cells in by.values() for c in cells)
        tables = _joined(list(by_table.values()))
        for cells in tables:
            if any(c.metric in OF_CLASS for c in cells):
                cells = _with_averages(cells, tables)
            supports, stated = supports_of(corpus, fold, cells, counted=paper.supports)
            quoted = cells[0].kind == "cited"
            source = "the test set as the paper counts it" if corpus in paper.supports else CUSTOMARY
            evaluated.append(Evaluation(tuple(cells), supports, stated, quoted, elsewhere, source))
    return evaluated


def _joined(tables: list[list[Cell]]) -> list[list[Cell]]:
    """Tables that print different scores of one system's classes (F1 in one, recall in another) become one."""
    joined: list[list[Cell]] = []
    for cells in tables:
        scores = {(c.metric, c.emotion) for c in cells if c.emotion}
        of_classes = [other for other in joined if scores and any(c.emotion for c in other)]
        fitting = (other for other in of_classes if not scores & {(c.metric, c.emotion) for c in other})
        if (first := next(fitting, None)) is not None:
            first.extend(cells)
        else:
            joined.append(list(cells))
    return joined


def _with_averages(cells: list[Cell], tables: list[list[Cell]]) -> list[Cell]:
    """The cells of one table, and the averages that only the other tables print."""
    averages: dict[str, Cell] = {}
    for cell in (c for table in [cells, *tables] for c in table if not c.emotion):
        averages.setdefault(cell.metric, cell)
    return cells + [cell for cell in averages.values() if cell not in cells]


def supports_of(
    corpus: str, fold: int | str | None, cells: Sequence[Cell] = (), *, counted: Mapping[str, dict]
) -> tuple[dict[str, int] | None, bool]:
    """The test set's utterances by class (None: unknown), and whether the paper prints them beside the scores.

    counted: what the paper counts of its test sets, by corpus, which goes before the customary test set.
    """
    printed = {c.emotion: int(percent(c).low) for c in cells if c.metric == "count" and c.emotion}
    if printed:
        return printed, True
    if fold is None and corpus in counted:
        return dict(counted[corpus]), False
    if fold is None and "test" in CLASSES.get(corpus, {}):
        return dict(zip(LABELS[corpus], CLASSES[corpus]["test"], strict=True)), False
    return None, False


def size_of(paper: Paper, cell: Cell, evaluated: list[Evaluation]) -> int | None:
    """How many utterances a score is computed on: those of the class, the test set or, with folds, the whole corpus."""
    evaluation = next((e for e in evaluated if cell in e.cells), None)
    supports = evaluation.supports if evaluation else supports_of(cell.corpus, cell.fold, counted=paper.supports)[0]
    if supports:
        return supports.get(cell.emotion) if cell.emotion else sum(supports.values())
    if cell.emotion or cell.fold is not None:
        return None
    counts = (c for c in declarations.cells(paper) if c.metric == "count" and c.corpus == cell.corpus)
    if size := next((int(percent(c).low) for c in counts if c.column == "test"), None):
        return size
    facts = paper.facts.get(cell.corpus, {})
    folds = "folds" in facts or "folds" in paper.recipe.get("protocol", {})
    return int(facts["utterances"][0]) if folds and "utterances" in facts else None
