"""Runs: one recipe on one corpus with one seed, trained once, resumable, kept in `results/cache/runs/<id>`.

A run's identity is the hash of all that determines its numbers: recipe, corpus and split, feature values, seed, fold,
and the code of the network it trains, with the weights that it starts from. Two batches never train the same run at
once; a run killed at any moment resumes from its checkpoint. Processes that a launcher started together train it
together, and the main one writes.

`run.json` (recipe, scores of both selections, history of every epoch) is written last and marks a finished run; beside
it, `predictions.npz` holds ids, labels, predictions, and the probabilities and embeddings of the val-selected network
on the test split. Where the protocol masks inputs at test time, the network is kept too (`network.safetensors`), and
`masked_*.json` holds the scores.
"""

import ast
import hashlib
import json
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from tqdm.auto import tqdm

from merlib import batches, distributed, fitting, inputs, losses, masking, metrics, models, training
from merlib.corpora import official
from merlib.corpora import splits as protocols
from merlib.corpora.files import atomic
from merlib.distributed import Processes
from merlib.features import roots, store
from merlib.models import starting_weights
from merlib.places import commit, results_folder
from merlib.prediction import predict

PACKAGE = Path(__file__).parent
SHARED_CODE = ("merlib.fitting", "merlib.inputs")  # and what they import: training, batches, metrics, prediction
# of protocol; no training reads them
AFTER = (
    "select",
    "average",
    "mask_modality",
    "mask_percent",
    "mask_unit",
    "mask_noise",
)


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
        split = protocols.assign(self.dataset.corpus.table, self.recipe["protocol"], self.fold)
        return _hash(f"{self.recipe_id} {self.seed} {self.fold} {''.join(s[1] for s in split)}")

    @property
    def recipe_id(self) -> str:
        """What its runs share, whatever seed and fold: recipe, corpus, features, starting weights and code."""
        dataset = self.dataset
        modules = [models.module_of(self.recipe["model"]["name"])]
        modules += [losses.module_of(self.recipe["loss"]["name"])]
        determines = self.recipe | {
            "protocol": {k: v for k, v in self.recipe["protocol"].items() if k not in AFTER},
            "corpus": _digest(dataset),
            "features": {name: feature.passport.sha256 for name, feature in dataset.features.items()},
            "weights": starting_weights.digests(self.recipe["model"], self.arrays),
            "code": code_digest(*modules, *SHARED_CODE),
        }
        return _hash(json.dumps(determines, sort_keys=True))

    @property
    def arrays(self) -> dict[str, str]:
        """modality -> the feature array that the recipe names for it."""
        return inputs.arrays(self.recipe["data"])

    @property
    def judge(self) -> metrics.Judge:
        """How the run is scored: `data.classes` of the corpus's labels where given, `protocol.select_metric`."""
        corpus, protocol = self.dataset.corpus, self.recipe["protocol"]
        return metrics.Judge(
            labels=corpus.labels[: self.recipe["data"].get("classes")], select=protocol["select_metric"],
            sentiment=corpus.name in official.SENTIMENT, binary=protocol.get("binary", "nonnegative"),
        )  # fmt: skip

    def splits(self, device: str = "cpu") -> dict[str, batches.Split]:
        """train, val and test as the run sees them."""
        sections = {"data": self.recipe["data"], "protocol": self.recipe["protocol"]}
        return inputs.splits(self.dataset, **sections, fold=self.fold, device=device)

    @property
    def dataset(self) -> roots.Dataset:
        """The corpus with those of the recipe's arrays that the data root has."""
        found = _dataset(
            self.data, self.corpus, (*self.arrays.values(), *inputs.augmented(self.recipe["data"]).values())
        )
        for modality, name in self.arrays.items():
            if name in found.features and (kept := found.features[name].passport).modality != modality:
                raise store.FeatureError(
                    f"{self.data}/{self.corpus}: data.{modality} is the array {name!r}, which holds {kept.summary()}"
                )
        return found

    @property
    def folder(self) -> Path:
        return results_folder("cache") / "runs" / self.id


