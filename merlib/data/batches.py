"""Dialogues or utterances on the device: flat feature arrays, and index tables that turn them into padded, masked
batches.

Shapes: b dialogues or utterances, n turns (padded), t steps of a sequence (padded), d the width of a modality, u
utterances of the split. Masks are True on real positions. `score` is there on the sentiment corpora only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

MODALITIES = ("text", "audio", "visual")
Batch = dict[str, Tensor]


class Items:
    """What dialogues and utterances share: `lengths` (b, on the CPU), and the order that these give."""

    lengths: Tensor
    target: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def label(self) -> Tensor:
        return self.target["label"]

    @cached_property
    def by_length(self) -> Tensor:
        """All items, the shortest first, on the CPU."""
        return self.lengths.argsort(stable=True)

    def buckets(self, items: Tensor, size: int) -> Iterator[Batch]:
        """The named items in batches of at most `size` of similar length, so that little is padded."""
        for part in items[self.lengths[items].argsort(stable=True)].split(size):
            yield self.batch(part)


@dataclass(frozen=True, eq=False)
class Dialogues(Items):
    """One split by dialogues, a vector an utterance. `rows` (b n) points into the flat arrays, -1 after the end."""

    features: dict[str, Tensor]  # modality -> u d
    target: dict[str, Tensor]  # label: u, -1 unlabelled; score: u
    speaker: Tensor  # u, index of the party in its dialogue, by order of first appearance
    rows: Tensor  # b n
    lengths: Tensor  # b, in utterances, on the CPU
    ids: tuple[str, ...]  # u

    unit = "dialogues"

    def batch(self, items: Tensor) -> Batch:
        """The named dialogues (indices, on the CPU), padded to the longest; `label` is -1 and the rest 0 on padding."""
        rows = self.rows[items.to(self.rows.device), : int(self.lengths[items].max())]  # b n
        mask = rows >= 0
        at = rows.clamp(min=0)
        batch = {name: values[at] * mask.unsqueeze(-1) for name, values in self.features.items()}  # b n d
        batch |= {name: values[at].where(mask, -1 if name == "label" else 0) for name, values in self.target.items()}
        return batch | {"mask": mask, "speaker": self.speaker[at] * mask}

    def real(self, values: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What belongs to the real utterances of a batch: b n ... -> u ..."""
        return {name: value[batch["mask"]] for name, value in values.items()}

    def places(self, items: Tensor) -> Tensor:
        """Where the utterances of the named dialogues stand in the split, in the order of `real`."""
        rows = self.rows[items.to(self.rows.device)]
        return rows[rows >= 0]

    def pooled(self) -> Tensor:
        """One vector an utterance, u sum(d), for estimators that know no sequences."""
        return torch.cat(list(self.features.values()), dim=-1)


@dataclass(frozen=True, eq=False)
class Utterances(Items):
    """One split by utterances, a sequence each: the steps of `u` begin at `starts` in the flat arrays, which all splits
    share.

    The arrays stay as they are stored (pictures are bytes); a batch has numbers (pictures: 0 to 1), standardised where
    `scales` says so.
    """

    features: dict[str, Tensor]  # modality -> steps of the corpus d
    starts: dict[str, Tensor]  # modality -> u
    steps: dict[str, Tensor]  # modality -> u, how many
    target: dict[str, Tensor]  # label: u; score: u
    ids: tuple[str, ...]  # u
    # modality -> d, mean and deviation for z-scores
    scales: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    unit = "utterances"

    @cached_property
    def lengths(self) -> Tensor:
        """b, in steps of all modalities, on the CPU."""
        return sum(self.steps.values(), torch.zeros_like(self.label)).cpu()

    def batch(self, items: Tensor) -> Batch:
        """The named utterances (indices), each modality padded to the longest of them; 0 on padding."""
        items = items.to(self.label.device)
        batch = {name: values[items] for name, values in self.target.items()}
        for name, values in self.features.items():
            steps = self.steps[name][items]
            at = torch.arange(int(steps.max()), device=items.device)  # t
            mask = at < steps.unsqueeze(1)  # b t
            rows = (self.starts[name][items].unsqueeze(1) + at) * mask
            x = numbers(values[rows])  # b t d
            if name in self.scales:
                mean, std = self.scales[name]
                x = (x - mean) / std
            batch[name] = x * mask.unsqueeze(-1)
            batch[f"{name}_mask"] = mask
        return batch

    def real(self, values: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Every utterance of a batch is real: values as they are."""
        return values

    def places(self, items: Tensor) -> Tensor:
        return items.to(self.label.device)

    def rows(self, modality: str) -> Tensor:
        """Where the steps of the split stand in the flat array of a modality."""
        steps = self.steps[modality]
        before = steps.cumsum(0) - steps
        at = torch.arange(int(steps.sum()), device=steps.device)
        return at + (self.starts[modality] - before).repeat_interleave(steps)

    def pooled(self) -> Tensor:
        """Mean and standard deviation over the steps, u 2 sum(d), for estimators that know no sequences."""
        found = []
        for part in torch.arange(len(self)).split(256):
            batch = self.batch(part)
            for name in self.features:
                mask, n = batch[f"{name}_mask"].unsqueeze(-1), self.steps[name][part.to(self.label.device)].unsqueeze(1)
                mean = batch[name].sum(1) / n
                std = (((batch[name] - mean.unsqueeze(1)) * mask).square().sum(1) / n).sqrt()
                found.append((name, torch.cat([mean, std], -1)))
        return torch.cat([torch.cat([v for m, v in found if m == name]) for name in self.features], -1)


Split = Dialogues | Utterances


def dims(split: Split) -> dict[str, int]:
    return {name: values.shape[-1] for name, values in split.features.items()}


def numbers(values: Tensor) -> Tensor:
    """Stored values as float32; the bytes of pictures as 0 to 1."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()
