"""The command line `merlib`. Exit 0 done, 1 the run failed, 2 bad arguments.

With --json, a command prints one JSON document on standard output and nothing else.
"""

import argparse
import json
import sys
from argparse import Namespace
from pathlib import Path

from merlib import declarations
from merlib.cli import arguments, data
from merlib.errors import MerlibError, one_of
from merlib.places import TWINS, results_folder


def doctor(args: Namespace) -> None:
    """what data is here, what each paper still needs, how to get it, and under which licence"""
    from merlib.roots import doctor

    report = doctor.describe(declarations.needs([declarations.load(name) for name in declarations.papers()]))
    print(json.dumps(report, indent=1) if args.json else doctor.as_text(report))


def cells(args: Namespace) -> None:
    """every printed number: its address, what it measures, our recipe for it, where it has been recorded"""
    from merlib import study

    listed = []
    for name in [args.paper] if args.paper else declarations.papers():
        paper = declarations.load(name)
        recorded = study.recorded(name)
        for cell in declarations.cells(paper):
            where = sorted(recorded.get((cell.table, cell.row, cell.column), ()))
            listed.append(cell.model_dump() | {"recipe": declarations.recipe_of(paper, cell), "recorded": where})
    if args.json:
        print(json.dumps(listed))
    for cell in [] if args.json else listed:
        print(f"{cell['paper']}/{cell['table']}/{cell['row']} {cell['column']} = {cell['printed']} ({cell['kind']})")


def audit(args: Namespace) -> None:
    """what does not fit in the printed numbers themselves; findings are no failure of this command"""
    from merlib.audit import audit as audited
    from merlib.audit import pages

    findings = audited(args.paper)
    if args.write:
        pages.write(findings, args.paper)
    if args.json:
        print(json.dumps([finding.model_dump() for finding in findings]))
    for f in [] if args.json else findings:
        print(f"{f.severity} {f.paper}/{f.table}/{f.row} {f.column} [{f.check}] {f.message}")


def compare(args: Namespace) -> None:
    """printed beside reproduced, for one table"""
    from merlib import study

    _known(args.data)
    board = study.compare(args.paper, args.table, args.data)
    shown = board.drop(columns=["data", "features", "row"]).round(2)
    print(board.to_json(orient="records") if args.json else shown.to_string(index=False, na_rep=""))
    table = declarations.load(args.paper).table(args.table).id
    where = {root for (t, _, _), found in study.recorded(args.paper).items() if t == table for root in found}
    if where and args.data not in where:
        there = " or ".join(f"--data {root}" for root in sorted(where))
        print(f"nothing of {args.paper}/{table} has run on {args.data!r}: ask for {there}", file=sys.stderr)


def against(args: Namespace) -> None:
    """a row beside others on the same test utterances, with the exact McNemar test; of runs that are in the cache"""
    from merlib import study

    _known(args.data)
    lines = study.against(args.paper, args.table, args.row, others=args.other, data=args.data, seeds=args.seeds)
    print(lines.to_json(orient="records") if args.json else lines.round(4).to_string(index=False))


def run(args: Namespace) -> None:
    """train what is missing of a table, or of some of its rows, and write its records (with --set: only show them)"""
    from merlib import study, twins

    twins.ensure(args.data, declarations.load(args.paper).corpora)
    asked = {"row": args.row, "data": args.data, "folds": args.folds, "change": dict(args.set) or None}
    records = study.run_table(args.paper, args.table, seeds=args.seeds, device=args.device, **asked)
    if records.empty:
        return print("nothing to record: what was asked is quoted by the paper, or left out for the reason above")
    shown = ["row", "column", "seed", "selection", "value", "epoch", "never_predicted"]
    print(records.reindex(columns=shown).to_string(index=False, na_rep=""))
    path = study.records_path(args.paper, declarations.load(args.paper).table(args.table).id, args.data)
    print("not recorded, because of --set" if args.set else f"recorded in {path}")


def notebook(args: Namespace) -> None:
    """execute a notebook strictly: an unknown or mistyped parameter is refused"""
    from merlib.cli import headless

    headless.run(args.source, args.target, {key: arguments.literal(text) for key, text in args.parameter})


def report(args: Namespace) -> None:
    """the comparison summary, and results/<data>/report.md with every table"""
    from merlib.study import report as reporting

    _known(args.data)
    path = reporting.write(args.data)
    if args.readme:
        reporting.write_scoreboard(args.readme, args.data)
    print(reporting.summary(args.data).round(2).to_string(index=False, na_rep=""))
    print(f"\nThe report lies in {path}")


def _known(data: str) -> None:
    """Raise DeclarationError for a root that has neither data nor records: its name is mistyped."""
    from merlib.data import folders

    recorded = (folder.parent.name for folder in results_folder("").glob("*/records"))
    one_of(dict.fromkeys(sorted({*TWINS, *folders.roots(), *recorded})), data, "data root")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="merlib", description="Printed numbers of papers, their recipes and their verdicts."
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def command(function, name: str | None = None, under=commands) -> argparse.ArgumentParser:
        made = under.add_parser(name or function.__name__, help=function.__doc__, description=function.__doc__)
        made.set_defaults(function=function)
        return made

    def choose_data(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--data", default="twin", help="data root: a folder below data/ (or MERLIB_DATA); twin is synthetic"
        )

    as_json = {"action": "store_true", "help": "one JSON document on standard output, nothing else"}
    command(doctor).add_argument("--json", **as_json)
    made = command(cells)
    made.add_argument("paper", nargs="?")
    made.add_argument("--json", **as_json)
    made = command(audit)
    made.add_argument("paper", nargs="?")
    made.add_argument("--json", **as_json)
    made.add_argument("--write", action="store_true", help="also write results/audit (findings.csv and a page)")
    made = command(compare)
    made.add_argument("paper")
    made.add_argument("table")
    made.add_argument("--json", **as_json)
    choose_data(made)
    made = command(against)
    made.add_argument("paper")
    made.add_argument("table")
    made.add_argument("row")
    made.add_argument("other", nargs="*", help="rows to stand beside it (default: all that have run)")
    made.add_argument("--seeds", type=arguments.numbers, default=(0,), help="comma-separated")
    made.add_argument("--json", **as_json)
    choose_data(made)
    made = command(run)
    made.add_argument("paper")
    made.add_argument("table")
    made.add_argument("row", nargs="*")
    made.add_argument("--seeds", type=arguments.numbers, default=(0,), help="comma-separated")
    made.add_argument("--folds", type=arguments.numbers, default=(), help="comma-separated, from 0 (default: all)")
    made.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    made.add_argument(
        "--set", type=arguments.assignment, action="append", default=[], help="a leaf or reading: readings.cell=slstm"
    )
    choose_data(made)
    made = command(notebook)
    made.add_argument("source", type=Path)
    made.add_argument("target", type=Path)
    made.add_argument("-p", dest="parameter", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    made = command(report)
    made.add_argument("--readme", type=Path, help="also write the scoreboard into this file")
    choose_data(made)
    data.add(commands, command)
    return root


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a wrong request exits with 2, a failed run with 1, each with one plain message on standard error."""
    args = parser().parse_args(arguments)
    try:
        args.function(args)
    except (MerlibError, OSError) as error:
        print(f"merlib: {error}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, MerlibError) else 1)
