"""Batches against a naive loop over dialogues."""

import numpy as np
import pandas as pd
import pytest
import torch

from merlib import batches
from merlib.corpora import twin
from merlib.features.roots import Dataset
from merlib.features.store import Feature

ARRAYS = {"text": "text", "audio": "audio", "visual": "visual"}


@pytest.fixture(scope="module")
def dataset():
    corpus, arrays = twin.make("meld", scale=0.05)
    return Dataset(corpus, {name: Feature(values, None) for name, values in arrays.items()})


def test_a_batch_is_what_a_loop_over_dialogues_gives(dataset):
    split = batches.splits(dataset, arrays=ARRAYS, standardize=False)["train"]
    table = dataset.corpus.table
    names = list(table.loc[table["split"] == "train", "dialogue"].unique())
    chosen = torch.tensor([3, 0, 7])
    batch = split.batch(chosen)
    longest = max((table["dialogue"] == names[i]).sum() for i in chosen)
    assert batch["mask"].shape == (3, longest)
    for b, i in enumerate(chosen):
        at = np.flatnonzero(table["dialogue"] == names[i])
        assert batch["mask"][b].sum() == len(at) and batch["mask"][b, : len(at)].all()
        assert batch["label"][b].tolist() == table["label"].iloc[at].tolist() + [-1] * (longest - len(at))
        order = {name: k for k, name in enumerate(dict.fromkeys(table["speaker"].iloc[at]))}
        assert batch["speaker"][b, : len(at)].tolist() == [order[name] for name in table["speaker"].iloc[at]]
        for modality in ARRAYS:
            expected = torch.from_numpy(dataset.features[modality].values[at])
            torch.testing.assert_close(batch[modality][b, : len(at)], expected, rtol=0, atol=0)
            assert not batch[modality][b, len(at) :].any()


def test_buckets_hold_every_dialogue_once_and_pad_less(dataset):
    split = batches.splits(dataset, arrays=ARRAYS, standardize=False)["train"]
    everything = torch.arange(len(split))
    buckets = list(split.buckets(everything, 8))
    assert sum(b["mask"].sum() for b in buckets) == len(split.ids)
    assert sum(b["mask"].numel() for b in buckets) < split.batch(everything)["mask"].numel()


def test_scaling_is_fitted_on_the_training_split_alone(dataset):
    raw, scaled = (batches.splits(dataset, arrays=ARRAYS, standardize=s) for s in (False, True))
    for modality in ARRAYS:
        train = raw["train"].features[modality]
        expected = (raw["test"].features[modality] - train.mean(0)) / train.std(0)
        torch.testing.assert_close(scaled["test"].features[modality], expected, rtol=1e-4, atol=1e-5)
        assert scaled["train"].features[modality].mean().abs() < 1e-5 < scaled["test"].features[modality].mean().abs()


def test_a_constant_feature_stays_finite(dataset):
    flat = np.ones((len(dataset.corpus.table), 3), np.float32)
    found = batches.splits(Dataset(dataset.corpus, {"text": Feature(flat, None)}), arrays=ARRAYS, standardize=True)
    assert torch.isfinite(found["test"].features["text"]).all()


def test_an_absent_modality_is_left_out_and_none_is_an_error(dataset):
    only = Dataset(dataset.corpus, {"text": dataset.features["text"]})
    assert set(batches.dims(batches.splits(only, arrays=ARRAYS, standardize=True)["val"])) == {"text"}
    with pytest.raises(ValueError, match="merlib doctor"):
        batches.splits(Dataset(dataset.corpus, {}), arrays=ARRAYS, standardize=True)


def test_the_released_validation_draws_whole_dialogues_and_leaves_test_alone(dataset):
    table = dataset.corpus.table
    names = pd.Series(batches.split_names(table, "random_5_percent"), index=table.index)
    assert ((names == "test") == (table["split"] == "test")).all()
    by_dialogue = names.groupby(table["dialogue"]).nunique()
    assert (by_dialogue == 1).all()
    pool = table.loc[table["split"] != "test", "dialogue"].nunique()
    assert names[names == "val"].groupby(table["dialogue"]).ngroups == max(1, round(0.05 * pool))
    assert (names == batches.split_names(table, "random_5_percent")).all()
    with pytest.raises(ValueError, match="random_5_percent"):
        batches.split_names(table, "random_10_percent")
