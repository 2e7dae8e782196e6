"""The audit: silent on honest tables, finds what is planted, and its intervals are those of brute force."""

import csv
import json
import os
import re
import shutil
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from itertools import product

import numpy as np
import pytest

from merlib import cli, declarations
from merlib.audit import audit, confusion, pages, scores
from merlib.audit.evaluations import Evaluation
from merlib.audit.possible import wilson
from merlib.audit.printed import Interval, interval
from merlib.declarations.schema import Cell
from merlib.errors import DeclarationError

TABLES = int(os.environ.get("MERLIB_AUDIT_TABLES", "1000"))  # honest tables; the full check is on 10,000, a minute
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
    found = {(metric, f"e{i}"): float(v) for metric, values in of.items() for i, v in enumerate(values)}
    for metric, values in of.items():
        found[f"macro_{metric}", None] = float(values.mean())
        found[f"weighted_{metric}", None] = float((values * n).sum() / n.sum())
    found["accuracy", None] = float(hits.sum() / n.sum())
    found["balanced_accuracy", None] = found.pop(("macro_recall", None))
    del found["weighted_recall", None]
    return found


def honest(rng: np.random.Generator) -> Evaluation:
    """A random confusion matrix as a paper would print it: some scores, in percent or fractions, rounded or cut."""
    c = int(rng.integers(2, 9))
    n = rng.integers(3, 400, c)
    skill = rng.dirichlet(np.full(c, rng.choice([0.1, 1.0])), c) + np.eye(c) * rng.choice([0.0, 1.0, 5.0])
    matrix = np.array([rng.multinomial(total, row / row.sum()) for total, row in zip(n, skill, strict=True)])
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


