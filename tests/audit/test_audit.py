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
    for finding in (each for f in findings for each in f.flat() if each.severity == "error"):
        assert finding.printed is None or finding.printed in finding.message
        assert len(re.findall(r"\d+", finding.message)) >= 2, finding.message


@pytest.mark.parametrize(
    ("paper", "n", "unreachable"),
    [
        ("mpaf_net", 790, {"table5/ef_lstm", "table5/lf_lstm"}),
        ("attsf_net", 1241, {f"table4/attsf_{row}" for row in ("gat_av", "l2_av", "net_av", "gat_avt")}),
    ],
)
def test_own_accuracies_are_counts_of_the_test_set_that_the_paper_names(findings, paper, n, unreachable):
    """Table 4 of MPAF-Net counts the set of its Table 5; Session 5 of IEMOCAP tests ATTSF-Net."""
    flat = [each for f in findings if f.paper == paper for each in f.flat() if each.check == "count"]
    assert flat and all(f"out of {n} gives" in each.message for each in flat)
    table = min(unreachable).split("/")[0]
    rows = {f"{each.table}/{each.row}" for each in flat if each.table == table}
    assert {row for row in rows if not _quoted(paper, row)} == unreachable


def _quoted(paper: str, row: str) -> bool:
    table, name = row.split("/")
    return declarations.load(paper).tables[table].find(name).cited


def test_a_quoted_accuracy_may_be_of_other_utterances(findings):
    flat = [each for f in findings if f.paper == "mfcre" for each in f.flat() if each.check == "count"]
    said = {f"{each.table}/{each.row}": each.message for each in flat}
    assert said["table2/sdt"].endswith("other test utterances: the scores are quoted.")
    assert said["table4/wo_simam"].endswith("A mean over several runs could.")


def test_mfcres_text_is_declared():
    claims = declarations.load("mfcre").claims
    assert len(claims) == 91 and {c.kind for c in claims} == {"value", "difference", "best", "order", "sum"}
    listed = [c for c in declarations.cells(declarations.load("mfcre")) if c.table == "claims"]
    assert len(listed) == 32 and {c.kind for c in listed} == {"fact"}


def test_the_command_prints_one_json_document_and_exits_well(capsys):
    cli.main(["audit", "--json", "mfcre"])
    listed = json.loads(capsys.readouterr().out)
    keys = ["paper", "table", "row", "column", "check", "severity", "printed", "recomputed", "low", "high", "message"]
    every = listed + [each for f in listed for each in f["consequences"]]
    assert listed and all(list(f) == [*keys, "fact", "consequences"] and f["paper"] == "mfcre" for f in every)
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", "mfcr"])
    assert end.value.code == 2


def test_every_check_has_a_heading(findings):
    assert {each.check for f in findings for each in f.flat()} <= set(pages.HEADINGS)


def test_findings_of_one_fact_are_one_finding(findings):
    """Eight classes of one test set; two averages of one evaluation; RAVDESS counted twice, in nine cells."""
    errors = [f for f in findings if (f.paper, f.severity) == ("mpaf_net", "error")]
    assert len(errors) == 6 and sum(len(f.flat()) for f in errors) == 15
    (doubled,) = [f for f in findings if f.fact == "counts table1/ravdess"]
    assert (doubled.check, doubled.severity) == ("sum", "error")
    assert [(f.check, f.severity) for f in doubled.consequences] == [("corpus_count", "note")] * 8
    assert len(findings) == len({(f.paper, f.fact) for f in findings})


def test_a_premise_that_carries_a_finding_is_in_its_sentence(findings):
    (baseline,) = [f for f in findings if (f.table, f.row, f.check) == ("table5", "baseline", "average")]
    assert "the premise is that table3 and table5.test_macro_f1 are of one test set" in baseline.message
    assert "30.03 (table5/baseline.validation_macro_f1) is nearer: of val, not of test" in baseline.message


@pytest.mark.parametrize(
    ("paper", "check", "severity", "says"),
    [
        ("mpaf_net", "value", "error", "0.0690 (table3/surprised.f1); 0 is printed"),
        ("mpaf_net", "filtered", "note", "1103 (table1/support.angry) angry utterances in iemocap8 are not fewer"),
        ("mpaf_net", "supports", "note", "751 in all: no set of the 10 speakers of iemocap8 has these classes"),
        ("attsf_net", "order", "note", "66.43 (table6/audio.ravdess_ua) is not above 78.50 (table6/visual.ravdess_ua)"),
        ("attsf_net", "order", "note", "40.00 (table9/attsf_gat.acc7) is not above 42.90 (table9/dsin.acc7)"),
        ("gia_mic", "order", "note", "79.4 (table2/gia_mic_vs.wa) is not above 79.5 (table1/foal_net.wa)"),
        ("gia_mic", "order", "note", "79.0 (table2/gia_mic_st.wa) is not above 79.5 (table1/cat_bc.wa)"),
        ("gia_mic", "quoted_alike", "note", "78.5, 79.3"),
        ("hff", "recall_is_f1", "note", "Recall is F1 in all 5 classes"),
        ("mfcre", "smooth_sweeps", "note", "22 of 22 columns"),
    ],
)
def test_what_the_papers_say_is_found(findings, paper, check, severity, says):
    every = [each for f in findings for each in f.flat()]
    found = [f for f in every if (f.paper, f.check, f.severity) == (paper, check, severity) and says in f.message]
    assert len(found) == 1


def test_a_sentence_about_three_metrics_is_three_claims():
    claims = [c for c in declarations.load("attsf_net").claims if c.sentence == "mosi_gat"]
    assert [c.of[0] for c in claims] == [f"table9/attsf_gat.{metric}" for metric in ("acc2", "acc7", "f1")]


def test_the_rivals_of_a_best_score_are_the_best_first():
    claimed = [(paper, claim) for paper in map(declarations.load, declarations.papers()) for claim in paper.claims]
    best = [(paper, claim, addresses(paper)[claim.of[0]]) for paper, claim in claimed if claim.kind == "best"]
    rivals = [(claim.lowest, claims.rivals(paper, claim, cell)) for paper, claim, cell in best]
    orders = [(lowest, [claims.percent(each).middle for each in cells]) for lowest, cells in rivals]
    assert len(orders) > 10 and all(order == sorted(order, reverse=not lowest) for lowest, order in orders)
