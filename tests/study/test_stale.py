"""Records of another recipe or of other code are told without data; those of the present ones are not."""

import importlib
import shutil
from types import SimpleNamespace

import pytest

from merlib import declarations, registry, study
from merlib.data import folders, inputs, store
from merlib.declarations import Cell, Paper
from merlib.errors import DeclarationError
from merlib.study import planning, stale

HFF = declarations.load("hff")


def cell_of(paper: Paper, table: str, row: str, column: str) -> Cell:
    of_row = declarations.row_cells(paper, paper.table(table), paper.table(table).find(row))
    return next(cell for cell in of_row if cell.column == column)


def record_of(run, **more) -> SimpleNamespace:
    """What `run_table` would record of a run, as far as staleness reads it."""
    held = folders.arrays(run.data, run.corpus)
    features = " | ".join(f"{m}: x (3)" if run.arrays.get(m) in held else "absent" for m in store.MODALITIES)
    names = declarations.substitutes(declarations.load(more.pop("paper", "hff")), run.corpus, run.recipe)
    about = {"recipe": "a", "data": run.data, "features": features, "substitutes": " ".join(names) or "none"}
    return SimpleNamespace(**about | stale.marks(run.recipe) | more)


@pytest.mark.parametrize("root", ["without visual", "with the printed arrays"])
def test_what_any_row_would_record_on_a_root_is_not_stale(tiny, root):
    """Also where substitutes stand in, a modality is absent or a column names its own: the root is not read for it."""
    shutil.copytree(tiny / "data" / "twin", tiny / "data" / "lab")  # which no [twin] of a paper changes
    for corpus in folders.corpora("lab"):
        arrays = folders.root_path("lab") / corpus / "features"
        if root == "without visual":
            (arrays / "visual.safetensors").unlink()
        for paper in map(declarations.load, declarations.papers() if root == "with the printed arrays" else ()):
            if corpus in paper.corpora:
                for name in inputs.arrays(declarations.base_recipe(paper, corpus)["data"]).values():
                    (arrays / f"{name}.safetensors").touch()  # a plan reads no values
    told, substituted = 0, set()
    for paper in map(declarations.load, declarations.papers()):
        for table in paper.tables:
            for planned in planning.plan(paper, table, data="lab")[0]:
                if planned.run.fold == 0:
                    record = record_of(planned.run, paper=paper.id)
                    reasons = {stale.reason(paper, cell, record) for cell in planned.cells}
                    assert reasons == {""}, f"{paper.id}/{table}/{planned.row.id}: {reasons}"
                    told, substituted = told + 1, substituted | {record.substitutes}
    assert told > 400 and len(substituted) >= 3


@pytest.fixture
def run(tiny):
    return planning.plan(HFF, "table3", row="bigru", data="twin")[0][0].run


def reason(run, **more) -> str:
    return stale.reason(HFF, cell_of(HFF, "table3", "bigru", "weighted_f1"), record_of(run, **more))


def test_old_records_another_recipe_and_other_code_are_stale(run):
    assert reason(run) == ""
    assert reason(run, recipe=float("nan")) == reason(run, recipe="") == "recorded before records named a recipe"
    assert reason(run, declared=float("nan")) == "recorded before records named the versions of the code"
    trained = {**run.recipe, "train": run.recipe["train"] | {"lr": 0.5}}
    assert reason(run, **stale.marks(trained)) == "the declarations now give another recipe"
    assert reason(run, features="absent | absent | absent") == "the declarations now give another recipe"
    later = record_of(run).versions
    other = "network 99 loss 1 inputs 1 loop 1"
    assert reason(run, versions=other) == f"trained by other code ({other}; now {later})"
    selected = {**run.recipe, "protocol": run.recipe["protocol"] | {"select": "test_peak"}}
    assert reason(run, **stale.marks(selected)) == "", "no training reads it"


@pytest.mark.parametrize("module", ["merlib.training.loop", "merlib.data.inputs"])
def test_a_new_version_makes_what_was_recorded_before_stale(run, module, monkeypatch):
    before = stale.marks(run.recipe)
    monkeypatch.setattr(importlib.import_module(module), "VERSION", 99)
    assert f"now {stale.marks(run.recipe)['versions']}" in reason(run, **before)


def test_counts_are_never_stale():
    cells = [cell for cell in declarations.cells(HFF, "table1") if cell.kind == "fact"]
    nothing = SimpleNamespace(recipe="", declared="", versions="")
    assert cells and {stale.reason(HFF, cell, nothing) for cell in cells} == {""}


def test_versions_read_from_the_source_are_those_of_the_modules(tmp_path, monkeypatch):
    modules = {registry._module_name(kind, name) for kind in ("model", "loss") for name in registry.offers(kind)}
    modules |= {"merlib.training.loop", "merlib.data.inputs"}
    for module in modules:
        assert registry._stated_version(module) == importlib.import_module(module).VERSION, module
    (tmp_path / "without_version.py").write_text('"""No version."""\nversion = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeclarationError, match="without_version.py has no line `VERSION = 1`"):
        registry.version_of("without_version")


def test_a_comparison_doubts_a_stale_record(tiny, monkeypatch):
    study.run_table("hff", "table3", row="majority", data="twin", progress=False)

    def doubts() -> set[str]:
        board = study.compare("hff", "table3", "twin")
        return set(board.loc[board["row"] == "majority", "doubt"].str.replace("uncommitted", "").str.strip())

    assert doubts() == {""}
    monkeypatch.setattr(registry.module_of("model", "majority"), "VERSION", 99)
    assert doubts() == {"stale"}
