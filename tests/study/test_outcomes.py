"""What a run leaves for a clone: scores and intervals follow from it, and the true label of no utterance does."""

import numpy as np
import pandas as pd
import pytest

from merlib import declarations, study
from merlib.declarations.schema import OF_CLASS
from merlib.study import outcomes, statistics
from merlib.study.records import RecordsError
from merlib.training import metrics

SIX = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
CELLS = [cell for cell in declarations.cells(declarations.load("hff"), "3") if cell.row == "hff"]


@pytest.fixture
def corpus() -> pd.DataFrame:
    """300 utterances of 12 dialogues, in which the last two are of one label; the second half tests."""
    generator = np.random.default_rng(3)
    dialogue = np.sort(generator.integers(0, 12, 300))
    label = np.where(dialogue >= 10, 2, generator.integers(0, 6, 300))
    ids = [f"Ses{d}_{i}" for i, d in enumerate(dialogue)]
    speaker = generator.choice(["F", "M"], 300)
    return pd.DataFrame({"utterance": ids, "dialogue": dialogue.astype(str), "speaker": speaker, "label": label})


def kept(corpus: pd.DataFrame, path, seed: int = 0) -> tuple[outcomes.Outcomes, np.ndarray, np.ndarray]:
    """The outcomes of predictions that are right in half of the cases, with true and predicted classes."""
    test = corpus[corpus["dialogue"].astype(int) >= 5]
    y_true = test["label"].to_numpy()
    generator = np.random.default_rng(seed)
    y_pred = np.where(generator.random(len(test)) < 0.5, y_true, generator.integers(0, 6, len(test)))
    file = path / "results" / "twin" / "outcomes" / f"{seed:x}a.npz"
    about = {"ids": test["utterance"].to_numpy(), "y_true": y_true, "predicted": {"val": y_pred}, "val_n": 7}
    outcomes.write(file, table=corpus, classes=6, **about)
    return outcomes.read("twin", f"{seed:x}a"), y_true, y_pred


def test_every_score_of_a_classification_follows_from_the_counts(corpus, places):
    of, y_true, y_pred = kept(corpus, places)
    expected = metrics.scores(y_true=y_true, y_pred=y_pred, labels=SIX)
    averages = ["macro_f1", "macro_precision", "weighted_recall", "weighted_precision", "balanced_accuracy"]
    cells = CELLS + [CELLS[0].model_copy(update={"metric": name}) for name in averages]
    for cell in cells + [CELLS[0].model_copy(update={"metric": name}) for name in ("precision", "recall")]:
        name = f"{cell.metric}/{cell.emotion}" if cell.metric in OF_CLASS else cell.metric
        assert outcomes.score(cell)(of.counts.sum(0)) == pytest.approx(100 * expected[name]), name
    assert of.right.mean() == pytest.approx(expected["accuracy"]) and of.val_n == 7
    assert outcomes.score(CELLS[0].model_copy(update={"metric": "mae"})) is None


def test_the_order_can_be_drawn_again_only_with_all_labels(corpus, places):
    of, y_true, y_pred = kept(corpus, places)
    right = y_true == y_pred
    assert of.right.sum() == right.sum() and (of.right != right).any(), "the order is not that of the table"
    again, *_ = kept(corpus, places)
    assert (again.right == of.right).all() and again.order == of.order, "runs have one order, which pairs them"
    corpus.loc[0, "label"] = (corpus.loc[0, "label"] + 1) % 6  # of a training utterance
    other, *_ = kept(corpus, places)
    assert other.order != of.order and (other.right != of.right).any()


def test_no_cluster_tells_the_label_of_an_utterance(corpus, places):
    of, y_true, _ = kept(corpus, places)
    true = of.counts.sum(-1)
    assert ((true > 0).sum(-1) >= 2).all() and len(true) == 5, (
        "7 dialogues test, and two of one label have joined others"
    )
    assert (true.sum(0) == np.bincount(y_true, minlength=6)).all()


def test_nothing_else_is_kept_and_it_is_small(corpus, places):
    kept(corpus, places)
    file = outcomes.path_of("twin", "0a")
    with np.load(file) as saved:
        assert set(saved) == {"counts_val", "right_val", "order", "val_n"}
    content = file.read_bytes()
    assert len(content) < 4000 and not any(name.encode() in content for name in corpus["utterance"])


def test_a_damaged_file_is_named_and_what_to_do(corpus, places):
    kept(corpus, places)
    file = outcomes.path_of("twin", "0a")
    content = file.read_bytes()
    harmed = [content[:length] for length in range(0, len(content), 97)]
    harmed += [content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :] for at in range(0, len(content), 31)]
    told = 0
    for each in harmed:
        file.write_bytes(each)
        try:
            outcomes.read("twin", "0a")
        except RecordsError as error:
            assert f"{file} is damaged" in str(error) and "`merlib run` of its row writes it anew" in str(error)
            told += 1
    assert told > len(harmed) / 2, "a date inside the archive says nothing"
    with pytest.raises(RecordsError, match="counts_test_peak"):
        file.write_bytes(content)
        outcomes.read("twin", "0a", "test_peak")


