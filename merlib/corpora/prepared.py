"""A prepared table: one short TOML file maps a lab's own table and features to ours. No code, no pickle.

    corpus = "iemocap6"                # a name in merlib.data.official.LABELS, which gives the classes and counts
    name = "our features, 2024"        # free text, kept as the corpus' source
    utterances = "utterances.csv"      # one row per utterance, UTF-8; paths are relative to this file
    unlabelled = "drop"                # rows without a class: "drop", or "keep" them as context (the default)

    [columns]                          # ours = "theirs"; these four are needed. Optional: split, start, end, text,
    utterance = "utt"                  # audio, video, and turn (only its order matters; else that of the rows)
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
    divide = 255                       # optional: values / 255 as floats, for frames stored as bytes
    time_axis = 1                      # optional: values are sequences, (n, t, d), or (n, d, t) with 2
    lengths = "steps"                  # optional: real steps (npz: a key, npy: a text file); the rest is padding
    modality = "audio"                 # text, audio or visual
    extractor = "openSMILE IS10"       # the passport: the extractor of the values,
    version = "2.3"                    # its version,
    weights_sha256 = ""                # the hash of its weights ("" if it has none),
    trained_on = "nothing"             # the data and labels that it was trained on,
    fitted_on = "nothing"              # and the split that any later fit has seen

An array may hold more utterances than the table, in any order: its rows are matched by id.
"""

import tomllib
from pathlib import Path

import pandas as pd

from merlib.corpora import iemocap, prepared_arrays
from merlib.corpora.reading import read_csv, require_keys
from merlib.data import splits
from merlib.data.official import LABELS, SENTIMENT, SPLITS
from merlib.data.table import DTYPES, Array, Corpus, CorpusError, build

NEEDED = {"corpus", "name", "utterances", "columns"}
OPTIONAL = {"unlabelled", "split", "dialogues", "features"}
COLUMNS = {"utterance", "dialogue", "speaker"}


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """The corpus, and the feature arrays (float32, in table order), that the TOML file `path` describes."""
    path = Path(path)
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(f"{path}: {error}. Expected a TOML file as in the docstring of {__name__}.") from None
    labels = set() if about.get("corpus") in SENTIMENT else {"labels"}
    require_keys(about, NEEDED | labels, OPTIONAL, str(path))
    if about["corpus"] not in LABELS or about.get("unlabelled", "keep") not in ("keep", "drop"):
        declared = f"corpus = {about['corpus']!r}, unlabelled = {about.get('unlabelled', 'keep')!r}"
        raise CorpusError(f"{path}: {declared}; expected one of {sorted(LABELS)}, and keep or drop.")
    rows = _rows(about, path)
    try:
        corpus = build(about["corpus"], rows, source=f"prepared: {about['name']}")
    except CorpusError as error:
        raise CorpusError(f"{path.parent / about['utterances']}, as {error}") from None
    return corpus, {
        name: prepared_arrays.array(spec, corpus.ids, path.parent, f"{path} [features.{name}]")
        for name, spec in about.get("features", {}).items()
    }


def _rows(about: dict, path: Path) -> pd.DataFrame:
    """The rows of the table under our names, with our classes and splits, dialogue by dialogue."""
    file, columns = path.parent / about["utterances"], about["columns"]
    target, other = ("score", "label") if about["corpus"] in SENTIMENT else ("label", "score")
    require_keys(columns, COLUMNS | {target}, set(DTYPES) - COLUMNS - {other}, f"{path} [columns]")
    table = read_csv(file)
    if missing := sorted(set(columns.values()) - set(table)):
        raise CorpusError(f"{file}: columns {missing} are not there; found {list(table)}. Correct [columns] in {path}.")
    table = pd.DataFrame({ours: table[theirs] for ours, theirs in columns.items()})
    table[target] = _scores(table, file) if target == "score" else _classes(table["label"], about, path)
    if about.get("unlabelled") == "drop":
        table = table[table["score"].notna() if target == "score" else table["label"] >= 0].reset_index(drop=True)
    for name in {"turn", "start", "end"} & set(table):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    table["split"] = _splits(table, about, path)
    return _ordered(table, file)


