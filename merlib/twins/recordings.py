"""The root `twin_media`: the corpora of the papers made from synthetic recordings, by the way that real ones go.

`merlib.twins.releases` writes releases in their official layouts; their readers, the papers' extractors and the
text encoder make of them what a data root holds. Of every corpus there is one array a modality, by the recipe of the
paper named here at the twin's scale; weights that come with no package are replaced (`recipes`, kind offline).
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from merlib import declarations
from merlib.corpora import cmu, iemocap, meld, ravdess
from merlib.data import store, table
from merlib.data.table import Corpus
from merlib.declarations.schema import Row
from merlib.features import face, pipeline, recipes, text
from merlib.files import sha256
from merlib.places import MEDIA_SCALE
from merlib.twins import releases

SEED, SCALE = 0, MEDIA_SCALE  # of the material that `releases` can make
FRAMES = 8  # pictures of a clip, where a paper's recipe does not say
SMALLEST = 40  # pixels of a face: those drawn are larger, and Haar need not look for smaller ones
ASR_ERRORS = 0.2  # share of words that the synthetic recogniser gets wrong; GIA-MIC prints 20.48 % for a real one
PAPERS = {  # corpus -> whose arrays
    "iemocap4": "attsf_net", "iemocap6": "mfcre", "iemocap8": "mpaf_net", "meld": "mfcre", "mosei": "hff",
    "mosi": "attsf_net", "ravdess": "attsf_net",
}  # fmt: skip
RELEASES = {name: "iemocap" if name.startswith("iemocap") else name for name in PAPERS}
CODE = ("releases", "../corpora", "../features", "../pretrained")


def make(folder: Path) -> None:
    """Make the corpus `folder.name` of the root that `folder` is in, unless it is there from this code; resumable."""
    name, source = folder.name, f"synthetic recordings, seed {SEED}, scale {SCALE:g}, code {_code()}"
    release = recorded(folder.parent / "releases" / RELEASES[name], source)
    with FileLock(folder.parent / f".{name}.lock"):
        if table.source(folder) == source:
            return
        corpus = replace(read(name, release), source=source)
        made = extractors(name)
        if name == "iemocap8":  # MPAF-Net's augmentation of rare classes
            changed = recipes.augmented(made)
            made |= {f"{modality}_augmented": how for modality, how in changed.items()}
        for array, how in made.items():
            if array != "text":
                pipeline.into(folder, corpus, extractor=how, media=release, name=array, progress=False)
                continue
            store.add(folder, corpus, "text", text.encode(corpus, **how))
            if name == "iemocap4":
                heard = replace(corpus, table=corpus.table.assign(text=misheard(corpus)))
                array = text.encode(heard, **how)
                said = f"{array.extractor}, synthetic recogniser, {100 * ASR_ERRORS:.0f} % of words wrong"
                store.add(folder, corpus, "text_asr", replace(array, extractor=said))
        table.save(corpus, folder)  # last: a corpus that has its table is complete


def recorded(release: Path, source: str) -> Path:
    """The release in the folder `release`, made anew unless it is there from the same `source`."""
    release.parent.mkdir(parents=True, exist_ok=True)
    kept = release.with_suffix(".source")
    with FileLock(release.with_suffix(".lock")):
        if not kept.exists() or kept.read_text() != source:
            shutil.rmtree(release, ignore_errors=True)
            releases.write(release.name, release, seed=SEED, scale=SCALE)
            kept.write_text(source)
    return release


def read(name: str, release: Path) -> Corpus:
    """The corpus from its release, by the reader of the official layout.

    IEMOCAP's two lists of labels are one here: that of `iemocap6` is made of the majority labels.
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


def extractors(name: str) -> dict:
    """Modality -> the extractor (of text: the options of `text.encode`) of a corpus."""
    paper = declarations.load(PAPERS[name])
    data = declarations.recipe(paper, Row(id="twin", label="The twin's scale"), name, data="twin_media")["data"]
    found = recipes.extractors(paper.id, name, kind="offline", data={"frames": FRAMES} | data)
    if isinstance(found["visual"], face.HaarFaces):
        found["visual"] = replace(found["visual"], min_face=SMALLEST)
    return found


def misheard(corpus: Corpus) -> list[str]:
    """The transcripts with some words replaced by others of the corpus."""
    rng = np.random.default_rng(SEED)
    words = sorted({word for line in corpus.table["text"] for word in line.split()})
    return [
        " ".join(words[rng.integers(len(words))] if rng.random() < ASR_ERRORS else word for word in line.split())
        for line in corpus.table["text"]
    ]


def _code() -> str:
    """A hash of the code that the recordings and the arrays come from."""
    here = Path(__file__).parent
    return sha256(*sorted(file for folder in CODE for file in (here / folder).glob("*.py")))[:12]