@pytest.mark.parametrize("part", range(4))
def test_honest_tables_raise_no_error(part):
    rng = np.random.default_rng(part)
    for i in range(TABLES // 4):
        found = [f.message for f in scores.check(honest(rng)) if f.severity == "error"]
        assert not found, (part, i, found)


def test_many_honest_tables_pass_the_checks_without_a_linear_program():
    rng = np.random.default_rng(99)
    for i in range(2000):
        found = [f.message for f in scores.check(honest(rng), programs=False) if f.severity == "error"]
        assert not found, (i, found)


@pytest.mark.parametrize(
    ("text", "low", "high"), [("68.75", 68.745, 68.76), ("7", 6.5, 8), ("-1.2", -1.3, -1.15), ("0.00", -0.005, 0.01)]
)
def test_digits_stand_for_all_that_rounds_or_truncates_to_them(text, low, high):
    assert interval(text) == pytest.approx((low, high))
    assert interval(text, exact=True).low == interval(text, exact=True).high == float(text)


MATRIX = np.array([[40, 8, 2], [10, 60, 10], [1, 5, 24]])


def printed(changes: dict[tuple[str, str | None], str]) -> Evaluation:
    """An honest table of MATRIX with some of its cells replaced, and left out where the replacement is empty."""
    texts = {key: f"{100 * value:.2f}" for key, value in true_scores(MATRIX).items()} | changes
    cells = tuple(cell(metric, text, emotion) for (metric, emotion), text in texts.items() if text)
    return Evaluation(cells, {f"e{i}": int(n) for i, n in enumerate(MATRIX.sum(axis=1))}, stated=True)


NO_RECALL = {("recall", f"e{i}"): "" for i in range(3)} | {("balanced_accuracy", None): ""}
NO_PRECISION = {("precision", f"e{i}"): "" for i in range(3)}
NO_F1 = {("f1", f"e{i}"): "" for i in range(3)}


@pytest.mark.parametrize(
    ("changes", "check", "column"),
    [
        ({("f1", "e1"): "78.50"}, "f1_of_precision_and_recall", "f1_e1"),
        ({("weighted_f1", None): "78.50"}, "average", "weighted_f1_"),
        ({("macro_f1", None): "78.50"}, "average", "macro_f1_"),
        ({("weighted_precision", None): "70.50"}, "average", "weighted_precision_"),
        ({("accuracy", None): "78.50"}, "average", "accuracy_"),
        ({("balanced_accuracy", None): "78.50"}, "average", "balanced_accuracy_"),
        ({("accuracy", None): "77.60"}, "count", "accuracy_"),
        ({("recall", "e2"): "81.00", ("precision", "e2"): "", ("f1", "e2"): ""}, "class_count", "recall_e2"),
        ({("precision", "e2"): "66.90", ("f1", "e2"): ""}, "class_count", "recall_e2"),
        (NO_RECALL | NO_PRECISION | {("accuracy", None): "83.13"}, "feasible_accuracy", "accuracy_"),
        (NO_RECALL | NO_PRECISION | {("accuracy", None): "60.62"}, "feasible_accuracy", "accuracy_"),
        ({("f1", "e0"): "99.00", ("precision", "e0"): "", ("recall", "e0"): ""}, "feasible_matrix", "f1_e0"),
        (NO_F1 | NO_PRECISION | {("weighted_f1", None): "85.00"}, "feasible_weighted_f1", "weighted_f1_"),
        (NO_F1 | NO_PRECISION | {("accuracy", None): "90.00"}, "feasible_matrix", "accuracy_"),
    ],
)
def test_a_planted_inconsistency_within_an_evaluation_is_an_error(changes, check, column):
    assert not scores.check(printed({}))
    assert (check, "error", column) in [(f.check, f.severity, f.column) for f in scores.check(printed(changes))]


def test_a_quoted_score_is_noted_only():
    evaluation = printed({("weighted_f1", None): "78.50", ("accuracy", None): "77.60"})
    quoted = Evaluation(evaluation.cells, evaluation.supports, stated=True, quoted=True)
    assert {f.severity for f in scores.check(quoted)} == {"note"}


def test_macro_f1_of_averages_is_another_definition_not_an_error():
    p, r = (
        np.mean([v for (m, e), v in true_scores(MATRIX).items() if m == metric and e])
        for metric in ("precision", "recall")
    )
    found = scores.check(printed({("macro_f1", None): f"{200 * p * r / (p + r):.2f}"}))
    assert [(f.check, f.severity) for f in found] == [("average", "note")]


def matrices(supports: tuple[int, ...]):
    """All confusion matrices with these row sums."""
    c = len(supports)
    rows = [[row for row in product(range(n + 1), repeat=c) if sum(row) == n] for n in supports]
    return (np.array(m) for m in product(*rows))


@pytest.mark.parametrize("supports", [(40, 30), (7, 6, 5)])
def test_the_linear_program_is_as_tight_as_brute_force(supports):
    """Whole matrices lie inside; fractional ones reach two utterances further at most, and none at a whole optimum."""
    n, rng = sum(supports), np.random.default_rng(0)
    every = [(true_scores(m), m) for m in matrices(supports)]
    for pick in rng.integers(len(every), size=6):
        wide = [
            Interval(100 * every[pick][0]["f1", f"e{i}"] - 8, 100 * every[pick][0]["f1", f"e{i}"] + 8)
            for i in range(len(supports))
        ]
        inside = [
            100 * s["accuracy", None]
            for s, _ in every
            if all(w.low <= 100 * s["f1", f"e{i}"] <= w.high for i, w in enumerate(wide))
        ]
        possible, at_low, at_high = confusion.accuracy_range(supports, f1=wide)
        assert possible.low <= min(inside) + 1e-4 and max(inside) - 1e-4 <= possible.high
        assert max(min(inside) - possible.low, possible.high - max(inside)) < 200 / n
        for end, matrix in zip(possible, (at_low, at_high), strict=True):
            assert 100 * np.trace(matrix) / n == pytest.approx(end)
            assert matrix.sum(axis=1) == pytest.approx(supports)


def test_with_exact_f1_the_linear_program_meets_the_sum_written_by_hand():
    """accuracy = sum of F1_i (r_i + c_i) / 2 N for the c_i of its own matrix: the identity that the page uses."""
    f1 = [Interval(s, s) for s in (68.75, 87.02, 71.98, 71.56, 80.23, 73.84)]
    supports = np.array([144, 245, 384, 170, 299, 381])
    possible, _, matrix = confusion.accuracy_range(supports.tolist(), f1=f1)
    by_hand = sum(f.low * (r + c) for f, r, c in zip(f1, supports, matrix.sum(axis=0), strict=True)) / (
        2 * supports.sum()
    )
    assert by_hand == pytest.approx(possible.high, abs=1e-3) and possible.high < 80.59


@pytest.mark.parametrize("supports", [(12, 9), (5, 4, 6)])
def test_the_range_of_weighted_f1_is_that_of_brute_force(supports):
    rng, every = np.random.default_rng(1), [true_scores(m) for m in matrices(supports)]
    for pick in rng.integers(len(every), size=6):
        names = [("recall", f"e{i}") for i in range(len(supports))]
        same = [100 * s["weighted_f1", None] for s in every if all(s[k] == every[pick][k] for k in names)]
        recall = [Interval(100 * every[pick][k], 100 * every[pick][k]) for k in names]
        possible = confusion.weighted_f1_range(supports, recall=recall)
        assert possible.high == pytest.approx(max(same), abs=1e-6)  # a vertex is a whole matrix
        assert possible.low <= min(same) + 1e-6 and min(same) - possible.low < 200 / sum(supports)
        assert confusion.weighted_f1_range(supports, recall=recall, accuracy=Interval(101, 102)) is None


def test_whole_numbers_of_hits_and_predictions_are_those_of_brute_force():
    rng, n, others, seen = np.random.default_rng(2), 9, 14, set()
    for _ in range(300):
        digits = [f"{x:.1f}" for x in rng.uniform(5, 100, 3)]
        if rng.random() < 0.5:  # one that exists
            k, m = int(rng.integers(1, n + 1)), int(rng.integers(0, others + 1))
            digits = [f"{x:.1f}" for x in (100 * k / (k + m), 100 * k / n, 200 * k / (n + k + m))]
        wanted = dict(zip(("precision", "recall", "f1"), map(interval, digits), strict=True))
        keep = {name: wanted[name] for name in wanted if rng.random() < 0.7}
        exists = any(
            all(keep[name].low <= value <= keep[name].high for name, value in values.items() if name in keep)
            for k in range(1, n + 1)
            for m in range(k, k + others + 1)
            for values in [{"precision": 100 * k / m, "recall": 100 * k / n, "f1": 200 * k / (n + m)}]
        )
        assert confusion.some_class_counts(n, others, **keep) == (exists or not keep)
        seen.add(exists)
    assert seen == {True, False}


def test_wilson_is_the_textbook_interval():
    assert wilson(50, 100) == pytest.approx((40.383, 59.617), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0, 27.754), abs=1e-2)


