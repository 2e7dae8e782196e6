"""A prepared table: one short TOML file that says how a lab's own table and features map to ours. No code, no pickle.

    corpus = "iemocap6"                # whose classes and official counts hold: iemocap6, iemocap6_majority or meld
    name = "our features, 2024"        # free text, kept as the corpus' source
    utterances = "utterances.csv"      # one row per utterance, UTF-8; paths are relative to this file
    unlabelled = "drop"                # rows without a class: "drop", or "keep" them as context (the default)

    [columns]                          # ours = "theirs"; these four are needed. Also split, start, end, text, audio,
    utterance = "utt"                  # video, and turn (whose order counts; without it, the order of the rows)
    dialogue = "dialogue"
    speaker = "speaker"                # IEMOCAP: 01F to 05M, session and sex
    label = "emotion"

    [labels]                           # their value = "our class", or "" for none; an empty cell is none
    hap = "happy"

    [split]                            # with a split column: their value = train, val or test
    dev = "val"                        # (values that are ours already need no entry)

    [dialogues]                        # or, without that column: the dialogues of val and test; the others train
    val = ["Ses01F_impro01"]           # (without either, IEMOCAP tests on Session 5 and takes our default val)
    test = ["Ses05F_impro01"]

    [features.audio]                   # any number of arrays; `audio` is the feature's name
    file = "audio.npz"                 # npz: `ids` and `values` are keys. npy: `ids` is a text file, one id a line.
    ids = "utt"                        # csv: `ids` is a column and `values` a list of columns (default: the others)
    values = "is10"
    divide = 255                       # optional: values / 255 as floats, for pictures kept as bytes
    modality = "audio"                 # text, audio or visual
    extractor = "openSMILE IS10"       # the passport: what made the values,
    version = "2.3"                    # its version,
    weights_sha256 = ""                # the hash of its weights ("" if it has none),
    trained_on = "nothing"             # the data and labels that it had learned from,
    fitted_on = "nothing"              # and the split that any later fit has seen

An array may hold more utterances than the table, in any order: rows are found by id.
"""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import iemocap
from merlib.corpora.official import LABELS, SPLITS
from merlib.corpora.table import DTYPES, MODALITIES, Array, Corpus, CorpusError, build

NEEDED = {"corpus", "name", "utterances", "columns", "labels"}
COLUMNS = {"utterance", "dialogue", "speaker", "label"}
PASSPORT = {"modality", "extractor", "version", "weights_sha256", "trained_on", "fitted_on"}


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """The corpus, and the feature arrays (float32, in table order), that the TOML file `path` describes."""
    path = Path(path)
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(
            f"{path}: {error}. Expected a TOML file as in the docstring of merlib.corpora.prepared."
        ) from None
    _keys(about, NEEDED, {"unlabelled", "split", "dialogues", "features"}, str(path))
    if about["corpus"] not in LABELS or about.get("unlabelled", "keep") not in ("keep", "drop"):
        found = f"corpus = {about['corpus']!r}, unlabelled = {about.get('unlabelled', 'keep')!r}"
        raise CorpusError(f"{path}: {found}; expected one of {sorted(LABELS)}, and keep or drop.")
    corpus = build(about["corpus"], _rows(about, path), source=f"prepared: {about['name']}")
    specs = about.get("features", {}).items()
    return corpus, {n: _array(spec, corpus.ids, path.parent, f"{path} [features.{n}]") for n, spec in specs}


def _keys(found: dict, needed: set[str], optional: set[str], where: str) -> None:
    """Every table of the TOML file has the keys that it needs, and no others."""
    wrong, missing = sorted(set(found) - needed - optional), sorted(needed - set(found))
    if wrong or missing:
        raise CorpusError(
            f"{where}: unknown keys {wrong}, missing keys {missing}; allowed are {sorted(needed | optional)}."
        )


