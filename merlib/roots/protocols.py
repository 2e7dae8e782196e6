"""What a data root and this machine lack for a paper's printed protocol, what stands in, and what the protocol costs.

The costs are computed, not measured, with the batch and the epochs of the base recipe (`Learns` in
`merlib.declarations.schema`).
"""

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merlib import declarations
from merlib.data import splits
from merlib.declarations.schema import Learns, Paper, Substitute
from merlib.places import data_folder


def of_root(paper: Paper, held: Mapping[str, dict]) -> list[dict[str, Any]]:
    """A line for each corpus of the root and each substitute of an array. held: corpus -> its description by doctor."""
    lines = []
    for corpus in (corpus for corpus in paper.corpora if "features" in held.get(corpus, {})):
        recipe, arrays = declarations.base_recipe(paper, corpus), held[corpus]["features"]
        for name, substitute in paper.substitute.items():
            array = paper.flat(substitute.change).get(f"data.{substitute.modality}")
            if array is None:
                continue
            own = recipe  # of the encoder
            if substitute.learned:
                own = declarations.recipe(paper, paper.row_at(paper.learned[substitute.learned].rows[0]), corpus)
            printed = recipe["data"][substitute.modality]
            names = fnmatch.filter(arrays, re.sub(r"{\w+}", "*", printed))  # one of a seed and a fold, at least
            summaries, here = [arrays[each].get("summary", "") for each in names], bool(names)
            pattern = paper.printed_on.on(corpus).get(substitute.modality, "")
            lines.append({
                "corpus": corpus, "modality": substitute.modality, "printed": printed, "here": here,
                "other": next((each for each in summaries if not re.search(pattern, each)), ""),
                "substitute": name, "stands_in": not here and array in arrays,
                "always": substitute.always, "own": array, "own_here": array in arrays,
                "instead_of": substitute.instead_of, **_weights(paper, own, substitute),
                "cost": _cost(own, substitute.learns, sum(held[corpus]["utterances"].values())),
            })  # fmt: skip
    return lines


def _weights(paper: Paper, recipe: dict[str, dict], substitute: Substitute) -> dict[str, Any]:
    """The pretrained weights that the printed protocol starts from, and whether they are on this machine."""
    name = paper.flat(recipe).get(substitute.weights, "")
    file = data_folder() / "weights" / name
    return {"weights": name, "weights_here": bool(name) and (file.is_file() or Path(name).is_dir() or _cached(name))}


def _cached(name: str) -> bool:
    """Whether the hub's cache on this machine has an encoder of that name."""
    if Path(name).suffix:  # a file
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _cost(recipe: dict[str, dict], learns: Learns | None, utterances: int) -> dict[str, float] | None:
    """GPU memory in GB, and hours of one row with all its folds on one card, of the encoder that learns."""
    if learns is None:
        return None
    train = recipe["train"]
    seen = utterances * train["epochs"] * splits.folds(recipe["protocol"])
    hours = learns.seconds(seen, train["precision"]) / 3600
    return {"gpu_gb": round(learns.gigabytes(train["batch"]), 1), "hours": round(hours, 1)}


def as_text(line: Mapping[str, Any]) -> str:
    """A line of `of_root` for people."""
    if line["here"]:
        state = f"the array {line['printed']} is here, "
        state += f"but not what was printed: {line['other']}" if line["other"] else "so that the printed protocol runs"
        if line["always"] and not line["own_here"]:
            state += f"; {', '.join(line['always'])} always read the array {line['own']}, which is not here"
    else:
        stands_in = "stands in" if line["stands_in"] else "could stand in"
        state = f"no array {line['printed']} ({line['modality']}); {line['substitute']} {stands_in}, instead of: "
        state += line["instead_of"]
    weights = f"; its weights {line['weights']} are {'' if line['weights_here'] else 'not '}on this machine"
    text = f"{line['corpus']}: {state}" + weights * bool(line["weights"])
    if cost := line["cost"]:
        hours = f"{cost['hours']:g}" if cost["hours"] else "less than 0.1"
        text += f"; it takes about {cost['gpu_gb']:g} GB of GPU memory and {hours} hours a row (computed)"
    return text
