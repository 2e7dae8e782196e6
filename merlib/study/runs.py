"""Runs: one recipe on one corpus with one seed, trained once, resumable, kept in `results/cache/runs/<id>`.

`identity` says what a run is known by. Two batches never train the same run at once; a run killed at any moment resumes
from its checkpoint.

`run.json` (recipe, scores of both selections, history of every epoch) is written last and marks a finished run; beside
it, `predictions.npz` holds ids, labels, predictions, and the probabilities and embeddings of the val-selected network
on the test split. Where the protocol masks inputs at test time, or the network is an encoder whose vectors others read,
its weights are kept too (`network.safetensors`); `masked_*.json` holds scores under masks. Every file is sealed
(`merlib.files`): one that is not as it was written for this run is set aside, and what it held is computed again.
"""

import json
import os
import platform
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from tqdm.auto import tqdm

from merlib import registry
from merlib.data import batches, folders, inputs, masking, official, store
from merlib.data import splits as protocols
from merlib.files import atomic, discard, is_sound
from merlib.places import TWINS, commit, run_folder
from merlib.study import identity
from merlib.training import fitting, loop, metrics
from merlib.training.prediction import has_bf16, predict

CAPS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")  # variables that forbid instructions
MEMORY = "run fewer jobs at once, lower train.batch, or take a corpus with fewer utterances"  # what needs less of it


@dataclass(frozen=True)
class Run:
    """One training: a recipe on a corpus of a data root, with a seed and a fold."""

    recipe: dict[str, dict]
    corpus: str
    data: str
    seed: int
    fold: int = 0

    @cached_property
    def id(self) -> str:
        own = [feature.passport.sha256 for name, feature in self.dataset.features.items() if name in self._own]
        return identity.of_run(self.recipe_id, self.seed, self.fold, self.split.tolist(), own)

    @cached_property
    def split(self) -> np.ndarray:
        """train, val or test for every utterance of the corpus (u)."""
        return protocols.assign(self.dataset.corpus.table, self.recipe["protocol"], self.fold)

    @cached_property
    def recipe_id(self) -> str:
        return identity.of_recipe(self.recipe, self.dataset, self.arrays, self._own)

    @property
    def data_section(self) -> dict[str, Any]:
        """The section `data` of the recipe, with the arrays of this seed and fold."""
        return inputs.resolved(self.recipe["data"], seed=self.seed, fold=self.fold)

    @property
    def arrays(self) -> dict[str, str]:
        """modality -> the feature array that the run reads for it."""
        return inputs.arrays(self.data_section)

    @property
    def _own(self) -> set[str]:
        """The arrays that are made for this seed and fold."""
        return set(self.arrays.values()) - set(inputs.arrays(self.recipe["data"]).values())

    @property
    def judge(self) -> metrics.Judge:
        """How the run is scored: `data.classes` of the corpus's labels where given, `protocol.select_metric`."""
        corpus, protocol = self.dataset.corpus, self.recipe["protocol"]
        return metrics.Judge(
            labels=corpus.labels[: self.recipe["data"].get("classes")], select=protocol["select_metric"],
            sentiment=corpus.name in official.SENTIMENT, binary=protocol.get("binary", "nonnegative"),
        )  # fmt: skip

    def splits(self, device: str = "cpu", *, mask: dict[str, Any] | None = None) -> dict[str, batches.Split]:
        """train, val and test as the network reads them. mask: of the noise that test has, see `masking.masked`."""
        protocol = self.recipe["protocol"]
        parts = inputs.splits(self.dataset, data=self.data_section, protocol=protocol, fold=self.fold, device=device)
        if mask:
            parts["test"] = masking.masked(parts["test"], parts["train"], **mask, seed=self.seed)
        pooled = registry.is_pooled(self.recipe["model"]["name"])
        return {name: part.pooled() for name, part in parts.items()} if pooled else parts

    def labelled_counts(self) -> dict[str, int]:
        """How many utterances of train, val and test have a label that counts."""
        protocol = self.recipe["protocol"]
        return inputs.labelled_counts(self.dataset, data=self.data_section, protocol=protocol, fold=self.fold)

    def whole(self, device: str = "cpu") -> batches.Utterances:
        """Every utterance of the corpus in table order, labelled or not, of a recipe that reads utterances."""
        protocol = self.recipe["protocol"]
        return inputs.whole(self.dataset, data=self.data_section, protocol=protocol, fold=self.fold, device=device)

    @cached_property
    def dataset(self) -> folders.Dataset:
        """The corpus with those of the recipe's arrays that the data root has."""
        named = (*self.arrays.values(), *inputs.augmented(self.data_section).values())
        dataset = _dataset(self.data, self.corpus, named)
        for modality, name in self.arrays.items():
            if name in dataset.features and (passport := dataset.features[name].passport).modality != modality:
                where = f"{self.data}/{self.corpus}: data.{modality}"
                raise store.FeatureError(f"{where} is the array {name!r}, which holds {passport.summary()}")
        return dataset

    @property
    def folder(self) -> Path:
        return run_folder(self.id)

    @property
    def finished(self) -> bool:
        """Whether all files of the run are in the cache as they were written."""
        names = ["run.json", "predictions.npz"]
        if fitting.keeps_weights(self.recipe):
            names.append("network.safetensors")
        return all(is_sound(self.folder / name) for name in names)


