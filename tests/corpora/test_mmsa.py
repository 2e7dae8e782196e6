"""The pickles of CMU-MOSI and CMU-MOSEI of MMSA keep their utterances, scores and real steps."""

import copy
import os
import pickle

import numpy as np
import pytest
from releases import dump

from merlib import cli
from merlib.corpora import mmsa, safe_pickle
from merlib.data.table import CorpusError
from merlib.errors import Notice

VIDEOS = {"train": ("03bS_n-x", "7JsX8y1ysxY"), "valid": ("_dI--eQ6qVU",), "test": ("tmZoasNr4rU", "v0")}
CLIPS = (10, 2, 1)  # of every video, in the order of the file
STEPS = {"text": 6, "audio": 8, "vision": 7}
WIDTHS = {"mosi": {"text": 3, "audio": 5, "vision": 20}, "mosei": {"text": 3, "audio": 74, "vision": 35}}


def release(corpus: str = "mosi", *, aligned: bool = False, front: bool = False) -> tuple[dict, dict]:
    """The dictionary of such a file, padded at the end or in front, and {id: {theirs: real steps, t d}}."""
    rng, data, real = np.random.default_rng(0), {}, {}
    for split, videos in VIDEOS.items():
        ids = [f"{video}$_${clip}" for video in videos for clip in CLIPS]
        part = {
            "id": ids,
            "raw_text": np.array([f"said {u}" for u in ids], dtype=object),
            "annotations": ["-"] * len(ids),
        }
        part["regression_labels"] = rng.uniform(-3, 3, len(ids)).astype(np.float32)
        part["classification_labels"] = np.zeros(len(ids))
        longest = dict.fromkeys(STEPS, 6) if aligned else STEPS
        lengths = {m: rng.integers(1, longest[m] + 1, len(ids)) for m in STEPS}
        if aligned:
            lengths = dict.fromkeys(STEPS, lengths["text"])
        for m, width in WIDTHS[corpus].items():
            part[m] = np.zeros((len(ids), longest[m], width), dtype=np.float64 if m == "vision" else np.float32)
            for row, (u, n) in enumerate(zip(ids, lengths[m], strict=True)):
                steps = rng.normal(size=(n, width)).astype(part[m].dtype)
                part[m][row, slice(longest[m] - n, None) if front else slice(n)] = steps
                real.setdefault(u, {})[m] = steps.astype(np.float32)
        mask = np.arange(longest["text"]) < lengths["text"][:, None]
        part["text_bert"] = np.stack([mask * 7, mask, mask * 0], axis=1).astype(np.float32)
        if not aligned:
            part |= {f"{m}_lengths": [int(n) for n in lengths[m]] for m in ("audio", "vision")}
        data[split] = part
    return data, real


def sequences(array, corpus) -> dict[str, np.ndarray]:
    """{utterance: its steps}."""
    return dict(zip(corpus.ids, np.split(array.values, array.lengths.cumsum()[:-1]), strict=True))


