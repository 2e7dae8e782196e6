"""The audit of a small declared paper: silent while it is honest, and every planted inconsistency is found."""

import shutil

import pytest

from merlib import declarations
from merlib.audit import audit
from merlib.audit.evaluations import evaluations, supports_of
from merlib.errors import DeclarationError

PAPER = """
id = "one"
title = "One"
authors = "A"
code = "none"
corpora = ["iemocap6"]
[facts.iemocap6]
utterances = [7433, "Sec. 4.1"]
dialogues = [151, "Sec. 4.1"]
[recipe.model]
name = ["net", "Sec. 3"]
dim = [128, "Sec. 3"]
heads = [8, "Sec. 3"]
[recipe.loss]
name = ["cross_entropy", "eq. (1)"]
[recipe.train]
batch = [16, "Sec. 4.2"]
epochs = [200, "Sec. 4.2"]
[recipe.data]
unit = ["dialogue", "unstated: here"]
modalities = ["T", "unstated: here"]
text = ["text", "Sec. 3"]
[recipe.protocol]
split = ["corpus", "unstated: here"]
select = ["val", "unstated: here"]
select_metric = ["weighted_f1", "unstated: here"]
[readings]
[twin]
"""
COLUMNS = """
[columns.accuracy]
corpus = "iemocap6"
metric = "accuracy"
label = "Acc"
"""
MAIN = (
    'caption = "main"\nwhere = "Table 1"\n'
    + COLUMNS
    + """
[[row]]
id = "dialoguernn"
label = "DialogueRNN"
cited = true
reference = "[1]"
reported = { accuracy = "63.40" }
[[row]]
id = "ours"
label = "Ours"
reported = { accuracy = "69.32" }
bold = ["accuracy"]
"""
)
SWEEP = 'caption = "heads"\nwhere = "Table 2"\n' + COLUMNS + "".join(
    f'[[row]]\nid = "heads_{k}"\nlabel = "{k} heads"\nreported = {{ accuracy = "{score}" }}\n'
    f"change = {{ model.heads = {k} }}\n"
    for k, score in ((4, "68.21"), (8, "69.32"), (16, "67.34"))
)  # fmt: skip
COUNTS = """
caption = "counts"
where = "Table 3"
[columns.train]
metric = "count"
label = "train"
[columns.test]
metric = "count"
label = "test"
[columns.total]
metric = "count"
label = "total"
[columns.sad]
metric = "count"
emotion = "sad"
label = "Sad"
[[row]]
id = "splits"
label = "splits"
kind = "fact"
reported = { train = "5810", test = "1623", total = "7433" }
[[row]]
id = "classes"
label = "classes"
kind = "fact"
reported = { sad = "1084" }
"""
CLAIMS = """
[[claim]]
id = "gain"
where = "Abstract"
says = "the gain"
kind = "difference"
printed = "5.9"
of = ["table1/ours.accuracy", "table1/dialoguernn.accuracy"]
[[claim]]
id = "relative"
where = "Abstract"
says = "the relative gain"
kind = "relative"
printed = "9.3"
of = ["table1/ours.accuracy", "table1/dialoguernn.accuracy"]
[[claim]]
id = "same"
where = "Sec. 4"
says = "one number"
kind = "equal"
of = ["table1/ours.accuracy", "table2/heads_8.accuracy"]
[[claim]]
id = "score"
where = "Sec. 4"
says = "the score"
kind = "value"
printed = "69.3"
of = ["table1/ours.accuracy"]
[[claim]]
id = "total"
where = "Sec. 4"
says = "the total"
kind = "sum"
printed = "7433"
of = ["table3/splits.train", "table3/splits.test"]
[[claim]]
id = "best"
where = "Sec. 4"
says = "the best"
kind = "best"
of = ["table1/ours.accuracy"]
[[claim]]
id = "falls"
where = "Sec. 4"
says = "falls"
kind = "order"
of = ["table2/heads_8.accuracy", "table2/heads_16.accuracy"]
"""
FILES = {"paper.toml": PAPER, "tables/table1.toml": MAIN, "tables/table2.toml": SWEEP, "tables/table3.toml": COUNTS}


