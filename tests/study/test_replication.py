"""An exported report has every number that it is about, says what it quotes, and is LaTeX whatever labels hold."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tabulate

from merlib import cli, declarations, study
from merlib.declarations import works
from merlib.study import replication
from merlib.study.replication import contents, grids, latex, markdown
from merlib.study.replication.blocks import Entry, Gap, Grid, Heading, Prose, Title

PAPER = declarations.load("hff")
HOSTILE = r"""50% of $x_1$ & {y} #2 \input{/etc/passwd} ~^ <b> "q" | `c` *d* [@nobody] \end{document}"""
NOTES = """\
A *b* **c_1** `d_e.f --g` [@hff].

- one
- two
  - three

1. x

```sh
a --b
```

| p | q |
|---|---|
| `r` | 5 % |
"""
SPECIAL = r"\{}$&#^_%~<>"


def record(row: str, value: float, **more) -> dict:
    key = {"data": "lab", "row": row, "column": "weighted_f1", "fold": 0, "seed": 0, "selection": "val"}
    cost = {"run": f"{int(value):x}", "seconds": 1800.0, "peak_memory_mb": 2000.0, "device": "CPU"}
    about = {"n": 1623, "features": "text: all-MiniLM-L6-v2 (3)", "never_predicted": "", "recipe": "a", "commit": "1"}
    return key | {"value": value} | about | cost | more


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A folder with the records of three rows of HFF's Table 3, and its report in both forms."""
    folder = tmp_path_factory.mktemp("replication")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERLIB_RESULTS", str(folder))
        patch.setenv("MERLIB_DATA", str(folder / "data"))
        records = [record("hff", 61.0), record("hff", 63.0, seed=1), record("tfn", 70.0), record("logistic", 50.0)]
        records.append(record("hff", 61.0, column="accuracy"))  # of the first run, too
        study.write_records("hff", "table3", "lab", records)
        replication.written("hff", "lab", form="latex", folder=folder / "latex")
        assert replication.written("hff", "lab", form="md") == folder / "lab" / "reports" / "hff" / "report.md"
        shutil.copytree(folder / "lab" / "reports" / "hff", folder / "md")
    return folder


@pytest.fixture(scope="module")
def tex(lab) -> str:
    return (lab / "latex" / "report.tex").read_text()


def rows_of(text: str) -> dict[str, list[list[str]]]:
    """Label -> the lines of that label in all tables, as unescaped cells."""
    lines = {}
    for line in text.splitlines():
        label, *cells = [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\"))]
        lines.setdefault(unescaped(label.split("~\\cite")[0]), []).append([unescaped(cell) for cell in cells])
    return lines


def unescaped(text: str) -> str:
    """What an escaped text says: the inverse of the rules, longest first."""
    meant = {escape: letter for letter, escape in tabulate.LATEX_ESCAPE_RULES.items()}
    pattern = "|".join(map(re.escape, sorted(meant, key=len, reverse=True)))
    return re.sub(pattern, lambda escape: meant[escape[0]], text.replace(r"\allowbreak{}", ""))


def is_balanced(text: str) -> bool:
    """Whether every environment that begins ends, in order."""
    open_ones = []
    for kind, name in re.findall(r"\\(begin|end)\{([\w*]+)\}", text):
        if kind == "begin":
            open_ones.append(name)
        elif not open_ones or open_ones.pop() != name:
            return False
    return not open_ones


def test_the_headings_are_those_of_the_challenge_in_both_forms(lab, tex):
    inside = re.findall(r"\\(?:sub)?section\{(.*)\}", tex)
    assert inside == [
        "Reproducibility summary", "Introduction", "Scope of reproducibility", "Methodology", "Model description",
        "Datasets and features", "Hyper-parameters", "Experimental setup and code", "Computational requirements",
        "Results", "Results that reproduce the paper", "Discussion", "What was easy", "What was difficult",
        "Communication with the authors",
    ]  # fmt: skip
    headings = re.findall(r"^#{2,3} (.*)", (lab / "md" / "report.md").read_text(), re.MULTILINE)
    assert headings == [*inside, "References"]


def test_every_printed_number_stands_in_its_row_beside_ours(tex):
    rows = rows_of(tex)
    for table in PAPER.tables.values():
        for row in table.row:
            cells = [cell for line in rows.get(row.label, []) for cell in line]
            assert not set(row.reported.values()) - set(cells), f"{table.id}/{row.id}"
    weighted = [line for line in rows["HFF"] if "62.00 / 1.41" in line]
    (line,) = weighted
    assert line[line.index("62.00 / 1.41") - 1] == "69.7" and line[-1] == "1, 2"  # accuracy has one seed
    assert any("70.00" in line for line in rows["TFN"]) and any("not run" in line for line in rows["TFN"])


def test_what_is_quoted_says_so_and_settings_are_never_run(monkeypatch, tmp_path):
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path))
    rows = rows_of(latex.text(contents.document(declarations.load("attsf_net"), "lab"), {}))
    assert ["67.70", "quoted", ""] in rows["Ghaleb et al."]
    assert ["128", "", "128", "", ""] in rows["Feature Dimension"]


