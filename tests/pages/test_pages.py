"""The sources of the site: each row has its address, command and recipe; no text of a declaration becomes markup."""

import nbformat
import pytest

from merlib import declarations
from merlib.audit import findings_of
from merlib.declarations.schema import Drawing
from merlib.pages import drawing, markup, notebooks, papers, reference, tables
from merlib.pages.documents import Documents
from merlib.places import CHECKOUT
from merlib.study import compare

CODE = '''
def f(x: int = 1) -> int:
    """Of <x> and *y*:

        x  *1*

    That is all.
    """

def _hidden(): ...
'''


def table_page(paper: str, table: str) -> str:
    """The page of a table on the committed records of real data."""
    declared = declarations.load(paper)
    board = compare(paper, table, "real")
    return tables.page(declared, declared.table(table), board, list(findings_of(declared)), "real")


@pytest.fixture(scope="module")
def audio() -> str:
    """What stands on the page of ATTSF-Net's Table VI from its row `audio` to the next row."""
    text = table_page("attsf_net", "table6")
    return text[text.index('<tbody id="audio">') : text.index('<tbody id="visual">')]


def test_a_row_unfolds_into_its_address_and_the_command_that_makes_it(audio):
    assert "<summary>\n<code>attsf_net/table6/audio</code>" in audio
    assert "<pre>merlib run attsf_net/table6/audio --data real --seeds 0</pre>" in audio
    assert "<pre>merlib run attsf_net/table6/audio</pre>" in audio


def test_a_row_unfolds_into_its_change_beside_the_base_recipe_and_into_its_cost(audio):
    changed = audio[audio.index("data.modalities") :]
    assert "RAVDESS" in audio and "ravdess: <code>AV</code>; iemocap4: <code>TAV</code>" in changed
    assert "<code>A</code>" in changed and "5.9 hours" in audio and "12 MFCC" in audio


def test_every_row_is_a_place_for_links_and_a_quoted_one_has_no_command():
    declared, text = declarations.load("mfcre").table("table2"), table_page("mfcre", "table2")
    parts = text.split('<tbody id="')[1:]
    assert [part.split('"')[0] for part in parts] == [row.id for row in declared.row]
    assert {
        row.id: "merlib run" in part.split("</tbody>")[0] for row, part in zip(declared.row, parts, strict=True)
    } == {row.id: row.runs for row in declared.row}
    assert {row.runs for row in declared.row} == {True, False}


def test_text_of_declarations_is_never_markup():
    assert markup.html("a < b & `<c>`") == "a &lt; b &amp; <code>&lt;c&gt;</code>"
    assert markup.markdown("<h_t, h_s> *a* $x$ `*b*` [c](d)") == r"\<h\_t, h\_s\> \*a\* \$x\$ `*b*` \[c\](d)"
    assert markup.raw(["<pre>```</pre>"]).count("```") == 2  # the fence alone


def test_a_drawing_says_its_arrows_in_words_and_refuses_one_that_leads_nowhere():
    text = drawing.svg(Drawing(columns=[["a < b"], ["c"]], arrows=[("a < b", "c")]), "Net")
    assert 'aria-label="Net from left to right: a &lt; b to c"' in text and text.count("<rect") == 2
    with pytest.raises(KeyError, match="d"):
        drawing.svg(Drawing(columns=[["a"]], arrows=[("a", "d")]), "Net")


@pytest.mark.parametrize("name", declarations.papers())
def test_every_paper_has_an_idea_in_five_sentences_and_a_whole_drawing(name):
    paper = declarations.load(name)
    assert len(paper.idea) == 5 and all(sentence.endswith(".") for sentence in paper.idea)
    boxes = {label for column in paper.drawing.columns for label in column}
    assert {label for arrow in paper.drawing.arrows for label in arrow} == boxes


def test_an_open_point_says_why_and_how_to_switch_it():
    text = papers.open_points(declarations.load("mfcre"), [])
    point = text[text.index("## optimiser") : text.index("## validation")]
    assert "ten times as high" in point and "<code>released</code> (default)" in point
    assert "<pre>merlib run mfcre readings default optimiser_as_printed optimiser_as_published</pre>" in point
    face = papers.open_points(declarations.load("gia_mic"), [])
    assert "settled when features are extracted" in face[face.index("## face") : face.index("## sampler")]


def test_links_between_documents_lead_to_pages_and_others_to_the_name_of_a_file(tmp_path):
    site, docs = Documents(tmp_path / "site", "real"), CHECKOUT / "docs"
    links = "[b](architecture.md#x) [p](../papers/README.md) [c](../merlib/errors.py) [m](../Makefile)"
    links += " [w](https://x.org) [h](#t)"
    (tmp_path / "a.md").write_text(links.replace("](..", f"]({CHECKOUT}").replace("](arch", f"]({docs}/arch"))
    site.copied = {tmp_path / "a.md": "guide/a.md"}
    site.write()
    written = (tmp_path / "site/guide/a.md").read_text()
    assert written.startswith("[b](architecture.md#x) [p](add_a_paper.md) [c](../reference/merlib.md) m (`Makefile`) ")
    assert written.endswith("[w](https://x.org) [h](#t)")


def test_a_figure_of_a_notebook_is_named_after_its_heading_and_an_executed_one_says_how_to_execute_it(tmp_path):
    source = notebooks.executed("mfcre", "real")[-1]
    notebooks.copy(source, tmp_path / "copy.ipynb", str)
    cells = nbformat.read(tmp_path / "copy.ipynb", 4).cells
    assert f"merlib notebook notebooks/mfcre/{source.stem}.ipynb my_copy.ipynb -p data 'real'" in cells[0].source
    alternatives = {cell.metadata["mystnb"]["image"]["alt"] for cell in cells}
    assert len(alternatives) > 3 and all(text.startswith("Figure: ") for text in alternatives)


def test_the_reference_has_public_functions_with_their_words_and_no_private_ones(tmp_path):
    (tmp_path / "m.py").write_text(CODE)
    text = reference.page("p", [tmp_path / "m.py"])
    assert "{py:function} f(x: int=1) -> int" in text and r"Of \<x\> and \*y\*:" in text and "\n    x  *1*\n" in text
    assert "_hidden" not in text
