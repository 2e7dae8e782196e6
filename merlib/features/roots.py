"""Data roots: $MERLIB_DATA (or ./data) / <root> / <corpus> / {utterances.parquet, corpus.json, features/*.safetensors}.

The root `twin` makes itself; the others are filled once by `import_source` from what the user has.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from merlib.corpora import iemocap, meld, pickles, prepared, table, twin
from merlib.corpora.table import Array, Corpus, CorpusError
from merlib.features import store
from merlib.features.store import Feature

TWIN_SEED, TWIN_SCALE = 0, 0.25  # the twin that every quick run uses: about 38 and 358 dialogues
KINDS = {
    "prepared": lambda source: prepared.read(source),
    "iemocap": lambda source: (iemocap.read(source), {}),
    "meld": lambda source: (meld.read(source), {}),
    "conv-emotion": lambda source: pickles.conv_emotion(source),
    "multiemo": lambda source: pickles.multiemo(source),
}
ACCESS = {
    "iemocap6": "IEMOCAP: a signed release form at https://sail.usc.edu/iemocap/ (USC; no redistribution), or the public feature "
    "pickle IEMOCAP_features.pkl of conv-emotion. The 7433 utterances of the six-class task need the pickle's labels.",
    "iemocap6_majority": "IEMOCAP: a signed release form at https://sail.usc.edu/iemocap/ (USC; no redistribution).",
    "meld": "MELD (GPL-3): the three CSV files in github.com/declare-lab/MELD, data/MELD; clips in MELD.Raw.tar.gz on its page.",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A corpus and its feature arrays, all in table order."""

    corpus: Corpus
    features: dict[str, Feature]


def root_path(data: str) -> Path:
    """The folder of the data root `data`."""
    return Path(os.environ.get("MERLIB_DATA", "data")) / data


def dataset(data: str, corpus: str, *, features: Sequence[str] | None = None) -> Dataset:
    """The corpus `corpus` of the root `data` with the named features (all when None), every file checked.

    `data="twin"` makes the synthetic twin on first use; any number of processes may ask at once.
    """
    folder = root_path(data) / corpus
    if data == "twin":
        _make_twin(folder)
    if not (folder / "corpus.json").exists():
        raise CorpusError(
            f"{folder}: the root {data!r} has no {corpus}. Import it: merlib data import. {ACCESS.get(corpus, '')}"
        )
    loaded = table.load(folder)
    names = sorted(p.stem for p in (folder / "features").glob("*.safetensors")) if features is None else features
    return Dataset(loaded, {n: store.read(folder, n, ids=loaded.ids, corpus=corpus) for n in names})


def corpora(data: str) -> list[str]:
    """The corpora of the root `data`; the twin has all."""
    return (
        sorted(twin.TWINS) if data == "twin" else sorted(p.parent.name for p in root_path(data).glob("*/corpus.json"))
    )


def arrays(data: str, corpus: str) -> list[str]:
    """The feature arrays that a corpus of the root `data` has, by name."""
    if data == "twin":
        _make_twin(root_path(data) / corpus)
    return sorted(p.stem for p in (root_path(data) / corpus / "features").glob("*.safetensors"))


def import_source(kind: str, source: str | Path, data: str) -> list[Path]:
    """Read `source` as `kind` (a key of `KINDS`), check it against the official counts, and write it into the root `data`.

    Returns the files of the corpus and its features. Importing the same again changes nothing; features of the same corpus from several
    sources may share a root, but another table (other ids, labels or splits) needs a root of its own.
    """
    if kind not in KINDS:
        raise CorpusError(f"kind {kind!r}; expected one of {sorted(KINDS)}.")
    corpus, arrays = KINDS[kind](Path(source))
    table.expect(corpus)
    folder = root_path(data) / corpus.name
    with _lock(folder):
        if (folder / "corpus.json").exists():
            columns = ["utterance", "dialogue", "turn", "label", "split"]
            if not table.load(folder).table[columns].equals(corpus.table[columns]):
                raise CorpusError(
                    f"{folder} holds other ids, labels or splits than {source}; import it into another root."
                )
        else:
            table.save(corpus, folder)
        files = [add(folder, corpus, name, array) for name, array in arrays.items()]
    return [folder / "utterances.parquet", *files]


def add(folder: Path, corpus: Corpus, name: str, array: Array) -> Path:
    """Write `array`, whose rows are the corpus' utterances in order, as the feature `name` of the corpus in `folder`."""
    return store.write(folder, array.values, store.passport(corpus, name, array))


def describe(needs: Mapping[str, Mapping[str, Sequence[str]]]) -> dict:
    """What is here, what is missing, and how to get it, as plain data for `merlib doctor`.

    `needs` is {paper: {corpus: modalities}}. Only headers are read; `dataset` checks the values.
    """
    base = root_path("")
    names = sorted(p.name for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
    roots = {
        root: {f.parent.name: _about(f.parent) for f in sorted((base / root).glob("*/corpus.json"))} for root in names
    }
    missing = {
        root: {
            paper: {c: lacks for c, wanted in corpora.items() if (lacks := _lacks(roots[root].get(c), wanted))}
            for paper, corpora in needs.items()
        }
        for root in roots
    }
    return {"data": str(base), "roots": roots, "missing": missing, "access": ACCESS}


def _lacks(about: dict | None, wanted: Sequence[str]) -> list[str]:
    if about is None or "error" in about:
        return ["the corpus", *wanted]
    have = {f["modality"] for f in about["features"].values() if "error" not in f}
    return [m for m in wanted if m not in have]


def _about(folder: Path) -> dict:
    """One corpus of a root: counts, source, and the passport of every feature without its ids; errors as text."""
    try:
        corpus = table.load(folder)
    except CorpusError as error:
        return {"error": str(error)}
    features = {}
    for file in sorted((folder / "features").glob("*.safetensors")):
        try:
            passport = store.open_passport(file)
            features[file.stem] = asdict(passport) | {
                "ids": len(passport.ids),
                "bytes": file.stat().st_size,
                "summary": passport.summary(),
            }
        except store.FeatureError as error:
            features[file.stem] = {"error": str(error)}
    return {"source": corpus.source, **corpus.counts(), "features": features}


def _lock(folder: Path) -> FileLock:
    """A lock on one corpus of a root; the kernel releases it when its process ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")


def _make_twin(folder: Path) -> None:
    """Make the twin of the corpus `folder.name` unless it is there already, from this code, seed and scale."""
    code = hashlib.sha256(Path(twin.__file__).read_bytes()).hexdigest()[:12]
    source = f"synthetic twin, seed {TWIN_SEED}, scale {TWIN_SCALE}, code {code}"
    with _lock(folder):
        if (folder / "corpus.json").exists() and f'"{source}"' in (folder / "corpus.json").read_text():
            return
        corpus, values = twin.make(folder.name, seed=TWIN_SEED, scale=TWIN_SCALE)
        corpus = Corpus(corpus.name, corpus.labels, corpus.table, source)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            table.save(corpus, part)
            for modality, array in values.items():
                about = {
                    "extractor": f"synthetic twin, seed {TWIN_SEED}",
                    "version": code,
                    "trained_on": "nothing",
                    "fitted_on": "nothing",
                }
                add(part, corpus, modality, Array(array, modality, **about))
            shutil.rmtree(folder, ignore_errors=True)
            part.chmod(0o755)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
