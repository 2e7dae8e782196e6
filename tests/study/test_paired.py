"""Two systems on the same utterances: the exact test against its definition, and runs that may stand side by side."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from merlib import cli, declarations, study
from merlib.study import paired, statistics

PAPER = declarations.load("mfcre")


@pytest.mark.parametrize(("only_this", "only_other"), [(0, 0), (1, 0), (3, 9), (9, 3), (5, 5), (0, 20), (40, 61)])
def test_the_exact_test_is_the_two_tails_of_a_fair_coin(only_this, only_other):
    n = only_this + only_other
    tail = sum(math.comb(n, k) for k in range(min(only_this, only_other) + 1)) / 2**n
    this = np.array([True] * only_this + [False] * only_other + [True, False, True])
    other = np.array([False] * only_this + [True] * only_other + [True, False, True])
    assert statistics.mcnemar(this, other) == pytest.approx(min(1.0, 2 * tail))


@pytest.fixture
def ran(tiny):
    """Two floors of Table 3 have run, two seeds each: the majority and a logistic regression."""
    study.run_table("mfcre", "table3", row=["majority", "logistic"], seeds=(0, 1), progress=False)
    return tiny


def test_a_line_counts_the_utterances_that_only_one_classifies_correctly(ran):
    lines = study.against("mfcre", "table3", "logistic", seeds=(0, 1))
    assert list(lines["other"]) == ["majority"] * 2 and list(lines["seed"]) == [0, 1]
    saved = {}
    for row, _, run in study.runs_of(PAPER, "table3", row=["logistic", "majority"]):
        with np.load(run.folder / "predictions.npz") as arrays:
            saved[row.id] = list(zip(arrays["ids"], arrays["y_true"], arrays["val_pred"], strict=True))
    alone, beaten = 0, 0
    for (u, label, mine), (v, _, theirs) in zip(saved["logistic"], saved["majority"], strict=True):
        assert u == v
        alone += mine == label != theirs
        beaten += theirs == label != mine
    line = lines.iloc[0]
    assert (line["only_this"], line["only_other"], line["n"]) == (alone, beaten, len(saved["logistic"]))
    assert line["accuracy"] - line["accuracy_other"] == pytest.approx(100 * (alone - beaten) / line["n"])
    assert (
        line["p"]
        == statistics.mcnemar(np.repeat([True, False], [alone, beaten]), np.repeat([False, True], [alone, beaten]))
        < 1
    )


def test_the_other_way_round_is_the_same_test(ran):
    forth, back = (
        study.against("mfcre", "table3", a, others=[b]).iloc[0]
        for a, b in (("logistic", "majority"), ("majority", "logistic"))
    )
    assert (forth["only_this"], forth["only_other"], forth["p"]) == (back["only_other"], back["only_this"], back["p"])


def test_a_row_that_is_the_same_run_is_no_line(ran, monkeypatch):
    kept = paired.Kept
    monkeypatch.setattr(paired, "Kept", lambda run, outcomes: kept("one", outcomes))
    assert study.against("mfcre", "table3", "logistic").empty


def test_only_the_rows_that_are_named_are_compared(ran):
    with pytest.raises(ValueError, match="logistic and logistic cannot be compared"):
        study.against("mfcre", "table3", "logistic", others=["logistic"])


def test_what_has_not_run_is_named_with_the_command_that_runs_it(ran, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["against", "mfcre", "table3", "logistic", "ours", "--seeds", "0"])
    assert stopped.value.code == 1
    assert "merlib run mfcre table3 ours --data twin --seeds 0" in capsys.readouterr().err


def test_rows_with_other_test_utterances_are_left_out(ran, monkeypatch):
    kept = paired.Kept
    monkeypatch.setattr(paired, "Kept", lambda run, outcomes: kept(run, replace(outcomes, order=run)))
    assert study.against("mfcre", "table3", "logistic").empty
    with pytest.raises(ValueError, match="cannot be compared"):
        study.against("mfcre", "table3", "logistic", others=["majority"])


def test_the_interval_is_of_all_seeds_and_clusters_and_needs_no_data(ran):
    shutil.rmtree(ran / "data")
    shutil.rmtree(ran / "results" / "cache")
    lines = study.against("mfcre", "table3", "logistic", seeds=(0, 1))
    assert lines["low"].nunique() == lines["high"].nunique() == 1 and (lines["p_holm"] == lines["p"]).all()
    mean = (lines["accuracy"] - lines["accuracy_other"]).mean()
    assert (lines["low"] < mean).all() and (mean < lines["high"]).all()


def test_the_command_prints_one_line_a_row(ran, capsys):
    cli.main(["against", "mfcre", "table3", "logistic"])
    assert "majority meld" in " ".join(capsys.readouterr().out.split())
    cli.main(["against", "mfcre", "table3", "logistic", "--json"])
    (line,) = json.loads(capsys.readouterr().out)
    assert list(line) == paired.COLUMNS
