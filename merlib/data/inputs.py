"""The inputs of a run: arrays of a corpus -> train, val and test, standardised, with augmented copies if declared.

Shapes: n utterances of the corpus, s steps of all of them, d the width of a modality.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from merlib.data import splits as protocols
from merlib.data.batches import Dialogues, Split, Utterances, as_float32
from merlib.data.checks import CorpusError
from merlib.data.folders import Dataset
from merlib.data.official import SENTIMENT, SPLITS
from merlib.data.store import Feature, take
from merlib.data.table import COPY
from merlib.declarations.schema import LETTERS
from merlib.errors import FeatureError, RequestError, listed, one_of

VERSION = 1  # raise it when a change here alters the numbers of a run

BLOCK = 1 << 26  # values whose mean and standard deviation are computed at a time


def arrays(data: dict[str, Any]) -> dict[str, str]:
    """modality -> the feature array that the section `data` of a recipe reads for it."""
    for letter in data["modalities"]:
        one_of(LETTERS, letter, "letter of data.modalities (T text, A audio, V visual)")
    return {m: data[m] for letter, m in LETTERS.items() if letter in data["modalities"]}


def resolved(data: dict[str, Any], *, seed: int, fold: int) -> dict[str, Any]:
    """The section `data` of a recipe for one run: `{seed}` and `{fold}` in the names of arrays are filled in.

    Such arrays come from an encoder that learned from labels, one for each seed and fold (`roots.tuning`).
    """
    return data | {m: name.format(seed=seed, fold=fold) for m, name in arrays(data).items()}


def augmented(data: dict[str, Any]) -> dict[str, str]:
    """modality -> the array of augmented recordings that the section `data` reads beside the plain array."""
    if data.get("augment", "none") == "none":
        return {}
    return {m: f"{name}_augmented" for m, name in arrays(data).items() if m != "text"}


def splits(
    dataset: Dataset, *, data: dict[str, Any], protocol: dict[str, Any], fold: int = 0, device: str = "cpu"
) -> dict[str, Split]:
    """train, val and test of a corpus on the device, by the sections `data` and `protocol` of a recipe.

    Leaves of data: `unit` (dialogue or utterance); `modalities` and their arrays (one that the corpus does not have is
    left out); `standardize` (z-scores per feature, fitted on the training split alone; not for states that the upper
    layers of an encoder read, see `Passport.layers_above`); `classes` (how many labels count, where given);
    `on_failure` (discard: an utterance whose recording could not be used in one of the modalities loses its label;
    zero: it keeps it); `augment` (copies of the utterances of rare classes, from the arrays `augmented`, join the
    training split: minority_train, or the corpus before it is split: minority_before_split); `order` (shuffled: the
    steps of each utterance stand in a drawn order, the control for what a network learns from their order).
    By dialogue, utterances without a label stay as context; by utterance they are left out.
    Raises RequestError when no modality is left, CorpusError where a split lacks labels to learn from or to score.
    """
    by_unit = one_of({"dialogue": _dialogues, "utterance": _utterances}, data["unit"], "data.unit")
    source, flat, scales, target = _read(dataset, data, protocol, fold, device)
    _check_labels(source, dataset, data, protocol, fold)
    return by_unit(source.table, source.split, flat, scales, target, device)


def whole(dataset: Dataset, *, data: dict[str, Any], protocol: dict[str, Any], fold: int, device: str) -> Utterances:
    """Every utterance of a corpus in table order, labelled or not, as the runs of a recipe by utterance read them."""
    one_of(("utterance",), data["unit"], "data.unit of what reads a whole corpus")
    source, flat, scales, target = _read(dataset, data, protocol, fold, device)
    return _part(source.table, np.ones(len(source.table), bool), _on(device, flat, scales), target)


def labelled_counts(
    dataset: Dataset, *, data: dict[str, Any], protocol: dict[str, Any], fold: int = 0
) -> dict[str, int]:
    """How many utterances of train, val and test have a label that counts; arguments and errors as of `splits`."""
    source = _source(dataset, data, protocol, fold)
    return {name: int((protocols.members(source.split, name) & (source.label >= 0)).sum()) for name in SPLITS}


def _read(dataset: Dataset, data: dict[str, Any], protocol: dict[str, Any], fold: int, device: str) -> tuple:
    """What all splits share: the source, its flat arrays, their scales, and the targets of all utterances."""
    source = _source(dataset, data, protocol, fold)
    flat = {m: _flat(feature) for m, feature in source.features.items()}
    if one_of(("recorded", "shuffled"), data.get("order", "recorded"), "data.order") == "shuffled":
        if data["unit"] != "utterance":
            raise RequestError("data.order shuffled is of the steps of an utterance: use it with data.unit utterance")
        flat = {m: (shuffled(values, lengths), lengths) for m, (values, lengths) in flat.items()}
    scales = {}
    for m, (values, lengths) in flat.items():
        if data["standardize"] and not source.features[m].layers_above:
            mean, std = moments(values, torch.from_numpy(np.repeat(source.split == "train", lengths)))
            scales[m] = mean, std.where(std > 1e-6, 1.0)
    target = {"label": torch.from_numpy(source.label).to(device)}
    if source.table["score"].notna().any():
        target["score"] = torch.tensor(source.table["score"].fillna(0.0).to_numpy(np.float32), device=device)
    return source, flat, scales, target


@dataclass(frozen=True)
class Source:
    """The arrays and labels of a run before they are cut into splits: n utterances."""

    features: dict[str, Feature]  # by modality
    table: pd.DataFrame  # n rows
    split: np.ndarray  # n: train, val or test
    label: np.ndarray  # n, -1 for none


def _source(dataset: Dataset, data: dict[str, Any], protocol: dict[str, Any], fold: int) -> Source:
    """The arrays that the corpus has, the split of every utterance, and the labels that count; with copies if asked."""
    names = arrays(data)
    features = {m: dataset.features[name] for m, name in names.items() if name in dataset.features}
    if not features:
        there = f"its arrays are {listed(sorted(dataset.features))}" if dataset.features else "it has no arrays yet"
        what = f"{dataset.corpus.name} has none of the feature arrays that the recipe reads ({listed(names.values())})"
        remedy = "`merlib data text` and `merlib data extract` make them, `merlib doctor` shows what is missing"
        raise RequestError(f"{what}; {there}: {remedy}.")
    table = dataset.corpus.table
    label = table["label"].to_numpy(np.int64)
    label = np.where(label < data.get("classes", len(dataset.corpus.labels)), label, -1)
    label = np.where(_discarded(table, features.values(), data), -1, label)
    source = Source(features, table, protocols.assign(table, protocol, fold), label)
    if data.get("augment", "none") != "none":
        source = _with_copies(source, dataset, data, protocol, fold)
    for name in (*(names[m] for m in features), *(name for m, name in augmented(data).items() if m in features)):
        _check_unseen(dataset.features[name], name, source)
    return source


def _discarded(table: pd.DataFrame, features: Iterable[Feature], data: dict[str, Any]) -> np.ndarray:
    """Which utterances are discarded since their recording could not be used in one of the features: n bools."""
    if data.get("on_failure", "zero") != "discard":
        return np.zeros(len(table), bool)
    return table["utterance"].isin({u for feature in features for u in feature.passport.failed}).to_numpy()


def _check_labels(source: Source, dataset: Dataset, data: dict, protocol: dict, fold: int) -> None:
    """CorpusError where a split has no label that counts, or train those of one class although there are several."""
    corpus = dataset.corpus
    several = corpus.name not in SENTIMENT and data.get("classes", len(corpus.labels)) > 1
    for name in SPLITS:
        classes = np.unique(source.label[protocols.members(source.split, name) & (source.label >= 0)])
        if len(classes) < (2 if name == "train" and several else 1):
            has = f"labels of one class alone ({corpus.labels[classes[0]]})" if len(classes) else "no label that counts"
            where = f"{corpus.name}, protocol.split {protocol['split']!r}, fold {fold}"
            raise CorpusError(f"{where}: {name} has {has}; is this the whole corpus, with its labels?")


def _check_unseen(feature: Feature, name: str, source: Source) -> None:
    """FeatureError where the extractor of an array has learned from labels that this split validates or tests on.

    A copy has the label of its original.
    """
    passport = feature.passport
    if passport is None:
        return
    original = source.table["utterance"].str.removesuffix(COPY).to_numpy(str)
    used = {part: set(original[protocols.members(source.split, part)]) for part in ("val", "test")}
    for part, seen in (("val", passport.learned_from), ("test", (*passport.learned_from, *passport.selected_on))):
        if leaked := used[part].intersection(seen):
            what = f"the encoder of {name} ({passport.extractor}) has seen the labels of {len(leaked)} of the"
            remedy = "take the array that was made for this fold and these splits"
            raise FeatureError(f"{what} {len(used[part])} utterances of {part}, first {min(leaked)}: {remedy}.")


def minority(labels: np.ndarray) -> np.ndarray:
    """Which utterances have a class that is rarer than the median class: n labels, -1 for none -> n bools.

    The median is over the classes that occur (unstated; MPAF-Net, Sec. 3.2, says minority classes).
    """
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        return np.zeros(len(labels), dtype=bool)
    return np.isin(labels, classes[counts < np.median(counts)])


def _with_copies(source: Source, dataset: Dataset, data: dict, protocol: dict, fold: int) -> Source:
    """The source with an augmented copy of every utterance of a rare class (of those that train, or of all).

    A copy whose augmented recording could not be used is left out by `on_failure` discard.
    """
    names, when = augmented(data), data["augment"]
    if absent := [name for m, name in names.items() if m in source.features and name not in dataset.features]:
        remedy = "`merlib data extract ... --augmented` makes them"
        raise RequestError(f"data.augment {when!r} needs the arrays {listed(absent)}: {remedy}")
    if data["unit"] != "utterance":
        raise RequestError("data.augment copies single utterances: use it with data.unit utterance")
    known = source.label >= 0
    if when == "minority_train":
        known &= source.split == "train"
    chosen = np.flatnonzero(known)[minority(source.label[known])]
    changed = [dataset.features[name] for m, name in names.items() if m in source.features]
    chosen = chosen[~_discarded(source.table, changed, data)[chosen]]
    copies = source.table.iloc[chosen]
    table = pd.concat([source.table, copies.assign(utterance=copies["utterance"] + COPY)], ignore_index=True)
    if when == "minority_train":
        split = np.concatenate([source.split, source.split[chosen]])
    else:
        split = protocols.assign(table, protocol, fold)
    features = {}
    for m, plain in source.features.items():
        augmented_feature = dataset.features.get(names.get(m), plain)  # a copy has the text of its original
        values, lengths = take(augmented_feature.values, augmented_feature.lengths, chosen)
        lengths = lengths if plain.lengths is None else np.concatenate([plain.lengths, lengths])
        features[m] = replace(plain, values=np.concatenate([plain.values, values]), lengths=lengths)
    return Source(features, table, split, np.concatenate([source.label, source.label[chosen]]))


def _flat(feature: Feature) -> tuple[Tensor, Tensor]:
    """The steps of a feature (sum of steps, d) and their number per utterance (u): one where it is no sequence."""
    values = torch.as_tensor(np.ascontiguousarray(feature.values))
    lengths = feature.lengths if feature.lengths is not None else np.ones(len(values), np.int64)
    return values, torch.as_tensor(lengths)


def shuffled(values: Tensor, lengths: Tensor, *, seed: int = 0) -> Tensor:
    """The steps (s d) of every utterance in an order that the seed draws; utterances keep their place, their steps and
    their length (u), and nothing is fitted. The runs of all seeds see the same order."""
    utterance = np.repeat(np.arange(len(lengths)), lengths)
    return values[np.lexsort((np.random.default_rng(seed).random(len(values)), utterance))]


def moments(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (d) of rows of `values` (s d), in blocks of features, since frames have thousands."""
    blocks = (as_float32(part[rows]) for part in values.split(BLOCK // max(1, len(rows)) + 1, dim=1))
    by_block = [(block.mean(0), block.std(0)) for block in blocks]
    return tuple(torch.cat(part) for part in zip(*by_block, strict=True))


def _utterances(table, split: np.ndarray, features, scales, target, device: str) -> dict[str, Utterances]:
    known, moved = (target["label"] >= 0).cpu().numpy(), _on(device, features, scales)
    return {name: _part(table, known & protocols.members(split, name), moved, target) for name in SPLITS}


def _on(device: str, features, scales) -> dict[str, Any]:
    """Of all utterances on the device: flat arrays, scales, and the number of steps of each."""
    return {
        "features": {m: values.to(device) for m, (values, _) in features.items()},
        "scales": {m: tuple(value.to(device) for value in scale) for m, scale in scales.items()},
        "steps": {m: lengths.to(device) for m, (_, lengths) in features.items()},
    }


def _part(table, members: np.ndarray, moved: dict[str, Any], target: dict[str, Tensor]) -> Utterances:
    """Those utterances of a table whose place in `members` (n bools) is True."""
    index = torch.from_numpy(np.flatnonzero(members)).to(target["label"].device)
    starts = {m: (lengths.cumsum(0) - lengths)[index] for m, lengths in moved["steps"].items()}
    return Utterances(
        features=moved["features"], scales=moved["scales"], starts=starts,
        steps={m: lengths[index] for m, lengths in moved["steps"].items()},
        target={k: v[index] for k, v in target.items()},
        ids=tuple(table["utterance"].to_numpy()[members]),
    )  # fmt: skip


def _dialogues(table, split: np.ndarray, features, scales, target, device: str) -> dict[str, Dialogues]:
    """The dialogues of each split, with the unlabelled utterances among them."""
    if long := sorted(m for m, (_, lengths) in features.items() if (lengths != 1).any()):
        what = f"data.unit dialogue reads one vector per utterance, but {listed(long)} are sequences"
        raise RequestError(f"{what}: pool them first")
    vectors = {m: as_float32(values) for m, (values, _) in features.items()}
    vectors |= {m: (vectors[m] - mean) / std for m, (mean, std) in scales.items()}
    by_split = {}
    for name in SPLITS:
        in_split = protocols.members(split, name)
        part = table[in_split]
        dialogue = part["dialogue"].factorize()[0]
        turn = part.groupby("dialogue", sort=False).cumcount().to_numpy()
        lengths = np.bincount(dialogue)
        rows = np.full((len(lengths), lengths.max()), -1)
        rows[dialogue, turn] = np.arange(len(part))
        speaker = part.groupby("dialogue", sort=False)["speaker"].transform(lambda names: names.factorize()[0])
        index = torch.from_numpy(np.flatnonzero(in_split))
        by_split[name] = Dialogues(
            features={m: values[index].to(device) for m, values in vectors.items()},
            target={k: v[index.to(device)] for k, v in target.items()},
            speaker=torch.tensor(speaker.to_numpy(np.int64), device=device),
            rows=torch.tensor(rows, device=device), lengths=torch.from_numpy(lengths), ids=tuple(part["utterance"]),
        )  # fmt: skip
    return by_split
