"""A prepared table maps a lab's own files to ours, and says precisely what is wrong when it cannot."""

import importlib.util
import tomllib

import numpy as np
import pandas as pd
import pytest

from merlib.corpora import prepared
from merlib.data import table
from merlib.data.table import CorpusError
from merlib.places import CHECKOUT

TOML = """
corpus = "iemocap6"
name = "a lab"
utterances = "utterances.csv"
unlabelled = "drop"
[columns]
utterance = "utt"
dialogue = "dia"
turn = "pos"
speaker = "who"
label = "emo"
split = "fold"
text = "said"
start = "from"
[labels]
0 = "happy"
fru = "frustrated"
xxx = ""
[split]
dev = "val"
[features.audio]
file = "audio.npz"
ids = "utt"
values = "is10"
modality = "audio"
extractor = "openSMILE IS10"
version = "2.3"
weights_sha256 = ""
trained_on = "nothing"
fitted_on = "train"
"""
CSV = """utt,dia,pos,who,emo,fold,said,from
b2,Ses01F_b,7,01M,fru,train,NA,2.5
b1,Ses01F_b,3,01F,0.0,train,"caf\u00e9, no",
a1,Ses02F_a,0,02F,0,dev,yes,1
a2,Ses02F_a,1,02M,xxx,dev,hm,2
a3,Ses02F_a,2,02F,,dev,hm,3
c1,Ses05F_c,0,05F,fru,test,so,1
"""
ORDER = ["b1", "b2", "a1", "c1"]
STORED = ["c1", "extra", "a1", "b2", "b1"]
VALUES = np.arange(10, dtype=np.float64).reshape(5, 2)


@pytest.fixture
def lab(tmp_path):
    """A lab's folder, and a way to read it after edits of the TOML file and the CSV file."""

    def read(toml=(), csv=(), **arrays):
        changed = [TOML, CSV]
        for k, edits in enumerate((toml, csv)):
            for old, new in edits:
                assert old in changed[k]
                changed[k] = changed[k].replace(old, new)
        (tmp_path / "lab.toml").write_text(changed[0], encoding="utf-8")
        (tmp_path / "utterances.csv").write_text(changed[1], encoding="utf-8")
        np.savez(tmp_path / "audio.npz", **({"utt": np.array(STORED), "is10": VALUES} | arrays))
        return prepared.read(tmp_path / "lab.toml")

    read.folder = tmp_path
    return read


def test_table_and_features_arrive_in_our_order(lab):
    corpus, features = lab()
    t = corpus.table
    assert list(t["utterance"]) == ORDER and list(t["turn"]) == [0, 1, 0, 0]
    assert list(t["label"]) == [0, 5, 0, 5] and list(t["split"]) == ["train", "train", "val", "test"]
    assert list(t["text"]) == ["caf\u00e9, no", "NA", "yes", "so"] and t["start"].isna().tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert corpus.source == "prepared: a lab"
    array = features["audio"]
    np.testing.assert_array_equal(array.values, VALUES[[STORED.index(u) for u in ORDER]])
    assert array.values.dtype == np.float32
    assert (array.modality, array.extractor, array.version) == ("audio", "openSMILE IS10", "2.3")
    assert (array.trained_on, array.fitted_on, array.weights_sha256) == ("nothing", "train", "")


def test_unlabelled_rows_may_stay_as_context(lab):
    all_of_them = {"utt": np.array([*ORDER, "a2", "a3"]), "is10": np.ones((6, 2))}
    corpus, _ = lab(toml=[('unlabelled = "drop"', 'unlabelled = "keep"')], **all_of_them)
    assert list(corpus.table["utterance"]) == ["b1", "b2", "a1", "a2", "a3", "c1"]
    assert list(corpus.table["label"]) == [0, 5, 0, -1, -1, 5]


def test_without_turns_the_order_of_the_rows_counts(lab):
    corpus, _ = lab(toml=[('turn = "pos"\n', "")])
    assert list(corpus.table["utterance"]) == ["b2", "b1", "a1", "c1"]