def execute(
    run: Run, *, device: str | None = None, progress: bool = True, label: str = "run", wait: bool = True
) -> dict[str, Any] | None:
    """The result of a run (run.json): from the cache, or trained now. Two batches never train the same run at once:
    the second one waits for the first one's result or, without `wait`, gets None.

    device: "cpu" or "cuda"; by default a GPU where there is one. Where the protocol masks a modality at test time,
    `selected` holds the scores under the mask.
    """
    folder, device = run.folder, device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        acquired = lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            return None
        tqdm.write(f"{label}: another batch trains this run ({run.id}); waiting for it", file=sys.stderr)
        acquired = lock.acquire()
    with acquired, loop.memory_for(f"{label}, seed {run.seed}, fold {run.fold}", MEMORY):
        if not run.finished:
            _train(run, folder, device, progress, label)
        result = json.loads((folder / "run.json").read_text())
        if run.recipe["protocol"].get("mask_percent", 0):
            result["selected"] = {"val": _masked(run, folder, device)}
        return result


def probe(run: Run, *, device: str) -> dict[str, Any]:
    """The seconds of all epochs of a network's run, by a few steps on one thread, its peak memory in MB, the device."""
    loop.make_deterministic()
    torch.set_num_threads(1)  # as the jobs of a batch
    _forget_peak(device)
    with loop.memory_for(f"a probe of seed {run.seed}, fold {run.fold}", MEMORY):
        seconds = fitting.seconds_of_fit(run.recipe, run.splits(device), run.judge, device=device)
    return {"seconds": round(seconds, 1), "memory_mb": _peak_memory_mb(device), "device": _name(device, run.recipe)}


def _train(run: Run, folder: Path, device: str, progress: bool, label: str) -> None:
    loop.make_deterministic()
    if run.data in TWINS:
        torch.set_num_threads(1)  # networks this small are slower with more, which notebooks have by default
    _forget_peak(device)
    dataset, recipe, judge = run.dataset, run.recipe, run.judge
    read = {m: dataset.features[a] for m, a in run.arrays.items() if a in dataset.features}
    splits = run.splits(device)
    if registry.is_estimator(recipe["model"]["name"]):
        left = fitting.fit_estimator(recipe, splits, judge, seed=run.seed)
    else:
        if not _as_asked(recipe, device):
            told = "this processor does not compute in bf16, so the forward pass is in float32, which records will say"
            tqdm.write(f"{label}: {told}", file=sys.stderr)
        fitting.check_states(recipe["model"], {m: feature.passport for m, feature in read.items()})
        where = {"folder": folder, "device": device, "progress": progress, "label": label}
        left = fitting.fit_network(recipe, splits, judge, seed=run.seed, **where)
    y_true = _write_predictions(folder, splits["test"], left)
    result = {
        "id": run.id, "corpus": run.corpus, "data": run.data, "seed": run.seed, "fold": run.fold, "recipe": recipe,
        "labels": judge.labels,
        "features": {m: read[m].passport.summary() if m in read else "absent" for m in store.MODALITIES},
        "n": int((y_true >= 0).sum()),
        "selected": {
            name: fitting.selection(judge, splits["test"], *chosen, left["history"])
            for name, chosen in left["selected"].items()
        },
        "history": left["history"], "seconds": round(left["seconds"], 1), "parameters": left["parameters"],
        "peak_memory_mb": _peak_memory_mb(device), "torch": torch.__version__, "commit": commit(),
        "device": _name(device, recipe),
    }  # fmt: skip
    with atomic(folder / "run.json", sealed=True) as part:
        part.write_text(json.dumps(result, indent=1))
    discard(folder / "checkpoint.pt")


