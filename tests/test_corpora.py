"""Readers find what was written, checks fail when they should, and strangers' pickles run nothing."""

import collections
import os
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from releases import dump, iemocap_layout, items, meld_files, vectors

from merlib.corpora import iemocap, meld, official, pickles, table, twin
from merlib.corpora.files import atomic
from merlib.corpora.table import CorpusError


@pytest.fixture(scope="module")
def small():
    return {name: twin.make(name, scale=0.1)[0] for name in twin.TWINS}


# --- the table and its checks


def _with(corpus, **columns):
    return table.Corpus(corpus.name, corpus.labels, corpus.table.assign(**columns), corpus.source)


BREAKS = {
    "duplicate utterance ids": lambda t: {"utterance": t["utterance"].where(t.index != 1, t["utterance"][0])},
    "labels outside": lambda t: {"label": t["label"].where(t.index != 0, 6)},
    "splits other than": lambda t: {"split": t["split"].where(t.index != 0, "dev")},
    "dialogues that cross splits": lambda t: {"split": t["split"].where(t.index != 0, "test")},
    "turns that are not": lambda t: {"turn": t["turn"].where(t.index != 3, 7)},
    "dialogues in several pieces": lambda t: {
        "dialogue": t["dialogue"].where(t["dialogue"] != t["dialogue"].iloc[-1], t["dialogue"][0]),
        "split": "train",
    },
    "test speakers who also train": lambda t: {"speaker": t["speaker"].replace("05F", "01F")},
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_table_is_refused_and_the_rows_are_named(small, what):
    corpus = small["iemocap6"]
    table.check(corpus)
    with pytest.raises(CorpusError, match=f"{what}.*first"):
        table.check(_with(corpus, **BREAKS[what](corpus.table)))


def test_speakers_may_return_where_the_protocol_allows_it(small):
    table.check(_with(small["meld"], speaker="Joey"))


def test_official_counts_are_those_of_the_published_table():
    total = {name: np.sum(list(parts.values()), axis=0).tolist() for name, parts in official.CLASSES.items()}
    assert total["iemocap6"] == [648, 1084, 1708, 1103, 1041, 1849] and sum(total["iemocap6"]) == 7433
    assert dict(zip(official.LABELS["meld"], total["meld"], strict=True)) == {
        "joy": 2308, "sadness": 1002, "neutral": 6436, "anger": 1607, "disgust": 361, "fear": 358, "surprise": 1636,
    }  # fmt: skip
    assert sum(total["iemocap6_majority"]) == 7380


def test_one_utterance_too_few_is_noticed():
    corpus, _ = twin.make("meld")
    short = table.Corpus(corpus.name, corpus.labels, corpus.table.iloc[:-1], "a copy")
    with pytest.raises(CorpusError, match="test has 2609 utterances in 280 dialogues.*expected 2610 in 280"):
        table.expect(short)


def test_majority_labels_cannot_pass_for_the_conversational_release():
    corpus, _ = twin.make("iemocap6")
    lost = corpus.table.index[corpus.table["label"] == 0][:53]
    rows = corpus.table.drop(index=lost).drop(columns="turn")
    with pytest.raises(CorpusError, match="595 happy: they are iemocap6_majority"):
        table.expect(table.build("iemocap6", rows, "a copy"))


def test_a_corpus_is_read_as_it_was_saved(small, tmp_path):
    table.save(small["meld"], tmp_path)
    first = (tmp_path / "utterances.parquet").read_bytes()
    loaded = table.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.table, small["meld"].table)
    assert (loaded.name, loaded.labels, loaded.source) == ("meld", small["meld"].labels, small["meld"].source)
    table.save(loaded, tmp_path)
    assert (tmp_path / "utterances.parquet").read_bytes() == first


