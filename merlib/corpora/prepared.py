"""A prepared table: one short TOML file that says how a lab's own table and features map to ours. No code, no pickle.

    corpus = "iemocap6"                # whose classes and official counts hold: a name in corpora.official.LABELS
    name = "our features, 2024"        # free text, kept as the corpus' source
    utterances = "utterances.csv"      # one row per utterance, UTF-8; paths are relative to this file
    unlabelled = "drop"                # rows without a class: "drop", or "keep" them as context (the default)

    [columns]                          # ours = "theirs"; these four are needed. Also split, start, end, text, audio,
    utterance = "utt"                  # video, and turn (whose order counts; without it, the order of the rows)
    dialogue = "dialogue"
    speaker = "speaker"                # IEMOCAP: 01F to 05M, session and sex; RAVDESS: 01 to 24
    label = "emotion"                  # mosi and mosei have `score` in [-3, 3] instead, and no [labels]

    [labels]                           # their value = "our class", or "" for none; an empty cell is none. Several
    hap = "happy"                      # values may share a class, as hap and exc do in iemocap4

    [split]                            # with a split column: their value = train, val or test
    dev = "val"                        # (values that are ours already need no entry)

    [dialogues]                        # or, without that column: the dialogues of val and test; the others train
    val = ["Ses01F_impro01"]           # (without either, IEMOCAP tests on Session 5 and takes our default val, and
    test = ["Ses05F_impro01"]          # RAVDESS is fold 0 of the protocol `actors`)

    [features.audio]                   # any number of arrays; `audio` is the feature's name
    file = "audio.npz"                 # npz: `ids` and `values` are keys. npy: `ids` is a text file, one id a line.
    ids = "utt"                        # csv: `ids` is a column and `values` a list of columns (default: the others)
    values = "is10"
    divide = 255                       # optional: values / 255 as floats, for pictures kept as bytes
    time_axis = 1                      # optional: values are sequences, (n, t, d), or (n, d, t) with 2
    lengths = "steps"                  # optional: real steps (npz: a key, npy: a text file); the rest is padding
    modality = "audio"                 # text, audio or visual
    extractor = "openSMILE IS10"       # the passport: what made the values,
    version = "2.3"                    # its version,
    weights_sha256 = ""                # the hash of its weights ("" if it has none),
    trained_on = "nothing"             # the data and labels that it had learned from,
    fitted_on = "nothing"              # and the split that any later fit has seen

An array may hold more utterances than the table, in any order: rows are found by id.
"""

import tomllib
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from merlib.corpora import iemocap
from merlib.data import splits
from merlib.data.official import LABELS, SENTIMENT, SPLITS
from merlib.data.table import DTYPES, MODALITIES, Array, Corpus, CorpusError, build

NEEDED = {"corpus", "name", "utterances", "columns"}
COLUMNS = {"utterance", "dialogue", "speaker"}
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
    labels = set() if about.get("corpus") in SENTIMENT else {"labels"}
    _keys(about, NEEDED | labels, {"unlabelled", "split", "dialogues", "features"}, str(path))
    if about["corpus"] not in LABELS or about.get("unlabelled", "keep") not in ("keep", "drop"):
        found = f"corpus = {about['corpus']!r}, unlabelled = {about.get('unlabelled', 'keep')!r}"
        raise CorpusError(f"{path}: {found}; expected one of {sorted(LABELS)}, and keep or drop.")
    rows = _rows(about, path)
    try:
        corpus = build(about["corpus"], rows, source=f"prepared: {about['name']}")
    except CorpusError as error:
        raise CorpusError(f"{path.parent / about['utterances']}, as {error}") from None
    specs = about.get("features", {}).items()
    return corpus, {n: _array(spec, corpus.ids, path.parent, f"{path} [features.{n}]") for n, spec in specs}


def _keys(found: dict, needed: set[str], optional: set[str], where: str) -> None:
    """Every table of the TOML file has the keys that it needs, and no others."""
    wrong, missing = sorted(set(found) - needed - optional), sorted(needed - set(found))
    if wrong or missing:
        raise CorpusError(
            f"{where}: unknown keys {wrong}, missing keys {missing}; allowed are {sorted(needed | optional)}."
        )


