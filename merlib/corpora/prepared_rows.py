"""The table of a prepared corpus (`prepared`): its rows under our names, with our classes and splits."""

from pathlib import Path

import pandas as pd

from merlib.corpora import iemocap
from merlib.corpora.reading import read_csv, require_keys
from merlib.data import splits
from merlib.data.official import LABELS, SENTIMENT, SPLITS
from merlib.data.table import DTYPES, CorpusError

COLUMNS = {"utterance", "dialogue", "speaker"}


def rows(about: dict, path: Path) -> pd.DataFrame:
    """The rows of the table that the TOML file `path` (its content: `about`) describes, dialogue by dialogue."""
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
    order = _order(table, file)
    table["split"] = _splits(table, about, path)
    return table.loc[order].drop(columns="turn", errors="ignore")


def _order(table: pd.DataFrame, file: Path) -> pd.Index:
    """The rows dialogue by dialogue, in the order of the column `turn` or, without one, of the file."""
    keys = {"dialogue": table.groupby("dialogue", sort=False).ngroup()}
    if "turn" in table:
        bad = table["turn"].isna() | table.duplicated(["dialogue", "turn"], keep=False)
        if bad.any():
            first = list(table["utterance"][bad][:3])
            raise CorpusError(
                f"{file}: {bad.sum()} turns are no numbers, or repeat in a dialogue, first {first}. Correct them."
            )
        keys["turn"] = table["turn"]
    return pd.DataFrame(keys).sort_values(list(keys), kind="stable").index


def _classes(values: pd.Series, about: dict, path: Path) -> pd.Series:
    """The class index of every row, -1 for none."""
    names, mapping = LABELS[about["corpus"]], about["labels"]
    if unknown := sorted(set(mapping.values()) - {*names, ""}):
        raise CorpusError(
            f"{path} [labels]: {unknown} are no classes of {about['corpus']}; expected {names}, or '' for none."
        )
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
        first = dict(zip(table["utterance"][wrong][:3], table["score"][wrong][:3], strict=True))
        raise CorpusError(
            f"{file}: {wrong.sum()} scores are not numbers from -3 to 3, first {first}. Scale or empty them."
        )
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
            raise CorpusError(
                f"{path} [dialogues]: {len(unknown)} are not in the table, first {unknown[:3]}. Correct them."
            )
        return table["dialogue"].map(split_of).fillna("train")
    if about["corpus"].startswith("iemocap"):
        return table["dialogue"].map(iemocap.default_split(table["dialogue"]))
    if about["corpus"] == "ravdess":
        if unknown := sorted(set(table["speaker"]) - {f"{actor:02d}" for actor in range(1, 25)}):
            raise CorpusError(f"{path}: speakers {unknown[:3]}; expected the actors of RAVDESS, 01 to 24.")
        return pd.Series(splits.assign(table, {"split": "actors"}), index=table.index)
    raise CorpusError(
        f"{path}: no split; name its column in [columns], or list dialogues of val and test in [dialogues]."
    )
