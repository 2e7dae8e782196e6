"""Several processes, one a GPU, train one network: the launcher's environment, and what the processes tell one another.

Every process holds the same weights and forwards its share of each batch. Then all outputs are gathered, and every
process takes the loss of the *whole* batch, so a loss that compares utterances or takes statistics over them is the
same as in one process. Gradients flow through a process's own outputs only; their sum over the processes is the
gradient of the whole. Batch norms share their statistics (`synchronised`). So N processes take the step that one would
take, to rounding, but for dropout, which each draws for itself.

Without a launcher (`accelerate launch`, `torchrun`) there is one process and none of this happens.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

Anything = TypeVar("Anything")
TOGETHER = 1 << 24  # gradients that travel together, in numbers


class Processes:
    """This process, number `rank` of `count`. With a count of 1 every method gives back what it was given."""

    def __init__(self, *, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count
        self.idle = (
            False  # it has no share of the present batch, and keeps the others company with a row that does not count
        )

    @property
    def main(self) -> bool:
        """The one that writes."""
        return self.rank == 0

    def rows(self, total: int) -> list[int]:
        """Which of `total` rows are this process's: every `count`-th. Where there are none it is `idle`, with row 0."""
        own = list(range(self.rank, total, self.count))
        self.idle = not own
        return own or [0]

    def agree(self, value: Anything) -> Anything:
        """The main process's value (anything that pickle takes), for all; the others wait for it."""
        if self.count == 1:
            return value
        told = [value if self.main else None]
        dist.broadcast_object_list(told, src=0)
        return told[0]

    def same(self, module: nn.Module) -> None:
        """Give all processes the main one's parameters and buffers."""
        for tensor in module.state_dict().values() if self.count > 1 else ():
            dist.broadcast(tensor, src=0)

    def leave(self) -> None:
        """Part, when all is done."""
        if self.count > 1:
            dist.destroy_process_group()

    def gather(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows of all processes (u ... of every name), one process after the other; own ones keep their graph.

        What is longer in one process than in another, along any other axis, is padded with zeros: sequences, with their
        masks.
        """
        if self.count == 1:
            return values
        device = next(iter(values.values())).device
        shapes = torch.tensor([size for value in values.values() for size in value.shape], device=device)
        told = [torch.empty_like(shapes) for _ in range(self.count)]
        dist.all_gather(told, shapes)
        found, at = {}, 0
        for name, value in values.items():
            rows = [int(shape[at]) for shape in told]
            size = torch.stack(told)[:, at : at + value.ndim].amax(0).tolist()
            found[name], at = self._gathered(value, rows, size), at + value.ndim
        return found

    def _gathered(self, value: Tensor, rows: list[int], size: list[int]) -> Tensor:
        value = lengthened(value, size)
        full = value.new_zeros(size)
        full[: len(value)] = value.detach()
        pieces = [torch.empty_like(full) for _ in rows]
        dist.all_gather(pieces, full)
        pieces = [piece[:count] for piece, count in zip(pieces, rows, strict=True)]
        pieces[self.rank] = value
        return torch.cat(pieces)

    @torch.no_grad()
    def add_gradients(self, model: nn.Module, loss: nn.Module) -> None:
        """Sum the network's gradients over the processes, and average the loss's, which sees the whole batch."""
        if self.count == 1:
            return
        learned = [p for module in (model, loss) for p in module.parameters() if p.requires_grad]
        has = torch.tensor([p.grad is not None for p in learned], device=learned[0].device).int()
        dist.all_reduce(has)
        has = has.tolist()  # a parameter without gradient in any process stays without, as in one process
        learned = [p for p, some in zip(learned, has, strict=True) if some]
        for p in learned:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for p in loss.parameters():
            if p.grad is not None:
                p.grad /= self.count
        while learned:
            part = [learned.pop()]
            while learned and learned[-1].numel() + sum(p.numel() for p in part) <= TOGETHER:
                part.append(learned.pop())
            flat = torch.cat([p.grad.flatten() for p in part])
            dist.all_reduce(flat)
            for p, grad in zip(part, flat.split([p.numel() for p in part]), strict=True):
                p.grad.copy_(grad.view_as(p))


ONE = Processes()


def lengthened(value: Tensor, size: Sequence[int]) -> Tensor:
    """As many rows as there are, zeros behind what is shorter than `size` along any other axis (sequences, masks)."""
    missing = [n for have, want in zip(value.shape[:0:-1], size[:0:-1], strict=True) for n in (0, want - have)]
    return F.pad(value, missing) if any(missing) else value


class SyncNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm over the rows of all processes: the same weights and running statistics under the same names.

    As PyTorch's SyncBatchNorm, but also on a CPU, and with processes that are idle. `training` stays False, so that
    what treats a batch of one row apart leaves that to this class: one row in all, which has no variance, takes the
    running statistics.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, processes: Processes):
        nn.Module.__init__(self)
        self.__dict__.update(norm.__dict__)
        self.processes = processes
        self.train(norm.training)

    def train(self, mode: bool = True) -> "SyncNorm":
        super().train(False)
        self.learning = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """x: n c ..."""
        over = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        counts, mean, var = 0.0 if self.processes.idle else 1.0, self.running_mean, self.running_var
        rows = _Sum.apply(x.new_tensor([counts * x.numel() / x.shape[1]], dtype=torch.float32)) if self.learning else 0
        if rows > 1:
            mean = _Sum.apply(counts * x.float().sum(over)) / rows
            var = _Sum.apply(counts * (x.float() - mean.view(shape)).square().sum(over)) / rows
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * rows / (rows - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return ((x.float() - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes, and of its gradients."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)


def synchronised(model: nn.Module, processes: Processes) -> nn.Module:
    """The same network, its batch norms over the rows of all processes."""
    for parent in list(model.modules()) if processes.count > 1 else ():
        for name, part in parent.named_children():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and not isinstance(part, SyncNorm):
                setattr(parent, name, SyncNorm(part, processes))
    return model


def device_of(asked: str | None) -> str:
    """What was asked for, or a GPU where there is one."""
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


@cache
def join(device: str) -> Processes:
    """The processes that a launcher started together with this one; each has its own GPU where `device` is "cuda"."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "LOCAL_RANK" not in os.environ:
        return ONE
    from accelerate import PartialState  # takes seconds, and only this needs it

    patience = timedelta(days=30)  # another batch may train the same run, an estimator may take its time
    state = PartialState(cpu=device == "cpu", timeout=patience)
    if state.device.type != device:
        raise ValueError(
            f"the processes were started on {state.device.type}, and device {device} is asked for: choose one"
        )
    return Processes(rank=state.process_index, count=state.num_processes)
