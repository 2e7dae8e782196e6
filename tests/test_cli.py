"""The command line is a contract: exit codes, and one JSON document on standard output."""

import json

import pytest

from merlib import cli


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        cli.main(list(arguments))
        code = 0
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path / "results"))


def test_cells_lists_every_printed_number_with_its_recipe(capsys):
    code, out, _ = run(capsys, "cells", "--json")
    listed = json.loads(out)
    assert code == 0 and len(listed) > 400
    assert {"paper", "table", "row", "column", "printed", "kind", "corpus", "metric", "recipe", "recorded"} <= set(
        listed[0]
    )
    cell = next(c for c in listed if (c["table"], c["row"], c["column"]) == ("table4", "wo_simam", "iemocap_accuracy"))
    assert cell["printed"] == "78.76" and cell["recipe"]["model"]["attention"] == "none" and cell["recorded"] == []
    assert next(c for c in listed if c["row"] == "sdt")["recipe"] is None


def test_compare_and_doctor_print_one_json_document(capsys):
    code, out, _ = run(capsys, "compare", "mfcre", "table4", "--json")
    assert code == 0
    columns = {
        "row",
        "column",
        "printed",
        "reproduced",
        "spread",
        "n_seeds",
        "n_folds",
        "test_peak",
        "difference",
        "data",
        "features",
    }
    assert columns <= set(json.loads(out)[0]) and len(json.loads(out)) == 28
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0 and {"roots", "missing", "access"} <= set(json.loads(out))
    code, out, _ = run(capsys, "doctor")
    assert code == 0 and "IEMOCAP" in out and "licence" in out.lower() or "release form" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "mfcr", "table4"], "'mfcr' is no paper"),
        (["run", "mfcre", "table4", "wo_everything"], "wo_simam"),
        (["run", "mfcre", "table4", "ours", "--set", "model.cel=lstm"], "did you mean"),
        (["run", "mfcre", "table4", "ours", "--set", "model.cell"], "key=value"),
        (["run", "mfcre", "table4", "ours", "--set", "model.cell=gru"], "mlstm"),
        (["run", "mfcre", "table4", "ours", "--seeds", "0,x"], "whole numbers"),
        (["run", "mfcre"], "TABLE|table"),
        (["compare", "mfcre", "table40"], "table4"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_what_would_be_right(capsys, arguments, says):
    import re

    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and re.search(says, err)
    assert "Traceback" not in err


def test_a_run_that_cannot_be_done_exits_with_1(capsys, tmp_path):
    code, _, err = run(capsys, "data", "import", "prepared", str(tmp_path / "nothing.toml"), "mine")
    assert code == 1 and "nothing.toml" in err and "Traceback" not in err


def test_a_root_without_the_corpora_says_so(capsys):
    code, _, err = run(capsys, "run", "mfcre", "table4", "--data", "nowhere")
    assert code == 1 and "nowhere" in err and "merlib doctor" in err
