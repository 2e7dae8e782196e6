"""One fit of a recipe on the splits of a corpus: of a network, selected on val and at its test peak, or an estimator.

Both fits return `selected` (selection -> epoch and predictions on test), `history` (one dict per epoch), `arrays` of
the val-selected network on test (embeddings, probabilities), `seconds` and `parameters`.
"""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from sklearn.base import is_regressor
from sklearn.utils import get_tags
from torch import Tensor

from merlib import registry
from merlib.data import batches
from merlib.data.store import Passport
from merlib.files import atomic
from merlib.places import setting
from merlib.training import loop, metrics
from merlib.training.prediction import check_finite, predict

CHECKPOINT_SECONDS = setting("MERLIB_CHECKPOINT_SECONDS", 60)
Recipe = dict[str, dict[str, Any]]
Splits = dict[str, batches.Split]


def selection(
    judge: metrics.Judge, test: batches.Split, epoch: int, predicted: metrics.Predictions, history: list[dict]
) -> dict[str, Any]:
    """The record of one selection: its epoch, scores on test and on val, and the classes that are never predicted."""
    y_true = test.label.cpu().numpy()
    val = {k.removeprefix("val/"): v for k, v in history[epoch].items() if k.startswith("val/")} if history else {}
    never_predicted = metrics.never_predicted(y_true=y_true, y_pred=predicted["class"], labels=judge.labels)
    scores = judge.scores(test.target, predicted)
    return {"epoch": epoch, "never_predicted": never_predicted, "scores": scores, "val_scores": val}


class TestObserver:
    """Scores the test split after every epoch and keeps the predictions at its peak; training cannot see any of it."""

    def __init__(self, test: batches.Split, judge: metrics.Judge, *, batch: int | None, precision: str):
        self.test, self.judge = test, judge
        self.options = {"batch": batch, "precision": precision}
        self.state: dict[str, Any] = {"epoch": -1, "best": -float("inf"), "predicted": {}}

    def __call__(self, epoch: int, model: torch.nn.Module) -> dict[str, float]:
        predicted = self.judge.predictions(predict(model, self.test, **self.options))
        scores = self.judge.scores(self.test.target, predicted)
        if (score := self.judge.selecting_score(scores)) > self.state["best"]:
            tensors = {name: torch.from_numpy(values) for name, values in predicted.items()}
            self.state.update(epoch=epoch, best=score, predicted=tensors)
        return {f"test/{name}": value for name, value in metrics.headline(scores).items()}


def fit_network(
    recipe: Recipe, splits: Splits, judge: metrics.Judge, *, seed: int, folder: Path, device: str, progress: bool,
    label: str,
) -> dict[str, Any]:  # fmt: skip
    """Train a network, resuming from `folder/checkpoint.pt`; its weights are kept where `keeps_weights` says."""
    model, loss, whole_batches = _built(recipe, splits, judge, seed=seed, device=device)
    batch = recipe["train"]["batch"] if whole_batches and splits["train"].unit == "dialogues" else None
    options = {"batch": batch, "precision": recipe["train"]["precision"]}
    observer = TestObserver(splits["test"], judge, **options)
    fit = loop.fit(
        model, loss, splits["train"], splits["val"], recipe=recipe["train"], judge=judge, seed=seed, observer=observer,
        checkpoint=folder / "checkpoint.pt", checkpoint_seconds=CHECKPOINT_SECONDS,
        whole_batches=whole_batches, progress=progress, label=label,
    )  # fmt: skip
    model.load_state_dict(fit.best_state)
    if keeps_weights(recipe):
        with atomic(folder / "network.safetensors", when_full=SafetensorError, sealed=True) as part:
            save_file({name: value.contiguous() for name, value in fit.best_state.items()}, part)
    outputs = predict(model, splits["test"], **options)
    peak = {name: values.cpu().numpy() for name, values in observer.state["predicted"].items()}
    selected = {"val": (fit.best_epoch, judge.predictions(outputs)), "test_peak": (observer.state["epoch"], peak)}
    return {
        "selected": selected, "history": fit.history, "arrays": _arrays(outputs, getattr(model, "SHOWN", ())),
        "seconds": fit.seconds, "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def seconds_of_fit(recipe: Recipe, splits: Splits, judge: metrics.Judge, *, device: str) -> float:
    """What all epochs of `fit_network` would take, by a few steps; one that stops early takes less."""
    model, loss, whole_batches = _built(recipe, splits, judge, seed=0, device=device)
    train = recipe["train"]
    return train["epochs"] * loop.seconds_of_epoch(model, loss, splits, recipe=train, whole_batches=whole_batches)


def _built(
    recipe: Recipe, splits: Splits, judge: metrics.Judge, *, seed: int, device: str
) -> tuple[torch.nn.Module, torch.nn.Module, bool]:
    """The network, its loss, and whether a batch must never be split into buckets."""
    torch.manual_seed(seed)
    model = registry.build("model", recipe["model"], **given(splits, judge)).to(device)
    loss = registry.build("loss", recipe["loss"], **_given_to_loss(recipe, splits, judge)).to(device)
    has_batch_norm = any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in model.modules())
    return model, loss, has_batch_norm or not recipe["model"].get("mask_padding", True)


