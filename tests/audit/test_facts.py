"""Test sets that no speakers make, and counts that are not below those of the release: planted and honest."""

import numpy as np
import pytest

from merlib.audit import findings_of
from merlib.audit.printed import folded
from merlib.data.official import BY_SPEAKER, CLASSES, LABELS
from merlib.declarations.schema import Claim, Column, Paper, Row, Table

KEPT = LABELS["iemocap8"][:-1]  # without disgust, as papers have it


def by_columns(counts) -> Paper:
    """One system, with F1 and count of each class."""
    columns = {f"n_{e}": Column(metric="count", emotion=e, unit="count") for e in KEPT}
    columns |= {f"f1_{e}": Column(metric="f1", emotion=e) for e in KEPT}
    reported = {f"n_{e}": str(n) for e, n in zip(KEPT, counts, strict=True)} | {f"f1_{e}": "50.00" for e in KEPT}
    table = Table(id="table1", caption="", where="T", columns=columns, row=[Row(id="a", label="a", reported=reported)])
    return Paper(id="p", title="P", corpora=["iemocap8"], tables={"table1": table})


def test_speakers_together_are_the_corpus():
    for corpus, speakers in BY_SPEAKER.items():
        assert tuple(np.sum(list(speakers.values()), axis=0)) == CLASSES[corpus]["all"]


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        (BY_SPEAKER["iemocap8"]["05F"][:-1], False),
        (np.add(BY_SPEAKER["iemocap8"]["05F"], BY_SPEAKER["iemocap8"]["02M"])[:-1], False),
        (CLASSES["iemocap8"]["all"][:-1], False),
        (np.add(BY_SPEAKER["iemocap8"]["05F"][:-1], [1, -1, 0, 0, 0, 0, 0, 0]), True),
    ],
)
def test_a_test_set_is_of_whole_speakers(counts, found):
    findings = [f for f in findings_of(by_columns(counts)) if f.check == "supports"]
    assert len(findings) == found
    for finding in findings:
        assert finding.severity == "note" and "The nearest single one is 05F: angry 78, excited 82" in finding.message


@pytest.mark.parametrize(("angry", "found"), [(1103, True), (1102, False)])
def test_counts_after_a_filter_are_below_the_release(angry, found):
    columns = {"angry": Column(metric="count", emotion="angry", unit="count")}
    row = Row(id="kept", label="kept", kind="fact", reported={"angry": str(angry)})
    table = Table(id="table1", caption="", where="Table 1", columns=columns, row=[row])
    claim = Claim(id="c", where="Sec. 1", says="some are discarded", kind="filtered", of=["table1/kept.angry"])
    paper = Paper(id="p", title="P", corpora=["iemocap8"], tables={"table1": table}, claims=[claim])
    findings = [(f.check, f.severity) for f in folded(findings_of(paper)) if f.check == "filtered"]
    assert findings == [("filtered", "note")] * found
