"""A sixth paper is a folder of declarations, a package with its network, and notebooks: nothing else is edited."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from merlib.places import CHECKOUT

PAPER = """
id = "sixth"
title = "A made-up paper"
authors = "Nobody"
code = "none"
corpora = ["meld"]

[recipe.model]
name = ["mean_fusion", "Sec. 2"]
dim = [8, "Sec. 2"]
[recipe.model.fusion]
name = ["mean", "eq. (1)"]
[recipe.loss]
name = ["plain", "eq. (2)"]
[recipe.train]
optimizer = ["adam", "Sec. 3"]
lr = [0.01, "Sec. 3"]
beta1 = [0.9, "Sec. 3"]
beta2 = [0.999, "Sec. 3"]
weight_decay = [0.0, "Sec. 3"]
batch = [16, "Sec. 3"]
epochs = [1, "Sec. 3"]
patience = [1, "Sec. 3"]
clip = [1.0, "unstated: guards against a step that diverges"]
precision = ["float32", "unstated: PyTorch's default"]
schedule = ["constant", "Sec. 3"]
schedule_factor = [1.0, "Sec. 3"]
schedule_every = [1, "Sec. 3"]
[recipe.data]
unit = ["dialogue", "Sec. 1"]
modalities = ["TA", "Sec. 1"]
text = ["text", "Sec. 1"]
audio = ["audio", "Sec. 1"]
visual = ["visual", "Sec. 1"]
standardize = [true, "unstated: z-scores"]
[recipe.protocol]
split = ["corpus", "Sec. 3"]
select = ["val", "unstated: on validation"]
select_metric = ["weighted_f1", "Sec. 3"]

[readings.validation]
question = "Which dialogues are held out?"
default = "corpus"
why = "unstated"
[readings.validation.options]
corpus = { protocol.validation = "corpus" }
part = { protocol.validation = "random_5_percent" }

[base.logistic.model]
name = ["logistic", "floor"]
c = [1.0, "unstated: scikit-learn's default"]

[twin]
train.epochs = 1
"""
TABLE = """
caption = "Scores of a made-up paper"
where = "Table 1"
[columns.weighted_f1]
metric = "weighted_f1"
label = "W-F1"
[[row]]
id = "ours"
label = "Mean of the modalities"
reported = { weighted_f1 = "61.30" }
[[row]]
id = "wo_fusion"
label = "w/o fusion"
reported = { weighted_f1 = "60.10" }
change = { model.fusion.name = "first" }
[[row]]
id = "logistic"
label = "Floor: logistic regression"
base = "logistic"
"""
PACKAGE = """
\"\"\"A made-up paper.\"\"\"

NETWORKS = {"mean_fusion": "PACKAGE.network:MeanFusion"}
LOSSES = {"plain": "PACKAGE.network:Plain"}
"""
NETWORK = '''
"""Two modalities, averaged. Shapes: b dialogues, n utterances, d = dim, c classes."""

import torch
from torch import nn

from merlib import registry

VERSION = 1


class Mean(nn.Module):
    def forward(self, streams):
        return torch.stack(streams).mean(0)


class First(nn.Module):
    def forward(self, streams):
        return streams[0]


class MeanFusion(nn.Module):
    def __init__(self, *, dims, classes, dim, fusion):
        super().__init__()
        self.project = nn.ModuleDict({name: nn.Linear(width, dim) for name, width in dims.items()})
        self.fuse = registry.part({"mean": Mean, "first": First}, fusion, "model.fusion")
        self.head = nn.Linear(dim, classes)

    def forward(self, batch):
        z = self.fuse([project(batch[name]) for name, project in self.project.items()])
        return {"logits": self.head(z), "embedding": z}


class Plain(nn.Module):
    def forward(self, outputs, target):
        loss = nn.functional.cross_entropy(outputs["logits"], target["label"], ignore_index=-1)
        return {"loss": loss, "cross_entropy": loss}
'''
CELLS = (
    'table = "table1"\ndata = "twin"',
    "from merlib import declarations, study, twins",
    'paper = declarations.load("sixth")\ntwins.ensure(data, paper.corpora)',
    'study.run_table("sixth", table, data=data, progress=False)\nstudy.compare("sixth", table, data)',
)


def declare(folder: Path) -> None:
    (folder / "sixth" / "tables").mkdir(parents=True)
    (folder / "sixth" / "paper.toml").write_text(PAPER)
    (folder / "sixth" / "tables" / "table1.toml").write_text(TABLE)


def program(folder: Path, package: str) -> None:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE.replace("PACKAGE", package))
    (folder / "network.py").write_text(NETWORK)


def inside(folder: Path) -> dict[str, str]:
    """The three folders in a copy of the checkout."""
    for name in ("merlib", "papers"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    declare(folder / "papers")
    program(folder / "merlib" / "papers" / "sixth", "merlib.papers.sixth")
    return {"PYTHONPATH": str(folder)}


def outside(folder: Path) -> dict[str, str]:
    """A distribution of its own, found by its entry point, and declarations in a folder of their own."""
    declare(folder / "my_papers")
    program(folder / "site" / "sixth_paper", "sixth_paper")
    about = folder / "site" / "sixth_paper-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sixth-paper\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[merlib.papers]\nsixth = sixth_paper\n")
    papers = os.pathsep.join([str(CHECKOUT / "papers"), str(folder / "my_papers")])
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), str(CHECKOUT)]), "MERLIB_PAPERS": papers}


@pytest.mark.parametrize("where", [inside, outside])
def test_a_sixth_paper_runs_without_an_edit_anywhere_else(tmp_path, where):
    places = {
        "MERLIB_DATA": str(tmp_path / "data"),
        "MERLIB_RESULTS": str(tmp_path / "results"),
        "OMP_NUM_THREADS": "1",
    }
    env = os.environ | places | where(tmp_path)

    def merlib(*words: str) -> str:
        command = [sys.executable, "-m", "merlib", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    cells = [cell for cell in json.loads(merlib("cells", "sixth", "--json")) if cell["table"] == "table1"]
    assert {(cell["row"], cell["printed"]) for cell in cells} == {("ours", "61.30"), ("wo_fusion", "60.10")}
    merlib("run", "sixth", "table1", "ours")
    records = pd.read_csv(tmp_path / "results" / "twin" / "records" / "sixth" / "table1.csv")
    assert set(records["row"]) == {"ours"} and records["value"].between(0, 100).all()

    source = tmp_path / "2_train.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, source)
    merlib("notebook", str(source), str(tmp_path / "executed.ipynb"), "-p", "data", "twin")
    records = pd.read_csv(tmp_path / "results" / "twin" / "records" / "sixth" / "table1.csv")
    assert set(records["row"]) == {"ours", "wo_fusion", "logistic"}
