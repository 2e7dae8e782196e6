"""Sound inputs of every kind for `damage.py`: how to make them in a folder, which of their files may come to harm, and
how to use them. `use` gives a value that is the same for the same input.

What a kind `knows`: a digest or a range tells a changed value from a sound one. Formats that have neither (the tables,
texts and pictures of others) cannot know that a cell says something else.
"""

import csv
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "corpora")]

import prepared_lab
import releases
import test_mmsa
import tiny_study

from merlib import cli, declarations, study, twins
from merlib.cli import headless
from merlib.data import folders, store, table
from merlib.features import parts, pipeline, text
from merlib.places import CHECKOUT
from merlib.roots import extract
from merlib.study import runs
from merlib.training import fitting
from merlib.twins import dialogues
from merlib.twins import releases as recorded

ROW = ("mfcre", "table2", "bigru")  # what is trained


@dataclass(frozen=True)
class Kind:
    """One kind of input. `files`: patterns of the files that come to harm; `text`: whether they are text.

    `optional`: who deletes the file means it, and begins anew.
    """

    make: Callable[[], None]
    files: tuple[str, ...]
    use: Callable[[], Any]
    text: bool = False
    knows: bool = False
    optional: bool = False


def of_root(root: str) -> str:
    """A digest of all tables and arrays of a data root."""
    total = hashlib.sha256()
    for folder in sorted(file.parent for file in (Path("data") / root).glob("*/corpus.json")):
        corpus = table.load(folder)
        total.update(corpus.table.to_csv().encode())
        for file in sorted((folder / "features").glob("*.safetensors")):
            total.update(store.read(folder, file.stem, ids=corpus.ids).passport.sha256.encode())
    return total.hexdigest()


def of_twin() -> str:
    """A digest of the table and the arrays of a twin."""
    read = folders.dataset("lab", "iemocap6", features=("text", "audio", "visual"))
    return read.corpus.table.to_csv() + "".join(feature.passport.sha256 for feature in read.features.values())


def imported(kind: str, source: str) -> Callable[[], str]:
    def use() -> str:
        cli.main(["data", "import", kind, source, "lab", "--partial"])
        return of_root("lab")

    return use


def official(name: str) -> Callable[[], None]:
    return lambda: recorded.write(name, Path("release"), seed=0, scale=0.3)


def conv_emotion() -> None:
    corpus = dialogues.make("meld", scale=0.1)[0]
    releases.dump(Path("release/MELD_features_raw.pkl"), releases.items(corpus))


def mmsa() -> None:
    releases.dump(Path("release/aligned_50.pkl"), test_mmsa.release()[0], 4)


def prepared() -> None:
    Path("lab").mkdir()
    Path("lab/lab.toml").write_text(prepared_lab.TOML, encoding="utf-8")
    Path("lab/utterances.csv").write_text(prepared_lab.CSV, encoding="utf-8")
    np.savez("lab/audio.npz", utt=np.array(prepared_lab.STORED), is10=prepared_lab.VALUES)


def twin() -> None:
    twins.SCALES = {name: 0.04 for name in twins.corpora()}
    twins.ensure("twin", ["iemocap6"])
    shutil.copytree("data/twin/iemocap6", "data/lab/iemocap6")


def clips() -> None:
    """Four utterances of RAVDESS with audio and video, imported."""
    recorded.write("ravdess", Path("all"), seed=0, scale=0.05)
    Path("release/Actor_01").mkdir(parents=True)
    for file in sorted(Path("all/Actor_01").glob("01*.mp4"))[:4]:
        for each in (file, file.with_name(f"03{file.stem[2:]}.wav")):
            shutil.move(each, "release/Actor_01")
    shutil.rmtree("all")
    rows = table_rows()
    table.save(table.build("ravdess", rows, source="four clips"), Path("data/lab/ravdess"))
    for modality in ("audio", "visual"):
        extract_clips(modality)
    shutil.rmtree("data/lab/ravdess/features")


