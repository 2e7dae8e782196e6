"""The twins of IEMOCAP-6 and MELD have the schema and counts of their corpora; context and fusion can win something."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlib.data import official, table
from merlib.twins import dialogues, parts

NAMES = sorted(dialogues.DIALOGUE_TWINS)


@pytest.fixture(scope="module", params=NAMES)
def full(request):
    return dialogues.make(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_makes_one_twin_and_another_seed_another(name):
    (one, first), (two, second), (other, third) = (dialogues.make(name, seed=s, scale=0.05) for s in (3, 3, 4))
    pd.testing.assert_frame_equal(one.table, two.table)
    for modality in first:
        np.testing.assert_array_equal(first[modality], second[modality])
    assert not one.table["label"].equals(other.table["label"])
    assert not np.array_equal(first["text"][:10], third["text"][:10])


def test_at_full_scale_every_count_is_official(full):
    corpus, values = full
    table.expect(corpus)
    assert {m: v.shape for m, v in values.items()} == {m: (len(corpus.table), d) for m, d in dialogues.WIDTHS.items()}
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in values.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.01, 0.05, 0.25])
def test_a_small_twin_keeps_every_split_class_and_session(name, scale):
    corpus, _ = dialogues.make(name, seed=1, scale=scale)
    counts = corpus.counts()
    assert min(min(classes) for classes in counts["classes"].values()) >= 1
    total = sum(counts["dialogues"].values())
    assert total <= max(12, 2 + scale * sum(official.DIALOGUES[name].values()))
    if name == "iemocap6":
        sessions = corpus.table.groupby("split")["dialogue"].agg(lambda d: set(d.str[:5]))
        assert sessions["test"] == {"Ses05"} and sessions["train"] == sessions["val"] == {
            f"Ses0{i}" for i in range(1, 5)
        }


def test_dialogues_and_casts_are_those_of_the_corpus(full):
    corpus, _ = full
    grouped = corpus.table.groupby("dialogue")
    shortest, longest, _ = dialogues.TWINS[corpus.name].lengths
    assert grouped.size().between(shortest, longest).all()
    speakers = grouped["speaker"].nunique()
    if corpus.name == "iemocap6":
        assert (speakers == 2).all() and corpus.table["speaker"].nunique() == 10
    else:
        assert 5 <= speakers.max() <= 9 and speakers.min() == 1
        assert corpus.table["speaker"].isin(dialogues.MAIN).mean() == pytest.approx(0.83, abs=0.05)
    assert (corpus.table["end"] > corpus.table["start"]).all()
    assert (grouped["start"].diff().dropna() > 0).all()


def test_emotions_last_longer_than_chance(full):
    turns = full[0].table.sort_values(["dialogue", "speaker", "turn"])
    follows = turns[["dialogue", "speaker"]].eq(turns[["dialogue", "speaker"]].shift()).all(axis=1)
    same = (turns["label"] == turns["label"].shift())[follows].mean()
    chance = (turns["label"].value_counts(normalize=True) ** 2).sum()
    assert same > chance + 0.3


@pytest.mark.parametrize("name", NAMES)
def test_floors_leave_room_above_and_fusion_wins(name):
    corpus, values = dialogues.make(name, scale=0.25)
    split, y_true = corpus.table["split"], corpus.table["label"].to_numpy()
    train, test = (split == "train").to_numpy(), (split == "test").to_numpy()

    def floor(x: np.ndarray) -> float:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(x[train], y_true[train])
        return f1_score(y_true=y_true[test], y_pred=probe.predict(x[test]), average="weighted")

    scores = {m: floor(v) for m, v in values.items()}
    fused = floor(np.concatenate(list(values.values()), axis=1))
    assert 0.4 < fused < 0.7
    assert fused > max(scores.values()) + 0.05
    assert scores["text"] > max(scores["audio"], scores["visual"])
    neighbours = pd.DataFrame(np.concatenate(list(values.values()), axis=1)).groupby(corpus.table["dialogue"])
    context = neighbours.rolling(5, center=True, min_periods=1).mean().droplevel(0).sort_index()
    assert floor(np.concatenate([*values.values(), context.to_numpy()], axis=1)) > fused + 0.03


def test_sentences_carry_the_emotion_in_their_words():
    corpus, _ = dialogues.make("meld", scale=0.1)
    anger = corpus.table["text"][corpus.table["label"] == corpus.labels.index("anger")].str.lower()
    other = corpus.table["text"][corpus.table["label"] == corpus.labels.index("joy")].str.lower()
    pattern = "|".join(rf"\b{w}\b" for w in parts.WORDS["anger"])
    assert anger.str.contains(pattern).mean() > 0.5
    assert other.str.contains(pattern).mean() < 0.1


@pytest.mark.parametrize("bad", [{"name": "savee"}, {"name": "meld", "scale": 0}, {"name": "meld", "scale": 2}])
def test_what_has_no_twin_is_refused(bad):
    with pytest.raises(ValueError, match="iemocap6"):
        dialogues.make(**bad)
