"""What splits share: planted speakers, scripts and lines are counted, and nothing but counts leaves the root."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlib import cli
from merlib.corpora import meld
from merlib.data import folders, splits, store, table
from merlib.data.table import Array
from merlib.places import CHECKOUT, results_folder
from merlib.study import leaks as module

LINES = {  # dialogue -> speaker, label, text of its turns
    "Ses01F_script01_1": [("01F", 1, "I never wanted to go there again"), ("01M", 2, "ok")],
    "Ses02F_script01_1": [("02F", 1, "i never wanted to go there again!"), ("02M", 4, "Nobody told me about the plan")],
    "Ses03F_impro01": [("03F", 0, "what are you doing in my house"), ("03M", 3, "what are you doing in my house")],
    "Ses04F_impro02": [("04F", 5, "what are you doing in my house"), ("04M", 5, "what are you doing in my house")],
    "Ses05F_script01_1": [
        ("05F", 1, "I never wanted to go there again."),
        ("05M", 1, "nobody told me about a plan"),
    ],
    "Ses05F_impro01": [("05F", 5, "What are you doing in my house?"), ("05M", 2, "OK")],
}


@pytest.fixture
def lab(places) -> Path:
    """The root `lab` with a corpus of few lines; Session 4 validates, Session 5 tests; one encoder has learned."""
    rows = [
        {"utterance": f"{d}_{s[-1]}00{i}", "dialogue": d, "speaker": s, "label": y, "text": text}
        for d, turns in LINES.items() for i, (s, y, text) in enumerate(turns)
    ]  # fmt: skip
    rows = pd.DataFrame(rows)
    rows["split"] = rows["dialogue"].str[3:5].map({"04": "val", "05": "test"}).fillna("train")
    corpus, folder = table.build("iemocap6", rows, source="made up"), folders.root_path("lab") / "iemocap6"
    table.save(corpus, folder)
    array = {"modality": "text", "extractor": "x", "trained_on": "books", "learned_from": corpus.ids[:3]}
    store.add(folder, corpus, "text", Array(np.zeros((len(rows), 2), np.float32), **array))
    return places


def shared(**options) -> pd.DataFrame:
    board = module.leaks("lab", "iemocap6", **options)
    return board[board["papers"].isin(["hff mfcre", ""])].set_index("what")


def test_speakers_dialogues_and_scripts_of_the_test_split_are_counted_where_they_stand(lab):
    board = shared()
    counts = ["units", "in_train", "in_val", "in_either", "utterances", "of"]
    assert board.loc["speaker", counts].tolist() == [2, 0, 0, 0, 0, 4]
    assert board.loc["dialogue", counts].tolist() == [2, 0, 0, 0, 0, 4]
    assert board.loc["script", counts].tolist() == [1, 1, 0, 1, 2, 2]
    episodes = {row.utterance: str(row.label) for row in table.load(lab / "data/lab/iemocap6").table.itertuples()}
    assert shared(episodes=episodes).loc["episode", counts].tolist() == [3, 2, 1, 3, 4, 4], "labels 1, 2 and 5"


def test_lines_that_stand_in_training_are_counted_with_their_labels(lab):
    board = shared()
    counts = ["units", "in_train", "in_val", "in_either", "utterances", "of"]
    assert board.loc["same line", counts].tolist() == [3, 2, 1, 2, 2, 3]
    assert board.loc["near line", counts].tolist() == [3, 3, 1, 3, 3, 3]
    assert board.loc["same line of a script", counts].tolist() == [2, 1, 0, 1, 1, 2]
    same, near = board.loc["same line"], board.loc["near line"]
    assert (same["right"], same["majority"]) == (100.0, 50.0), "by its two utterances in validation `house` is right"
    assert near["right"] == near["majority"] == pytest.approx(200 / 3)


def test_a_test_split_that_also_validates_does_not_stand_in_training_by_itself(lab):
    corpus = folders.dataset("lab", "iemocap6", features=()).corpus
    names = splits.assign(corpus.table, {"split": "session5", "validation": "test"})
    board = pd.DataFrame(module._Things(corpus, {}).shared(names)).set_index("what")
    counts = ["units", "in_train", "in_val", "in_either", "utterances", "of"]
    assert board.loc["speaker", counts].tolist() == [2, 0, 0, 0, 0, 4]
    assert board.loc["same line", counts].tolist() == [3, 2, 0, 2, 2, 3]


def test_what_an_encoder_has_learned_from_is_told_once(lab):
    line = shared().loc["encoder of text"]
    assert (line["utterances"], line["of"]) == (3, 12) and "trained on: books" in line["note"]


def test_every_fold_of_a_protocol_is_counted(small, places):
    table.save(small["iemocap4"], folders.root_path("lab") / "iemocap4")
    board = module.leaks("lab", "iemocap4")
    of_fold = board[(board["papers"] == "gia_mic") & (board["what"] == "speaker")]
    assert of_fold["fold"].tolist() == [0, 1, 2, 3, 4] and (of_fold["in_either"] == 0).all()
    assert of_fold["of"].sum() == len(small["iemocap4"].table)


def test_only_counts_are_written_and_a_clone_shows_them(lab, capsys):
    cli.main(["leaks", "lab", "--write"])
    shown = capsys.readouterr().out
    assert (
        "iemocap6, corpus, validation corpus: 2 of 3 test utterances of five words or more stand word for word" in shown
    )
    text = (results_folder("lab") / "leaks.csv").read_text()
    assert not any(word in text.lower() for word in ("house", "never", "plan", "05f", "impro"))
    for file in (lab / "data/lab/iemocap6").glob("*.*"):
        file.unlink()
    cli.main(["leaks", "lab"])
    out, err = capsys.readouterr()
    assert out == shown and "'lab' has no iemocap6: counts from" in err
    cli.main(["leaks", "lab", "iemocap6", "--json"])
    assert {line["what"] for line in json.loads(capsys.readouterr().out)} >= {"speaker", "same line", "encoder of text"}


def test_a_root_without_anything_and_a_part_of_a_root_to_write_are_refused(places, capsys):
    for words, reason in (["nowhere"], "has no corpus"), (["lab", "meld", "--write"], "--write is of all corpora"):
        with pytest.raises(SystemExit):
            cli.main(["leaks", *words])
        assert reason in capsys.readouterr().err


def test_the_committed_counts_are_those_of_a_program_apart():
    """IEMOCAP's were counted by loops over all pairs, before this module was written."""
    board = pd.read_csv(CHECKOUT / "results" / "real" / "leaks.csv")
    six = board[board["corpus"] == "iemocap6"].set_index("what")
    assert six.loc["same line", ["utterances", "of"]].tolist() == [117, 1193]
    assert round(six.loc["same line", "right"]) == 56
    assert six.loc["near line of a script", ["utterances", "of"]].tolist() == [320, 545]
    assert six.loc["script", "utterances"] == 684
    four = board[(board["papers"] == "gia_mic") & (board["what"] == "same line")]["utterances"]
    assert (four.min(), four.max()) == (71, 126)


@pytest.mark.slow
def test_meld_has_its_published_overlaps(shared_data, places):
    """142 of its 143 test episodes are in training, too, and so are the speakers of 96 % of its test utterances."""
    source = shared_data / "meld"
    with pytest.warns():
        corpus = meld.read(source)
    table.save(corpus, folders.root_path("lab") / "meld")
    board = module.leaks("lab", "meld", episodes=meld.episodes(source)).set_index("what")
    assert board.loc["episode", ["in_either", "units"]].tolist() == [142, 143]
    assert board.loc["speaker", "utterances"] / board.loc["speaker", "of"] == pytest.approx(0.96, abs=0.005)
    assert board.loc["same line", ["utterances", "of"]].tolist() == [10, 1741]