def test_bytes_become_fractions(lab):
    pictures = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    _, features = lab(toml=[('modality = "audio"', 'modality = "audio"\ndivide = 255')], is10=pictures)
    np.testing.assert_allclose(features["audio"].values[0], pictures[4] / 255, rtol=1e-6)
    assert features["audio"].values.shape == (4, 2, 3)


def test_npy_and_csv_files_serve_as_well(lab):
    expected = lab()[1]["audio"].values
    np.save(lab.folder / "audio.npy", VALUES)
    (lab.folder / "ids.txt").write_text("\n".join(STORED))
    edits = [
        ('file = "audio.npz"', 'file = "audio.npy"'),
        ('ids = "utt"', 'ids = "ids.txt"'),
        ('values = "is10"\n', ""),
    ]
    np.testing.assert_array_equal(lab(toml=edits)[1]["audio"].values, expected)
    rows = "\n".join(f"{u},{a},{b}" for u, (a, b) in zip(STORED, VALUES, strict=True))
    (lab.folder / "audio.csv").write_text(f"utt,f0,f1\n{rows}\n")
    edits = [('file = "audio.npz"', 'file = "audio.csv"'), ('values = "is10"\n', "")]
    np.testing.assert_array_equal(lab(toml=edits)[1]["audio"].values, expected)
    edits[1] = ('values = "is10"', 'values = ["f1"]')
    np.testing.assert_array_equal(lab(toml=edits)[1]["audio"].values, expected[:, 1:])


def test_splits_by_dialogue_and_by_default(lab):
    no_column = [('split = "fold"\n', ""), ('[split]\ndev = "val"\n', "")]
    by_dialogue = '[dialogues]\nval = ["Ses01F_b"]\ntest = ["Ses05F_c"]\n'
    corpus, _ = lab(toml=[*no_column[:1], ('[split]\ndev = "val"\n', by_dialogue)])
    assert list(corpus.table["split"]) == ["val", "val", "train", "test"]
    assert list(lab(toml=no_column)[0].table["split"]) == ["val", "val", "val", "test"]  # one dialogue a session
    meld = [('corpus = "iemocap6"', 'corpus = "meld"'), ('"happy"', '"joy"'), ('"frustrated"', '"anger"')]
    with pytest.raises(CorpusError, match="no split; name its column"):
        lab(toml=[*no_column, *meld])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[columns]", "[column]", r"unknown keys \['column'\], missing keys \['columns'\]"),
        ('corpus = "iemocap6"', 'corpus = "iemocap"', "corpus = 'iemocap'.*expected one of"),
        ('unlabelled = "drop"', 'unlabelled = "yes"', "unlabelled = 'yes'"),
        ('name = "a lab"', "name = ", "lab.toml.*docstring"),
        ('utterance = "utt"', 'utterance = "id"', r"columns \['id'\] are not there; found \['utt'"),
        ('speaker = "who"\n', "", r"\[columns\]: unknown keys \[\], missing keys \['speaker'\]"),
        ('fru = "frustrated"', 'fru = "cross"', r"\['cross'\] are no classes of iemocap6"),
        ('xxx = ""', "", r"the values \['xxx'\] are not mapped"),
        ('dev = "val"', "", r"the values \['dev'\] are not mapped"),
        ('[split]\ndev = "val"', "[dialogues]\nval = []\ntest = []", r"the values \['dev'\]"),
        ('ids = "utt"', 'ids = "id"', r"\[features.audio\]: cannot read .*id is not a file"),
        ('file = "audio.npz"', 'file = "none.npz"', "cannot read .*No such file"),
        ('modality = "audio"', 'modality = "sound"', "modality = 'sound'"),
        ('fitted_on = "train"', "", r"missing keys \['fitted_on'\]"),
    ],
)
def test_what_is_wrong_in_the_toml_file_is_named(lab, old, new, message):
    with pytest.raises(CorpusError, match=message):
        lab(toml=[(old, new)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b2,", "b1,", "duplicate utterance ids.*'b1'"),
        ("01M,fru,train", "01M,fru,test", "dialogues that cross splits"),
        ("01F_b,7", "01F_b,3", "2 turns are no numbers, or twice"),
        ("01F_b,7", "01F_b,", "1 turns are no numbers"),
        ("05F,fru", "01F,fru", "test speakers who also train"),
        ("c1,Ses05F_c", "c9,Ses05F_c", "1 utterances are not found, first c9"),
    ],
)
def test_what_is_wrong_in_the_table_is_named(lab, old, new, message):
    with pytest.raises(CorpusError, match=message):
        lab(csv=[(old, new)])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"is10": np.where(VALUES == 6, np.nan, VALUES)}, "NaN or infinity in 1 rows, first b2"),
        ({"utt": np.array(["c1", "a1", "a1", "b2", "b1"])}, r"duplicate ids, first \['a1'\]"),
        ({"is10": VALUES[:4]}, r"5 ids for values of shape \(4, 2\)"),
        ({"is10": VALUES[:, 0]}, r"expected numbers of shape \(n, ...\)"),
        ({"is10": VALUES.astype(str)}, "type <U"),
        ({"is10": VALUES.astype(object)}, "cannot read .*allow_pickle"),
    ],
)
def test_what_is_wrong_in_an_array_is_named(lab, arrays, message):
    with pytest.raises(CorpusError, match=message):
        lab(**arrays)