PAPER = """
id = "one"
title = "One"
authors = "A"
code = "none"
corpora = ["iemocap6"]
[facts.iemocap6]
utterances = [7433, "Sec. 4.1"]
dialogues = [151, "Sec. 4.1"]
[recipe.model]
name = ["net", "Sec. 3"]
dim = [128, "Sec. 3"]
heads = [8, "Sec. 3"]
[recipe.loss]
name = ["cross_entropy", "eq. (1)"]
[recipe.train]
batch = [16, "Sec. 4.2"]
epochs = [200, "Sec. 4.2"]
[recipe.data]
unit = ["dialogue", "unstated: here"]
modalities = ["T", "unstated: here"]
text = ["text", "Sec. 3"]
[recipe.protocol]
split = ["corpus", "unstated: here"]
select = ["val", "unstated: here"]
select_metric = ["weighted_f1", "unstated: here"]
[readings]
[twin]
"""
COLUMNS = """
[columns.accuracy]
corpus = "iemocap6"
metric = "accuracy"
label = "Acc"
"""
MAIN = (
    'caption = "main"\nwhere = "Table 1"\n'
    + COLUMNS
    + """
[[row]]
id = "dialoguernn"
label = "DialogueRNN"
cited = true
reference = "[1]"
reported = { accuracy = "63.40" }
[[row]]
id = "ours"
label = "Ours"
reported = { accuracy = "69.32" }
bold = ["accuracy"]
"""
)
SWEEP = 'caption = "heads"\nwhere = "Table 2"\n' + COLUMNS + "".join(
    f'[[row]]\nid = "heads_{k}"\nlabel = "{k} heads"\nreported = {{ accuracy = "{score}" }}\n'
    f"change = {{ model.heads = {k} }}\n"
    for k, score in ((4, "68.21"), (8, "69.32"), (16, "67.34"))
)  # fmt: skip
COUNTS = """
caption = "counts"
where = "Table 3"
[columns.train]
metric = "count"
label = "train"
[columns.test]
metric = "count"
label = "test"
[columns.total]
metric = "count"
label = "total"
[columns.sad]
metric = "count"
emotion = "sad"
label = "Sad"
[[row]]
id = "splits"
label = "splits"
kind = "fact"
reported = { train = "5810", test = "1623", total = "7433" }
[[row]]
id = "classes"
label = "classes"
kind = "fact"
reported = { sad = "1084" }
"""
CLAIMS = """
[[claim]]
id = "gain"
where = "Abstract"
says = "the gain"
kind = "difference"
printed = "5.9"
of = ["table1/ours.accuracy", "table1/dialoguernn.accuracy"]
[[claim]]
id = "relative"
where = "Abstract"
says = "the relative gain"
kind = "relative"
printed = "9.3"
of = ["table1/ours.accuracy", "table1/dialoguernn.accuracy"]
[[claim]]
id = "same"
where = "Sec. 4"
says = "one number"
kind = "equal"
of = ["table1/ours.accuracy", "table2/heads_8.accuracy"]
[[claim]]
id = "score"
where = "Sec. 4"
says = "the score"
kind = "value"
printed = "69.3"
of = ["table1/ours.accuracy"]
[[claim]]
id = "total"
where = "Sec. 4"
says = "the total"
kind = "sum"
printed = "7433"
of = ["table3/splits.train", "table3/splits.test"]
[[claim]]
id = "best"
where = "Sec. 4"
says = "the best"
kind = "best"
of = ["table1/ours.accuracy"]
[[claim]]
id = "falls"
where = "Sec. 4"
says = "falls"
kind = "order"
of = ["table2/heads_8.accuracy", "table2/heads_16.accuracy"]
"""
FILES = {"paper.toml": PAPER, "tables/table1.toml": MAIN, "tables/table2.toml": SWEEP, "tables/table3.toml": COUNTS}


