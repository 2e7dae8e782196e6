"""The data and the recipes of a paper, as its notebooks show them: tables, and figures that are written, too."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure

from merlib import declarations, figures, registry, study
from merlib.data import batches, folders, inputs
from merlib.data import splits as protocols
from merlib.data.folders import Dataset
from merlib.declarations import BASE, Paper, Row
from merlib.declarations.leaves import sourced
from merlib.places import TWINS
from merlib.study.planning import recipe_on


def load(name: str) -> Paper:
    """The declarations of a paper; the modules of its networks and losses are imported, to be shown by a notebook."""
    package = importlib.import_module(registry.papers()[name])
    for place in (*package.NETWORKS.values(), *package.LOSSES.values()):
        importlib.import_module(place.split(":")[0])
    return declarations.load(name)


def base_recipe(paper: Paper, corpus: str, *, data: str, change: dict[str, Any] | None = None) -> dict[str, dict]:
    """The paper's base recipe as it runs on the data root, with what stands in for arrays that the root lacks."""
    return recipe_on(paper, BASE, corpus, data=data, change=change)


def datasets(paper: Paper, data: str) -> dict[str, Dataset]:
    """The corpora of a paper that the data root has, with all their arrays; prints which are ABSENT."""
    held = {name: folders.dataset(data, name) for name in paper.corpora if name in folders.corpora(data)}
    for name in paper.corpora:
        absent = f"ABSENT from the data root {data!r}: see merlib doctor"
        print(name, "|", held[name].corpus.source if name in held else absent)
    return held


def present(paper: Paper, table: str, data: str) -> list[str]:
    """The corpora of a table that the data root has, in the order of its columns; prints which are ABSENT."""
    printed = paper.table(table)
    print(" | ".join(filter(None, (printed.caption, printed.where, printed.note))))
    held = folders.corpora(data)
    for corpus in _corpora(paper, table):
        absent = f"is ABSENT from the data root {data!r}: printed numbers only"
        print(corpus, "is here" if corpus in held else absent)
    return [corpus for corpus in _corpora(paper, table) if corpus in held]


def _corpora(paper: Paper, table: str) -> list[str]:
    return list(dict.fromkeys(c.corpus or paper.corpora[0] for c in paper.table(table).columns.values()))


def counts(paper: Paper, table: str, data: str) -> pd.DataFrame:
    """A table of counts, printed beside counted here, and each count's share (%) of its label's sum.

    Columns called `total` count in no sum. The twins are smaller than the corpora, so there the shares matter.
    """
    study.run_table(paper.id, table, data=data)
    counted = study.compare(paper.id, table, data)[["label", "column", "printed", "reproduced"]]
    numbers = counted[["printed", "reproduced"]].astype(float)
    sums = numbers[counted["column"] != "total"].groupby(counted["label"]).sum(min_count=1).reindex(counted["label"])
    return counted.join((100 * numbers / sums.to_numpy()).add_suffix(" %")).round(1)


def parts(dataset: Dataset, protocol: Mapping[str, Any], fold: int = 0) -> pd.Series:
    """train, val or test of every utterance of a corpus, by the section `protocol` of a recipe."""
    table = dataset.corpus.table
    return pd.Series(protocols.assign(table, dict(protocol), fold), index=table.index, name="part")