def table_rows() -> pd.DataFrame:
    videos = sorted(Path("release").rglob("*.mp4"))[:4]
    rows = [
        {
            "utterance": file.stem, "dialogue": file.stem, "speaker": "01", "label": i % 8,
            "split": ("train", "val", "test", "train")[i], "audio": f"Actor_01/03{file.stem[2:]}.wav",
            "video": f"Actor_01/{file.name}", "text": "kids are talking by the door",
        }
        for i, file in enumerate(videos)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def extract_clips(modality: str) -> str:
    settings = extract.declared_data("attsf_net", "ravdess", {"substitute.face_vectors": True})
    maker = extract.extractors("attsf_net", "ravdess", kind="offline", weights=None, data=settings)[modality]
    extract.extract_array("lab", "ravdess", extractor=maker, media=Path("release"), name=modality, progress=False)
    failed = extract.failures("lab", "ravdess", modality)
    for row in failed.itertuples():
        print(f"failed: {row.utterance} {row.file}: {row.reason}", file=sys.stderr)
    return of_root("lab")


def unfinished() -> None:
    """The parts of an extraction that was stopped before its array was complete."""
    clips()
    complete, pipeline.store.add = pipeline.store.add, _stop
    parts.SECONDS = 0.0
    try:
        extract_clips("audio")
    except KeyboardInterrupt:
        pass
    finally:
        pipeline.store.add = complete


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def tiny() -> None:
    """A tiny study of one corpus."""
    tiny_study.declare(Path.cwd())
    os.environ["MERLIB_PAPERS"] = str(Path("papers").resolve())
    twin()


def trained() -> None:
    """One finished run of a tiny study, and its records."""
    tiny()
    train()


def train() -> str:
    paper, name, row = ROW
    records = study.run_table(paper, name, row=[row], data="twin", seeds=(0,))
    return records.drop(columns=["seconds", "peak_memory_mb", "commit"]).to_csv()


def interrupted() -> None:
    """A run that was stopped after its last epoch, before it was written."""
    tiny()
    fitting.CHECKPOINT_SECONDS = 0.0
    writing, runs._write_predictions = runs._write_predictions, _stop
    try:
        train()
    except KeyboardInterrupt:
        pass
    finally:
        runs._write_predictions = writing


def compared() -> str:
    return study.compare("mfcre", "table2", "twin").to_csv()


def paper() -> None:
    tiny_study.declare(Path.cwd())


def declared() -> str:
    return str([cell.model_dump() for cell in declarations.cells(declarations.load("mfcre"))])


def notebook() -> None:
    shutil.copy(CHECKOUT / "notebooks/mfcre/2_train.ipynb", "notebook.ipynb")


def encoder() -> None:
    """A tiny BERT, randomly initialised."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "kids", "are", "the"]
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, **size)
    tokenizer.save_pretrained("encoder")
    transformers.BertModel(config).save_pretrained("encoder")


def encode() -> str:
    corpus = dialogues.make("meld", seed=1, scale=0.01)[0]
    return store.digest(text.encode(corpus, encoder="encoder", max_tokens=64).values, None)


def transcript() -> None:
    clips()
    with Path("heard.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["utterance", "text"])
        lines.writerows((u, f"heard {i}") for i, u in enumerate(table.load(Path("data/lab/ravdess")).ids))


def transcribed() -> str:
    texts = extract.transcripts(Path("heard.csv"), ids="utterance", texts="text")
    return str(texts)


KINDS = {
    "IEMOCAP": Kind(official("iemocap"), ("release/Session1/**/*.txt",), imported("iemocap", "release"), text=True),
    "MELD": Kind(official("meld"), ("release/*.csv",), imported("meld", "release"), text=True),
    "RAVDESS": Kind(official("ravdess"), ("release/Actor_01/*",), imported("ravdess", "release")),
    "CMU-MOSI text": Kind(
        official("mosi"), ("release/*.py", "release/Raw/Transcript/**/*"), imported("mosi", "release"), text=True
    ),
    "CMU-MOSI HDF5": Kind(official("mosi"), ("release/*.csd",), imported("mosi", "release")),
    "pickle of conv-emotion": Kind(
        conv_emotion, ("release/*.pkl",), imported("conv-emotion", "release/MELD_features_raw.pkl")
    ),
    "pickle of MMSA": Kind(mmsa, ("release/*.pkl",), imported("mmsa", "release/aligned_50.pkl")),
    "prepared text": Kind(prepared, ("lab/lab.toml", "lab/utterances.csv"), imported("prepared", "lab/lab.toml"), True),
    "prepared npz": Kind(prepared, ("lab/audio.npz",), imported("prepared", "lab/lab.toml")),
    "corpus of a root": Kind(
        twin, ("data/lab/iemocap6/corpus.json", "data/lab/iemocap6/*.parquet"), of_twin, knows=True
    ),
    "features": Kind(twin, ("data/lab/iemocap6/features/*",), of_twin, knows=True),
    "audio files": Kind(clips, ("release/Actor_01/*.wav",), lambda: extract_clips("audio")),
    "video files": Kind(clips, ("release/Actor_01/*.mp4",), lambda: extract_clips("visual")),
    "parts of an extraction": Kind(
        unfinished, ("data/lab/ravdess/parts/audio/*",), lambda: extract_clips("audio"), knows=True
    ),
    "finished run": Kind(trained, ("results/cache/runs/*/*.*",), train, knows=True),
    "checkpoint": Kind(interrupted, ("results/cache/runs/*/checkpoint.pt",), train, knows=True),
    "records": Kind(trained, ("results/twin/records/mfcre/*.csv",), compared, True, knows=True, optional=True),
    "declarations": Kind(paper, ("papers/mfcre/*.toml", "papers/mfcre/tables/*.toml"), declared, text=True),
    "notebook": Kind(
        notebook, ("notebook.ipynb",), lambda: str(headless.parameters(Path("notebook.ipynb"))), text=True
    ),
    "encoder's settings": Kind(encoder, ("encoder/*.json",), encode, text=True),
    "encoder's weights": Kind(encoder, ("encoder/*.safetensors",), encode),
    "transcript": Kind(transcript, ("heard.csv",), transcribed, text=True),
}


def environment(folder: Path) -> None:
    """Work in `folder`, with data, results and (where it has any) declarations of its own."""
    os.chdir(folder)
    os.environ |= {"MERLIB_DATA": str(folder / "data"), "MERLIB_RESULTS": str(folder / "results")}
    os.environ |= {"MERLIB_PAPERS": str(folder / "papers")} if (folder / "papers").exists() else {}