def test_what_it_cites_is_in_its_bibliography_and_no_more(lab, tex):
    cited = set(re.findall(r"\\cite\{(\w+)\}", tex))
    assert {"hff", "zadeh2017tfn", "busso2008iemocap", "wang2020minilm"} <= cited
    for folder in ("latex", "md"):
        entries = re.findall(r"^@\w+\{(\w+),$", (lab / folder / "references.bib").read_text(), re.MULTILINE)
        assert sorted(entries) == sorted(cited)
    assert set(re.findall(r"\[@(\w+)\]", (lab / "md" / "report.md").read_text())) == cited


def test_an_entry_has_what_is_known_and_nothing_that_breaks_it():
    work = declarations.Work(
        authors="A. {El B} and C", title="50% of x_1 & more", journal="J", year="2020", doi="10.1/x_y"
    )
    assert latex.bibliography({"key": work}) == (
        "@article{key,\n  author = {A. {El B} and C},\n  title = {{50\\% of x\\_1 \\& more}},\n  journal = {J},\n"
        "  year = {2020},\n  doi = {10.1/x\\_y},\n}\n"
    )
    assert all(latex.bibliography({key: work}).count("{") == latex.bibliography({key: work}).count("}")
               for key, work in works.works().items())  # fmt: skip


def test_environments_are_balanced_and_pictures_are_there(lab, tex):
    assert is_balanced(tex) and not is_balanced(tex.replace(r"\end{itemize}", "", 1))
    pictures = re.findall(r"\\includegraphics\[.*\]\{(.*)\}", tex)
    assert pictures and all((lab / "latex" / name).read_bytes().startswith(b"%PDF") for name in pictures)
    shown = re.findall(r"^!\[.*\]\((.*)\)$", (lab / "md" / "report.md").read_text(), re.MULTILINE)
    assert [Path(name).stem for name in shown] == [Path(name).stem for name in pictures]
    assert all((lab / "md" / name).read_bytes().startswith(b"\x89PNG") for name in shown)


def test_what_only_a_person_can_write_is_marked(lab, tex):
    gaps = tex.count("\\gap{")
    assert gaps >= 10 and (lab / "md" / "report.md").read_text().count("> **To be written:**") == gaps


def test_cost_is_that_of_the_runs_once_each(tex):
    assert rows_of(tex)["CPU"] == [["4", "2.0", "2.0"]]


def test_whatever_a_text_holds_it_is_escaped_and_reads_the_same():
    chance = random.Random(0)
    for _ in range(300):
        text = "".join(chance.choices(SPECIAL + 'ab |"[@]`*', k=12)).strip()
        escaped = latex.escape(text)
        assert unescaped(escaped) == " ".join(text.split())
        assert "".join(unescaped(escaped).split()) == "".join(text.split())
        left = re.sub(
            "|".join(map(re.escape, sorted(tabulate.LATEX_ESCAPE_RULES.values(), key=len)[::-1])), "", escaped
        )
        assert not set(left) & set(SPECIAL), (text, escaped)


def hostile() -> list:
    """Blocks whose every text is hostile."""
    columns = [(HOSTILE, "printed"), (HOSTILE, "ours"), ("runs", "")]
    grid = Grid("t", HOSTILE, columns, [[Entry(HOSTILE, "hff"), Entry(HOSTILE), Entry("1")]] * 3, (0.3, 0.3, None))
    return [Title(HOSTILE), Heading(1, HOSTILE), Prose(contents._plain(HOSTILE)), grid, Gap(HOSTILE)]


