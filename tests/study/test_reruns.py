"""`merlib run --stale`: the recorded runs that the root would not give today are trained anew, and no others."""

import pytest

from merlib import cli, declarations, registry, study
from merlib.audit import recorded
from merlib.errors import RequestError
from merlib.study import reruns, runs


@pytest.fixture
def floors(tiny, monkeypatch) -> list[str]:
    """Records of two floors of HFF, one of them with two seeds; the list grows with every run that is trained."""
    study.run_table("hff", "table3", row=["majority", "logistic"], data="twin", progress=False)
    study.run_table("hff", "table3", row="majority", data="twin", seeds=[1], progress=False)
    trained, train = [], runs._train

    def counting(run, *arguments) -> None:
        trained.append(f"{run.recipe['model']['name']} {run.seed}")
        train(run, *arguments)

    monkeypatch.setattr(runs, "_train", counting)
    return trained


def stale() -> set[str]:
    facts = recorded.audit("hff", "twin", reruns.ids(["hff"], "twin"))
    return {each.row for fact in facts for each in fact.flat() if each.check == "stale"}


def test_stale_runs_are_trained_with_their_seeds_and_only_once(floors, monkeypatch, capsys):
    assert stale() == set()
    capsys.readouterr()
    cli.main(["run", "--stale", "--data", "twin", "hff"])
    assert floors == [] and capsys.readouterr().out == ""
    monkeypatch.setattr(registry.module_of("model", "majority"), "VERSION", 99)  # the module of both
    assert stale() == {"majority", "logistic"}
    capsys.readouterr()
    cli.main(["run", "--stale", "--data", "twin", "hff", "table3"])
    assert capsys.readouterr().out == f"3 runs recorded in {study.records_path('hff', 'table3', 'twin')}\n"
    assert sorted(floors) == ["logistic 0", "majority 0", "majority 1"] and stale() == set()
    cli.main(["run", "--stale", "--data", "twin"])
    assert len(floors) == 3, "what is trained is kept"
    records = study.read_records("hff", "table3", "twin")
    assert set(zip(records["row"], records["seed"], strict=True)) == {("majority", 0), ("majority", 1), ("logistic", 0)}
    assert set(records["versions"]) == {"network 99 loss 1 inputs 1 loop 1"}


def test_other_data_make_a_record_stale_where_the_root_is(floors):
    records = study.read_records("hff", "table3", "twin")
    lines = records[records["row"] == "logistic"].astype({"epoch": object}).to_dict("records")
    study.write_records("hff", "table3", "twin", [line | {"run": "f" * 16} for line in lines])
    assert {each.row for each in recorded.audit("hff", "twin")} == set() and stale() == {"logistic"}
    assert reruns.rerun("hff", "table3", "twin", row=["majority"]).empty
    assert len(reruns.rerun("hff", "table3", "twin")) == len(lines) and stale() == set() and floors == []


def test_a_root_that_is_not_here_is_refused(places):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--stale", "--data", "lab"])
    assert end.value.code == 2
    with pytest.raises(RequestError, match="lab has none of the corpora of hff: stale runs are trained where the data"):
        cli.own_records.rerun(cli.arguments.Address("hff"), "lab", None)
    assert reruns.ids(declarations.papers(), "lab") == {}
