"""Optimisers and schedules by recipe, against their formulas."""

import math

import pytest
import torch
import transformers
from torch import nn

from merlib.data.batches import Dialogues, Utterances
from merlib.training import loop, optimisation

RECIPE = {
    "optimizer": "adamw", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.01, "batch": 4, "epochs": 10,
    "patience": 9,
    "clip": 1.0, "precision": "float32", "schedule": "constant", "schedule_factor": 0.5, "schedule_every": 2,
}  # fmt: skip


class Net(nn.Module):
    PRETRAINED = "text_encoder.pretrained."

    def __init__(self):
        super().__init__()
        self.text_encoder = nn.ModuleDict({"pretrained": nn.Linear(2, 2)})
        self.out, self.frozen = nn.Linear(2, 1), nn.Linear(1, 1)
        self.frozen.requires_grad_(False)


def rates(steps: int = 3, **change) -> list[list[float]]:
    """The learning rate of every update, epoch by epoch."""
    recipe = RECIPE | change
    optimizer = optimisation.optimizer(Net(), recipe)
    schedule = optimisation.Schedule(optimizer, recipe, steps=steps)
    by_epoch = []
    for _ in range(recipe["epochs"]):
        by_epoch.append([])
        for _ in range(steps):
            by_epoch[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        schedule.epoch(1.0)
    return by_epoch


def test_constant_and_step():
    assert {r for epoch in rates() for r in epoch} == {0.1}
    by_epoch = [epoch[0] for epoch in rates(schedule="step", schedule_every=3)]
    assert by_epoch == pytest.approx([0.1 * 0.5 ** (e // 3) for e in range(10)])
    late = [epoch[0] for epoch in rates(schedule="step", schedule_every=2, schedule_from=5)]
    assert late == pytest.approx([0.1] * 5 + [0.05, 0.05, 0.025, 0.025, 0.0125])


def test_plateau_waits_for_its_patience():
    by_epoch = [epoch[0] for epoch in rates(schedule="plateau")]  # the loss never falls after the first epoch
    assert by_epoch == pytest.approx([0.1] * 4 + [0.05] * 3 + [0.025] * 3)


def test_warmup_then_cosine_by_step_and_by_epoch():
    flat = [r for epoch in rates(schedule="warmup_cosine", warmup_epochs=2, min_lr=0.01) for r in epoch]
    assert flat[:7] == pytest.approx([0.1 * t / 6 for t in range(7)])
    assert flat[6:] == pytest.approx([0.01 + 0.09 * (1 + math.cos(math.pi * t / 24)) / 2 for t in range(24)])
    by_epoch = rates(schedule="warmup_cosine", warmup_epochs=2, warmup_unit="epoch")
    assert all(len(set(epoch)) == 1 for epoch in by_epoch)
    assert [epoch[0] for epoch in by_epoch][:3] == pytest.approx([0.0, 0.05, 0.1])
    throughout = [epoch[0] for epoch in rates(schedule="warmup_cosine", warmup_epochs=10, warmup_unit="epoch")]
    assert throughout == pytest.approx([0.01 * epoch for epoch in range(10)])


def test_warmup_then_linearly_down_is_that_of_transformers():
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(1))], lr=0.1)
    own = transformers.get_linear_schedule_with_warmup(optimizer, num_warmup_steps=3, num_training_steps=30)
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        own.step()
    flat = [r for epoch in rates(schedule="warmup_linear", warmup_epochs=1) for r in epoch]
    assert flat == pytest.approx(expected)


def test_a_text_encoder_has_its_own_rate_and_vectors_no_decay():
    net = Net()
    change = {"text_lr_factor": 0.1, "text_weight_decay_factor": 0.5, "decay_exempt": "bias_and_norm"}
    settings = {}
    for group in optimisation.optimizer(net, RECIPE | change).param_groups:
        settings |= {id(p): (group["lr"], group["weight_decay"]) for p in group["params"]}
    named = {name: settings.get(id(p)) for name, p in net.named_parameters()}
    assert named["text_encoder.pretrained.weight"] == pytest.approx((0.01, 0.005)) and named[
        "text_encoder.pretrained.bias"
    ] == pytest.approx((0.01, 0))
    assert named["out.weight"] == pytest.approx((0.1, 0.01)) and named["out.bias"] == pytest.approx((0.1, 0))
    assert named["frozen.weight"] is None
    assert optimisation.optimizer(net, RECIPE).defaults["fused"], "one pass over the weights, not eight"


@pytest.mark.parametrize(
    "change",
    [{"schedule": "cyclic"}, {"optimizer": "sgd"}, {"sampler": "hard"}, {"warmup_unit": "day"}, {"momentum": 0.9}],
)
def test_unknown_leaves_and_options_are_refused(change):
    with pytest.raises(ValueError, match="there are|unknown"):
        optimisation.check_section(RECIPE | change)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"patience": 0}, {"batch": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"clip": 0.0}]
)
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=f"train.{next(iter(change))} .*expected a number"):
        optimisation.check_section(RECIPE | change)


def test_batches_of_about_so_many_utterances_take_every_dialogue_once():
    lengths = torch.tensor([30, 10, 50, 5, 5, 40, 60])
    split = Dialogues(features={}, target={}, speaker=None, rows=None, lengths=lengths, ids=())
    torch.manual_seed(0)
    steps = loop._steps(split, RECIPE | {"batch": 64, "batch_unit": "utterances"})
    assert sorted(torch.cat(steps).tolist()) == list(range(7))
    assert all(lengths[step][:-1].sum() < 64 for step in steps)  # the last dialogue may go over


def test_the_balanced_sampler_draws_rare_classes_as_often():
    label = torch.tensor([0] * 900 + [1] * 100)
    split = Utterances(features={}, starts={}, steps={}, target={"label": label}, ids=tuple(map(str, range(1000))))
    torch.manual_seed(0)
    drawn = label[torch.cat(loop._steps(split, RECIPE | {"sampler": "balanced"}))]
    assert len(drawn) == 1000 and drawn.float().mean() == pytest.approx(0.5, abs=0.05)
