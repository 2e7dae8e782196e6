"""results/<data>/claims.csv, and claims.md: each claim of a paper in one plain sentence, the central ones first."""

import re
import textwrap
from dataclasses import fields
from pathlib import Path

import pandas as pd

from merlib import declarations
from merlib.declarations.schema import LETTERS
from merlib.errors import RequestError
from merlib.files import atomic
from merlib.places import TWINS, results_folder
from merlib.study.claims import VERDICTS, Judged
from merlib.study.records import read_made

MODALITIES = LETTERS | {"V": "video"}  # in words
WORDS = ("covers", "pair", "pairs", "inputs", "doubt", "note")  # columns of claims.csv that may be empty
TWIN_CAVEAT = "**Synthetic twin**: these numbers show that everything runs, and nothing about the papers' claims."
INTRODUCTION = """\
# What the papers claim, on our own runs

Each claim compares scores of a paper. Here both sides are trained by us on the same inputs, so the difference between
them judges the claim even where our features are not the paper's (`inputs` in claims.csv). Differences are in
percentage points. A verdict is at the 5 % level, after Holm's adjustment over all tested claims of a paper; 95 %
intervals are not adjusted. Nor are numbers of seeds: with so many, four of five studies would find the printed
difference. Fewer than three seeds of one test set decide nothing, and have no interval. Where a claim is about several
pairs and some differ against it, p is that of one of them times their number, and the interval that of the pair alone.
An interval over seeds holds for this one test set. An interval over seeds and clusters (dialogues, videos or actors)
holds for other clusters as well; it needs runs that have left their outcomes, and more seeds make it narrower only up
to a limit. One over folds allows for the training utterances that folds share. The spread between seeds is taken from
all rows of a paper that are scored alike and read the same modalities, as if they varied alike. Older code: the present
declarations or code would not give a record of the pair (`merlib audit --records` says why).

A claim is not testable where it compares with a quoted system that we do not train, where both of its sides are one run
on this root, and where its sides have run on unequal inputs: "have read other features" means that both rows have run,
but not on the same arrays, so that running both again on one root can decide it. How claims are judged:
`merlib/study/claims.py`.
"""


def write(judged: pd.DataFrame, data: str) -> Path:
    """Write both files of all claims that were judged on a data root; returns the folder."""
    folder = results_folder(data)
    with atomic(folder / "claims.csv") as part:
        judged.round(4).to_csv(part, index=False)
    lines = [INTRODUCTION, *([TWIN_CAVEAT, ""] if data in TWINS else []), counts(judged).to_markdown(), ""]
    for paper, of_paper in judged.groupby("paper", sort=True):
        lines += [f"## {declarations.load(paper).title}", ""]
        for central, title in ((True, "What abstract and conclusion rest on"), (False, "The rest")):
            lines += [f"### {title}", "", *_listed(of_paper[of_paper["central"] == central], folded=not central), ""]
    with atomic(folder / "claims.md") as part:
        part.write_text("\n".join(lines), encoding="utf-8")
    return folder


def _listed(claims: pd.DataFrame, *, folded: bool) -> list[str]:
    """A line a claim, by verdict. folded: those without a judgement stand in a part that opens at a click."""
    lines = []
    for verdict in VERDICTS:
        of_verdict = [f"- {sentence(line)}" for line in claims[claims["verdict"] == verdict].itertuples()]
        if of_verdict and folded and verdict in ("not run", "not testable"):
            head = f"<details><summary>{len(of_verdict)} {verdict}</summary>"
            of_verdict = ["", head, "", *of_verdict, "", "</details>"]
        lines += of_verdict
    return lines


def read(data: str) -> pd.DataFrame:
    """The claims of all papers as they were last judged on a data root; RequestError where they were not."""
    path = results_folder(data) / "claims.csv"
    if not path.exists():
        raise RequestError(f"{path} is missing: run `merlib claims --data {data} --write` first")
    columns, remedy = [field.name for field in fields(Judged)], f"`merlib claims --data {data} --write` makes it anew"
    judged = read_made(path, columns, remedy, dtype=dict.fromkeys(WORDS, str)).fillna(dict.fromkeys(WORDS, ""))
    return judged.astype({"central": bool})  # also where there are no claims


def counts(judged: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each paper have each verdict."""
    return pd.crosstab(judged["paper"], judged["verdict"]).reindex(columns=VERDICTS, fill_value=0)


def sentence(line) -> str:
    """One claim in one sentence, from its place in the paper to its verdict."""
    head = f"**{line.verdict}** `{line.claim}` ({line.where}): {line.says}"
    if pd.isna(line.estimate):
        return f"{head}; {line.note}." if line.note else f"{head}."
    interval = "" if pd.isna(line.low) else f", 95 % interval {line.low:z.2f} to {line.high:z.2f}"
    p = "" if pd.isna(line.p_holm) else f", p {line.p:.2g}, {line.p_holm:.2g} after Holm"
    runs = _runs(line) + " and clusters" * line.covers.endswith("clusters") + _but(line)
    of_pair = f"{line.pairs} pairs judged; the numbers are of {line.pair}, which decides"
    among = "" if line.pairs == "1 of 1" else f" ({of_pair})"
    ours = f"ours {line.estimate:+z.2f} points{interval}{p}, over {runs}, where {line.printed:+.2f} is printed{among}"
    return f"{head}; {ours}{f'; {line.note}' if line.note else ''}."


def plain(line) -> str:
    """One claim in one sentence for a reader who is new here: what is said, the verdict, and our numbers."""
    head = f"{line.says[:1].upper()}{line.says[1:]} ({line.where}): **{line.verdict}**"
    if pd.isna(line.estimate):
        why = f" ({textwrap.shorten(line.note, 90, placeholder=' ...', break_on_hyphens=False)})"
        return f"{head}{why * (line.verdict == 'not testable')}; {line.printed:+.2f} is printed."
    rival = f" to {_rival(line)}" if line.kind in ("best", "order") else ""
    interval = "" if pd.isna(line.low) else f"95 % interval {line.low:+z.2f} to {line.high:+z.2f}, "
    ours = f"our difference{rival} is {line.estimate:+z.2f} points ({interval}{_runs(line)}{_but(line)})"
    beside_zero = line.verdict == "undecided" and pd.notna(line.low) and line.low * line.high > 0
    p = f", p {line.p:.2g} and {line.p_holm:.2g} after Holm's adjustment" if beside_zero else ""
    return f"{head}; {ours}{p}, {line.printed:+.2f} is printed{f'; {line.note}' if line.note else ''}."


def _runs(line) -> str:
    return f"{line.seeds} seed{'s' * (line.seeds != 1)}" + (f" and {line.folds} folds" if line.folds > 1 else "")


def _but(line) -> str:
    """Which modalities of the printed scores both sides lack here, and whether older code trained one of them."""
    lacking = re.search(r"\blacks (\w+)", line.inputs)
    names = [MODALITIES[letter] for letter in lacking[1]] if lacking else []
    without = f", without {' and '.join(names)}" if names else ""
    return f"{without}, older code" if line.doubt else without


def _rival(line) -> str:
    """The label of the row that decides a claim, as its table has it."""
    table, _, cell = line.pair.rpartition(" - ")[2].partition("/")
    return declarations.load(line.paper).table(table).find(cell.partition(".")[0]).label
