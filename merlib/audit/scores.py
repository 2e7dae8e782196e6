"""Checks within one evaluation: do the scores of one confusion matrix fit each other, and integer counts?"""

from collections.abc import Callable, Iterator

import numpy as np

from merlib.audit import confusion
from merlib.audit.evaluations import Evaluation
from merlib.audit.printed import ANY, EPS, Finding, Interval, finding, percent, show
from merlib.declarations.schema import Cell

AVERAGES = {  # metric: the scores of the classes that it averages, and whether the supports weight them
    "macro_f1": ("f1", False), "weighted_f1": ("f1", True), "macro_precision": ("precision", False),
    "weighted_precision": ("precision", True), "balanced_accuracy": ("recall", False), "accuracy": ("recall", True),
}  # fmt: skip
FEWEST_CLASSES = 4  # whose recall is F1 are a note: of fewer it is no rare chance
NAMES = {"f1": "F1", "precision": "precision", "recall": "recall"}


def score_findings(evaluation: Evaluation, *, programs: bool = True) -> list[Finding]:
    """All findings within one evaluation; `programs=False` omits the linear programs, which take milliseconds each."""
    checks: list[Callable] = [f1_of_precision_and_recall, averages, counts, class_counts, recall_is_f1]
    if programs:
        checks += [feasible_accuracy, feasible_weighted_f1]
    return [f for check in checks for f in check(evaluation)]


def _premise(evaluation: Evaluation, cell: Cell | None = None) -> str:
    """The test set that a finding presumes, with its counts, so that a reader can check it.

    cell: the average that is found wrong; where another table prints the scores of the classes, one test set for both
    is a premise too.
    """
    counts = ", ".join(f"{name} {n}" for name, n in evaluation.supports.items())
    of_classes = sorted({c.table for c in evaluation.cells if c.emotion})
    tables = " and ".join(of_classes)
    source = "the printed supports" if evaluation.stated else evaluation.source
    premise = f"scores of the classes in {tables}; {source}: {counts}; {evaluation.n} in all"
    if evaluation.quoted:
        premise += "; the scores are quoted, and the quoted paper may have tested on other utterances"
    if cell and cell.table not in of_classes:
        premise += f"; the premise is that {tables} and {cell.table}.{cell.column} are of one test set"
    return f"({premise})"


def f1_of_precision_and_recall(evaluation: Evaluation) -> Iterator[Finding]:
    """F1 = 2 P R / (P + R), which rises with precision P and with recall R."""
    for cell in (c for c in evaluation.cells if c.metric == "f1"):
        p, r = (evaluation.find(metric, cell.emotion) for metric in ("precision", "recall"))
        if p is None or r is None:
            continue
        ends = zip(percent(p), percent(r), strict=True)
        possible = Interval(*(2 * a * b / (a + b) if a + b else 0.0 for a, b in ends))
        if not percent(cell).meets(possible):
            source = f"from {show(p)} and {show(r)} it is {_in_unit(possible, cell)}"
            message = f"F1 is 2 P R / (P + R) in one run: {source}; {cell.printed} is printed."
            yield finding(cell, "f1_of_precision_and_recall", evaluation.severity, message, possible=possible)


def averages(evaluation: Evaluation) -> Iterator[Finding]:
    """Averages, accuracy (recall weighted by supports) and UA (mean recall) follow from the scores of the classes."""
    if not evaluation.supports:
        return
    r = np.array(list(evaluation.supports.values()))
    for metric, (of, weighted) in AVERAGES.items():
        cell, printed = evaluation.find(metric), evaluation.classes(of)
        if cell is None or not any(printed):
            continue
        weights = r / r.sum() if weighted else np.full(len(r), 1 / len(r))
        ends = np.array(evaluation.filled(of)).T @ weights
        possible = Interval(*map(float, ends))
        of_averages = _macro_f1_of_averages(evaluation) if metric == "macro_f1" else None
        if percent(cell).meets(possible):
            continue
        if of_averages and percent(cell).meets(of_averages):
            message = f"{show(cell)} is 2 P R / (P + R) of the mean precision and the mean recall, not the mean of "
            message += f"the classes' F1, which is {_in_unit(possible, cell)}."
            yield finding(cell, "average", "note", message, possible=of_averages)
            continue
        mean = f"{_sum(evaluation, of, weighted)}, {_in_unit(possible, cell)}"
        message = f"The {'weighted ' if weighted else ''}mean of the classes' {NAMES[of]} is {mean}; {show(cell)} is "
        message += f"printed {_premise(evaluation, cell)}.{_nearer(evaluation, cell, possible)}"
        fact = f"average of what {cell.table} quotes" if evaluation.quoted else ""
        yield finding(cell, "average", evaluation.severity, message, possible=possible, fact=fact)


