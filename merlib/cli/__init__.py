"""The command line `merlib`. Exit 0 done, 1 the run failed, 2 bad arguments, 130 or 143 stopped by Ctrl-C or SIGTERM.

With --json, a command prints one JSON document on standard output and nothing else. The docstrings are the help texts.
What takes long to import is imported by the command that needs it.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from merlib import declarations, signals
from merlib.cli import arguments, beforehand, data, multiverse, reports
from merlib.cli import records as own_records
from merlib.cli.arguments import (
    Anything,
    AsJson,
    Changes,
    Code,
    Device,
    FirstRow,
    Folds,
    Only,
    OptionalPaper,
    Parameters,
    Root,
    Rows,
    RunRows,
    Seeds,
)
from merlib.errors import MerlibError, RequestError, is_out_of_memory, one_of, shortened
from merlib.places import commit

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=HELP)
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"merlib {version('merlib')}, commit {commit()}")
        raise typer.Exit


NEW = "Write a made-up paper, with comments, into this new folder, to start a declaration from."
PROBE = "First time a few steps of each network that has neither a record nor a probe: results/<data>/probes.csv."
STALE = "Instead the recorded runs, with their seeds, whose recipe, code or data are not the present ones."
VERSION = typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and the commit.")


@app.callback()
def _options(version: Annotated[bool, VERSION] = False) -> None:
    """Printed numbers of papers, their recipes and their verdicts."""


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show the data that is here, and what is missing.

    For each data root of your own that is here, and each paper: the corpora and modalities it still lacks; which of its
    printed protocol cannot run there, what stands in, and what it costs. For every corpus: how to get it, and under
    which licence.
    """
    from merlib.roots import doctor

    papers = [declarations.load(name) for name in declarations.papers()]
    report = doctor.describe(declarations.needs(papers), papers)
    print(json.dumps(report, indent=1) if as_json else doctor.as_text(report))


@app.command()
def cells(words: Anything = None, as_json: AsJson = False) -> None:
    """List printed numbers; with --json, their recipes too.

    Of each number: its address, column, digits, and whether it is the paper's own, cited, or a fact such as a count.
    With --json also what it measures, our recipe for it, and the data roots with records of it.
    """
    from merlib import study

    place = arguments.address(words or (), text=True)
    listed = []
    for paper in map(declarations.load, declarations.papers(place.paper)):
        cells = [cell for cell in declarations.cells(paper) if place.holds(cell.paper, cell.table, cell.row)]
        if not as_json:
            for cell in cells:
                print(f"{cell.address} {cell.column} = {cell.printed} ({cell.kind})")
            continue
        recorded, recipes = study.recorded(paper.id), {}  # the columns of a row mostly share a recipe
        for cell in cells:
            key = cell.table, cell.row, cell.corpus, cell.modalities
            if key not in recipes:
                recipes[key] = declarations.recipe_of(paper, cell)
            roots = sorted(recorded.get((cell.table, cell.row, cell.column), ()))
            listed.append(cell.model_dump() | {"recipe": recipes[key], "recorded": roots})
    if as_json:
        print(json.dumps(listed))


@app.command()
def audit(
    words: Anything = None,
    as_json: AsJson = False,
    write: Annotated[bool, typer.Option("--write", help="Also write results/audit: findings.csv and a page.")] = False,
    new: Annotated[Path | None, typer.Option("--new", metavar="FOLDER", help=NEW)] = None,
    records: Annotated[
        bool, typer.Option("--records", help="Audit our own records of the root --data instead.")
    ] = False,
    data: Root = "twin",
) -> None:
    """List where printed numbers contradict each other.

    A folder instead of an address audits the paper that is declared there. With --records: what does not fit in our own
    records, which of them are stale, and which executed notebooks and figures are old. Findings are no failure of this
    command: it exits with 0.
    """
    from merlib.audit import audit, pages, skeleton

    if records:
        if write or new:
            raise RequestError("--records goes with neither --write nor --new")
        return own_records.audit(arguments.address(words or ()), data, as_json=as_json)
    if new:
        skeleton.write(new)
        return print(
            f"{new} holds a made-up paper: put your numbers in place of its own, then run `merlib audit {new}`"
        )
    folder = arguments.folder(words or ())
    place = arguments.Address() if folder else arguments.address(words or (), text=True)
    facts = audit(folder or place.paper or None)
    facts = [f for f in facts if any(place.holds(each.paper, each.table, each.row) for each in f.flat())]
    if write:
        pages.write(facts, "/".join(words or ()) or None)
    own_records.show(facts, as_json=as_json)