def _write_predictions(folder: Path, test: batches.Split, left: dict[str, Any]) -> np.ndarray:
    """Returns the true labels, -1 where there is none."""
    arrays = {"ids": np.array(test.ids)} | {f"y_{k}": v.cpu().numpy() for k, v in test.target.items()} | left["arrays"]
    arrays["y_true"] = arrays.pop("y_label").astype(np.int16)
    for name, (_, predicted) in left["selected"].items():
        arrays |= {f"{name}_pred" if k == "class" else f"{name}_{k}": v for k, v in predicted.items()}
    with atomic(folder / "predictions.npz", sealed=True) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return arrays["y_true"]


def _name(device: str, recipe: dict[str, dict]) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    return name if _as_asked(recipe, device) else f"{name}, float32 for bf16"


def _as_asked(recipe: dict[str, dict], device: str) -> bool:
    """Whether the device computes in the precision of the recipe, which an estimator does not read."""
    reads = not registry.is_estimator(recipe["model"]["name"])
    return not (reads and recipe["train"]["precision"] == "bf16") or has_bf16(device)


def processor() -> str:
    """The processor and the instructions that PyTorch computes with, on which the last digits of a number depend."""
    found = torch.cpu.get_capabilities()
    instructions = torch.backends.cpu.get_cpu_capability() + " AMX" * bool(found.get("amx_bf16"))
    name, threads = found.get("cpu_name", platform.machine()), torch.get_num_threads()
    capped = [f"{cap}={os.environ[cap]}" for cap in CAPS if cap in os.environ]
    return ", ".join([f"CPU, {threads} threads, {name}, {instructions}", *capped])


def network(run: Run, device: str) -> torch.nn.Module:
    """The val-selected network of a finished run that keeps its weights, to compute with by the kernels of training."""
    loop.make_deterministic()
    model = registry.build("model", run.recipe["model"], **fitting.given(run.splits(device), run.judge)).to(device)
    model.load_state_dict(load_file(run.folder / "network.safetensors", device=device))
    return model


def _masked(run: Run, folder: Path, device: str) -> dict[str, Any]:
    protocol = run.recipe["protocol"]
    mask = {name: protocol[f"mask_{name}"] for name in ("modality", "percent", "unit", "noise")}
    cached = folder / f"masked_{'_'.join(map(str, mask.values()))}_{masking.VERSION}.json"
    if not is_sound(cached):
        test, judge, model = run.splits(device, mask=mask)["test"], run.judge, network(run, device)
        outputs = predict(model, test, precision=run.recipe["train"]["precision"])
        result = json.loads((folder / "run.json").read_text())
        epoch = result["selected"]["val"]["epoch"]
        scored = fitting.selection(judge, test, epoch, judge.predictions(outputs), result["history"])
        with atomic(cached, sealed=True) as part:
            part.write_text(json.dumps(scored, indent=1))
    return json.loads(cached.read_text())


@cache
def _dataset(data: str, corpus: str, arrays: tuple[str, ...]) -> folders.Dataset:
    present = folders.arrays(data, corpus)
    return folders.dataset(data, corpus, features=[name for name in arrays if name in present])


def _forget_peak(device: str) -> None:
    """From here on the peak of memory counts anew (where the system forbids it, that of the process stands)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb(device: str) -> int:
    """On a GPU what tensors have taken, on a CPU what the process has."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
