"""A fit of an estimator on pooled features, and what a run keeps of a network: numbers again from scikit-learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from merlib.data import inputs, store
from merlib.data.batches import Dialogues
from merlib.data.folders import Dataset
from merlib.data.store import Feature
from merlib.data.table import Array
from merlib.errors import TrainingError
from merlib.training import fitting, metrics
from merlib.training.prediction import predict
from merlib.twins import dialogues


@pytest.fixture(scope="module")
def mosi():
    """The twin of MOSI, small, with some utterances that have no score: its labels and splits."""
    corpus, arrays = dialogues.make("mosi", scale=0.1)
    features = {}
    for name, (values, lengths) in arrays.items():
        stamp = store.passport(corpus, name, Array(values, name, "twin", lengths=lengths))
        features[name] = Feature(values, stamp, lengths)
    data = {"unit": "utterance", "modalities": "T", "text": "text", "standardize": True}
    splits = inputs.splits(Dataset(corpus, features), data=data, protocol={"split": "corpus"})
    return corpus.labels, splits


@pytest.mark.parametrize(
    "model", [{"name": "ridge", "alpha": 1.0}, {"name": "logistic", "c": 0.1}, {"name": "majority"}]
)
def test_an_estimator_of_sentiment_predicts_scores_classes_and_sides(mosi, model):
    labels, splits = mosi
    judge = metrics.Judge(labels, "mae", sentiment=True, binary="positive")
    left = fitting.fit_estimator({"model": model}, splits, judge, seed=0)
    epoch, predicted = left["selected"]["val"]
    assert (
        epoch == 0 and left["selected"]["test_peak"][1] is predicted and left["parameters"] == 0 == len(left["arrays"])
    )
    assert left["seconds"] > 0
    score = predicted["score"]
    assert np.abs(score).max() <= 3 and (predicted["binary"] == (score > 0)).all()
    np.testing.assert_array_equal(predicted["class"], np.clip(np.round(score), -3, 3) + 3)
    if model["name"] == "majority":
        known = splits["train"].label.numpy()
        assert set(predicted["class"]) == {np.bincount(known[known >= 0]).argmax()}
    (row,) = left["history"]
    assert set(row) == {"val/accuracy", "val/balanced_accuracy", "val/mae", "val/correlation", "val/acc2", "val/acc7",
                        "val/f1_acc2", *(f"val/{a}_{m}" for a in ("macro", "weighted")
                                         for m in ("f1", "precision", "recall"))}  # fmt: skip
    on_val = fitting.fit_estimator({"model": model}, splits | {"test": splits["val"]}, judge, seed=0)
    scored = judge.scores(splits["val"].target, on_val["selected"]["val"][1])
    assert row["val/mae"] == pytest.approx(scored["mae"])


def test_an_estimator_learns_from_labelled_utterances_alone(mosi, monkeypatch):
    labels, splits = mosi
    seen = []

    class Seeing(Ridge):
        def fit(self, x, y):
            seen.append((x, y))
            return super().fit(x, y)

    monkeypatch.setattr(fitting.registry, "build", lambda kind, section, seed: Seeing())
    train = splits["train"]
    some = torch.arange(len(train)) % 3 != 0
    target = {"label": train.label.where(some, -1), "score": train.target["score"]}
    partly = splits | {"train": replace(train, target=target)}
    fitting.fit_estimator({"model": {"name": "ridge"}}, partly, metrics.Judge(labels, "mae", sentiment=True), seed=0)
    ((x, y),) = seen
    np.testing.assert_array_equal(y, train.target["score"][some].numpy())
    np.testing.assert_allclose(x, torch.cat([*train.pooled().features.values()], -1)[some].numpy(), rtol=1e-5)


def with_values(split, value: float, *utterances: int):
    """The split with another value in the first step of some utterances."""
    text = split.features["text"].clone()
    text[split.starts["text"][list(utterances)], 0] = value
    return replace(split, features=split.features | {"text": text})


@pytest.mark.parametrize("name", ["train", "val", "test"])
@pytest.mark.parametrize("model", [{"name": "ridge", "alpha": 1.0}, {"name": "logistic", "c": 0.1}])
def test_a_vector_that_is_not_finite_is_told_before_an_estimator_reads_it(mosi, model, name):
    labels, splits = mosi
    judge = metrics.Judge(labels, "mae", sentiment=True)
    harmed = splits | {name: with_values(splits[name], 3e38, 5, 3)}  # finite, but its square is not
    said = f"^2 of {len(splits[name])} utterances have a vector that is not finite, first {splits[name].ids[3]}: look"
    with pytest.raises(TrainingError, match=said):
        fitting.fit_estimator({"model": model}, harmed, judge, seed=0)
    floor = {"model": {"name": "majority"}}  # which does not look at them
    of_harmed, of_sound = (fitting.fit_estimator(floor, each, judge, seed=0) for each in (harmed, splits))
    assert of_harmed["history"] == of_sound["history"]


class WildRidge(Ridge):
    def predict(self, x):
        return np.where(np.arange(len(x)) == 1, np.nan, super().predict(x))


class WildLogistic(LogisticRegression):
    def decision_function(self, x):
        return np.where(np.arange(len(x))[:, None] == 1, np.nan, super().decision_function(x))


@pytest.mark.parametrize("model", [WildRidge(), WildLogistic(max_iter=2000)])
def test_an_output_of_an_estimator_that_is_not_finite_is_no_prediction(mosi, monkeypatch, model):
    monkeypatch.setattr(fitting.registry, "build", lambda kind, section, seed: model)
    labels, splits = mosi
    said = f"1 of {len(splits['val'])} utterances have an output that is not finite, first {splits['val'].ids[1]}: look"
    with pytest.raises(TrainingError, match=said):
        fitting.fit_estimator({"model": {}}, splits, metrics.Judge(labels, "mae", sentiment=True), seed=0)


def test_a_loss_that_decomposes_matrices_leaves_it_to_the_outputs_to_say_what_is_wrong(mosi):
    class Scores(torch.nn.Module):
        def forward(self, batch):
            return {"logits": batch["text"][:, 0, :2]}

    def loss(outputs, target):
        x = outputs["logits"]
        return {"loss": torch.linalg.cholesky(x.T @ x + ridge * torch.eye(2)).sum()}

    test, ridge = mosi[1]["test"], 1.0
    assert predict(Scores(), test, loss=loss)["loss"].isfinite()
    with pytest.raises(TrainingError, match=f"first {test.ids[2]}: look for huge values"):
        predict(Scores(), with_values(test, math.inf, 2), loss=loss)
    ridge = -1e9
    with pytest.raises(torch.linalg.LinAlgError):
        predict(Scores(), test, loss=loss)


def test_what_is_kept_of_a_network_are_embeddings_probabilities_and_what_it_shows():
    names = ("embedding", "text_embedding", "gate", "other", "embedding_loss")
    outputs = {"logits": torch.tensor([[0.0, math.log(3.0)]])} | {name: torch.ones(1, 2) for name in names}
    arrays = fitting._arrays(outputs, ("gate",))
    assert set(arrays) == {"embedding", "text_embedding", "gate", "probability"}
    assert all(array.dtype == np.float16 for array in arrays.values())
    np.testing.assert_allclose(arrays["probability"], [[0.25, 0.75]], atol=1e-3)


def test_a_network_is_given_what_the_data_settle(mosi):
    labels, splits = mosi
    given = fitting.given(splits, metrics.Judge(labels, "mae", sentiment=True))
    longest = max(int(split.steps["text"].max()) for split in splits.values())
    width = splits["train"].features["text"].shape[-1]
    assert given == {
        "dims": {"text": width},
        "classes": 7,
        "sentiment": True,
        "steps": {"text": longest},
        "speakers": 1,
    }
    dialogue = {name: dialogues_of([1, 3] if name == "test" else [0, 1]) for name in ("train", "val", "test")}
    assert fitting.given(dialogue, metrics.Judge(("a", "b"), "accuracy"))["speakers"] == 4


def dialogues_of(speakers: list[int]) -> Dialogues:
    """One dialogue of these speakers, every utterance of the first class."""
    n = len(speakers)
    return Dialogues(
        features={"text": torch.zeros(n, 2)}, target={"label": torch.zeros(n, dtype=torch.long)},
        speaker=torch.tensor(speakers), rows=torch.arange(n)[None], lengths=torch.tensor([n]), ids=tuple("ab"),
    )  # fmt: skip


def test_the_peak_is_the_first_best_epoch_on_the_test_set():
    class Fixed(torch.nn.Module):
        def forward(self, batch):
            return {"logits": torch.eye(2)[self.says].expand(*batch["mask"].shape, 2)}

    network, test = Fixed(), dialogues_of([0, 1])
    test.target["label"][1] = 1
    observer = fitting.TestObserver(test, metrics.Judge(("a", "b"), "accuracy"), batch=None, precision="float32")
    assert observer.state == {"epoch": -1, "best": -math.inf, "predicted": {}}
    for epoch, says in enumerate((0, 1)):
        network.says = says
        scores = observer(epoch, network)
        assert scores["test/accuracy"] == 0.5 and not any("/a" in name.removeprefix("test/") for name in scores)
    assert observer.state["epoch"] == 0 and observer.state["best"] == 0.5
    assert observer.state["predicted"]["class"].tolist() == [0, 0]