def _csv(file: Path) -> pd.DataFrame:
    """A CSV file as text, with "" for empty cells."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{file}: {error}. Expected a CSV file in UTF-8 with a header line.") from None


def _rows(about: dict, path: Path) -> pd.DataFrame:
    """The rows of the table under our names, in order, with class indices and splits."""
    file, columns = path.parent / about["utterances"], about["columns"]
    _keys(columns, COLUMNS, set(DTYPES) - COLUMNS, f"{path} [columns]")
    raw = _csv(file)
    if missing := sorted(set(columns.values()) - set(raw)):
        raise CorpusError(f"{file}: columns {missing} are not there; found {list(raw)}. Correct [columns] in {path}.")
    rows = pd.DataFrame({ours: raw[theirs] for ours, theirs in columns.items()})
    rows["label"] = _classes(rows["label"], about, path)
    if about.get("unlabelled") == "drop":
        rows = rows[rows["label"] >= 0].reset_index(drop=True)
    for name in {"turn", "start", "end"} & set(rows):
        rows[name] = pd.to_numeric(rows[name], errors="coerce")
    order = {"dialogue": rows.groupby("dialogue", sort=False).ngroup()}
    if "turn" in rows:
        bad = rows["turn"].isna() | rows.duplicated(["dialogue", "turn"], keep=False)
        if bad.any():
            first = list(rows["utterance"][bad][:3])
            raise CorpusError(
                f"{file}: {bad.sum()} turns are no numbers, or twice in a dialogue, first {first}. Correct them."
            )
        order["turn"] = rows.pop("turn")
    rows["split"] = _splits(rows, about, path)
    return rows.loc[pd.DataFrame(order).sort_values(list(order), kind="stable").index]


def _classes(values: pd.Series, about: dict, path: Path) -> pd.Series:
    """Class index of every row."""
    names, mapping = LABELS[about["corpus"]], about["labels"]
    if wrong := sorted(set(mapping.values()) - {*names, ""}):
        raise CorpusError(
            f"{path} [labels]: {wrong} are no classes of {about['corpus']}; expected {names}, or '' for none."
        )
    values = values.str.strip().str.removesuffix(".0")  # a column of whole numbers with gaps is often written 3.0
    if unknown := sorted(set(values) - {*mapping, ""}):
        raise CorpusError(f"{path} [labels]: the values {unknown} are not mapped; give each a class, or '' for none.")
    return values.map({value: names.index(c) if c else -1 for value, c in {"": "", **mapping}.items()})


def _splits(rows: pd.DataFrame, about: dict, path: Path) -> pd.Series:
    """Split of every row: from its column, else by the dialogues listed, else by the default of IEMOCAP."""
    if "split" in rows:
        mapping = dict(zip(SPLITS, SPLITS, strict=True)) | about.get("split", {})
        if unknown := sorted(set(rows["split"]) - set(mapping)):
            raise CorpusError(f"{path} [split]: the values {unknown} are not mapped; map them to {SPLITS}.")
        return rows["split"].map(mapping)
    if "dialogues" in about:
        _keys(about["dialogues"], {"val", "test"}, set(), f"{path} [dialogues]")
        listed = {d: split for split, names in about["dialogues"].items() for d in names}
        if unknown := sorted(set(listed) - set(rows["dialogue"])):
            raise CorpusError(
                f"{path} [dialogues]: {len(unknown)} are not in the table, first {unknown[:3]}. Correct them."
            )
        return rows["dialogue"].map(listed).fillna("train")
    if about["corpus"].startswith("iemocap"):
        return rows["dialogue"].map(iemocap.default_split(rows["dialogue"]))
    raise CorpusError(
        f"{path}: no split; name its column in [columns], or list dialogues of val and test in [dialogues]."
    )


def _array(spec: dict, ids: tuple[str, ...], folder: Path, where: str) -> Array:
    """The values of one declared feature for `ids`, in that order."""
    _keys(spec, {"file", "ids"} | PASSPORT, {"values", "divide"}, where)
    if spec["modality"] not in MODALITIES:
        raise CorpusError(f"{where}: modality = {spec['modality']!r}; expected one of {MODALITIES}.")
    found, values = _loaded(folder / spec["file"], spec, where)
    if values.ndim < 2 or values.dtype.kind not in "fiu" or len(found) != len(values):
        what = f"{len(found)} ids for values of shape {values.shape} and type {values.dtype}"
        raise CorpusError(f"{where}: found {what}; expected numbers of shape (n, ...), one row per id.")
    index = pd.Index(found)
    if not index.is_unique:
        raise CorpusError(f"{where}: duplicate ids, first {list(index[index.duplicated()][:3])}. Keep one row of each.")
    place = index.get_indexer(list(ids))
    if (place < 0).any():
        first = ids[int((place < 0).argmax())]
        raise CorpusError(f"{where}: {(place < 0).sum()} utterances are not found, first {first}. Add their rows.")
    values = values[place].astype(np.float32) / np.float32(spec.get("divide", 1))
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        first = ids[int(bad.argmax())]
        raise CorpusError(
            f"{where}: NaN or infinity in {bad.sum()} rows, first {first}. Repair them, or leave the array out."
        )
    return Array(values, **{k: spec[k] for k in PASSPORT})


def _loaded(file: Path, spec: dict, where: str) -> tuple[list[str], np.ndarray]:
    """Ids and values of an npz, npy or csv file."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return [str(u) for u in arrays[spec["ids"]]], arrays[spec["values"]]
        if file.suffix == ".npy":
            return (file.parent / spec["ids"]).read_text().split(), np.load(file, allow_pickle=False)
        raw = _csv(file)
        columns = spec.get("values", [c for c in raw if c != spec["ids"]])
        return list(raw[spec["ids"]]), raw[columns].apply(pd.to_numeric, errors="coerce").to_numpy()
    except (OSError, KeyError, ValueError) as error:
        raise CorpusError(f"{where}: cannot read {file}: {error}. Expected npz, npy or csv as declared.") from None