def test_hostile_labels_leave_a_table_its_cells():
    text = latex.text(hostile(), {})
    rows = [line for line in text.splitlines() if line.startswith("50") and "cite{hff}" in line]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)&", line)) == 2 and line.endswith(r"\\") for line in rows)
    assert text.count(r"\end{document}") == 1 and r"\input{" not in text and r"\cite{nobody}" not in text
    assert is_balanced(text)


def test_hostile_labels_leave_a_table_of_markdown_its_cells():
    *_, grid, _ = hostile()
    _, rule, *rows = markdown.text([grid], {}).split("\n\n")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in (rule, *rows)} == {4} and len(rows) == 3


def test_the_markdown_of_notes_has_its_form_in_latex():
    text = latex._block(Prose(NOTES))
    assert r"A \emph{b} \textbf{c\_1} \texttt{d\_\allowbreak{}e.\allowbreak{}f -{}-g} \cite{hff}." in text
    assert "\\item one\n\\item two\\begin{itemize}\n\\item three\n\\end{itemize}" in text.replace("\n\n", "\n")
    assert "\\begin{enumerate}\n\\item x\n\\end{enumerate}" in text and r"\texttt{a -{}-b}\\" in text
    assert "\\texttt{r} & 5 \\% \\\\" in text and is_balanced(text)
    with pytest.raises(ValueError, match="no form for 'image'"):
        latex._block(Prose("![a](b.png)"))


@pytest.mark.parametrize("paper", declarations.papers())
def test_a_paper_of_which_nothing_has_run_has_a_report_too(monkeypatch, tmp_path, paper):
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path))
    document = contents.document(declarations.load(paper), "twin")
    for writer in (latex, markdown):
        text = writer.text(document, {})
        assert "Synthetic twin" in text and "Nothing has run yet." in text
        assert not re.search(r"\bnan\b|None\b", text)
    assert is_balanced(latex.text(document, {}))


@pytest.mark.parametrize("paper", declarations.papers())
def test_every_setting_of_the_recipe_is_listed_with_its_value(paper):
    declared = declarations.load(paper)
    listed = {name.text: value.text for name, value, _ in grids.recipe(declared).rows}
    for corpus in declared.corpora:
        recipe = declared.flat(declarations.base_recipe(declared, corpus))
        assert recipe.keys() == listed.keys()
        for name, value in recipe.items():
            assert str(value).removesuffix(".0") in listed[name] or float(value) == float(listed[name]), name


def test_the_command_writes_it_and_refuses_what_does_not_go_together(lab, monkeypatch, capsys):
    monkeypatch.setenv("MERLIB_RESULTS", str(lab))
    monkeypatch.setenv("MERLIB_DATA", str(lab / "data"))
    (lab / "data" / "lab").mkdir(parents=True, exist_ok=True)
    cli.main(["report", "--paper", "hff", "--format", "latex", "--out", str(lab / "again"), "--data", "lab"])
    assert capsys.readouterr().out.strip() == str(lab / "again" / "report.tex")
    assert (lab / "again" / "report.tex").read_text() == (lab / "latex" / "report.tex").read_text()
    for words, told in ((["--paper", "hff", "--readme", "R"], "give one of the two"), (["--out", "x"], "by --paper")):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["report", *words, "--data", "lab"])
        assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("latexmk") and not shutil.which("tectonic"), reason="no latexmk, no tectonic")
def test_latex_builds_it_with_hostile_labels_too(lab, tmp_path):
    folder = shutil.copytree(lab / "latex", tmp_path / "report")
    text = (folder / "report.tex").read_text()
    body = re.search(r"\\maketitle\n(.*)\\end\{document\}", latex.text(hostile(), {}), re.DOTALL)[1]
    (folder / "report.tex").write_text(text.replace(r"\bibliographystyle", body + r"\bibliographystyle"))
    latexmk = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error"]
    command = [*(latexmk if shutil.which("latexmk") else ["tectonic"]), "report.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "report.pdf").stat().st_size > 50_000
    assert not re.search(
        r"Citation .* undefined|Reference .* undefined", (folder / "report.log").read_text(errors="replace")
    )
