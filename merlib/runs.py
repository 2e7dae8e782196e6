"""Runs: one recipe on one corpus with one seed, trained once, resumable, kept in `results/cache/runs/<id>`.

A run's identity is the hash of all that determines its numbers: recipe, corpus and split, feature values, seed, fold, and the code of
the network it trains, with the weights that it starts from. Two batches never train the same run at once; a run killed at any moment
resumes from its checkpoint. Processes that a launcher started together train it together, and the main one writes.

`run.json` (recipe, scores of both selections, history of every epoch) is written last and marks a finished run; beside it,
`predictions.npz` holds ids, labels, predictions, and the probabilities and embeddings of the val-selected network on the test split.
Where the protocol masks inputs at test time, the network is kept too (`network.safetensors`), and `masked_*.json` holds the scores.
"""

import ast
import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from sklearn.base import is_regressor
from tqdm.auto import tqdm

from merlib import batches, distributed, losses, masking, metrics, models, training
from merlib.corpora import official
from merlib.corpora import splits as protocols
from merlib.corpora.files import atomic
from merlib.distributed import Processes
from merlib.features import roots
from merlib.models import starting_weights
from merlib.places import commit, results_folder

PACKAGE = Path(__file__).parent
SHARED_CODE = ("merlib.training", "merlib.batches", "merlib.metrics")
AFTER = ("select", "average", "mask_modality", "mask_percent", "mask_unit")  # leaves of protocol that no training reads
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
        modules = [models.module_of(self.recipe["model"]["name"])]
        modules += [losses.module_of(self.recipe["loss"]["name"])]
        determines = self.recipe | {
            "protocol": {k: v for k, v in self.recipe["protocol"].items() if k not in AFTER},
            "corpus": _digest(dataset),
            "split": _hash(
                "".join(s[1] for s in protocols.assign(dataset.corpus.table, self.recipe["protocol"], self.fold))
            ),
            "features": {name: feature.passport.sha256 for name, feature in dataset.features.items()},
            "weights": starting_weights.digests(self.recipe["model"], self.arrays),
            "code": code_digest(*modules),
            "seed": self.seed,
            "fold": self.fold,
        }
        return _hash(json.dumps(determines, sort_keys=True))

    @property
    def arrays(self) -> dict[str, str]:
        """modality -> the feature array that the recipe names for it."""
        return batches.arrays(self.recipe["data"])

    @property
    def judge(self) -> metrics.Judge:
        """How the run is scored: `data.classes` of the corpus's labels where that is given, `protocol.select_metric`."""
        corpus, protocol = self.dataset.corpus, self.recipe["protocol"]
        return metrics.Judge(
            labels=corpus.labels[: self.recipe["data"].get("classes")], select=protocol["select_metric"],
            sentiment=corpus.name in official.SENTIMENT, binary=protocol.get("binary", "nonnegative"),
        )  # fmt: skip

    def splits(self, device: str = "cpu") -> dict[str, batches.Split]:
        """train, val and test as the run sees them."""
        sections = {"data": self.recipe["data"], "protocol": self.recipe["protocol"]}
        return batches.splits(self.dataset, **sections, fold=self.fold, device=device)

    @property
    def dataset(self) -> roots.Dataset:
        """The corpus with those of the recipe's arrays that the data root has."""
        return _dataset(self.data, self.corpus, (*self.arrays.values(), *batches.augmented(self.recipe["data"]).values()))

    @property
    def folder(self) -> Path:
        return results_folder("cache") / "runs" / self.id


def execute(run: Run, *, device: str | None = None, progress: bool = True, label: str = "run") -> dict[str, Any]:
    """The result of a run (run.json): from the cache, or trained now. Two batches never train the same run at once.

    Where the protocol masks a modality at test time, `selected` holds the scores under the mask. Processes that were launched
    together (`distributed.join`) all call this, for the same runs in the same order, and all get the result.
    """
    folder, device = run.folder, distributed.device_of(device)
    processes = distributed.join(device)
    result = None
    with _locked(folder, f"{label}: another batch trains this run ({run.id}); waiting for it", processes):
        done = folder / "run.json"
        if not processes.agree(done.exists()):
            _train(run, folder, device, progress and processes.main, label, processes)
        if processes.main:
            result = json.loads(done.read_text())
            if run.recipe["protocol"].get("mask_percent", 0):
                result["selected"] = {"val": _masked(run, folder, device)}
        return processes.agree(result)


