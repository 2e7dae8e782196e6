"""Scores of a classification, all by scikit-learn, arguments by keyword only. Fractions, not percent."""

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score


def scores(*, y_true: np.ndarray, y_pred: np.ndarray, labels: tuple[str, ...]) -> dict[str, float]:
    """accuracy, weighted_f1 and f1/<label> of every class; utterances without a label (-1) do not count."""
    known = y_true >= 0
    y_true, y_pred = y_true[known], y_pred[known]
    classes = range(len(labels))
    per_class = f1_score(y_true, y_pred, labels=classes, average=None, zero_division=0.0)
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "weighted_f1": float(f1_score(y_true, y_pred, labels=classes, average="weighted", zero_division=0.0)),
    } | {f"f1/{label}": float(value) for label, value in zip(labels, per_class, strict=True)}


def confusion(*, y_true: np.ndarray, y_pred: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """Counts, c c: rows are true classes, columns predicted ones."""
    known = y_true >= 0
    return confusion_matrix(y_true[known], y_pred[known], labels=range(len(labels)))


def never_predicted(*, y_true: np.ndarray, y_pred: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """Classes that occur and are never predicted: the usual silent failure on MELD's fear and disgust."""
    return [label for c, label in enumerate(labels) if (y_true == c).any() and not (y_pred == c).any()]
