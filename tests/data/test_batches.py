"""Batches against a naive loop over dialogues."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from merlib.data import batches, inputs, masking
from merlib.data.checks import CorpusError
from merlib.data.folders import Dataset
from merlib.data.store import Feature, Passport
from merlib.data.table import Corpus
from merlib.training import prediction
from merlib.twins import dialogues

MODALITIES = ("text", "audio", "visual")
CORPUS = {"split": "corpus", "validation": "corpus"}


def splits(dataset, *, standardize, **changed):
    data = {"unit": "dialogue", "modalities": "TAV", "standardize": standardize} | {m: m for m in MODALITIES} | changed
    return inputs.splits(dataset, data=data, protocol=CORPUS)


@pytest.fixture(scope="module")
def dataset():
    corpus, arrays = dialogues.make("meld", scale=0.05)
    return Dataset(corpus, {name: Feature(values, None) for name, values in arrays.items()})


def test_a_batch_is_what_a_loop_over_dialogues_gives(dataset):
    split = splits(dataset, standardize=False)["train"]
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
        for modality in MODALITIES:
            expected = torch.from_numpy(dataset.features[modality].values[at])
            torch.testing.assert_close(batch[modality][b, : len(at)], expected, rtol=0, atol=0)
            assert not batch[modality][b, len(at) :].any()


def test_buckets_hold_every_dialogue_once_and_pad_less(dataset):
    split = splits(dataset, standardize=False)["train"]
    everything = torch.arange(len(split))
    buckets = list(split.buckets(everything, 8))
    assert sum(b["mask"].sum() for b in buckets) == len(split.ids)
    assert sum(b["mask"].numel() for b in buckets) < split.batch(everything)["mask"].numel()


def test_scaling_is_fitted_on_the_training_split_alone(dataset):
    raw, scaled = (splits(dataset, standardize=s) for s in (False, True))
    for modality in MODALITIES:
        train = raw["train"].features[modality]
        expected = (raw["test"].features[modality] - train.mean(0)) / train.std(0)
        torch.testing.assert_close(scaled["test"].features[modality], expected, rtol=1e-4, atol=1e-5)
        assert scaled["train"].features[modality].mean().abs() < 1e-5 < scaled["test"].features[modality].mean().abs()


def test_a_constant_feature_stays_finite(dataset):
    flat = np.ones((len(dataset.corpus.table), 3), np.float32)
    parts = splits(Dataset(dataset.corpus, {"text": Feature(flat, None)}), standardize=True)
    assert torch.isfinite(parts["test"].features["text"]).all()


def test_an_absent_modality_is_left_out_and_none_is_an_error(dataset):
    only = Dataset(dataset.corpus, {"text": dataset.features["text"]})
    assert set(batches.dims(splits(only, standardize=True)["val"])) == {"text"}
    with pytest.raises(ValueError, match="merlib doctor"):
        splits(Dataset(dataset.corpus, {}), standardize=True)


# By utterance: sequences.


@pytest.fixture(scope="module")
def sequences():
    """Four labelled utterances and an unlabelled one in the middle; values tell utterance and step apart."""
    rows = [("a", "train", 0), ("b", "train", 1), ("x", "train", -1), ("c", "val", 0), ("d", "test", 1)]
    table = pd.DataFrame(rows, columns=["utterance", "split", "label"]).assign(score=np.nan)
    corpus = Corpus(name="made_up", labels=("no", "yes"), table=table, source="")
    text, audio = [], []
    for u, steps in enumerate([3, 1, 5, 2, 4]):
        text += [[10 * u + t, u] for t in range(steps)]
        audio += [[float(u)]]
    lengths = np.array([3, 1, 5, 2, 4])
    features = {
        "text": Feature(np.array(text, np.float32), None, lengths),
        "audio": Feature(np.array(audio, np.float32), None),
    }
    return Dataset(corpus, features)


def utterances(dataset, *, standardize=False, **changed):
    data = {
        "unit": "utterance",
        "modalities": "TA",
        "standardize": standardize,
        "text": "text",
        "audio": "audio",
    } | changed
    return inputs.splits(dataset, data=data, protocol=CORPUS)


def test_sequences_are_padded_and_masked_and_unlabelled_utterances_left_out(sequences):
    train = utterances(sequences)["train"]
    batch = train.batch(torch.tensor([1, 0]))
    assert train.ids == ("a", "b") and batch["label"].tolist() == [1, 0]
    assert batch["text"].tolist() == [[[10, 1], [0, 0], [0, 0]], [[0, 0], [1, 0], [2, 0]]]
    assert batch["text_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert batch["audio"].tolist() == [[[1]], [[0]]] and batch["audio_mask"].all()


def test_scaling_of_sequences_is_fitted_on_the_steps_of_the_training_split(sequences):
    # text's first feature of a, b and the unlabelled x, which trains too
    seen = np.array([0, 1, 2, 10, 20, 21, 22, 23, 24])
    scaled = utterances(sequences, standardize=True)["test"].batch(torch.tensor([0]))["text"][0, :, 0]
    torch.testing.assert_close(scaled, torch.tensor((np.arange(40, 44) - seen.mean()) / seen.std(ddof=1)).float())


def test_frames_stay_bytes_and_are_standardised_in_a_batch(sequences, monkeypatch):
    lengths, draw = sequences.features["text"].lengths, np.random.default_rng(0)
    pixels = draw.integers(0, 256, (lengths.sum(), 7), dtype=np.uint8)
    only = Dataset(sequences.corpus, {"text": Feature(pixels, None, lengths)})
    train = np.repeat(sequences.corpus.table["split"] == "train", lengths)
    expected = (pixels[-4:] - pixels[train].mean(0)) / pixels[train].std(0, ddof=1)
    for block in (inputs.BLOCK, 20):  # all features at once, or three
        monkeypatch.setattr(inputs, "BLOCK", block)
        test = utterances(only, standardize=True)["test"]
        assert test.features["text"].dtype == torch.uint8
        torch.testing.assert_close(test.batch(torch.tensor([0]))["text"][0], torch.from_numpy(expected).float())


def test_frames_that_are_not_standardised_are_0_to_1(sequences):
    lengths = sequences.features["text"].lengths
    pixels = np.arange(lengths.sum() * 7, dtype=np.uint8).reshape(-1, 7)
    only = Dataset(sequences.corpus, {"text": Feature(pixels, None, lengths)})
    frames = utterances(only)["test"].batch(torch.tensor([0]))["text"][0]
    torch.testing.assert_close(frames, torch.from_numpy(pixels[-4:] / 255).float())


def test_states_that_an_encoder_continues_are_read_as_they_are(sequences):
    text = sequences.features["text"]
    about = {
        "corpus": "made_up",
        "modality": "text",
        "name": "text",
        "ids": (),
        "extractor": "",
        "version": "",
        "trained_on": "",
    }
    about |= {"weights_sha256": "", "fitted_on": "", "shape": text.values.shape, "dtype": "float32", "sha256": ""}
    for above in (0, 2):
        stamped = Feature(text.values, Passport(**about, layers_above=above), text.lengths)
        batch = utterances(Dataset(sequences.corpus, {"text": stamped}), standardize=True)["test"].batch(
            torch.tensor([0])
        )
        same = np.array_equal(batch["text"][0].numpy(), text.values[-4:])
        assert same == (above == 2)


def test_without_a_set_to_validate_on_the_test_set_validates(dataset):
    session = dataset.corpus.table.assign(speaker=np.where(dataset.corpus.table["split"] == "test", "05F", "01M"))
    changed = Dataset(replace(dataset.corpus, table=session), dataset.features)
    data = {"unit": "dialogue", "modalities": "T", "standardize": False, "text": "text"}
    parts = inputs.splits(changed, data=data, protocol={"split": "session5", "validation": "test"})
    assert parts["val"].ids == parts["test"].ids and parts["test"].ids
    assert len(parts["train"].ids) + len(parts["test"].ids) == len(session)


@pytest.mark.parametrize("unit", ["dialogue", "utterance"])
@pytest.mark.parametrize(
    ("name", "labels", "has"),
    [
        ("val", -1, "no label that counts"),
        ("test", 3, "no label that counts"),  # a class that is left out
        ("train", -1, "no label that counts"),
        ("train", 2, "labels of one class alone .fear."),
    ],
)
def test_a_split_without_labels_is_refused_and_named(dataset, unit, name, labels, has):
    table = dataset.corpus.table
    changed = table.assign(label=table["label"].where(table["split"] != name, labels))
    lacking = Dataset(replace(dataset.corpus, table=changed), dataset.features)
    with pytest.raises(CorpusError, match=f"^meld, protocol.split 'corpus', fold 0: {name} has {has}; is this the"):
        splits(lacking, standardize=False, unit=unit, classes=3)


def test_scores_of_one_class_are_learned_from():
    corpus, arrays = dialogues.make("mosi", scale=0.1)
    train = corpus.table["split"] == "train"
    changed = replace(corpus, table=corpus.table.assign(label=corpus.table["label"].mask(train, 3)))
    only = Dataset(changed, {"text": Feature(arrays["text"][0], None, arrays["text"][1])})
    assert set(splits(only, standardize=False, unit="utterance")["train"].label.tolist()) == {3}


def test_pooling_is_the_mean_and_standard_deviation_of_the_real_steps(sequences):
    test = utterances(sequences)["test"]
    pooled, steps = test.pooled(), np.array([[40, 4], [41, 4], [42, 4], [43, 4]])
    batch = pooled.batch(torch.tensor([0]))
    torch.testing.assert_close(batch["text"][0, 0], torch.tensor([*steps.mean(0), *steps.std(0)]).float())
    torch.testing.assert_close(batch["audio"][0, 0], torch.tensor([4.0, 0.0]))
    assert pooled.ids == test.ids and torch.equal(pooled.label, test.label) and batch["text_mask"].tolist() == [[True]]


def test_classes_that_do_not_count_lose_their_label(sequences, dataset):
    table = sequences.corpus.table
    tested = replace(sequences.corpus, table=table.assign(label=table["label"].where(table["split"] != "test", 0)))
    assert utterances(Dataset(tested, sequences.features), classes=1)["train"].ids == ("a",)
    whole, one = (splits(dataset, standardize=False, **more)["train"] for more in ({}, {"classes": 1}))
    assert one.ids == whole.ids and one.label.tolist() == [0 if k == 0 else -1 for k in whole.label.tolist()]


def test_what_is_missing_is_named_with_what_is_there(sequences):
    with pytest.raises(
        ValueError,
        match=r"made_up has none of .* \(nothing\); its arrays are audio, text: `merlib data",
    ):
        utterances(sequences, modalities="T", text="nothing")
    with pytest.raises(ValueError, match="'X' is no letter of data.modalities"):
        utterances(sequences, modalities="TX")


def test_dialogues_of_sequences_are_refused(sequences):
    with pytest.raises(ValueError, match="pool them first"):
        utterances(sequences, unit="dialogue")


@pytest.mark.parametrize(("unit", "noise"), [("values", "normal"), ("steps", "normal"), ("values", "uniform")])
def test_a_mask_replaces_its_share_of_the_test_steps_alone(unit, noise):
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"utterance": [f"u{i}" for i in range(300)], "label": 0, "score": np.nan})
    table["split"] = np.repeat(["train", "val", "test"], 100)
    values = draw.normal(3, 2, (300 * 20, 5)).astype(np.float32)
    corpus = Corpus(name="made_up", labels=("one",), table=table, source="")
    parts = utterances(Dataset(corpus, {"text": Feature(values, None, np.full(300, 20))}), modalities="T")
    how = {"modality": "text", "percent": 30, "unit": unit, "noise": noise, "seed": 1}
    noisy = masking.masked(parts["test"], parts["train"], **how)
    before, after = (part.batch(torch.arange(100))["text"].flatten(0, 1) for part in (parts["test"], noisy))
    changed = (before != after).numpy()
    chosen = changed if unit == "values" else changed.all(1)
    assert chosen.mean() == pytest.approx(0.3, abs=0.03)
    if unit == "steps":
        assert (changed.all(1) == changed.any(1)).all()
    assert after[changed].mean() == pytest.approx(3, abs=0.15) and after[changed].std() == pytest.approx(2, abs=0.1)
    np.testing.assert_array_equal(parts["train"].features["text"], values)
    assert (after[changed].abs().max() < 3 + 2 * 12**0.5 / 2 + 0.1) == (noise == "uniform")
    again = masking.masked(parts["test"], parts["train"], **how)
    assert again.features["text"].equal(noisy.features["text"])


class Longest(torch.nn.Module):
    """Says how many steps an utterance has, and to how many it was padded."""

    def forward(self, batch):
        mask = batch["text_mask"]
        return {"steps": mask.sum(1), "padded": mask.sum(1) * 0 + mask.shape[1]}


def test_predictions_are_in_the_order_of_the_split_and_made_of_similar_lengths(monkeypatch):
    lengths = np.random.default_rng(0).permutation(40) + 1
    table = pd.DataFrame({"utterance": [f"u{i}" for i in range(40)], "label": 0, "score": np.nan, "split": "test"})
    table.loc[:1, "split"] = ["train", "val"]
    corpus = Corpus(name="made_up", labels=("one",), table=table, source="")
    text = Feature(np.ones((lengths.sum(), 2), np.float32), None, lengths)
    split = utterances(Dataset(corpus, {"text": text}), modalities="T")["test"]
    monkeypatch.setattr(prediction, "UTTERANCES", 10)
    outputs = prediction.predict(Longest(), split)
    assert outputs["steps"].tolist() == lengths[2:].tolist()
    assert (outputs["padded"] - outputs["steps"]).max() <= 12
    whole = prediction.predict(Longest(), split, batch=38)
    assert whole["steps"].equal(outputs["steps"]) and (whole["padded"] == lengths[2:].max()).all()


class Recurrent(torch.nn.Module):
    """Per-utterance outputs, and sequences with a mask as GIA-MIC's are: b 1 l d and b 1 l."""

    def __init__(self, width):
        super().__init__()
        self.weights = torch.nn.Linear(2, width)

    def forward(self, batch):
        x, mask = self.weights(batch["text"]) * batch["text_mask"].unsqueeze(-1), batch["text_mask"]
        return {"logits": x.sum(1), "invariant": x.unsqueeze(1), "invariant_mask": mask.unsqueeze(1)}