def _nearer(evaluation: Evaluation, cell: Cell, possible: Interval) -> str:
    """Another split whose printed average is nearer to the scores of the classes than that of the test set."""
    others = [c for c in evaluation.elsewhere if (c.metric, c.emotion) == (cell.metric, cell.emotion)]
    distances = [(abs(percent(c).middle - possible.middle), i) for i, c in enumerate([cell, *others])]
    nearest = min(distances)[1]
    return f" {show(others[nearest - 1])} is nearer: of {others[nearest - 1].fold}, not of test." if nearest else ""


def _macro_f1_of_averages(evaluation: Evaluation) -> Interval | None:
    """Macro F1 under another definition: F1 of the mean precision and the mean recall."""
    ends = [np.array(evaluation.filled(m)).mean(axis=0) for m in ("precision", "recall") if all(evaluation.classes(m))]
    return Interval(*(2 * ends[0] * ends[1] / np.maximum(ends[0] + ends[1], EPS))) if len(ends) == 2 else None


def counts(evaluation: Evaluation) -> Iterator[Finding]:
    """An accuracy on n utterances is k / n for an integer k."""
    cell, n = evaluation.find("accuracy"), evaluation.n
    if cell is None or n is None or confusion.some_count(n, percent(cell)):
        return
    k = int(percent(cell).low * n / 100)
    near = " and ".join(f"{i} / {n} = {100 * i / n:.3f} %" for i in (k, k + 1))
    what = f"No integer number of correct predictions out of {n} gives {show(cell)}: {near}."
    message, severity = f"{what} {_could(evaluation)}", _severity_of_counts(evaluation)
    value = 100 * round(percent(cell).middle * n / 100) / n
    fact = f"counts of {cell.corpus} {cell.fold or ''} {n} {evaluation.quoted}"
    yield finding(cell, "count", severity, message, value=value, fact=fact)


def class_counts(evaluation: Evaluation) -> Iterator[Finding]:
    """Recall is k / n, precision k / m, F1 2 k / (n + m), for integers k (hits) and m (predictions)."""
    for emotion, n in (evaluation.supports or {}).items():
        cells = {m: c for m in ("recall", "precision", "f1") if (c := evaluation.find(m, emotion))}
        scores = {metric: percent(cell) for metric, cell in cells.items()}
        if not cells or not n or confusion.some_class_counts(n, evaluation.n - n, **scores):
            continue
        cell = next(iter(cells.values()))
        listed = ", ".join(f"{NAMES[metric]} {show(c)}" for metric, c in cells.items())
        message = f"With {n} {emotion} utterances, no integers k (hits) and m (predictions) give k / {n}, k / m, "
        message += f"2 k / ({n} + m) as printed: {listed}. {_could(evaluation)}"
        yield finding(cell, "class_count", _severity_of_counts(evaluation), message)


def _could(evaluation: Evaluation) -> str:
    """What else than one run on these utterances gives such scores."""
    other = ", and so could other test utterances: the scores are quoted" if evaluation.quoted else ""
    return f"A mean over several runs could{other}."


def _severity_of_counts(evaluation: Evaluation) -> str:
    return evaluation.severity if evaluation.stated else "note"


def recall_is_f1(evaluation: Evaluation) -> Iterator[Finding]:
    """Recall is F1 only where precision is both: with that in every class, all are predicted as often as they occur."""
    pairs = [(evaluation.find("recall", c.emotion), c) for c in evaluation.cells if c.metric == "f1" and c.emotion]
    pairs = [(recall, f1) for recall, f1 in pairs if recall and percent(f1).low > 0]
    if len(pairs) < FEWEST_CLASSES or not all(percent(recall).meets(percent(f1)) for recall, f1 in pairs):
        return
    listed = ", ".join(f"{recall.emotion} {recall.printed} and {f1.printed}" for recall, f1 in pairs)
    first = pairs[0][0]
    message = (
        f"Recall is F1 in all {len(pairs)} classes that {first.table}/{first.row} prints both of ({listed}): then "
        "precision is the same number, and every class is predicted as often as it occurs. Where one row is another "
        "score under the name of recall, it would look so too."
    )
    yield finding(first, "recall_is_f1", "note", message)


