"""Several processes train as one: the same losses and weights, whatever the loss compares and however the shares fall
out.

Run as a script with a folder, this file is one of the processes: it trains every case and saves what it has.
"""

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import tiny_study
import torch
from torch import nn

from merlib import batches, distributed, inputs, losses, prediction, training
from merlib.corpora import twin
from merlib.features.roots import Dataset
from merlib.features.store import Feature
from merlib.metrics import Judge
from merlib.models.baselines.subnets import normalise

RECIPE = {
    "optimizer": "adamw", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.1, "epochs": 2, "patience": 9,
    "clip": 1.0, "precision": "float32", "schedule": "plateau", "schedule_factor": 0.5, "schedule_every": 0,
}  # fmt: skip
CONTRASTIVE = {"name": "contrastive", "mu_swfc": 0.4, "mu_hgr": 0.3, "tau": 0.8, "alpha": 0.8, "gamma": 2.0}
SIMILAR = {"name": "attsf_net", "task": "cross_entropy", "lambda_a": 0.5, "lambda_v": 0.5, "lambda_t": 0.0,
           "lambda_sim": 0.3, "similarity_eps": 1e-5}  # fmt: skip
CASES = {  # the unit, the loss, and what else
    "weighted mean over dialogues": ("dialogue", {"name": "cross_entropy", "class_weights": "inverse"}, {}),
    "a sum": ("dialogue", {"name": "focal", "class_weights": "balanced", "gamma": 2.0, "reduction": "sum"}, {}),
    "contrastive loss": ("dialogue", CONTRASTIVE | {"variant": "code"}, {}),
    "contrastive loss, weights of the batch": ("dialogue", CONTRASTIVE | {"variant": "paper"}, {}),
    "padding that counts": ("dialogue", {"name": "cross_entropy", "class_weights": "none"}, {"whole_batches": True}),
    "utterances": ("utterance", {"name": "cross_entropy", "class_weights": "inverse"}, {}),
    "statistics of the batch": ("utterance", SIMILAR | {"similarity": "batch"}, {}),
    "a loss that learns": ("utterance", SIMILAR | {"similarity": "learned"}, {}),
}


class Net(nn.Module):
    """A recurrent net with a part that never learns and outputs for every loss; `norms`: with batch norms."""

    def __init__(self, dims: dict[str, int], classes: int, *, norms: bool, sees_padding: bool, dropout: float = 0.0):
        super().__init__()
        self.sees_padding = sees_padding
        self.project = nn.ModuleDict({name: nn.Linear(width, 12) for name, width in dims.items()})
        self.rnn = nn.GRU(24, 12 if sees_padding else 24, batch_first=True, bidirectional=sees_padding)
        self.norm = nn.BatchNorm1d(24) if norms else None
        self.convolve = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1, bias=False), nn.BatchNorm1d(2)) if norms else None
        self.drop = nn.Dropout(dropout)
        self.out, self.unused = nn.Linear(24, classes), nn.Linear(24, classes)

    def forward(self, batch):
        x = {name: part(batch[name]) for name, part in self.project.items()}  # b n d
        h = self.rnn(torch.cat(list(x.values()), -1))[0]
        mask = batch["mask"] if "mask" in batch else batch["text_mask"]
        real = torch.ones_like(mask) if self.sees_padding else mask
        if self.norm is not None:
            z = normalise(self.norm, h[real])
            h = torch.zeros_like(h).masked_scatter(real[..., None], self.convolve(z.unflatten(-1, (2, 12))).flatten(1))
        found = {"logits": self.out(self.drop(h)), "embedding": h, "fused": torch.stack(list(x.values()), -2)}
        found |= {"token": x["text"], "main_audio": x["audio"], "logits_audio": self.out(h)}
        return found if "mask" in batch else {name: value[:, 0] for name, value in found.items()}


@cache
def data(unit: str):
    corpus, arrays = twin.make("meld", scale=0.02)
    dataset = Dataset(corpus, {name: Feature(arrays[name], None) for name in ("text", "audio")})
    asked = {"unit": unit, "modalities": "TA", "standardize": True, "text": "text", "audio": "audio"}
    return corpus.labels, inputs.splits(dataset, data=asked, protocol={"split": "corpus", "validation": "corpus"})


