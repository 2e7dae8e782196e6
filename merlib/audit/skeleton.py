"""A made-up paper as a folder to start a declaration from: `merlib audit --new FOLDER`."""

from pathlib import Path

from merlib.errors import RequestError

PAPER = """# Put what your paper prints in place of what is made up here, then run `merlib audit` on this folder.
# Needed are `title`, one table, and what its columns measure. The whole grammar: papers/README.md of merlib.

title = "A made-up paper"
corpora = ["mine"]   # names as you like; of iemocap6 and meld the audit knows the test set, of others their counts

# The utterances of each class in the test set, as the paper says; without them the averages cannot be checked.
# Where only their number is known: all = 160.
[supports.mine]
happy = 50
neutral = 80
sad = 30
"""
TABLE1 = """# What each column of table1.csv measures. That file holds the digits, exactly as they are printed.
# Where the rows are classes of one system, give table1.csv a column `emotion` instead (and `average`: macro, weighted).

where = "Table 1, Sec. 4.1"

[columns.accuracy]       # the name is that of the column in table1.csv
metric = "accuracy"      # accuracy (WA), balanced_accuracy (UA), macro_f1, weighted_f1, macro_precision, ...
# unit = "fraction"      # where 0.775 is printed; percent (77.5) is the default
# corpus = "mine"        # where the paper has several corpora
# fold = "val"           # where the column is not of the test set

[columns.weighted_f1]
metric = "weighted_f1"

[columns.f1_happy]
metric = "f1"            # f1, precision or recall of one class
emotion = "happy"

[columns.f1_neutral]
metric = "f1"
emotion = "neutral"

[columns.f1_sad]
metric = "f1"
emotion = "sad"
"""
CSV1 = """row,cited,reference,accuracy,weighted_f1,f1_happy,f1_neutral,f1_sad
Another system,yes,[1],60.00,59.79,53.19,66.67,52.46
Ours,,,77.50,77.60,79.21,78.43,72.73
"""
TABLE2 = """# A sweep: a column of settings, and what was reached with each. A dash or an empty cell is left out.

where = "Table 2, Sec. 4.2"

[columns.layers]
metric = "setting"

[columns.accuracy]
metric = "accuracy"
"""
CSV2 = """row,layers,accuracy
one layer,1,75.00
two layers,2,77.50
three layers,3,76.25
"""
CLAIMS = """# What the text says of numbers, in your words. `of` names cells, table/row.column: a row's id is its
# label in lower case, with _ for blanks and signs. All kinds of claims: papers/README.md of merlib.

[[claim]]
id = "gain"
where = "Abstract"
says = "accuracy rises by 17.5 points over the other system"
kind = "difference"
printed = "17.5"
of = ["table1/ours.accuracy", "table1/another_system.accuracy"]

[[claim]]
id = "best"
where = "Sec. 4.1"
says = "our system is the best in all three ({each})"   # one sentence, checked for each column
kind = "best"
each = ["accuracy", "weighted_f1", "f1_sad"]
of = ["table1/ours.{each}"]

[[claim]]
id = "same_run"
where = "Sec. 4.2"
says = "the best depth is the system of Table 1"
kind = "equal"
of = ["table1/ours.accuracy", "table2/two_layers.accuracy"]
"""
FILES = {
    "paper.toml": PAPER, "tables/table1.toml": TABLE1, "tables/table1.csv": CSV1, "tables/table2.toml": TABLE2,
    "tables/table2.csv": CSV2, "claims.toml": CLAIMS,
}  # fmt: skip


def write(folder: Path) -> None:
    """Write the files into a new or empty folder; RequestError for any other."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} is there already and not empty: name a new folder")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