@pytest.fixture
def declared(tmp_path, monkeypatch):
    """A function that declares papers `one` and `two` (its main table), with one text of `one` replaced, and audits."""

    def declare(file: str = "", old: str = "", new: str = "") -> list:
        for name in ("one", "two"):
            for path, text in {**FILES, "claims.toml": CLAIMS}.items():
                target = tmp_path / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if (name, path) == ("one", file):
                    assert old in text
                    text = text.replace(old, new)
                if name == "one" or path in ("paper.toml", "tables/table1.toml"):
                    target.write_text(text.replace('id = "one"', f'id = "{name}"'))
        monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
        return audit()

    yield declare
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_an_honest_paper_has_no_findings(declared):
    assert declared() == []


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "severity", "where"),
    [
        ("claims.toml", '"5.9"', '"6.1"', "difference", "error", "claims/gain"),
        ("claims.toml", '"9.3"', '"5.9"', "relative", "error", "claims/relative"),
        ("claims.toml", '"69.3"', '"69.9"', "value", "error", "claims/score"),
        ("claims.toml", '"7433"', '"7430"', "sum", "error", "claims/total"),
        ("tables/table2.toml", '"69.32"', '"69.01"', "equal", "error", "claims/same"),
        ("tables/table2.toml", '"69.32"', '"69.01"', "same_configuration", "note", "table2/heads_8"),
        ("tables/table2.toml", '"67.34"', '"70.43"', "order", "error", "claims/falls"),
        ("tables/table2.toml", '"67.34"', '"69.33"', "order", "note", "claims/falls"),
        ("tables/table2.toml", '"67.34"', '"70.43"', "sweep", "note", "table2/heads_8"),
        ("tables/table1.toml", '"63.40"', '"70.00"', "best", "error", "claims/best"),
        ("tables/table1.toml", '"63.40"', '"69.32"', "best", "note", "claims/best"),
        ("tables/table1.toml", '"63.40"', '"69.33"', "best", "note", "claims/best"),
        ("tables/table1.toml", '"63.40"', '"70.00"', "bold", "note", "table1/ours"),
        ("tables/table1.toml", '"63.40"', '"62.90"', "quoted_twice", "note", "table1/dialoguernn"),
        ("tables/table1.toml", '"63.40"', '"68.52"', "power", "note", "claims/gain"),
        ("tables/table1.toml", '"69.32"', '"69.33"', "count", "note", "table1/ours"),
        ("tables/table3.toml", '"5810"', '"5811"', "total", "error", "table3/splits"),
        ("tables/table3.toml", '"1084"', '"1048"', "corpus_count", "note", "table3/classes"),
        ("paper.toml", "[151,", "[150,", "corpus_count", "note", "facts/iemocap6.dialogues"),
        ("tables/table2.toml", "heads = 4 ", "heads = 6 ", "heads", "note", "table2/heads_4"),
        ("paper.toml", "batch = [16", "batch = [64", "steps", "note", "settings/train.batch"),
    ],
)
def test_a_planted_inconsistency_of_each_kind_is_found(declared, file, old, new, check, severity, where):
    claims = CLAIMS
    if check == "total":  # a claim that says the same sum takes the place of the check
        claims = CLAIMS.replace('of = ["table3/splits.train", "table3/splits.test"]', 'of = ["table3/splits.total"]')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "CLAIMS", claims)
        found = [(f.check, f.severity, f"{f.table}/{f.row}") for f in declared(file, old, new) if f.paper == "one"]
        found += [("quoted_twice", f.severity, f"{f.table}/{f.row}") for f in audit() if f.check == "quoted_twice"]
    assert (check, severity, where) in found


