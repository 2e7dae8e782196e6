"""The root `twin_media`: the corpora of the papers from synthetic recordings, through the pipeline of real recordings.

`merlib.twins.releases` writes releases in their official layouts; their readers, a paper's extractors and the text
encoder make of them what a data root holds. Every corpus has one array a modality, with the settings of the paper whose
declaration names the corpus in `twin_media_arrays`, at the twin's scale; weights that come with no package are replaced
(`merlib.roots.extract`, kind offline). Further arrays follow from what the declared papers read.
"""

import hashlib
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from merlib import declarations, registry
from merlib.corpora import cmu, iemocap, meld, ravdess
from merlib.data import folders, store, table
from merlib.data.table import Corpus
from merlib.declarations.leaves import for_corpus
from merlib.declarations.schema import Paper
from merlib.errors import DeclarationError
from merlib.features import augment, faces, pipeline, text
from merlib.files import sha256
from merlib.places import media_scale
from merlib.roots import extract
from merlib.roots.present import write_recordings
from merlib.twins import releases

SEED, SCALE = 0, media_scale()  # of the material that `releases` can make
FRAMES = 8  # frames of a clip, where a paper's recipe does not say
SMALLEST = 40  # pixels of a face: those drawn are larger, and Haar need not look for smaller ones
ASR = "_asr"  # end of the name of an array of recognised text
ASR_ERRORS = 0.2  # share of words that the synthetic recogniser gets wrong; GIA-MIC prints 20.48 % for a real one
PACKAGE = Path(__file__).parents[1]
# code that makes the releases, and code that makes arrays of them
MATERIAL = ("twins/dialogues.py", "twins/parts.py", "twins/sequences.py", "twins/releases/*.py")
PIPELINE = (*MATERIAL, "twins/recordings.py", "corpora/*.py", "features/*.py", "pretrained/*.py", "roots/extract.py")


def make(folder: Path) -> None:
    """Make the corpus `folder.name` of the root that `folder` is in, unless it is there from this code; resumable."""
    name, made_by = folder.name, f"synthetic recordings, seed {SEED}, scale {SCALE:g}, code"
    makers = arrays(name)
    source = f"{made_by} {_code(PIPELINE, paper_of(name).id, repr(makers))}"
    release = recorded(folder.parent / "releases" / release_of(name), f"{made_by} {_code(MATERIAL)}")
    with folders.lock(folder):
        if table.source(folder) != source:
            corpus = replace(read(name, release), source=source)
            for array, maker in makers.items():
                if isinstance(maker, dict):
                    store.add(folder, corpus, array, _encoded(corpus, array, maker))
                else:
                    how = {"extractor": maker, "media": release, "name": array, "progress": False}
                    pipeline.into(folder, corpus, **how, replace_old=True)
            table.save(corpus, folder)  # last: a corpus that has its table is complete
        if folders.recordings(folder.parent.name, name) != release:
            write_recordings(folder, release)


def release_of(name: str) -> str:
    """The release that a corpus is read from; the corpora of IEMOCAP share one."""
    return "iemocap" if name.startswith("iemocap") else name


def recorded(release: Path, source: str) -> Path:
    """The release in the folder `release`, made anew unless it is there from the same `source`."""
    release.parent.mkdir(parents=True, exist_ok=True)
    present = release.with_suffix(".source")
    with FileLock(release.with_suffix(".lock")):
        if not present.exists() or present.read_text() != source:
            shutil.rmtree(release, ignore_errors=True)
            releases.write(release.name, release, seed=SEED, scale=SCALE)
            present.write_text(source)
    return release.resolve()


def read(name: str, release: Path) -> Corpus:
    """The corpus from its release, by the reader of the official layout.

    IEMOCAP's two lists of labels are one here: that of `iemocap6` consists of the majority labels.
    """
    if name == "iemocap6":
        corpus = iemocap.read(release)
        labels = {u: corpus.labels[k] for u, k in zip(corpus.ids, corpus.table["label"], strict=True)}
        return iemocap.read(release, name=name, labels=labels)
    if name.startswith("iemocap"):
        return iemocap.read(release, name=name)
    if name in cmu.RELEASES:
        return cmu.read(release, name)
    return {"meld": meld.read, "ravdess": ravdess.read}[name](release)


