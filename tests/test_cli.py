"""The command line is a contract: exit codes, and one JSON document on standard output."""

import json
from functools import partial

import pytest

from merlib import cli, declarations, study
from merlib.places import commit, results_folder


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
    assert cell["printed"] == "78.76" and cell["recorded"] == []
    assert cell["recipe"]["model"]["context"]["attention"] == "none"
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
    assert columns <= set(json.loads(out)[0]) and len(json.loads(out)) == 32
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0 and {"roots", "missing", "access"} <= set(json.loads(out))
    code, out, _ = run(capsys, "doctor")
    assert code == 0 and "IEMOCAP" in out and "licence" in out.lower() or "release form" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "mfcr", "table4"], "'mfcr' is no paper"),
        (["run", "mfcre", "table4", "wo_everything"], "wo_simam"),
        (["run", "mfcre", "table4", "ours", "--set", "model.context.cel.name=lstm"], "did you mean"),
        (["run", "mfcre", "table4", "ours", "--set", "model.context.cell.name"], "key=value"),
        (["run", "mfcre", "table4", "ours", "--set", "model.context.cell.name=gru"], "mlstm"),
        (["run", "mfcre", "table4", "ours", "--seeds", "0,x"], "whole numbers"),
        (["run", "mfcre"], "TABLE|table"),
        (["run", "mfcre", "table4", "ours", "--set", "train.schedule=cosine"], "train.schedule 'cosine': there are"),
        (["run", "mfcre", "table4", "ours", "--set", "protocol.split=foo"], "protocol.split 'foo': there are"),
        (["run", "mfcre", "table4", "ours", "--set", "train.epochs=2.5"], "whole number"),
        (["run", "mfcre", "table4", "ours", "--set", "lr=1e-3"], "section.name"),
        (["compare", "mfcre", "table40"], "table4"),
        (["compare", "mfcre", "table4", "--data", "reall"], "'reall' is no data root; there are: twin, twin_media"),
        (["report", "--data", "reall"], "'reall' is no data root"),
        (["data", "import", "csv", "nothing.csv", "mine"], "'csv' is no kind of source; there are: .*meld"),
        (["data", "text", "twin", "iemocap6"], "'twin' makes itself"),
        (["data", "extract", "twin_media", "iemocap6", "--recipe", "mfcre"], "'twin_media' makes itself"),
        (["data", "extract", "lab", "meld", "--recipe", "mfcre", "--modalities", "audio"], "T text, A audio, V visual"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_what_would_be_right(capsys, arguments, says):
    import re

    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and re.search(says, err)
    assert "Traceback" not in err and not results_folder("reall").exists()


def test_a_value_error_that_is_not_of_our_saying_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(declarations, "papers", partial(int, "no number"))
    with pytest.raises(ValueError, match="no number"):
        cli.main(["cells"])


def test_what_is_quoted_or_left_out_is_not_called_recorded(capsys):
    code, out, _ = run(capsys, "run", "mfcre", "table2", "sdt")
    assert code == 0 and "nothing to record" in out and "recorded in" not in out
    assert not results_folder("twin").exists()


def test_compare_says_where_there_are_records(capsys):
    record = {"data": "lab", "row": "ours", "column": "iemocap_accuracy", "fold": 0, "seed": 0, "selection": "val"}
    study.write_records("mfcre", "table4", "lab", [record | {"value": 70.0, "n": 100}])
    assert run(capsys, "compare", "mfcre", "4")[2] == "nothing of mfcre/table4 has run on 'twin': ask for --data lab\n"
    assert run(capsys, "compare", "mfcre", "5")[2] == ""


def test_without_git_the_commit_is_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MERLIB_COMMIT", "abc")
    assert commit.__wrapped__() == "abc"


def test_a_run_that_cannot_be_done_exits_with_1(capsys, tmp_path):
    code, _, err = run(capsys, "data", "import", "prepared", str(tmp_path / "nothing.toml"), "mine")
    assert code == 1 and "nothing.toml" in err and "Traceback" not in err


def test_a_root_without_the_corpora_says_so(capsys):
    code, _, err = run(capsys, "run", "mfcre", "table4", "--data", "nowhere")
    assert code == 1 and "nowhere" in err and "merlib doctor" in err
