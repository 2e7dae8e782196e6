"""The commands `merlib data`: they bring corpora, recordings and features in."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from merlib import files
from merlib.cli.arguments import Changes, Code, Device, Seeds, assignment, data_roots, device, modalities, root, word
from merlib.errors import Notice, one_of
from merlib.places import TWINS

if TYPE_CHECKING:
    from merlib.data import table

app = typer.Typer(help="Bring corpora, recordings and features in.", rich_markup_mode=None)

ROOT = typer.Argument(metavar="ROOT", help="The data root.", parser=root, autocompletion=data_roots)
Target = Annotated[str, ROOT]
NAMED = "The corpus, by its name in the root."
Corpus = Annotated[str, typer.Argument(metavar="CORPUS", help=NAMED, parser=word)]
RECORDINGS = "Folder of the recordings. Default: that from which the corpus was imported."
Media = Annotated[Path | None, typer.Option(help=RECORDINGS)]
LETTERS = "Letters of T text, A audio, V visual."
Letters = Annotated[str, typer.Option("--modalities", parser=modalities, metavar="LETTERS", help=LETTERS)]
NAMES = "A hub name or path instead of the paper's: audio=/models/wavlm"
Weights = Annotated[list[tuple] | None, typer.Option(parser=assignment, metavar="MODALITY=WEIGHTS", help=NAMES)]
POOL = "cls_mean: [CLS] and the mean, joined; tokens: a vector of each token; ids: the input of an encoder that learns."
ARRAY = "Name of the array. Default: as the recipe names it."
TRAINED_ON = "What the encoder was trained on; needed where that includes labels of this corpus."
MOVED = typer.Option(callback=device, help="Where networks run; some always run on the CPU.")
Extracting = Annotated[Literal["cpu", "cuda"], MOVED]


@app.command()
def make(
    data: Target,
    corpora: Annotated[list[str], typer.Argument(metavar="CORPUS", help="Names, such as meld.")],
    code: Code = None,
) -> None:
    """Make corpora of a synthetic root, unless it holds them.

    ROOT is twin, of feature vectors, or twin_media, of recordings in the layouts of the releases.
    """
    from merlib import twins

    one_of(TWINS, data, "synthetic root")
    twins.ensure(data, [one_of(twins.corpora(), corpus, "corpus") for corpus in corpora])
    if code:
        files.write_loaded(code)


@app.command("import")
def import_corpus(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="What the source is, from the list above.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder or a file, as the kind says.")],
    data: Target,
    partial: Annotated[bool, typer.Option("--partial", help="The source is a part of the corpus.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Set aside a table or array that differs.")] = False,
    links: Annotated[bool, typer.Option("--follow-links", help="Links may lead out of the source's folder.")] = False,
) -> None:
    """Import a corpus into a data root.

    KIND is iemocap, meld, ravdess, mosi or mosei (the folder of the release), conv-emotion or mmsa (a public pickle),
    multiemo (a folder of such), or prepared (a TOML file about a table of your own).
    """
    from merlib.roots import imports

    with _notices():
        paths = imports.import_source(kind, source, data, partial=partial, replace=replace, follow_links=links)
    for path in paths:
        print(path)
    for path in paths:
        if path.name == "utterances.parquet":
            print(imports.summary(path.parent))


@contextmanager
def _notices() -> Iterator[None]:
    """Print each `Notice` of the block to standard error; one that several files share, in one line."""
    places: dict[str, list[str]] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                if isinstance(warning.message, Notice):
                    places.setdefault(warning.message.what, []).append(warning.message.where)
    for what, where in places.items():
        several = f" and {len(set(where)) - 1} others" if len(set(where)) > 1 else ""
        print(f"{where[0]}{several}: {what}", file=sys.stderr)


@app.command()
def text(
    data: Target,
    corpus: Corpus,
    encoder: str = "minilm",
    pool: Annotated[Literal["mean", "cls", "cls_mean", "tokens", "ids"], typer.Option(help=POOL)] = "mean",
    layer: Annotated[int | None, typer.Option(help="States after this many layers, instead of the last.")] = None,
    context: Literal["alone", "dialogue"] = "alone",
    max_tokens: Annotated[int, typer.Option(help="Longest input, special tokens included.")] = 128,
    device: Extracting = "cpu",
    trained_on: Annotated[str, typer.Option(help=TRAINED_ON)] = "unknown",
    name: Annotated[str, typer.Option(help="Name of the feature array.", parser=word, metavar="NAME")] = "text",
    transcript: Annotated[Path | None, typer.Option("--from", help="A CSV file with another transcript.")] = None,
    ids: Annotated[str, typer.Option(metavar="COLUMN", help="Column of --from with the utterance ids.")] = "utterance",
    texts: Annotated[str, typer.Option(metavar="COLUMN", help="Column of --from with the texts.")] = "text",
) -> None:
    """Encode the text of a corpus as a feature array.

    The encoder is minilm, or any Hugging Face encoder by name or path.
    """
    from merlib.roots import extract, imports

    imports.refuse_synthetic(data)
    options = {"encoder": encoder, "pool": pool, "layer": layer, "context": context, "max_tokens": max_tokens}
    options |= {"device": device, "trained_on": trained_on}
    if transcript:
        options["texts"] = extract.transcripts(transcript, ids=ids, texts=texts)
        options["texts_from"] = f"{texts} of {transcript.name}"
    print(extract.encode_text(data, corpus, name=name, **options))


@app.command("fine-tune")
def fine_tune(
    data: Target,
    corpus: Corpus,
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="The paper that declares the arrays.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The arrays, as the paper declares them.")],
    seeds: Seeds = "0",
    changes: Changes = None,
    device: Device = None,
) -> None:
    """Train an encoder on a corpus's labels, and keep its vectors as arrays.

    NAME is one of the [learned.*] of the PAPER's declarations, such as mfcre tuned, which say what the encoder is. It
    learns from the training split alone. A stopped training resumes; the same command, given twice at once, shares out
    the encoders of a cross-fitted array.
    """
    from merlib.roots import imports, tuning

    imports.refuse_synthetic(data)
    for path in tuning.fine_tune(data, corpus, paper, name, seeds=seeds, change=dict(changes or ()), device=device):
        print(path)


@app.command()
def extract(
    data: Target,
    corpus: Corpus,
    recipe: Annotated[str, typer.Option(metavar="PAPER", help="The paper whose settings are used.")],
    media: Media = None,
    letters: Letters = "TAV",
    kind: Annotated[Literal["paper", "offline"], typer.Option(help="offline: weights from packages.")] = "paper",
    weights: Weights = None,
    changes: Changes = None,
    name: Annotated[str | None, typer.Option(help=ARRAY, parser=word, metavar="NAME")] = None,
    augmented: Annotated[bool, typer.Option("--augmented", help="From augmented recordings.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of processes.")] = 1,
    device: Extracting = "cpu",
) -> None:
    """Make a paper's feature arrays of a corpus.

    They are made from the recordings and transcripts. A stopped extraction resumes.
    """
    from merlib.features import pipeline
    from merlib.roots import extract, imports

    imports.refuse_synthetic(data)
    options = {"modalities": letters, "kind": kind, "augmented": augmented, "workers": workers, "device": device}
    options |= {"weights": dict(weights or ()), "change": dict(changes or ())}
    options["names"] = dict.fromkeys(("text", "audio", "visual"), name) if name else None
    paths = extract.extract(data, corpus, recipe, media=_media(data, corpus, media), **options)
    for modality, path in paths.items():
        print(path)
        if modality != "text" and len(failures := extract.failures(data, corpus, path.stem)):
            for line in pipeline.grouped(failures.itertuples(index=False)):
                print(f"  failed: {line}", file=sys.stderr)
            print(f"  all {len(failures)} are in {path.with_suffix('.failures.csv')}", file=sys.stderr)


@app.command()
def transcribe(
    data: Target,
    corpus: Corpus,
    target: Annotated[Path, typer.Argument(help="The CSV file to write, for `merlib data text --from`.")],
    media: Media = None,
    encoder: Annotated[str, typer.Option(help="A Whisper or CTC model, by name or path.")] = "tiny.en",
) -> None:
    """Transcribe recordings by speech recognition.

    Writes utterance,text, and prints the word error rates against the transcripts of the corpus.
    """
    from merlib import twins
    from merlib.data import folders
    from merlib.features import pipeline, recognition

    twins.ensure(data, [corpus])
    loaded = folders.dataset(data, corpus, features=()).corpus
    clips, failures = pipeline.clips(loaded, _media(data, corpus, media))
    recogniser = recognition.Recogniser(encoder=encoder)
    print(json.dumps(recognition.transcribe(clips, target, recogniser=recogniser)))
    for line in pipeline.grouped((utterance, "", reason) for utterance, reason in failures.items()):
        print(f"  failed: {line}", file=sys.stderr)
    print(_word_errors(loaded, target, ids="utterance", texts="text"))


@app.command("word-errors")
def word_errors(
    data: Target,
    corpus: Corpus,
    transcript: Annotated[Path, typer.Argument(help="A CSV file with another transcript.")],
    ids: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the utterance ids.")] = "utterance",
    texts: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the texts.")] = "text",
) -> None:
    """Show the word error rate of a transcript against that of the corpus, by three ways of normalising texts."""
    from merlib import twins
    from merlib.data import folders

    twins.ensure(data, [corpus])
    print(_word_errors(folders.dataset(data, corpus, features=()).corpus, transcript, ids=ids, texts=texts))


def _word_errors(corpus: "table.Corpus", transcript: Path, *, ids: str, texts: str) -> str:
    """Word error rates of those utterances of a corpus that were recognised."""
    from merlib.data.table import CorpusError
    from merlib.features import recognition
    from merlib.roots import extract

    recognised = extract.transcripts(transcript, ids=ids, texts=texts)
    reference = {u: t for u, t in zip(corpus.ids, corpus.table["text"], strict=True) if u in recognised}
    if not reference:
        what = f"none of its {len(recognised)} ids is an utterance of {corpus.name}, such as {corpus.ids[0]}"
        raise CorpusError(f"{transcript}: {what}. Name the column of the ids (--ids), or take the file of this corpus.")
    found = recognition.rates(reference=reference, recognised=recognised).reset_index()
    found["rate"] = (100 * found["rate"]).map("{:.2f} %".format)
    return found.rename(columns={"rate": "word error rate"}).to_string(index=False)


@app.command()
def fetch(
    corpus: Annotated[str, typer.Argument(help="ravdess or meld.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go.")],
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Files of the release, such as 'Audio*'.")] = "*",
) -> None:
    """Fetch an openly licensed corpus.

    It comes from its publisher. A stopped download resumes.
    """
    from merlib.corpora import fetch

    if corpus in fetch.LICENCES:
        print(f"{corpus}: {fetch.LICENCES[corpus]}")
    with _notices():
        paths = fetch.fetch(corpus, folder, only=only)
    for path in paths:
        print(path)


def _media(data: str, corpus: str, media: Path | None) -> Path:
    """The folder of a corpus's recordings: `media`, or that from which it was imported."""
    from merlib.data import folders
    from merlib.data.table import CorpusError

    folder = media or folders.recordings(data, corpus)
    if folder is None:
        folders.dataset(data, corpus, features=())  # says how to get the corpus, where the root does not have it
        raise CorpusError(f"{data}/{corpus} was imported without recordings: say with --media where they are.")
    return folder