def _ordered(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows dialogue by dialogue, in the order of the column `turn` or, without one, of the file."""
    table = table.assign(first=table.groupby("dialogue", sort=False).ngroup())
    if "turn" not in table:
        return table.sort_values("first", kind="stable").drop(columns="first")
    bad = table["turn"].isna() | table.duplicated(["dialogue", "turn"], keep=False)
    if bad.any():
        first = list(table["utterance"][bad][:3])
        raise CorpusError(f"{file}: {bad.sum()} turns are no numbers, or repeat in a dialogue, first {first}.")
    return table.sort_values(["first", "turn"]).drop(columns=["first", "turn"])


def _classes(values: pd.Series, about: dict, path: Path) -> pd.Series:
    """The class index of every row, -1 for none."""
    names, mapping = LABELS[about["corpus"]], about["labels"]
    if unknown := sorted(set(mapping.values()) - {*names, ""}):
        raise CorpusError(f"{path} [labels]: {unknown} are no classes of {about['corpus']}: {names}, or '' for none.")
    values = values.str.strip().str.removesuffix(".0")  # pandas writes a column of integers with gaps as 3.0
    if unmapped := sorted(set(values) - {*mapping, ""}):
        raise CorpusError(f"{path} [labels]: the values {unmapped} are not mapped; give each a class, or '' for none.")
    return values.map({value: names.index(c) if c else -1 for value, c in {"": "", **mapping}.items()})


def _scores(table: pd.DataFrame, file: Path) -> pd.Series:
    """The score of every row, NaN for none (an empty cell, or `nan`)."""
    given = ~table["score"].str.strip().str.lower().isin(["", "nan"])
    scores = pd.to_numeric(table["score"], errors="coerce").astype(float)
    wrong = given & ~scores.between(-3, 3)
    if wrong.any():
        first = table[wrong].head(3).set_index("utterance")["score"].to_dict()
        what = f"{wrong.sum()} scores are not numbers from -3 to 3, first {first}"
        raise CorpusError(f"{file}: {what}. Scale or empty them.")
    return scores


def _splits(table: pd.DataFrame, about: dict, path: Path) -> pd.Series:
    """The split of every row: from its column, else from [dialogues], else the default of IEMOCAP or RAVDESS."""
    if "split" in table:
        mapping = dict(zip(SPLITS, SPLITS, strict=True)) | about.get("split", {})
        if unmapped := sorted(set(table["split"]) - set(mapping)):
            raise CorpusError(f"{path} [split]: the values {unmapped} are not mapped; map them to {SPLITS}.")
        return table["split"].map(mapping)
    if "dialogues" in about:
        require_keys(about["dialogues"], {"val", "test"}, set(), f"{path} [dialogues]")
        split_of = {d: split for split, names in about["dialogues"].items() for d in names}
        if unknown := sorted(set(split_of) - set(table["dialogue"])):
            raise CorpusError(f"{path} [dialogues]: {len(unknown)} are not in the table, first {unknown[:3]}.")
        return table["dialogue"].map(split_of).fillna("train")
    if about["corpus"].startswith("iemocap"):
        return table["dialogue"].map(iemocap.default_split(table["dialogue"]))
    if about["corpus"] == "ravdess":
        if unknown := sorted(set(table["speaker"]) - {f"{actor:02d}" for actor in range(1, 25)}):
            raise CorpusError(f"{path}: speakers {unknown[:3]}; expected the actors of RAVDESS, 01 to 24.")
        return pd.Series(splits.assign(table, {"split": "actors"}), index=table.index)
    raise CorpusError(f"{path}: no split; name its column in [columns], or list val and test in [dialogues].")
