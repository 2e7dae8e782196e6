"""Vectors of an encoder that learned from a corpus's labels, as an array of a data root, one for each seed and fold.

The encoder is the network of a row (`paper table row`), trained as any other run, so that its own scores are records.
Its vectors are `embedding` of every utterance; or, for networks that read sequences, the last states of its tokens,
from the first on, as `merlib data text --pool tokens` takes them. Three ways:

    plain        one encoder, fitted on the training split: training utterances are encoded by a network that has seen
                 their labels, as in the papers that train in two stages
    cross-fitted `parts` further encoders, each fitted without one part of the training dialogues, which it encodes;
                 what does not train is encoded by the first encoder, or by the mean of the others, whichever a logistic
                 regression on the training vectors finds better on validation
    averaged     every utterance is encoded by the mean of these further encoders: the control of a cross-fitted array
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from merlib import declarations, registry
from merlib.data import folders, splits, store
from merlib.data.batches import Utterances
from merlib.data.table import Array
from merlib.declarations.schema import Learned
from merlib.errors import FeatureError, RequestError, one_of
from merlib.files import sha256
from merlib.study import planning, runs
from merlib.study.runs import Run
from merlib.training import metrics
from merlib.training.prediction import autocast, bucket_of, predict


@dataclass(frozen=True, eq=False)
class Encoded:
    """What trained encoders give to a corpus, in table order, a vector or a sequence of states for each utterance.

    weights: their files. how: they were trained, in words.
    """

    rows: list[np.ndarray]  # u: d, or t d
    weights: list[Path]
    note: str
    how: str = "tuned on train"


def fine_tune(
    data: str, corpus: str, paper: str, name: str, *, seeds: Sequence[int] = (0,),
    change: Mapping[str, Any] | None = None, device: str | None = None, progress: bool = True,
) -> list[Path]:  # fmt: skip
    """Train the encoder of a paper's `[learned.<name>]` on a corpus of the root `data`, and add its arrays.

    change: laid over the encoder's row. Encoders that are trained already are taken from the cache. Returns the files.
    """
    declared, files = declarations.load(paper), []
    learned = one_of(declared.learned, name, f"arrays that {paper} has an encoder for")
    found = declarations.encoder_of(declared, name, corpus, folders.arrays(data, corpus))
    if found is None:
        what = f"{data}/{corpus} has no array that one of {', '.join(learned.rows)} of {paper} reads"
        remedy = f"make token ids by `merlib data text ... --pool ids` (see papers/{paper}/notes.md)"
        raise RequestError(f"{what}: {remedy}.")
    table, row = found
    for seed in seeds:
        planned, _ = planning.plan(declared, table, row=row.id, data=data, seed=seed, change=dict(change or {}))
        for run in {each.run.id: each.run for each in planned if each.run.corpus == corpus}.values():
            options = {"device": device, "progress": progress, "label": f"{paper}/{table}/{row.id}"}
            by = _by_parts if learned.parts else _by_one
            array = declarations.array_of(name).format(seed=seed, fold=run.fold)
            files.append(_add(run, array, by(run, learned, options)))
    return files


def _by_one(run: Run, learned: Learned, options: dict[str, Any]) -> Encoded:
    """What the encoder of one run gives, which is trained where it is not in the cache."""
    runs.execute(run, **options)
    device = options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    model, whole, precision = runs.network(run, device), run.whole(device), run.recipe["train"]["precision"]
    needed = "states" if learned.tokens else "embedding"
    if learned.tokens and hasattr(model, "states"):
        rows = _states(model, whole, precision)
    elif not learned.tokens and "embedding" in (outputs := predict(model, whole, precision=precision)):
        rows = list(outputs["embedding"].cpu().numpy())
    else:
        raise RequestError(f"the network {run.recipe['model']['name']} gives no {needed} of an utterance")
    return Encoded(rows, [run.folder / "network.safetensors"], f"run {run.id}")


@torch.inference_mode()
def _states(model: torch.nn.Module, whole: Utterances, precision: str) -> list[np.ndarray]:
    """The states of the first token and of the words of every utterance: t d float16 each."""
    rows: list = [None] * len(whole)
    model.eval()
    for items in whole.by_length.split(bucket_of(model, whole)):
        with autocast(whole.label.device.type, precision):
            states, words = model.states(whole.batch(items))
        words[:, 0] = True
        for item, state, kept in zip(items.tolist(), states, words, strict=True):
            rows[item] = state[kept].cpu().numpy().astype(np.float16)
    return rows


def _by_parts(run: Run, learned: Learned, options: dict[str, Any]) -> Encoded:
    """What several encoders give, each fitted without a part of the training dialogues: cross-fitted, or their mean."""
    parts = learned.parts
    labelled = {} if learned.seen else {options["label"]: run}
    for part in range(1, parts + 1):
        protocol = run.recipe["protocol"] | {"parts": parts, "without": part}
        label = f"{options['label']}, without part {part} of {parts}"
        labelled[label] = replace(run, recipe=run.recipe | {"protocol": protocol})
    for label, each in labelled.items():  # several calls at once share the encoders out
        runs.execute(each, **options | {"label": label}, wait=False)
    encoded = [_by_one(each, learned, options | {"label": label}) for label, each in labelled.items()]
    weights, others = [path for each in encoded for path in each.weights], encoded[-parts:]
    mean = [np.mean(rows, axis=0) for rows in zip(*(each.rows for each in others), strict=True)]
    if learned.seen:
        note = ", ".join(each.note for each in others)
        return Encoded(mean, weights, note, f"mean of {parts} encoders, each tuned on train without one part")
    full, part_of = encoded[0], splits.parts(run.dataset.corpus.table, run.split, parts)  # u
    filled = {
        what: [others[part - 1].rows[i] if part else rows[i] for i, part in enumerate(part_of)]
        for what, rows in (("the first encoder", full.rows), ("the mean of the others", mean))
    }
    scores = {what: _score(run, rows) for what, rows in filled.items()}
    best = max(scores, key=scores.get)
    compared = ", ".join(f"{what} {score:.4f}" for what, score in scores.items())
    note = f"{full.note}; other utterances by {best} (weighted F1 of a logistic regression on val: {compared})"
    return Encoded(filled[best], weights, note, f"cross-fitted in {parts} parts")


def _score(run: Run, rows: list[np.ndarray]) -> float:
    """Weighted F1 on validation of a logistic regression on the vectors of the training utterances, of tokens on their
    means."""
    values = np.stack([row.astype(np.float32).mean(0) if row.ndim > 1 else row for row in rows])
    label, labels = run.dataset.corpus.table["label"].to_numpy(), run.judge.labels
    known = (label >= 0) & (label < len(labels))
    train, val = (known & splits.members(run.split, part) for part in ("train", "val"))
    model = registry.build("model", {"name": "logistic", "c": 1.0}, seed=run.seed).fit(values[train], label[train])
    scores = metrics.scores(y_true=label[val], y_pred=model.predict(values[val]), labels=labels)
    return scores["weighted_f1"]


def _add(run: Run, name: str, encoded: Encoded) -> Path:
    """Write the vectors with their passport; FeatureError where another encoder's array has the name."""
    (modality,) = run.arrays
    source = run.dataset.features[run.arrays[modality]].passport
    table = run.dataset.corpus.table
    ids, labelled = table["utterance"].to_numpy(str), table["label"].to_numpy() >= 0
    seen = {part: tuple(ids[labelled & splits.members(run.split, part)].tolist()) for part in ("train", "val")}
    sequences = encoded.rows[0].ndim > 1
    how = encoded.how + ", states of tokens" * sequences
    lengths = np.array([len(row) for row in encoded.rows], dtype=np.int64) if sequences else None
    values = np.concatenate(encoded.rows) if sequences else np.stack(encoded.rows).astype(np.float32)
    array = Array(
        values, lengths=lengths, modality=modality, extractor=f"{source.extractor}, {how}",
        version=source.version, weights_sha256=sha256(*encoded.weights), fitted_on="train",
        trained_on=f"{source.trained_on}; labels of {run.corpus} train ({len(seen['train'])} utterances)",
        learned_from=seen["train"], selected_on=seen["val"], max_tokens=source.max_tokens, cut=source.cut,
        note=f"seed {run.seed}, fold {run.fold}, {encoded.note}",
    )  # fmt: skip
    folder = folders.root_path(run.data) / run.corpus
    file = store.path(folder, name)
    old = store.read_passport(file) if file.exists() else array
    if (old.extractor, old.weights_sha256) != (array.extractor, array.weights_sha256):
        raise FeatureError(f"{file} holds {old.summary()} of other weights. Delete it, or take another root.")
    return store.add(folder, run.dataset.corpus, name, array)