@app.command()
def compare(words: Rows, as_json: AsJson = False, data: Root = "twin") -> None:
    """Show the printed numbers of a table beside ours."""
    from merlib import study

    paper, table, rows = arguments.address(words, needs=2)
    one_of(arguments.data_roots(), data, "data root")
    board = study.compare(paper, table, data)
    board = board[board["row"].isin(rows)] if rows else board
    shown = board.drop(columns=["data", "features", "row"]).round(2)
    print(board.to_json(orient="records") if as_json else shown.to_string(index=False, na_rep=""))
    if not as_json and len(searches := study.searched(paper, table, data)):
        print(f"\nwhat validation selects, in each seed and fold\n{searches.round(2).to_string(index=False)}")
    recorded = {root for (name, _, _), roots in study.recorded(paper).items() if name == table for root in roots}
    if recorded and data not in recorded:
        options = " or ".join(f"--data {root}" for root in sorted(recorded))
        print(f"nothing of {paper}/{table} has run on {data!r}: choose {options}", file=sys.stderr)


@app.command()
def claims(
    words: OptionalPaper = None,
    as_json: AsJson = False,
    data: Root = "twin",
    write: Annotated[bool, typer.Option("--write", help="Also write results/<data>: claims.csv, claims.md.")] = False,
) -> None:
    """Judge what a paper claims of its scores on our own runs.

    Each claim is judged by the difference between runs on equal inputs, from the records alone. --write writes the
    claims of all papers.
    """
    from merlib import study

    place = arguments.address(words or ())
    if place.table:
        raise RequestError(f"{'/'.join(words)}: claims are of a whole paper: `merlib claims {place.paper}`")
    one_of(arguments.data_roots(), data, "data root")
    judged = study.judge_claims(None if write else place.paper or None, data)
    if write:
        study.claims_page.write(judged, data)
    judged = judged[judged["paper"] == place.paper] if place.paper else judged
    if as_json:
        return print(judged.to_json(orient="records"))
    for line in judged.itertuples():
        print(f"{line.paper} {study.claims_page.sentence(line).replace('**', '').replace('`', '')}")
    print(f"\n{study.claims_page.counts(judged).to_string()}")


@app.command()
def against(words: FirstRow, seeds: Seeds = "0", as_json: AsJson = False, data: Root = "twin") -> None:
    """Compare a row with others on the same test utterances.

    The first row is compared with each of the others (default: all of the table), by the exact McNemar test and by a
    bootstrap over seeds and dialogues. Only recorded runs that have left outcomes are compared; nothing is trained.
    """
    from merlib import study

    paper, table, (row, *others) = arguments.address(words, needs=3)
    one_of(arguments.data_roots(), data, "data root")
    lines = study.against(paper, table, row, others=others, data=data, seeds=seeds)
    print(lines.to_json(orient="records") if as_json else lines.round(4).to_string(index=False))


@app.command()
def run(
    words: RunRows = None,
    seeds: Seeds = "0",
    folds: Folds = None,
    only: Only = None,
    device: Device = None,
    changes: Changes = None,
    stale: Annotated[bool, typer.Option("--stale", help=STALE)] = False,
    data: Root = "twin",
) -> None:
    """Train the missing runs of a table or of some rows.

    Their records are written into results/<data>/records; with --set they are only shown.
    """
    from merlib import study, twins

    words = words or []
    if stale:
        if folds or only or changes:
            raise RequestError("--stale trains what is recorded: it goes with none of --folds, --only and --set")
        return own_records.rerun(arguments.address(words), data, device)
    paper, table, rows = arguments.address(words, needs=2)
    change = dict(changes or ()) or None
    twins.ensure(data, declarations.load(paper).corpora)
    records = study.run_table(
        paper, table, row=rows, data=data, seeds=seeds, folds=folds or (), only=only or (), device=device, change=change
    )
    if records.empty:
        return print("nothing to record: these rows are quoted by the paper, or left out for the reason above")
    shown = ["row", "column", "seed", "selection", "value", "epoch", "never_predicted"]
    print(records.reindex(columns=shown).to_string(index=False, na_rep=""))
    print("not recorded, because of --set" if change else f"recorded in {study.records_path(paper, table, data)}")


