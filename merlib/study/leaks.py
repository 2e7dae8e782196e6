"""What training and test have in common on a data root: `merlib leaks`, results/<data>/leaks.csv.

For each protocol by which a paper splits the corpus, and each of its folds, one line for each kind of thing that can
stand in two splits: speakers, dialogues (of MOSI, videos), scripts, episodes, lines, and the encoders of the arrays. A
line of text counts where it has five words or more; `right` says how often its label in training is that of the test
utterance, beside `majority`, how often the most frequent class of training is (`merlib.data.duplicates`). Only counts
leave the root: no text, no name, no label.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from merlib import declarations
from merlib.data import duplicates, folders, official, splits, store
from merlib.data.duplicates import Lines
from merlib.data.table import Corpus, CorpusError
from merlib.files import atomic
from merlib.places import results_folder
from merlib.study.records import read_made

SAME, NEAR = "same line", "near line"
COUNTS = dict.fromkeys(("fold", "units", "in_train", "in_val", "in_either"), "Int64")  # empty for arrays


@dataclass(frozen=True)
class Shared:
    """One kind of thing in one fold. Training is all that does not test: train and val.

    units: how many the test split has (of lines, different ones); in_train, in_val, in_either: how many of them stand
    there, too; utterances: the test utterances of those in either, `of` how many; right, majority: percent of these
    utterances. An array has one line for all protocols: the utterances of the corpus from whose labels its encoder has
    learned, or by which it was selected. No run tests on these: it is refused.
    """

    corpus: str
    what: str
    utterances: int
    of: int
    protocol: str = ""
    papers: str = ""
    fold: int | None = None
    units: int | None = None
    in_train: int | None = None
    in_val: int | None = None
    in_either: int | None = None
    right: float | None = None
    majority: float | None = None
    note: str = ""


def leaks(data: str, corpus: str, *, episodes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """What the splits of a corpus of a data root share: the fields of `Shared`. episodes: of each utterance."""
    loaded = folders.dataset(data, corpus, features=()).corpus
    things, lines = _Things(loaded, episodes or {}), []
    for protocol, (papers, folds) in _protocols(loaded).items():
        about = {"corpus": corpus, "protocol": protocol, "papers": papers}
        lines += [Shared(**about, fold=k, **each) for k, names in enumerate(folds) for each in things.shared(names)]
    lines += [_of_encoder(data, loaded, name) for name in folders.arrays(data, corpus)]
    return pd.DataFrame(map(asdict, lines), columns=[field.name for field in fields(Shared)]).astype(COUNTS)


def gathered(
    data: str, corpora: Sequence[str] = (), *, episodes: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, list[str]]:  # fmt: skip
    """`leaks` of these corpora, or of all; those that the root lacks as `write` has left them, and their names.

    episodes: of each utterance of MELD.
    """
    held, file = folders.corpora(data), written(data)
    lacking = [name for name in dict.fromkeys(file["corpus"]) if name not in held]
    names = [*corpora] or [*held, *lacking]
    if not names:
        raise CorpusError(f"the root {data!r} has no corpus, and there is no {path_of(data)}: see `merlib doctor`.")
    boards = [
        file[file["corpus"] == name]
        if name in lacking
        else leaks(data, name, episodes=episodes if name == "meld" else None)
        for name in names
    ]
    return pd.concat(boards, ignore_index=True), [name for name in names if name in lacking]


def path_of(data: str) -> Path:
    return results_folder(data) / "leaks.csv"


def write(shared: pd.DataFrame, data: str) -> None:
    with atomic(path_of(data)) as part:
        shared.round(4).to_csv(part, index=False)


def written(data: str) -> pd.DataFrame:
    """What `write` has written, for those who do not have the corpora; empty where it has not."""
    names = [field.name for field in fields(Shared)]
    if not path_of(data).is_file():
        return pd.DataFrame(columns=names)
    remedy = f"`merlib leaks {data} --write` makes it anew where the corpora are, or take back a version that it wrote"
    shared = read_made(path_of(data), names, remedy, dtype=COUNTS)
    return shared.fillna(dict.fromkeys(("protocol", "papers", "note"), ""))


def _protocols(corpus: Corpus) -> dict[str, tuple[str, list[np.ndarray]]]:
    """Of every protocol of the papers: its name -> the papers, and the split of every utterance in each fold."""
    protocols: dict[str, tuple[list[str], dict]] = {}
    for paper in map(declarations.load, declarations.papers()):
        if corpus.name in paper.corpora and paper.recipe:
            protocol = declarations.base_recipe(paper, corpus.name)["protocol"]
            drawn = [protocol["split"], f"validation {protocol.get('validation', 'corpus')}"]
            drawn += [f"{name} {protocol[name]}" for name in ("test_actor", "val_actor") if name in protocol]
            protocols.setdefault(", ".join(drawn), ([], protocol))[0].append(paper.id)
    protocols = protocols or {"corpus": ([], {"split": "corpus"})}
    assigned = lambda protocol: [splits.assign(corpus.table, protocol, k) for k in range(splits.folds(protocol))]
    return {name: (" ".join(papers), assigned(protocol)) for name, (papers, protocol) in protocols.items()}


class _Things:
    """What can stand in two splits of a corpus."""

    def __init__(self, corpus: Corpus, episodes: Mapping[str, str]):
        table = corpus.table
        self.labels, self.same, self.near = table["label"].to_numpy(), *duplicates.lines(table["text"])
        self.units = {"speaker": table["speaker"], "dialogue": table["dialogue"]}
        if pattern := official.SCRIPTS.get(corpus.name):
            self.units["script"] = table["utterance"].str.extract(pattern)[0]
        if episodes:
            self.units["episode"] = table["utterance"].map(episodes)

    def shared(self, names: np.ndarray) -> Iterator[dict]:
        """names: train, val or test of every utterance (u)."""
        parts = {part: names == part for part in official.SPLITS}  # where test also validates, val has none
        for what, units in self.units.items():
            there = {part: units[of].dropna().unique() for part, of in parts.items()}
            isin = {part: units.isin(there[part]).to_numpy() for part in parts}
            if len(there["test"]):
                yield _counted(what, units, isin, parts["test"] & units.notna().to_numpy())
        for what, lines in ((SAME, self.same), (NEAR, self.near)):
            isin = {part: lines.stands_in(of) for part, of in parts.items()}
            for about, chosen in self._tested(lines, parts["test"]):
                if chosen.any():
                    counted = _counted(what + about, pd.Series(lines.line), isin, chosen)
                    yield counted | self._guessed(lines, chosen & (isin["train"] | isin["val"]), ~parts["test"])

    def _tested(self, lines: Lines, test: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The test utterances whose lines are compared: all with enough words, and those of a script."""
        yield "", test & lines.long
        if "script" in self.units:
            yield " of a script", test & lines.long & self.units["script"].notna().to_numpy()

    def _guessed(self, lines: Lines, hit: np.ndarray, training: np.ndarray) -> dict[str, float | None]:
        """How often training says the label of the utterances in `hit`, in percent."""
        hit = hit & (self.labels >= 0)
        if not hit.any():
            return {}
        largest = np.bincount(self.labels[training & (self.labels >= 0)]).argmax()
        guessed = {"right": lines.guess(training, self.labels), "majority": largest}
        return {name: 100 * float((self.labels == of)[hit].mean()) for name, of in guessed.items()}


