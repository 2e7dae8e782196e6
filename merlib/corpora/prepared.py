"""A prepared table: one short TOML file that says how a lab's own table and features map to ours. No code, no pickle.

    corpus = "iemocap6"                       # whose labels and official counts hold: iemocap6, iemocap6_majority or meld
    name = "our IEMOCAP release, 2024"        # free text: kept as the corpus' source
    utterances = "utterances.csv"             # one row an utterance; paths are relative to this file
    unlabelled = "drop"                       # rows without a class: "drop", or "keep" as context with label -1 (default)

    [columns]                                 # ours = "theirs"; utterance, dialogue, speaker and label are needed
    utterance = "utt"                         # also turn (default: the order of the rows), split, start, end, text, audio, video
    dialogue = "dialogue"
    speaker = "speaker"
    label = "emotion"
    split = "fold"

    [labels]                                  # their value = "our class", or "" for no class; an empty cell has no class
    hap = "happy"

    [split]                                   # their value = train, val or test; leave it out where the names are ours already
    dev = "val"

    [dialogues]                               # or, without a split column, by dialogue: the others are train.
    val = ["Ses01F_impro01"]                  # (with neither, IEMOCAP takes its official test session and our default val)
    test = ["Ses05F_impro01"]

    [features.audio]                          # any number of arrays; `audio` becomes the feature's name
    file = "audio.npz"                        # npz: `ids` and `values` are keys
    ids = "utt"                               # npy: `ids` is a text file, one id a line; csv: `ids` is a column, `values` a list
    values = "openSMILE"                      #      of columns (default: all others)
    modality = "audio"                        # text, audio or visual
    divide = 255                              # optional: values / 255 in float32, for images kept as bytes
    extractor = "openSMILE IS10"              # the passport: what made the values,
    version = "2.3"                           #   its version, its weights' hash ("" if it has none),
    weights_sha256 = ""
    trained_on = "nothing"                    #   the data and labels it has learned from,
    fitted_on = "nothing"                     #   and the split that any later fit has seen

The array may hold more utterances than the table, in any order; rows are found by id.
"""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from merlib.corpora import iemocap
from merlib.corpora.table import DTYPES, LABELS, MODALITIES, SPLITS, Array, Corpus, CorpusError, build

KEYS = {"corpus", "name", "utterances", "unlabelled", "columns", "labels", "split", "dialogues", "features"}
FEATURE_KEYS = {
    "file",
    "ids",
    "values",
    "modality",
    "divide",
    "extractor",
    "version",
    "weights_sha256",
    "trained_on",
    "fitted_on",
}


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """The corpus and the feature arrays (float32, in table order) that the TOML file `path` describes."""
    path = Path(path)
    try:
        about = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(
            f"{path}: {error}. A prepared table is a TOML file; see merlib/corpora/prepared.py."
        ) from None
    _known(about, KEYS, {"corpus", "name", "utterances", "columns", "labels"}, str(path))
    if about["corpus"] not in LABELS:
        raise CorpusError(f"{path}: corpus = {about['corpus']!r}; expected one of {sorted(LABELS)}.")
    made = build(about["corpus"], _rows(about, path), source=f"prepared: {about['name']}")
    return made, {name: _array(name, spec, made.ids, path) for name, spec in about.get("features", {}).items()}


def _known(found: dict, allowed: set[str], needed: set[str], where: str) -> None:
    wrong, missing = sorted(set(found) - allowed), sorted(needed - set(found))
    if wrong or missing:
        raise CorpusError(f"{where}: unknown keys {wrong}, missing keys {missing}; allowed are {sorted(allowed)}.")


