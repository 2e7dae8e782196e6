"""A replication report of one paper, to complete by hand: `merlib report --paper mfcre --format latex`.

`blocks` is what a document is made of, `contents` says what stands in it, `latex` and `markdown` write it. Headings are
those of the ML Reproducibility Challenge and of ReScience C. What only a person can write is a marked gap.
"""

from pathlib import Path

from merlib import declarations
from merlib.declarations import works
from merlib.files import atomic
from merlib.places import results_folder
from merlib.study.replication import contents, latex, markdown
from merlib.study.replication.blocks import Picture, keys

WRITERS = {"latex": latex, "md": markdown}


def written(paper: str, data: str, *, form: str, folder: Path | None = None) -> Path:
    """Write report.tex or report.md, references.bib and the figures (PDF or PNG) into a folder; returns the report."""
    folder = folder or results_folder(data) / "reports" / paper
    writer, declared = WRITERS[form], declarations.load(paper)
    document = contents.document(declared, data)
    for picture in (block for block in document if isinstance(block, Picture)):
        with atomic(folder / f"{picture.name}.{writer.PICTURES}") as part:
            picture.figure.savefig(part, format=writer.PICTURES, dpi=130, metadata=writer.UNDATED)
    known = {declared.id: works.as_work(declared)} | works.works()
    cited = {key: known[key] for key in keys(document)}
    files = {f"report.{writer.SUFFIX}": writer.text(document, cited), "references.bib": latex.bibliography(cited)}
    for name, text in files.items():
        with atomic(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return folder / f"report.{writer.SUFFIX}"
