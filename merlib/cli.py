"""The command line: `merlib doctor | cells | compare | run | notebook | report | data`. Exit 0 done, 1 the run failed, 2 bad arguments.

With --json, a command prints one JSON document on standard output and nothing else.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from merlib import declarations
from merlib.declarations import DeclarationError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Bring data in: import a corpus, encode its text, make the twin.")
app.add_typer(data_app, name="data")

Data = Annotated[str, typer.Option(help="The data root: a folder below data/ (or MERLIB_DATA); `twin` is synthetic.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
Set = Annotated[list[str], typer.Option("--set", help="A recipe leaf or reading: train.lr=1e-3, readings.cell=slstm.")]


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What data is here, what each paper still needs, how to get it, and under which licence."""
    from merlib.features import roots

    report = roots.describe()
    print(json.dumps(report, indent=1) if as_json else roots.as_text(report))


@app.command()
def cells(as_json: AsJson = False, paper: Annotated[str | None, typer.Argument()] = None) -> None:
    """Every printed number: its address, what it measures, our recipe for it, and where it has been recorded."""
    from merlib import study

    listed = []
    for name in [paper] if paper else declarations.papers():
        declared = declarations.load(name)
        recorded = study.recorded(name)
        for cell in declarations.cells(declared):
            row = declared.tables[cell.table].find(cell.row) if cell.table in declared.tables else None
            recipe = declarations.recipe(declared, row, cell.corpus) if row and row.runs and row.kind == "own" else None
            where = sorted(recorded.get((cell.table, cell.row, cell.column), ()))
            listed.append(cell.model_dump() | {"recipe": recipe, "recorded": where})
    if as_json:
        print(json.dumps(listed))
    else:
        for cell in listed:
            print(f"{cell['paper']}/{cell['table']}/{cell['row']}.{cell['column']} = {cell['printed']} ({cell['kind']})")


@app.command()
def compare(paper: str, table: str, data: Data = "twin", as_json: AsJson = False) -> None:
    """Printed beside reproduced, for one table."""
    from merlib import report

    board = report.compare(paper, table, data)
    if as_json:
        print(board.to_json(orient="records"))
    else:
        print(board.drop(columns=["data", "features", "row"]).round(2).to_string(index=False, na_rep=""))


@app.command()
def run(
    paper: str, table: str, row: Annotated[str | None, typer.Argument()] = None, data: Data = "twin",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0", device: str | None = None, set_: Set = [],  # noqa: B006
) -> None:  # fmt: skip
    """Train what is missing of a table, or of one row of it, and write its records. With --set the records are only shown."""
    from merlib import study

    change = dict(_assignment(text) for text in set_)
    chosen = tuple(_number(seed) for seed in seeds.split(","))
    records = study.run_table(paper, table, row=row, data=data, seeds=chosen, device=device, change=change or None)
    shown = ["row", "column", "seed", "selection", "value", "epoch", "never_predicted"]
    print(records.reindex(columns=shown).to_string(index=False, na_rep=""))
    print(f"recorded in {study.records_path(paper, declarations.load(paper).table(table).id, data)}" if not change else "not recorded (--set)")


@app.command()
def notebook(source: Path, target: Path, parameter: Annotated[list[tuple[str, str]], typer.Option("-p", help="KEY VALUE")] = []) -> None:  # noqa: B006
    """Execute a notebook strictly: unknown or mistyped parameters are refused."""
    from merlib import headless

    headless.run(source, target, {key: _value(value) for key, value in parameter})


@app.command()
def report(data: Data = "twin", readme: Annotated[Path | None, typer.Option(help="Also write the scoreboard there.")] = None) -> None:
    """The comparison summary, and results/<data>/report.md with every table."""
    from merlib import report as reporting

    path = reporting.write(data)
    if readme:
        reporting.write_scoreboard(readme, data)
    print(reporting.summary(data).round(2).to_string(index=False, na_rep=""))
    print(f"\nThe report lies in {path}")


@data_app.command("import")
def import_(kind: str, source: Path, data: Annotated[str, typer.Argument(help="The data root to import into.")]) -> None:
    """Import a corpus. KIND: prepared (a TOML), iemocap, meld (official folders), conv-emotion, multiemo (public pickles)."""
    from merlib.features import roots

    for corpus in roots.import_source(kind, source, data):
        print(f"imported {corpus} into {roots.root_path(data) / corpus}")


@data_app.command()
def text(
    data: str, corpus: str, encoder: str = "minilm", pool: str = "mean", context: str = "alone", name: str = "text",
    device: str | None = None,
) -> None:  # fmt: skip
    """Encode the utterances' text into a feature array. ENCODER: minilm, or any Hugging Face encoder by name or path."""
    from merlib.features import roots

    print(roots.encode_text(data, corpus, encoder=encoder, pool=pool, context=context, name=name, device=device))


@data_app.command()
def twin() -> None:
    """Make the synthetic twin of every corpus (otherwise made on first use)."""
    from merlib.features import roots

    for corpus in roots.corpora("twin"):
        print(roots.dataset("twin", corpus).corpus.source)


def _assignment(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise DeclarationError(f"--set {text!r}: write key=value, such as train.lr=1e-3 or readings.cell=slstm")
    return key, _value(value)


def _value(text: str) -> object:
    """A TOML literal (1e-3, true, "text", [0, 1]); anything else is the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _number(text: str) -> int:
    if not text.strip().isdigit():
        raise DeclarationError(f"{text!r} is no seed: give whole numbers, such as --seeds 0,1,2")
    return int(text)


def main() -> None:
    """Entry point: a wrong request exits with 2, a failed run with 1, each with one plain message on standard error."""
    try:
        app()
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"merlib: {error}", file=sys.stderr)
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """2 for what the caller got wrong, 1 for what failed on the way, None for a defect of ours, which keeps its traceback."""
    from merlib.corpora.table import CorpusError
    from merlib.features.store import FeatureError
    from merlib.headless import NotebookError, RunFailed
    from merlib.training import TrainingError

    if isinstance(error, DeclarationError | NotebookError):
        return 2
    return 1 if isinstance(error, CorpusError | FeatureError | TrainingError | RunFailed | OSError) else None