def read_csv(file: Path) -> pd.DataFrame:
    """A CSV file as text, with "" for empty cells."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{file}: {error}. Expected a CSV file in UTF-8 with a header line.") from None


def _rows(about: dict, path: Path) -> pd.DataFrame:
    """The rows of the table under our names, in order, with class indices or scores, and splits."""
    file, columns = path.parent / about["utterances"], about["columns"]
    truth, other = ("score", "label") if about["corpus"] in SENTIMENT else ("label", "score")
    _keys(columns, COLUMNS | {truth}, set(DTYPES) - COLUMNS - {other}, f"{path} [columns]")
    raw = read_csv(file)
    if missing := sorted(set(columns.values()) - set(raw)):
        raise CorpusError(f"{file}: columns {missing} are not there; found {list(raw)}. Correct [columns] in {path}.")
    rows = pd.DataFrame({ours: raw[theirs] for ours, theirs in columns.items()})
    rows[truth] = _scores(rows, file) if truth == "score" else _classes(rows["label"], about, path)
    if about.get("unlabelled") == "drop":
        rows = rows[rows["score"].notna() if truth == "score" else rows["label"] >= 0].reset_index(drop=True)
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


def _scores(rows: pd.DataFrame, file: Path) -> pd.Series:
    """Score of every row; an empty cell, or `nan`, is none."""
    said = ~rows["score"].str.strip().str.lower().isin(["", "nan"])
    scores = pd.to_numeric(rows["score"], errors="coerce").astype(float)
    wrong = said & ~scores.between(-3, 3)
    if wrong.any():
        first = dict(zip(rows["utterance"][wrong][:3], rows["score"][wrong][:3], strict=True))
        raise CorpusError(
            f"{file}: {wrong.sum()} scores are not numbers from -3 to 3, first {first}. Scale or empty them."
        )
    return scores


def _splits(rows: pd.DataFrame, about: dict, path: Path) -> pd.Series:
    """Split of every row: from its column, else by the dialogues listed, else by the default of IEMOCAP or RAVDESS."""
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
    if about["corpus"] == "ravdess":
        if wrong := sorted(set(rows["speaker"]) - {f"{actor:02d}" for actor in range(1, 25)}):
            raise CorpusError(f"{path}: speakers {wrong[:3]}; expected the actors of RAVDESS, 01 to 24.")
        return pd.Series(splits.assign(rows, {"split": "actors"}), index=rows.index)
    raise CorpusError(
        f"{path}: no split; name its column in [columns], or list dialogues of val and test in [dialogues]."
    )


def _array(spec: dict, ids: tuple[str, ...], folder: Path, where: str) -> Array:
    """The values of one declared feature for `ids`, in that order."""
    _keys(spec, {"file", "ids"} | PASSPORT, {"values", "divide", "time_axis", "lengths"}, where)
    axis = spec.get("time_axis")
    if spec["modality"] not in MODALITIES or axis not in (None, 1, 2) or (axis is None and "lengths" in spec):
        raise CorpusError(
            f"{where}: modality = {spec['modality']!r}, time_axis = {axis!r}; expected one of {MODALITIES}, and 1 or 2 "
            "for sequences (`lengths` needs it)."
        )
    divide = spec.get("divide", 1)
    if not (isinstance(divide, int | float) and 0 < divide < np.inf):
        raise CorpusError(f"{where}: divide = {divide!r}; expected a number above 0.")
    found, values, lengths = _loaded(folder / spec["file"], spec, where)
    shape = "(n, ...)" if axis is None else "(n, t, d)" if axis == 1 else "(n, d, t)"
    fits = values.ndim >= 2 if axis is None else values.ndim == 3
    if not fits or values.dtype.kind not in "fiu" or len(found) != len(values):
        what = f"{len(found)} ids for values of shape {values.shape} and type {values.dtype}"
        raise CorpusError(f"{where}: found {what}; expected numbers of shape {shape}, one row per id.")
    index = pd.Index(found)
    if not index.is_unique:
        raise CorpusError(f"{where}: duplicate ids, first {list(index[index.duplicated()][:3])}. Keep one row of each.")
    place = index.get_indexer(list(ids))
    if (place < 0).any():
        first = ids[int((place < 0).argmax())]
        raise CorpusError(f"{where}: {(place < 0).sum()} utterances are not found, first {first}. Add their rows.")
    values, owner = values[place], np.arange(len(ids))
    if axis is not None:
        values = values if axis == 1 else values.swapaxes(1, 2)  # n d t -> n t d
        lengths = _steps(lengths, len(found), place, values.shape[1], ids, where)
        owner, values = owner.repeat(lengths), values[np.arange(values.shape[1]) < lengths[:, None]]  # n t d -> s d
    values = values.astype(np.float32) / np.float32(divide)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        rows = np.unique(owner[bad])
        raise CorpusError(
            f"{where}: NaN or infinity in {len(rows)} rows, first {ids[rows[0]]}. Repair them, or leave the array out."
        )
    return Array(values, **{k: spec[k] for k in PASSPORT}, lengths=lengths)


def _steps(
    lengths: np.ndarray | None, stored: int, place: np.ndarray, longest: int, ids: tuple[str, ...], where: str
) -> np.ndarray:
    """Real steps of every utterance, 1 to `longest`; all of them where none are given for the `stored` sequences."""
    if lengths is None:
        return np.full(len(ids), longest, dtype=np.int64)
    if lengths.shape != (stored,) or lengths.dtype.kind not in "iu":
        what = f"lengths of shape {lengths.shape} and type {lengths.dtype}"
        raise CorpusError(f"{where}: found {what}; expected one whole number per id, ({stored},).")
    lengths = lengths[place].astype(np.int64)
    bad = (lengths < 1) | (lengths > longest)
    if bad.any():
        first = int(bad.argmax())
        raise CorpusError(
            f"{where}: {bad.sum()} lengths are not from 1 to {longest}, first {ids[first]} with {lengths[first]}. "
            "Give an utterance without steps one step of zeros."
        )
    return lengths


def _loaded(file: Path, spec: dict, where: str) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Ids, values and, where declared, lengths of an npz, npy or csv file."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                lengths = arrays[spec["lengths"]] if "lengths" in spec else None
                return [str(u) for u in arrays[spec["ids"]]], arrays[spec["values"]], lengths
        if file.suffix == ".npy":
            lines = [(file.parent / spec[k]).read_text().split() for k in ("ids", "lengths") if k in spec]
            lengths = np.array(lines[1], dtype=np.int64) if len(lines) > 1 else None
            return lines[0], np.load(file, allow_pickle=False), lengths
        raw = read_csv(file)
        columns = spec.get("values", [c for c in raw if c != spec["ids"]])
        return list(raw[spec["ids"]]), raw[columns].apply(pd.to_numeric, errors="coerce").to_numpy(), None
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise CorpusError(f"{where}: cannot read {file}: {error!r}. Expected npz, npy or csv as declared.") from None
