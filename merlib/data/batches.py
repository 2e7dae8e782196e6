"""Dialogues or utterances on the device: flat feature arrays, and indices that make padded, masked batches of them.

Shapes: b dialogues or utterances, n turns (padded), t steps of a sequence (padded), d the width of a modality, u
utterances of the split. Masks are True on real positions. Only sentiment corpora have a `score`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Items:
    """What dialogues and utterances share: `lengths` (b, on the CPU), and batches of similar length."""

    lengths: Tensor
    target: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def label(self) -> Tensor:
        return self.target["label"]

    @cached_property
    def by_length(self) -> Tensor:
        """Indices of all items, the shortest first, on the CPU."""
        return self.lengths.argsort(stable=True)

    def buckets(self, items: Tensor, size: int) -> Iterator[Batch]:
        """The given items in batches of at most `size` of similar length, so that there is little padding."""
        for part in items[self.lengths[items].argsort(stable=True)].split(size):
            yield self.batch(part)


@dataclass(frozen=True, eq=False)
class Dialogues(Items):
    """One split by dialogue, one vector per utterance. `rows` (b n) index the flat arrays, -1 for padding."""

    features: dict[str, Tensor]  # modality -> u d
    target: dict[str, Tensor]  # label: u, -1 unlabelled; score: u
    speaker: Tensor  # u, index of the party in its dialogue, by order of first appearance
    rows: Tensor  # b n
    lengths: Tensor  # b, in utterances, on the CPU
    ids: tuple[str, ...]  # u

    unit = "dialogues"

    def batch(self, items: Tensor) -> Batch:
        """The given dialogues (indices, on the CPU), padded to the longest; on padding `label` is -1, all else 0."""
        rows = self.rows[items.to(self.rows.device, non_blocking=True), : int(self.lengths[items].max())]  # b n
        mask = rows >= 0
        index = rows.clamp(min=0)
        batch = {name: values[index] * mask.unsqueeze(-1) for name, values in self.features.items()}  # b n d
        batch |= {name: values[index].where(mask, -1 if name == "label" else 0) for name, values in self.target.items()}
        return batch | {"mask": mask, "speaker": self.speaker[index] * mask}

    def real(self, values: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The values of the real utterances of a batch: b n ... -> u ..."""
        return {name: value[batch["mask"]] for name, value in values.items()}

    def positions(self, items: Tensor) -> Tensor:
        """The indices in the split of the utterances of the given dialogues, in the order of `real`."""
        rows = self.rows[items.to(self.rows.device)]
        return rows[rows >= 0]

    def pooled(self) -> "Dialogues":
        """The split itself: every utterance is one vector."""
        return self


@dataclass(frozen=True, eq=False)
class Utterances(Items):
    """One split by utterance, one sequence each: its steps begin at `starts` of the flat arrays that all splits share.

    The arrays keep the type in which they are stored (frames are bytes); a batch has floats (frames: 0 to 1),
    standardised by `scales`.
    """

    features: dict[str, Tensor]  # modality -> steps of the corpus d
    starts: dict[str, Tensor]  # modality -> u
    steps: dict[str, Tensor]  # modality -> u, the number of steps
    target: dict[str, Tensor]  # label: u; score: u
    ids: tuple[str, ...]  # u
    scales: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # modality -> mean and standard deviation, d

    unit = "utterances"

    @cached_property
    def lengths(self) -> Tensor:
        """b, steps of all modalities together, on the CPU."""
        return sum(self.steps.values(), torch.zeros_like(self.label)).cpu()

    @cached_property
    def _steps(self) -> dict[str, Tensor]:
        """`steps` on the CPU, where asking for the longest does not wait for a GPU."""
        return {name: steps.cpu() for name, steps in self.steps.items()}

    def batch(self, items: Tensor) -> Batch:
        """The given utterances (indices, on the CPU), each modality padded to its longest; 0 on padding."""
        longest = {name: int(steps[items].max()) for name, steps in self._steps.items()}
        items = items.to(self.label.device, non_blocking=True)
        batch = {name: values[items] for name, values in self.target.items()}
        for name, values in self.features.items():
            steps = self.steps[name][items]
            time = torch.arange(longest[name], device=items.device)  # t
            mask = time < steps.unsqueeze(1)  # b t
            rows = (self.starts[name][items].unsqueeze(1) + time) * mask
            x = as_float32(values.index_select(0, rows.flatten())).unflatten(0, rows.shape)  # b t d
            if name in self.scales:
                mean, std = self.scales[name]
                x = (x - mean) / std
            batch[name] = x.mul_(mask.unsqueeze(-1))
            batch[f"{name}_mask"] = mask
        return batch

    def real(self, values: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        return values  # every utterance of a batch is real

    def positions(self, items: Tensor) -> Tensor:
        return items.to(self.label.device)

    def rows(self, modality: str) -> Tensor:
        """The rows of the flat array of a modality that are steps of this split."""
        steps = self.steps[modality]
        before = steps.cumsum(0) - steps
        index = torch.arange(int(steps.sum()), device=steps.device)
        return index + (self.starts[modality] - before).repeat_interleave(steps)

    def pooled(self) -> "Utterances":
        """The same utterances as one vector each, 2 d: mean and standard deviation (divisor n) over the n steps."""
        statistics: dict[str, list[Tensor]] = {name: [] for name in self.features}
        for part in torch.arange(len(self)).split(256):
            batch = self.batch(part)
            for name in self.features:
                mask, n = batch[f"{name}_mask"].unsqueeze(-1), self.steps[name][part.to(self.label.device)].unsqueeze(1)
                mean = batch[name].sum(1) / n
                std = (((batch[name] - mean.unsqueeze(1)) * mask).square().sum(1) / n).sqrt()
                statistics[name].append(torch.cat([mean, std], -1))
        row = torch.arange(len(self), device=self.label.device)
        return Utterances(
            features={name: torch.cat(parts) for name, parts in statistics.items()}, target=self.target, ids=self.ids,
            starts=dict.fromkeys(self.features, row), steps=dict.fromkeys(self.features, torch.ones_like(row)),
        )  # fmt: skip


Split = Dialogues | Utterances


def dims(split: Split) -> dict[str, int]:
    """Modality -> width of its vectors."""
    return {name: values.shape[-1] for name, values in split.features.items()}


def as_float32(values: Tensor) -> Tensor:
    """Stored values as float32; the bytes of frames become 0 to 1."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()
