"""Metrics against their definitions, on random predictions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from merlib.training import metrics

LABELS = ("a", "b", "c", "d")


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    y_true, y_pred = rng.integers(-1, 4, 200), rng.integers(0, 3, 200)  # d is never predicted; -1 has no label
    scores = metrics.scores(y_true=y_true, y_pred=y_pred, labels=LABELS)
    known = y_true >= 0
    f1, weight = [], []
    for c, label in enumerate(LABELS):
        hit = (y_true[known] == c) & (y_pred[known] == c)
        precision = hit.sum() / max((y_pred[known] == c).sum(), 1)
        recall = hit.sum() / max((y_true[known] == c).sum(), 1)
        f1.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        weight.append((y_true[known] == c).mean())
        of_class = [scores[f"{name}/{label}"] for name in ("precision", "recall", "count")]
        assert of_class == pytest.approx([precision, recall, (y_true == c).sum()])
    assert scores["accuracy"] == pytest.approx((y_true == y_pred)[known].mean())
    assert scores["weighted_f1"] == pytest.approx(np.dot(f1, weight))
    assert [scores[f"f1/{label}"] for label in LABELS] == pytest.approx(f1)
    assert metrics.never_predicted(y_true=y_true, y_pred=y_pred, labels=LABELS) == ["d"]
    counts = metrics.confusion(y_true=y_true, y_pred=y_pred, labels=LABELS)
    assert counts.tolist() == [[((y_true == i) & (y_pred == j)).sum() for j in range(4)] for i in range(4)]
    assert metrics.headline(scores).keys() == {name for name in scores if "/" not in name} and len(scores) == 8 + 16


def test_true_and_predicted_cannot_be_swapped_silently():
    with pytest.raises(TypeError):
        metrics.scores(np.array([0]), np.array([1]), LABELS)


def test_unweighted_accuracy_and_averages_are_scikit_learns():
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(0, 3, 100), rng.integers(0, 3, 100)
    scores = metrics.scores(y_true=y_true, y_pred=y_pred, labels=LABELS[:3])
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y_true, y_pred))
    for average in ("macro", "weighted"):
        expected = precision_recall_fscore_support(y_true, y_pred, average=average)
        names = [f"{average}_{name}" for name in ("precision", "recall", "f1")]
        assert [scores[name] for name in names] == pytest.approx(expected[:3])


def test_sentiment_by_hand():
    y_true = np.array([-2.6, -0.2, 0.0, 1.4, 3.0])
    predicted = metrics.of_scores(y_score=np.array([-3.4, 0.4, -0.6, 1.0, 2.0]), binary="nonnegative")
    assert predicted["class"].tolist() == [0, 3, 2, 4, 5] and predicted["score"][0] == -3
    scores = metrics.sentiment(y_true=y_true, y_pred=predicted, binary="nonnegative")
    assert scores["acc7"] == pytest.approx(3 / 5)  # -3, 0 and 1 hit; 0 and 3 are missed
    assert scores["acc2"] == pytest.approx(3 / 5)  # -0.2 and 0.0 are on the wrong side
    assert scores["mae"] == pytest.approx(np.mean([0.4, 0.6, 0.6, 0.4, 1.0]))
    assert scores["correlation"] == pytest.approx(np.corrcoef(y_true, predicted["score"])[0, 1])
    positive = metrics.sentiment(
        y_true=y_true, y_pred=metrics.of_scores(y_score=predicted["score"], binary="positive"), binary="positive"
    )
    assert positive["acc2"] == pytest.approx(4 / 5)  # zero counts with the negative ones: only -0.2 is wrong
    without = metrics.of_scores(y_score=predicted["score"], binary="excluded")
    assert metrics.sentiment(y_true=y_true, y_pred=without, binary="excluded")["acc2"] == pytest.approx(3 / 4)


def test_a_sentiment_corpus_is_scored_where_there_is_a_score():
    judge = metrics.Judge(LABELS[:3] + tuple("4567"), "mae", sentiment=True, binary="positive")
    target = {"label": torch.tensor([3, -1, 6]), "score": torch.tensor([0.2, 0.0, 2.6])}
    predicted = judge.predictions({"logits": torch.tensor([[0.0], [9.0], [2.6]])})
    scores = judge.scores(target, predicted)
    assert scores["mae"] == pytest.approx(0.1) and scores["acc7"] == scores["accuracy"] == 1.0
    assert scores["acc2"] == 0.5
    constant = judge.scores(target, judge.predictions({"logits": torch.zeros(3, 1)}))
    assert constant["correlation"] == 0.0, "a constant prediction correlates with nothing"


def test_two_heads_decide_two_tasks_and_one_head_decides_both():
    logits = torch.eye(7)[[6, 0]]
    judge = metrics.Judge(LABELS, "acc7", sentiment=True)
    alone = judge.predictions({"logits": logits})
    assert alone["score"].tolist() == [3, -3] and alone["binary"].tolist() == [1, 0]
    both = judge.predictions({"logits": logits, "logits_binary": torch.eye(2)[[0, 1]]})
    assert both["class"].tolist() == [6, 0] and both["binary"].tolist() == [0, 1]
    regression = judge.predictions({"logits": torch.tensor([[1.2], [-0.4]])})
    assert regression["class"].tolist() == [4, 3] and regression["binary"].tolist() == [1, 0]


def test_the_selecting_score_is_better_when_higher_and_errors_when_lower():
    scores = {"accuracy": 0.7, "mae": 0.9, "f1/a": 0.1}
    assert (
        metrics.Judge(LABELS, "accuracy").selecting_score(scores) == 0.7
        and metrics.Judge(LABELS, "mae").selecting_score(scores) == -0.9
    )
    with pytest.raises(ValueError, match="accuracy"):
        metrics.Judge(LABELS, "wf1").selecting_score(scores)