def _csv(file: Path) -> pd.DataFrame:
    """A CSV file as text, empty cells as ""; lines that are not UTF-8 are an error."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise CorpusError(f"{file}: {error}. Expected a UTF-8 CSV file with a header line.") from None


def _rows(about: dict, path: Path) -> pd.DataFrame:
    """The rows of the table in our columns, sorted, with class indices and splits."""
    file, columns = path.parent / about["utterances"], about["columns"]
    _known(columns, set(DTYPES), {"utterance", "dialogue", "speaker", "label"}, f"{path} [columns]")
    raw = _csv(file)
    if missing := sorted(set(columns.values()) - set(raw)):
        raise CorpusError(f"{file}: columns {missing} are not there; found {list(raw)}. Correct [columns] in {path}.")
    rows = raw[list(columns.values())].set_axis(list(columns), axis=1)
    rows["label"] = _classes(rows["label"], about, path)
    if about.get("unlabelled", "keep") not in ("drop", "keep"):
        raise CorpusError(f'{path}: unlabelled = {about["unlabelled"]!r}; expected "drop" or "keep".')
    if about.get("unlabelled") == "drop":
        rows = rows[rows["label"] >= 0]
    for name in {"turn", "start", "end"} & set(rows):
        rows[name] = pd.to_numeric(rows[name], errors="coerce")
    if "turn" in rows:
        rows = _in_turn(rows, path)
    else:
        rows = rows.assign(order=rows.groupby("dialogue", sort=False).ngroup()).sort_values("order", kind="stable")
    rows["split"] = _splits(rows, about, path)
    return rows.drop(columns="turn", errors="ignore")


def _in_turn(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    bad = rows["turn"].isna() | rows.duplicated(["dialogue", "turn"], keep=False)
    if bad.any():
        first = list(rows.loc[bad, "utterance"][:3])
        raise CorpusError(
            f"{path}: {bad.sum()} turns are empty, not numbers or not unique in their dialogue, first {first}."
        )
    order = rows.groupby("dialogue", sort=False).ngroup()
    return rows.assign(order=order).sort_values(["order", "turn"], kind="stable")


def _classes(values: pd.Series, about: dict, path: Path) -> pd.Series:
    names, mapping = LABELS[about["corpus"]], about["labels"]
    if wrong := sorted(set(mapping.values()) - set(names) - {""}):
        raise CorpusError(
            f"{path} [labels]: {wrong} are no classes of {about['corpus']}; expected {names}, or '' for none."
        )
    keys = values.str.strip().str.removesuffix(".0")  # a column of numbers with gaps is often written 3.0
    if unknown := sorted(set(keys) - set(mapping) - {""}):
        raise CorpusError(f"{path} [labels]: the values {unknown} have no class; map them, to '' where they mean none.")
    return keys.map({v: names.index(c) if c else -1 for v, c in {"": "", **mapping}.items()})


def _splits(rows: pd.DataFrame, about: dict, path: Path) -> pd.Series:
    """Split of every row: from their column, else by dialogue, else the default of the IEMOCAP corpora."""
    if "split" in rows:
        mapping = {s: s for s in SPLITS} | about.get("split", {})
        if unknown := sorted(set(rows["split"]) - set(mapping)):
            raise CorpusError(f"{path} [split]: the values {unknown} have no split; map them to {SPLITS}.")
        return rows["split"].map(mapping)
    if "dialogues" in about:
        _known(about["dialogues"], {"val", "test"}, {"val", "test"}, f"{path} [dialogues]")
        of = {d: s for s, names in about["dialogues"].items() for d in names}
        if unknown := sorted(set(of) - set(rows["dialogue"])):
            raise CorpusError(f"{path} [dialogues]: {unknown[:3]} are not in the table ({len(unknown)} such).")
        return rows["dialogue"].map(of).fillna("train")
    if about["corpus"].startswith("iemocap"):
        return rows["dialogue"].map(iemocap.default_split(rows["dialogue"]))
    raise CorpusError(f"{path}: no split; give [columns] split, or [dialogues] with val and test.")


def _array(name: str, spec: dict, ids: tuple[str, ...], path: Path) -> Array:
    """The rows of one declared array for `ids`, in that order."""
    where = f"{path} [features.{name}]"
    passport = {"modality", "extractor", "version", "weights_sha256", "trained_on", "fitted_on"}
    _known(spec, FEATURE_KEYS, {"file", "ids"} | passport, where)
    if spec["modality"] not in MODALITIES:
        raise CorpusError(f"{where}: modality = {spec['modality']!r}; expected one of {MODALITIES}.")
    found, values = _loaded(path.parent / spec["file"], spec, where)
    if len(found) != len(values) or values.ndim < 2:
        raise CorpusError(
            f"{where}: {len(found)} ids for values of shape {values.shape}; expected one row (n, ...) an id."
        )
    index = pd.Index(found)
    if not index.is_unique:
        raise CorpusError(f"{where}: duplicate ids, first {list(index[index.duplicated()][:3])}.")
    place = index.get_indexer(list(ids))
    if (place < 0).any():
        raise CorpusError(
            f"{where}: {(place < 0).sum()} utterances are not found, first {ids[int((place < 0).argmax())]}."
        )
    values = values[place].astype(np.float32) / np.float32(spec.get("divide", 1))
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise CorpusError(
            f"{where}: NaN or infinity in {bad.sum()} rows, first {ids[int(bad.argmax())]}. Repair or leave out."
        )
    return Array(values, **{k: spec[k] for k in passport})


def _loaded(file: Path, spec: dict, where: str) -> tuple[list[str], np.ndarray]:
    """Ids and values of an npz, npy or csv file."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return [str(u) for u in arrays[spec["ids"]]], arrays[spec["values"]]
        if file.suffix == ".npy":
            return (file.parent / spec["ids"]).read_text().split(), np.load(file, allow_pickle=False)
        if file.suffix == ".csv":
            raw = _csv(file)
            columns = spec.get("values", [c for c in raw if c != spec["ids"]])
            return list(raw[spec["ids"]]), raw[columns].apply(pd.to_numeric, errors="coerce").to_numpy()
    except (OSError, KeyError, ValueError) as error:
        raise CorpusError(f"{where}: cannot read {file.name}: {error}.") from None
    raise CorpusError(f"{where}: {file.name}: expected an .npz, .npy or .csv file.")
