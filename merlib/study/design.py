"""A balanced design: which option every draw takes of each reading."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from merlib.errors import RequestError

EXCHANGES = 5_000  # that are tried; of further ones hardly any would help


def balanced(
    options: Sequence[int], draws: int, *, seed: int, refuses: Callable[[np.ndarray], bool] = lambda draw: False
) -> tuple[np.ndarray, int]:
    """The options (draws x readings, counted from 0) of a number of draws, and how many draws had to be replaced.

    options: how many each reading has. refuses: whether a draw, its option of each reading, cannot be.

    Every option of a reading is drawn equally often, within one: the strata of a Latin hypercube sample (McKay et al.
    1979) are shared out. Then options change places between draws wherever that lets draws agree in fewer readings:
    the sum of squared agreements of all two draws is, but for a constant, that of the squared counts of all pairs of
    options, so that it is lowest where pairs of readings are balanced, too. A draw that is refused changes places in
    the same way, so that readings stay balanced. Raises RequestError where no exchange helps it.
    """
    from scipy.stats.qmc import LatinHypercube

    strata = LatinHypercube(len(options), scramble=False, rng=seed).random(draws)
    design = (strata * np.array(options)).astype(int)
    rng = np.random.default_rng(seed)
    for reading, *pair in rng.integers([len(options), draws, draws], size=(EXCHANGES, 3)):
        other = _exchanged(design, reading, pair)
        if _agreement(other, pair) <= _agreement(design, pair):
            design = other
    refused = [draw for draw in range(draws) if refuses(design[draw])]
    for draw in filter(lambda draw: refuses(design[draw]), refused):
        exchanges = product(range(len(options)), ([draw, partner] for partner in range(draws)))
        others = [(_exchanged(design, *each), each[1]) for each in exchanges]
        others.sort(key=lambda each: _agreement(each[0]))
        design = next((other for other, pair in others if not any(map(refuses, other[pair]))), None)
        if design is None:
            raise RequestError(f"no design of {draws} draws avoids what the recipe refuses: ask for another number")
    return design, len(refused)


def _exchanged(design: np.ndarray, reading: int, pair: list[int]) -> np.ndarray:
    """A design in which the two draws of `pair` have changed places in a reading."""
    design = design.copy()
    design[pair, reading] = design[pair[::-1], reading]
    return design


def _agreement(design: np.ndarray, draws: Sequence[int] | slice = slice(None)) -> int:
    """The sum, over the named draws and all others, of the squared number of readings in which two agree."""
    return int(((design[draws][:, None] == design).sum(-1) ** 2).sum())
