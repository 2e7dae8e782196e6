"""Records are checked line by line, when they are written and when they are read; an edit by hand is told."""

import csv
import io
from pathlib import Path

import pytest

from merlib import cli, declarations, study
from merlib.files import is_as_written, seal_of
from merlib.places import CHECKOUT
from merlib.study import records
from merlib.study.records import RecordsError

COMMITTED = sorted((CHECKOUT / "results").glob("*/records/*/*.csv"))
GOOD = {
    "data": "lab", "row": "ours", "column": "weighted_f1", "fold": 0, "seed": 0, "selection": "val", "value": 61.25,
    "n": 2610, "epoch": 3, "run": "0123456789abcdef", "features": "text: x (3)", "never_predicted": "fear",
    "seconds": 86.8, "peak_memory_mb": 2824.0, "device": "CPU", "torch": "2.13.0", "commit": "7531a24", "recipe": "",
}  # fmt: skip


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_committed_records_are_as_they_were_written_and_in_range(path, monkeypatch, tmp_path):
    monkeypatch.setenv("MERLIB_RESULTS", str(CHECKOUT / "results"))
    assert is_as_written(path)
    read = study.read_records(path.parent.name, path.stem, path.parents[2].name)
    assert len(read) == len(path.read_text().splitlines()) - 1
    records.save(tmp_path / path.name, read)
    assert (tmp_path / path.name).read_text() == path.read_text(), "reading and writing again changes no digit"


@pytest.fixture
def path(places) -> Path:
    study.write_records("mfcre", "table3", "lab", [GOOD, GOOD | {"seed": 1, "value": 62.5}])
    return study.records_path("mfcre", "table3", "lab")


def lines_of(*lines: dict) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, dict.fromkeys(name for line in lines for name in line), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


WRONG = {
    "no utterances": {"n": 0},
    "a part of an utterance": {"n": 2.5},
    "more than 100 %": {"value": 9999.0},
    "less than 0 %": {"value": -0.1},
    "not a number": {"value": "nan"},
    "infinite": {"value": "inf"},
    "a decimal comma": {"value": "61,25"},
    "value and memory swapped": {"value": 2824.0, "peak_memory_mb": 61.25},
    "features and run swapped": {"run": "text: x (3)", "features": "0123456789abcdef"},
    "time that runs backwards": {"seconds": -1.0},
    "a century": {"seconds": 3.2e9},
    "a petabyte of memory": {"peak_memory_mb": 1e9},
    "before the first epoch": {"epoch": 0},
    "a negative fold": {"fold": -1},
    "a negative seed": {"seed": -1},
    "an unknown selection": {"selection": "best"},
    "an unknown row": {"row": "hours"},
    "an unknown column": {"column": "weighted_f2"},
    "a column of our own": {"note": "looks good"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_record_out_of_range_is_neither_read_nor_written(path, wrong):
    with pytest.raises(RecordsError, match="mfcre/table3 on lab: record 2"):
        study.write_records("mfcre", "table3", "lab", [GOOD, GOOD | {"seed": 2} | wrong])
    assert is_as_written(path) and len(study.read_records("mfcre", "table3", "lab")) == 2
    path.write_text(lines_of(GOOD, GOOD | {"seed": 2} | wrong))
    seal_of(path).unlink()  # as one who means it
    with pytest.raises(RecordsError, match=f"{path}: (line 3|the columns note)"):
        study.read_records("mfcre", "table3", "lab")


@pytest.mark.parametrize(
    ("metric", "column", "table", "wrong"),
    [("mae", "mae", "table9", 6.5), ("correlation", "corr", "table9", -1.5)],
)
def test_a_metric_that_is_no_percentage_has_its_own_range(places, metric, column, table, wrong):
    declared = declarations.load("attsf_net").table(table)
    row, names = "attsf_net", [name for name, each in declared.columns.items() if each.metric == metric]
    for name in names:
        with pytest.raises(RecordsError, match=f"expected {metric} from"):
            study.write_records("attsf_net", table, "lab", [GOOD | {"row": row, "column": name, "value": wrong}])


def test_an_edit_by_hand_is_told_and_can_be_meant(path, capsys):
    path.write_text(path.read_text().replace("61.25", "71.25"))
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", "mfcre/table3", "--data", "lab"])
    err = capsys.readouterr().err
    assert end.value.code == 1 and len(err.splitlines()) == 1 and f"{path}: " in err and "edited or damaged" in err
    with pytest.raises(RecordsError, match="edited or damaged"):
        study.write_records("mfcre", "table3", "lab", [GOOD | {"seed": 5}])
    seal_of(path).unlink()
    assert set(study.read_records("mfcre", "table3", "lab")["value"]) == {71.25, 62.5}
    assert f"{path} has no table3.csv.sha256 beside it" in capsys.readouterr().err
    study.write_records("mfcre", "table3", "lab", [GOOD | {"seed": 5}])
    assert is_as_written(path) and len(study.read_records("mfcre", "table3", "lab")) == 3


def test_old_records_without_the_last_columns_are_read(path):
    old = [{name: value for name, value in GOOD.items() if name not in ("recipe", "device", "torch", "run")}]
    path.write_text(lines_of(*old))
    seal_of(path).unlink()
    assert list(study.read_records("mfcre", "table3", "lab")) == list(old[0])


MADE = {  # files of results/real -> how they are read, and the command that makes them anew
    "claims.csv": (study.claims_page.read, "merlib claims --data real --write"),
    "leaks.csv": (study.leaks.written, "merlib leaks real --write"),
    "probes.csv": (lambda data: study.costs.read_probes(study.costs.probes_path(data)), "merlib plan --probe"),
}


@pytest.mark.parametrize("name", MADE)
def test_a_damaged_table_of_what_was_made_is_named_with_the_command_that_makes_it_anew(places, name):
    read, command = MADE[name]
    content, file = (CHECKOUT / "results" / "real" / name).read_bytes(), places / "results" / "real" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert len(read("real")) > 10
    for harmed in (b"", content[:500], content[:-9], b"garbage\n", content + b'"', bytes(900)):
        file.write_bytes(harmed)
        with pytest.raises(RecordsError, match=f"{file} is damaged .*{command}"):
            read("real")
