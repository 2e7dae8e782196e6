"""What `gpu.py` measures: every declared network, loss and reading, on random inputs, without any corpus.

Shapes are those of `merlib.data.batches`. At the size "tiny" recipes have the twin's scale and an utterance has a few
steps, so that a step takes milliseconds; at the size "real" recipes are the papers', and so are lengths and widths.
"""

import json
import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from merlib import declarations, registry
from merlib.data import batches, inputs, official

TINY = {"text": (6, 8, 26), "audio": (5, 20, 26), "visual": (16, 8, 26)}  # width, fewest and most steps
WIDTHS = {  # by paper, at the real size: width, fewest and most steps of an utterance (1, 1: a vector)
    "mfcre": {"text": (768, 1, 1), "audio": (512, 1, 1), "visual": (1000, 1, 1)},
    "hff": {"text": (768, 1, 1), "audio": (128, 1, 1), "visual": (512, 1, 1)},
    "attsf_net": {"text": (768, 3, 60), "audio": (12, 121, 121), "visual": (1024, 15, 15)},
    "gia_mic": {"text": (768, 3, 124), "audio": (1024, 20, 299), "visual": (768, 30, 180)},
    "mpaf_net": {"text": (768, 3, 128), "audio": (40, 60, 251), "visual": (64 * 64, 30, 150)},
}
ALIGNED = 50  # steps of an utterance where networks walk all modalities together (the SDK's aligned files)
ENCODED_IN_NETWORK = ("waveforms", "text_ids", "text_states")  # so begin arrays that an encoder reads, which learns
FACES = {"tiny": 32, "real": 224}  # pixels of a side, where frames are pictures
LONGEST = {"meld": 33, "mosi": 63, "mosei": 98}  # utterances of a dialogue; the others are IEMOCAP's
TINY_DIALOGUES = (6, 4, 9)
FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError)  # findings


@dataclass(frozen=True, eq=False)
class Case:
    """One declared network with its loss, on one kind of corpus."""

    paper: str
    name: str  # paper/table/row, corpus and modalities
    corpus: str
    recipe: dict[str, dict[str, Any]]

    @property
    def network(self) -> str:
        return self.recipe["model"]["name"]

    @property
    def modalities(self) -> list[str]:
        return [m for letter, m in declarations.LETTERS.items() if letter in self.recipe["data"]["modalities"]]

    @property
    def sentiment(self) -> bool:
        return self.corpus in official.SENTIMENT

    @property
    def classes(self) -> int:
        return self.recipe["data"].get("classes", len(official.LABELS[self.corpus]))

    @property
    def by_dialogue(self) -> bool:
        return self.recipe["data"]["unit"] == "dialogue"


def declared(size: str, paper: str = "") -> list[Case]:
    """The declared cases of all papers, or of one; kept in the folder GPU_CASES, where it is set, for later calls."""
    kept = Path(os.environ["GPU_CASES"]) / f"cases_{size}.pickle" if "GPU_CASES" in os.environ else None
    if kept is None or not kept.exists():
        cases = list(_declared(size, "" if kept else paper))
        if kept is None:
            return cases
        kept.write_bytes(pickle.dumps(cases))
    return [case for case in pickle.loads(kept.read_bytes()) if paper in ("", case.paper)]


def _declared(size: str, only: str) -> Iterator[Case]:
    """Every run of every row of every paper, or of one, once a corpus and column, estimators left out.

    Networks read what stands in for encoders that learn, and of each paper one network is there as printed, too.
    Those that start from published weights start from random ones; those with a pretrained encoder of speech or text
    that learns are left out: the section `memory` of gpu.py builds the largest.
    """
    for paper in map(declarations.load, [only] if only else declarations.papers()):
        for table in paper.tables.values():
            for row in table.row:
                columns = declarations.row_cells(paper, table, row) if row.runs and row.kind == "own" else ()
                for corpus, modalities in {(cell.corpus, cell.modalities): None for cell in columns}:
                    options = {"modalities": modalities, "data": "twin" if size == "tiny" else ""}
                    for change in _choices(paper, row):
                        recipe = declarations.recipe(paper, row, corpus, change=change, **options)
                        read = inputs.arrays(recipe["data"]).values()
                        learning = any(array.startswith(ENCODED_IN_NETWORK) for array in read)
                        if learning or registry.is_estimator(recipe["model"]["name"]):
                            continue
                        with_random_weights(recipe["model"])
                        letters = recipe["data"]["modalities"]
                        yield Case(paper.id, f"{paper.id}/{table.id}/{row.id}, {corpus}, {letters}", corpus, recipe)


def _choices(paper: declarations.Paper, row: declarations.Row) -> list[dict[str, bool]]:
    """The substitutes of arrays, unless the row chooses; for the row of all default readings also the other choices."""
    names = {f"substitute.{name}": each for name, each in paper.substitute.items()}
    stored = {name: True for name, each in names.items() if f"data.{each.modality}" in paper.flat(each.change)}
    if row.id != "default":
        return [{name: True for name in stored if name not in paper.flat(row.change)}]
    printed = dict.fromkeys(names, False)
    return [stored, printed, *(printed | {name: True} for name in names if name not in stored)]


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def with_random_weights(section: dict[str, Any]) -> None:
    """Sets every leaf `weights` that names a file to "none", in place."""
    for key, value in section.items():
        if isinstance(value, dict):
            with_random_weights(value)
        elif key == "weights":
            section[key] = "none"


