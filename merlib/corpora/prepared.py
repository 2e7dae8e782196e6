"""A prepared table: one short TOML file maps a lab's own table and features to ours. No code, no pickle.

    corpus = "iemocap6"                # a name in merlib.data.official.LABELS, which gives the classes and counts
    name = "our features, 2024"        # free text, kept as the corpus' source
    utterances = "utterances.csv"      # one row per utterance, UTF-8; paths are relative to this file
    unlabelled = "drop"                # rows without a class: "drop", or "keep" them as context (the default)
    times = "dialogue"                 # where start and end count: in the row's "recording", which they cut, or in the
                                       # "dialogue", where a row may have a recording of its own; asked for if unclear

    [columns]                          # ours = "theirs"; these four are needed. Optional: split, start, end, text,
    utterance = "utt"                  # audio, video, and turn (only its order matters; else that of the rows)
    dialogue = "dialogue"
    speaker = "speaker"                # IEMOCAP: 01F to 05M, session and sex; RAVDESS: 01 to 24
    label = "emotion"                  # mosi and mosei have `score` in [-3, 3] instead, and no [labels]
    start = "from"                     # seconds with a decimal point. audio and video are files, or FILE#t=START,END;
    end = "to"                         # several rows that name one file are cut out of it by start and end
    audio = "wav"

    [labels]                           # their value = "our class", or "" for none; an empty cell is none. Several
    hap = "happy"                      # values may share a class, as hap and exc do in iemocap4

    [split]                            # with a split column: their value = train, val or test
    dev = "val"                        # (values that are ours already need no entry)

    [dialogues]                        # or, without that column: the dialogues of val and test; the others train
    val = ["Ses01F_impro01"]           # (without either, IEMOCAP tests on Session 5 and takes our default val, and
    test = ["Ses05F_impro01"]          # RAVDESS is fold 0 of the protocol `actors`)

    [features.audio]                   # any number of arrays; `audio` is the feature's name
    file = "audio.npz"                 # npz: `ids` and `values` are keys. npy: `ids` is a text file, one id a line.
    ids = "utt"                        # csv: `ids` is a column and `values` a list of columns (default: the others,
                                       # unless one looks like an index or a label)
    values = "is10"
    divide = 255                       # optional: values / 255 as floats, for frames stored as bytes
    time_axis = 1                      # optional: values are sequences, (n, t, d), or (n, d, t) with 2
    lengths = "steps"                  # optional: real steps (npz: a key, npy: a text file); the rest is padding.
    padding = "zeros"                  # without lengths: "zeros" at the ends are padding, or there is "none"
    modality = "audio"                 # text, audio or visual
    extractor = "openSMILE IS10"       # the passport: the extractor of the values,
    version = "2.3"                    # its version,
    weights_sha256 = ""                # the hash of its weights ("" if it has none),
    trained_on = "nothing"             # the data and labels that it was trained on,
    fitted_on = "nothing"              # and the split that any later fit has seen

An array may hold more utterances than the table, in any order: its rows are matched by id. Blanks at the ends of ids
and names are left out everywhere, and counted.
"""

import warnings
from pathlib import Path

import pandas as pd

from merlib.corpora import iemocap, prepared_arrays, prepared_times
from merlib.corpora.reading import read_csv, require_keys, stripped
from merlib.data import splits
from merlib.data.official import LABELS, SENTIMENT, SPLITS
from merlib.data.table import DTYPES, Array, Corpus, CorpusError, build
from merlib.errors import Notice, listed
from merlib.foreign import read_toml

NEEDED = {"corpus", "name", "utterances", "columns"}
OPTIONAL = {"unlabelled", "times", "split", "dialogues", "features"}
SECTIONS = {"columns", "labels", "split", "dialogues", "features"}
COLUMNS = {"utterance", "dialogue", "speaker"}