def _arrays(outputs: dict[str, Tensor], shown: Collection[str]) -> dict[str, np.ndarray]:
    arrays = {name: value for name, value in outputs.items() if name.endswith("embedding") or name in shown}
    arrays["probability"] = outputs["logits"].softmax(-1)
    return {name: value.half().cpu().numpy() for name, value in arrays.items()}


def keeps_weights(recipe: Recipe) -> bool:
    """Whether a run keeps the selected network: where inputs are masked after training, or others read its vectors."""
    name = recipe["model"]["name"]
    if registry.is_estimator(name):
        return False
    return "mask_percent" in recipe["protocol"] or getattr(registry.constructor("model", name), "KEPT", False)


def check_states(section: dict[str, Any], passports: dict[str, Passport]) -> None:
    """Raise DeclarationError where the network continues stored states with layers of its own that do not fit them.

    passports: of the arrays that are read, by modality.
    """
    if of_network := getattr(registry.constructor("model", section["name"]), "check_states", None):
        of_network(section, passports)


def fit_estimator(recipe: Recipe, splits: Splits, judge: metrics.Judge, *, seed: int) -> dict[str, Any]:
    """Fit a scikit-learn estimator on one vector per utterance; it has no epochs, so both selections are the same.

    Raises TrainingError where a vector is not finite, unless the estimator does not look at it, or an output of it.
    """
    began = time.monotonic()
    model = registry.build("model", recipe["model"], seed=seed)
    regression = is_regressor(model)
    known = (splits["train"].label >= 0).cpu().numpy()
    y = splits["train"].target["score" if regression else "label"].cpu().numpy()
    reads = not get_tags(model).no_validation
    model.fit(_vectors(splits["train"], finite=reads)[known], y[known])
    predicted = {}
    for name in ("val", "test"):
        x = _vectors(splits[name], finite=reads)
        y_pred = model.predict(x)
        outputs = model.decision_function(x) if hasattr(model, "decision_function") else y_pred
        check_finite(torch.as_tensor(outputs), splits[name].ids)
        if judge.sentiment:
            predicted[name] = metrics.of_scores(y_score=y_pred if regression else y_pred - 3.0, binary=judge.binary)
        else:
            predicted[name] = {"class": y_pred}
    scores = metrics.headline(judge.scores(splits["val"].target, predicted["val"]))
    return {
        "selected": {"val": (0, predicted["test"]), "test_peak": (0, predicted["test"])},
        "history": [{f"val/{name}": value for name, value in scores.items()}], "arrays": {},
        "seconds": time.monotonic() - began, "parameters": 0,
    }  # fmt: skip


def _vectors(split: batches.Split, *, finite: bool) -> np.ndarray:
    """One vector per utterance, of all modalities joined: u i. finite: raise TrainingError where one is not."""
    vectors = torch.cat([*split.pooled().features.values()], dim=-1)
    if finite:
        check_finite(vectors, split.ids, what="a vector")
    return vectors.cpu().numpy()


def given(splits: Splits, judge: metrics.Judge) -> dict[str, Any]:
    """The keywords that the data give to a network: see `registry.build`."""
    train = splits["train"]
    keywords = {"dims": batches.dims(train), "classes": len(judge.labels), "sentiment": judge.sentiment}
    if train.unit == "dialogues":
        return keywords | {"speakers": 1 + max(int(split.speaker.max()) for split in splits.values())}
    steps = {m: max(int(split.steps[m].max()) for split in splits.values()) for m in train.features}
    return keywords | {"steps": steps, "speakers": 1}


def _given_to_loss(recipe: Recipe, splits: Splits, judge: metrics.Judge) -> dict[str, Any]:
    label = splits["train"].label
    counts = torch.bincount(label[label >= 0], minlength=len(judge.labels))
    return {"class_counts": counts, "dim": recipe["model"].get("dim"), "sentiment": judge.sentiment}
