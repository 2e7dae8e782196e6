"""What the README says of the results: its parts between markers are written from results/<data>/claims.csv.

`merlib report --data real --readme README.md` writes them; nothing of them is typed.
"""

from pathlib import Path

import pandas as pd

from merlib import declarations
from merlib.data import official
from merlib.errors import RequestError
from merlib.files import atomic
from merlib.study import claims_page
from merlib.study.claims import VERDICTS


def write(readme: Path, data: str) -> None:
    """Write the parts of a README anew; RequestError where it lacks a marker."""
    text = readme.read_text(encoding="utf-8")
    for name, part in parts(data).items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise RequestError(
                f"{readme} has no lines {start.strip()!r} and {end!r}: add them where {name} shall stand"
            )
        text = f"{before}{start}{part}\n{end}{after}"
    with atomic(readme) as new:
        new.write_text(text, encoding="utf-8")


def parts(data: str) -> dict[str, str]:
    """Name of a marker -> Markdown: the papers with the verdicts on their central claims, and each of these claims."""
    judged = claims_page.read(data)
    central = judged[judged["central"]]
    return {"papers": _papers(central), "findings": findings(judged)}


def _papers(central: pd.DataFrame) -> str:
    lines = []
    for paper in map(declarations.load, declarations.papers()):
        verdicts = _counted(central[central["paper"] == paper.id])
        corpora = ", ".join(official.NAMES.get(corpus, corpus) for corpus in paper.corpora)
        title = f"[{paper.title}](papers/{paper.id}/notes.md)"
        lines.append([title, f"`{paper.id}`", paper.published.get("year", ""), corpora, verdicts or "none judged"])
    columns = ["paper", "id", "year", "corpora", "verdicts on its central claims"]
    return pd.DataFrame(lines, columns=columns).to_markdown(index=False, disable_numparse=True)


def findings(judged: pd.DataFrame) -> str:
    """Of each paper what its central claims come to: how many have each verdict, and each in one sentence."""
    lines = []
    for paper, claims in judged[judged["central"]].groupby("paper", sort=True):
        name = declarations.load(paper).name or paper
        lines += [f"- **{name}**: of {len(claims)} central claims, {_counted(claims)}."]
        lines += [f"  - {claims_page.plain(line)}" for line in claims.itertuples()]
    return "\n".join(lines)


def _counted(claims: pd.DataFrame) -> str:
    counts = claims["verdict"].value_counts()
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