def test_what_calls_itself_approximate_is_noted(declared):
    found = declared("claims.toml", 'says = "the gain"\nkind = "difference"\nprinted = "5.9"',
    'says = "about"\nkind = "difference"\nprinted = "6.1"')  # fmt: skip
    assert [(f.check, f.severity) for f in found] == [("difference", "note")]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            '"table1/ours.accuracy", "table2',
            '"table1/us.accuracy", "table2',
            "'table1/us.accuracy' is no printed number of one",
        ),
        ('id = "same"', 'id = "gain"', "claim ids repeat"),
        ('kind = "order"', 'kind = "descends"', "kind"),
        ('printed = "5.9"\n', "", "needs its digits"),
    ],
)
def test_a_mistake_in_a_claim_is_named(declared, old, new, says):
    with pytest.raises(DeclarationError, match=says):
        declared("claims.toml", old, new)


def test_bold_must_name_a_printed_cell(declared):
    with pytest.raises(DeclarationError, match="cannot be bold"):
        declared("tables/table1.toml", 'bold = ["accuracy"]', 'bold = ["weighted_f1"]')


FINDINGS = audit()


def test_the_accuracy_of_mfcre_on_iemocap_is_out_of_reach_of_its_f1_scores():
    found = next(f for f in FINDINGS if (f.paper, f.check) == ("mfcre", "feasible_accuracy"))
    assert (found.table, found.row, found.column, found.severity, found.printed) == (
        "table2",
        "ours",
        "accuracy",
        "error",
        "80.59",
    )
    assert 75 < found.low < found.high < 77


def test_every_error_shows_its_arithmetic():
    """The sentence of an error holds the printed digits and, where something is computed, what it is computed from."""
    for found in (f for f in FINDINGS if f.severity == "error"):
        assert found.printed is None or found.printed in found.message
        assert len(re.findall(r"\d+", found.message)) >= 2, found.message


def test_mfcres_text_is_declared():
    claims = declarations.load("mfcre").claims
    assert len(claims) == 84 and {c.kind for c in claims} == {"value", "difference", "best", "order", "sum"}
    listed = [c for c in declarations.cells(declarations.load("mfcre")) if c.table == "claims"]
    assert len(listed) == 32 and {c.kind for c in listed} == {"fact"}


def test_the_command_prints_one_json_document_and_exits_well(capsys):
    cli.main(["audit", "--json", "mfcre"])
    listed = json.loads(capsys.readouterr().out)
    keys = ["paper", "table", "row", "column", "check", "severity", "printed", "recomputed", "low", "high", "message"]
    assert listed and all(list(f) == keys and f["paper"] == "mfcre" for f in listed)
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", "mfcr"])
    assert end.value.code == 2


def test_the_committed_page_is_what_the_audit_says():
    """Regenerate with `merlib audit --write`."""
    with (pages.folder() / "findings.csv").open(encoding="utf-8") as file:
        assert [line["message"] for line in csv.DictReader(file)] == [f.message for f in FINDINGS]
    assert (pages.folder() / "README.md").read_text(encoding="utf-8") == pages.page(FINDINGS)


def test_every_check_has_a_heading():
    assert {f.check for f in FINDINGS} <= set(pages.HEADINGS)
