"""The command line `merlib`. Exit 0 done, 1 the run failed, 2 bad arguments.

With --json, a command prints one JSON document on standard output and nothing else.
"""

import argparse
import json
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

from merlib import declarations
from merlib.declarations import DeclarationError


def doctor(args: Namespace) -> None:
    """what data is here, what each paper still needs, how to get it, and under which licence"""
    from merlib.features import roots

    report = roots.describe(declarations.needs())
    print(json.dumps(report, indent=1) if args.json else roots.as_text(report))


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
    from merlib import report

    board = report.compare(args.paper, args.table, args.data)
    shown = board.drop(columns=["data", "features", "row"]).round(2)
    print(board.to_json(orient="records") if args.json else shown.to_string(index=False, na_rep=""))


def run(args: Namespace) -> None:
    """train what is missing of a table, or of one of its rows, and write its records (with --set: only show them)"""
    from merlib import distributed, study
    from merlib.runs import execute

    processes = distributed.join(distributed.device_of(args.device))
    asked = {"row": args.row, "data": args.data, "change": dict(args.set) or None}
    if not processes.main:  # it trains with the main one, which alone writes records and speaks
        paper = declarations.load(args.paper)
        for planned in [one for seed in args.seeds for one in study.runs_of(paper, args.table, seed=seed, **asked)]:
            execute(planned[-1], device=args.device, progress=False)
        return processes.leave()
    records = study.run_table(args.paper, args.table, seeds=args.seeds, device=args.device, **asked)
    processes.leave()
    shown = ["row", "column", "seed", "selection", "value", "epoch", "never_predicted"]
    print(records.reindex(columns=shown).to_string(index=False, na_rep=""))
    path = study.records_path(args.paper, declarations.load(args.paper).table(args.table).id, args.data)
    print("not recorded, because of --set" if args.set else f"recorded in {path}")


def notebook(args: Namespace) -> None:
    """execute a notebook strictly: an unknown or mistyped parameter is refused"""
    from merlib import headless

    headless.run(args.source, args.target, {key: _value(text) for key, text in args.parameter})


def report(args: Namespace) -> None:
    """the comparison summary, and results/<data>/report.md with every table"""
    from merlib import report as reporting

    path = reporting.write(args.data)
    if args.readme:
        reporting.write_scoreboard(args.readme, args.data)
    print(reporting.summary(args.data).round(2).to_string(index=False, na_rep=""))
    print(f"\nThe report lies in {path}")


def data_import(args: Namespace) -> None:
    """import a corpus: KIND is prepared (a TOML), iemocap, meld, ravdess, mosi, mosei (official folders), conv-emotion,
    multiemo or mmsa (public pickles)"""
    from merlib.features import roots

    for path in roots.import_source(args.kind, args.source, args.data):
        print(path)


def data_text(args: Namespace) -> None:
    """encode a corpus's text into a feature array; ENCODER is minilm, or any Hugging Face encoder by name or path"""
    from merlib.features import text

    others = {}
    if args.texts_file:
        others["texts"] = text.transcripts(args.texts_file, ids=args.ids, texts=args.texts)
        others["texts_from"] = f"{args.texts} of {args.texts_file.name}"
    how = {name: vars(args)[name] for name in ("encoder", "pool", "layer", "context", "max_tokens")}
    print(text.add(args.data, args.corpus, name=args.name, **how, **others))


def data_extract(args: Namespace) -> None:
    """make a paper's arrays from a corpus's recordings and transcripts; goes on where it was stopped"""
    from merlib.features import pipeline, recipes

    names = {modality: args.name for modality in ("text", "audio", "visual")} if args.name else None
    how = {"kind": args.kind, "weights": dict(args.weights), "workers": args.workers, "names": names}
    how["changed"] = args.augmented
    made = recipes.extract(args.data, args.corpus, args.recipe, folder=_media(args), modalities=args.modalities, **how)
    for modality, path in made.items():
        print(path)
        failed = () if modality == "text" else pipeline.failures(args.data, args.corpus, path.stem).itertuples()
        for row in failed:
            print(f"  failed: {row.utterance} {row.file}: {row.reason}", file=sys.stderr)


def _media(args: Namespace) -> Path:
    from merlib.corpora.table import CorpusError
    from merlib.features import roots

    folder = args.media or roots.recordings(args.data, args.corpus)
    if folder is None:
        raise CorpusError(
            f"{args.data}/{args.corpus} was imported without recordings: say with --media where they are."
        )
    return folder


def data_transcribe(args: Namespace) -> None:
    """write what a recogniser hears, utterance,text, and its word error rate against the corpus's own transcripts"""
    from merlib.features import asr, pipeline, roots, text

    corpus = roots.dataset(args.data, args.corpus, features=()).corpus
    clips, failed = pipeline.clips(corpus, _media(args))
    print(json.dumps(asr.transcribe(clips, args.target, recogniser=asr.Recogniser(encoder=args.encoder))))
    for utterance, reason in failed.items():
        print(f"  failed: {utterance}: {reason}", file=sys.stderr)
    heard = text.transcripts(args.target, ids="utterance", texts="text")
    said = dict(zip(corpus.ids, corpus.table["text"], strict=True))
    found = asr.word_errors(reference={u: t for u, t in said.items() if u in heard}, heard=heard)
    print(f"word error rate {100 * found.rate:.2f} % of {found.words} words")