@pytest.mark.parametrize("file", ["utterances.parquet", "corpus.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_corpus_is_refused(small, tmp_path, file, damage):
    table.save(small["meld"], tmp_path)
    path = tmp_path / file
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="import the corpus again"):
        table.load(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    if not (child := os.fork()):
        with atomic(path) as part:
            part.write_text("half")
            os.kill(os.getpid(), 9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert path.read_text() == "old"
    with atomic(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


# --- IEMOCAP


def test_the_default_split_is_a_fixed_balanced_draw():
    names = [f"Ses0{s}{sex}_impro{i:02d}" for s in range(1, 6) for sex in "FM" for i in range(8)]
    split = iemocap.default_split(names)
    assert split == iemocap.default_split(reversed(names))
    drawn = sorted(d for d, s in split.items() if s == "val")
    assert drawn[:3] == ["Ses01F_impro07", "Ses01M_impro04", "Ses01M_impro07"]  # for ever
    assert [d[:5] for d in drawn] == [f"Ses0{s}" for s in (1, 2, 3, 4) for _ in range(3)]
    assert {d for d, s in split.items() if s == "test"} == {d for d in names if d.startswith("Ses05")}
    assert drawn != sorted(d for d, s in iemocap.default_split(names, seed=0).items() if s == "val")


def test_the_official_layout_gives_majority_labels_only(small, tmp_path):
    corpus = small["iemocap6"]
    unsure = dict.fromkeys(corpus.ids[:2], "xxx") | {corpus.ids[5]: "oth"}
    folder = iemocap_layout(tmp_path, corpus, majority=unsure)
    wav = folder / "Session1/sentences/wav" / corpus.table["dialogue"][4] / f"{corpus.ids[4]}.wav"
    wav.parent.mkdir(parents=True)
    wav.touch()
    found = iemocap.read(folder)
    kept = corpus.table[~corpus.table["utterance"].isin(unsure)]
    assert found.name == "iemocap6_majority"
    got = found.table.set_index("utterance").loc[list(kept["utterance"])]
    for column in ("dialogue", "speaker", "label", "text"):
        assert list(got[column]) == list(kept[column])
    np.testing.assert_allclose(got[["start", "end"]], kept[["start", "end"]], atol=1e-4)
    assert got.loc[corpus.ids[4], "audio"] == str(wav.relative_to(folder)) and (got["audio"] != "").sum() == 1
    with pytest.raises(CorpusError, match="majority labels only.*7433"):
        iemocap.read(folder, labels="conversational")


def test_a_list_of_labels_makes_the_conversational_release(small, tmp_path):
    corpus = small["iemocap6"]
    folder = iemocap_layout(tmp_path, corpus, majority=dict.fromkeys(corpus.ids[:2], "xxx"))
    labels = {u: corpus.labels[k] for u, k in zip(corpus.ids, corpus.table["label"], strict=True)}
    found = iemocap.read(folder, labels=labels)
    assert found.name == "iemocap6" and set(found.ids) == set(corpus.ids)
    assert dict(zip(found.ids, found.table["label"], strict=True)) == dict(
        zip(corpus.ids, corpus.table["label"], strict=True)
    )
    with pytest.raises(CorpusError, match="1 labelled utterances are not in the release"):
        iemocap.read(folder, labels=labels | {"Ses01F_impro99_F000": "sad"})


def test_an_incomplete_release_is_refused(small, tmp_path):
    folder = iemocap_layout(tmp_path, small["iemocap6"])
    script = next((folder / "Session2/dialog/transcriptions").glob("Ses*"))
    text = script.read_text(encoding="latin-1")
    script.write_text("\n".join(text.splitlines()[3:]))
    with pytest.raises(CorpusError, match=re.escape(f"{script}") + ".*no transcript"):
        iemocap.read(folder)
    script.unlink()
    with pytest.raises(CorpusError, match="expected a transcription"):
        iemocap.read(folder)
    (folder / "Session4").rename(folder / "Session6")
    with pytest.raises(CorpusError, match="'Session4'.*all five sessions"):
        iemocap.read(folder)


def test_the_real_majority_labels_are_7380(shared_data, tmp_path):
    rows = pd.read_csv(shared_data / "iemocap" / "utterances.csv").rename(columns={"utt": "utterance"})
    rows = rows.assign(label=0, split=rows["session"].map(lambda s: "test" if s == 5 else "train"))
    rows = table.Corpus("iemocap6_majority", official.SIX, rows, "real")
    folder = iemocap_layout(tmp_path, rows, majority=dict(zip(rows.ids, rows.table["emotion"], strict=True)))
    found = iemocap.read(folder)
    table.expect(found)
    assert found.counts()["dialogues"] == {"train": 108, "val": 12, "test": 31}


# --- MELD

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


@pytest.fixture
def meld_folder(tmp_path):
    train = (
        b'1,You must\x92ve had your hands full.,Chandler,neutral,x,61,4,8,21,"00:16:16,059","00:16:21,731"\n'
        b'2,"\xe2\x80\x9cNA\xe2\x80\x9d, caf\xc3\xa9",The Interviewer ,Joy,x,61,1,8,21,"0:36:59,425","0:37:01,439"\n'
        b'3,NA,Joey,fear,x,0,3,8,21,"00:00:01,000","00:00:02,000"\n'
    )
    for part, rows in (
        ("train", train),
        ("dev", "1,It\u0092s on\u0085,Ross,anger,x,110,7,1,1,0:0:1.5,0:0:2.25\n".encode()),
    ):
        (tmp_path / f"{part}_sent_emo.csv").write_bytes(HEADER.encode() + rows)
    rows = "".join(f'{i},hi,Ross,sadness,x,125,{i},1,1,"0:0:1,0","0:0:2,0"\n' for i in (3, 4))
    (tmp_path / "test_sent_emo.csv").write_text("\ufeff" + HEADER + rows, encoding="utf-8")
    for clip in ("dev_splits_complete/dia110_utt7", "output_repeated_splits_test/dia125_utt3"):
        (tmp_path / f"{clip}.mp4").parent.mkdir()
        (tmp_path / f"{clip}.mp4").touch()
    return tmp_path


def test_quirks_of_the_official_csv_files_are_mended(meld_folder):
    t = meld.read(meld_folder).table.set_index("utterance")
    names = ["train_dia0_utt3", "train_dia61_utt1", "train_dia61_utt4"]
    assert list(t.index) == [*names, "dev_dia110_utt7", "test_dia125_utt3", "test_dia125_utt4"]
    texts = [
        "NA",
        "\u201cNA\u201d, caf\u00e9",
        "You must\u2019ve had your hands full.",
        "It\u2019s on\u2026",
        "hi",
        "hi",
    ]
    assert list(t["text"]) == texts
    assert list(t["dialogue"][:4]) == ["train_0", "train_61", "train_61", "dev_110"]
    assert list(t["turn"]) == [0, 0, 1, 0, 0, 1]
    assert t.loc[names[1], ["speaker", "start", "end"]].tolist() == ["The Interviewer", 2219.425, 2221.439]
    assert t.loc["dev_dia110_utt7", ["start", "end", "split"]].tolist() == [1.5, 2.25, "val"]
    assert [official.LABELS["meld"][k] for k in t["label"][:4]] == ["fear", "joy", "neutral", "anger"]
    videos = t["video"][t["video"] != ""]
    assert videos.to_dict() == {
        "test_dia125_utt3": "output_repeated_splits_test/dia125_utt3.mp4"
    }  # the dev clip is bad


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"Emotion", b"Feeling", "columns .'Emotion'. are missing"),
        (b"neutral", b"bored", "emotions .'bored'."),
        (b"00:16:16,059", b"soon", "MELD time 'soon'"),
    ],
)
def test_other_csv_files_are_refused(meld_folder, old, new, message):
    file = meld_folder / "train_sent_emo.csv"
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(CorpusError, match=message):
        meld.read(meld_folder)
    file.unlink()
    with pytest.raises(CorpusError, match="train_sent_emo.csv is not there"):
        meld.read(meld_folder)


def test_the_real_csv_files_have_the_official_counts(shared_data):
    corpus = meld.read(shared_data / "meld")
    table.expect(corpus)
    assert corpus.counts()["dialogues"] == {"train": 1038, "val": 114, "test": 280}
    assert not corpus.table["text"].str.contains("[\x80-\x9f\ufffd]").any()
    assert (corpus.table["end"] >= corpus.table["start"]).all()


# --- pickles: hostile ones run nothing


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def _hostile(marker) -> dict[str, bytes]:
    touch = f"touch {marker}"
    module = Call(__import__, "os")
    chain = Call(getattr, module, "system")
    return {
        "posix.system": pickle.dumps(Call(os.system, touch)),
        "builtins.eval": pickle.dumps(Call(eval, f"open({str(marker)!r}, 'w')")),
        "builtins.getattr": pickle.dumps([1, {"a": (chain,)}], protocol=4),
        "os.system": b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "builtins.exec": b"\x80\x02c__builtin__\nexec\nX\x01\x00\x00\x001\x85R.",
        "numpy.testing._private": b"\x80\x04\x8c\x05numpy\x8c\x16testing._private.utils\x93.",
        "collections.OrderedDict.fromkeys": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        "copyreg._reconstructor": pickle.dumps(Plain(), protocol=0),
        "numpy.load": pickle.dumps(np.array([Call(np.load, "x")], dtype=object)),
        "'zip'": pickle.dumps(Call(__import__("_codecs").encode, "a", "zip")),
    }


class Plain:
    pass


HOSTILE = list(_hostile("marker"))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path, what):
    marker, path = tmp_path / "marker", tmp_path / "features.pkl"
    path.write_bytes(_hostile(marker)[what])
    with pytest.raises(pickles.UnsafePickle, match=f"{re.escape(str(path))}.*{re.escape(what.split('.')[-1])}"):
        pickles.load(path)
    assert not marker.exists()