def _counted(what: str, units: pd.Series, isin: dict[str, np.ndarray], test: np.ndarray) -> dict:
    number = lambda chosen: int(units[test & chosen].nunique())
    either = isin["train"] | isin["val"]
    counts = {"units": number(test), "in_train": number(isin["train"]), "in_val": number(isin["val"])}
    return counts | {
        "what": what, "in_either": number(either), "utterances": int((test & either).sum()), "of": int(test.sum()),
    }  # fmt: skip


def _of_encoder(data: str, corpus: Corpus, name: str) -> Shared:
    """What the encoder of an array was trained on."""
    passport = store.read_passport(store.path(folders.root_path(data) / corpus.name, name))
    labels = {*passport.learned_from, *passport.selected_on} & set(corpus.ids)
    note = f"{passport.summary()}; trained on: {passport.trained_on}; fitted on: {passport.fitted_on}"
    return Shared(corpus.name, f"encoder of {name}", len(labels), len(corpus.ids), note=note)


def as_text(shared: pd.DataFrame) -> str:
    """A table for each corpus and protocol, and how many lines training knows, in a sentence for each."""
    parts, sentences = [], []
    for (corpus, protocol, papers), lines in shared.groupby(["corpus", "protocol", "papers"], sort=False):
        parts.append(f"{corpus}, {protocol} ({papers})" if protocol else f"{corpus}, what its arrays were made with")
        known = [name for name in lines if name not in ("corpus", "protocol", "papers") and lines[name].any()]
        parts += [lines[known].round(1).to_string(index=False, na_rep=""), ""]
        sentences += [f"{corpus}, {protocol}: {_sentence(lines)}"] if (lines["what"] == SAME).any() else []
    return "\n".join([*parts, *sentences])


def _sentence(lines: pd.DataFrame) -> str:
    same, near = (lines[lines["what"] == what] for what in (SAME, NEAR))
    of, known, nearly = map(_range, (same["of"], same["utterances"], near["utterances"]))
    each = " in each fold" * (same["fold"].nunique() > 1)
    tested = f"{of} test utterances of five words or more{each}"
    text = f"{known} of {tested} stand word for word in training, {nearly} nearly"
    if same["right"].notna().any():
        right, largest = _range(same["right"]), _range(same["majority"])
        text += f"; the label of the first there is right in {right} %, the largest class of training in {largest} %"
    return f"{text}."


def _range(values: pd.Series) -> str:
    low, high = (round(float(end)) for end in (values.min(), values.max()))
    return f"{low}" if low == high else f"{low} to {high}"
