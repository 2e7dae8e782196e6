"""A declared network in training on random inputs, as the loop trains it."""

import torch
from gpu_cases import Case
from torch import Tensor, nn

from merlib import registry
from merlib.data import batches, official
from merlib.training import optimisation
from merlib.training.metrics import Judge
from merlib.training.prediction import autocast, bucket_of, floats, forward_packed


def learner(case: Case, split: batches.Split, device: str, dtype: torch.dtype = torch.float32) -> nn.ModuleDict:
    """The network and the loss of a case, from seed 0, drawn on the CPU and moved."""
    torch.manual_seed(0)
    given = {"dims": batches.dims(split), "classes": case.classes, "sentiment": case.sentiment, "speakers": 2}
    if not case.by_dialogue:
        given |= {"speakers": 1, "steps": {m: int(n.max()) for m, n in split.steps.items()}}
    counts = torch.bincount(split.label.cpu(), minlength=case.classes).clamp(min=1).float()
    of_loss = {"class_counts": counts, "dim": case.recipe["model"].get("dim"), "sentiment": case.sentiment}
    model = registry.build("model", case.recipe["model"], **given)
    loss = registry.build("loss", case.recipe["loss"], **of_loss)
    return nn.ModuleDict({"model": model, "loss": loss}).to(device, dtype)


class Trainer:
    """One network in training: `step` is what the loop does with the items of a step."""

    def __init__(self, case: Case, split: batches.Split, device: str):
        self.split, self.train = split, case.recipe["train"]
        self.learned = learner(case, split, device).train()
        self.optimizer = optimisation.optimizer(self.learned, self.train)
        self.device, self.bucket = device, bucket_of(self.learned["model"], split)
        if whole_batches(case, self.learned["model"]):
            self.bucket = len(split)

    def gradients(self, items: Tensor) -> Tensor:
        with autocast(self.device, self.train["precision"]):
            outputs, target = forward_packed(self.learned["model"], self.split, items, bucket=self.bucket)
        loss = self.learned["loss"](floats(outputs), target)["loss"]
        loss.backward()
        return loss.detach()

    def step(self, items: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(items)
        nn.utils.clip_grad_norm_(self.learned.parameters(), self.train["clip"])
        self.optimizer.step()
        return loss


def whole_batches(case: Case, model: nn.Module) -> bool:
    """Whether a batch is never split into buckets, as `fitting.fit_network` decides."""
    batch_norm = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
    return batch_norm or not case.recipe["model"].get("mask_padding", True)


def items_of_a_step(case: Case) -> int:
    """How many utterances or dialogues a step of the recipe reads."""
    train = case.recipe["train"]
    if case.by_dialogue and train.get("batch_unit", "dialogues") == "utterances":
        return max(1, train["batch"] // 24)  # dialogues of about as many utterances
    return train["batch"]


def judge_of(case: Case) -> Judge:
    labels = official.LABELS[case.corpus][: case.classes]
    return Judge(labels=labels, select="accuracy", sentiment=case.sentiment)
