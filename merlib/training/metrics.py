"""Scores, computed by scikit-learn; arguments by keyword only. Fractions, not percent.

Predictions of a split are arrays by name, one value per utterance: `class` (index into the labels); on the sentiment
corpora also `score` (in [-3, 3]) and `binary` (0 negative, 1 the rest).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, mean_absolute_error
from sklearn.metrics import precision_recall_fscore_support as per_class
from torch import Tensor

from merlib.data.official import ABOVE, sentiment_class
from merlib.declarations.schema import LOWER_IS_BETTER
from merlib.errors import RequestError, listed, one_of

Predictions = dict[str, np.ndarray]


def scores(*, y_true: np.ndarray, y_pred: np.ndarray, labels: tuple[str, ...]) -> dict[str, float]:
    """Scores of a classification; utterances without a label (-1) are left out.

    accuracy (WA), balanced_accuracy (UA: mean recall of the classes that occur), {macro,weighted}_{precision,recall,f1}
    over all classes, and {precision,recall,f1,count}/<label> of each.
    """
    known = y_true >= 0
    y_true, y_pred = y_true[known], y_pred[known]
    parts = per_class(y_true, y_pred, labels=range(len(labels)), zero_division=0.0)
    precision, recall, f1, count = (np.asarray(part, float) for part in parts)
    result = {"accuracy": float(accuracy_score(y_true, y_pred)), "balanced_accuracy": float(recall[count > 0].mean())}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        result[f"macro_{name}"] = float(values.mean())
        result[f"weighted_{name}"] = float(np.average(values, weights=count))
        result |= {f"{name}/{label}": float(value) for label, value in zip(labels, values, strict=True)}
    return result | {f"count/{label}": float(value) for label, value in zip(labels, count, strict=True)}


def sentiment(*, y_true: np.ndarray, y_pred: Predictions, binary: str) -> dict[str, float]:
    """acc7 (of integers), acc2 and its weighted f1_acc2, mae and correlation of predicted sentiment. y_true: scores, u.

    binary: the second class of acc2: "nonnegative" (zero counts as positive), "positive" (zero counts as negative) or
    "excluded" (positive; utterances with a score of zero are left out).
    """
    above = one_of(ABOVE, binary, "protocol.binary")
    included = y_true != 0 if binary == "excluded" else np.ones(len(y_true), dtype=bool)
    true_class, predicted_class = above(y_true)[included].astype(int), y_pred["binary"][included]
    constant = min(np.ptp(y_true), np.ptp(y_pred["score"])) == 0
    return {
        "acc7": float(accuracy_score(sentiment_class(y_true), y_pred["class"])),
        "acc2": float(accuracy_score(true_class, predicted_class)),
        "f1_acc2": float(f1_score(true_class, predicted_class, average="weighted", zero_division=0.0)),
        "mae": float(mean_absolute_error(y_true, y_pred["score"])),
        "correlation": 0.0 if constant else float(np.corrcoef(y_true, y_pred["score"])[0, 1]),
    }


def of_scores(*, y_score: np.ndarray, binary: str) -> Predictions:
    """Predictions from the scores of a regression (u); binary: as of `sentiment`."""
    score = np.clip(y_score, -3, 3)
    return {"class": sentiment_class(score), "score": score, "binary": ABOVE[binary](score).astype(int)}


@dataclass(frozen=True)
class Judge:
    """How predictions are scored, and which score selects an epoch."""

    labels: tuple[str, ...]
    select: str  # the metric that selects
    sentiment: bool = False
    binary: str = "nonnegative"

    def predictions(self, outputs: dict[str, Tensor]) -> Predictions:
        """The predictions of a network. On a sentiment corpus, `logits` of width 1 are the score; of width 7, its
        integers, and then `logits_binary` decides the binary task if the network has it."""
        logits = outputs["logits"].float()
        if not self.sentiment:
            return {"class": logits.argmax(-1).cpu().numpy()}
        if logits.shape[-1] == 1:
            return of_scores(y_score=logits.squeeze(-1).cpu().numpy(), binary=self.binary)
        predicted = of_scores(y_score=logits.argmax(-1).cpu().numpy() - 3.0, binary=self.binary)
        if "logits_binary" in outputs:
            predicted["binary"] = outputs["logits_binary"].argmax(-1).cpu().numpy()
        return predicted

    def scores(self, target: dict[str, Tensor], predicted: Predictions) -> dict[str, float]:
        """All scores of a split. target: `label` and, on a sentiment corpus, `score`, u each."""
        label = target["label"].cpu().numpy()
        result = scores(y_true=label, y_pred=predicted["class"], labels=self.labels)
        if self.sentiment:
            known = label >= 0
            y_pred = {name: values[known] for name, values in predicted.items()}
            result |= sentiment(y_true=target["score"].cpu().numpy()[known], y_pred=y_pred, binary=self.binary)
        return result

    def selecting_score(self, scores: dict[str, float]) -> float:
        """The score that selects, negated for errors, so that higher is better."""
        if self.select not in scores:
            there = listed(sorted(headline(scores)))
            raise RequestError(f"protocol.select_metric {self.select!r}: this corpus has {there}")
        return -scores[self.select] if self.select in LOWER_IS_BETTER else scores[self.select]


def headline(scores: dict[str, float]) -> dict[str, float]:
    """The scores of a whole split, without those of single classes."""
    return {name: value for name, value in scores.items() if "/" not in name}


def confusion(*, y_true: np.ndarray, y_pred: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """Counts, c c: rows are true classes, columns predicted ones."""
    known = y_true >= 0
    return confusion_matrix(y_true[known], y_pred[known], labels=range(len(labels)))


def never_predicted(*, y_true: np.ndarray, y_pred: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """Classes that occur and are never predicted, as often happens to fear and disgust on MELD."""
    return [label for c, label in enumerate(labels) if (y_true == c).any() and not (y_pred == c).any()]
