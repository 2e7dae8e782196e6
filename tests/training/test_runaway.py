"""The alarm for a term of the loss that runs away."""

import pytest

from merlib.training.runaway import FACTOR, ran_away, tell


def history(**terms: list[float]) -> list[dict[str, float]]:
    """One dict per epoch, as the loop writes it; the terms as keywords."""
    return [{f"train/{name}": value for name, value in zip(terms, row, strict=True)} for row in zip(*terms.values())]


@pytest.mark.parametrize(
    "terms",
    [
        {"loss": [1.8, 1.2, 0.9, 0.5], "cross_entropy": [1.8, 1.2, 0.9, 0.5]},
        {"loss": [2.0] * 5, "similarity": [0.0, 0.0, 0.0, 1.0, 90.0]},  # from nothing, to the size of the whole loss
        {"loss": [-0.01, -1.0, -5.0, -10.0], "soft_hgr": [1.0, -4.0, -20.0, -60.0]},  # the whole loss began near zero
        {"loss": [1.0] * 5, "grad_norm": [0.1, 0.1, 0.1, 5.0, 1e9]},  # no term
        {"loss": [1e3, 1.0, 1.0, 1e4], "swfc": [1e3, 1.0, 1.0, 1e4]},
    ],
)
def test_a_sound_run_raises_no_alarm(terms):
    assert ran_away(history(**terms)) == {}


def test_a_term_that_leaves_its_start_far_behind_is_named_with_the_epoch():
    falls = [-0.1, -1.0, -0.5 * FACTOR, -0.51 * FACTOR, -2.1 * FACTOR, -1e8]
    rises = [1.8, 1.7, 1.6, 1.6, 1.6, 1000.0]
    whole = [0.5, 0.1, -15.0, -15.0, -60.0, -1e7]
    log = history(loss=whole, soft_hgr=falls, cross_entropy=rises)
    assert ran_away(log) == {"soft_hgr": 3, "cross_entropy": 5}


def test_a_run_without_epochs_or_terms_raises_none():
    assert ran_away([]) == ran_away([{"val/accuracy": 0.5}]) == {}


def test_the_line_is_written_once_and_says_what_to_do(capsys):
    log = history(loss=[1.0] * 6, soft_hgr=[0.1, 0.1, 0.1, 0.1, -1e4, -1e5])
    for epochs in range(1, len(log) + 1):
        tell(log[:epochs], "wo_multiattn iemocap6, seed 0")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wo_multiattn iemocap6, seed 0: soft_hgr runs away in epoch 5 (-1e+04")
    assert "lower train.lr" in line
