"""The checks of one evaluation: silent on honest tables, and every inconsistency that is planted is an error."""

import re

import numpy as np
import pytest
from campaign import honest as campaign
from printed_scores import MATRIX, cell, honest, printed, true_scores

from merlib.audit.evaluations import Evaluation
from merlib.audit.printed import interval
from merlib.audit.scores import score_findings

SOME = {"tables": 60, "papers": 12}  # `tests/campaign/honest.py` draws ten thousand of each


@pytest.mark.parametrize("kind", SOME)
def test_what_is_honest_raises_no_error(kind):
    """Papers with several systems, quoted ones too, a sweep, and claims in few digits; tables of one system."""
    found = [f for i in range(SOME[kind]) for f in campaign.findings(kind, 0, i)]
    assert not [f.message for f in found if f.severity == "error"]
    assert found or kind == "tables", "the checks have seen these papers: some gains are within the noise"


def test_a_number_that_moves_in_an_honest_paper_is_found_in_most_of_them():
    found = [any(f.severity == "error" for f in campaign.findings_of_moved(0, i)) for i in range(10)]
    assert sum(found) >= 5


def test_many_honest_tables_pass_the_checks_without_a_linear_program():
    rng = np.random.default_rng(99)
    for i in range(200):
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


PREMISE = "(scores of the classes in table1; the printed supports: e0 50, e1 80, e2 30; 160 in all)"
F1_OF_E1 = (
    "F1 is 2 P R / (P + R) in one run: from 82.19 (table1/ours.precision_e1) and 75.00 (table1/ours.recall_e1) it is "
    "between 78.426 and 78.441; 78.50 is printed."
)
WEIGHTED_F1 = (
    "The weighted mean of the classes' F1 is (50 x 79.21 + 80 x 78.43 + 30 x 72.73) / 160, between 77.600 and 77.615; "
    f"78.50 (table1/ours.weighted_f1_) is printed {PREMISE}."
)
MACRO_F1 = (
    "The mean of the classes' F1 is (10.00 + 10.00 + [0 to 100]) / 3, between 6.663 and 40.007; "
    f"78.50 (table1/ours.macro_f1_) is printed {PREMISE}."
)
COUNT = (
    "No integer number of correct predictions out of 160 gives 77.60 (table1/ours.accuracy_): 124 / 160 = 77.500 % and "
    "125 / 160 = 78.125 %. A mean over several runs could."
)
CLASS_COUNT = (
    "With 30 e2 utterances, no integers k (hits) and m (predictions) give k / 30, k / m, 2 k / (30 + m) as printed: "
    "recall 80.00 (table1/ours.recall_e2), precision 66.90 (table1/ours.precision_e2). A mean over several runs could."
)
NO_MATRIX = f"No confusion matrix of one run has all the printed scores of the classes of table1/ours {PREMISE}."
EXCLUDED = f"In one run the printed recalls exclude the accuracy 90.00 (table1/ours.accuracy_) {PREMISE}."
MESSAGES = [
    ({("f1", "e1"): "78.50"}, F1_OF_E1),
    ({("weighted_f1", None): "78.50"}, WEIGHTED_F1),
    ({("macro_f1", None): "78.50", ("f1", "e2"): "", ("f1", "e1"): "10.00", ("f1", "e0"): "10.00"}, MACRO_F1),
    ({("accuracy", None): "77.60"}, COUNT),
    ({("precision", "e2"): "66.90", ("f1", "e2"): ""}, CLASS_COUNT),
    ({("f1", "e0"): "99.00", ("precision", "e0"): "", ("recall", "e0"): ""}, NO_MATRIX),
    (NO_F1 | NO_PRECISION | {("accuracy", None): "90.00"}, EXCLUDED),
]


@pytest.mark.parametrize(("changes", "message"), MESSAGES)
def test_a_message_shows_the_numbers_that_it_is_about(changes, message):
    assert message in [f.message for f in score_findings(printed(changes))]


@pytest.mark.parametrize(("accuracy", "end"), [("83.13", "highest"), ("60.62", "lowest")])
def test_the_nearest_accuracy_is_that_of_the_predicted_counts_that_are_named(accuracy, end):
    (finding,) = score_findings(printed(NO_RECALL | NO_PRECISION | {("accuracy", None): accuracy}))
    predicted = re.search(rf"The {end} needs the predicted counts e0 (\d+), e1 (\d+), e2 (\d+) \(", finding.message)
    assert finding.recomputed == (finding.high if end == "highest" else finding.low)
    f1, n = np.array([79.21, 78.43, 72.73]), MATRIX.sum(axis=1)
    of_counts = (f1 * (n + np.array(predicted.groups(), int))).sum() / (2 * n.sum())  # F1_i = 2 hits_i / (n_i + m_i)
    assert of_counts == pytest.approx(finding.recomputed, abs=0.4)  # counts are rounded, scores are intervals


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


def test_recall_that_is_f1_in_every_class_is_noted():
    """Of four classes with as many predictions as utterances; one class more or less, and it is not so."""
    balanced = np.array([[40, 6, 2, 2], [6, 50, 4, 5], [2, 4, 30, 3], [2, 5, 3, 20]])
    supports = {f"e{i}": int(n) for i, n in enumerate(balanced.sum(axis=1))}
    for matrix, noted in ((balanced, True), (balanced + [[0, 9, 0, 0]] + np.zeros((4, 4), int), False)):
        texts = {key: f"{100 * value:.1f}" for key, value in true_scores(matrix).items() if key[0] in ("recall", "f1")}
        cells = tuple(cell(metric, text, emotion) for (metric, emotion), text in texts.items())
        findings = score_findings(Evaluation(cells, supports), programs=False)
        assert [(f.check, f.severity) for f in findings if f.check == "recall_is_f1"] == [
            ("recall_is_f1", "note")
        ] * noted
