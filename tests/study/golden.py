"""The numbers of each version: every network and loss, three steps in float64 on fixed data.

    python tests/study/golden.py        writes tests/fixtures/golden.json anew

Recipes are those of declared rows at the twin's scale. Write the file anew after VERSION of a network, a loss or the
loop was raised, or a network was added; never to silence a difference.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merlib import declarations, registry
from merlib.data import official
from merlib.training import loop, optimisation

FILE = Path(__file__).parents[1] / "fixtures" / "golden.json"
DIMS = {"text": 6, "audio": 5, "visual": 16}  # a step of video is a square of 4 x 4
LENGTHS = (26, 22, 24)  # steps of three utterances, in every modality, since some networks walk them together
DIALOGUES = (6, 4, 9)  # turns
CLASSES, SPEAKERS = 4, 3


def of_its_own(network: str) -> bool:
    """Whether a network's numbers are this project's: not an estimator's, nor those of a pretrained encoder."""
    return not registry.is_estimator(network) and not getattr(registry.constructor("model", network), "KEPT", False)


def entries() -> dict[str, dict[str, Any]]:
    """One declared row of each network, loss, other system, corpus kind and padding: what golden values are kept of."""
    chosen: dict[tuple, tuple[str, dict[str, Any]]] = {}
    for name in declarations.papers():
        paper = declarations.load(name)
        for table in paper.tables.values():
            for row in table.row:
                for cell in declarations.row_cells(paper, table, row) if row.runs and row.kind == "own" else ():
                    recipe = declarations.recipe(paper, row, cell.corpus, data="twin", modalities=cell.modalities)
                    model, loss = recipe["model"]["name"], recipe["loss"]["name"]
                    if not of_its_own(model):
                        continue
                    sentiment = cell.corpus in official.SENTIMENT
                    key = (name, model, loss, sentiment, recipe["model"].get("mask_padding"))
                    entry = {section: recipe[section] for section in ("model", "loss", "train")}
                    entry |= {"unit": recipe["data"]["unit"], "modalities": recipe["data"]["modalities"]}
                    address = f"{name}/{table.id}/{row.id} {cell.corpus}"
                    chosen.setdefault(key, (address, entry | {"sentiment": sentiment}))
    return dict(chosen.values())


def trained(entry: dict[str, Any]) -> dict[str, Any]:
    """The losses of three steps, and the norm of every weight after them."""
    loop.make_deterministic()
    torch.manual_seed(0)
    modalities = [declarations.LETTERS[letter] for letter in entry["modalities"]]
    batch, target = _batch(entry, modalities)
    classes = 7 if entry["sentiment"] else CLASSES
    given = {"classes": classes, "sentiment": entry["sentiment"], "speakers": SPEAKERS}
    given |= {"dims": {m: DIMS[m] for m in modalities}, "steps": {m: max(LENGTHS) for m in modalities}}
    counts = torch.tensor([5.0, 3.0, 2.0, 4.0, 1.0, 1.0, 1.0][:classes])
    settled = {"class_counts": counts, "dim": entry["model"].get("dim"), "sentiment": entry["sentiment"]}
    learned = nn.ModuleDict(
        {
            "model": registry.build("model", entry["model"], **given),
            "loss": registry.build("loss", entry["loss"], **settled),
        }
    ).double()
    with in_float64():
        steps = _steps(learned, entry, batch, target)
    norms = [p.detach().norm().item() for p in learned.parameters()]
    return {"losses": steps, "weights": sum(norms), "parameters": sum(p.numel() for p in learned.parameters())}


@contextmanager
def in_float64() -> Iterator[None]:
    """What a forward pass makes by itself, such as a position code, is in float64 too: in float32 its last digit is
    another one on another processor."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def _steps(
    learned: nn.ModuleDict, entry: dict[str, Any], batch: dict[str, Tensor], target: dict[str, Tensor]
) -> list[dict[str, float]]:
    """The losses of three steps of training."""
    optimizer = optimisation.optimizer(learned, entry["train"])
    steps = []
    for number in range(3):
        torch.manual_seed(number)
        optimizer.zero_grad(set_to_none=True)
        outputs = learned["model"](batch)
        if entry["unit"] == "dialogue":
            outputs = {name: value[batch["mask"]] for name, value in outputs.items()}
        named = learned["loss"](outputs, target)
        named["loss"].backward()
        nn.utils.clip_grad_norm_(learned.parameters(), entry["train"]["clip"])
        optimizer.step()
        steps.append({name: value.item() for name, value in named.items()})
    return steps


def _batch(entry: dict[str, Any], modalities: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Three padded dialogues or utterances, and the targets of the real utterances."""
    draw = torch.Generator().manual_seed(7)
    batch: dict[str, Tensor] = {}
    if entry["unit"] == "dialogue":
        mask = torch.arange(max(DIALOGUES)) < torch.tensor(DIALOGUES).unsqueeze(1)
        for m in modalities:
            batch[m] = torch.randn(*mask.shape, DIMS[m], generator=draw, dtype=torch.double) * mask.unsqueeze(-1)
        speaker = torch.randint(SPEAKERS, mask.shape, generator=draw) * mask
        batch |= {"mask": mask, "speaker": speaker}
        count = int(mask.sum())
    else:
        pooled = getattr(registry.constructor("model", entry["model"]["name"]), "POOLED", False)
        lengths = tuple(1 for _ in LENGTHS) if pooled else LENGTHS
        for m in modalities:
            mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
            values = torch.randn(*mask.shape, DIMS[m], generator=draw, dtype=torch.double)
            batch |= {m: values * mask.unsqueeze(-1), f"{m}_mask": mask}
        count = len(LENGTHS)
    score = torch.linspace(-3, 3, count, dtype=torch.double)
    label = torch.arange(count) % CLASSES
    return batch, {"label": label, "score": score} if entry["sentiment"] else {"label": label}


def versions(entry: dict[str, Any]) -> dict[str, int]:
    """Of the code that an entry's numbers come from."""
    kinds = {"network": ("model", entry["model"]["name"]), "loss": ("loss", entry["loss"]["name"])}
    return {what: registry.version(*kind) for what, kind in kinds.items()} | {"loop": loop.VERSION}


def main() -> None:
    written = {address: {"recipe": e, "versions": versions(e)} | trained(e) for address, e in entries().items()}
    FILE.write_text(json.dumps(written, indent=1, default=float) + "\n", encoding="utf-8")
    print(f"{len(written)} networks in {FILE}, {hashlib.sha256(FILE.read_bytes()).hexdigest()[:12]}")


if __name__ == "__main__":
    main()
