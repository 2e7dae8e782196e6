"""Data roots: $MERLIB_DATA (or ./data) / <root> / <corpus> / {utterances.parquet, corpus.json, features/*.safetensors}.

The root `twin` makes itself; the others are filled by `import_source`, once, from what the user has.
"""

import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from merlib.corpora import (
    cmu,
    iemocap,
    layouts,
    meld,
    mmsa,
    pickles,
    prepared,
    ravdess,
    table,
    twin,
    twin_parts,
    twin_sequences,
)
from merlib.corpora.files import atomic, sha256
from merlib.corpora.official import ACCESS
from merlib.corpora.table import Array, Corpus, CorpusError
from merlib.features import store
from merlib.features.store import Feature, FeatureError
from merlib.grammar import DeclarationError, one_of
from merlib.places import TWINS, data_folder

TWIN_SEED, TWIN_SCALE = 0, 0.25  # the twin of every quick run: 38 dialogues of IEMOCAP-6, 358 of MELD
TWIN_SCALES = {"iemocap4": 0.1, "iemocap8": 0.08, "ravdess": 0.33, "mosei": 0.025}  # where TWIN_SCALE is too large
KINDS = {  # what a source gives: corpora, each with its arrays
    "prepared": lambda source: [prepared.read(source)],
    "iemocap": lambda source: [(iemocap.read(source, name=name), {}) for name in iemocap.MAJORITY],
    "meld": lambda source: [(meld.read(source), {})],
    "conv-emotion": lambda source: [pickles.conv_emotion(source)],
    "multiemo": lambda source: [pickles.multiemo(source)],
    "mmsa": lambda source: [mmsa.read(source)],
    "ravdess": lambda source: [(ravdess.read(source), {})],
    "mosi": lambda source: [(cmu.read(source, "mosi"), {})],
    "mosei": lambda source: [(cmu.read(source, "mosei"), {})],
}
RECORDINGS = "recordings.txt"  # the folder of the recordings, where a release with recordings was imported
IDENTITY = ["utterance", "dialogue", "turn", "label", "split", "score"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A corpus and its feature arrays, all in table order."""

    corpus: Corpus
    features: dict[str, Feature]


def twin_scale(corpus: str) -> float:
    """The scale at which the root `twin` makes a corpus."""
    return TWIN_SCALES.get(corpus, TWIN_SCALE)


def root_path(data: str) -> Path:
    """The folder of the data root `data`."""
    return data_folder() / data


def dataset(data: str, corpus: str, *, features: Sequence[str] | None = None) -> Dataset:
    """The corpus `corpus` of the root `data` with the named features (all when None), every file checked.

    The roots `places.TWINS` are made on first use; any number of processes may ask at once.
    """
    folder = root_path(data) / corpus
    _made(data, corpus)
    if not (folder / "corpus.json").exists():
        access = ACCESS.get(corpus, f"Known corpora: {sorted(ACCESS)}.")
        raise CorpusError(f"{folder}: the root {data!r} has no {corpus}; import it. {access}")
    loaded = table.load(folder)
    names = arrays(data, corpus) if features is None else features
    return Dataset(loaded, {n: store.read(folder, n, ids=loaded.ids, corpus=corpus) for n in names})


def corpora(data: str) -> list[str]:
    """The corpora of the root `data`; the twin has all that it can make."""
    return sorted(twin.TWINS if data in TWINS else (f.parent.name for f in root_path(data).glob("*/corpus.json")))


def known() -> list[str]:
    """The data roots that hold a corpus, and those that make themselves."""
    return sorted({*TWINS, *_filled()})


def _filled() -> set[str]:
    return {f.parents[1].name for f in root_path("").glob("*/*/corpus.json")}


def arrays(data: str, corpus: str) -> list[str]:
    """The feature arrays that a corpus of the root `data` has, by name."""
    _made(data, corpus)
    return sorted(f.stem for f in (root_path(data) / corpus / "features").glob("*.safetensors"))


def recordings(data: str, corpus: str) -> Path | None:
    """The folder that the media paths of a corpus are relative to; None where nobody has said."""
    if data == "twin_media":
        from merlib.features import twin_media

        return root_path(data) / "releases" / twin_media.RELEASES[corpus]
    said = root_path(data) / corpus / RECORDINGS
    return Path(said.read_text().strip()) if said.exists() else None


def refuse_twin(data: str) -> None:
    """Raise DeclarationError for a root that makes itself: it would not keep what is brought into it."""
    if data in TWINS:
        raise DeclarationError(
            f"the root {data!r} makes itself: bring data into a root other than {' and '.join(TWINS)}"
        )


def import_source(kind: str, source: str | Path, data: str) -> list[Path]:
    """Read `source` as `kind` (of `KINDS`), check it against the official counts, and write it into the root `data`.

    Importing the same again changes nothing. Features from several sources may share a root if their tables agree in
    ids, labels and splits; another table needs another root. Returns the files of the corpus and of the features
    imported.
    """
    refuse_twin(data)
    found = _understood(kind, one_of(KINDS, kind, "kind of source"), Path(source))
    if kind == "iemocap" and "iemocap6" in corpora(data):  # its own list of labels is here; the release adds recordings
        here = table.load(root_path(data) / "iemocap6")
        labels = {u: here.labels[k] for u, k in zip(here.ids, here.table["label"], strict=True) if k >= 0}
        found.append((table.located(here, iemocap.read(Path(source), name="iemocap6", labels=labels)), {}))
    return [file for corpus, values in found for file in _brought(corpus, values, source, data)]


def _understood(kind: str, read: Callable, source: Path) -> list:
    """What a reader finds in a source; CorpusError where it is not what the reader expects in any way."""
    try:
        return read(source)
    except (CorpusError, OSError):
        raise
    except Exception as error:  # whatever a foreign file makes a parser raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__}: {error} (in {Path(at.filename).name}, line {at.lineno})"
        raise CorpusError(
            f"{source} is not what `merlib data import {kind}` expects: {found}. Get the release again, or describe "
            "your own files in a prepared table (merlib/corpora/prepared.py says how)."
        ) from error


def _brought(corpus: Corpus, values: Mapping[str, Array], source: str | Path, data: str) -> list[Path]:
    """Check a corpus and write it, with its arrays, into the root `data`."""
    table.expect(corpus)
    folder = root_path(data) / corpus.name
    recorded = (corpus.table[["audio", "video"]] != "").any(axis=None) and Path(source).is_dir()
    with _lock(folder):
        if (folder / "corpus.json").exists():
            here = table.load(folder)
            if not here.table[IDENTITY].equals(corpus.table[IDENTITY]):
                raise CorpusError(
                    f"{folder} holds other ids, labels or splits than {source}; import it into another root."
                )
            if recorded:
                table.save(table.located(here, corpus), folder)
        else:
            table.save(corpus, folder)
        if recorded:
            with atomic(folder / RECORDINGS) as part:
                part.write_text(f"{Path(source).resolve()}\n")
        return [folder / "utterances.parquet", *(add(folder, corpus, n, array) for n, array in values.items())]


def add(folder: Path, corpus: Corpus, name: str, array: Array) -> Path:
    """Write `array`, in table order, as the feature `name` in `folder`, unless that is of another modality."""
    if (file := store.path(folder, name)).exists() and (kept := store.read_passport(file)).modality != array.modality:
        raise FeatureError(f"{file} holds {kept.summary()}: give the new array, of {array.modality}, another name.")
    return store.write(folder, array.values, store.passport(corpus, name, array), array.lengths)


def describe(needs: Mapping[str, Mapping[str, Sequence[str]]]) -> dict:
    """What is here, what is missing and how to get it, as plain data for `merlib doctor`.

    `needs` is {paper: {corpus: modalities}}. Of the features only headers are read; `dataset` checks the values.
    """
    base = root_path("")
    names = sorted(_filled())
    roots = {r: {f.parent.name: _about(f.parent) for f in sorted((base / r).glob("*/corpus.json"))} for r in names}
    brought = {r: here for r, here in roots.items() if r not in TWINS}  # the twins make what is missing
    missing = {r: {paper: _missing(here, corpora) for paper, corpora in needs.items()} for r, here in brought.items()}
    found = [layout for layout in layouts.survey(base) if not set(layout.folder.relative_to(base).parts) & set(TWINS)]
    releases = [layout.about() for layout in found]
    return {"data": str(base), "roots": roots, "releases": releases, "missing": missing, "access": ACCESS}


def _missing(here: dict, corpora: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of each corpus that a paper needs, what a root lacks: `corpus`, or modalities."""
    lacks = {}
    for name, wanted in corpora.items():
        have = {f.get("modality") for f in here.get(name, {}).get("features", {}).values()}
        lacks[name] = [] if "features" in here.get(name, {}) else ["corpus"]
        lacks[name] += [m for m in wanted if m not in have]
    return {name: what for name, what in lacks.items() if what}


def _about(folder: Path) -> dict:
    """A corpus of a root: its source, counts, and passports (with the number of ids instead of them); or its error."""
    try:
        corpus = table.load(folder)
    except CorpusError as error:
        return {"error": str(error)}
    features = {}
    for file in sorted((folder / "features").glob("*.safetensors")):
        try:
            passport, size = store.read_passport(file), file.stat().st_size
        except store.FeatureError as error:
            features[file.stem] = {"error": str(error)}
        else:
            extra = {"ids": len(passport.ids), "bytes": size, "summary": passport.summary()}
            features[file.stem] = asdict(passport) | extra
    return {"source": corpus.source, **corpus.counts(), "features": features}


def as_text(report: dict) -> str:
    """The report of `describe` for people."""
    lines = [f"data in {report['data']} (set MERLIB_DATA to change it)"]
    for root, here in report["roots"].items():
        for corpus, about in here.items():
            counts = about.get("error") or f"{sum(about['utterances'].values())} utterances; {about['source']}"
            lines.append(f"  {root}/{corpus}: {counts}")
            for name, feature in about.get("features", {}).items():
                size = f", {feature['bytes'] / 2**20:.1f} MiB" if "bytes" in feature else ""
                lines.append(f"    {name}: {feature.get('error') or feature['summary']}{size}")
        for paper, corpora in report["missing"].get(root, {}).items():
            what = "; ".join(f"{corpus} lacks {', '.join(lacks)}" for corpus, lacks in corpora.items())
            lines.append(f"  {root} for {paper}: {what or 'all it needs is here'}")
    lines += [f"  {layouts.as_text(release)}" for release in report["releases"]]
    return "\n".join(
        [
            *lines,
            "how to get the corpora, and their licences:",
            *(f"  {t}" for t in dict.fromkeys(report["access"].values())),
        ]
    )


def _lock(folder: Path) -> FileLock:
    """A lock on one corpus of a root; the kernel releases it when its process ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")


def _made(data: str, corpus: str) -> None:
    """Make the corpus if it is one of a root that makes itself."""
    if data == "twin":
        _make_twin(root_path(data) / corpus)
    elif data == "twin_media":
        from merlib.features import twin_media  # which reads this module

        twin_media.make(root_path(data) / corpus)


def _make_twin(folder: Path) -> None:
    """Make the twin of the corpus `folder.name`, unless it is there already from this code, seed and scale."""
    code = sha256(*(Path(m.__file__) for m in (twin, twin_parts, twin_sequences)))[:12]
    scale = twin_scale(folder.name)
    source = f"synthetic twin, seed {TWIN_SEED}, scale {scale}, code {code}"
    about = {"extractor": f"synthetic twin, seed {TWIN_SEED}", "version": code, "trained_on": "nothing"}
    with _lock(folder):
        if table.source(folder) == source:
            return
        for orphan in folder.parent.glob(f".{folder.name}.part-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(orphan)
        corpus, values = twin.make(folder.name, seed=TWIN_SEED, scale=scale)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.part-"))
        for name, found in values.items():
            array, lengths = found if isinstance(found, twin.Steps) else (found, None)
            modality = name.removesuffix("_asr")
            add(part, corpus, name, Array(array, modality, fitted_on="nothing", lengths=lengths, **about))
        table.save(replace(corpus, source=source), part)
        part.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