def feasible_accuracy(evaluation: Evaluation) -> Iterator[Finding]:
    """Some confusion matrix has these scores of the classes, and one of them has the printed accuracy."""
    if not evaluation.supports or sum(bool(s) for s in evaluation.classes("f1")) < 2:
        return
    scores = {name: evaluation.classes(name) for name in ("f1", "recall", "precision")}
    possible, at_low, at_high = confusion.accuracy_range(list(evaluation.supports.values()), **scores)
    cell = None if all(scores["recall"]) else evaluation.find("accuracy")  # from all recalls, `averages` computes it
    if possible is None:
        first = next(c for c in evaluation.cells if c.metric == "f1")
        what = f"all the printed scores of the classes of {first.table}/{first.row} {_premise(evaluation)}"
        yield finding(first, "feasible_matrix", evaluation.severity, f"No confusion matrix of one run has {what}.")
    elif cell is not None and not percent(cell).meets(possible):
        above = percent(cell).low > possible.high
        columns = (at_high if above else at_low).sum(axis=0)
        predicted = ", ".join(f"{name} {round(m)}" for name, m in zip(evaluation.supports, columns, strict=True))
        message = (
            "In one run accuracy is the mean of the classes' F1, weighted by true and predicted counts together. Over "
            f"all confusion matrices with the printed F1 it lies {_in_unit(possible, cell)}; {show(cell)} is printed. "
            f"The {'highest' if above else 'lowest'} needs the predicted counts {predicted} {_premise(evaluation)}."
        )
        value = possible.high if above else possible.low
        yield finding(cell, "feasible_accuracy", evaluation.severity, message, value=value, possible=possible)


def feasible_weighted_f1(evaluation: Evaluation) -> Iterator[Finding]:
    """Some confusion matrix with these recalls (and accuracy) has the printed weighted F1."""
    cell, recalls = evaluation.find("weighted_f1"), evaluation.classes("recall")
    if cell is None or sum(bool(s) for s in recalls) < len(recalls) - 1 or len(recalls) < 2:
        return
    accuracy = evaluation.find("accuracy")
    possible = confusion.weighted_f1_range(
        list(evaluation.supports.values()), recall=recalls, accuracy=percent(accuracy) if accuracy else None
    )
    if possible is None:
        message = f"In one run the printed recalls exclude the accuracy {show(accuracy)} {_premise(evaluation)}."
        yield finding(accuracy, "feasible_matrix", evaluation.severity, message)
    elif not percent(cell).meets(possible):
        message = (
            f"Over all confusion matrices of one run with the printed recalls{' and accuracy' if accuracy else ''} "
            f"weighted F1 lies {_in_unit(possible, cell)}; {show(cell)} is printed {_premise(evaluation)}."
        )
        yield finding(cell, "feasible_weighted_f1", evaluation.severity, message, possible=possible)


def _in_unit(possible: Interval, cell: Cell) -> str:
    """An interval in the unit of a cell, in words."""
    by, digits = (100, 5) if cell.unit == "fraction" else (1, 3)
    low, high = (f"{end / by:.{digits}f}" for end in possible)
    return low if low == high else f"between {low} and {high}"


def _sum(evaluation: Evaluation, of: str, weighted: bool) -> str:
    """The average written out as a sum."""
    cells = {emotion: evaluation.find(of, emotion) for emotion in evaluation.supports}
    scores = [c.printed if c else f"[{ANY.low:g} to {ANY.high:g}]" for c in cells.values()]
    if not weighted:
        return f"({' + '.join(scores)}) / {len(scores)}"
    terms = (f"{n} x {s}" for n, s in zip(evaluation.supports.values(), scores, strict=True))
    return f"({' + '.join(terms)}) / {evaluation.n}"
