"""Make the data root that the records beside this file were obtained on, from the folder that holds its sources.

    python results/real/prepare.py FOLDER [--corpora iemocap4 meld ...] [--audio stretched|seconds] [--data real]

FOLDER has `iemocap/` (utterances.csv, logmel.npz, acoustic.npz), `meld/` (the official CSV files),
`mosi/utterances.npz` and `ravdess/` (the clips of speech, action_units.npz). The files of `prepared/` say what is taken
from IEMOCAP and MOSI. The root is written into $MERLIB_DATA, or `data/`. GIA-MIC's records with audio have `--audio
seconds`, in a $MERLIB_DATA of its own.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.data import folders, store
from merlib.data.table import Array
from merlib.roots import extract, imports

CORPORA = ("iemocap4", "iemocap6", "iemocap8", "meld", "mosi", "ravdess")
TOKENS = ("iemocap4", "iemocap8")  # whose papers read a vector a token; those of the others read one an utterance
STRETCHED = ("iemocap/logmel.npz", "96 steps stretched over the utterance", "time_axis = 2")
SECONDS = (
    "logmel.npz",
    "first 6 s, 12.5 steps a second, averaged from 96 steps stretched over the utterance",
    'time_axis = 1\nlengths = "steps"',
)


def make(corpus: str, folder: Path, work: Path, data: str, seconds: bool) -> None:
    """One corpus of the root `data`, with its arrays; `work` is an empty folder for intermediate files."""
    if corpus == "meld":
        imports.import_source("meld", folder / "meld", data)
    elif corpus == "ravdess":
        imports.import_source("ravdess", folder / "ravdess", data)
        add_action_units(folder / "ravdess" / "action_units.npz", data)
        extract.extract(data, "ravdess", "attsf_net", media=folder / "ravdess", modalities="A", workers=2)
    else:
        imports.import_source("prepared", described(corpus, folder, work, seconds), data)
    if corpus not in ("mosi", "ravdess"):
        extract.encode_text(data, corpus, name="text", pool="tokens" if corpus in TOKENS else "mean")
    if corpus == "iemocap4":
        heard = extract.transcripts(folder / "iemocap" / "utterances.csv", ids="utt", texts="whisper_text")
        extract.encode_text(
            data, corpus, name="text_asr", texts=heard, texts_from="whisper_text of utterances.csv", pool="tokens"
        )


def described(corpus: str, folder: Path, work: Path, seconds: bool) -> Path:
    """A prepared table of IEMOCAP or MOSI in `work`, which gets links to the sources and what is made of them."""
    declared = (Path(__file__).parent / "prepared" / f"{corpus}.toml").read_text(encoding="utf-8")
    for name in ("iemocap", "mosi"):
        (work / name).symlink_to(folder / name)
    if corpus == "mosi":
        mosi_table(folder / "mosi" / "utterances.npz").to_csv(work / "utterances.csv", index=False)
    if corpus == "iemocap4" and seconds:
        in_seconds(folder / "iemocap", work / "logmel.npz")
        for old, new in zip(STRETCHED, SECONDS, strict=True):
            declared = declared.replace(old, new)
    target = work / "declared.toml"
    target.write_text(declared, encoding="utf-8")
    return target


def add_action_units(file: Path, data: str) -> None:
    """RAVDESS's `visual`: the means of OpenFace's action units over each clip."""
    corpus = folders.dataset(data, "ravdess", features=()).corpus
    with np.load(file) as found:
        row = pd.Series(range(len(found["clip"])), index=found["clip"].astype(str))
        values = found["au"][row[list(corpus.ids)].to_numpy()]
    made = {"extractor": "OpenFace action units, mean over the clip", "version": "unknown", "weights_sha256": ""}
    array = Array(values, modality="visual", trained_on="unknown", fitted_on="nothing", **made)
    store.add(folders.root_path(data) / "ravdess", corpus, "visual", array)


def mosi_table(file: Path) -> pd.DataFrame:
    """The utterances of MOSI; of the videos that do not test, sorted by name, every sixth validates."""
    with np.load(file) as rows:
        table = pd.DataFrame({k: rows[k] for k in ("id", "video", "clip", "text", "y", "split_bclstm")})
    others = sorted(table["video"][table["split_bclstm"] != "test"].unique())
    split = table.pop("split_bclstm").where(~table["video"].isin(others[::6]), "val")
    return table.assign(split=split)


def in_seconds(folder: Path, file: Path) -> None:
    """Spectrograms stretched to 96 steps -> 12.5 steps a second of the first 6 s (GIA-MIC Sec. 3.1), n t 64, levels 0
    to 255.

    A step is the mean of the columns that it overlaps, weighted by the overlap; the last one may be shorter.
    """
    table = pd.read_csv(folder / "utterances.csv", index_col="utt")
    with np.load(folder / "logmel.npz") as found:
        ids, level = found["utt"].astype(str), found["level"]  # n, n 64 96
    duration = (table["end"] - table["start"])[ids].to_numpy()[:, None]
    heard = duration.clip(max=6.0)
    steps = np.ceil(heard[:, 0] * 12.5 - 1e-9).astype(np.int64)
    ends = np.minimum(np.arange(steps.max() + 1) / 12.5, heard)  # n t+1, seconds
    columns = duration * np.linspace(0, 1, level.shape[-1] + 1)  # n 97, seconds
    overlap = np.minimum(ends[:, 1:, None], columns[:, None, 1:]) - np.maximum(
        ends[:, :-1, None], columns[:, None, :-1]
    )
    overlap = overlap.clip(min=0)  # n t 96
    total = overlap.sum(-1, keepdims=True)
    values = overlap @ level.swapaxes(1, 2) / np.where(total > 0, total, 1)
    np.savez(file, utt=ids, level=values.astype(np.float32), steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=CORPORA)
    parser.add_argument("--audio", choices=("stretched", "seconds"), default="stretched", help="the steps of iemocap4")
    parser.add_argument("--data", default="real", help="the data root to fill")
    args = parser.parse_args()
    for corpus in args.corpora:
        with tempfile.TemporaryDirectory() as work:
            make(corpus, args.folder.resolve(), Path(work), args.data, args.audio == "seconds")
        print(folders.root_path(args.data) / corpus)


if __name__ == "__main__":
    main()
