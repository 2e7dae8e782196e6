"""Every declared row and reading of every paper builds on the twin, and no part of its network is dead."""

import json
import re

import pytest
import torch

from merlib import declarations, registry, study, twins
from merlib.data.table import MODALITIES
from merlib.study import runs
from merlib.training import fitting

# MFCRE's sweep prints mu2 = 0.6 beside mu1 = 0.4: nothing is left for the cross-entropy, so the classifier does not
# learn.
UNTRAINED = {("mfcre", "table7", "mu2_0_6"): "model.head.classify."}
# Joint readings of MFCRE: after one turn of reasoning, a recurrent cell has nothing to remember yet.
ONE_TURN = re.compile(r"reason\.0\.cell\.(recurrent|cell\.weight_hh)")
CASES = [(paper, table) for paper in declarations.papers() for table in declarations.load(paper).tables]
ADDED = ("readings", "multiverse")
SLOW = [pytest.param(*case, marks=pytest.mark.slow) if case[1] in ADDED else case for case in CASES]


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERLIB_DATA", str(tmp_path_factory.mktemp("every_row")))
        twins.ensure("twin", twins.corpora())
        yield


def networks(paper: str, table: str) -> dict[str, runs.Run]:
    """Row and corpus -> the run of each different network of a table, first fold."""
    runs_by_name, seen, declared = {}, set(), declarations.load(paper)
    rows = () if declared.table(table).row else study.multiverse.draw(declared, 6, data="twin").rows
    for row, corpus, run in study.runs_of(declared, table, row=rows):
        key = json.dumps([run.recipe["model"], run.recipe["loss"], run.recipe["data"], corpus], sort_keys=True)
        if run.fold == 0 and key not in seen and not registry.is_estimator(run.recipe["model"]["name"]):
            seen.add(key)
            runs_by_name[f"{row.id} on {corpus} ({run.recipe['data']['modalities']})"] = run
    return runs_by_name


@pytest.mark.parametrize(("paper", "table"), SLOW, ids=["/".join(case) for case in CASES])
def test_every_parameter_learns_and_every_part_counts(paper, table):
    dead = {}
    for name, run in networks(paper, table).items():
        splits = run.splits()
        torch.manual_seed(0)
        model = registry.build("model", run.recipe["model"], **fitting.given(splits, run.judge))
        train = splits["train"]
        counts = torch.bincount(train.label[train.label >= 0], minlength=len(run.judge.labels))
        given = {"class_counts": counts, "dim": run.recipe["model"].get("dim"), "sentiment": run.judge.sentiment}
        loss = registry.build("loss", run.recipe["loss"], **given)
        items = torch.arange(min(len(train), 24))
        if train.unit == "dialogues":  # short ones do, but all has to happen in them
            items = train.lengths.argsort(stable=True)
            items = items[train.lengths[items] >= 8][:6]
        learned = torch.nn.ModuleDict({"model": model, "loss": loss})
        batch = train.batch(items)
        if train.unit == "utterances" and not registry.is_pooled(run.recipe["model"]["name"]):
            batch = _with_steps(batch)
        outputs, target = (train.real(v, batch) for v in (model(batch), {k: batch[k] for k in train.target}))
        learned["loss"](outputs, target)["loss"].backward()
        silent = [
            parameter_name
            for parameter_name, p in learned.named_parameters()
            if p.requires_grad
            and (p.grad is None or not p.grad.any())
            and not parameter_name.startswith(UNTRAINED.get((paper, table, name.split()[0]), "none"))
            and not (table == "multiverse" and "+one+" in name and ONE_TURN.search(parameter_name))
        ]
        still = _without_effect(model.eval(), batch)
        if silent or still:
            dead[name] = {"no gradient": silent[:5], "no effect": still}
    assert not dead, json.dumps(dead, indent=1)


def _with_steps(batch: dict) -> dict:
    """Vectors (sequences of one step) made sequences of three, so that what recurrent networks remember counts too."""
    for name in [m for m in MODALITIES if m in batch and batch[m].shape[1] == 1]:
        batch[name] = batch[name] + torch.randn(len(batch[name]), 3, batch[name].shape[-1])
        batch[f"{name}_mask"] = torch.ones(batch[name].shape[:2], dtype=torch.bool)
    return batch


@torch.no_grad()
def _without_effect(model: torch.nn.Module, batch: dict) -> list[str]:
    """Parts (children of the network and of its dictionaries) whose weights change no output when disturbed."""
    before, still = model(batch), []
    for name, part in model.named_children():
        saved = {key: value.clone() for key, value in part.state_dict().items()}
        if not any(True for _ in part.parameters()):
            continue
        for p in part.parameters():
            p.add_(torch.randn_like(p))
        after = model(batch)
        if all(torch.equal(after[k], before[k]) for k in before):
            still.append(name)
        part.load_state_dict(saved)
    return still
