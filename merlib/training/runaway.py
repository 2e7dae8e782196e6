"""The alarm for a term of the loss that runs away, as one without a lower bound does while training seems to go on."""

import sys

from tqdm.auto import tqdm

FACTOR = 100  # sound runs of this study stay below 16; what has no bound passes it within an epoch or two


def ran_away(history: list[dict[str, float]]) -> dict[str, int]:
    """Term of the training loss -> the first epoch (from 0) in which it is more than FACTOR times its start.

    history: one dict per epoch, in which `train/<term>` is the mean of a term. Its start is the value, without the
    sign, that it or the whole loss had in the first epoch, whichever is larger: a term may grow from nothing.
    """
    first, epochs = history[0] if history else {}, {}
    for name in first.keys() - {"train/loss", "train/grad_norm"}:
        if name.startswith("train/"):
            most = FACTOR * max(abs(first[name]), abs(first["train/loss"]))
            beyond = [epoch for epoch, row in enumerate(history) if abs(row.get(name, 0.0)) > most]
            epochs |= {name.removeprefix("train/"): beyond[0]} if beyond else {}
    return dict(sorted(epochs.items()))


def tell(history: list[dict[str, float]], run: str) -> None:
    """A line on standard error for each term that has run away in the last epoch; run: what the line calls the run."""
    for term, epoch in ran_away(history).items():
        if epoch == len(history) - 1:
            size = f"{history[-1][f'train/{term}']:.3g}, more than {FACTOR} times the loss of the first epoch"
            remedy = "its scores say little: lower train.lr, or give the term a bound or no weight"
            tqdm.write(f"{run}: {term} runs away in epoch {epoch + 1} ({size}); {remedy}", file=sys.stderr)
