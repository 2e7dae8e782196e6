"""Checks of printed hyper-parameters: attention heads and widths, steps of the optimiser."""

import math
from collections.abc import Iterator

from merlib import declarations
from merlib.audit.printed import Finding, finding, number, show
from merlib.data.official import CLASSES, DIALOGUES
from merlib.declarations.schema import Cell, Paper

FEW_STEPS = 1000  # fewer steps of the optimiser than this are a note


def hyperparameter_findings(paper: Paper) -> Iterator[Finding]:
    """The findings of this module within one paper."""
    yield from heads(paper)
    yield from steps(paper)


def heads(paper: Paper) -> Iterator[Finding]:
    """The number of attention heads divides the width that they share."""
    first_of_row: dict[tuple[str, str], Cell] = {}
    for cell in declarations.cells(paper):
        if cell.table in paper.tables:
            first_of_row.setdefault((cell.table, cell.row), cell)
    for cell in first_of_row.values():
        recipe = declarations.recipe_of(paper, cell)
        model = paper.flat({"model": (recipe or {}).get("model", {})})
        for key, count in model.items():
            section, leaf = key.rsplit(".", 1)
            if leaf != "heads" and not leaf.endswith("_heads"):
                continue
            widths = key.replace("heads", "dim"), f"{section}.dim", "model.dim", f"{section}.hidden", "model.hidden"
            name = next((width for width in widths if width in model), None)
            if name and count and model[name] % count:
                yield finding(
                    cell, "heads", "note", value=model[name] / count,
                    message=f"{count:g} attention heads do not divide the width {model[name]:g} ({name}): "
                    f"{model[name]:g} / {count:g} = {model[name] / count:.2f}. The standard layer refuses this; "
                    f"{show(cell)} and the rest of its row need another one.",
                )  # fmt: skip


def steps(paper: Paper) -> Iterator[Finding]:
    """The printed batch size and epochs allow enough steps of the optimiser, where a batch may be of dialogues."""
    known = declarations.addresses(paper)
    for corpus in (c for c in paper.corpora if any(g.startswith("train") for g in DIALOGUES.get(c, ()))):
        batch, epochs, lr = (
            known.get(f"settings/train.{name}.{corpus}") or known.get(f"settings/train.{name}")
            for name in ("batch", "epochs", "lr")
        )
        if batch is None or epochs is None:
            continue
        size, n_epochs = int(number(batch.printed)), int(number(epochs.printed))
        dialogues = next(n for name, n in DIALOGUES[corpus].items() if name.startswith("train"))
        utterances = next(sum(n) for name, n in CLASSES[corpus].items() if name.startswith("train"))
        per_epoch = math.ceil(dialogues / size)
        total = per_epoch * n_epochs
        if total < FEW_STEPS:
            reach = f" Adam moves a weight by about its learning rate a step: {total} x {lr.printed} = " \
                    f"{total * float(lr.printed):.4g} at most." if lr else ""  # fmt: skip
            yield finding(
                batch, "steps", "note", value=total,
                message=f"{dialogues} training dialogues of {corpus}, {size} a batch, are {per_epoch} steps an epoch, "
                f"{total} in {n_epochs} epochs.{reach} If {size} counts utterances: "
                f"{math.ceil(utterances / size) * n_epochs} steps.",
            )  # fmt: skip