def execute(run: Run, *, device: str | None = None, progress: bool = True, label: str = "run") -> dict[str, Any]:
    """The result of a run (run.json): from the cache, or trained now. Two batches never train the same run at once.

    Where the protocol masks a modality at test time, `selected` holds the scores under the mask. Processes that were
    launched together (`distributed.join`) all call this, for the same runs in the same order, and all get the result.
    """
    training.make_deterministic()
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
    _forget_peak(device)
    dataset, recipe, judge = run.dataset, run.recipe, run.judge
    read = {m: dataset.features[a] for m, a in run.arrays.items() if a in dataset.features}
    starting_weights.check(recipe["model"], {m: feature.layers_above for m, feature in read.items()})
    estimator = models.is_estimator(recipe["model"]["name"])
    if estimator and not processes.main:
        return
    splits = run.splits(device)
    if estimator:
        outcome = fitting.fit_estimator(recipe, splits, judge, seed=run.seed)
    else:
        outcome = fitting.fit_network(
            recipe, splits, judge, seed=run.seed, folder=folder, device=device, progress=progress, label=label,
            processes=processes,
        )  # fmt: skip
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
    result = {
        "id": run.id, "corpus": run.corpus, "data": run.data, "seed": run.seed, "fold": run.fold, "recipe": recipe,
        "labels": judge.labels,
        "features": {m: read[m].passport.summary() if m in read else "absent" for m in batches.MODALITIES},
        "n": int((arrays["y_true"] >= 0).sum()),
        "selected": {
            name: fitting.selection(judge, test, *found, outcome["history"])
            for name, found in outcome["selected"].items()
        },
        "history": outcome["history"], "seconds": round(outcome["seconds"], 1), "parameters": outcome["parameters"],
        "peak_memory_mb": _peak_memory_mb(device), "torch": torch.__version__, "commit": commit(),
        "device": _device_name(device, 1 if estimator else processes.count),
    }  # fmt: skip
    with atomic(folder / "run.json") as part:
        part.write_text(json.dumps(result, indent=1))
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _masked(run: Run, folder: Path, device: str) -> dict[str, Any]:
    """The val-selected network's scores on test inputs of which a share is noise."""
    protocol = run.recipe["protocol"]
    asked = {name.removeprefix("mask_"): protocol[name] for name in AFTER if name.startswith("mask_")}
    cached = folder / f"masked_{'_'.join(map(str, asked.values()))}_{code_digest('merlib.masking')}.json"
    if not cached.exists():
        splits, judge = run.splits(device), run.judge
        model = models.build(run.recipe["model"], **fitting.given(splits, judge)).to(device)
        model.load_state_dict(load_file(folder / "network.safetensors", device=device))
        test = masking.masked(splits["test"], splits["train"], **asked, seed=run.seed)
        outputs = predict(model, test, precision=run.recipe["train"]["precision"])
        history = json.loads((folder / "run.json").read_text())
        epoch = history["selected"]["val"]["epoch"]
        found = fitting.selection(judge, test, epoch, judge.predictions(outputs), history["history"])
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
    """A hash of the modules' code and of all merlib modules they import; comments do not count.

    How corpora and features are read is left out: what they hold is in a run's id itself.
    """
    todo, seen = list(modules), {}
    while todo:
        name = todo.pop()
        path = PACKAGE.parent / Path(*name.split(".")).with_suffix(".py")
        read = name.startswith(("merlib.features", "merlib.corpora")) and name != "merlib.corpora.official"
        if name in seen or not path.exists() or read:
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


def _forget_peak(device: str) -> None:
    """From here on the peak of memory counts anew (where the system forbids it, that of the process stands)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb(device: str) -> int:
    """On a GPU what tensors have taken, on a CPU what the process has."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _device_name(device: str, count: int) -> str:
    on_cpu = f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    return f"{count} x " * (count > 1) + (torch.cuda.get_device_name() if device == "cuda" else on_cpu)