@pytest.fixture
def declared(tmp_path, monkeypatch):
    """A function that declares paper `one`, with texts of a file replaced (old, new, old, new, ...), and `two`, of the
    main table only, and audits both."""

    def declare(file: str = "", *texts: str) -> list:
        for name in ("one", "two"):
            for path, text in {**FILES, "claims.toml": CLAIMS}.items():
                target = tmp_path / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                for old, new in zip(texts[::2], texts[1::2], strict=True) if (name, path) == ("one", file) else ():
                    assert old in text
                    text = text.replace(old, new)
                if name == "one" or path in ("paper.toml", "tables/table1.toml"):
                    target.write_text(text.replace('id = "one"', f'id = "{name}"'))
        monkeypatch.setenv("MERLIB_PAPERS", str(tmp_path))
        return audit()

    yield declare
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_an_honest_paper_has_no_findings(declared):
    assert declared() == []


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "severity", "where"),
    [
        ("claims.toml", '"5.9"', '"6.1"', "difference", "error", "claims/gain"),
        ("claims.toml", '"9.3"', '"5.9"', "relative", "error", "claims/relative"),
        ("claims.toml", '"69.3"', '"69.9"', "value", "error", "claims/score"),
        ("claims.toml", '"7433"', '"7430"', "sum", "error", "claims/total"),
        ("tables/table2.toml", '"69.32"', '"69.01"', "equal", "error", "claims/same"),
        ("tables/table2.toml", '"69.32"', '"69.01"', "same_configuration", "note", "table2/heads_8"),
        ("tables/table2.toml", '"67.34"', '"70.43"', "order", "error", "claims/falls"),
        ("tables/table2.toml", '"67.34"', '"69.33"', "order", "note", "claims/falls"),
        ("tables/table2.toml", '"67.34"', '"70.43"', "sweep", "note", "table2/heads_8"),
        ("tables/table1.toml", '"63.40"', '"70.00"', "best", "error", "claims/best"),
        ("tables/table1.toml", '"63.40"', '"69.32"', "best", "note", "claims/best"),
        ("tables/table1.toml", '"63.40"', '"69.33"', "best", "note", "claims/best"),
        ("tables/table1.toml", '"63.40"', '"70.00"', "bold", "note", "table1/ours"),
        ("tables/table1.toml", '"63.40"', '"62.90"', "quoted_twice", "note", "table1/dialoguernn"),
        ("tables/table1.toml", '"63.40"', '"68.52"', "power", "note", "claims/gain"),
        ("tables/table1.toml", '"69.32"', '"69.33"', "count", "note", "table1/ours"),
        ("tables/table3.toml", '"5810"', '"5811"', "total", "error", "table3/splits"),
        ("tables/table3.toml", '"1084"', '"1048"', "corpus_count", "note", "table3/classes"),
        ("paper.toml", "[151,", "[150,", "corpus_count", "note", "facts/iemocap6.dialogues"),
        ("tables/table2.toml", "heads = 4 ", "heads = 6 ", "heads", "note", "table2/heads_4"),
        ("paper.toml", "batch = [16", "batch = [64", "steps", "note", "settings/train.batch"),
    ],
)
def test_a_planted_inconsistency_of_each_kind_is_found(declared, file, old, new, check, severity, where):
    claims = CLAIMS
    if check == "total":  # a claim that says the same sum takes the place of the check
        claims = CLAIMS.replace('of = ["table3/splits.train", "table3/splits.test"]', 'of = ["table3/splits.total"]')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "CLAIMS", claims)
        findings = [(f.check, f.severity, f"{f.table}/{f.row}") for f in declared(file, old, new) if f.paper == "one"]
        findings += [("quoted_twice", f.severity, f"{f.table}/{f.row}") for f in audit() if f.check == "quoted_twice"]
    assert (check, severity, where) in findings


def test_heads_that_do_not_divide_a_width_are_told_with_the_quotient(declared):
    (finding,) = [f for f in declared("tables/table2.toml", "heads = 4 ", "heads = 6 ") if f.check == "heads"]
    assert "128 / 6 = 21.33" in finding.message


SCORE, ERROR = 'metric = "accuracy"', 'metric = "mae"'


def test_a_sweep_over_errors_is_best_where_they_are_lowest(declared):
    (sweep,) = [f for f in declared("tables/table2.toml", SCORE, ERROR) if f.check == "sweep"]
    assert sweep.message == (
        "The paper settles on 8 heads, which has 69.32 (table2/heads_8.accuracy); "
        "the sweep over model.heads is lowest at 16 heads: 67.34 (table2/heads_16.accuracy)."
    )


@pytest.mark.parametrize("old", ["0", "0.0"])
def test_a_relative_gain_over_what_may_be_zero_is_no_finding(declared, old):
    """A score printed as 0 may be as small as one likes, and a gain over it as large."""
    found = declared("tables/table1.toml", '"63.40"', f'"{old}"')
    assert "relative" not in {finding.check for finding in found} and "difference" in {f.check for f in found}


