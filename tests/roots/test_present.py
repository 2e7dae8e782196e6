"""A repaired release never meets the old one in silence: what differs is said, and replaced only when that is asked."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from prepared_lab import CSV, STORED, TOML, VALUES

from merlib import cli
from merlib.data import folders, store, table
from merlib.data.table import CorpusError
from merlib.errors import Notice
from merlib.roots import imports
from merlib.study import comparison, report


@pytest.fixture
def bring(tmp_path, data_folder):
    """A function that imports the lab's table into the root `lab`, with other values, columns or text."""

    def imported(*edits, values=VALUES, toml=(), **options):
        text, declared = CSV, TOML
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        for old, new in toml:
            assert old in declared
            declared = declared.replace(old, new)
        (tmp_path / "utterances.csv").write_text(text, encoding="utf-8")
        (tmp_path / "lab.toml").write_text(declared, encoding="utf-8")
        np.savez(tmp_path / "audio.npz", utt=np.array(STORED), is10=values)
        return imports.import_source("prepared", tmp_path / "lab.toml", "lab", partial=True, **options)

    return imported


def texts() -> list[str]:
    return list(folders.dataset("lab", "iemocap6", features=()).corpus.table["text"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            (",yes,", ",no,"),
            "holds other text than .*: text differs in 1 of 4 utterances, first a1: 'yes' there, 'no' here",
        ),
        (("Ses02F_a,0,02F", "Ses02F_a,0,02M"), "holds other speaker than .*: first a1: '02F' there, '02M' here"),
        (("NA,2.5", "NA,2.75"), "holds other start than .*first b2: 2.5 there, 2.75 here"),
        (
            ("b1,Ses01F_b,3,01F,0.0", "b1,Ses01F_b,3,01F,fru"),
            "holds other ids, labels or splits than .*label differs in 1 of",
        ),
        (("02F,0,dev", "02F,0,train"), "holds other ids, labels or splits than .*split differs in 1 of"),
        (
            ("c1,Ses05F_c,0,05F,fru", "c1,Ses05F_c,0,05F,xxx"),
            "1 utterances only there, 0 only here, first only there c1",
        ),
    ],
)
def test_a_repaired_table_is_told_and_replaces_the_old_one_only_when_asked(bring, edit, message):
    bring()
    old = folders.dataset("lab", "iemocap6")
    with pytest.raises(CorpusError, match=message.replace("first", ".*first", 1) + ".*another root, or add --replace"):
        bring(edit)
    pd.testing.assert_frame_equal(folders.dataset("lab", "iemocap6").corpus.table, old.corpus.table)
    with pytest.warns(Notice, match=r"with its arrays .audio. was set aside in .*replaced/iemocap6-1"):
        bring(edit, replace=True)
    new = folders.dataset("lab", "iemocap6", features=())
    assert not new.corpus.table.equals(old.corpus.table)
    aside = table.load(folders.root_path("lab") / "replaced" / "iemocap6-1")
    pd.testing.assert_frame_equal(aside.table, old.corpus.table)
    assert folders.corpora("lab") == ["iemocap6"] and folders.roots() == ["lab"], "what was set aside is no corpus"


def test_features_of_the_old_table_are_not_believed_after_it_was_replaced(bring):
    bring()
    home, corpus = folders.root_path("lab") / "iemocap6", folders.dataset("lab", "iemocap6", features=()).corpus
    store.add(home, corpus, "text", table.Array(np.ones((4, 2), np.float32), "text", "an encoder of the old text"))
    with pytest.warns(Notice, match=r"arrays .audio, text. was set aside.* is to be made again"):
        bring((",yes,", ",no,"), replace=True)
    assert folders.arrays("lab", "iemocap6") == ["audio"]
    assert (folders.root_path("lab") / "replaced/iemocap6-1/features/text.safetensors").exists()


def test_other_values_of_an_array_are_told_and_set_aside_alone(bring):
    bring()
    store_file = folders.root_path("lab") / "iemocap6" / "utterances.parquet"
    before = store_file.stat().st_mtime_ns
    with pytest.raises(CorpusError, match="holds other values of audio than .*openSMILE IS10.*--replace"):
        bring(values=VALUES + 1)
    with pytest.warns(Notice, match=r"audio was set aside"):
        bring(values=VALUES + 1, replace=True)
    np.testing.assert_array_equal(folders.dataset("lab", "iemocap6").features["audio"].values[0], [9, 10])
    assert store_file.stat().st_mtime_ns == before
    bring(values=VALUES + 1, replace=True)
    assert len(list((folders.root_path("lab") / "replaced").iterdir())) == 1, "nothing differs: nothing is set aside"