def read(path: Path) -> tuple[Corpus, dict[str, Array]]:
    """The corpus, and the feature arrays (float32, in table order), that the TOML file `path` describes."""
    path = Path(path)
    about = _declared(path)
    rows = _rows(about, path)
    try:
        corpus = build(about["corpus"], rows, source=f"prepared: {about['name']}")
    except CorpusError as error:
        raise CorpusError(f"{path.parent / about['utterances']}, as {error}") from None
    labelled = corpus.table["label"] >= 0
    target = corpus.table["score" if corpus.name in SENTIMENT else "label"].where(labelled).to_numpy(float)
    return corpus, {
        name: prepared_arrays.array(spec, corpus.ids, target, path.parent, f"{path} [features.{name}]")
        for name, spec in about.get("features", {}).items()
    }


def _declared(path: Path) -> dict:
    """The TOML file, with the keys and kinds of values that it needs."""
    try:
        about = read_toml(path)
    except (OSError, ValueError) as error:
        raise CorpusError(f"{error}. Expected a TOML file as in the docstring of {__name__}.") from None
    sentiment = about.get("corpus") in SENTIMENT
    require_keys(about, NEEDED | (set() if sentiment else {"labels"}), OPTIONAL, str(path))
    for name in ("corpus", "name", "utterances"):
        if not isinstance(about[name], str):
            raise CorpusError(f"{path}: {name} = {about[name]!r}; expected text.")
    for name in sorted(SECTIONS & set(about)):
        if not isinstance(about[name], dict):
            raise CorpusError(f"{path}: {name} = {about[name]!r}; expected a section [{name}].")
        kind, words = (list, "lists of dialogues") if name == "dialogues" else (str, "text in quotes")
        if name != "features" and (bad := {k: v for k, v in about[name].items() if not isinstance(v, kind)}):
            raise CorpusError(f"{path} [{name}]: {listed(bad)}; expected {words}.")
    if about["corpus"] not in LABELS or about.get("unlabelled", "keep") not in ("keep", "drop"):
        declared = f"corpus = {about['corpus']!r}, unlabelled = {about.get('unlabelled', 'keep')!r}"
        raise CorpusError(f"{path}: {declared}; expected one of {listed(sorted(LABELS))}, and keep or drop.")
    return about


def _rows(about: dict, path: Path) -> pd.DataFrame:
    """The rows of the table under our names, with our classes and splits, dialogue by dialogue."""
    file, columns = path.parent / about["utterances"], about["columns"]
    target, other = ("score", "label") if about["corpus"] in SENTIMENT else ("label", "score")
    require_keys(columns, COLUMNS | {target}, set(DTYPES) - COLUMNS - {other}, f"{path} [columns]")
    table = read_csv(file)
    if missing := sorted(set(columns.values()) - set(table)):
        what = f"{file}: columns {listed(missing)} are not there"
        raise CorpusError(f"{what}; found {listed(table)}. Correct [columns] in {path}.")
    names = [c for c in columns if c not in ("turn", "score", "text")]
    table = pd.DataFrame({c: stripped(table[columns[c]], file) if c in names else table[columns[c]] for c in columns})
    _check_names(table, columns, file)
    table[target] = _scores(table, file) if target == "score" else _classes(table["label"], about, path)
    if about.get("unlabelled") == "drop":
        labelled = table["score"].notna() if target == "score" else table["label"] >= 0
        if not labelled.all():
            warnings.warn(Notice(f"{(~labelled).sum()} rows without a label are left out", file), stacklevel=1)
        table = table[labelled].reset_index(drop=True)
    if "turn" in table:
        table["turn"] = pd.to_numeric(table["turn"], errors="coerce")
    table = prepared_times.cut(table, about.get("times"), file, path)
    table["split"] = _splits(table, about, path)
    return _ordered(table, file)


def _check_names(table: pd.DataFrame, columns: dict, file: Path) -> None:
    """CorpusError where an utterance, dialogue or speaker has no name; a Notice of names that differ in case only."""
    for name in sorted(COLUMNS):
        if (empty := table[name] == "").any():
            first = f"first in row {int(empty.idxmax()) + 1} below the header"
            raise CorpusError(f"{file}: {empty.sum()} rows have no {columns[name]!r}, {first}. Fill them in.")
    spelled = table["speaker"].drop_duplicates()
    alike = spelled[spelled.str.casefold().duplicated(keep=False)]
    if len(alike):
        what = f"speakers that differ in the case of letters only are different speakers: {listed(sorted(alike)[:6])}"
        warnings.warn(Notice(what, file), stacklevel=1)


