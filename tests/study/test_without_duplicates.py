"""Headline scores without duplicated lines: from predictions, from bits, or the command where there is neither."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from merlib import cli, study
from merlib.data import duplicates, folders, table
from merlib.places import results_folder, run_folder
from merlib.study import without_duplicates as module


def brute(run: str, near: bool) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes of the test utterances that stand in no training line, by a loop."""
    with np.load(run_folder(run) / "predictions.npz") as saved:
        ids, y_true, y_pred = saved["ids"], saved["y_true"], saved["val_pred"]
    rows = table.load(folders.root_path("twin") / "meld").table.set_index("utterance")
    training = [duplicates.words(text) for text in rows["text"][rows["split"] != "test"]]
    new = []
    for utterance in ids:
        line = duplicates.words(rows["text"][utterance])
        alike = (len({*line} & {*t}) / len({*line} | {*t}) >= 0.7 if near else line == t for t in training)
        new.append(len(line) < 5 or not any(alike))
    return y_true[new], y_pred[new]


@pytest.fixture
def trained(tiny) -> str:
    """The id of a floor's run on MELD's twin, where some test lines stand in training, word for word or nearly."""
    folder, rng = folders.root_path("twin") / "meld", np.random.default_rng(0)
    corpus = table.load(folder)
    texts, test = corpus.table["text"].to_numpy(object), (corpus.table["split"] == "test").to_numpy()
    copied = rng.choice(texts[~test], test.sum())
    change = lambda text: rng.choice([text, f"{text.upper()}!", f"{text} now", "Nothing of this is in training"])
    texts[test] = [change(text) for text in copied]
    table.save(replace(corpus, table=corpus.table.assign(text=texts)), folder)
    return study.run_table("mfcre", "table3", row="logistic", progress=False)["run"].iloc[0]


def test_scores_come_from_predictions_then_from_bits_then_from_a_command(trained, capsys):
    with np.load(run_folder(trained) / "predictions.npz") as saved:
        y_true, y_pred = saved["y_true"], saved["val_pred"]
    weighted = lambda t, p: 100 * f1_score(t, p, average="weighted", zero_division=0)
    (line,) = module.scores("twin", ["meld"]).to_dict("records")
    (new, far), n = ([brute(trained, near) for near in (False, True)], len(y_true))
    assert n > line["n_new"] > line["n_far"] > 0
    assert (line["n"], line["n_new"], line["n_far"]) == (n, len(new[0]), len(far[0]))
    expected = [weighted(y_true, y_pred), weighted(*new), weighted(*far)]
    assert [line["score"], line["score_new"], line["score_far"]] == pytest.approx(expected)
    assert (line["row"], line["metric"], line["seeds"], line["note"]) == ("logistic", "weighted_f1", 1, "")
    cli.main(["leaks", "twin", "meld", "--scores", "--json"])
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["score_new"] == pytest.approx(line["score_new"]) and shown["table"] == "table3"

    (run_folder(trained) / "predictions.npz").unlink()
    (bits,) = module.scores("twin", ["meld"]).to_dict("records")
    assert [bits["score"], bits["score_new"]] == pytest.approx(
        [100 * accuracy_score(y_true, y_pred), 100 * accuracy_score(*new)]
    )
    assert bits["metric"] == "accuracy" and bits["note"] == "from bits, which tell accuracy only"

    (results_folder("twin") / "outcomes" / f"{trained}.npz").unlink()
    (none,) = module.scores("twin", ["meld"]).to_dict("records")
    command = "merlib run mfcre table3 logistic --data twin --seeds 0"
    assert np.isnan(none["score"]) and none["note"] == f"0 of 1 runs have left predictions or bits: {command}"


def test_bits_of_other_labels_are_not_read(trained, monkeypatch):
    """Who has a corpus with other labels cannot draw the order of the bits again."""
    (run_folder(trained) / "predictions.npz").unlink()
    corpus = table.load(folders.root_path("twin") / "meld")
    changed = corpus.table.assign(label=(corpus.table["label"] + 1) % 7)
    monkeypatch.setattr(module.folders, "dataset", lambda *_, **__: folders.Dataset(
        table.Corpus("meld", corpus.labels, changed, ""), {}))  # fmt: skip
    (line,) = module.scores("twin", ["meld"]).to_dict("records")
    assert np.isnan(line["score"]) and "0 of 1 runs" in line["note"]
