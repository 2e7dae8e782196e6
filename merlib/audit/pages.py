"""results/audit: the findings as CSV, and a page with one sentence for each."""

import csv
from collections import Counter
from pathlib import Path

from merlib import declarations, places
from merlib.audit.printed import Finding
from merlib.errors import DeclarationError
from merlib.files import atomic

HEADINGS = {
    "value": "A number of the text beside its table",
    "difference": "Differences that the text states",
    "relative": "Relative changes that the text states",
    "sum": "Sums",
    "total": "Sums",
    "equal": "Numbers that should be equal",
    "best": "Claimed to be best",
    "order": "Claimed to be above",
    "bold": "Marked as best",
    "f1_of_precision_and_recall": "F1 from precision and recall",
    "average": "Averages over the classes",
    "feasible_matrix": "Whether a confusion matrix can have these scores",
    "feasible_accuracy": "Accuracies that a confusion matrix can have",
    "feasible_weighted_f1": "Weighted F1 that a confusion matrix can have",
    "recall_is_f1": "Recall that is F1",
    "count": "Accuracies as integer counts of utterances",
    "class_count": "Scores of a class as integer counts of utterances",
    "same_configuration": "One configuration, printed twice",
    "sweep": "The chosen value and the best of its sweep",
    "smooth_sweeps": "Sweeps beside the noise of training",
    "quoted_twice": "Quoted systems",
    "quoted_alike": "Quoted systems",
    "corpus_count": "Counts of the released corpora",
    "filtered": "Counts of the released corpora",
    "supports": "Test sets that no speakers make",
    "heads": "Attention heads and widths",
    "steps": "Steps of the optimiser",
    "power": "Gains within the sampling noise of the test set",
}
HEAD = """# Do the printed numbers fit each other?

Written by `merlib audit --write`; nothing here is typed by hand. No model was trained for it: this is arithmetic on the
digits that the papers print (`papers/*/tables`, `papers/*/claims.toml`). `notebooks/01_audit.ipynb` explains the checks
one by one.

**Cannot hold** lists numbers that no rounding or truncation of the digits reconciles, on the premise that the sentence
names (the counts of a test set, one evaluation per row). **Odd** lists numbers with an innocent explanation: a second
run, a mean over runs, another test set behind a quoted score, a gain within sampling noise. A number that cannot hold
can have innocent causes too: a typing error, a row of another version, a metric under another definition. This page
says what does not fit, not why.

Findings that are one fact (claims of one sentence, counts of one row, accuracies on one test set) stand below the first
of them and are counted once.

A printed 68.75 stands for any number from 68.745 to 68.76. Addresses are `table/row.column` of the paper's
declarations.
"""


def folder() -> Path:
    """The folder results/audit."""
    return places.results_folder("audit")


def write(findings: list[Finding], only: str | None = None) -> Path:
    """Write findings.csv and README.md, which hold all papers; DeclarationError where `only` one is requested."""
    if only is not None:
        raise DeclarationError(f"results/audit holds all papers: `merlib audit --write` takes no paper, found {only!r}")
    with atomic(folder() / "findings.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        columns = [name for name in Finding.model_fields if name != "consequences"]
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(each.model_dump(include=set(columns)) for f in findings for each in f.flat())
    path = folder() / "README.md"
    with atomic(path) as part:
        part.write_text(page(findings), encoding="utf-8")
    return path


def page(findings: list[Finding]) -> str:
    """The text of README.md."""
    counts = Counter((f.paper, f.severity) for f in findings)
    lines = [HEAD, "| paper | cannot hold | odd |", "|---|---|---|"]
    lines += [f"| [{p}](#{p}) | {counts[p, 'error']} | {counts[p, 'note']} |" for p in declarations.papers()]
    for paper in declarations.papers():
        lines += ["", f"## {paper}", "", f"{declarations.load(paper).title}."]
        for severity, name in (("error", "Cannot hold"), ("note", "Odd")):
            of_severity = [f for f in findings if (f.paper, f.severity) == (paper, severity)]
            for heading in dict.fromkeys(HEADINGS.values()):
                listed = [f for f in of_severity if HEADINGS[f.check] == heading]
                if listed:
                    lines += ["", f"### {name}: {heading[0].lower()}{heading[1:]}", ""]
                    lines += [line for f in listed for line in as_lines(f)]
    return "\n".join(lines) + "\n"


def as_lines(finding: Finding) -> list[str]:
    """A finding as an item of a list, and below it its consequences."""
    first, *others = (f"- `{f.table}/{f.row}`: {f.message}" for f in finding.flat())
    return [first, *(f"    {line}" for line in others)]