def trained(case: str, processes: distributed.Processes, *, epochs: int = 2, dropout: float = 0.0, **more) -> dict:
    unit, loss, options = CASES[case]
    labels, splits = data(unit)
    total = len(splits["train"])  # the last step has one item, and one process no share of it
    count = next(size for size in range(total // 3, 1, -1) if total % size == 1)
    torch.manual_seed(processes.rank)  # other first weights in each: the main one's count
    sees_padding = "whole_batches" in options
    norms = unit == "utterance" or sees_padding
    model = Net(batches.dims(splits["train"]), len(labels), norms=norms, sees_padding=sees_padding, dropout=dropout)
    counts = torch.bincount(splits["train"].label, minlength=len(labels)).clamp(min=1)
    built = losses.build_loss(loss, class_counts=counts, dim=12, sentiment=False)
    done = training.fit(
        model, built, splits["train"], splits["val"], recipe=RECIPE | {"batch": count, "epochs": epochs}, seed=1,
        judge=Judge(labels, "weighted_f1"), progress=False, processes=processes, **options, **more,
    )  # fmt: skip
    weights = {
        f"{kind}.{k}": v for kind, part in (("model", model), ("loss", built)) for k, v in part.state_dict().items()
    }
    return {"history": done.history, "weights": weights, "best": done.best_state}


def stopped(processes: distributed.Processes, folder: Path) -> dict[str, dict]:
    """A run with dropout, and the same one stopped after its first epoch and resumed."""
    case, keep = "utterances", {"checkpoint": folder / "checkpoint.pt", "checkpoint_seconds": 0.0, "dropout": 0.3}
    trained(case, processes, epochs=1, **keep)
    processes.agree(None)  # the main one has saved
    return {"resumed": trained(case, processes, **keep), "whole": trained(case, processes, dropout=0.3)}


def gathered(processes: distributed.Processes) -> dict[str, torch.Tensor]:
    """Process r brings r + 1 rows of r + 2 steps, all of them r + 1."""
    x = torch.full((processes.rank + 1, processes.rank + 2), processes.rank + 1.0, requires_grad=True)
    found = processes.gather({"x": x, "mask": torch.ones_like(x, dtype=torch.bool)})
    found["x"].square().sum().backward()
    return {name: value.detach() for name, value in found.items()} | {"own": x.detach(), "grad": x.grad}


def port() -> str:
    """A free one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> list[dict[str, dict]]:
    """What each of two processes has of every case."""
    folder = tmp_path_factory.mktemp("together")
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), "WORLD_SIZE": "2"}
    env = os.environ | where | {"PYTHONPATH": str(tiny_study.ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    started = [subprocess.Popen(command, env=env | {"RANK": r, "LOCAL_RANK": r}) for r in "01"]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in "01"]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(together, case, monkeypatch):
    monkeypatch.setitem(prediction.BUCKET, "cpu", 3)
    alone = trained(case, distributed.ONE)
    for found in together:
        assert [row.keys() for row in found[case]["history"]] == [row.keys() for row in alone["history"]]
        for row, expected in zip(found[case]["history"], alone["history"], strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)
        for part in ("weights", "best"):
            torch.testing.assert_close(found[case][part], alone[part], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(v, together[1][case]["weights"][k]) for k, v in together[0][case]["weights"].items())


def test_a_run_of_two_processes_resumes_to_the_same_bits(together):
    for found in together:
        resumed, whole = (found[name]["weights"] for name in ("resumed", "whole"))
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
        assert not torch.equal(whole["model.out.weight"], found["utterances"]["weights"]["model.out.weight"])


def test_what_is_gathered_is_padded_and_only_own_rows_learn(together):
    expected = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
    for found in (one["gathered"] for one in together):
        assert torch.equal(found["x"], expected) and torch.equal(found["mask"], expected > 0)
        assert torch.equal(found["grad"], 2 * found["own"])


def test_launched_processes_write_one_run_and_one_table(tmp_path, monkeypatch):
    monkeypatch.setitem(tiny_study.ROWS, "table2", {"bigru", "majority"})
    tiny_study.declare(tmp_path)
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", port()]
    command = [sys.executable, *launch, "-m", "merlib", "run", "mfcre", "table2", "--device", "cpu"]
    env = tiny_study.environment(tmp_path)
    done = subprocess.run(
        command, check=False, cwd=tiny_study.ROOT, env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("recorded in") == 1 and done.stderr.count("mfcre/table2 on twin: 100%") >= 1
    records = pd.read_csv(tmp_path / "results" / "twin" / "records" / "mfcre" / "table2.csv")
    assert len(list(tmp_path.glob("results/cache/runs/*/run.json"))) == records["run"].nunique() == 2
    by_row = records.groupby("row")["device"].first()
    assert by_row["bigru"].startswith("2 x CPU") and by_row["majority"].startswith("CPU")


def test_without_a_launcher_there_is_one_process_and_accelerate_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)  # importing it fails
    distributed.join.cache_clear()
    assert distributed.join("cpu") is distributed.ONE


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    prediction.BUCKET["cpu"] = 3  # several buckets a batch
    processes = distributed.join("cpu")
    found = {case: trained(case, processes) for case in CASES} | stopped(processes, folder)
    torch.save(found | {"gathered": gathered(processes)}, folder / f"{processes.rank}.pt")
    processes.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
