"""Optimisers and schedules by the section `train` of a recipe.

optimizer adam | adamw; lr, beta1, beta2, weight_decay. Optional: `text_lr_factor` and `text_weight_decay_factor` for a
pretrained text encoder inside the network (see PRETRAINED in `registry`); `decay_exempt = "bias_and_norm"` (no decay on
vectors and scalars).

schedule    constant
            step           x schedule_factor every `schedule_every` epochs, first at `schedule_from` (default: the same)
            plateau        x schedule_factor at the first epoch after `schedule_every` without a lower validation loss
            warmup_cosine  linearly from zero over `warmup_epochs`, by `warmup_unit` step or epoch; a cosine to `min_lr`
            warmup_linear  the same, and then linearly to `min_lr`
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from merlib.errors import RequestError, listed, one_of

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
NEEDED = {"optimizer", "lr", "beta1", "beta2", "weight_decay", "batch", "epochs", "patience", "clip", "precision",
          "schedule", "schedule_factor", "schedule_every"}  # fmt: skip
OPTIONAL = {"batch_unit", "schedule_from", "warmup_epochs", "warmup_unit", "min_lr", "sampler", "text_lr_factor",
            "text_weight_decay_factor", "decay_exempt"}  # fmt: skip
LEAST = {"epochs": 1, "patience": 1, "batch": 1, "lr": 0, "clip": 1e-9}  # a norm of 0 would stop all learning
WARMUP = {  # schedule -> its factor after the warm-up, of the share of the time that has passed: from 1 to 0
    "warmup_cosine": lambda passed: (1 + math.cos(math.pi * passed)) / 2,
    "warmup_linear": lambda passed: 1 - passed,
}
CHOICES = {
    "optimizer": OPTIMIZERS, "schedule": ("constant", "step", "plateau", *WARMUP),
    "sampler": ("plain", "balanced"), "batch_unit": ("utterances", "dialogues"), "warmup_unit": ("step", "epoch"),
    "decay_exempt": ("none", "bias_and_norm"), "precision": ("float32", "bf16"),
}  # fmt: skip


def check_section(recipe: dict[str, Any]) -> None:
    """Raise RequestError for leaves that are missing or unknown, or whose value is out of range or no option."""
    missing, unknown = NEEDED - recipe.keys(), recipe.keys() - NEEDED - OPTIONAL
    if missing or unknown:
        raise RequestError(f"section train: missing {listed(sorted(missing))}, unknown {listed(sorted(unknown))}")
    for name, least in LEAST.items():
        if not least <= recipe[name] < math.inf:
            raise RequestError(f"train.{name} {recipe[name]!r}: expected a number from {least} on")
    for name, known in CHOICES.items():
        if name in recipe:
            one_of(known, recipe[name], f"train.{name}")


def optimizer(modules: nn.Module, recipe: dict[str, Any]) -> torch.optim.Optimizer:
    """The optimiser of a recipe over all parameters that are trained."""
    pretrained = tuple(
        f"{name}.{module.PRETRAINED}".removeprefix(".")
        for name, module in modules.named_modules() if hasattr(module, "PRETRAINED")
    )  # fmt: skip
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in modules.named_parameters():
        if not parameter.requires_grad:
            continue
        text = name.startswith(pretrained)
        lr = recipe["lr"] * (recipe.get("text_lr_factor", 1.0) if text else 1.0)
        decay = recipe["weight_decay"] * (recipe.get("text_weight_decay_factor", 1.0) if text else 1.0)
        if recipe.get("decay_exempt", "none") == "bias_and_norm" and parameter.ndim < 2:
            decay = 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    by_group = [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]
    # fused: one pass over each weight and its moments, where the default takes eight
    betas = (recipe["beta1"], recipe["beta2"])
    return OPTIMIZERS[recipe["optimizer"]](by_group, lr=recipe["lr"], betas=betas, fused=True)


class Schedule:
    """The learning rates of an optimiser: call `step` after every update, `epoch` after every epoch."""

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: dict[str, Any], *, steps: int):
        """steps: updates per epoch."""
        kind, factor, every = recipe["schedule"], recipe["schedule_factor"], recipe["schedule_every"]
        self.by_step = kind in WARMUP and recipe.get("warmup_unit", "step") == "step"
        unit = steps if self.by_step else 1
        warmup, total = unit * recipe.get("warmup_epochs", 0), unit * recipe["epochs"]
        first = recipe.get("schedule_from", every)
        rates = {
            "constant": lambda t: 1.0,
            "step": lambda t: factor ** (1 + (t - first) // every if t >= first else 0),
        }
        if kind in WARMUP:
            floor = recipe.get("min_lr", 0.0) / recipe["lr"]
            rates[kind] = partial(_after_warmup, WARMUP[kind], warmup=warmup, total=total, floor=floor)
        self.plateau = kind == "plateau"
        if self.plateau:
            self.inner = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=every)
        else:
            self.inner = torch.optim.lr_scheduler.LambdaLR(optimizer, rates[kind])

    def step(self) -> None:
        if self.by_step:
            self.inner.step()

    def epoch(self, loss: float) -> None:
        if self.plateau:
            self.inner.step(loss)
        elif not self.by_step:
            self.inner.step()


def _after_warmup(shape: Callable[[float], float], t: int, *, warmup: float, total: int, floor: float) -> float:
    """Factor of the learning rate at time t: linear up to `warmup`, then by `shape` down to `floor` at `total`."""
    if t < warmup:
        return t / warmup
    return floor + (1 - floor) * shape(min(1.0, (t - warmup) / max(total - warmup, 1)))