def test_files_that_are_not_utf8_are_refused(lab):
    lab()
    (lab.folder / "utterances.csv").write_bytes(CSV.encode("latin-1"))
    with pytest.raises(CorpusError, match="utterances.csv.*UTF-8"):
        prepared.read(lab.folder / "lab.toml")
    (lab.folder / "lab.toml").write_bytes(TOML.replace("a lab", "caf\u00e9").encode("latin-1"))
    with pytest.raises(CorpusError, match="lab.toml"):
        prepared.read(lab.folder / "lab.toml")


def test_several_values_may_share_a_class_and_some_have_none(lab):
    four = [('corpus = "iemocap6"', 'corpus = "iemocap4"'), ('"frustrated"', '"happy"')]
    corpus, _ = lab(toml=four)
    assert list(corpus.table["utterance"]) == ORDER and set(corpus.table["label"]) == {0}
    all_of_them = {"utt": np.array([*ORDER, "a2", "a3"]), "is10": np.ones((6, 2))}
    kept, _ = lab(toml=[*four, ('"drop"', '"keep"')], **all_of_them)
    assert list(kept.table["label"]) == [0, 0, 0, -1, -1, 0]


SCORES = (
    CSV.replace(",emo,", ",score,")
    .replace("0.0,train", "-2.6,train")
    .replace(",fru,", ",1.5,")
    .replace(",xxx,", ",nan,")
)
SCORED = [
    ('corpus = "iemocap6"', 'corpus = "mosi"'),
    ('label = "emo"', 'score = "score"'),
    ('[labels]\n0 = "happy"\nfru = "frustrated"\nxxx = ""\n', ""),
]


def scored(lab, toml=(), csv=(), **arrays):
    return lab(toml=[*SCORED, *toml], csv=[(CSV, SCORES), *csv], **arrays)


def test_scores_settle_the_classes_of_a_sentiment_corpus(lab):
    corpus, features = scored(lab, csv=[("02F,0,dev", "02F,0.2,dev")])
    assert list(corpus.table["utterance"]) == ORDER and len(features["audio"].values) == 4
    np.testing.assert_allclose(corpus.table["score"], [-2.6, 1.5, 0.2, 1.5])
    assert [corpus.labels[k] for k in corpus.table["label"]] == ["-3", "2", "0", "2"]
    all_of_them = {"utt": np.array([*ORDER, "a2", "a3"]), "is10": np.ones((6, 2))}
    kept, _ = scored(lab, toml=[('"drop"', '"keep"')], **all_of_them)
    assert kept.table["label"].tolist() == [0, 5, 3, -1, -1, 5] and kept.table["score"].isna().sum() == 2


