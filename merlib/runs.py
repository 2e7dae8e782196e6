"""Runs: one recipe on one corpus with one seed, trained once, resumable, kept in `results/cache/runs/<id>`.

A run's identity is the hash of all that determines its numbers: recipe, corpus and split, feature values, seed, fold, and the code of
the network it trains. Two batches never train the same run at once; a run killed at any moment resumes from its checkpoint.

`run.json` (recipe, scores of both selections, history of every epoch) is written last and marks a finished run; beside it,
`predictions.npz` holds ids, labels, predictions, and the probabilities and embeddings of the val-selected network on the test split.
"""

import ast
import hashlib
import json
import os
import platform
import resource
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from merlib import batches, metrics, models, training
from merlib.corpora.files import atomic
from merlib.features import roots
from merlib.losses import build_loss
from merlib.places import commit, results_folder

PACKAGE = Path(__file__).parent
SHARED_CODE = ("merlib.training", "merlib.batches", "merlib.metrics", "merlib.losses")
CHECKPOINT_SECONDS = float(os.environ.get("MERLIB_CHECKPOINT_SECONDS", "60"))


@dataclass(frozen=True)
class Run:
    """One training: a recipe on a corpus of a data root, with a seed and a fold."""

    recipe: dict[str, dict]
    corpus: str
    data: str
    seed: int
    fold: int = 0

    @property
    def id(self) -> str:
        dataset = self.dataset
        determines = {k: v for k, v in self.recipe.items() if k != "protocol"} | {
            "validation": self.recipe["protocol"]["validation"],
            "corpus": _digest(dataset),
            "features": {name: feature.passport.sha256 for name, feature in dataset.features.items()},
            "code": code_digest(models.module_of(self.recipe["model"]["name"])),
            "seed": self.seed,
            "fold": self.fold,
        }
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def arrays(self) -> dict[str, str]:
        """modality -> the feature array that the recipe names for it."""
        return {m: self.recipe["data"][m] for m in batches.MODALITIES}

    @property
    def dataset(self) -> roots.Dataset:
        """The corpus with those of the recipe's arrays that the data root has."""
        return _dataset(self.data, self.corpus, tuple(self.arrays.values()))

    @property
    def folder(self) -> Path:
        return results_folder("cache") / "runs" / self.id


def execute(run: Run, *, device: str | None = None, progress: bool = True, label: str = "run") -> dict[str, Any]:
    """The result of a run (run.json): from the cache, or trained now. Two batches never train the same run at once."""
    folder = run.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"{label}: another batch trains this run ({run.id}); waiting for it")
        lock.acquire()
    try:
        done = folder / "run.json"
        if not done.exists():
            _train(run, folder, device or ("cuda" if torch.cuda.is_available() else "cpu"), progress, label)
        return json.loads(done.read_text())
    finally:
        lock.release()


def _train(run: Run, folder: Path, device: str, progress: bool, label: str) -> None:
    training.make_deterministic()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    dataset = run.dataset
    recipe, labels = run.recipe, dataset.corpus.labels
    splits = batches.splits(
        dataset, arrays=run.arrays, standardize=recipe["data"]["standardize"],
        validation=recipe["protocol"]["validation"], device=device,
    )  # fmt: skip
    if models.is_estimator(recipe["model"]["name"]):
        outcome = _fit_estimator(run, splits)
    else:
        outcome = _fit_network(run, splits, labels, folder, device, progress, label)
    y_true = splits["test"].label.cpu().numpy()
    selected = {
        name: {"epoch": epoch, "never_predicted": metrics.never_predicted(y_true=y_true, y_pred=y_pred, labels=labels)}
        | {"scores": metrics.scores(y_true=y_true, y_pred=y_pred, labels=labels)}
        for name, (epoch, y_pred) in outcome["selected"].items()
    }
    arrays = {f"{name}_pred": y_pred.astype(np.int16) for name, (_, y_pred) in outcome["selected"].items()}
    with atomic(folder / "predictions.npz") as part, part.open("wb") as file:
        ids = np.array(splits["test"].ids)
        np.savez_compressed(file, ids=ids, y_true=y_true.astype(np.int16), **arrays, **outcome["arrays"])
    present = {m: dataset.features[a].passport.summary() for m, a in run.arrays.items() if a in dataset.features}
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    result = {
        "id": run.id, "corpus": run.corpus, "data": run.data, "seed": run.seed, "fold": run.fold, "recipe": recipe,
        "labels": labels, "features": {m: present.get(m, "absent") for m in run.arrays}, "n": int((y_true >= 0).sum()),
        "selected": selected, "history": outcome["history"], "seconds": round(outcome["seconds"], 1),
        "parameters": outcome["parameters"], "peak_memory_mb": round(peak / 2**20), "device": _device_name(device),
        "torch": torch.__version__, "commit": commit(),
    }  # fmt: skip
    with atomic(folder / "run.json") as part:
        part.write_text(json.dumps(result, indent=1))
    (folder / "checkpoint.pt").unlink(missing_ok=True)


