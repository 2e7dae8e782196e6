"""Metrics against their definitions, on random predictions."""

import numpy as np
import pytest

from merlib import metrics

LABELS = ("a", "b", "c", "d")


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    y_true, y_pred = rng.integers(-1, 4, 200), rng.integers(0, 3, 200)  # d is never predicted; -1 has no label
    found = metrics.scores(y_true=y_true, y_pred=y_pred, labels=LABELS)
    known = y_true >= 0
    f1, weight = [], []
    for c in range(4):
        hit = (y_true[known] == c) & (y_pred[known] == c)
        precision = hit.sum() / max((y_pred[known] == c).sum(), 1)
        recall = hit.sum() / max((y_true[known] == c).sum(), 1)
        f1.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        weight.append((y_true[known] == c).mean())
    assert found["accuracy"] == pytest.approx((y_true == y_pred)[known].mean())
    assert found["weighted_f1"] == pytest.approx(np.dot(f1, weight))
    assert [found[f"f1/{label}"] for label in LABELS] == pytest.approx(f1)
    assert metrics.never_predicted(y_true=y_true, y_pred=y_pred, labels=LABELS) == ["d"]
    assert metrics.confusion(y_true=y_true, y_pred=y_pred, labels=LABELS).sum() == known.sum()


def test_true_and_predicted_cannot_be_swapped_silently():
    with pytest.raises(TypeError):
        metrics.scores(np.array([0]), np.array([1]), LABELS)