def paper_of(name: str) -> Paper:
    """The declared paper whose settings make the arrays of a corpus."""
    naming = [paper for paper in map(declarations.load, declarations.papers()) if name in paper.twin_media_arrays]
    if len(naming) != 1:
        of, rule = ", ".join(p.id for p in naming) or "no paper", "exactly one paper's settings make its arrays"
        raise DeclarationError(f"twin_media_arrays of {of} names {name}; {rule}: see papers/README.md")
    return naming[0]


def arrays(name: str) -> dict[str, Any]:
    """Array of a corpus -> its extractor; of text, the options of `text.encode`.

    Beside one array a modality: recognised text, where a row or reading of any declared paper reads it; augmented
    recordings, where one of the paper does whose settings make the arrays.
    """
    paper = paper_of(name)
    makers = extractors(name)
    papers = map(declarations.load, declarations.papers())
    texts = {value for each in papers for value in _values(each, name, "data.text")}
    makers |= {array: makers["text"] for array in sorted(texts) if array.endswith(ASR)}
    if _values(paper, name, "data.augment") - {"none"}:
        makers |= {f"{modality}_augmented": maker for modality, maker in augment.augmented(makers).items()}
    return makers


def extractors(name: str) -> dict[str, Any]:
    """Modality -> the extractor (of text: the options of `text.encode`) of a corpus at the twin's scale."""
    paper = paper_of(name).id
    data = {"frames": FRAMES} | extract.declared_data(paper, name, data="twin_media")
    makers = extract.extractors(paper, name, kind="offline", data=data)
    if isinstance(makers["visual"], faces.HaarFaces):
        makers["visual"] = replace(makers["visual"], min_face=SMALLEST)
    return makers


def _values(paper: Paper, name: str, leaf: str) -> set[str]:
    """The values that a paper's base recipe, its readings, its other systems and its rows on a corpus give a leaf."""
    if name not in paper.corpora:
        return set()
    options = (option for reading in paper.readings.values() for option in reading.options.values())
    rows = (
        row.change
        for printed in paper.tables.values()
        for row in printed.row
        if leaf in paper.flat(row.change)
        and any(cell.corpus == name for cell in declarations.row_cells(paper, printed, row))
    )
    trees = map(paper.flat, (paper.recipe, *options, *paper.base.values(), *rows))
    return {for_corpus(tree[leaf], name) for tree in trees if leaf in tree}


def _encoded(corpus: Corpus, array: str, options: dict[str, Any]) -> table.Array:
    """The encoded text of a corpus; for an array of recognised text, as the synthetic recogniser hears it."""
    if not array.endswith(ASR):
        return text.encode(corpus, **options)
    encoded = text.encode(replace(corpus, table=corpus.table.assign(text=misheard(corpus))), **options)
    errors = f"synthetic recogniser, {100 * ASR_ERRORS:.0f} % of words wrong"
    return replace(encoded, extractor=f"{encoded.extractor}, {errors}")


def misheard(corpus: Corpus) -> list[str]:
    """The transcripts with some words replaced by others of the corpus."""
    rng = np.random.default_rng(SEED)
    lines = [line.split() for line in corpus.table["text"]]
    words = sorted({word for line in lines for word in line})
    heard = ((words[rng.integers(len(words))] if rng.random() < ASR_ERRORS else w for w in line) for line in lines)
    return [" ".join(line) for line in heard]


@cache
def _code(patterns: tuple[str, ...], paper: str = "", settings: str = "") -> str:
    """A hash of the Python files that match, of a paper's module `features`, and of settings as text."""
    files = [file for pattern in patterns for file in sorted(PACKAGE.glob(pattern))]
    files += [Path(registry.features(paper).__file__)] if paper else []
    return hashlib.sha256(f"{sha256(*files)} {settings}".encode()).hexdigest()[:12]
