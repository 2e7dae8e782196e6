"""Whether a device computes what the CPU computes: every network, loss and reading, in a tiny size (`gpu_cases`).

In float64 the outputs, the gradients of all weights and the losses of twenty steps agree but for the order of sums;
float32 on the device may differ from float64 on the CPU by no more than ten times what float32 on the CPU does.
Networks train as always, dropout included: what is random is drawn on the CPU for both sides (`SameDraws`). Networks
and losses take the steps; their ablations and readings are compared by outputs and gradients.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import gpu_cases
import gpu_trainer
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from merlib.papers.attsf_net.dropout import Dropout
from merlib.training import loop

STEPS, ITEMS = 20, 4
LIMITS = {"outputs": 1e-9, "gradients": 1e-7, "losses": 1e-5}  # largest relative differences in float64
SINGLE, FLOOR = 10, 1e-5  # of float32: times the error of the CPU, and an error that is never held against a device


def rows(device: str, *, planted: str = "", most: int = 10_000, workers: int = 0) -> Iterator[dict[str, Any]]:
    """One row a case, of at most so many. workers: processes that compute the CPU's side meanwhile.

    planted: the name of a case whose weights are disturbed on the device, so that the comparison itself can be tested.
    """
    cases = gpu_cases.distinct(gpu_cases.declared("tiny"), by_corpus=False)
    first = len({gpu_cases.kind(case, by_corpus=False) for case in cases})
    numbered = [(case, STEPS if number < first else 0) for number, case in enumerate(cases[:most])]
    one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn"), **one_thread) as pool:
        references = pool.map(reference, *zip(*numbered, strict=True)) if workers else None
        for case, steps in numbered:
            expected = next(references) if references else reference(case, steps)
            disturb = 1e-4 * (case.name == planted)
            yield {"case": case.name, "of": len(cases)} | compare(case, device, expected, steps, disturb)


def reference(case: gpu_cases.Case, steps: int) -> tuple[dict, dict] | str:
    """The CPU's side in float64 and, without steps, in float32; or the error that it ends with."""
    loop.make_deterministic()
    try:
        return computed(case, "cpu", torch.float64, steps), computed(case, "cpu", torch.float32, 0)
    except gpu_cases.FAILURES as error:  # a finding, and the other cases go on
        return f"on the CPU, {gpu_cases.described(error)}"


def compare(
    case: gpu_cases.Case, device: str, expected: tuple[dict, dict] | str, steps: int, disturb: float = 0.0
) -> dict[str, Any]:
    """The differences of a case between a device and the CPU, and whether it agrees; an error is a disagreement."""
    if isinstance(expected, str):
        return {"agrees": False, "error": expected}
    try:
        double = computed(case, device, torch.float64, steps, disturb)
        single = computed(case, device, torch.float32, 0, disturb)
    except gpu_cases.FAILURES as error:  # what a device cannot compute is a finding, and the other cases go on
        return {"agrees": False, "error": f"on the device, {gpu_cases.described(error)}"}
    return judged(*expected, double, single)


def judged(expected: dict, expected32: dict, found: dict, found32: dict) -> dict[str, Any]:
    """The values of the CPU and those of the device, in float64 and float32 each (see `computed`)."""
    row: dict[str, Any] = {what: difference(found[what], expected[what]) for what in LIMITS}
    agrees = all(row[what] <= limit for what, limit in LIMITS.items())
    for what in ("outputs", "gradients"):
        errors = [difference(side[what], expected[what]) for side in (expected32, found32)]
        row |= {f"float32_{what}_cpu": errors[0], f"float32_{what}": errors[1]}
        agrees &= errors[1] <= SINGLE * errors[0] + FLOOR
    return row | {"agrees": bool(agrees), "error": ""}


def difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest ||found - expected|| / ||expected|| over arrays by name; infinite where one is missing, has another
    shape or is not finite. An array less than a millionth as large as the largest counts as that large.
    """
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in expected.items()}:
        return math.inf
    norms = {name: float(np.linalg.norm(value)) for name, value in expected.items()}
    least = 1e-6 * max(norms.values(), default=0.0) or 1e-12
    ratios = [float(np.linalg.norm(found[k] - v)) / max(norms[k], least) for k, v in expected.items()]
    return max((ratio if math.isfinite(ratio) else math.inf for ratio in ratios), default=0.0)


def computed(
    case: gpu_cases.Case, device: str, dtype: torch.dtype, steps: int, disturb: float = 0.0
) -> dict[str, dict[str, np.ndarray]]:
    """In training: `outputs` and `gradients` of one batch by name, and `losses` of so many steps of SGD after it.

    SGD, since Adam's first steps make the sign of a rounding error as large as the learning rate.
    """
    split = gpu_cases.split_of(case, "tiny", ITEMS, device)
    learned = without_inner_dropout(gpu_trainer.learner(case, split, device, dtype)).train()
    with torch.no_grad():
        for p in learned.parameters() if disturb else ():
            p.add_(disturb * torch.randn_like(p))
    batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in split.batch(torch.arange(ITEMS)).items()}
    target = split.real({name: batch[name] for name in split.target}, batch)
    optimizer = torch.optim.SGD(learned.parameters(), lr=1e-3)
    results: dict[str, dict[str, np.ndarray]] = {"losses": {}}
    for number in range(1 + steps):
        optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(number)
        with SameDraws():
            outputs = split.real(learned["model"](batch), batch)
            loss = learned["loss"](outputs, target)["loss"]
        loss.backward()
        if number == 0:
            gradients = {name: p.grad for name, p in learned.named_parameters() if p.grad is not None}
            results |= {"outputs": arrays(outputs), "gradients": arrays(gradients)}
        results["losses"] |= arrays({str(number): loss})
        nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
    return results


def arrays(values: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().double().numpy().copy() for name, value in values.items()}


class SameDraws(TorchFunctionMode):
    """Draws whatever is random on the CPU, in float32, and moves it: the same values on every device, in any type."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func in (torch.rand, torch.randn):
            like = {"device": kwargs.pop("device", None), "dtype": kwargs.pop("dtype", None)}
            return func(*args, **kwargs, dtype=torch.float32).to(**{k: v for k, v in like.items() if v is not None})
        if func in (torch.rand_like, torch.randn_like):
            drawn = torch.rand if func is torch.rand_like else torch.randn
            return drawn(args[0].shape, dtype=torch.float32).to(args[0])
        if func is F.scaled_dot_product_attention:
            kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return x * F.dropout(torch.ones(x.shape, dtype=torch.float32), p).to(x) if training and p else x


def without_inner_dropout(learned: nn.ModuleDict) -> nn.ModuleDict:
    """The same, with dropout off where a fused kernel draws it: between recurrent layers and in PyTorch's attention.

    ATTSF-Net's dropout, which draws otherwise on a CPU than on a GPU, becomes PyTorch's.
    """
    for part in learned.modules():
        if isinstance(part, (nn.RNNBase, nn.MultiheadAttention)):
            part.dropout = 0.0
        if isinstance(part, Dropout):
            part.forward = partial(nn.Dropout.forward, part)
            part.inplace = False
    return learned