def test_few_labels_which_could_be_guessed_leave_none(tiny, monkeypatch):
    monkeypatch.setattr(outcomes, "KEY_BITS", 1e9)
    study.run_table("mfcre", "table3", row="majority", progress=False)
    assert not list((tiny / "results").glob("twin/outcomes/*"))
    assert outcomes._bits(pd.Series([0, 1, 2, 3] * 10)) == pytest.approx(80) and outcomes.KEY_BITS > 80
    assert outcomes._bits(pd.Series([0] * 1000)) == 0


def test_clips_that_are_dialogues_of_their_own_are_clustered_by_actor(corpus):
    assert set(outcomes.cluster_names(corpus)) == set(corpus["dialogue"])
    corpus["dialogue"] = corpus["utterance"]
    assert set(outcomes.cluster_names(corpus)) == {"F", "M"}


def test_a_run_leaves_outcomes_from_which_its_scores_follow(tiny):
    records = study.run_table("mfcre", "table3", row="logistic", progress=False)
    line = records[(records["selection"] == "val") & (records["column"] == "weighted_f1")].iloc[0]
    of = outcomes.read("twin", line["run"])
    cell = next(c for c in declarations.cells(declarations.load("mfcre"), "3") if c.column == "weighted_f1")
    assert outcomes.score(cell)(of.counts.sum(0)) == pytest.approx(line["value"], abs=1e-4)
    assert of.counts.sum() == line["n"] and len(of.counts) > 1
    board = study.compare("mfcre", "3").set_index(["row", "column"])
    sampled = statistics.cluster_variance(of.counts, outcomes.score(cell))
    assert board.loc[("logistic", "weighted_f1"), "noise"] == pytest.approx(statistics.Z * sampled.variance**0.5)


def test_the_size_of_validation_is_of_the_labels_that_count(tiny):
    for classes, fewer in ((9, False), (3, True)):
        change = {"data.classes": classes}
        (_, _, run), *_ = study.runs_of(declarations.load("mpaf_net"), "table5", row="majority", change=change)
        study.execute(run, progress=False)
        outcomes.keep(run)
        size = outcomes.read("twin", run.id).val_n
        assert size == len(run.splits()["val"]) and (size < np.count_nonzero(run.split == "val")) == fewer


@pytest.mark.parametrize("binary", ["nonnegative", "positive", "excluded"])
def test_the_binary_scores_of_sentiment_follow_too(tiny, binary):
    paper = declarations.load("attsf_net")
    change = {"protocol.binary": binary}
    (_, _, run), *_ = study.runs_of(paper, "9", row="ridge", change=change)
    result = study.execute(run, progress=False)
    outcomes.keep(run)
    of, cells = outcomes.read("twin", run.id), declarations.row_cells(paper, paper.table("9"), paper.table("9").row[-1])
    for cell in cells:
        score = outcomes.score(cell)(of.counts_of(cell).sum(0))
        assert score == pytest.approx(100 * result["selected"]["val"]["scores"][cell.metric]), cell.metric


def test_copies_that_test_are_counted_in_the_clusters_of_their_originals(corpus, places):
    test = corpus[corpus["dialogue"].astype(int) >= 5]
    copies = test.assign(utterance=test["utterance"] + " augmented")
    for name, rows in (("0a", test), ("0b", pd.concat([test, copies]))):
        y_true = rows["label"].to_numpy()
        about = {"ids": rows["utterance"].to_numpy(), "y_true": y_true, "predicted": {"val": (y_true + 1) % 6}}
        outcomes.write(outcomes.path_of("twin", name), table=corpus, classes=6, val_n=7, **about)
    plain, with_copies = (outcomes.read("twin", name) for name in ("0a", "0b"))
    assert (with_copies.counts == 2 * plain.counts).all() and len(with_copies.right) == 2 * len(plain.right)


def test_claims_cover_clusters_where_runs_have_left_outcomes(corpus, places):
    key = {"data": "twin", "column": "weighted_f1", "selection": "val", "n": 150, "fold": 0, "features": "text: x (3)"}
    for row, first in (("hff", 0), ("cogmen", 10)):
        records = []
        for seed in range(3):
            of, *_ = kept(corpus, places, seed=first + seed)
            value = float(outcomes.score(CELLS[-1])(of.counts.sum(0)))
            records.append(key | {"row": row, "seed": seed, "value": value, "run": f"{first + seed:x}a"})
        study.write_records("hff", "table3", "twin", records)
    line = study.judge_claims("hff").set_index("claim").loc["abstract_gain"]
    assert line["covers"] == "seeds and clusters"
    for file in (places / "results" / "twin" / "outcomes").iterdir():
        file.unlink()
    alone = study.judge_claims("hff").set_index("claim").loc["abstract_gain"]
    assert alone["covers"] == "seeds" and alone["estimate"] == line["estimate"]
    assert line["high"] - line["low"] > alone["high"] - alone["low"]