def data_fetch(args: Namespace) -> None:
    """fetch an openly licensed corpus (ravdess, meld) from its publisher; goes on where it was stopped"""
    from merlib.corpora import fetch

    print(f"{args.corpus}: {fetch.LICENCES.get(args.corpus, 'no open licence')}")
    for path in fetch.fetch(args.corpus, args.folder, only=args.only):
        print(path)


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
    made = command(run)
    made.add_argument("paper")
    made.add_argument("table")
    made.add_argument("row", nargs="?")
    made.add_argument("--seeds", type=_seeds, default=(0,), help="comma-separated")
    made.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    made.add_argument(
        "--set", type=_assignment, action="append", default=[], help="a leaf or reading: readings.cell=slstm"
    )
    choose_data(made)
    made = command(notebook)
    made.add_argument("source", type=Path)
    made.add_argument("target", type=Path)
    made.add_argument("-p", dest="parameter", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    made = command(report)
    made.add_argument("--readme", type=Path, help="also write the scoreboard into this file")
    choose_data(made)
    media = "the folder of the recordings (default: that from which the corpus was imported)"
    workers = {"type": int, "choices": range(1, 65), "metavar": "N", "default": 1, "help": "processes"}
    data = commands.add_parser("data", help="bring data in").add_subparsers(required=True, metavar="COMMAND")
    made = command(data_import, "import", data)
    made.add_argument("kind")
    made.add_argument("source", type=Path)
    made.add_argument("data", help="the data root to import into")
    made = command(data_text, "text", data)
    made.add_argument("data")
    made.add_argument("corpus")
    made.add_argument("--encoder", default="minilm")
    pools = "cls_mean: [CLS] and the mean, joined; tokens: one vector a token"
    made.add_argument("--pool", choices=("mean", "cls", "cls_mean", "tokens"), default="mean", help=pools)
    made.add_argument("--layer", type=int, metavar="N", help="states after N layers, instead of the last")
    made.add_argument("--context", choices=("alone", "dialogue"), default="alone")
    made.add_argument("--max-tokens", type=int, default=128, help="longest input, special tokens included")
    made.add_argument("--name", default="text", help="name of the feature array")
    made.add_argument("--from", dest="texts_file", type=Path, metavar="CSV", help="another transcript, from here")
    made.add_argument("--ids", default="utterance", metavar="COLUMN", help="of --from: the utterances")
    made.add_argument("--texts", default="text", metavar="COLUMN", help="of --from: what was said")
    made = command(data_extract, "extract", data)
    made.add_argument("data")
    made.add_argument("corpus")
    made.add_argument("--recipe", required=True, metavar="PAPER", help="whose settings")
    made.add_argument("--media", type=Path, help=media)
    made.add_argument("--modalities", default="TAV", help="letters of text, audio, visual")
    made.add_argument("--kind", choices=("paper", "offline"), default="paper", help="offline: weights from packages")
    made.add_argument(
        "--weights", type=_assignment, action="append", default=[], metavar="MODALITY=WEIGHTS",
        help="a hub name or path instead of the paper's: audio=/models/wavlm-large",
    )  # fmt: skip
    made.add_argument("--name", help="name of the array (default: the modality's)")
    made.add_argument("--augmented", action="store_true", help="of changed recordings, for data.augment (MPAF-Net)")
    made.add_argument("--workers", **workers)
    made = command(data_transcribe, "transcribe", data)
    made.add_argument("data")
    made.add_argument("corpus")
    made.add_argument("target", type=Path, help="the CSV file to write, for `data text --from`")
    made.add_argument("--media", type=Path, help=media)
    made.add_argument("--encoder", default="tiny.en", help="a Whisper or CTC model by name or path")
    made = command(data_fetch, "fetch", data)
    made.add_argument("corpus", help="ravdess or meld")
    made.add_argument("folder", type=Path)
    made.add_argument("--only", default="*", metavar="PATTERN", help="files of the release, such as 'Audio*'")
    return root


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a wrong request exits with 2, a failed run with 1, each with one plain message on standard error."""
    args = parser().parse_args(arguments)
    try:
        args.function(args)
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


def _assignment(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: write key=value, such as train.lr=1e-3 or readings.cell=slstm")
    return key, _value(value)


def _value(text: str) -> object:
    """A TOML literal (1e-3, true, "text", [0, 1]); anything else is the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _seeds(text: str) -> tuple[int, ...]:
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers, such as 0,1,2")
    return tuple(map(int, text.split(",")))
