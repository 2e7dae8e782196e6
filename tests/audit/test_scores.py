"""The checks of one evaluation: silent on honest tables, and every inconsistency that is planted is an error."""

import os

import numpy as np
import pytest
from printed_scores import MATRIX, honest, printed, true_scores

from merlib.audit.evaluations import Evaluation
from merlib.audit.printed import interval
from merlib.audit.scores import score_findings

TABLES = int(os.environ.get("MERLIB_AUDIT_TABLES", "1000"))  # honest tables; the full check is on 10,000, a minute


@pytest.mark.parametrize("part", range(4))
def test_honest_tables_raise_no_error(part):
    rng = np.random.default_rng(part)
    for i in range(TABLES // 4):
        errors = [f.message for f in score_findings(honest(rng)) if f.severity == "error"]
        assert not errors, (part, i, errors)


def test_many_honest_tables_pass_the_checks_without_a_linear_program():
    rng = np.random.default_rng(99)
    for i in range(2000):
        errors = [f.message for f in score_findings(honest(rng), programs=False) if f.severity == "error"]
        assert not errors, (i, errors)


@pytest.mark.parametrize(
    ("text", "low", "high"), [("68.75", 68.745, 68.76), ("7", 6.5, 8), ("-1.2", -1.3, -1.15), ("0.00", -0.005, 0.01)]
)
def test_digits_stand_for_all_that_rounds_or_truncates_to_them(text, low, high):
    assert interval(text) == pytest.approx((low, high))
    assert interval(text, exact=True).low == interval(text, exact=True).high == float(text)


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
    assert not score_findings(printed({}))
    assert (check, "error", column) in [(f.check, f.severity, f.column) for f in score_findings(printed(changes))]


def test_a_quoted_score_is_noted_only():
    evaluation = printed({("weighted_f1", None): "78.50", ("accuracy", None): "77.60"})
    quoted = Evaluation(evaluation.cells, evaluation.supports, stated=True, quoted=True)
    assert {f.severity for f in score_findings(quoted)} == {"note"}


def test_macro_f1_of_averages_is_another_definition_not_an_error():
    p, r = (
        np.mean([v for (m, e), v in true_scores(MATRIX).items() if m == metric and e])
        for metric in ("precision", "recall")
    )
    findings = score_findings(printed({("macro_f1", None): f"{200 * p * r / (p + r):.2f}"}))
    assert [(f.check, f.severity) for f in findings] == [("average", "note")]