@contextmanager
def _locked(folder: Path, waiting: str, processes: Processes) -> Iterator[None]:
    """The main process holds the folder's lock; the others go by its word."""
    if not processes.main:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(waiting, file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _train(run: Run, folder: Path, device: str, progress: bool, label: str, processes: Processes) -> None:
    training.make_deterministic()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    dataset, recipe, judge = run.dataset, run.recipe, run.judge
    estimator = models.is_estimator(recipe["model"]["name"])
    if estimator and not processes.main:
        return
    splits = run.splits(device)
    if estimator:
        outcome = _fit_estimator(run, splits, judge)
    else:
        outcome = _fit_network(run, splits, judge, folder, device, progress, label, processes)
    if not processes.main:
        return
    test = splits["test"]
    arrays = (
        {"ids": np.array(test.ids)} | {f"y_{k}": v.cpu().numpy() for k, v in test.target.items()} | outcome["arrays"]
    )
    arrays["y_true"] = arrays.pop("y_label").astype(np.int16)
    for name, (_, predicted) in outcome["selected"].items():
        arrays |= {f"{name}_pred" if k == "class" else f"{name}_{k}": v for k, v in predicted.items()}
    with atomic(folder / "predictions.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    present = {m: dataset.features[a].passport.summary() for m, a in run.arrays.items() if a in dataset.features}
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    result = {
        "id": run.id, "corpus": run.corpus, "data": run.data, "seed": run.seed, "fold": run.fold, "recipe": recipe,
        "labels": judge.labels, "features": {m: present.get(m, "absent") for m in batches.MODALITIES},
        "n": int((arrays["y_true"] >= 0).sum()),
        "selected": {n: _selection(judge, test, *found, outcome["history"]) for n, found in outcome["selected"].items()},
        "history": outcome["history"], "seconds": round(outcome["seconds"], 1),
        "parameters": outcome["parameters"], "peak_memory_mb": round(peak / 2**20), "device": _device_name(device, 1 if estimator else processes.count),
        "torch": torch.__version__, "commit": commit(),
    }  # fmt: skip
    with atomic(folder / "run.json") as part:
        part.write_text(json.dumps(result, indent=1))
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _selection(
    judge, test: batches.Split, epoch: int, predicted: metrics.Predictions, history: list[dict]
) -> dict[str, Any]:
    """What is recorded of one selection: epoch, scores on test and on val, and the classes that it never predicts."""
    y_true = test.label.cpu().numpy()
    val = {k.removeprefix("val/"): v for k, v in history[epoch].items() if k.startswith("val/")} if history else {}
    never = metrics.never_predicted(y_true=y_true, y_pred=predicted["class"], labels=judge.labels)
    return {"epoch": epoch, "never_predicted": never, "scores": judge.scores(test.target, predicted), "val_scores": val}


class TestObserver:
    """Scores the test split after every epoch and keeps the predictions at its peak; `fit` cannot see any of it."""

    def __init__(
        self, test: batches.Split, judge: metrics.Judge, *, batch: int | None, precision: str, processes: Processes
    ):
        self.test, self.judge = test, judge
        self.how = {"batch": batch, "precision": precision, "processes": processes}
        self.state: dict[str, Any] = {"epoch": -1, "worth": -float("inf"), "predicted": {}}

    def __call__(self, epoch: int, model: torch.nn.Module) -> dict[str, float]:
        predicted = self.judge.predictions(training.predict(model, self.test, **self.how))
        found = self.judge.scores(self.test.target, predicted)
        if self.judge.worth(found) > self.state["worth"]:
            kept = {name: torch.from_numpy(values) for name, values in predicted.items()}
            self.state.update(epoch=epoch, worth=self.judge.worth(found), predicted=kept)
        return {f"test/{name}": value for name, value in metrics.headline(found).items()}


def _fit_network(
    run: Run, splits, judge, folder: Path, device: str, progress: bool, label: str, processes: Processes
) -> dict[str, Any]:
    recipe = run.recipe
    torch.manual_seed(run.seed)
    model = models.build(recipe["model"], **given(run, splits)).to(device)
    known = splits["train"].label[splits["train"].label >= 0]
    counts = torch.bincount(known, minlength=len(judge.labels))
    settled = {"class_counts": counts, "dim": recipe["model"].get("dim"), "sentiment": judge.sentiment}
    loss = losses.build_loss(recipe["loss"], **settled).to(device)
    norms = any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in model.modules())
    whole = splits["train"].unit == "dialogues" and (norms or not recipe["model"].get("mask_padding", True))
    batch = recipe["train"]["batch"] if whole else None
    seen = {"batch": batch, "precision": recipe["train"]["precision"], "processes": processes}
    observer = TestObserver(splits["test"], judge, **seen)
    done = training.fit(
        model, loss, splits["train"], splits["val"], recipe=recipe["train"], judge=judge, seed=run.seed, observer=observer,
        checkpoint=folder / "checkpoint.pt", checkpoint_seconds=CHECKPOINT_SECONDS,
        whole_batches=whole, progress=progress, label=label, processes=processes,
    )  # fmt: skip
    model.load_state_dict(done.best_state)
    if "mask_percent" in recipe["protocol"] and processes.main:
        with atomic(folder / "network.safetensors") as part:
            save_file({name: value.contiguous() for name, value in done.best_state.items()}, part)
    outputs = training.predict(model, splits["test"], **seen)
    peak = {name: values.cpu().numpy() for name, values in observer.state["predicted"].items()}
    selected = {"val": (done.best_epoch, judge.predictions(outputs)), "test_peak": (observer.state["epoch"], peak)}
    shown = ("weights", "variance")  # of HFF's level 1, for its figures
    arrays = {name: value for name, value in outputs.items() if name.endswith("embedding") or name in shown}
    arrays["probability"] = outputs["logits"].softmax(-1)
    return {
        "selected": selected, "history": done.history, "seconds": done.seconds,
        "arrays": {k: v.half().cpu().numpy() for k, v in arrays.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def given(run: Run, splits) -> dict[str, Any]:
    """What the data settle for a network: see `models.build`."""
    train, judge = splits["train"], run.judge
    settled = {"dims": batches.dims(train), "classes": len(judge.labels), "sentiment": judge.sentiment}
    if train.unit == "dialogues":
        return settled | {"speakers": 1 + max(int(split.speaker.max()) for split in splits.values())}
    steps = {m: max(int(split.steps[m].max()) for split in splits.values()) for m in train.features}
    return settled | {"steps": steps, "speakers": 1}


def _fit_estimator(run: Run, splits, judge) -> dict[str, Any]:
    began = time.monotonic()
    estimator = models.build_estimator(run.recipe["model"], seed=run.seed)
    regression = is_regressor(estimator)
    known = (splits["train"].label >= 0).cpu().numpy()
    y = splits["train"].target["score" if regression else "label"].cpu().numpy()
    estimator.fit(splits["train"].pooled().cpu().numpy()[known], y[known])
    predicted = {}
    for name in ("val", "test"):
        found = estimator.predict(splits[name].pooled().cpu().numpy())
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


def _masked(run: Run, folder: Path, device: str) -> dict[str, Any]:
    """The val-selected network's scores on test inputs of which a share is noise."""
    protocol = run.recipe["protocol"]
    asked = {name.removeprefix("mask_"): protocol[name] for name in ("mask_modality", "mask_percent", "mask_unit")}
    cached = folder / f"masked_{'_'.join(map(str, asked.values()))}.json"
    if not cached.exists():
        splits = run.splits(device)
        model = models.build(run.recipe["model"], **given(run, splits)).to(device)
        model.load_state_dict(load_file(folder / "network.safetensors", device=device))
        test = masking.masked(splits["test"], splits["train"], **asked, seed=run.seed)
        outputs = training.predict(model, test, precision=run.recipe["train"]["precision"])
        history = json.loads((folder / "run.json").read_text())
        epoch, judge = history["selected"]["val"]["epoch"], run.judge
        found = _selection(judge, test, epoch, judge.predictions(outputs), history["history"])
        with atomic(cached) as part:
            part.write_text(json.dumps(found, indent=1))
    return json.loads(cached.read_text())


@cache
def _dataset(data: str, corpus: str, arrays: tuple[str, ...]) -> roots.Dataset:
    there = roots.arrays(data, corpus)
    return roots.dataset(data, corpus, features=[name for name in arrays if name in there])


@cache
def _digest(dataset: roots.Dataset) -> str:
    """A hash of what a fit reads of the utterance table."""
    columns = dataset.corpus.table[["utterance", "dialogue", "speaker", "label", "split", "score"]]
    return _hash(columns.to_csv(index=False))


@cache
def code_digest(*modules: str) -> str:
    """A hash of the modules' code and of all merlib modules they import, with the shared training code; comments do not count."""
    todo, seen = [*modules, *SHARED_CODE], {}
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
    return _hash(json.dumps(seen, sort_keys=True))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _device_name(device: str, count: int) -> str:
    on_cpu = f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    return f"{count} x " * (count > 1) + (torch.cuda.get_device_name() if device == "cuda" else on_cpu)
