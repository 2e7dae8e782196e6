"""The README says of the results what claims.csv says, and no more than a newcomer reads."""

import re
from pathlib import Path

import pandas as pd
import pytest

from merlib import declarations
from merlib.errors import RequestError
from merlib.study import claims, claims_page, front_page
from merlib.study.records import RecordsError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HEADINGS = (
    "before\n<!-- papers -->\nold\n<!-- /papers -->\nbetween\n<!-- findings -->\nold\n<!-- /findings -->\nafter\n"
)


def claim(**more) -> dict:
    """A line of claims.csv: a central claim of MFCRE that its runs decide."""
    where = {"paper": "mfcre", "claim": "a", "central": True, "kind": "difference", "where": "Sec. 4"}
    judged = {"verdict": "supported", "printed": 4.65, "estimate": 2.125, "low": -1.0, "high": 5.25, "seeds": 3}
    of = {"folds": 1, "pair": "table4/ours.x - table4/wo_simam.x", "note": "", "says": "accuracy falls without simAM"}
    of |= {"inputs": "", "doubt": "", "p": 0.02, "p_holm": 0.3, "ratio": 0.46}
    return where | judged | of | more


@pytest.fixture
def lab(places) -> Path:
    """A data root with six claims, one of them not central."""
    lines = [
        claim(), claim(says="x", central=False),
        claim(claim="b", verdict="undecided", kind="best", seeds=1, folds=5, inputs="lacks AV", doubt="stale"),
        claim(claim="e", verdict="undecided", low=0.5, note="about 4 seeds would find it"),
        claim(claim="c", paper="hff", verdict="not testable", estimate=None, note="quoted, not trained here: A-B, C"),
        claim(claim="d", paper="hff", verdict="not run", estimate=None, note="merlib run hff table4 full"),
    ]  # fmt: skip
    folder = places / "results" / "lab"
    folder.mkdir(parents=True)
    pd.DataFrame(lines).assign(covers="seeds", pairs="1 of 1").to_csv(folder / "claims.csv", index=False)
    return places


def test_every_central_claim_is_one_sentence_with_verdict_numbers_and_seeds(lab):
    lines = front_page.parts("lab")["findings"].splitlines()
    assert all(line.startswith("  - Accuracy falls without simAM (Sec. 4): **") for line in lines if line[0] == " ")
    ours = "our difference{} is +2.12 points (95 % interval -1.00 to +5.25, {}), +4.65 is printed."
    runs = "1 seed and 5 folds, without audio and video, older code"
    undecided = (
        ours.format("", "3 seeds")
        .replace("-1.00", "+0.50")
        .replace(", +4.65 is printed.", ", p 0.02 and 0.3 after Holm's adjustment, +4.65 is printed")
    )
    assert [line if line[0] == "-" else line.partition(": ")[2] for line in lines] == [
        "- **HFF**: of 2 central claims, 1 not run, 1 not testable.",
        "**not testable** (quoted, not trained here: A-B, C); +4.65 is printed.",
        "**not run**; +4.65 is printed.",
        "- **MFCRE**: of 3 central claims, 1 supported, 2 undecided.",
        f"**supported**; {ours.format('', '3 seeds')}",
        f"**undecided**; {ours.format(' to w/o simAM attention', runs)}",
        f"**undecided**; {undecided}; about 4 seeds would find it.",
    ]


def test_every_paper_has_a_line_with_the_verdicts_on_its_central_claims(lab):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in front_page.parts("lab")["papers"].splitlines()]
    of = {row[1].strip("`"): row for row in rows[2:]}
    assert list(of) == declarations.papers()
    assert of["mfcre"][-1] == "1 supported, 2 undecided" and of["hff"][-1] == "1 not run, 1 not testable"
    assert of["gia_mic"][-1] == "none judged" and of["mfcre"][3] == "IEMOCAP-6, MELD"
    for paper, row in of.items():
        assert row[0] == f"[{declarations.load(paper).title}](papers/{paper}/notes.md)"


def test_all_but_what_stands_between_markers_is_kept(lab):
    readme = lab / "README.md"
    readme.write_text(HEADINGS)
    front_page.write(readme, "lab")
    parts = front_page.parts("lab")
    assert readme.read_text() == HEADINGS.replace("old", parts["papers"], 1).replace("old", parts["findings"], 1)


@pytest.mark.parametrize(
    "lacking", ["<!-- papers -->\n", "<!-- /papers -->", "<!-- findings -->", "<!-- /findings -->"]
)
def test_a_readme_without_a_marker_is_refused_and_kept(lab, lacking):
    readme = lab / "README.md"
    readme.write_text(HEADINGS.replace(lacking, ""))
    with pytest.raises(RequestError, match=f"{readme} has no lines .*add them where"):
        front_page.write(readme, "lab")
    assert readme.read_text() == HEADINGS.replace(lacking, "")


def test_claims_that_were_not_judged_are_asked_for(places):
    with pytest.raises(RequestError, match="claims.csv is missing: run `merlib claims --data lab --write` first"):
        claims_page.read("lab")


def test_claims_that_were_written_before_a_column_was_are_asked_for_again(lab):
    path = lab / "results" / "lab" / "claims.csv"
    pd.read_csv(path).drop(columns="doubt").to_csv(path, index=False)
    again = "the columns doubt are missing.*: `merlib claims --data lab --write` makes it anew"
    with pytest.raises(RecordsError, match=again):
        claims_page.read("lab")


def test_papers_without_claims_have_no_findings(places, monkeypatch):
    monkeypatch.setattr(declarations, "papers", lambda *_: [])
    judged = claims.judge_claims(data="lab")
    claims_page.write(judged, "lab")
    assert front_page.findings(judged) == front_page.findings(claims_page.read("lab")) == ""


def test_the_committed_readme_says_what_the_committed_claims_say(monkeypatch):
    monkeypatch.setenv("MERLIB_RESULTS", str(ROOT / "results"))
    for name, part in front_page.parts("real").items():
        written = README.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
        assert written == part, "run `merlib report --data real --readme README.md`"


def test_the_readme_is_short_and_names_no_commit():
    assert len(README.splitlines()) <= 120
    assert not [word for word in re.findall(r"\b[0-9a-f]{7,40}\b", README) if re.search(r"\d", word)]


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 10 and [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_shows_both_commands_and_both_ways_to_execute_a_notebook():
    shown = re.findall(r"^(make \w+|merlib notebook|papermill)\b", README, re.MULTILINE)
    assert shown[:4] == ["make reproduce", "make test", "merlib notebook", "papermill"]
    own, plain = re.findall(r"^(?:merlib notebook|papermill) ([^#]*?) *#", README, re.MULTILINE)
    assert own == plain and (ROOT / own.split()[0]).exists()
