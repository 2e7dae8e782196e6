"""What a run reads: arrays of a corpus -> train, val and test, standardised, with augmented copies where they are asked
for.

Shapes: n utterances of the corpus, s steps of all of them, d the width of a modality.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from merlib.data import splits as protocols
from merlib.data.batches import Dialogues, Split, Utterances, numbers
from merlib.data.folders import Dataset
from merlib.data.store import Feature, take
from merlib.declarations.schema import LETTERS
from merlib.errors import RequestError

VERSION = 1  # raise it when a change of what a run reads moves numbers

BLOCK = 1 << 26  # numbers whose mean and deviation are taken together


def arrays(data: dict[str, Any]) -> dict[str, str]:
    """modality -> the feature array that the section `data` of a recipe reads for it."""
    if unknown := sorted(set(data["modalities"]) - set(LETTERS)):
        raise RequestError(
            f"data.modalities {data['modalities']!r} has {unknown}: write letters of T text, A audio, V visual"
        )
    return {m: data[m] for letter, m in LETTERS.items() if letter in data["modalities"]}


def augmented(data: dict[str, Any]) -> dict[str, str]:
    """modality -> the array of changed recordings that the section `data` of a recipe reads beside the plain one."""
    changes = data.get("augment", "none") != "none"
    return {m: f"{name}_augmented" for m, name in arrays(data).items() if m != "text"} if changes else {}


def splits(
    dataset: Dataset, *, data: dict[str, Any], protocol: dict[str, Any], fold: int = 0, device: str = "cpu"
) -> dict[str, Split]:
    """train, val and test of a corpus on the device, by the sections `data` and `protocol` of a recipe.

    Of data: `unit` (dialogue or utterance), `modalities` and their arrays (one that the corpus does not have is left
    out), `standardize` (z-scores per feature, fitted on the training split alone; but not of states that an encoder's
    upper layers read, see `Passport.layers_above`), `classes` (only so many labels count, where it is given),
    `on_failure` (discard: an utterance whose recording could not be used in one of the modalities loses its label;
    zero: it stays). `augment`: copies of the utterances of rare classes, from the arrays `augmented`, join the training
    split (minority_train), or the corpus before it is split (minority_before_split).
    By dialogue, utterances without a label stay as context; by utterance they are left out.
    Raises ValueError when no modality is left.
    """
    wanted = arrays(data)
    found = {m: dataset.features[name] for m, name in wanted.items() if name in dataset.features}
    if not found:
        raise RequestError(
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
        raise RequestError(f"data.unit {data['unit']!r}: there are {sorted(build)}")
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
        raise RequestError(
            f"data.augment {data['augment']!r} needs the arrays {absent}: `merlib data extract ... --augmented` makes "
            "them"
        )
    if data["unit"] != "utterance":
        raise RequestError("data.augment copies single utterances: use it with data.unit utterance")
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


def moments(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (d) of rows of `values` (s d); of few features at a time: pictures have thousands."""
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
            features=shared,
            scales=scales,
            starts={m: v[at] for m, v in starts.items()},
            steps={m: v[at] for m, v in steps.items()},
            target={k: v[at] for k, v in target.items()},
            ids=tuple(table["utterance"].to_numpy()[at.cpu().numpy()]),
        )
    return found


def _dialogues(table, names: np.ndarray, features, scales, target, device: str) -> dict[str, Dialogues]:
    if long := sorted(m for m, (_, lengths) in features.items() if (lengths != 1).any()):
        raise RequestError(
            f"data.unit dialogue reads one vector an utterance, but {long} are sequences: pool them first"
        )
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
