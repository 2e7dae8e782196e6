"""The plan of a batch: every run once, its cost from records, the jobs of what is due; `merlib plan`, `run --only`."""

import itertools
import json
import shutil
from collections import Counter
from concurrent.futures import Future

import pandas as pd
import pytest

from merlib import cli, declarations, study
from merlib.data import folders
from merlib.errors import RequestError
from merlib.study import batch, costs, priorities, probes, records, runs
from merlib.study.pairs import UNEQUAL
from merlib.study.planning import plan
from merlib.training import loop

TABLES = [("mfcre", "table3"), ("mfcre", "table4")]


def line(run: str, seconds: float, tables=("p/t",), network=True, cached=False) -> dict:
    about = {"run": run, "paper": "p", "table": "t", "row": "r", "corpus": "c", "seed": 0, "fold": 0}
    return about | {
        "tables": list(tables),
        "priority": "rest",
        "recorded": False,
        "network": network,
        "cached": cached,
        "seconds": seconds,
        "memory_mb": 100,
    }


def jobs(*lines: dict, seconds: float = 60) -> list[dict]:
    return batch.jobs(pd.DataFrame(lines), seconds=seconds)


def test_a_run_that_two_tables_need_is_planned_once(tiny):
    planned, skipped = study.runs_of_batch(TABLES, data="twin", seeds=(0, 1))
    assert planned["run"].is_unique and not skipped
    each = [item.run.id for _, table in TABLES for seed in (0, 1)
            for item in plan(declarations.load("mfcre"), table, data="twin", seed=seed)[0]]  # fmt: skip
    assert set(planned["run"]) == set(each) and len(each) > len(planned)
    shared = planned[planned["tables"].map(len) == 2]
    assert len(shared) and all(tables == ["mfcre/table3", "mfcre/table4"] for tables in shared["tables"])
    assert set(planned.loc[~planned["network"].astype(bool), "row"]) == {"majority", "logistic"}


def test_a_row_that_only_some_seeds_can_run_has_its_reason(places, monkeypatch):
    reasons = lambda seed: [f"a on c (T): no s{seed}", *([f"b on c (T): no s{seed}"] if seed else [])]
    monkeypatch.setattr(batch, "plan", lambda *_, seed, **options: ([], reasons(seed)))
    monkeypatch.setattr(batch, "not_held", lambda *_: [])
    _, skipped = study.runs_of_batch([("mfcre", "table4")], data="lab", seeds=(0, 1, 2))
    assert skipped == ["mfcre/table4/a on c (T): no s0", "mfcre/table4/b on c (T): no s1"]


def test_rows_on_a_corpus_that_the_root_lacks_are_blocked(tiny):
    shutil.rmtree(folders.root_path("twin") / "iemocap6")
    planned, skipped = study.runs_of_batch(TABLES, data="twin", seeds=(0, 1))
    rows = [row.id for row in declarations.load("mfcre").table("table4").row if row.runs]
    assert skipped == [f"mfcre/table4/{row} on iemocap6: the root has no iemocap6" for row in rows]
    assert set(planned["corpus"]) == {"meld"}


def test_the_longest_runs_come_first(tiny, monkeypatch):
    seconds = itertools.cycle([3.0, 50.0, 7.0])
    monkeypatch.setattr(batch, "predict", lambda *_: costs.Cost(next(seconds), 100, "no record"))
    planned, _ = study.runs_of_batch(TABLES, data="twin")
    for _, alike in planned.groupby("priority"):
        assert alike["seconds"].is_monotonic_decreasing and alike["seconds"].iloc[0] == 50.0


def test_what_claims_rest_on_runs_first_and_seeds_beyond_three_last(tiny):
    planned, _ = study.runs_of_batch(TABLES, data="twin", seeds=(0, 3))
    ranks = [priorities.rank(line.priority, line.seed) for line in planned.itertuples()]
    assert ranks == sorted(ranks) and set(planned["priority"]) == set(priorities.PRIORITIES)
    central = planned[planned["priority"] == priorities.CENTRAL]
    assert set(central["seed"]) == {0, 3} and "ours" in set(central["row"]) and "majority" not in set(central["row"])
    surplus = planned[(planned["priority"] != priorities.CENTRAL) & (planned["seed"] == 3)]
    assert planned.tail(len(surplus)).equals(surplus) and len(surplus)
    made = batch.jobs(planned, seconds=0)
    assert len({job["rank"] for job in made}) == 4 and [job["rank"] for job in made] == sorted(
        job["rank"] for job in made
    )