@pytest.mark.parametrize("corpus", ["mosi", "mosei"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("front", [True, False])
def test_utterances_scores_and_steps_are_those_of_the_file(tmp_path, corpus, aligned, front):
    data, real = release(corpus, aligned=aligned, front=front)
    read, arrays = mmsa.read(dump(tmp_path / "aligned_50.pkl", data, 4))
    assert read.name == corpus and list(arrays) == ["text", "audio", "visual"]
    t = read.table.set_index("utterance")
    assert sorted(t.index) == sorted(real) and list(t["turn"]) == [0, 1, 2] * 5
    assert list(t.index[:3]) == ["03bS_n-x$_$1", "03bS_n-x$_$2", "03bS_n-x$_$10"]
    for split, ours in (("train", "train"), ("valid", "val"), ("test", "test")):
        part = data[split]
        for u, score, text in zip(part["id"], part["regression_labels"], part["raw_text"], strict=True):
            row = t.loc[u]
            assert (row["split"], row["text"], row["dialogue"]) == (ours, text, u.split("$")[0])
            assert row["score"] == score
            assert row["label"] == round(float(score)) + 3
    for ours, theirs in (("text", "text"), ("audio", "audio"), ("visual", "vision")):
        steps = sequences(arrays[ours], read)
        assert arrays[ours].values.dtype == np.float32 and arrays[ours].lengths.dtype == np.int64
        for u in real:
            np.testing.assert_array_equal(steps[u], real[u][theirs])


def test_zeros_within_are_kept_and_an_utterance_without_steps_has_one(tmp_path):
    data, _ = release(aligned=True)
    data["train"]["vision"][0] = 0
    data["train"]["audio"][1] = 0
    data["train"]["audio"][1, [2, 4]] = 1.5
    corpus, arrays = mmsa.read(dump(tmp_path / "aligned_50.pkl", data))
    np.testing.assert_array_equal(sequences(arrays["visual"], corpus)["03bS_n-x$_$10"], np.zeros((1, 20)))
    expected = data["train"]["audio"][1, :5]
    np.testing.assert_array_equal(sequences(arrays["audio"], corpus)["03bS_n-x$_$2"], expected)


def test_aligned_steps_stay_together_where_the_padding_is_in_front(tmp_path):
    data, _ = release(aligned=True, front=True)
    for theirs, first in (("text", 2), ("audio", 4), ("vision", 3)):
        data["train"][theirs][0] = 0
        data["train"][theirs][0, first:] = first
    corpus, arrays = mmsa.read(dump(tmp_path / "aligned_50.pkl", data))
    u = "03bS_n-x$_$10"
    for ours, theirs in (("text", "text"), ("audio", "audio"), ("visual", "vision")):
        np.testing.assert_array_equal(sequences(arrays[ours], corpus)[u], data["train"][theirs][0, 2:])


def test_lengths_win_over_what_lies_beyond_them(tmp_path):
    data, _ = release()
    data["test"]["audio"][0] = 1
    data["test"]["audio_lengths"][0] = 3
    data["test"]["vision_lengths"][0] = 0
    corpus, arrays = mmsa.read(dump(tmp_path / "unaligned_50.pkl", data))
    assert len(sequences(arrays["audio"], corpus)["tmZoasNr4rU$_$10"]) == 3
    assert len(sequences(arrays["visual"], corpus)["tmZoasNr4rU$_$10"]) == 1


def test_infinities_of_covarep_become_zero_and_are_counted(tmp_path):
    clean, _ = release()
    data = copy.deepcopy(clean)
    for split, row in (("train", 0), ("test", 2)):
        data[split]["audio"][row, 0, 1] = -np.inf
        clean[split]["audio"][row, 0, 1] = 0
    with pytest.warns(Notice, match="unaligned_50.pkl: 2 values of audio that are not finite set to 0"):
        _, arrays = mmsa.read(dump(tmp_path / "unaligned_50.pkl", data))
    _, expected = mmsa.read(dump(tmp_path / "clean.pkl", clean))
    np.testing.assert_array_equal(arrays["audio"].values, expected["audio"].values)
    assert arrays["audio"].extractor == "MMSA COVAREP, unaligned, 2 values that are not finite set to 0"
    assert expected["audio"].extractor == "MMSA COVAREP, unaligned"
    data["valid"]["text"][1, 0] = np.nan
    with pytest.raises(CorpusError, match=r"text of _dI--eQ6qVU\$_\$2 has NaN"):
        mmsa.read(dump(tmp_path / "unaligned_50.pkl", data))


def _without(data, split, key):
    del data[split][key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("valid"), r"found test, train; expected a dictionary of"),
        (lambda d: _without(d, "test", "vision"), r"test has no vision"),
        (lambda d: d["train"]["id"].__setitem__(2, "video_1"), r"1 ids of train are not video\$_\$clip, first video_1"),
        (lambda d: d["train"]["id"].__setitem__(2, "03bS_n-x$_$2"), "duplicate utterance ids"),
        (
            lambda d: d["valid"].update(audio=d["valid"]["audio"][:2]),
            "valid/audio is float32 of shape .2, 8, 5. for 3 ids",
        ),
        (lambda d: d["valid"].update(raw_text=["a"]), "3 ids, 3 regression_labels, 1 raw_text"),
        (lambda d: d["valid"].update(audio=d["valid"]["audio"][:, :, :4]), "audio has several widths"),
        (
            lambda d: [p.update(audio=p["audio"][:, :, :4]) for p in d.values()],
            r"have \(4, 20\) columns; expected one of",
        ),
        (
            lambda d: d["valid"].update(audio_lengths=[-1, 2, 2]),
            r"lengths of shape \(3,\); expected 3 numbers, none below 0",
        ),
        (lambda d: d["valid"]["regression_labels"].__setitem__(0, 3.5), "scores outside -3 to 3"),
        (lambda d: d["valid"]["id"].__setitem__(0, "v0$_$9"), "dialogues that cross splits"),
        (lambda d: d.update(train=d["valid"], valid=d["train"]), "train should be the largest. Are its parts swapped"),
    ],
)
def test_another_layout_is_refused_with_what_was_found(tmp_path, change, message):
    data, _ = release()
    change(data)
    with pytest.raises(CorpusError, match=message):
        mmsa.read(dump(tmp_path / "unaligned_50.pkl", data))


def test_an_import_wants_the_whole_corpus(tmp_path, data_folder, capsys):
    path = dump(tmp_path / "unaligned_50.pkl", release()[0])
    with pytest.raises(SystemExit) as end:
        cli.main(["data", "import", "mmsa", str(path), "lab"])
    assert end.value.code == 1 and "expected 2199 utterances in 93 dialogues" in capsys.readouterr().err


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_hostile_file_runs_nothing(tmp_path):
    data, _ = release()
    data["test"]["raw_text"] = Touch(tmp_path / "marker")
    with pytest.raises(safe_pickle.UnsafePickle, match="system"):
        mmsa.read(dump(tmp_path / "unaligned_50.pkl", data))
    assert not (tmp_path / "marker").exists()
    pickle.loads((tmp_path / "unaligned_50.pkl").read_bytes())
    assert (tmp_path / "marker").exists()
