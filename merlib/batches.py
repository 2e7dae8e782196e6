"""Dialogues or utterances on the device: flat feature arrays, and index tables that turn them into padded, masked batches.

Shapes: b dialogues or utterances, n turns (padded), t steps of a sequence (padded), d the width of a modality, u utterances of the
split. Masks are True on real positions. `score` is there on the sentiment corpora only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from merlib.corpora import splits as protocols
from merlib.features.roots import Dataset
from merlib.features.store import Feature, take

MODALITIES = ("text", "audio", "visual")
LETTERS = {"T": "text", "A": "audio", "V": "visual"}
Batch = dict[str, Tensor]
BLOCK = 1 << 26  # numbers whose mean and deviation are taken together


@dataclass(frozen=True, eq=False)
class Dialogues:
    """One split by dialogues, a vector an utterance. `rows` (b n) points into the flat arrays, -1 where a dialogue has ended."""

    features: dict[str, Tensor]  # modality -> u d
    target: dict[str, Tensor]  # label: u, -1 unlabelled; score: u
    speaker: Tensor  # u, index of the party in its dialogue, by order of first appearance
    rows: Tensor  # b n
    lengths: Tensor  # b, in utterances, on the CPU
    ids: tuple[str, ...]  # u

    unit = "dialogues"

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def label(self) -> Tensor:
        return self.target["label"]

    def batch(self, items: Tensor) -> Batch:
        """The named dialogues (indices, on the CPU), padded to the longest of them; `label` is -1 and the rest 0 on padding."""
        rows = self.rows[items.to(self.rows.device), : int(self.lengths[items].max())]  # b n
        mask = rows >= 0
        at = rows.clamp(min=0)
        batch = {name: values[at] * mask.unsqueeze(-1) for name, values in self.features.items()}  # b n d
        batch |= {name: values[at].where(mask, -1 if name == "label" else 0) for name, values in self.target.items()}
        return batch | {"mask": mask, "speaker": self.speaker[at] * mask}

    @property
    def by_length(self) -> Tensor:
        """All items, the shortest first, on the CPU."""
        return self.lengths.argsort(stable=True)

    def buckets(self, items: Tensor, size: int) -> Iterator[Batch]:
        """The named dialogues in batches of at most `size` of similar length, so that little is padded."""
        for part in items[self.lengths[items].argsort(stable=True)].split(size):
            yield self.batch(part)

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
class Utterances:
    """One split by utterances, a sequence each: the steps of `u` begin at `starts` in the flat arrays, which all splits share.

    The arrays stay as they are stored (pictures are bytes); a batch has numbers (pictures: 0 to 1), standardised where
    `scales` says so.
    """

    features: dict[str, Tensor]  # modality -> steps of the corpus d
    starts: dict[str, Tensor]  # modality -> u
    steps: dict[str, Tensor]  # modality -> u, how many
    target: dict[str, Tensor]  # label: u; score: u
    ids: tuple[str, ...]  # u
    scales: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # modality -> d, mean and deviation for z-scores

    unit = "utterances"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def label(self) -> Tensor:
        return self.target["label"]

    @cached_property
    def lengths(self) -> Tensor:
        return torch.ones(len(self), dtype=torch.long)  # an item is one utterance

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

    @cached_property
    def by_length(self) -> Tensor:
        """All items, those of the fewest steps in all modalities first, on the CPU."""
        return torch.stack(list(self.steps.values())).sum(0).argsort(stable=True).cpu()

    def buckets(self, items: Tensor, size: int) -> Iterator[Batch]:
        """The named utterances in batches of at most `size`, in their order."""
        for part in items.split(size):
            yield self.batch(part)

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


def arrays(data: dict[str, Any]) -> dict[str, str]:
    """modality -> the feature array that the section `data` of a recipe reads for it."""
    return {m: data[m] for letter, m in LETTERS.items() if letter in data["modalities"]}


def augmented(data: dict[str, Any]) -> dict[str, str]:
    """modality -> the array of changed recordings that the section `data` of a recipe reads beside the plain one."""
    changes = data.get("augment", "none") != "none"
    return {m: f"{name}_augmented" for m, name in arrays(data).items() if m != "text"} if changes else {}


def splits(
    dataset: Dataset, *, data: dict[str, Any], protocol: dict[str, Any], fold: int = 0, device: str = "cpu"
) -> dict[str, Split]:
    """train, val and test of a corpus on the device, by the sections `data` and `protocol` of a recipe.

    Of data: `unit` (dialogue or utterance), `modalities` and their arrays (one that the corpus does not have is left out), `standardize`
    (z-scores per feature, fitted on the training split alone; but not of states that an encoder's upper layers read, see
    `Passport.layers_above`), `classes` (only so many labels count, where it is given),
    `on_failure` (discard: an utterance whose recording could not be used in one of the modalities loses its label; zero: it stays).
    `augment`: copies of the utterances of rare classes, from the arrays `augmented`, join the training split (minority_train), or
    the corpus before it is split (minority_before_split).
    By dialogue, utterances without a label stay as context; by utterance they are left out.
    Raises ValueError when no modality is left.
    """
    wanted = arrays(data)
    found = {m: dataset.features[name] for m, name in wanted.items() if name in dataset.features}
    if not found:
        raise ValueError(
            f"{dataset.corpus.name}: none of {wanted} is there; it has {sorted(dataset.features)}. Run `merlib doctor`."
        )
    table = dataset.corpus.table
    names = protocols.assign(table, protocol, fold)
    label = table["label"].to_numpy(np.int64)
    label = np.where(label < data.get("classes", len(dataset.corpus.labels)), label, -1)
    if data.get("on_failure", "zero") == "discard":
        failed = {utterance for feature in found.values() for utterance in feature.passport.failed}
        label = np.where(table["utterance"].isin(failed), -1, label)
    if data.get("augment", "none") != "none":
        found, table, names, label = _with_copies(dataset, found, table, names, label, data, protocol, fold)
    build = {"dialogue": _dialogues, "utterance": _utterances}
    if data["unit"] not in build:
        raise ValueError(f"data.unit {data['unit']!r}: there are {sorted(build)}")
    features = {m: _flat(feature) for m, feature in found.items()}
    scales = {}
    if data["standardize"]:
        scales = {
            m: _scale(values, np.repeat(names == "train", lengths))
            for m, (values, lengths) in features.items() if not found[m].layers_above
        }  # fmt: skip
    target = {"label": torch.from_numpy(label).to(device)}
    if table["score"].notna().any():
        target["score"] = torch.tensor(table["score"].fillna(0.0).to_numpy(np.float32), device=device)
    return build[data["unit"]](table, names, features, scales, target, device)


def minority(labels: np.ndarray) -> np.ndarray:
    """Which utterances have a class that is rarer than the median class: n whole numbers, -1 for none -> n bools.

    The median is over the classes that are there (unstated; MPAF-Net, Sec. 3.2, says minority classes).
    """
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        return np.zeros(len(labels), dtype=bool)
    return np.isin(labels, classes[counts < np.median(counts)])


def _with_copies(dataset, found: dict[str, Feature], table, names, label, data, protocol, fold: int):
    """The same, with an augmented copy of every utterance of a rare class (of those that train, or of all)."""
    if absent := [name for m, name in augmented(data).items() if m in found and name not in dataset.features]:
        raise ValueError(
            f"data.augment {data['augment']!r} needs the arrays {absent}: `merlib data extract ... --augmented` makes them"
        )
    if data["unit"] != "utterance":
        raise ValueError("data.augment copies single utterances: use it with data.unit utterance")
    known = label >= 0
    if data["augment"] == "minority_train":
        known &= names == "train"
    chosen = np.flatnonzero(known)[minority(label[known])]
    copies = table.iloc[chosen].assign(utterance=table["utterance"].iloc[chosen] + " augmented")
    table = pd.concat([table, copies], ignore_index=True)
    if data["augment"] == "minority_train":
        names = np.concatenate([names, names[chosen]])
    else:
        names = protocols.assign(table, protocol, fold)
    for m, plain in found.items():
        changed = dataset.features.get(augmented(data).get(m), plain)  # of text, the same words
        values, lengths = take(changed.values, changed.lengths, chosen)
        lengths = lengths if plain.lengths is None else np.concatenate([plain.lengths, lengths])
        found[m] = replace(plain, values=np.concatenate([plain.values, values]), lengths=lengths)
    return found, table, names, np.concatenate([label, label[chosen]])


def _flat(feature: Feature) -> tuple[Tensor, Tensor]:
    """The steps of a feature (sum of steps, d) and how many each utterance has (u); one that is no sequence has one."""
    values = torch.as_tensor(np.ascontiguousarray(feature.values))
    lengths = feature.lengths if feature.lengths is not None else np.ones(len(values), np.int64)
    return values, torch.as_tensor(lengths)


def numbers(values: Tensor) -> Tensor:
    """Stored values as float32; the bytes of pictures as 0 to 1."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def moments(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (d) of some rows of `values` (s d); of few features at a time, because pictures have thousands."""
    blocks = (numbers(part[rows]) for part in values.split(BLOCK // max(1, len(rows)) + 1, dim=1))
    found = [(block.mean(0), block.std(0)) for block in blocks]
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


def _scale(values: Tensor, train: np.ndarray) -> tuple[Tensor, Tensor]:
    mean, std = moments(values, torch.from_numpy(train))
    return mean, std.where(std > 1e-6, 1.0)


def _utterances(table, names: np.ndarray, features, scales, target, device: str) -> dict[str, Utterances]:
    shared = {m: values.to(device) for m, (values, _) in features.items()}
    scales = {m: tuple(value.to(device) for value in scale) for m, scale in scales.items()}
    steps = {m: lengths.to(device) for m, (_, lengths) in features.items()}
    starts = {m: lengths.cumsum(0) - lengths for m, lengths in steps.items()}
    known = (target["label"] >= 0).cpu().numpy()
    found = {}
    for name in ("train", "val", "test"):
        at = torch.from_numpy(np.flatnonzero(known & protocols.members(names, name))).to(device)
        found[name] = Utterances(
            features=shared, scales=scales, starts={m: v[at] for m, v in starts.items()}, steps={m: v[at] for m, v in steps.items()},
            target={k: v[at] for k, v in target.items()}, ids=tuple(table["utterance"].to_numpy()[at.cpu().numpy()]),
        )  # fmt: skip
    return found


def _dialogues(table, names: np.ndarray, features, scales, target, device: str) -> dict[str, Dialogues]:
    if long := sorted(m for m, (_, lengths) in features.items() if (lengths != 1).any()):
        raise ValueError(f"data.unit dialogue reads one vector an utterance, but {long} are sequences: pool them first")
    vectors = {m: numbers(values) for m, (values, _) in features.items()}
    vectors |= {m: (vectors[m] - mean) / std for m, (mean, std) in scales.items()}
    found = {}
    for name in ("train", "val", "test"):
        chosen = protocols.members(names, name)
        part = table[chosen]
        dialogue = part["dialogue"].factorize()[0]
        turn = part.groupby("dialogue", sort=False).cumcount().to_numpy()
        lengths = np.bincount(dialogue)
        rows = np.full((len(lengths), lengths.max()), -1)
        rows[dialogue, turn] = np.arange(len(part))
        speaker = part.groupby("dialogue", sort=False)["speaker"].transform(lambda names: names.factorize()[0])
        at = torch.from_numpy(np.flatnonzero(chosen))
        found[name] = Dialogues(
            features={m: values[at].to(device) for m, values in vectors.items()},
            target={k: v[at.to(device)] for k, v in target.items()},
            speaker=torch.tensor(speaker.to_numpy(np.int64), device=device),
            rows=torch.tensor(rows, device=device),
            lengths=torch.from_numpy(lengths),
            ids=tuple(part["utterance"]),
        )
    return found
