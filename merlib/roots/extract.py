"""Arrays of a corpus in a data root: from its recordings by a paper's extractors, from its text by an encoder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from merlib import declarations
from merlib.corpora.reading import read_csv, stripped
from merlib.data import folders, store
from merlib.data.table import Corpus, CorpusError
from merlib.declarations.schema import LETTERS
from merlib.errors import DeclarationError, FeatureError, listed
from merlib.features import augment, pipeline
from merlib.features.declared import declared_data, extractors
from merlib.features.extractors import on_device


def extract(
    data: str, corpus: str, paper: str, *, media: Path, modalities: str = "TAV", names: dict[str, str] | None = None,
    kind: str = "paper", weights: dict[str, str] | None = None, change: dict[str, Any] | None = None,
    augmented: bool = False, workers: int = 1, device: str = "cpu",
) -> dict[str, Path]:  # fmt: skip
    """Make a paper's arrays of a corpus in the data root `data`; returns their files by modality.

    media: the folder that the media paths of the corpus are relative to. names: of the arrays, by modality (default: as
    in the recipe; of one that an encoder learns, what that encoder reads). change: laid over the base recipe, such as
    `{"readings.face": "active"}`. augmented: of augmented recordings, audio and video only, as `<name>_augmented`.
    device: of the networks among the extractors.
    """
    section = declared_data(paper, corpus, change)
    makers = extractors(paper, corpus, kind=kind, weights=weights, data=section)
    makers = augment.augmented(makers) if augmented else makers
    wanted = [m for letter, m in LETTERS.items() if letter in modalities and m in makers]
    declared = declarations.load(paper)
    own = {m: declarations.extracted(declared, section[m], m, corpus) for m in wanted} | (names or {})
    arrays = {m: own[m] + "_augmented" * augmented for m in wanted}
    if not arrays:
        raise DeclarationError(f"{paper}: nothing to make of {modalities}; it makes {', '.join(makers)}")
    if len(set(arrays.values())) < len(arrays):
        raise DeclarationError(
            f"one name for several arrays: {listed(arrays)}. Extract one modality at a time (--modalities)."
        )
    files = {}
    for modality, name in arrays.items():
        if modality == "text":
            files[modality] = encode_text(data, corpus, name=name, device=device, **makers[modality])
        else:
            extractor = on_device(makers[modality], device)
            files[modality] = extract_array(data, corpus, extractor=extractor, media=media, name=name, workers=workers)
    return files


def extract_array(data: str, corpus: str, **options: Any) -> Path:
    """Run an extractor over a corpus of the root `data`, with the options of `pipeline.into`; returns the file."""
    loaded = folders.dataset(data, corpus, features=()).corpus
    return pipeline.into(folders.root_path(data) / corpus, loaded, **options)


def failures(data: str, corpus: str, name: str) -> pd.DataFrame:
    """The recordings that could not be used for the feature `name`: utterance, file, reason."""
    file = folders.root_path(data) / corpus / "features" / f"{name}.failures.csv"
    try:
        return read_csv(file)[["utterance", "file", "reason"]]
    except (CorpusError, KeyError) as error:
        remedy = f"Delete it and {name}.safetensors, and extract the array again"
        raise FeatureError(f"{file} is damaged ({error}). {remedy}.") from None


def encode_text(
    data: str, corpus: str, *, name: str, texts: Mapping[str, str] | None = None, texts_from: str = "", **options: Any
) -> Path:
    """Encode the text of a corpus of the root `data`, with the options of `text.encode`, as its feature `name`.

    texts: another transcript, such as a recogniser's, of every utterance by id; it may have further ids.
    texts_from: the origin of those texts, for the passport. Returns the file.
    Raises CorpusError where every text is empty, and FeatureError where `name` is an array of another encoder.
    """
    from merlib.features import text  # torch and transformers take seconds to import

    folder = folders.root_path(data) / corpus
    loaded = folders.dataset(data, corpus, features=()).corpus
    source = loaded if texts is None else _transcribed(loaded, texts, texts_from)
    origin = "" if texts is None else f", {texts_from or 'another transcript'}"
    if not source.table["text"].str.strip().any():
        raise CorpusError(f"{corpus}: no utterance has a transcript{origin}. Import it with one, or add --from.")
    array = text.encode(source, **options)
    array = replace(array, extractor=array.extractor + origin)
    file = store.path(folder, name)
    if file.exists():
        known = ("extractor", "weights_sha256") + ("max_tokens",) * (store.read_passport(file).max_tokens > 0)
        store.check_origin(file, {field: getattr(array, field) for field in known})
    return store.add(folder, loaded, name, array)


def _transcribed(corpus: Corpus, texts: Mapping[str, str], texts_from: str) -> Corpus:
    if absent := [u for u in corpus.ids if u not in texts]:
        what = f"no transcript for {len(absent)} of {len(corpus.ids)} utterances of {corpus.name}"
        what += f", first {listed(absent[:3])}"
        raise CorpusError(f"{texts_from or 'texts'}: {what}. Add them, empty where nothing was recognised.")
    return replace(corpus, table=corpus.table.assign(text=[texts[u] for u in corpus.ids]))


def transcripts(file: Path, *, ids: str, texts: str) -> dict[str, str]:
    """The column `texts` of a CSV file by its column `ids`, for `encode_text`."""
    raw = read_csv(file)
    if missing := sorted({ids, texts} - set(raw)):
        raise CorpusError(f"{file}: columns {listed(missing)} are not there; found {listed(raw)}. Name two of these.")
    named = stripped(raw[ids], file)
    if twice := list(named[named.duplicated()][:3]):
        raise CorpusError(f"{file}: ids that are there twice, first {listed(twice)}. Keep one row of each.")
    return dict(zip(named, raw[texts], strict=True))