def test_the_hostile_pickles_are_hostile(tmp_path):
    for what in ("posix.system", "builtins.eval", "os.system"):
        pickle.loads(_hostile(tmp_path / what)[what])
        assert (tmp_path / what).exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])  # numpy 2 and numpy 1
def test_plain_data_is_read_from_every_protocol_and_numpy(tmp_path, protocol, core):
    data = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "objects": np.array([b"\xff\x00", [1, None]], dtype=object),
        "kinds": (1, 2.5, True, "caf\u00e9", b"\x80", {1, 2}, frozenset("a")),
        "dicts": [collections.OrderedDict(a=1), collections.defaultdict(list, {3: [4]})],
    }
    (tmp_path / "data.pkl").write_bytes(_renamed(pickle.dumps(data, protocol=protocol), core))
    found = pickles.load(tmp_path / "data.pkl")
    for key in ("array", "fortran", "big", "scalar", "objects"):
        np.testing.assert_array_equal(found[key], data[key])
        assert np.asarray(found[key]).dtype.newbyteorder("=") == np.asarray(data[key]).dtype.newbyteorder("=")
    assert (found["kinds"], found["dicts"]) == (data["kinds"], data["dicts"])


def _renamed(raw: bytes, core: bytes) -> bytes:
    """The pickle as the numpy whose core module is named `core` would have written it."""
    raw = re.sub(rb"cnumpy\._?core\.(\w+)\n", rb"c" + core + rb".\1\n", raw)  # protocols 0 to 3
    raw = re.sub(rb"\x95.{8}", b"", raw, flags=re.DOTALL, count=1)  # the frame's length, which may be left out
    for end in (b".multiarray", b".numeric"):  # protocols 4 and 5 give a name's length
        for old in (b"numpy._core", b"numpy.core"):
            raw = raw.replace(
                b"\x8c" + bytes([len(old + end)]) + old + end, b"\x8c" + bytes([len(core + end)]) + core + end
            )
    return raw


