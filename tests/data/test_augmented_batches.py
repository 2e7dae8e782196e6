"""Augmented copies join training, or the corpus before it is split; nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from merlib.data import batches, inputs, store
from merlib.data.folders import Dataset
from merlib.data.store import Feature
from merlib.data.table import Array
from merlib.errors import FeatureError
from merlib.twins import dialogues

DATA = {"unit": "utterance", "modalities": "TA", "text": "text", "audio": "audio", "standardize": False}
PROTOCOL = {"split": "random_811"}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """The feature twin of IEMOCAP-8, with an array of augmented audio: 1000 higher everywhere, and one step longer."""
    corpus, arrays = dialogues.make("iemocap8", scale=0.05)
    features = {}
    for name in ("text", "audio"):
        values, lengths = arrays[name]
        passport = store.passport(corpus, name, Array(values, name, "twin", lengths=lengths))
        features[name] = Feature(values, passport, lengths)
    plain = features["audio"]
    last = plain.lengths.cumsum() - 1
    values = np.insert(plain.values, last + 1, plain.values[last], axis=0) + 1000
    return Dataset(corpus, features | {"audio_augmented": replace(plain, values=values, lengths=plain.lengths + 1)})


def rows(split: batches.Utterances) -> dict[str, np.ndarray]:
    """Utterance -> its audio."""
    audio = {}
    for i, utterance in enumerate(split.ids):
        start, steps = int(split.starts["audio"][i]), int(split.steps["audio"][i])
        audio[utterance] = split.features["audio"][start : start + steps].numpy()
    return audio


def test_copies_of_rare_classes_join_training_only(dataset):
    plain = inputs.splits(dataset, data=DATA, protocol=PROTOCOL)
    parts = inputs.splits(dataset, data=DATA | {"augment": "minority_train"}, protocol=PROTOCOL)
    label = plain["train"].label.numpy()
    rare = [u for u, is_rare in zip(plain["train"].ids, inputs.minority(label), strict=True) if is_rare]
    assert 0 < len(rare) < len(label) / 2
    assert parts["train"].ids == (*plain["train"].ids, *(f"{u} augmented" for u in rare))
    assert parts["val"].ids == plain["val"].ids and parts["test"].ids == plain["test"].ids
    before, after = rows(plain["train"]), rows(parts["train"])
    for u in rare:
        np.testing.assert_array_equal(after[u], before[u])
        np.testing.assert_array_equal(after[f"{u} augmented"][:-1], before[u] + 1000)
    kinds = dict(zip(parts["train"].ids, parts["train"].label.tolist(), strict=True))
    assert all(kinds[f"{u} augmented"] == kinds[u] for u in rare)
    text = parts["train"].steps["text"].tolist()
    assert text[len(label) :] == [text[parts["train"].ids.index(u)] for u in rare], (
        "a copy has the text of its original"
    )


def test_a_copy_whose_changed_recording_failed_is_discarded_or_kept_as_its_original_would_be(dataset):
    data = DATA | {"augment": "minority_train"}
    copies = [u for u in inputs.splits(dataset, data=data, protocol=PROTOCOL)["train"].ids if u.endswith(" augmented")]
    changed = dataset.features["audio_augmented"]
    passport = replace(changed.passport, failed=(copies[1].removesuffix(" augmented"),))
    features = dataset.features | {"audio_augmented": replace(changed, passport=passport)}
    for on_failure, left in (("zero", copies), ("discard", [copies[0], *copies[2:]])):
        failed = Dataset(dataset.corpus, features)
        parts = inputs.splits(failed, data=data | {"on_failure": on_failure}, protocol=PROTOCOL)
        assert [u for u in parts["train"].ids if u.endswith(" augmented")] == left
        assert copies[1].removesuffix(" augmented") in parts["train"].ids


def test_copies_made_before_the_split_land_anywhere(dataset):
    parts = inputs.splits(dataset, data=DATA | {"augment": "minority_before_split"}, protocol=PROTOCOL)
    where = {u: name for name, split in parts.items() for u in split.ids}
    copies = [u for u in where if u.endswith(" augmented")]
    apart = [u for u in copies if where[u] != where[u.removesuffix(" augmented")]]
    assert apart and any(where[u] == "test" for u in copies), "training has seen what is tested: that is the reading"


@pytest.mark.parametrize("name", ["audio", "audio_augmented"])
def test_an_encoder_must_not_have_seen_the_original_of_a_copy_that_is_tested(dataset, name):
    data = DATA | {"augment": "minority_before_split"}
    parts = inputs.splits(dataset, data=data, protocol=PROTOCOL)
    tested = {u for part in ("val", "test") for u in parts[part].ids}
    copied = next(u for u in parts["train"].ids if f"{u} augmented" in tested and u not in tested)
    alone = next(u for u in parts["train"].ids if u not in tested and f"{u} augmented" not in tested)
    feature = dataset.features[name]
    for seen in (alone, copied):
        passport = replace(feature.passport, learned_from=(seen.removesuffix(" augmented"),))
        learned = Dataset(dataset.corpus, dataset.features | {name: replace(feature, passport=passport)})
        if seen == copied:
            with pytest.raises(FeatureError, match=f"the encoder of {name} .* first {copied}"):
                inputs.splits(learned, data=data, protocol=PROTOCOL)
        else:
            assert inputs.splits(learned, data=data, protocol=PROTOCOL)["train"].ids == parts["train"].ids


def test_statistics_are_those_of_the_training_split_with_its_copies(dataset):
    parts = inputs.splits(dataset, data=DATA | {"augment": "minority_train", "standardize": True}, protocol=PROTOCOL)
    train = parts["train"].batch(torch.arange(len(parts["train"])))
    train = train["audio"][train["audio_mask"]]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-3)


def test_without_changed_recordings_it_says_how_to_make_them(dataset):
    bare = Dataset(dataset.corpus, {k: v for k, v in dataset.features.items() if k != "audio_augmented"})
    with pytest.raises(ValueError, match="audio_augmented.*data extract ... --augmented"):
        inputs.splits(bare, data=DATA | {"augment": "minority_train"}, protocol=PROTOCOL)
