"""One fit of a recipe on the splits of a corpus: a network, selected on val beside the peak on test, or an estimator.

What a fit leaves, an outcome: `selected` (selection -> epoch and predictions on test), `history` (one dict an epoch),
`arrays` of the val-selected network on test (embeddings, probabilities), `seconds` and `parameters`.
"""

import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sklearn.base import is_regressor

from merlib import registry
from merlib.data import batches
from merlib.files import atomic
from merlib.training import loop, metrics
from merlib.training.prediction import predict

CHECKPOINT_SECONDS = float(os.environ.get("MERLIB_CHECKPOINT_SECONDS", "60"))
Recipe = dict[str, dict[str, Any]]
Splits = dict[str, batches.Split]


def selection(
    judge: metrics.Judge, test: batches.Split, epoch: int, predicted: metrics.Predictions, history: list[dict]
) -> dict[str, Any]:
    """What is recorded of one selection: epoch, scores on test and on val, and the classes that it never predicts."""
    y_true = test.label.cpu().numpy()
    val = {k.removeprefix("val/"): v for k, v in history[epoch].items() if k.startswith("val/")} if history else {}
    never = metrics.never_predicted(y_true=y_true, y_pred=predicted["class"], labels=judge.labels)
    return {"epoch": epoch, "never_predicted": never, "scores": judge.scores(test.target, predicted), "val_scores": val}


class TestObserver:
    """Scores the test split after every epoch and keeps the predictions at its peak; `fit` cannot see any of it."""

    def __init__(self, test: batches.Split, judge: metrics.Judge, *, batch: int | None, precision: str):
        self.test, self.judge = test, judge
        self.how = {"batch": batch, "precision": precision}
        self.state: dict[str, Any] = {"epoch": -1, "worth": -float("inf"), "predicted": {}}

    def __call__(self, epoch: int, model: torch.nn.Module) -> dict[str, float]:
        predicted = self.judge.predictions(predict(model, self.test, **self.how))
        found = self.judge.scores(self.test.target, predicted)
        if self.judge.worth(found) > self.state["worth"]:
            kept = {name: torch.from_numpy(values) for name, values in predicted.items()}
            self.state.update(epoch=epoch, worth=self.judge.worth(found), predicted=kept)
        return {f"test/{name}": value for name, value in metrics.headline(found).items()}


def fit_network(
    recipe: Recipe, splits: Splits, judge: metrics.Judge, *, seed: int, folder: Path, device: str, progress: bool,
    label: str,
) -> dict[str, Any]:  # fmt: skip
    """Train a network by a recipe, resuming from `folder/checkpoint.pt`; leaves the test predictions of both
    selections.

    Where the protocol masks inputs at test time, `folder/network.safetensors` keeps the selected weights.
    """
    torch.manual_seed(seed)
    model = registry.build("model", recipe["model"], **given(splits, judge)).to(device)
    known = splits["train"].label[splits["train"].label >= 0]
    counts = torch.bincount(known, minlength=len(judge.labels))
    settled = {"class_counts": counts, "dim": recipe["model"].get("dim"), "sentiment": judge.sentiment}
    loss = registry.build("loss", recipe["loss"], **settled).to(device)
    norms = any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in model.modules())
    whole = norms or not recipe["model"].get("mask_padding", True)
    batch = recipe["train"]["batch"] if whole and splits["train"].unit == "dialogues" else None
    seen = {"batch": batch, "precision": recipe["train"]["precision"]}
    observer = TestObserver(splits["test"], judge, **seen)
    done = loop.fit(
        model, loss, splits["train"], splits["val"], recipe=recipe["train"], judge=judge, seed=seed, observer=observer,
        checkpoint=folder / "checkpoint.pt", checkpoint_seconds=CHECKPOINT_SECONDS,
        whole_batches=whole, progress=progress, label=label,
    )  # fmt: skip
    model.load_state_dict(done.best_state)
    if "mask_percent" in recipe["protocol"]:
        with atomic(folder / "network.safetensors") as part:
            save_file({name: value.contiguous() for name, value in done.best_state.items()}, part)
    outputs = predict(model, splits["test"], **seen)
    peak = {name: values.cpu().numpy() for name, values in observer.state["predicted"].items()}
    selected = {"val": (done.best_epoch, judge.predictions(outputs)), "test_peak": (observer.state["epoch"], peak)}
    shown = getattr(model, "SHOWN", ())
    arrays = {name: value for name, value in outputs.items() if name.endswith("embedding") or name in shown}
    arrays["probability"] = outputs["logits"].softmax(-1)
    return {
        "selected": selected, "history": done.history, "seconds": done.seconds,
        "arrays": {k: v.half().cpu().numpy() for k, v in arrays.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def check_states(section: dict[str, Any], layers_above: dict[str, int]) -> None:
    """DeclarationError where stored states are not what the tuned layers of the network's own encoder read.

    layers_above: of the array of each modality, how many layers of its encoder its states have yet to pass.
    """
    check = getattr(registry.constructor("model", section["name"]), "check_states", None)
    if check:
        check(section, layers_above)


def fit_estimator(recipe: Recipe, splits: Splits, judge: metrics.Judge, *, seed: int) -> dict[str, Any]:
    """Fit a scikit-learn estimator on pooled features; it has no epochs, so both selections are the same."""
    began = time.monotonic()
    model = registry.build("model", recipe["model"], seed=seed)
    regression = is_regressor(model)
    known = (splits["train"].label >= 0).cpu().numpy()
    y = splits["train"].target["score" if regression else "label"].cpu().numpy()
    model.fit(splits["train"].pooled().cpu().numpy()[known], y[known])
    predicted = {}
    for name in ("val", "test"):
        found = model.predict(splits[name].pooled().cpu().numpy())
        if judge.sentiment:
            predicted[name] = metrics.of_scores(y_score=found if regression else found - 3.0, binary=judge.binary)
        else:
            predicted[name] = {"class": found}
    scores = metrics.headline(judge.scores(splits["val"].target, predicted["val"]))
    return {
        "selected": {"val": (0, predicted["test"]), "test_peak": (0, predicted["test"])},
        "history": [{f"val/{name}": value for name, value in scores.items()}], "arrays": {},
        "seconds": time.monotonic() - began, "parameters": 0,
    }  # fmt: skip


def given(splits: Splits, judge: metrics.Judge) -> dict[str, Any]:
    """What the data settle for a network: see `models.build`."""
    train = splits["train"]
    settled = {"dims": batches.dims(train), "classes": len(judge.labels), "sentiment": judge.sentiment}
    if train.unit == "dialogues":
        return settled | {"speakers": 1 + max(int(split.speaker.max()) for split in splits.values())}
    steps = {m: max(int(split.steps[m].max()) for split in splits.values()) for m in train.features}
    return settled | {"steps": steps, "speakers": 1}