def test_a_column_that_one_source_leaves_empty_is_no_difference(bring):
    without = [('text = "said"\n', ""), ('start = "from"\n', "")]
    bring(toml=without)
    assert set(texts()) == {""}
    bring()
    assert texts() == ["caf\u00e9, no", "NA", "yes", "so"]
    bring(toml=without)
    assert texts() == ["caf\u00e9, no", "NA", "yes", "so"]


def test_a_damaged_table_is_replaced_when_asked(bring):
    bring()
    (folders.root_path("lab") / "iemocap6" / "utterances.parquet").write_bytes(b"broken")
    with pytest.raises(CorpusError, match="damaged"):
        bring()
    with pytest.warns(Notice, match="was set aside"):
        bring(replace=True)
    assert texts()[2] == "yes"


def test_of_two_different_imports_at_once_one_is_told(bring, tmp_path):
    bring()
    (folders.root_path("lab") / "iemocap6").rename(tmp_path / "elsewhere")
    with folders.lock(folders.root_path("lab") / "iemocap6"):
        failures = []

        def second():
            try:
                bring((",yes,", ",no,"))
            except CorpusError as error:
                failures.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        (tmp_path / "elsewhere").rename(folders.root_path("lab") / "iemocap6")  # the first one has written
    thread.join()
    assert "text differs" in str(failures[0]) and texts()[2] == "yes"


def test_a_part_of_a_corpus_is_imported_when_asked_for_and_says_so(bring, tmp_path):
    bring()
    dataset = folders.dataset("lab", "iemocap6")
    assert dataset.corpus.partial == "partial: 4 of 7433 utterances"
    assert dataset.corpus.source == "prepared: a lab; partial: 4 of 7433 utterances"
    assert dataset.features["audio"].passport.summary() == "audio: openSMILE IS10 (2), partial: 4 of 7433 utterances"
    assert "0 of 4 recordings found; prepared: a lab; partial: 4 of 7433" in imports.summary(
        folders.root_path("lab") / "iemocap6"
    )
    with pytest.raises(CorpusError, match="expected 5810 utterances.* To import a part of the corpus, add --partial"):
        imports.import_source("prepared", tmp_path / "lab.toml", "other")
    doubled = replace(dataset.corpus, table=pd.concat([dataset.corpus.table] * 3000, ignore_index=True))
    with pytest.raises(CorpusError, match="happy") as error:
        table.expect(doubled, partial=True)
    assert "--partial" not in str(error.value), "more than the corpus is no part of it"


def test_verdicts_from_a_part_of_a_corpus_are_in_doubt():
    of_part = "audio: openSMILE IS10 (2), partial: 4 of 7433 utterances"
    record = SimpleNamespace(fold=0, seed=0, recipe="a", commit="abc", features=of_part)
    assert list(comparison._doubts([record], 1)) == ["part-of-corpus"]
    record.features = "audio: openSMILE IS10 (2)"
    assert list(comparison._doubts([record], 1)) == []
    assert set(report.DOUBTS) >= {"part-of-corpus", "partial"}


def test_the_command_line_says_what_it_took_and_ends_with_counts(bring, tmp_path, capsys):
    bring()
    cli.main(["data", "import", "prepared", str(tmp_path / "lab.toml"), "other", "--partial"])
    out, err = capsys.readouterr()
    assert f"{tmp_path}/utterances.csv: 2 rows without a label are left out" in err.splitlines()
    assert out.splitlines()[-1] == (
        "iemocap6: 4 utterances in 3 dialogues (happy 2, sad 0, neutral 0, angry 0, excited 0, frustrated 2); "
        "0 of 4 recordings found; prepared: a lab; partial: 4 of 7433 utterances"
    )
    for kind, source, message in (
        ("meld", "lab.toml", "lab.toml is a file. `merlib data import meld` expects the folder"),
        ("meld", "nowhere", "nowhere is no folder that is there"),
        ("prepared", ".", "is a folder; expected a file"),
        ("mmsa", ".", "is a folder; expected a file"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["data", "import", kind, str(tmp_path / source), "third"])
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1, said
