"""The audit of our own records finds what was planted in them, and nothing in honest ones; it reads no data."""

import re

import numpy as np
import pytest

from merlib import declarations, study
from merlib.audit import recorded
from merlib.data import official
from merlib.declarations import Cell
from merlib.study import outcomes, stale

HFF, MPAF = declarations.load("hff"), declarations.load("mpaf_net")
FEATURES = {"TA": "text: x (3) | audio: y (3) | absent", "T": "text: x (3) | absent | absent"}
LABELS, TEST = official.LABELS["iemocap6"], official.CLASSES["iemocap6"]["test"]


def counts_of(seed: int) -> np.ndarray:
    """A confusion matrix on the test set of IEMOCAP-6, c c."""
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(n, rng.dirichlet(np.ones(len(TEST)))) for n in TEST])


def records_of(address: str, seed: int, *, matrix: int | None = None, read: str = "TA", **more) -> list[dict]:
    """The records of a run of a row, such as `table3/hff`, whose scores are those of a confusion matrix."""
    table, row = address.split("/")
    declared, records = HFF.table(table).find(row), []
    counts = counts_of(seed if matrix is None else matrix)
    for cell in declarations.row_cells(HFF, HFF.table(table), declared):
        if cell.corpus != "iemocap6" or not set(read) <= set(cell.modalities or "TAV"):
            continue
        recipe = declarations.recipe(HFF, declared, cell.corpus, data="lab", modalities=cell.modalities)
        recipe["data"]["modalities"] = read
        key = {"data": "lab", "row": row, "column": cell.column, "fold": 0, "seed": seed, "selection": "val"}
        about = {"n": sum(TEST), "epoch": 1, "run": f"{seed:016x}", "features": FEATURES[read], "commit": "1"}
        about |= {"recipe": "a", "substitutes": "none"} | stale.marks(recipe)
        records.append(key | about | {"value": round(float(outcomes.score(cell)(counts)), 4)} | more)
    return records


def write(table: str, *records: list[dict]) -> None:
    study.write_records("hff", table, "lab", [record for of_run in records for record in of_run])


def found(**options) -> list[tuple]:
    return [(f.check, f.table, f.row) for fact in recorded.audit("hff", "lab", **options) for f in fact.flat()]


@pytest.fixture
def honest(places):
    """The same runs in two tables, another configuration in a third row."""
    write("table3", records_of("table3/hff", 0), records_of("table3/hff", 1), records_of("table3/cogmen", 0, matrix=7))
    write("table5", heads_8(0), heads_8(1))


def heads_8(seed: int, **more) -> list[dict]:
    """The weighted F1 of the row that is HFF itself."""
    return [record | more for record in records_of("table5/heads_8", seed) if record["column"] == "iemocap_weighted_f1"]


def test_nothing_is_found_in_honest_records(honest):
    assert (
        len(study.read_records("hff", "table3", "lab")) == 24 and len(study.read_records("hff", "table5", "lab")) == 2
    )
    assert found() == []


def test_a_configuration_with_several_values_is_one_finding(honest):
    write("table5", heads_8(1, value=12.5))
    assert found() == [("same_configuration", "table5", "heads_8")]
    (fact,) = recorded.audit("hff", "lab")
    here = next(r["value"] for r in records_of("table3/hff", 1) if r["column"] == "weighted_f1")
    assert f"by at most {abs(here - 12.5):.2f}." in fact.message and "Of 2 numbers that stand" in fact.message
    assert "table3/hff.weighted_f1 (1)" in fact.message and "seeds 0, 1" in fact.message and fact.severity == "error"


def test_what_other_code_trained_is_stale_and_no_contradiction(honest):
    write("table5", heads_8(1, value=12.5, versions="network 0 loss 1 inputs 1 loop 1"))
    assert "same_configuration" not in {check for check, *_ in found()}


def test_other_inputs_are_another_configuration(honest):
    write("table5", heads_8(1, value=12.5, features="text: z (3) | audio: y (3) | absent"))
    assert found() == []


def test_an_average_that_is_not_that_of_its_classes_is_found_once_a_row(honest):
    for seed in (0, 1):
        (average,) = (r for r in records_of("table3/hff", seed) if r["column"] == "weighted_f1")
        write("table3", [average | {"value": average["value"] + 0.01}])
        write("table5", heads_8(seed, value=average["value"] + 0.01))
    facts = recorded.audit("hff", "lab")
    assert [(f.check, f.row, f.consequences) for f in facts] == [("average", "hff", ())]
    assert facts[0].message.startswith("Seed 0, fold 0, val: ") and "So in 1 further numbers" in facts[0].message
    assert "printed" not in facts[0].message


def test_an_accuracy_and_an_f1_that_no_counts_give_are_found(honest):
    write("table3", [r | {"value": r["value"] + 0.001} for r in records_of("table3/cogmen", 0, matrix=7)
                     if r["column"] in ("accuracy", "f1_happy")])  # fmt: skip
    assert {check for check, *_ in found()} >= {"count", "class_count"}