def test_the_best_error_is_the_lowest(declared):
    (bold,) = [f for f in declared("tables/table1.toml", SCORE, ERROR) if f.check == "bold"]
    lower = "63.40 (table1/dialoguernn.accuracy) is lower"
    assert bold.message == f"69.32 (table1/ours.accuracy) is marked as best; {lower}."


@pytest.mark.parametrize("values", [2, 3])
def test_two_values_are_no_sweep(declared, values):
    column = '[columns.f1]\ncorpus = "iemocap6"\nmetric = "weighted_f1"\nlabel = "F1"\n[columns.accuracy]'
    f1 = ['"68.21"', '"68.21", f1 = "70.00"', '"69.32"', '"69.32", f1 = "66.00"', '"67.34"', '"67.34", f1 = "65.00"']
    findings = declared("tables/table2.toml", "[columns.accuracy]", column, *f1[: 2 * values])
    told = [(f.check, f.column, f.recomputed) for f in findings]
    assert told == [[], [("sweep", "f1", 70.0)]][values - 2]


def test_only_a_table_with_scores_of_classes_borrows_averages_of_others(declared):
    """A table of averages is judged by its own numbers; one of classes lacks averages that the others may have."""
    column = '[columns.f1]\ncorpus = "iemocap6"\nmetric = "weighted_f1"\nlabel = "F1"\n[columns.accuracy]'
    declared("tables/table2.toml", "[columns.accuracy]", column, '"69.32"', '"69.32", f1 = "66.00"')
    paper = declarations.load("one")
    ours = [
        {(c.table, c.column) for c in e.cells} for e in evaluations(paper) if ("heads_8" in {c.row for c in e.cells})
    ]
    assert ours == [{("table2", "accuracy"), ("table2", "f1")}]
    (main,) = (e for e in evaluations(paper) if {c.row for c in e.cells} == {"ours"})
    assert {(c.table, c.column) for c in main.cells} == {("table1", "accuracy")}
    assert supports_of("iemocap8", None, counted={}) == (None, False), "nobody states what is not known"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"DialogueRNN"', '"DialogueGCN"', False),
        ('metric = "accuracy"', 'metric = "weighted_f1"', False),
        ('"DialogueRNN"', '"Dialogue-RNN [T, A]"', True),
        ('"DialogueRNN"', '"DIALOGUERNN (text)"', True),
        ('"DialogueRNN"', '"DialogueRNN, text"', True),
    ],
)
def test_only_quotes_of_one_system_and_metric_are_compared(declared, old, new, same):
    findings = declared("tables/table1.toml", '"63.40"', '"62.90"', old, new)
    quoted = [(f.paper, f.printed, f.recomputed) for f in findings if f.check == "quoted_twice"]
    assert quoted == ([("two", "63.40", 62.9)] if same else [])


def test_a_count_is_compared_with_the_nearest_of_several_releases(declared):
    findings = declared("tables/table3.toml", 'emotion = "sad"', 'emotion = "happy"', '"1084"', '"640"')
    (count,) = [f for f in findings if f.check == "corpus_count"]
    assert (count.recomputed, count.low, count.high) == (648, 595, 1636)
    assert count.message.endswith("happy utterances in iemocap6; the released corpus has 595 or 648 or 1636.")


def test_what_calls_itself_approximate_is_noted(declared):
    findings = declared("claims.toml", 'says = "the gain"\nkind = "difference"\nprinted = "5.9"',
    'says = "about"\nkind = "difference"\nprinted = "6.1"')  # fmt: skip
    assert [(f.check, f.severity) for f in findings] == [("difference", "note")]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            '"table1/ours.accuracy", "table2',
            '"table1/us.accuracy", "table2',
            "'table1/us.accuracy' is no printed number of one",
        ),
        ('id = "same"', 'id = "gain"', "claim ids repeat"),
        ('kind = "order"', 'kind = "descends"', "kind"),
        ('printed = "5.9"\n', "", "needs its digits"),
    ],
)
def test_a_mistake_in_a_claim_is_named(declared, old, new, says):
    with pytest.raises(DeclarationError, match=says):
        declared("claims.toml", old, new)


def test_bold_must_name_a_printed_cell(declared):
    with pytest.raises(DeclarationError, match="cannot be bold"):
        declared("tables/table1.toml", 'bold = ["accuracy"]', 'bold = ["weighted_f1"]')
