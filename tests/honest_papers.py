"""Random papers in which every printed number is true: what the audit calls an error there is a false one.

Systems are confusion matrices on one test set. A paper prints some of their scores in one or several tables, with or
without the counts of the classes, beside scores on validation, mean absolute errors, the classes of one system as rows,
a sweep with the noise of training, and counts of the splits. Each table has one form of number and one rule of
rounding. The text says, in few digits and by a rule of its own, what is true of the scores, or of the printed digits.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from printed_scores import ROUNDINGS, random_matrix, sweep_of, true_scores

from merlib.data.official import CLASSES, LABELS
from merlib.declarations.schema import Claim, Column, Paper, Row, Table

SYSTEMS = ("ours", "second", "quoted", "other")  # the last two are cited
FORMS = (("percent", 2), ("percent", 1), ("fraction", 4), ("fraction", 3))  # unit and decimals of a table
Key = tuple[str, str | None]  # metric, emotion


@dataclass
class Draft:
    """A paper in the making: what was drawn, and the tables and claims so far."""

    rng: np.random.Generator
    corpus: str
    n: dict[str, int]  # test utterances of each class
    truth: dict[str, dict[Key, Decimal]]  # of each system
    tables: dict[str, Table] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def add(self, name: str, columns: dict[str, Column], rows: list[Row]) -> None:
        self.tables[name] = Table(id=name, caption="", where=name.title(), columns=columns, row=rows)

    def say(self, name: str, kind: str, of: list[str], **more: Any) -> None:
        self.claims[name] = Claim(id=name, where="Sec. 1", says="so", kind=kind, of=of, **more)


class Form:
    """How a table prints: its unit, its decimals and its rule of rounding."""

    def __init__(self, rng: np.random.Generator):
        self.unit, digits = FORMS[rng.integers(len(FORMS))]
        self.last, self.rounding = Decimal(1).scaleb(-digits), ROUNDINGS[rng.integers(len(ROUNDINGS))]
        self.factor = 100 if self.unit == "percent" else 1

    def digits(self, share: Decimal) -> str:
        return str((share * self.factor).quantize(self.last, rounding=self.rounding))


def honest_paper(rng: np.random.Generator) -> Paper:
    """A random paper on one corpus, an official one in half of the cases."""
    corpus = str(rng.choice(["mine", "mine", "meld", "iemocap6"]))
    if corpus == "mine":
        n = {f"e{i}": int(k) for i, k in enumerate(rng.integers(3, 400, int(rng.integers(2, 7))))}
    else:
        n = dict(zip(LABELS[corpus], CLASSES[corpus]["test"], strict=True))
    draft = Draft(rng, corpus, n, {name: _truth(rng, n) for name in SYSTEMS})
    beside = draft.chance(0.3)  # the paper prints the counts of the classes beside their scores
    keys = [key for key in draft.truth["ours"] if draft.chance(0.8)] or [("accuracy", None)]
    classes = [key for key in keys if key[1]]
    apart = draft.chance(0.4)  # the scores of the classes stand in a table of their own
    _main(draft, "table1", [key for key in keys if not (apart and key[1])], beside and not apart)
    if apart and classes:
        _main(draft, "table2", classes, beside)
    if draft.chance(0.4):
        _by_class(draft, "table3", beside)
    if draft.chance(0.5):
        _counts(draft, "table4")
    if draft.chance(0.5):
        heights = 60 + np.sin(np.linspace(0, 2, 7)) * rng.choice([0.1, 1, 5]) + rng.normal(0, 0.5, 7)
        draft.tables["table5"] = sweep_of(heights.tolist(), "table5")
    if draft.chance(0.5):
        _errors(draft, "table6")
    supports = {corpus: n} if corpus == "mine" and draft.chance(0.6) else {}
    claims = list(draft.claims.values())
    return Paper(id="p", title="P", corpora=[corpus], supports=supports, tables=draft.tables, claims=claims)


def _truth(rng: np.random.Generator, n: dict[str, int]) -> dict[Key, Decimal]:
    """The scores of a random system, as shares."""
    names = {f"e{i}": name for i, name in enumerate(n)} | {None: None}
    scores = true_scores(random_matrix(rng, np.array(list(n.values()))))
    return {(metric, names[emotion]): Decimal(value) for (metric, emotion), value in scores.items()}


def _rows(printed: dict[str, dict[str, str]]) -> list[Row]:
    return [Row(id=name, label=name, cited=name in SYSTEMS[2:], reported=of) for name, of in printed.items()]


def _main(draft: Draft, table: str, keys: list[Key], beside: bool) -> None:
    """All systems, one row each; at times with some scores on validation, and with the counts of the classes."""
    form, names = Form(draft.rng), {key: "_".join(filter(None, key)) for key in keys}
    columns = {names[m, e]: Column(metric=m, emotion=e, unit=form.unit) for m, e in keys}
    printed = {s: {names[key]: form.digits(draft.truth[s][key]) for key in keys} for s in SYSTEMS}
    if draft.chance(0.3):
        held_out = {emotion: int(draft.rng.integers(3, 100)) for emotion in draft.n}
        for system in SYSTEMS:
            truth = _truth(draft.rng, held_out)
            printed[system] |= {f"val_{names[key]}": form.digits(truth[key]) for key in keys}
        columns |= {f"val_{names[m, e]}": Column(metric=m, emotion=e, unit=form.unit, fold="val") for m, e in keys}
    if beside:
        columns |= {f"n_{emotion}": Column(metric="count", emotion=emotion) for emotion in draft.n}
        for system in SYSTEMS:
            printed[system] |= {f"n_{emotion}": str(n) for emotion, n in draft.n.items()}
    draft.add(table, columns, _rows(printed))
    for key in keys:
        scores = {s: draft.truth[s][key] * form.factor for s in SYSTEMS}
        if draft.chance(0.3):  # the text computes with the digits of the table
            scores = {s: Decimal(printed[s][names[key]]) for s in SYSTEMS}
        _said(draft, f"{table}_{names[key]}", f"{table}/{{}}.{names[key]}", scores, form)


def _said(draft: Draft, name: str, address: str, scores: dict[str, Decimal], form: Form) -> None:
    """Of one column: a number in few digits, the gain, the relative gain and the order of two systems, and the best."""
    a, b = scores["ours"], scores["second"]
    cells, last = [address.format(s) for s in ("ours", "second")], Decimal(1).scaleb(-int(draft.rng.integers(0, 3)))
    rounding, whole = ROUNDINGS[draft.rng.integers(3)], form.factor == 1 and (last == 1 or draft.chance(0.5))
    by = 100 if whole else 1  # a text may print percent of a table in fractions
    kinds = [("value", a * by, cells[:1]), ("difference", (a - b) * by, cells)]
    kinds += [("relative", 100 * (a - b) / b, cells)] if b > form.factor / Decimal(100) else []
    for kind, value, of in kinds:
        fine = abs(value) >= 1 or last < 1
        printed = str(value.quantize(last if fine else Decimal("0.01"), rounding=rounding))
        draft.say(f"{name}_{kind}", kind, of, printed=printed)
    ranked = sorted(scores, key=scores.get, reverse=True)
    if all(scores[high] > scores[low] for high, low in pairwise(ranked)):
        draft.say(f"{name}_order", "order", [address.format(s) for s in ranked])
        among = ("all", "cited", ranked[1:3])[draft.rng.integers(3)]
        draft.say(f"{name}_best", "best", [address.format(ranked[0])], among=among)


def _by_class(draft: Draft, table: str, beside: bool) -> None:
    """Our system again: classes and averages as rows, precision, recall and F1 as columns; equal to other tables."""
    form, truth = Form(draft.rng), draft.truth["ours"]
    columns = {m: Column(metric=m, unit=form.unit) for m in ("precision", "recall", "f1")}
    rows = []
    for emotion, n in draft.n.items():
        reported = {m: form.digits(truth[m, emotion]) for m in columns} | ({"n": str(n)} if beside else {})
        rows.append(Row(id=emotion, label=emotion, emotion=emotion, reported=reported))
    means = {"macro": "balanced_accuracy", "weighted": "accuracy"}
    for average, recall in means.items():
        of = {"precision": (f"{average}_precision", None), "f1": (f"{average}_f1", None), "recall": (recall, None)}
        reported = {m: form.digits(truth[key]) for m, key in of.items()}
        rows.append(Row(id=average, label=average, average=average, reported=reported))
    draft.add(table, columns | ({"n": Column(metric="count")} if beside else {}), rows)
    for emotion in draft.n:
        for other in ("table1", "table2"):
            column = f"f1_{emotion}"
            if other in draft.tables and column in draft.tables[other].columns:
                draft.say(f"same_{emotion}", "equal", [f"{table}/{emotion}.f1", f"{other}/ours.{column}"])


def _counts(draft: Draft, table: str) -> None:
    """Utterances of the splits and of the classes, with their totals; at times the text says the sum."""
    groups = CLASSES.get(draft.corpus) or {"train": tuple(draft.rng.integers(3, 9000, len(draft.n)).tolist())}
    of_classes = np.sum([n for name, n in groups.items() if name != "test"], axis=0) + np.array(list(draft.n.values()))
    total, test = int(of_classes.sum()), sum(draft.n.values())
    val = int(draft.rng.integers(1, total - test))
    splits = {"train": total - test - val, "val": val, "test": test, "total": total}
    columns = {name: Column(metric="count") for name in splits}
    columns |= {emotion: Column(metric="count", emotion=emotion) for emotion in draft.n}
    classes = dict(zip(draft.n, of_classes.tolist(), strict=True)) | {"total": total}
    form = "{:,}" if draft.chance(0.5) else "{}"
    rows = [
        Row(id=row, label=row, kind="fact", reported={name: form.format(n) for name, n in counted.items()})
        for row, counted in (("splits", splits), ("classes", classes))
    ]
    draft.add(table, columns, rows)
    if draft.chance(0.5):
        parts = [f"{table}/splits.{name}" for name in ("train", "val", "test")]
        draft.say("sum", "sum", parts, printed=form.format(total))


def _errors(draft: Draft, table: str) -> None:
    """Mean absolute errors, of which the lowest is the best."""
    form, true = Form(draft.rng), {s: Decimal(draft.rng.uniform(0.4, 1.6)) for s in SYSTEMS}
    printed = {s: {"mae": str(true[s].quantize(form.last, rounding=form.rounding))} for s in SYSTEMS}
    draft.add(table, {"mae": Column(metric="mae")}, _rows(printed))
    best, *others = sorted(true, key=true.get)
    draft.say("lowest", "best", [f"{table}/{best}.mae"], lowest=True)
    draft.say("rising", "order", [f"{table}/{s}.mae" for s in (best, *others)], lowest=True)