class TestObserver:
    """Scores the test split after every epoch and keeps the predictions at its peak; `fit` cannot see any of it."""

    def __init__(self, test: batches.Dialogues, labels: tuple[str, ...], *, batch: int | None, precision: str):
        self.test, self.labels, self.batch, self.precision = test, labels, batch, precision
        self.state: dict[str, Any] = {"epoch": -1, "score": -1.0, "y_pred": torch.empty(0)}

    def __call__(self, epoch: int, model: torch.nn.Module) -> dict[str, float]:
        y_pred = training.predict(model, self.test, batch=self.batch, precision=self.precision)["logits"].argmax(-1)
        found = metrics.scores(y_true=self.test.label.cpu().numpy(), y_pred=y_pred.cpu().numpy(), labels=self.labels)
        if found["weighted_f1"] > self.state["score"]:
            self.state.update(epoch=epoch, score=found["weighted_f1"], y_pred=y_pred)
        return {"test/accuracy": found["accuracy"], "test/weighted_f1": found["weighted_f1"]}


def _fit_network(run: Run, splits, labels, folder: Path, device: str, progress: bool, label: str) -> dict[str, Any]:
    recipe = run.recipe
    torch.manual_seed(run.seed)
    speakers = 1 + max(int(split.speaker.max()) for split in splits.values())
    model = models.build(
        recipe["model"], dims=batches.dims(splits["train"]), classes=len(labels), speakers=speakers
    ).to(device)
    known = splits["train"].label[splits["train"].label >= 0]
    loss = build_loss(recipe["loss"], class_counts=torch.bincount(known, minlength=len(labels))).to(device)
    whole = not recipe["model"].get("mask_padding", True)
    seen = {"batch": recipe["train"]["batch"] if whole else None, "precision": recipe["train"]["precision"]}
    observer = TestObserver(splits["test"], labels, **seen)
    done = training.fit(
        model, loss, splits["train"], splits["val"], recipe=recipe["train"], labels=labels, seed=run.seed, observer=observer,
        checkpoint=folder / "checkpoint.pt", checkpoint_seconds=CHECKPOINT_SECONDS,
        whole_batches=whole, progress=progress, label=label,
    )  # fmt: skip
    model.load_state_dict(done.best_state)
    outputs = training.predict(model, splits["test"], **seen)
    selected = {"val": (done.best_epoch, outputs["logits"].argmax(-1).cpu().numpy())}
    selected["test_peak"] = (observer.state["epoch"], observer.state["y_pred"].cpu().numpy())
    arrays = {"embedding": outputs["embedding"], "probability": outputs["logits"].softmax(-1)}
    return {
        "selected": selected, "history": done.history, "seconds": done.seconds,
        "arrays": {k: v.half().cpu().numpy() for k, v in arrays.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def _fit_estimator(run: Run, splits) -> dict[str, Any]:
    began = time.monotonic()
    estimator = models.build_estimator(run.recipe["model"], seed=run.seed)
    x, y = {}, {}
    for name in ("train", "test"):
        x[name] = torch.cat(list(splits[name].features.values()), dim=-1).cpu().numpy()
        y[name] = splits[name].label.cpu().numpy()
    estimator.fit(x["train"][y["train"] >= 0], y["train"][y["train"] >= 0])
    y_pred = estimator.predict(x["test"])
    return {
        "selected": {"val": (0, y_pred), "test_peak": (0, y_pred)}, "history": [], "arrays": {},
        "seconds": time.monotonic() - began, "parameters": 0,
    }  # fmt: skip


@cache
def _dataset(data: str, corpus: str, arrays: tuple[str, ...]) -> roots.Dataset:
    there = roots.arrays(data, corpus)
    return roots.dataset(data, corpus, features=[name for name in arrays if name in there])


@cache
def _digest(dataset: roots.Dataset) -> str:
    """A hash of what a fit reads of the utterance table."""
    columns = dataset.corpus.table[["utterance", "dialogue", "speaker", "label", "split"]]
    return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()[:16]


@cache
def code_digest(module: str) -> str:
    """A hash of a module's code and of all merlib modules it imports, with the shared training code; comments do not count."""
    todo, seen = [module, *SHARED_CODE], {}
    while todo:
        name = todo.pop()
        path = PACKAGE.parent / Path(*name.split(".")).with_suffix(".py")
        if name in seen or not path.exists() or name.startswith(("merlib.features", "merlib.corpora")):
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("merlib"):
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        seen[name] = ast.dump(tree)
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]


def _device_name(device: str) -> str:
    return (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    )
