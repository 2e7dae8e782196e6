"""Vectors of an encoder that learned from a corpus's labels, as an array of a data root, one for each seed and fold.

The encoder is the network of a row (`paper table row`), trained as any other run, so that its own scores are records.
Its vectors are `embedding` of every utterance. Two ways:

    plain        one encoder, fitted on the training split: training utterances are encoded by a network that has seen
                 their labels, as in the papers that train in two stages
    cross-fitted `parts` further encoders, each fitted without one part of the training dialogues, which it encodes;
                 what does not train is encoded by the first encoder, or by the mean of the others, whichever a logistic
                 regression on the training vectors finds better on validation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from merlib import declarations, registry
from merlib.data import folders, splits, store
from merlib.data.store import Passport
from merlib.data.table import Array
from merlib.errors import FeatureError, RequestError
from merlib.files import sha256
from merlib.study import planning, runs
from merlib.study.runs import Run
from merlib.training import metrics
from merlib.training.prediction import predict


@dataclass(frozen=True, eq=False)
class Encoded:
    """The vectors that some trained encoders give to every utterance of a corpus (u d), and their files of weights."""

    values: np.ndarray
    weights: list[Path]
    note: str


def fine_tune(
    data: str, corpus: str, paper: str, table: str, row: str, *, name: str = "tuned", seeds: Sequence[int] = (0,),
    parts: int = 0, change: Mapping[str, Any] | None = None, device: str | None = None, progress: bool = True,
) -> list[Path]:  # fmt: skip
    """Train the encoder of a row on a corpus of the root `data`, and add its vectors as `<name>_s<seed>_f<fold>`.

    parts: 0 for the plain way, else the number of parts for the cross-fitted one. change: laid over the row's recipe.
    Encoders that are trained already are taken from the cache. Returns the files.
    """
    declared, files = declarations.load(paper), []
    for seed in seeds:
        planned, skipped = planning.plan(declared, table, row=row, data=data, seed=seed, change=dict(change or {}))
        of_corpus = {each.run.id: each.run for each in planned if each.run.corpus == corpus}
        if not of_corpus:
            why = "; ".join(skipped) or f"{paper}/{table}/{row} does not run on {corpus}"
            raise RequestError(f"{why}. Make the array that it reads first: `merlib data text ... --pool ids`.")
        for run in of_corpus.values():
            options = {"device": device, "progress": progress, "label": f"{paper}/{table}/{row}"}
            encoded = _cross_fitted(run, parts, options) if parts else _by_one(run, options)
            files.append(_add(run, f"{name}_s{seed}_f{run.fold}", encoded, parts))
    return files


def _by_one(run: Run, options: dict[str, Any]) -> Encoded:
    """The vectors of the encoder of one run, which is trained where it is not in the cache."""
    runs.execute(run, **options)
    device = options["device"] or "cpu"
    outputs = predict(runs.network(run, device), run.whole(device), precision=run.recipe["train"]["precision"])
    if "embedding" not in outputs:
        raise RequestError(f"the network {run.recipe['model']['name']} returns no embedding of an utterance")
    return Encoded(outputs["embedding"].cpu().numpy(), [run.folder / "network.safetensors"], f"run {run.id}")


def _cross_fitted(run: Run, parts: int, options: dict[str, Any]) -> Encoded:
    full = _by_one(run, options)
    part_of = splits.parts(run.dataset.corpus.table, run.split, parts)  # u
    others = []
    for part in range(1, parts + 1):
        protocol = run.recipe["protocol"] | {"parts": parts, "without": part}
        label = f"{options['label']}, without part {part} of {parts}"
        others.append(_by_one(replace(run, recipe=run.recipe | {"protocol": protocol}), options | {"label": label}))
    unseen = np.select([(part_of == k)[:, None] for k in range(1, parts + 1)], [each.values for each in others], np.nan)
    choices = {"the first encoder": full.values, "the mean of the others": np.mean([e.values for e in others], axis=0)}
    filled = {what: np.where(part_of[:, None] > 0, unseen, values) for what, values in choices.items()}
    scores = {what: _score(run, values) for what, values in filled.items()}
    best = max(scores, key=scores.get)
    compared = ", ".join(f"{what} {score:.4f}" for what, score in scores.items())
    note = f"{full.note}; other utterances by {best} (weighted F1 of a logistic regression on val: {compared})"
    return Encoded(filled[best], [path for each in (full, *others) for path in each.weights], note)


def _score(run: Run, values: np.ndarray) -> float:
    """Weighted F1 on validation of a logistic regression on the vectors (u d) of the training utterances."""
    label, labels = run.dataset.corpus.table["label"].to_numpy(), run.judge.labels
    known = (label >= 0) & (label < len(labels))
    train, val = (known & splits.members(run.split, part) for part in ("train", "val"))
    model = registry.build("model", {"name": "logistic", "c": 1.0}, seed=run.seed).fit(values[train], label[train])
    scores = metrics.scores(y_true=label[val], y_pred=model.predict(values[val]), labels=labels)
    return scores["weighted_f1"]


def _add(run: Run, name: str, encoded: Encoded, parts: int) -> Path:
    """Write the vectors with their passport; FeatureError where another encoder's array has the name."""
    (modality,) = run.arrays
    source = run.dataset.features[run.arrays[modality]].passport
    table = run.dataset.corpus.table
    ids, labelled = table["utterance"].to_numpy(str), table["label"].to_numpy() >= 0
    seen = {part: tuple(ids[labelled & splits.members(run.split, part)].tolist()) for part in ("train", "val")}
    how = f"cross-fitted in {parts} parts" if parts else "tuned on train"
    array = Array(
        encoded.values.astype(np.float32), modality=modality, extractor=f"{source.extractor}, {how}",
        version=source.version, weights_sha256=sha256(*encoded.weights), fitted_on="train",
        trained_on=f"{source.trained_on}; labels of {run.corpus} train ({len(seen['train'])} utterances)",
        learned_from=seen["train"], selected_on=seen["val"], max_tokens=source.max_tokens, cut=source.cut,
        note=f"seed {run.seed}, fold {run.fold}, {encoded.note}",
    )  # fmt: skip
    folder = folders.root_path(run.data) / run.corpus
    file = store.path(folder, name)
    if file.exists() and _differs(store.read_passport(file), array):
        what = f"{file} holds {store.read_passport(file).summary()} of other weights"
        raise FeatureError(f"{what}. Give this one another --name, or delete the file.")
    return store.add(folder, run.dataset.corpus, name, array)


def _differs(old: Passport, new: Array) -> bool:
    return (old.extractor, old.weights_sha256) != (new.extractor, new.weights_sha256)
