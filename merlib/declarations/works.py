"""Bibliography: the works that reports cite, from `references.toml` of the folders of papers, and a paper as a work."""

import re
from collections.abc import Iterable

from pydantic import ValidationError

from merlib.declarations.folder import toml
from merlib.declarations.loading import folders
from merlib.declarations.schema import Paper, Row, Work
from merlib.errors import DeclarationError, one_of

FIELDS = ("journal", "booktitle", "volume", "number", "pages", "year", "doi")  # of an entry, after authors and title
NUMBERED = re.compile(r"\[(\d+)\]")  # of a row's `reference`


def works() -> dict[str, Work]:
    """Key -> work, of all files `references.toml` beside the declarations of papers or among them."""
    places = dict.fromkeys(place for folder in folders().values() for place in (folder.parent, folder))
    declared = {}
    for path in (place / "references.toml" for place in places):
        for key, entry in toml(path).items() if path.is_file() else ():
            try:
                declared[key] = Work(**entry)
            except (TypeError, ValidationError) as error:
                raise DeclarationError(f"{path}: [{key}] is no work: {error}. See papers/README.md") from None
    return declared


def as_work(paper: Paper) -> Work:
    """The paper itself, as other works are cited."""
    return Work(title=paper.title, authors=paper.authors.replace(", ", " and "), **paper.published)


def quoted(paper: Paper, row: Row) -> str | None:
    """The key of the work that a row quotes; None where the paper names none by its number."""
    number = NUMBERED.search(row.reference or "")
    return one_of(paper.references, number[1], f"number in [references] of {paper.id}") if number else None


def of_corpora(corpora: Iterable[str]) -> dict[str, Work]:
    """The works that describe these corpora."""
    return {key: work for key, work in works().items() if set(work.corpora) & set(corpora)}


def of_features(descriptions: Iterable[str]) -> dict[str, Work]:
    """The works on encoders that these descriptions of features name."""
    text = "\n".join(descriptions)
    return {key: work for key, work in works().items() if work.describes and re.search(work.describes, text)}


def citation(work: Work) -> str:
    """A work in one line of plain text, for pages."""
    authors = work.authors.replace("{", "").replace("}", "").replace(" and others", " et al.").replace(" and ", ", ")
    where = ", ".join(filter(None, (work.journal or work.booktitle, work.year)))
    end = f" https://doi.org/{work.doi}" if work.doi else ""
    return f"{authors}: {work.title}.{f' {where}.' if where else ''}{end}"
