"""The audit of a paper outside this repository: the skeleton, planted numbers, and mistakes, one line each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from merlib import cli, declarations
from merlib.audit import audit, skeleton
from merlib.errors import DeclarationError

OF = ("paper.toml", "tables/table1.toml", "tables/table1.csv", "tables/table2.toml", "tables/table2.csv", "claims.toml")
PAPER, TABLE1, CSV1, TABLE2, CSV2, CLAIMS = OF


@pytest.fixture
def declared(tmp_path, monkeypatch):
    """A function that writes the skeleton with a text replaced, and returns its folder."""
    monkeypatch.setenv("MERLIB_PAPERS", "")  # what others quote is tested with the papers of this repository
    folder = tmp_path / "my_paper"
    skeleton.write(folder)

    def declare(file: str = PAPER, old: str = "", new: str = "") -> Path:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        return folder

    return declare


def test_the_skeleton_loads_and_is_consistent(declared):
    paper = declarations.read(declared())
    assert len(paper.tables) == 2 and len(declarations.cells(paper)) == 17 and len(paper.claims) == 5
    assert audit(declared()) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "severity", "where"),
    [
        (CSV1, "77.60", "78.60", "average", "error", "table1/ours"),
        (CSV1, "59.79", "59.99", "average", "note", "table1/another_system"),
        (CSV1, "77.50,", "83.13,", "feasible_accuracy", "error", "table1/ours"),
        (CSV1, "72.73", "72.93", "class_count", "note", "table1/ours"),
        (CSV2, "77.50", "77.60", "count", "note", "table2/two_layers"),
        (CSV2, "77.50", "78.75", "equal", "error", "claims/same_run"),
        (CLAIMS, '"17.5"', '"18.5"', "difference", "error", "claims/gain"),
        (CSV1, "52.46", "82.46", "best", "error", "claims/best_f1_sad"),
        (CSV1, "60.00", "75.00", "power", "note", "claims/gain"),
        (PAPER, "sad = 30", "sad = 90", "average", "error", "table1/ours"),
        (
            CSV1, "Ours", "A third,x,[2],60.00,59.79,53.19,66.67,52.46\nOurs", "quoted_alike", "note", "table1/a_third",
        ),
    ],
)  # fmt: skip
def test_what_is_planted_is_found(declared, file, old, new, check, severity, where):
    findings = [each for f in audit(declared(file, old, new)) for each in f.flat()]
    assert (check, severity, where) in [(f.check, f.severity, f"{f.table}/{f.row}") for f in findings]


@pytest.mark.parametrize(
    ("printed", "holds"), [("0", False), ("7", True), ("0.07", True), ("0.5", False), ("1", False)]
)
def test_a_whole_number_about_fractions_is_judged_as_percent(declared, printed, holds):
    """Of a cell 0.0690: "0" is a percent, rounded, and not a fraction that may be anything below 1."""
    declared(TABLE1, 'metric = "f1"            # f1,', 'unit = "fraction"\nmetric = "f1"            # f1,')
    declared(CSV1, "79.21", "0.0690")
    declared(CLAIMS, 'kind = "difference"\nprinted = "17.5"', f'kind = "value"\nprinted = "{printed}"')
    declared(CLAIMS, '"table1/ours.accuracy", "table1/another', '"table1/ours.f1_happy"]\n#')
    findings = audit(declared(CSV1, "53.19", "0.5319"))
    assert ("claims/gain" not in [f"{f.table}/{f.row}" for f in findings]) == holds


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (PAPER, 'title = "A made-up paper"\n', "", "paper.toml: title is missing"),
        (PAPER, 'title = "', 'autors = "A"\ntitle = "', "paper.toml: autors is no key here; did you mean 'authors'"),
        (PAPER, "mine]", "yours]", "'yours' is no corpus of my_paper"),
        (TABLE1, '"accuracy" ', '"acuracy" ', "table1.toml: columns.accuracy.metric is 'acuracy'"),
        (TABLE1, '[columns.f1_sad]', '[columns.f1_sda]', "table1.csv: the header names 'f1_sad'.* mean 'f1_sda'"),
        (TABLE1, 'emotion = "sad"', 'emotoin = "sad"', "table1.toml: columns.f1_sad.emotoin is no key here; did"),
        (TABLE1, "[columns.accuracy]", "[columns.accuracy", "table1.toml: "),
        (CSV1, "77.60", "77,60", "table1.csv: line 3 has 9 cells, the header 8"),
        (CSV1, "77.60", "77.6O", "table1.csv: ours, weighted_f1 is '77.6O': expected the digits of a number"),
        (CSV1, "77.60", "nan", "table1.csv: ours, weighted_f1 is 'nan': expected the digits"),
        (CSV1, "77.60", "776.0", "table1.csv: ours, weighted_f1 is '776.0': expected 0 to 100"),
        (TABLE1, "# unit", "unit", "table1.csv: another_system, accuracy is '60.00': expected 0 to 1 .*percent"),
        (CSV1, "row,", "label,", "table1.csv: the header names 'label'"),
        (CLAIMS, "another_system", "other_system", "is no printed number of my_paper .named by my_paper/claims.t"),
        (CLAIMS, 'kind = "equal"', 'kind = "equals"', "claims.toml: same_run.kind is 'equals'"),
        (CLAIMS, '"17.5"', '"many"', "claims.toml, gain: printed = 'many'"),
        (CLAIMS, '["accuracy", "weighted_f1", "f1_sad"]', '"accuracy"', "claims.toml: best: each = 'accuracy'"),
        (CSV1, "Ours", "Another system", "table1: row ids repeat"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_file(declared, capsys, file, old, new, says):
    folder = declared(file, old, new)
    with pytest.raises(DeclarationError, match=says):
        declarations.read(folder)
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", str(folder)])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and not out and len(err.splitlines()) == 1 and err.startswith("merlib: ")


REPORT = """row,emotion,average,precision,recall,f1,support
happy,happy,,78.43,80.00,79.21,50
neutral,neutral,,82.19,75.00,78.43,80
sad,sad,,66.67,80.00,72.73,30
macro,,macro,75.76,78.33,76.79,160
weighted,,weighted,78.11,77.50,77.60,160
"""
COLUMNS = "".join(f'[columns.{m}]\nmetric = "{m}"\n' for m in ("precision", "recall", "f1"))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", []),
        ("76.79", "77.79", [("average", "error", "macro")]),
        (
            "75.00,78.43",
            "75.00,88.43",
            [("average", "error", "macro"), ("f1_of_precision_and_recall", "error", "neutral")],
        ),
    ],
)
def test_a_table_with_a_row_for_each_class_is_one_system(tmp_path, old, new, found):
    (tmp_path / "tables").mkdir()
    (tmp_path / "paper.toml").write_text('title = "T"\n')
    (tmp_path / TABLE1).write_text(f'{COLUMNS}[columns.support]\nmetric = "count"\n')
    (tmp_path / CSV1).write_text(REPORT.replace(old, new))
    findings = [(f.check, f.severity, f.row) for f in audit(tmp_path)]
    assert set(found) <= set(findings) and bool(found) == bool(findings)


def test_two_mistakes_are_two_lines(declared, capsys):
    declared(TABLE1, '"accuracy" ', '"acuracy" ')
    with pytest.raises(SystemExit):
        cli.main(["audit", str(declared(CLAIMS, 'kind = "equal"', 'kind = "equals"'))])
    first, second = capsys.readouterr().err.splitlines()
    assert "tables/table1.toml: " in first and "claims.toml: " in second


def test_the_command_writes_a_folder_and_audits_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main(["audit", "--new", "mine"])
    cli.main(["audit", "mine/", "--json"])
    out, _ = capsys.readouterr()
    assert json.loads(out.splitlines()[-1]) == []
    for words, says in (
        (["--new", "mine"], "not empty"),
        (["mine", "table1"], "as a whole"),
        (["./yours"], "merlib audit --new ./yours"),
        (["mine", "--write"], "takes no paper, found 'mine'"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["audit", *words])
        assert end.value.code == 2 and says in capsys.readouterr().err


def test_a_quoted_system_is_compared_with_the_papers_of_this_repository(tmp_path):
    skeleton.write(tmp_path / "mine")
    table = tmp_path / "mine" / CSV1
    (tmp_path / "mine" / PAPER).write_text('title = "T"\ncorpora = ["iemocap6"]\n')
    (tmp_path / "mine" / CLAIMS).unlink()
    table.write_text("row,cited,accuracy\nSDT,yes,71.00\n")
    checks = [f.check for f in audit(tmp_path / "mine")]
    assert "quoted_twice" in checks


def test_it_loads_no_data_and_no_torch(tmp_path):
    skeleton.write(tmp_path / "mine")
    code = (
        f"import sys; from merlib import cli; cli.app(['audit', {str(tmp_path / 'mine')!r}], standalone_mode=False); "
    )
    code += "print([m for m in ('torch', 'pandas', 'sklearn', 'librosa', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