@pytest.mark.parametrize(
    ("toml", "csv", "message"),
    [
        ([('score = "score"', 'label = "score"')], [], r"unknown keys \['label'\], missing keys \['score'\]"),
        ([("[split]", "[labels]\n[split]")], [], r"unknown keys \['labels'\]"),
        ([], [("-2.6", "3.2")], r"utterances.csv: 1 scores are not numbers from -3 to 3, first {'b1': '3.2'}"),
        ([], [("-2.6", "good")], "1 scores are not numbers.*'good'.*Scale or empty them"),
    ],
)
def test_what_is_wrong_with_scores_is_named(lab, toml, csv, message):
    with pytest.raises(CorpusError, match=message):
        scored(lab, toml, csv)


def test_scores_are_only_for_sentiment(lab):
    with pytest.raises(CorpusError, match=r"\[columns\]: unknown keys \['score'\]"):
        lab(toml=[('label = "emo"', 'label = "emo"\nscore = "emo"')])


def test_ravdess_has_a_default_split(lab):
    toml = [
        ('corpus = "iemocap6"', 'corpus = "ravdess"'), ('"frustrated"', '"calm"'), ('split = "fold"\n', ""),
        ('[split]\ndev = "val"\n', ""),
    ]  # fmt: skip
    csv = [("01M", "02"), ("01F,", "02,"), ("0,02F", "0,03"), ("05F,", "24,")]
    corpus, _ = lab(toml=toml, csv=csv)  # Luna-Jimenez' first fold: actor 2 tests, 3 validates, 24 trains
    assert list(corpus.table["split"]) == ["test", "test", "val", "train"]
    with pytest.raises(CorpusError, match="speakers .'01F'.*01 to 24"):
        lab(toml=toml, csv=csv[:1])


SEQUENCES = np.arange(5 * 3 * 2, dtype=np.float64).reshape(5, 3, 2)  # n t d
IN_TIME = 'modality = "audio"\ntime_axis = 1'
IN_ORDER = [STORED.index(u) for u in ORDER]


def test_sequences_have_time_on_either_axis(lab):
    for axis, values in ((1, SEQUENCES), (2, SEQUENCES.swapaxes(1, 2))):
        _, features = lab(toml=[('modality = "audio"', IN_TIME.replace("1", str(axis)))], is10=values)
        np.testing.assert_array_equal(features["audio"].values, SEQUENCES[IN_ORDER].reshape(12, 2))
        assert features["audio"].lengths.tolist() == [3] * 4 and features["audio"].lengths.dtype == np.int64
        assert features["audio"].values.dtype == np.float32


def test_padding_is_cut_off_by_the_lengths(lab):
    padded, steps = SEQUENCES.copy(), np.array([2, 1, 3, 1, 2])
    for row, n in zip(padded, steps, strict=True):
        row[n:] = np.nan
    toml = [('modality = "audio"', f'{IN_TIME}\nlengths = "steps"')]
    array = lab(toml=toml, is10=padded, steps=steps)[1]["audio"]
    assert array.lengths.tolist() == [2, 1, 3, 2]
    np.testing.assert_array_equal(array.values, np.concatenate([SEQUENCES[i, : steps[i]] for i in IN_ORDER]))
    np.save(lab.folder / "audio.npy", padded)
    (lab.folder / "ids.txt").write_text("\n".join(STORED))
    (lab.folder / "steps.txt").write_text("\n".join(map(str, steps)))
    toml = [
        ('file = "audio.npz"', 'file = "audio.npy"'), ('ids = "utt"', 'ids = "ids.txt"'), ('values = "is10"\n', ""),
        ('modality = "audio"', f'{IN_TIME}\nlengths = "steps.txt"'),
    ]  # fmt: skip
    np.testing.assert_array_equal(lab(toml=toml)[1]["audio"].values, array.values)
    padded[STORED.index("b2"), 0] = np.inf
    with pytest.raises(CorpusError, match="NaN or infinity in 1 rows, first b2"):
        lab(toml=[('modality = "audio"', f'{IN_TIME}\nlengths = "steps"')], is10=padded, steps=steps)