def test_utterances_in_buckets_give_what_the_whole_batch_gives_and_pad_less(sequences):
    split, model = utterances(sequences, modalities="T")["train"], Recurrent(4)  # two utterances, of 3 steps and 1
    assert [b["text_mask"].numel() for b in split.buckets(torch.tensor([0, 1]), 1)] == [1, 3]
    whole, target = prediction.forward_packed(model, split, torch.tensor([0, 1]), bucket=2)
    parts, same = prediction.forward_packed(model, split, torch.tensor([0, 1]), bucket=1)
    assert target["label"].tolist() == same["label"].tolist() == [1, 0]  # the shorter first
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value)
    assert parts["invariant_mask"].sum((1, 2)).tolist() == [1, 3]


def test_only_wide_networks_on_sequences_take_few_utterances_at_once(sequences, dataset):
    by_sequence, wide = utterances(sequences)["train"], Recurrent(prediction.WIDE)
    assert prediction.bucket_of(wide, by_sequence) == prediction.FEW
    assert prediction.bucket_of(Recurrent(4), by_sequence) == prediction.UTTERANCES
    wide.AT_ONCE = 32
    assert prediction.bucket_of(wide, by_sequence) == 32
    vectors = splits(dataset, standardize=False, unit="utterance")["train"]
    assert prediction.bucket_of(wide, vectors) == prediction.UTTERANCES
    assert prediction.bucket_of(wide, splits(dataset, standardize=False)["train"]) == prediction.DIALOGUES["cpu"]
