"""The findings of the five papers, the command and the committed page."""

import json
import re

import pytest

from merlib import cli, declarations
from merlib.audit import Finding, audit, claims, pages
from merlib.audit.claims import wilson
from merlib.declarations.printed import addresses
from merlib.places import CHECKOUT


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return audit()


def test_the_committed_page_is_what_the_audit_says(findings, tmp_path, monkeypatch):
    """Regenerate with `merlib audit --write`."""
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path))
    assert pages.write(findings) == tmp_path / "audit" / "README.md"
    for name in ("findings.csv", "README.md"):
        assert (tmp_path / "audit" / name).read_bytes() == (CHECKOUT / "results" / "audit" / name).read_bytes()


def test_the_audit_of_one_paper_is_its_part_of_the_whole(findings):
    for paper in declarations.papers():
        assert audit(paper) == [finding for finding in findings if finding.paper == paper]


def test_wilson_is_the_textbook_interval():
    assert wilson(50, 100) == pytest.approx((40.383, 59.617), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0, 27.754), abs=1e-2)


def test_the_accuracy_of_mfcre_on_iemocap_is_out_of_reach_of_its_f1_scores(findings):
    finding = next(f for f in findings if (f.paper, f.check) == ("mfcre", "feasible_accuracy"))
    assert (finding.table, finding.row, finding.column, finding.severity, finding.printed) == (
        "table2",
        "ours",
        "accuracy",
        "error",
        "80.59",
    )
    assert 75 < finding.low < finding.high < 77


def test_every_error_shows_its_arithmetic(findings):
    """The sentence of an error holds the printed digits and, where something is computed, what it is computed from."""
    for finding in (f for f in findings if f.severity == "error"):
        assert finding.printed is None or finding.printed in finding.message
        assert len(re.findall(r"\d+", finding.message)) >= 2, finding.message


def test_mfcres_text_is_declared():
    claims = declarations.load("mfcre").claims
    assert len(claims) == 84 and {c.kind for c in claims} == {"value", "difference", "best", "order", "sum"}
    listed = [c for c in declarations.cells(declarations.load("mfcre")) if c.table == "claims"]
    assert len(listed) == 32 and {c.kind for c in listed} == {"fact"}


def test_the_command_prints_one_json_document_and_exits_well(capsys):
    cli.main(["audit", "--json", "mfcre"])
    listed = json.loads(capsys.readouterr().out)
    keys = ["paper", "table", "row", "column", "check", "severity", "printed", "recomputed", "low", "high", "message"]
    assert listed and all(list(f) == keys and f["paper"] == "mfcre" for f in listed)
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", "mfcr"])
    assert end.value.code == 2


def test_every_check_has_a_heading(findings):
    assert {f.check for f in findings} <= set(pages.HEADINGS)


def test_the_rivals_of_a_best_score_are_the_best_first():
    claimed = [(paper, claim) for paper in map(declarations.load, declarations.papers()) for claim in paper.claims]
    best = [(paper, claim, addresses(paper)[claim.of[0]]) for paper, claim in claimed if claim.kind == "best"]
    rivals = [(claim.lowest, claims.rivals(paper, claim, cell)) for paper, claim, cell in best]
    orders = [(lowest, [claims.percent(each).middle for each in cells]) for lowest, cells in rivals]
    assert len(orders) > 10 and all(order == sorted(order, reverse=not lowest) for lowest, order in orders)