def test_a_pickle_of_python_2_is_read(tmp_path):
    data = np.array([1.5, -2.0], dtype="<f4").tobytes()
    raw = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq\x06"
        b"(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02f4q\tK\x00K\x01\x87q\nRq\x0b(K\x03U\x01<q\x0cNNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tq\rb\x89U\x08" + data + b"q\x0etq\x0fbc__builtin__\nset\n]U\x05caf\xe9!a\x85R\x86."
    )
    (tmp_path / "two.pkl").write_bytes(raw)
    array, names = pickles.load(tmp_path / "two.pkl")
    np.testing.assert_array_equal(array, np.array([1.5, -2.0], dtype=np.float32))
    assert names == {"caf\u00e9!"}


@pytest.mark.parametrize("raw", [b"", b"\x80\x04", b"not a pickle", pickle.dumps({"a": np.ones(9)})[:-9]])
def test_a_damaged_pickle_is_called_so(tmp_path, raw):
    (tmp_path / "features.pkl").write_bytes(raw)
    with pytest.raises(CorpusError, match="features.pkl: damaged"):
        pickles.load(tmp_path / "features.pkl")


# --- pickles: the releases


@pytest.mark.parametrize(("name", "visual"), [("iemocap6", True), ("meld", True), ("meld", False)])
@pytest.mark.parametrize("protocol", [2, 5])
def test_conv_emotion_releases_are_read(small, tmp_path, name, visual, protocol):
    corpus = small[name]
    found, arrays = pickles.conv_emotion(dump(tmp_path / "features.pkl", items(corpus, visual=visual), protocol))
    assert set(arrays) == ({"text", "audio", "visual"} if visual else {"text", "audio"})
    order = _same_utterances(found, corpus)
    for modality, array in arrays.items():
        np.testing.assert_array_equal(array.values, vectors(corpus, modality)[order])
        assert array.modality == modality and array.trained_on and array.version.startswith("features.pkl, sha256 ")