def _ordered(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows dialogue by dialogue, in the order of the column `turn` or, without one, of the file."""
    table = table.assign(first=table.groupby("dialogue", sort=False).ngroup())
    if "turn" not in table:
        return table.sort_values("first", kind="stable").drop(columns="first")
    bad = table["turn"].isna() | table.duplicated(["dialogue", "turn"], keep=False)
    if bad.any():
        first = list(table["utterance"][bad][:3])
        raise CorpusError(f"{file}: {bad.sum()} turns are no numbers, or repeat in a dialogue, first {listed(first)}.")
    return table.sort_values(["first", "turn"]).drop(columns=["first", "turn"])


def _classes(values: pd.Series, about: dict, path: Path) -> pd.Series:
    """The class index of every row, -1 for none."""
    names, mapping = LABELS[about["corpus"]], about["labels"]
    if unknown := sorted(set(mapping.values()) - {*names, ""}):
        what = f"{path} [labels]: {listed(unknown)} are no classes of {about['corpus']}: {names}"
        raise CorpusError(f"{what}, or '' for none.")
    values = values.str.strip().str.removesuffix(".0")  # pandas writes a column of integers with gaps as 3.0
    if unmapped := sorted(set(values) - {*mapping, ""}):
        what = f"{path} [labels]: the values {listed(unmapped)} are not mapped"
        raise CorpusError(f"{what}; give each a class, or '' for none.")
    return values.map({value: names.index(c) if c else -1 for value, c in {"": "", **mapping}.items()})


def _scores(table: pd.DataFrame, file: Path) -> pd.Series:
    """The score of every row, NaN for none (an empty cell, or `nan`)."""
    given = ~table["score"].str.strip().str.lower().isin(["", "nan"])
    scores = pd.to_numeric(table["score"], errors="coerce").astype(float)
    wrong = given & ~scores.between(-3, 3)
    if wrong.any():
        first = table[wrong].head(3).set_index("utterance")["score"].to_dict()
        what = f"{wrong.sum()} scores are not numbers from -3 to 3, first {listed(first)}"
        raise CorpusError(f"{file}: {what}. Scale or empty them.")
    return scores


def _splits(table: pd.DataFrame, about: dict, path: Path) -> pd.Series:
    """The split of every row: from its column, else from [dialogues], else the default of IEMOCAP or RAVDESS."""
    if "split" in table:
        mapping = dict(zip(SPLITS, SPLITS, strict=True)) | about.get("split", {})
        if unmapped := sorted(set(table["split"]) - set(mapping)):
            what = f"{path} [split]: the values {listed(unmapped)} are not mapped"
            raise CorpusError(f"{what}; map them to {listed(SPLITS)}.")
        return table["split"].map(mapping)
    if "dialogues" in about:
        require_keys(about["dialogues"], {"val", "test"}, set(), f"{path} [dialogues]")
        val, test = ([str(d).strip() for d in about["dialogues"][split]] for split in ("val", "test"))
        if both := sorted({*val} & {*test}):
            what = f"{path} [dialogues]: {len(both)} are in val and in test, first {listed(both[:3])}"
            raise CorpusError(f"{what}. Choose one.")
        split_of = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
        if unknown := sorted(set(split_of) - set(table["dialogue"])):
            raise CorpusError(f"{path} [dialogues]: {len(unknown)} are not in the table, first {listed(unknown[:3])}.")
        return table["dialogue"].map(split_of).fillna("train")
    if about["corpus"].startswith("iemocap"):
        return table["dialogue"].map(iemocap.default_split(table["dialogue"]))
    if about["corpus"] == "ravdess":
        if unknown := sorted(set(table["speaker"]) - {f"{actor:02d}" for actor in range(1, 25)}):
            raise CorpusError(f"{path}: speakers {listed(unknown[:3])}; expected the actors of RAVDESS, 01 to 24.")
        return pd.Series(splits.PROTOCOLS["actors"](table, {}, "corpus", 0), index=table.index)
    raise CorpusError(f"{path}: no split; name its column in [columns], or list val and test in [dialogues].")