@pytest.mark.parametrize(
    ("new", "arrays", "message"),
    [
        (IN_TIME, {}, r"\(5, 2\).*expected numbers of shape \(n, t, d\)"),
        (IN_TIME.replace("1", "2"), {}, r"expected numbers of shape \(n, d, t\)"),
        (IN_TIME.replace("1", "3"), {}, "time_axis = 3"),
        ('modality = "audio"\nlengths = "steps"', {}, "`lengths` needs it"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES}, "cannot read .*steps is not a file"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES, "steps": np.ones(4, int)}, r"\(4,\).*one whole number"),
        (f'{IN_TIME}\nlengths = "steps"', {"is10": SEQUENCES, "steps": np.ones(5)}, "one whole number per id"),
        (
            f'{IN_TIME}\nlengths = "steps"',
            {"is10": SEQUENCES, "steps": np.array([0, 0, 1, 0, 4])},
            "3 lengths are not from 1 to 3, first b1 with 4.*one step of zeros",
        ),
    ],
)
def test_what_is_wrong_with_sequences_is_named(lab, new, arrays, message):
    with pytest.raises(CorpusError, match=message):
        lab(toml=[('modality = "audio"', new)], **arrays)


@pytest.fixture(scope="module")
def prepare():
    """The module results/real/prepare.py, which makes the root of the records on real data."""
    file = CHECKOUT / "results" / "real" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("corpus", ["iemocap4", "iemocap6", "iemocap8", "mosi"])
def test_the_real_tables_have_the_official_counts(prepare, corpus, shared_data, tmp_path):
    found, features = prepared.read(prepare.described(corpus, shared_data, tmp_path, seconds=False))
    table.expect(found)
    if corpus == "iemocap6":
        assert found.counts()["dialogues"] == {"train": 108, "val": 12, "test": 31}
        assert features["audio"].values.shape == (7433, 47)
    if corpus == "mosi":
        assert found.counts()["dialogues"] == {"train": 51, "val": 11, "test": 31}
        assert {name: array.values.shape for name, array in features.items()} == {
            "text": (2199, 100), "audio": (2199, 73), "visual": (2199, 100)
        }  # fmt: skip


def test_the_table_of_spectrograms_in_seconds_says_so(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "in_seconds", lambda folder, file: None)
    stretched, seconds = tmp_path / "stretched", tmp_path / "seconds"
    stretched.mkdir()
    seconds.mkdir()
    before, after = (
        tomllib.loads(prepare.described("iemocap4", tmp_path, work, seconds=work == seconds).read_text())
        for work in (stretched, seconds)
    )
    was, now = (about["features"].pop("audio") for about in (before, after))
    assert before == after
    assert (was["time_axis"], now["time_axis"], now["lengths"], now["file"]) == (2, 1, "steps", "logmel.npz")
    assert "12.5 steps a second" in now["extractor"] and "lengths" not in was


def test_stretched_spectrograms_come_back_to_seconds(prepare, tmp_path):
    """Against the mean of a picture with 1000 columns a step, for utterances of 0.5, 5.91 and 20 s."""
    seconds, bands, columns, fine = (0.5, 5.91, 20.0), 64, 96, 1000
    level = np.random.default_rng(0).integers(256, size=(3, bands, columns), dtype=np.uint8)
    ids = [f"u{k}" for k in range(3)]
    np.savez(tmp_path / "logmel.npz", utt=np.array(ids), level=level)
    spans = pd.DataFrame(
        {"utt": ids, "start": [3.0, 0.0, 1.0], "end": [3.0 + seconds[0], seconds[1], 1.0 + seconds[2]]}
    )
    spans.to_csv(tmp_path / "utterances.csv", index=False)
    prepare.in_seconds(tmp_path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        values, steps = found["level"], found["steps"]
    assert list(steps) == [7, 74, 75] and values.shape == (3, 75, bands)
    for k, duration in enumerate(seconds):
        for t in range(steps[k]):
            times = (t + (np.arange(fine) + 0.5) / fine) / 12.5
            seen = (times[times < min(duration, 6.0)] / duration * columns).astype(int)
            np.testing.assert_allclose(values[k, t], level[k][:, seen].mean(axis=1), atol=0.6)
