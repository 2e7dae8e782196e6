"""Features are read as they were written, or not at all."""

import json
import os
import signal
import tracemalloc

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from merlib.data import store
from merlib.data.table import Array
from merlib.errors import FeatureError
from merlib.twins import dialogues


@pytest.fixture(scope="module")
def tiny():
    return dialogues.make("meld", seed=1, scale=0.01)


@pytest.fixture
def stored(tiny, tmp_path):
    """A corpus folder with one feature."""
    corpus, values = tiny
    store.add(tmp_path, corpus, "audio", Array(values["audio"], "audio", "an extractor", fitted_on="nothing"))
    return tmp_path


def test_a_feature_is_read_as_it_was_written(stored, tiny):
    corpus, values = tiny
    feature = store.read(stored, "audio", ids=corpus.ids, corpus="meld")
    np.testing.assert_array_equal(feature.values, values["audio"])
    assert feature.passport.summary() == "audio: an extractor (32)"
    assert feature.passport.ids == corpus.ids and feature.passport.sha256 == store.digest(values["audio"])
    assert store.read_passport(store.path(stored, "audio")) == feature.passport


def test_a_permutation_of_the_ids_reorders_the_rows(stored, tiny):
    corpus, values = tiny
    order = np.random.default_rng(0).permutation(len(corpus.ids))
    feature = store.read(stored, "audio", ids=tuple(corpus.ids[i] for i in order))
    np.testing.assert_array_equal(feature.values, values["audio"][order])


def test_missing_and_foreign_utterances_are_named(stored, tiny):
    ids = tiny[0].ids
    with pytest.raises(FeatureError, match=f"1 utterances missing, first new; 1 foreign, first {ids[0]}"):
        store.read(stored, "audio", ids=("new", *ids[1:]))
    with pytest.raises(FeatureError, match="no such feature; .* has audio"):
        store.read(stored, "visual", ids=ids)


def _rewrite(path, values=None, **changes):
    """The file with other values, or a passport with other entries, written past all checks."""
    stamp = vars(store.read_passport(path)) | changes
    values = load_file(path)["values"] if values is None else values
    save_file({"values": values}, path, {"passport": json.dumps(stamp)})


@pytest.fixture
def sequences(tmp_path):
    """A corpus folder with one feature of sequences, the corpus and the array."""
    corpus, arrays = dialogues.make("ravdess", scale=0.1)
    array = Array(arrays["audio"].values.astype(np.float16), "audio", "frames", lengths=arrays["audio"].lengths)
    store.add(tmp_path, corpus, "audio", array)
    return tmp_path, corpus, array


def test_sequences_are_read_as_they_were_written(sequences):
    folder, corpus, array = sequences
    feature = store.read(folder, "audio", ids=corpus.ids, corpus="ravdess")
    np.testing.assert_array_equal(feature.values, array.values)
    np.testing.assert_array_equal(feature.lengths, array.lengths)
    assert feature.values.dtype == np.float16 and feature.lengths.dtype == np.int64
    stamp = store.read_passport(store.path(folder, "audio"))
    assert stamp == feature.passport and stamp.summary() == "audio: frames (t x 32)"
    assert stamp.shape == (array.lengths.sum(), 32) and stamp.steps == array.lengths.max()


def test_a_permutation_of_the_ids_reorders_the_sequences(sequences):
    folder, corpus, array = sequences
    order = np.random.default_rng(0).permutation(len(corpus.ids))
    feature = store.read(folder, "audio", ids=tuple(corpus.ids[i] for i in order))
    np.testing.assert_array_equal(feature.lengths, array.lengths[order])
    whole = np.split(array.values, array.lengths.cumsum()[:-1])
    np.testing.assert_array_equal(feature.values, np.concatenate([whole[i] for i in order]))


def _bad_step(array, corpus):
    values = array.values.copy()
    values[array.lengths[:3].sum() - 1, 5] = np.inf  # the last step of the third utterance
    values[array.lengths[:9].sum() :, 0] = np.nan  # from the tenth on
    return values, array.lengths, f"at utterance {corpus.ids[2]} and {len(corpus.ids) - 9} others"


