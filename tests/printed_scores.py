"""Tables for the tests of the audit: the scores of one confusion matrix, as a paper would print them."""

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

import numpy as np

from merlib.audit.evaluations import Evaluation
from merlib.declarations.schema import Cell, Claim, Column, Paper, Row, Table

ROUNDINGS = (ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_DOWN)


def cell(metric: str, printed: str, emotion: str | None = None, unit: str = "percent") -> Cell:
    return Cell(
        paper="p", table="table1", row="ours", column=f"{metric}_{emotion or ''}", printed=printed, kind="own",
        corpus="c", metric=metric, emotion=emotion, unit=unit,
    )  # fmt: skip


def true_scores(matrix: np.ndarray) -> dict[tuple[str, str | None], float]:
    """Fractions, each by its definition; without a prediction precision and F1 are 0, as in scikit-learn."""
    hits, n, m = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    of = {"recall": hits / n, "precision": hits / np.maximum(m, 1), "f1": 2 * hits / (n + m)}
    scores = {(metric, f"e{i}"): float(v) for metric, values in of.items() for i, v in enumerate(values)}
    for metric, values in of.items():
        scores[f"macro_{metric}", None] = float(values.mean())
        scores[f"weighted_{metric}", None] = float((values * n).sum() / n.sum())
    scores["accuracy", None] = float(hits.sum() / n.sum())
    scores["balanced_accuracy", None] = scores.pop(("macro_recall", None))
    del scores["weighted_recall", None]
    return scores


def random_matrix(rng: np.random.Generator, n: np.ndarray) -> np.ndarray:
    """A random confusion matrix of a system between guessing and knowing, with n true utterances of each class."""
    c = len(n)
    skill = rng.dirichlet(np.full(c, rng.choice([0.1, 1.0])), c) + np.eye(c) * rng.choice([0.0, 1.0, 5.0])
    return np.array([rng.multinomial(total, row / row.sum()) for total, row in zip(n, skill, strict=True)])


def honest(rng: np.random.Generator) -> Evaluation:
    """A random confusion matrix as a paper would print it: some scores, in percent or fractions, rounded or cut."""
    n = rng.integers(3, 400, int(rng.integers(2, 9)))
    matrix = random_matrix(rng, n)
    unit, digits = rng.choice([("percent", 2), ("percent", 1), ("fraction", 4)])
    rounding, share = ROUNDINGS[rng.integers(3)], rng.choice([0.5, 0.9, 1.0])
    cells = []
    for (metric, emotion), value in true_scores(matrix).items():
        exact = Decimal(value) * (100 if unit == "percent" else 1)
        if rng.random() < share:
            cells.append(
                cell(
                    metric, str(exact.quantize(Decimal(1).scaleb(-int(digits)), rounding=rounding)), emotion, str(unit)
                )
            )
    return Evaluation(tuple(cells), {f"e{i}": int(k) for i, k in enumerate(n)}, stated=True)


MATRIX = np.array([[40, 8, 2], [10, 60, 10], [1, 5, 24]])


def printed(changes: dict[tuple[str, str | None], str]) -> Evaluation:
    """An honest table of MATRIX with some of its cells replaced, and left out where the replacement is empty."""
    texts = {key: f"{100 * value:.2f}" for key, value in true_scores(MATRIX).items()} | changes
    cells = tuple(cell(metric, text, emotion) for (metric, emotion), text in texts.items() if text)
    return Evaluation(cells, {f"e{i}": int(n) for i, n in enumerate(MATRIX.sum(axis=1))}, stated=True)


def sweep_of(heights: list[float], name: str = "table2") -> Table:
    """A sweep whose scores are printed with two decimals."""
    columns = {"depth": Column(metric="setting"), "weighted_f1": Column(metric="weighted_f1")}
    reported = [{"depth": str(i + 1), "weighted_f1": f"{height:.2f}"} for i, height in enumerate(heights)]
    rows = [Row(id=f"depth_{i + 1}", label=f"depth {i + 1}", reported=cells) for i, cells in enumerate(reported)]
    return Table(id=name, caption="", where="Table 2", columns=columns, row=rows)


def paper_of(*tables: Table, supports: dict[str, int] | None = None, claims: tuple[Claim, ...] = ()) -> Paper:
    """A paper on one corpus that nobody counts."""
    declared = {table.id: table for table in tables}
    said = {"mine": supports} if supports else {}
    return Paper(id="p", title="P", corpora=["mine"], supports=said, tables=declared, claims=list(claims))