def partitions(dataset: Dataset, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """How a protocol divides a corpus, a line a fold: utterances of each part, and what the test part shares.

    "test speakers" are named where they are five or fewer. "heard before" counts those of them whom train or val has
    too; "known dialogues" counts test dialogues of which train has a part.
    """
    table, lines = dataset.corpus.table, []
    for fold in range(protocols.folds(protocol)):
        part = parts(dataset, protocol, fold)
        speakers, dialogues = (table.groupby(part)[key].agg(set) for key in ("speaker", "dialogue"))
        tested = speakers["test"]
        before = set().union(*speakers.drop("test"))
        sizes = {name: int((part == name).sum()) for name in ("train", "val", "test")}
        names = ", ".join(sorted(tested)) if len(tested) <= 5 else f"{len(tested)} speakers"
        shared = {"heard before": len(tested & before), "known dialogues": len(dialogues["test"] & dialogues["train"])}
        lines.append({"corpus": dataset.corpus.name, "fold": fold, **sizes, "test speakers": names, **shared})
    return pd.DataFrame(lines).set_index(["corpus", "fold"])


def passports(paper: Paper, data: str) -> pd.DataFrame:
    """What the base recipe reads of each corpus: the array of every modality, and what its passport says; or ABSENT."""
    lines = {}
    for corpus in filter(folders.corpora(data).__contains__, paper.corpora):
        arrays = inputs.arrays(base_recipe(paper, corpus, data=data)["data"])
        features = folders.dataset(data, corpus).features
        for modality, array in arrays.items():
            passport = vars(features[array].passport) if array in features else {"extractor": "ABSENT"}
            lines[corpus, modality] = passport | {"array": array}
    columns = ["array", "extractor", "shape", "steps", "trained_on", "fitted_on"]
    return pd.DataFrame(lines, index=columns).T.fillna("")


def learned(paper: Paper, data: str) -> pd.DataFrame:
    """The arrays whose encoder has learned from labels of its corpus: how many of which, and how it was chosen."""
    lines = {}
    for corpus in filter(folders.corpora(data).__contains__, paper.corpora):
        for name, feature in folders.dataset(data, corpus).features.items():
            passport = feature.passport
            if passport.learned_from:
                seen = {"learned from": len(passport.learned_from), "selected on": len(passport.selected_on)}
                lines[corpus, name] = {"extractor": passport.extractor, **seen, "note": passport.note}
    return pd.DataFrame(lines, index=["extractor", "learned from", "selected on", "note"]).T


def splits(paper: Paper, held: Mapping[str, Dataset], data: str, *, fold: int = 0) -> dict[str, dict[str, Any]]:
    """Corpus -> train, val and test as the base recipe reads them."""
    recipes = {name: base_recipe(paper, name, data=data) for name in held}
    sections = {name: {key: recipe[key] for key in ("data", "protocol")} for name, recipe in recipes.items()}
    return {name: inputs.splits(dataset, **sections[name], fold=fold) for name, dataset in held.items()}


def batch(split: batches.Split, rows: Sequence[int]) -> batches.Batch:
    """Some dialogues or utterances of a split as a batch, padded, with their masks."""
    return split.batch(torch.tensor(rows))


def steps(split: Mapping[str, batches.Split]) -> pd.DataFrame:
    """How long the sequences of each modality are, over train, val and test, and how wide a step is."""
    lines = {}
    for modality, width in batches.dims(split["train"]).items():
        lengths = pd.concat([pd.Series(part.steps[modality].cpu().numpy(), dtype=float) for part in split.values()])
        spread = {"shortest": lengths.min(), "mean": lengths.mean(), "longest": lengths.max()}
        lines[modality] = {"values a step": width} | spread
    return pd.DataFrame(lines).T.round(1)


def sources(paper: Paper, row: Row, corpus: str, data: str) -> pd.DataFrame:
    """The recipe of a row on a corpus, leaf by leaf, and where each value comes from: a place in the paper, a reading
    of what it leaves open, a substitute of what the root lacks, or the twin."""
    recipe = recipe_on(paper, row, corpus, data=data)
    values = paper.flat(recipe)
    source = {key: where for key, (_, where) in sourced(paper.recipe, paper.corpora).items()}
    for name, reading in paper.readings.items():
        source |= dict.fromkeys(paper.flat(reading.options[reading.default]), f"reading: {name}")
    for name in declarations.substitutes(paper, corpus, recipe):
        source |= dict.fromkeys(paper.flat(paper.substitute[name].change), f"substitute: {name}")
    source |= {key: where for key, (_, where) in sourced(paper.base.get(row.base, {}), paper.corpora).items()}
    source |= dict.fromkeys(paper.flat(paper.twin) if data in TWINS else (), "twin")
    return pd.DataFrame({"value": values, "source": {key: source.get(key, "") for key in values}})


def changes(paper: Paper, table: str, data: str) -> pd.DataFrame:
    """What each row of a table changes on each corpus, found by comparing its recipe with the base recipe.

    `as base`: nothing. A row with another system (`base`) has other leaves; `-` stands where one of the two has none.
    """
    lines = {corpus: {} for corpus in _corpora(paper, table)}
    for corpus, line in lines.items():
        base = paper.flat(base_recipe(paper, corpus, data=data))
        for row in filter(lambda row: row.runs, paper.table(table).row):
            own = paper.flat(recipe_on(paper, row, corpus, data=data))
            changed = [key for key in sorted(base | own) if base.get(key, "-") != own.get(key, "-")]
            line[row.label] = ", ".join(f"{k}: {base.get(k, '-')} -> {own.get(k, '-')}" for k in changed) or "as base"
    return pd.DataFrame(lines)


def shown(figure: Figure, data: str, place: str) -> Figure:
    """Write the figure to results/<data>/figures/ as `place`, such as "hff/table3_per_class"; it is then displayed."""
    figures.save(figure, data, *place.split("/"))
    return figure


def classes(paper: Paper, held: Mapping[str, Dataset], data: str) -> None:
    """Display the shares of the classes of each corpus, split by split, and the lengths of its dialogues."""
    for name, dataset in held.items():
        display(shown(figures.corpus_shape(dataset.corpus, data=data), data, f"{paper.id}/{name}_classes"))


def transitions(paper: Paper, held: Mapping[str, Dataset], data: str) -> None:
    """Display how often each emotion follows each other one."""
    for name, dataset in held.items():
        display(shown(figures.transitions(dataset.corpus, data=data), data, f"{paper.id}/{name}_transitions"))


def lengths(dataset: Dataset, arrays: Mapping[str, str], data: str, place: str) -> Figure:
    """How many steps the utterances of a corpus have, a panel a modality; arrays: modality -> name of its array."""
    features = {modality: dataset.features[name] for modality, name in arrays.items() if name in dataset.features}
    figure, axes = figures.canvas("Lengths of the sequences", data, len(features), size=(4.2, 2.8))
    for ax, (modality, feature) in zip(axes, features.items(), strict=True):
        steps = np.ones(len(feature.values)) if feature.lengths is None else feature.lengths
        ax.hist(steps, bins=min(30, len(set(steps))), color=figures.OURS, edgecolor="white")
        title = f"{modality}: {feature.values.shape[-1]} values a step"
        ax.set(title=title, xlabel="steps of an utterance", ylabel="utterances")
    return shown(figure, data, place)


def sequences(panels: Mapping[str, np.ndarray], data: str, place: str) -> Figure:
    """Sequences (t d) as images: time runs to the right, a row is one value of a step; standardised values."""
    figure, axes = figures.canvas("Sequences", data, len(panels), size=(4.0, 3.2))
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        ax.imshow(np.asarray(values, np.float32).T, aspect="auto", origin="lower", cmap="RdBu", vmin=-3, vmax=3)
        ax.set(title=title, xlabel="step", ylabel="value")
    return shown(figure, data, place)