BAD_SEQUENCES = {
    "a value that is no number": _bad_step,
    "an empty sequence": lambda a, c: (
        a.values,
        np.concatenate([[a.lengths[:2].sum(), 0], a.lengths[2:]]),
        f"no step at utterance {c.ids[1]} and 0 others",
    ),
    "lengths of other values": lambda a, c: (a.values[:-1], a.lengths, f"add up to {len(a.values)} steps, found"),
    "too few lengths": lambda a, c: (a.values, a.lengths[:-1], "191 rows for 192 different ids"),
    "lengths that are no numbers": lambda a, c: (a.values, a.lengths.astype(float), "expected int64"),
    "lengths of steps": lambda a, c: (a.values, a.lengths[:, None], "expected int64 of shape .n,."),
}


@pytest.mark.parametrize("block", [store.BLOCK, 32 * 7, 1], ids=["at once", "seven steps at a time", "step by step"])
@pytest.mark.parametrize("what", BAD_SEQUENCES)
def test_bad_sequences_are_refused(sequences, monkeypatch, what, block):
    monkeypatch.setattr(store, "BLOCK", block)
    folder, corpus, array = sequences
    values, lengths, message = BAD_SEQUENCES[what](array, corpus)
    with pytest.raises(FeatureError, match=message):
        store.add(folder, corpus, "audio", Array(values, "audio", "frames", lengths=lengths))
    np.testing.assert_array_equal(store.read(folder, "audio", ids=corpus.ids).values, array.values)  # still the old


def test_sequences_with_other_lengths_or_none_are_refused(sequences):
    folder, corpus, array = sequences
    path, (first, second) = store.path(folder, "audio"), array.lengths[:2]
    stamp = json.dumps(vars(store.read_passport(path)))
    assert first != second
    other = np.concatenate([[second, first], array.lengths[2:]])
    save_file({"values": array.values, "lengths": other}, path, {"passport": stamp})
    with pytest.raises(FeatureError, match="sha256 is not the passport's"):
        store.read(folder, "audio", ids=corpus.ids)
    save_file({"values": array.values}, path, {"passport": stamp})
    with pytest.raises(FeatureError, match=f"is one row, its passport says sequences of up to {max(other)} steps"):
        store.read(folder, "audio", ids=corpus.ids)


def test_a_passport_of_an_older_version_is_one_of_vectors(stored, tiny):
    path = store.path(stored, "audio")
    stamp = vars(store.read_passport(path))
    del stamp["steps"]
    save_file({"values": tiny[1]["audio"]}, path, {"passport": json.dumps(stamp)})
    assert store.read(stored, "audio", ids=tiny[0].ids).lengths is None


def test_checks_need_no_copy_of_the_values():
    values, lengths = np.zeros((400_000, 50), dtype=np.float16), np.full(4000, 100)
    ids = tuple(map(str, range(4000)))
    about = {"version": "", "weights_sha256": "", "trained_on": "", "fitted_on": "", "sha256": "", "extractor": "x"}
    about |= {"corpus": "mosi", "modality": "text", "name": "text", "ids": ids, "shape": values.shape, "steps": 100}
    stamp = store.Passport(**about, dtype="float16")
    tracemalloc.start()
    with pytest.raises(FeatureError, match="sha256"):
        store.check_array(values, lengths, stamp, "here")
    assert tracemalloc.get_traced_memory()[1] < 0.3 * values.nbytes
    tracemalloc.stop()


