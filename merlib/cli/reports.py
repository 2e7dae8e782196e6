"""`merlib report`: all comparisons on a data root, or a replication report of one paper, to complete by hand."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from merlib.cli import arguments
from merlib.cli.arguments import Root
from merlib.errors import RequestError, one_of

README = "Also write the papers and the findings into this file, between its markers."
PAPER = "Write a replication report of this paper instead, in the headings of MLRC and ReScience C."
OUT = "The new folder of that report (default: results/<data>/reports/<paper>)."


def report(
    readme: Annotated[Path | None, typer.Option(help=README)] = None,
    paper: Annotated[str | None, typer.Option(help=PAPER)] = None,
    form: Annotated[Literal["latex", "md"], typer.Option("--format", help="LaTeX or Markdown.")] = "md",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help=OUT)] = None,
    data: Root = "twin",
) -> None:
    """Print the summary of all comparisons, or export a report of one paper.

    Every table is written into results/<data>/report.md; with --paper, those of one paper into a report of its own.
    """
    from merlib.study import front_page, replication, report

    one_of(arguments.data_roots(), data, "data root")
    if paper:
        if readme:
            raise RequestError("--readme is of all papers and --paper of one: give one of the two")
        return print(replication.written(arguments.address([paper]).paper, data, form=form, folder=out))
    if out:
        raise RequestError("--out is the folder of a report of one paper: name it by --paper")
    boards = report.boards_of(data)
    path = report.write(data, boards)
    if readme:
        front_page.write(readme, data)
    print(report.summary(data, boards).round(2).to_string(index=False, na_rep=""))
    print(f"\nThe report lies in {path}")