@pytest.mark.parametrize("name", ["iemocap6", "meld"])
def test_multiemo_folders_are_read(small, tmp_path, name):
    corpus = small[name]
    all_items = items(corpus)
    dump(tmp_path / "Speakers.pkl", (*all_items[:3], None, None, None, *all_items[6:]))
    for k, file in enumerate(("Text", "Audio", "Visual")):
        dump(tmp_path / f"{file}Features.pkl", all_items[3 + k], 4)
    found, arrays = pickles.multiemo(tmp_path)
    order = _same_utterances(found, corpus)
    for modality, array in arrays.items():
        np.testing.assert_array_equal(array.values, vectors(corpus, modality)[order])
    assert arrays["text"].trained_on == "labels of this corpus"


def _same_utterances(found, corpus) -> np.ndarray:
    """Rows of `corpus` in the order of `found`, by text and dialogue; labels and test dialogues agree."""
    of = {key: i for i, key in enumerate(zip(corpus.table["dialogue"], corpus.table["turn"], strict=True))}
    order = np.array([of[key] for key in zip(found.table["dialogue"], found.table["turn"], strict=True)])
    theirs = corpus.table.iloc[order]
    assert sorted(order) == list(range(len(corpus.table)))
    for column in ("label", "text"):
        assert list(found.table[column]) == list(theirs[column])
    assert ((found.table["split"] == "test").to_numpy() == (theirs["split"] == "test").to_numpy()).all()
    return order


def test_a_release_in_another_layout_is_refused(small, tmp_path):
    path = tmp_path / "features.pkl"
    good = list(items(small["iemocap6"]))
    dialogue = next(iter(good[3]))
    narrow = {**good[3], dialogue: [v[:2] for v in good[3][dialogue]]}
    short = {**good[3], dialogue: good[3][dialogue][1:]}
    for bad, message in (
        ([1, 2, 3], "found a list of 3 items; expected one of these layouts"),
        (tuple(good[:8]), "found a tuple of 8 items"),
        ((*good[:3], narrow, *good[4:]), "text has no vector of one width for every turn"),
        ((*good[:3], short, *good[4:]), "text has no vector of one width for every turn"),
        ((*good[:2], {d: [0] for d in good[2]}, *good[3:]), "found 0 label items with classes 0 to 5"),
        ((*good[:8], good[8][1:]), "1 dialogues are test for it or for us only"),
    ):
        with pytest.raises(CorpusError, match=message):
            pickles.conv_emotion(dump(path, bad))


def test_the_official_csv_files_can_be_written_and_read(small, tmp_path):
    corpus = small["meld"]
    found = meld.read(meld_files(tmp_path, corpus))
    assert list(found.table["label"]) == list(corpus.table["label"]) and found.counts() == corpus.counts()
