"""The program of a GPU day, on the CPU in a tiny size: its report, its budgets, and that it notices a disagreement."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu
import gpu_agreement
import gpu_cases
import gpu_report
import gpu_speed
import printed_cost

from merlib import declarations, registry

PLANTED = "attsf_net/table3/pooled_mlp, ravdess, AV"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of one run over all sections, few rows each."""
    folder = tmp_path_factory.mktemp("gpu")
    options = ["--device", "cpu", "--size", "tiny", "--most", "2", "--planted", PLANTED, "--seconds", "3000"]
    gpu.main(["--out", str(folder), *options])
    return json.loads((folder / "gpu.json").read_text()) | {"page": (folder / "gpu.md").read_text()}


def test_every_section_is_done_and_has_rows(report):
    assert list(report["sections"]) == list(gpu.BUDGETS)
    assert sum(gpu.BUDGETS.values()) <= 480
    for name, section in report["sections"].items():
        assert (section["status"], section["error"], bool(section["rows"])) == ("done", "", True), name
        assert f"## {name}\n" in report["page"]


def test_a_planted_disagreement_is_reported_and_nothing_else(report):
    rows = report["sections"]["agreement"]["rows"]
    assert {row["case"]: row["agrees"] for row in rows} == {row["case"]: row["case"] != PLANTED for row in rows}
    assert PLANTED in {row["case"] for row in rows}
    assert f"{len(rows) - 1} of {len(rows)} cases agree" in report["page"]
    listed = [line for line in report["page"].splitlines() if line.startswith(f"| {PLANTED} |") and "False" in line]
    assert len(listed) == 1


def test_steps_have_times_and_operations_and_the_projection_reads_them(report):
    for row in report["sections"]["steps"]["rows"]:
        assert row["seconds"] > 0 and row["operations"] > 50 and row["gflop"] > 0, row
    total = report["sections"]["projection"]["rows"][-1]
    assert total["paper"] == "all" and total["runs"] > 1000 and total["hours"] > 0
    assert 0 < total["runs_without_a_measurement"] < total["runs"]


def test_a_section_that_fails_or_runs_out_of_time_leaves_the_others_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu.BUDGETS, "memory", 0.001)
    options = ["--device", "cpu", "--size", "tiny", "--most", "1"]
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))  # where torch cannot be imported
        (tmp_path / "torch.py").write_text("raise RuntimeError('no torch today')\n")
        gpu.main(["--out", str(tmp_path / "a"), "--sections", "waits", "--seconds", "100", *options])
    gpu.main(["--out", str(tmp_path / "b"), "--sections", "memory", "projection", "--seconds", "3000", *options])
    failed = json.loads((tmp_path / "a" / "gpu.json").read_text())["sections"]["waits"]
    assert failed["status"] == "failed" and "no torch today" in failed["error"]
    sections = json.loads((tmp_path / "b" / "gpu.json").read_text())["sections"]
    assert (sections["memory"]["status"], sections["projection"]["status"]) == ("out of time", "done")


def test_every_network_and_loss_is_a_case():
    cases = gpu_cases.distinct(gpu_cases.declared("tiny"), by_corpus=False)
    used = {name for name in registry.offers("model") if not registry.is_estimator(name)}
    assert {case.network for case in cases} == used - {"speech_encoder", "text_encoder"}, "no encoders that learn"
    losses = {case.recipe["loss"]["name"] for case in gpu_cases.declared("tiny")}
    assert {case.recipe["loss"]["name"] for case in cases} == losses and len(losses) > 5
    readings = {case.name.split(",")[0] for case in cases if "/readings/" in case.name}
    assert len(readings) > 50 and {case.paper for case in cases} == set(declarations.papers())


def test_differences_are_relative_and_never_hide_what_is_missing_or_not_finite():
    expected = {"a": np.array([3.0, 4.0]), "b": np.array([1e-9])}
    assert gpu_agreement.difference({"a": np.array([3.0, 4.5]), "b": expected["b"]}, expected) == pytest.approx(0.1)
    assert gpu_agreement.difference({"a": expected["a"], "b": np.array([2e-9])}, expected) < 1e-3  # of 5e-6
    assert gpu_agreement.difference({"a": expected["a"]}, expected) == np.inf
    assert gpu_agreement.difference({"a": np.array([3.0, np.nan]), "b": expected["b"]}, expected) == np.inf
    assert gpu_agreement.difference({"a": np.zeros(3), "b": expected["b"]}, expected) == np.inf


def test_float32_on_a_device_is_measured_against_float32_on_the_cpu():
    def values(error: float) -> dict:
        return {"outputs": {"x": np.array([1 + error])}, "gradients": {"w": np.ones(1)}, "losses": {"0": np.ones(1)}}

    exact, single = values(0.0), values(1e-5)
    assert gpu_agreement.judged(exact, single, exact, values(5e-5))["agrees"]
    assert not gpu_agreement.judged(exact, single, exact, values(5e-4))["agrees"]
    assert not gpu_agreement.judged(exact, single, values(1e-8), single)["agrees"]


def test_masks_drawn_on_the_device_are_those_of_the_cpu():
    x = torch.randn(4, 5)
    drawn = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(3)
        with gpu_agreement.SameDraws():
            like = x.to(dtype)
            drawn.append((torch.nn.Dropout(0.5)(like), torch.rand(3, dtype=dtype), torch.randn_like(like)))
    for single, double in zip(*drawn, strict=True):
        assert double.dtype == torch.float64 and single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda x: x[x > 0].sum(), 1), (lambda x: float(x.sum()), 1), (lambda x: x.tolist(), 1),
        (lambda x: bool((x > 0).any()), 1), (lambda x: x.where(x > 0, 0.0).sum(), 0), (lambda x: x[:, 1], 0),
        (lambda x: (x > 0).nonzero(), 1), (lambda x: x.cpu(), 1),
    ],
)  # fmt: skip
def test_waits_are_counted_where_the_host_needs_a_value(read, expected):
    x = torch.randn(3, 4)
    with gpu_speed.waiting("cpu") as waits:
        read(x)
    assert sum(waits.values()) == expected, waits


def test_the_waits_of_a_step_are_those_that_come_with_more_steps():
    case = next(c for c in gpu_cases.declared("tiny", "attsf_net") if c.network == "pooled_mlp")
    found = gpu_speed.waits_per_step(case, "cpu", "tiny", steps=2)
    again = gpu_speed.waits_per_step(case, "cpu", "tiny", steps=3)
    assert Counter(found) == pytest.approx(Counter(again)), "a wait of every step"


def test_a_row_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"case": "a"}\n{"case": "b", "sec')
    assert gpu_report.read_rows(tmp_path / "rows.jsonl") == [{"case": "a"}]


def test_the_declared_costs_of_encoders_that_learn_are_those_that_are_counted():
    with torch.device("meta"):
        counts = {name.split(",")[0]: (net, *rest) for name, net, *rest in printed_cost.costs()}
    for paper, (net, operations, kept) in counts.items():
        (learns,) = filter(None, (each.learns for each in declarations.load(paper).substitute.values()))
        parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
        counted = {"parameters": parameters, "megaflop": round(operations / 1e6), "megabytes": round(kept / 1e6)}
        assert learns.model_dump() == pytest.approx(counted, rel=0.02), paper