def test_a_claim_that_is_decided_is_no_longer_open(tiny, monkeypatch):
    paper = declarations.load("mfcre")
    judged = study.judge_claims("mfcre", "twin")
    monkeypatch.setattr(priorities, "judge_claims", lambda *_: judged.assign(verdict="supported"))
    assert set(priorities.of_rows(paper, "twin").values()) == {priorities.CENTRAL, priorities.REST}
    monkeypatch.setattr(priorities, "judge_claims", lambda *_: judged.assign(verdict="undecided"))
    assert set(priorities.of_rows(paper, "twin").values()) == {priorities.CENTRAL, priorities.OPEN}
    for note, open_too in (("a and b " + UNEQUAL, {priorities.OPEN}), ("a and b are one run", {priorities.REST})):
        untested = judged.assign(verdict="not testable", note=note)
        monkeypatch.setattr(priorities, "judge_claims", lambda *_, judged=untested: judged)
        assert set(priorities.of_rows(paper, "twin").values()) == {priorities.CENTRAL} | open_too


def test_a_plan_is_kept_with_what_is_recorded_and_what_is_blocked(tiny, capsys):
    study.run_table("mfcre", "table3", row="logistic", progress=False)
    cli.main(["plan", "mfcre/table3", "--write", "--json"])
    skipped = json.loads(capsys.readouterr().out)["skipped"]
    kept = pd.read_csv(tiny / "results" / "twin" / "plan.csv")
    runs = kept[kept["run"].notna()]
    assert runs.loc[runs["recorded"].astype(bool), "row"].tolist() == ["logistic"]
    assert kept["blocked"].dropna().tolist() == skipped and len(runs) + len(skipped) == len(kept)


def test_the_cost_of_a_run_is_what_its_records_took(tiny):
    table, row = "table3", "logistic"
    paper = declarations.load("mfcre")
    item = plan(paper, table, row=row, data="twin")[0][0]
    assert costs.predict(paper, table, item, "twin").basis == "no record"
    study.run_table("mfcre", table, row=row, progress=False)
    saved = study.read_records("mfcre", table, "twin").assign(seconds=40.0, peak_memory_mb=700.0)
    records.save(study.records_path("mfcre", table, "twin"), saved)
    assert costs.predict(paper, table, item, "twin") == costs.Cost(40.0, 700, "records of twin")


def test_another_real_root_predicts_in_proportion_to_utterances(tiny, monkeypatch):
    paper, table = declarations.load("mfcre"), "table3"
    item = plan(paper, table, row="logistic", data="twin")[0][0]
    tested = int((item.run.split == "test").sum())
    columns = {"row": "logistic", "column": item.cells[0].column, "fold": 0, "seed": 0, "selection": "val", "value": 1}
    one = columns | {"n": 2 * tested, "epoch": 1, "run": "", "features": "", "never_predicted": ""}
    records.write_records("mfcre", table, "there", [one | {"data": "there", "seconds": 40, "peak_memory_mb": 9}])
    assert costs.predict(paper, table, item, "here") == costs.Cost(20.0, 9, "records of there")
    assert costs.predict(paper, table, item, "twin").basis == "no record", "a twin's networks are smaller"


def records_of(data: str, row: str, column: str, **more) -> dict:
    key = {"data": data, "row": row, "column": column, "fold": 0, "seed": 0, "selection": "val", "value": 1, "n": 100}
    return key | {"seconds": 30.0, "peak_memory_mb": 9} | more