DAMAGE = {
    "truncated": lambda path, v: path.write_bytes(path.read_bytes()[:-50]),
    "truncated, or not": lambda path, v: path.write_text("hello"),
    "sha256 is not the passport's": lambda path, v: path.write_bytes(path.read_bytes()[:-1] + b"\x01"),
    "its passport says": lambda path, v: _rewrite(path, values=v[:, 1:].copy()),
    "different ids": lambda path, v: _rewrite(path, ids=["same"] * len(v)),
    "passport is of iemocap6/audio, not of meld/audio": lambda path, v: _rewrite(path, corpus="iemocap6"),
    "passport is of meld/text, not of meld/audio": lambda path, v: _rewrite(path, name="text"),
    "expected one of": lambda path, v: _rewrite(path, modality="sound"),
    "has no complete passport": lambda path, v: save_file({"values": v}, path),
    "has no complete passport .*extra": lambda path, v: _rewrite(path, extra=1),
    "has no complete passport .ids": lambda path, v: _rewrite(path, ids=None),
    "has no complete passport .sha256": lambda path, v: _rewrite(path, sha256=5),
    "has no complete passport .layers_above": lambda path, v: _rewrite(path, layers_above="1"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_or_foreign_file_is_refused(stored, tiny, message):
    corpus, values = tiny
    path = store.path(stored, "audio")
    DAMAGE[message](path, values["audio"])
    with pytest.raises(FeatureError, match=f"{path}.*{message}"):
        store.read(stored, "audio", ids=corpus.ids, corpus="meld")


def test_a_value_that_is_not_a_number_is_named_when_written_and_when_read(stored, tiny):
    corpus, values = tiny
    bad = values["audio"].copy()
    bad[7, 3] = np.nan
    with pytest.raises(FeatureError, match=f"NaN or infinity at utterance {corpus.ids[7]} and 0 others"):
        store.add(stored, corpus, "audio", Array(bad, "audio", "an extractor"))
    np.testing.assert_array_equal(store.read(stored, "audio", ids=corpus.ids).values, values["audio"])  # still the old
    _rewrite(store.path(stored, "audio"), values=bad, sha256=store.digest(bad))
    with pytest.raises(FeatureError, match=f"at utterance {corpus.ids[7]}"):
        store.read(stored, "audio", ids=corpus.ids)


@pytest.mark.parametrize("values", [np.ones((3, 2)), np.ones(73), np.ones((73, 2, 2)), np.ones((73, 2), dtype=int)])
def test_only_floats_with_a_row_for_every_utterance_are_written(tmp_path, tiny, values):
    corpus = tiny[0]
    rows = np.resize(values, (len(corpus.ids), *values.shape[1:])) if len(values) > 3 else values
    with pytest.raises(FeatureError):
        store.add(tmp_path, corpus, "audio", Array(rows, "audio", "an extractor"))
    assert not store.path(tmp_path, "audio").exists()


@pytest.mark.parametrize("name", ["../../out", "a/b", ".hidden", ""])
def test_an_array_s_name_is_a_plain_word(tmp_path, tiny, name):
    corpus, values = tiny
    with pytest.raises(FeatureError, match="is no name for an array"):
        store.add(tmp_path, corpus, name, Array(values["audio"], "audio", "an extractor"))


def test_a_full_disk_is_said_and_the_old_feature_stays(stored, tiny, monkeypatch):
    corpus, values = tiny

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(OSError, match="No space left.*free space and run again"):
        store.add(stored, corpus, "audio", Array(2 * values["audio"], "audio", "an extractor"))
    np.testing.assert_array_equal(store.read(stored, "audio", ids=corpus.ids).values, values["audio"])


def test_two_writers_and_a_reader_at_once_never_meet_half_a_file(stored, tiny):
    corpus, values = tiny
    writers = []
    for factor in (2, 3):
        if not (pid := os.fork()):
            for _ in range(40):
                store.add(stored, corpus, "audio", Array(factor * values["audio"], "audio", f"times {factor}"))
            os._exit(0)
        writers.append(pid)
    seen = set()
    while writers:
        feature = store.read(stored, "audio", ids=corpus.ids, corpus="meld")
        seen.add(feature.passport.extractor)
        factor = {"an extractor": 1, "times 2": 2, "times 3": 3}[feature.passport.extractor]
        np.testing.assert_array_equal(feature.values, factor * values["audio"])
        pid, status = os.waitpid(-1, os.WNOHANG)
        assert status == 0
        writers = [w for w in writers if w != pid]
    assert len(seen) > 1 and [p.name for p in store.path(stored, "audio").parent.iterdir()] == ["audio.safetensors"]


def test_a_writer_killed_half_way_leaves_the_old_feature(stored, tiny, exit_status_of, monkeypatch):
    corpus, values = tiny

    def half(tensors, path, metadata):
        save_file(tensors, path, metadata)
        os.truncate(path, 1000)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(store, "save_file", half)
    assert (
        exit_status_of(lambda: store.add(stored, corpus, "audio", Array(2 * values["audio"], "audio", "x")))
        == -signal.SIGKILL
    )
    np.testing.assert_array_equal(store.read(stored, "audio", ids=corpus.ids).values, values["audio"])