app.command()(multiverse.multiverse)


@app.command()
def plan(
    words: Annotated[list[str] | None, typer.Argument(metavar="PAPER/TABLE", help=arguments.BATCH)] = None,
    seeds: Seeds = "0",
    data: Root = "twin",
    job_seconds: Annotated[float, typer.Option(help="A job of less is joined by further runs.")] = 60,
    probe: Annotated[bool, typer.Option("--probe", help=PROBE)] = False,
    write: Annotated[bool, typer.Option("--write", help="Also write results/<data>/plan.csv.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the runs that tables need, each once, what they will take, and which come first.

    First come the rows that central claims rest on, then those that decide an open claim, then the rest. With --json
    also the jobs that a batch makes of those that are not in results/cache.
    """
    from merlib import twins
    from merlib.study import batch

    held = set(twins.offered(one_of(arguments.data_roots(), data, "data root")))
    places = [arguments.address([word]) for word in words or declarations.papers()]
    tables = []
    for place in places:
        paper = declarations.load(place.paper)
        if words or held & set(paper.corpora):
            twins.ensure(data, paper.corpora)
            tables += [(paper.id, name) for name in ([place.table] if place.table else paper.tables_of_batch())]
    if probe:
        from merlib.study import probes

        print(f"{probes.make(tables, data=data, seed=seeds[0])} new probes", file=sys.stderr)
    runs, skipped = batch.runs_of_batch(tables, data=data, seeds=seeds)
    if write:
        print(f"wrote {batch.write(runs, skipped, data)}", file=sys.stderr)
    if as_json:
        jobs = batch.jobs(runs, seconds=job_seconds)
        return print(json.dumps({"runs": runs.to_dict("records"), "jobs": jobs, "skipped": skipped}))
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    print(runs.drop(columns=["tables", "network"]).to_string(index=False))
    due, recorded = runs[~runs["cached"].astype(bool)], int(runs["recorded"].sum())
    print(f"\n{len(runs)} runs, {recorded} of them recorded; {len(due)} to train here", end="")
    print(f", in {due['seconds'].sum() / 3600:.1f} hours of one core or GPU")


@app.command(cls=arguments.WithPairs)
def notebook(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The notebook; it is not changed.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The executed copy to write.")],
    parameters: Parameters = None,
    code: Code = None,
) -> None:
    """Execute a notebook, with parameters.

    An unknown parameter, or one of another type than its default, is refused before anything runs.
    """
    from merlib.cli import headless

    headless.run(source, target, dict(parameters or ()), code=code)


app.command()(reports.report)


app.command()(beforehand.power)
app.command()(beforehand.leaks)


def main(words: list[str] | None = None) -> None:
    """Entry point: a wrong request exits with 2, a failed run with 1, each with one plain message on standard error."""
    try:
        with signals.ending_the_command():
            code = app(words, prog_name="merlib", standalone_mode=False)
    except typer.TyperException as error:  # the words make no command
        error.message = shortened(error.message)
        error.show()
        code = error.exit_code
    except Exception as error:
        if is_out_of_memory(error):
            code = _failed(f"out of memory: run fewer jobs at once, or take a corpus with fewer utterances ({error})")
        elif isinstance(error, (MerlibError, OSError)):
            lines = error.lines if isinstance(error, MerlibError) else [str(error)]
            code = _failed(*lines, code=getattr(error, "exit_code", 1))
        else:
            raise  # a fault of the code keeps its traceback
    except SystemExit as end:
        code = end.code
        if code in signals.STATUS:
            _failed("stopped; what is done is kept; run again to go on")
    if code:  # a command that is done returns to its caller
        sys.exit(code)


def _failed(*messages: str, code: int = 1) -> int:
    for message in messages:
        print(f"merlib: {shortened(message)}", file=sys.stderr)
    return code