def test_a_network_elsewhere_predicts_in_proportion_to_epochs_too(tiny):
    paper, table = declarations.load("mfcre"), "table3"
    item = plan(paper, table, row="bigru", data="twin")[0][0]
    column, tested = item.cells[0].column, int((item.run.split == "test").sum())
    slow, large = {"seconds": 50.04, "peak_memory_mb": 700}, {"seconds": 150.0, "peak_memory_mb": 300, "seed": 1}
    both = [records_of("another", "bigru", column, n=tested) | more for more in (slow, large)]
    records.write_records("mfcre", table, "another", [*both, records_of("another", "logistic", column, seconds=9999.0)])
    epochs = item.run.recipe["train"]["epochs"] / declarations.recipe(paper, item.row, "meld")["train"]["epochs"]
    assert epochs < 1
    mean = round((50.04 + 150.0) / 2 * epochs, 1)
    assert costs.predict(paper, table, item, "here") == costs.Cost(mean, 700, "records of another")
    records.write_records("mfcre", table, "here", [records_of("here", "bigru", column, seconds=7.0, n=tested // 2)])
    assert costs.predict(paper, table, item, "here") == costs.Cost(7.0, 9, "records of here"), "its own come first"


@pytest.mark.parametrize(("data", "kind"), [("twin", "twin"), ("twin_media", "twin"), ("lab", "real")])
def test_without_records_a_run_has_the_cost_of_its_kind(tiny, data, kind):
    paper = declarations.load("mfcre")
    for row, what in (("bigru", "network"), ("logistic", "estimator")):
        item = plan(paper, "table3", row=row, data="twin")[0][0]
        seconds, memory = costs.UNKNOWN[kind, what]
        assert costs.predict(paper, "table3", item, data) == costs.Cost(seconds, memory, "no record")


def test_networks_without_records_are_probed_once_each(tiny, capsys, monkeypatch):
    monkeypatch.setattr(probes, "ProcessPoolExecutor", Here)
    table = [("mfcre", "table3")]
    before, _ = study.runs_of_batch(table, data="twin", seeds=(0, 1))
    networks = before[before["network"].astype(bool)]
    cli.main(["plan", "mfcre/table3", "--seeds", "0,1", "--probe"])
    written = pd.read_csv(tiny / "results" / "twin" / "probes.csv")
    assert 1 < len(written) <= networks["row"].nunique() == networks["run"].nunique() / 2  # one for all seeds
    assert written["seconds"].ge(0).all() and written["seconds"].max() > 0 and written["memory_mb"].gt(10).all()
    planned, _ = study.runs_of_batch(table, data="twin", seeds=(0, 1))
    assert (
        set(planned["basis"]) == {"probe", "no record"}
        and planned.loc[planned["row"] == "logistic", "basis"].eq("no record").all()
    )
    assert set(planned.loc[planned["basis"] == "probe", "seconds"]) == set(written["seconds"])
    assert probes.make(table, data="twin") == 0


def test_rows_that_differ_in_the_loss_or_the_rate_cost_the_same(tiny):
    paper = declarations.load("mfcre")
    recipe = plan(paper, "table3", row="ours", data="twin")[0][0].run.recipe
    loss, train = ({**recipe[section]} for section in ("loss", "train"))
    loss["mu_swfc"], train["lr"] = 0.77, 0.5
    assert costs.as_costly(recipe | {"loss": loss, "train": train}) == costs.as_costly(recipe)
    for section, change in (("train", {"epochs": 77}), ("model", {"dim": 77}), ("loss", {"name": "cross_entropy"})):
        assert costs.as_costly(recipe | {section: recipe[section] | change}) != costs.as_costly(recipe)


def test_a_probe_takes_about_what_the_run_takes(tiny):
    run = plan(declarations.load("mfcre"), "table3", row="ours", data="twin")[0][0].run
    epochs = run.recipe["train"]["epochs"]
    probe, taken = runs.probe(run, device="cpu"), runs.execute(run, progress=False)["seconds"]
    assert len(json.loads((run.folder / "run.json").read_text())["history"]) == epochs
    assert taken / 10 < probe["seconds"] < 10 * taken + 1 and probe["device"].startswith("CPU, 1 threads")


def test_a_probe_that_fails_is_told_and_left_out(tiny, capsys, monkeypatch):
    def refused(*_, **__):
        raise loop.TrainingError("out of memory")

    monkeypatch.setattr(probes, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(runs, "probe", refused)
    assert probes.make([("mfcre", "table3")], data="twin") == 0
    assert "mfcre/table3/ours on meld: no probe (out of memory)" in capsys.readouterr().err
    assert not (tiny / "results" / "twin" / "probes.csv").exists()


class Here:
    """An executor whose one process is this one."""

    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def submit(self, function, *args, **options):
        done = Future()
        try:
            done.set_result(function(*args, **options))
        except Exception as error:  # noqa: BLE001 (as an executor)
            done.set_exception(error)
        return done


def test_a_line_of_the_plan_is_its_run(tiny):
    study.run_table("mfcre", "table3", row="logistic", progress=False)
    planned, _ = study.runs_of_batch([("mfcre", "table3")], data="twin", seeds=(0, 1))
    cached = planned[planned["cached"].astype(bool)]
    assert list(planned) == batch.COLUMNS and set(planned["seed"]) == {0, 1}
    assert cached[["row", "seed", "corpus", "basis"]].to_numpy().tolist() == [
        ["logistic", 0, "meld", "records of twin"]
    ]


def test_what_cannot_run_is_told_once_with_its_address(places, monkeypatch):
    monkeypatch.setattr(batch, "plan", lambda paper, table, **options: ([], [f"clip of {paper.id} {table}: {options}"]))
    monkeypatch.setattr(batch, "not_held", lambda *_: [])
    planned, skipped = study.runs_of_batch([("gia_mic", "table2")], data="lab", seeds=(3, 1))
    assert planned.empty and list(planned) == batch.COLUMNS
    assert skipped == ["gia_mic/table2/clip of gia_mic table2: {'data': 'lab', 'seed': 3}"], "of the first seed"


def test_short_runs_share_a_job_and_long_ones_have_one_each():
    packed = jobs(*[line(f"short{i}", 20) for i in range(5)], line("long", 500), line("done", 500, cached=True))
    assert [(len(job["runs"]), job["seconds"]) for job in packed] == [(1, 500), (3, 60), (2, 40)]
    assert sorted(run for job in packed for run in job["runs"]) == ["long", *(f"short{i}" for i in range(5))]


def test_a_small_batch_is_shared_out_all_the_same():
    assert [len(job["runs"]) for job in jobs(*[line(f"short{i}", 3) for i in range(10)])] == [3, 3, 3, 1]


def test_runs_of_different_tables_or_kinds_never_share_a_job():
    packed = jobs(
        line("a", 1), line("b", 9, tables=("p/t", "p/u")), line("c", 9, network=False), line("d", 1, tables=("p/t",))
    )
    assert Counter((job["rule"], *job["tables"], len(job["runs"])) for job in packed) == {
        ("train", "p/t", 2): 1, ("train", "p/t", "p/u", 1): 1, ("floors", "p/t", 1): 1,
    }  # fmt: skip


def test_a_job_has_the_same_name_whatever_the_order_of_its_runs():
    other = [line(f"other{i}", 9, tables=("p/u",)) for i in range(4)]
    names = {jobs(*other, line("a", 1), line(b, 2))[-1]["job"] for b in "bc"}
    assert len(names) == 2 and jobs(line("b", 1), *other, line("a", 2))[-1]["job"] in names


def test_the_command_of_a_job_trains_its_runs_and_no_other(tiny, capsys):
    cli.main(["plan", "mfcre/table3", "--json", "--job-seconds", "0"])
    planned = json.loads(capsys.readouterr().out)
    job = next(job for job in planned["jobs"] if job["rule"] == "floors")
    cli.main(["run", job["address"], "--seeds", "0", "--only", ",".join(job["runs"])])
    assert {path.parent.name for path in (tiny / "results/cache/runs").glob("*/run.json")} == set(job["runs"])
    capsys.readouterr()
    cli.main(["plan", "mfcre/table3"])
    assert f"{len(planned['runs']) - 1} to train" in capsys.readouterr().out


def test_a_run_of_another_table_is_refused(tiny):
    with pytest.raises(RequestError, match="has no run 0123: see `merlib plan mfcre/table3`"):
        study.run_table("mfcre", "table3", only=["0123"], progress=False)


def test_a_run_that_fails_stops_no_other_and_is_reported(tiny, monkeypatch):
    def execute(run, **_):
        if run.recipe["model"]["name"] == "majority":
            raise FloatingPointError(f"no number at seed {run.seed}")
        return runs.execute(run, progress=False)

    monkeypatch.setattr("merlib.study.tables.execute", execute)
    with pytest.raises(FloatingPointError, match="^no number at seed 0$"):
        study.run_table("mfcre", "table3", row=["majority", "logistic"], progress=False)
    assert set(study.read_records("mfcre", "table3", "twin")["row"]) == {"logistic"}
    with pytest.raises(RuntimeError, match="2 runs failed: majority meld seed 0 fold 0: no number at seed 0; maj"):
        study.run_table("mfcre", "table3", row="majority", seeds=(0, 1), progress=False)
