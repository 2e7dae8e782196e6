"""The commands `merlib data`: what brings corpora, recordings and features in. See cli.py for the rest."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from merlib.cli.arguments import assignment, modalities


def data_import(args: Namespace) -> None:
    """import a corpus: KIND is prepared (a TOML), iemocap, meld, ravdess, mosi, mosei (official folders), conv-emotion,
    multiemo or mmsa (public pickles)"""
    from merlib.roots import imports

    for path in imports.import_source(args.kind, args.source, args.data):
        print(path)


def data_text(args: Namespace) -> None:
    """encode a corpus's text into a feature array; ENCODER is minilm, or any Hugging Face encoder by name or path"""
    from merlib.roots import extract, imports

    imports.refuse_synthetic(args.data)
    options = {}
    if args.texts_file:
        options["texts"] = extract.transcripts(args.texts_file, ids=args.ids, texts=args.texts)
        options["texts_from"] = f"{args.texts} of {args.texts_file.name}"
    names = ("name", "encoder", "pool", "layer", "context", "max_tokens", "device", "trained_on")
    options |= {name: vars(args)[name] for name in names}
    print(extract.encode_text(args.data, args.corpus, **options))


def data_extract(args: Namespace) -> None:
    """make a paper's arrays from a corpus's recordings and transcripts; goes on where it was stopped"""
    from merlib.roots import extract, imports

    imports.refuse_synthetic(args.data)
    names = dict.fromkeys(("text", "audio", "visual"), args.name) if args.name else None
    options = {name: vars(args)[name] for name in ("modalities", "kind", "augmented", "workers", "device")}
    options |= {"media": _media(args), "names": names, "weights": dict(args.weights), "change": dict(args.set)}
    for modality, path in extract.extract(args.data, args.corpus, args.recipe, **options).items():
        print(path)
        failed = () if modality == "text" else extract.failures(args.data, args.corpus, path.stem).itertuples()
        for row in failed:
            print(f"  failed: {row.utterance} {row.file}: {row.reason}", file=sys.stderr)


def _media(args: Namespace) -> Path:
    from merlib.data import folders
    from merlib.data.table import CorpusError

    folder = args.media or folders.recordings(args.data, args.corpus)
    if folder is None:
        raise CorpusError(
            f"{args.data}/{args.corpus} was imported without recordings: say with --media where they are."
        )
    return folder


def data_transcribe(args: Namespace) -> None:
    """write a recogniser's transcripts, utterance,text, and its word error rate against the corpus's own transcripts"""
    from merlib.data import folders
    from merlib.features import pipeline, recognition
    from merlib.roots import extract

    corpus = folders.dataset(args.data, args.corpus, features=()).corpus
    clips, failed = pipeline.clips(corpus, _media(args))
    recogniser = recognition.Recogniser(encoder=args.encoder)
    print(json.dumps(recognition.transcribe(clips, args.target, recogniser=recogniser)))
    for utterance, reason in failed.items():
        print(f"  failed: {utterance}: {reason}", file=sys.stderr)
    recognised = extract.transcripts(args.target, ids="utterance", texts="text")
    spoken = dict(zip(corpus.ids, corpus.table["text"], strict=True))
    reference = {u: words for u, words in spoken.items() if u in recognised}
    errors = recognition.word_errors(reference=reference, recognised=recognised)
    print(f"word error rate {100 * errors.rate:.2f} % of {errors.words} words")


def data_fetch(args: Namespace) -> None:
    """fetch an openly licensed corpus (ravdess, meld) from its publisher; goes on where it was stopped"""
    from merlib.corpora import fetch

    print(f"{args.corpus}: {fetch.LICENCES.get(args.corpus, 'no open licence')}")
    for path in fetch.fetch(args.corpus, args.folder, only=args.only):
        print(path)


def add(commands, command: Callable) -> None:
    """Add these commands below `commands` by `command`, which makes the parser of a function."""
    media = "the folder of the recordings (default: that from which the corpus was imported)"
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
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    learned = "what the encoder has learned from, for the passport: needed where that includes labels of this corpus"
    made.add_argument("--trained-on", default="unknown", metavar="WHAT", help=learned)
    made.add_argument("--name", default="text", help="name of the feature array")
    made.add_argument("--from", dest="texts_file", type=Path, metavar="CSV", help="another transcript, from here")
    made.add_argument("--ids", default="utterance", metavar="COLUMN", help="of --from: the utterances")
    made.add_argument("--texts", default="text", metavar="COLUMN", help="of --from: what was said")
    made = command(data_extract, "extract", data)
    made.add_argument("data")
    made.add_argument("corpus")
    made.add_argument("--recipe", required=True, metavar="PAPER", help="whose settings")
    made.add_argument("--media", type=Path, help=media)
    made.add_argument("--modalities", type=modalities, default="TAV", help="letters of T text, A audio, V visual")
    made.add_argument("--kind", choices=("paper", "offline"), default="paper", help="offline: weights from packages")
    made.add_argument(
        "--weights", type=assignment, action="append", default=[], metavar="MODALITY=WEIGHTS",
        help="a hub name or path instead of the paper's: audio=/models/wavlm-large",
    )  # fmt: skip
    made.add_argument(
        "--set", type=assignment, action="append", default=[], metavar="KEY=VALUE",
        help="of the paper's recipe: readings.face=active, data.frames=30",
    )  # fmt: skip
    made.add_argument("--name", help="name of the array (default: as the recipe names it)")
    made.add_argument("--augmented", action="store_true", help="of changed recordings, for data.augment (MPAF-Net)")
    made.add_argument("--workers", type=int, choices=range(1, 65), metavar="N", default=1, help="processes")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the networks that can be there")
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