def distinct(cases: Iterable[Case], *, by_corpus: bool) -> list[Case]:
    """Different networks, losses and inputs once: first one of each network and loss, then ablations and readings.

    by_corpus: whether a network on another corpus, with other lengths, is another one.
    """
    chosen: dict[str, Case] = {}
    for case in cases:
        data = [case.recipe["data"][leaf] for leaf in ("unit", "modalities", "visual")]
        where = case.corpus if by_corpus else case.sentiment
        key = json.dumps([case.recipe["model"], case.recipe["loss"], data, where], sort_keys=True, default=str)
        chosen.setdefault(key, case)
    first = list({kind(case, by_corpus=by_corpus): case for case in reversed(chosen.values())}.values())[::-1]
    return first + [case for case in chosen.values() if case not in first]


def kind(case: Case, *, by_corpus: bool) -> tuple:
    """What cases that are ablations or readings of one another share."""
    where = case.corpus if by_corpus else case.sentiment
    return case.paper, case.network, case.recipe["loss"]["name"], case.by_dialogue, where


def split_of(case: Case, size: str, items: int, device: str) -> batches.Split:
    """Random inputs and targets of as many utterances or dialogues, the same on every device."""
    draw = np.random.default_rng(0)
    make = _dialogues if case.by_dialogue else _utterances
    split = make(case, size, items, device, draw)
    return split.pooled() if registry.is_pooled(case.network) else split


def _shapes(case: Case, size: str) -> dict[str, tuple[int, int, int]]:
    shapes = dict(TINY if size == "tiny" else WIDTHS[case.paper])
    if case.recipe["data"]["visual"] == "faces":
        shapes["visual"] = (3 * FACES[size] ** 2, *((2, 3) if size == "tiny" else (15, 15)))
    if size == "real" and case.paper == "hff" and not case.by_dialogue:
        shapes = {m: (width, ALIGNED, ALIGNED) for m, (width, _, _) in shapes.items()}
    return {m: shapes[m] for m in case.modalities}


def _target(case: Case, count: int, draw: np.random.Generator, device: str) -> dict[str, Tensor]:
    label = np.r_[np.arange(min(count, case.classes)), draw.integers(case.classes, size=max(0, count - case.classes))]
    target = {"label": torch.from_numpy(label).to(device)}
    if case.sentiment:
        target["score"] = torch.from_numpy(draw.uniform(-3, 3, count).astype(np.float32)).to(device)
    return target


def _utterances(case: Case, size: str, items: int, device: str, draw) -> batches.Utterances:
    shapes, shortest = _shapes(case, size), draw.uniform(size=items)
    aligned = len({shape[1:] for shape in shapes.values()}) == 1 or size == "tiny"
    steps, features = {}, {}
    for m, (width, least, most) in shapes.items():
        share = shortest if aligned else draw.uniform(size=items)
        if size == "tiny":
            least, most = (least, most) if width > 1000 else (20, 26)  # the same lengths in all modalities
        steps[m] = torch.from_numpy(np.rint(least + share * (most - least)).astype(np.int64))
        values = draw.standard_normal((int(steps[m].sum()), width), dtype=np.float32)
        features[m] = torch.from_numpy(values).to(device)
    return batches.Utterances(
        features=features, starts={m: (n.cumsum(0) - n).to(device) for m, n in steps.items()},
        steps={m: n.to(device) for m, n in steps.items()}, target=_target(case, items, draw, device),
        ids=tuple(map(str, range(items))),
    )  # fmt: skip


def _dialogues(case: Case, size: str, items: int, device: str, draw) -> batches.Dialogues:
    if size == "tiny":
        lengths = np.resize(TINY_DIALOGUES, items)
    else:
        longest = LONGEST.get(case.corpus, 110)
        lengths = np.rint(1 + (longest - 1) * draw.beta(2.4, 3.6, items)).astype(int)
    total, turns = int(lengths.sum()), np.arange(lengths.max())
    rows = np.full((items, len(turns)), -1)
    rows[turns < lengths[:, None]] = np.arange(total)
    widths = {m: width for m, (width, _, _) in _shapes(case, size).items()}
    values = {m: draw.standard_normal((total, width), dtype=np.float32) for m, width in widths.items()}
    return batches.Dialogues(
        features={m: torch.from_numpy(v).to(device) for m, v in values.items()},
        target=_target(case, total, draw, device),
        speaker=torch.from_numpy(draw.integers(2, size=total)).to(device),
        rows=torch.from_numpy(rows).to(device), lengths=torch.from_numpy(lengths), ids=tuple(map(str, range(total))),
    )  # fmt: skip
