"""Bibliography: what papers quote, the corpora and the encoders of this study can be cited, each from one entry."""

import pytest

from merlib import declarations
from merlib.data import official
from merlib.declarations import Row, Work, works
from merlib.errors import DeclarationError

PAPERS = [declarations.load(name) for name in declarations.papers()]
WORKS = works.works()


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.id)
def test_every_work_that_a_row_quotes_by_number_is_declared_and_no_other(paper):
    rows = [row for table in paper.tables.values() for row in table.row]
    keys = {works.quoted(paper, row) for row in rows} - {None}
    assert keys == set(paper.references.values()) <= set(WORKS)


def test_every_corpus_has_a_work_and_every_entry_a_reader():
    assert all(works.of_corpora([corpus]) for corpus in official.LABELS)
    named = {key for paper in PAPERS for key in paper.references.values()} | set(works.of_corpora(official.LABELS))
    assert [key for key, work in WORKS.items() if key not in named and not work.describes] == []


def test_encoders_are_known_by_the_descriptions_of_their_features():
    told = ["text: all-MiniLM-L6-v2 masked mean, alone (384) | audio: 47 acoustic statistics (47)"]
    assert set(works.of_features(told)) == {"wang2020minilm", "reimers2019sentence"}
    assert set(works.of_features(["vectors of RoBERTa base", "WavLM large"])) == {"liu2020roberta", "chen2021wavlm"}


def test_a_number_that_is_in_no_list_is_refused():
    paper = declarations.load("mfcre")
    assert works.quoted(paper, Row(id="x", label="X", reference="[29], 2023")) == "shi2023multiemo"
    assert works.quoted(paper, Row(id="x", label="X", reference="this paper, 2025")) is None
    with pytest.raises(DeclarationError, match="number in .references. of mfcre"):
        works.quoted(paper, Row(id="x", label="X", reference="[999]"))


def test_a_work_is_cited_in_one_line_with_what_is_known_of_it():
    work = Work(authors="A. B. {El Saddik} and others", title="On x", journal="J. of x", year="2020", doi="10.1/x")
    assert works.citation(work) == "A. B. El Saddik et al.: On x. J. of x, 2020. https://doi.org/10.1/x"
    paper = declarations.load("mfcre")
    assert works.citation(works.as_work(paper)) == f"{paper.authors}: {paper.title}."


def test_a_file_of_works_that_is_wrong_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "paper.toml").write_text('id = "mine"\ntitle = "Mine"')
    (tmp_path / "mine" / "references.toml").write_text('[a]\nauthors = "A"\ntitel = "t"')
    monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
    with pytest.raises(DeclarationError, match=r"references.toml: \[a\] is no work"):
        works.works()