def of_mpaf(cell: Cell, value: float, **more) -> dict:
    """A record of MPAF-Net on text and audio."""
    recipe = declarations.recipe(MPAF, MPAF.table(cell.table).find(cell.row), cell.corpus, data="lab")
    recipe["data"]["modalities"] = "TA"
    key = {"data": "lab", "row": cell.row, "column": cell.column, "fold": 0, "seed": 0, "selection": "val"}
    marks = stale.marks(recipe) | {"recipe": "a", "run": "a", "substitutes": "none", "features": FEATURES["TA"]}
    return key | marks | {"value": float(value), "n": 80} | more


def test_averages_of_one_table_are_checked_by_the_classes_of_another(places):
    """As in MPAF-Net's tables: classes in Table 4, macro F1 in Table 5, of one recipe."""
    of_classes = [c for c in declarations.cells(MPAF, "table4") if c.metric in ("f1", "count") and c.kind == "own"]
    labels = [cell.emotion for cell in of_classes if cell.metric == "f1" and cell.emotion]
    f1 = {label: 10.0 + 10 * i for i, label in enumerate(labels)}  # i hits of 10 utterances and 10 predictions

    lines = [of_mpaf(c, 10 if c.metric == "count" else f1[c.emotion]) for c in of_classes if c.emotion]
    study.write_records("mpaf_net", "table4", "lab", lines)
    (macro,) = (c for c in declarations.cells(MPAF, "table5") if (c.row, c.column) == ("mpaf_net", "test_macro_f1"))
    for value, checks in ((np.mean(list(f1.values())), set()), (40.0, {"average"})):
        study.write_records("mpaf_net", "table5", "lab", [of_mpaf(macro, value)])
        assert {f.check for f in recorded.audit("mpaf_net", "lab")} == checks


def test_runs_of_one_configuration_are_tested_on_one_set(honest):
    write("table5", heads_8(1, n=1600))
    facts = recorded.audit("hff", "lab")
    assert [f.check for f in facts] == ["test_size"] and {"1600", "1623"} <= set(re.findall(r"\d+", facts[0].message))


def test_a_run_is_of_the_utterances_of_its_outcomes_and_its_class_counts_are_theirs(honest):
    path = outcomes.path_of("lab", f"{1:016x}")
    path.parent.mkdir(parents=True)
    about = {"right_val": np.packbits(np.ones(sum(TEST), bool)), "order": "", "val_n": 1}
    np.savez(path, counts_val=counts_of(1)[None], **about)
    assert found() == []
    fewer = counts_of(1)
    fewer[0, 0] += 100
    np.savez(path, counts_val=fewer[None], **about | {"right_val": np.packbits(np.ones(fewer.sum(), bool))})
    assert {check for check, *_ in found()} >= {"test_size", "average"}


def test_the_turn_of_an_actor_is_the_configuration_with_that_actor(places):
    base, turns = (
        next(c for c in declarations.row_cells(MPAF, MPAF.table("table5"), MPAF.table("table5").find(row))
             if c.column == "test_accuracy")
        for row in ("mpaf_net", "mpaf_net_all_rotations")
    )  # fmt: skip
    folds = [of_mpaf(turns, 50.0 if fold == 9 else 20.0, fold=fold) for fold in range(10)]
    for value, checks in ((50.0, []), (55.0, ["same_configuration"])):
        study.write_records("mpaf_net", "table5", "lab", [of_mpaf(base, value), *folds])
        assert [f.check for f in recorded.audit("mpaf_net", "lab")] == checks


def test_stale_records_of_a_row_are_one_finding_and_those_of_a_table_one_fact(honest):
    for row, seeds in (("hff", (0, 1)), ("cogmen", (0,))):
        write("table3", *(records_of(f"table3/{row}", s, matrix=s if row == "hff" else 7, recipe="") for s in seeds))
    (fact,) = recorded.audit("hff", "lab")
    assert [f.row for f in fact.flat()] == ["cogmen", "hff"] and {f.check for f in fact.flat()} == {"stale"}
    told = {f.row: f.message for f in fact.flat()}
    assert told["hff"] == "16 records of 2 runs (seeds 0, 1; commit 1): recorded before records named a recipe."
    assert told["cogmen"].startswith("8 records of 1 runs (seed 0; commit 1): ")


def test_the_ids_that_a_root_gives_tell_other_data_and_excuse_an_old_record(honest):
    write("table3", records_of("table3/cogmen", 0, matrix=7, recipe=""))
    address = ("hff", "table3", "cogmen")
    columns = [record["column"] for record in records_of("table3/cogmen", 0)]
    ids = {(*address, column, 0, 0): f"{0:016x}" for column in columns}
    assert found() == [("stale", "table3", "cogmen")] and found(ids=ids) == []
    write("table3", records_of("table3/cogmen", 0, matrix=7))
    other = dict.fromkeys(ids, "f" * 16)
    assert found(ids=other) == [("stale", "table3", "cogmen")]
    assert "the data of this root give another run" in recorded.audit("hff", "lab", other)[0].message
