"""The twins made of sequences, and that of MOSEI, have the schema of their corpora and leave something to win."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlib import twins
from merlib.data import official, splits, table
from merlib.twins import dialogues, parts, sequences
from merlib.twins.sequences import Steps

NAMES = sorted(sequences.TWINS)
WIDTHS = {"text": 48, "audio": 32, "visual": 64, "text_asr": 48}
ARRAYS = {
    "iemocap4": ["text", "audio", "visual", "text_asr"],
    "iemocap8": ["text", "audio", "visual"],
    "ravdess": ["audio", "visual"],
    "mosi": ["text", "audio", "visual"],
    "mosei": ["text", "audio", "visual"],
}
SESSIONS = [{"split": "sessions", "validation": "next_session"}, {"split": "each_actor"}, {"split": "random_811"}]
PROTOCOLS = {  # where every split has every class that its corpus has there
    "iemocap4": [
        *SESSIONS,
        {"split": "sessions", "validation": "random_10_percent"},
        {"split": "session5"},
        {"split": "session5", "validation": "session_4"},
    ],
    "iemocap8": [*SESSIONS, {"split": "corpus"}, {"split": "actor", "test_actor": "05M", "val_actor": "05F"}],
    "ravdess": [{"split": "corpus"}, {"split": "actors"}, {"split": "clips"}],
    "mosi": [{"split": "corpus"}],
    "mosei": [{"split": "corpus"}],
}


@pytest.fixture(scope="module", params=NAMES)
def full(request):
    return dialogues.make(request.param)


@pytest.fixture(scope="module", params=NAMES)
def usual(request):
    """The twin that every quick run is trained on."""
    return dialogues.make(request.param, seed=twins.SEED, scale=twins.scale(request.param))


def _values(array) -> np.ndarray:
    return array.values if isinstance(array, Steps) else array


def _means(array) -> np.ndarray:
    """The mean over the steps, n d."""
    if not isinstance(array, Steps):
        return array
    return np.add.reduceat(array.values, array.lengths.cumsum() - array.lengths) / array.lengths[:, None]


def _pooled(array) -> np.ndarray:
    """Mean and standard deviation over the steps, n 2d; vectors as they are."""
    if not isinstance(array, Steps):
        return array
    squares = _means(Steps(array.values**2, array.lengths))
    return np.concatenate([_means(array), (squares - _means(array) ** 2).clip(0) ** 0.5], axis=1)


def _telling(array) -> np.ndarray:
    """The mean over the steps, each weighted by how much it shows of what varies most within utterances, n d."""
    who = np.repeat(np.arange(len(array.lengths)), array.lengths)
    shown = array.values @ np.linalg.eigh(np.cov((array.values - _means(array)[who]).T))[1][:, -1]
    weight = np.exp(shown * np.sign(((shown - shown.mean()) ** 3).mean()))
    return _means(Steps(array.values * weight[:, None], array.lengths)) / _means(Steps(weight[:, None], array.lengths))


def test_the_arrays_are_those_that_the_recipes_name(full):
    corpus, arrays = full
    assert list(arrays) == ARRAYS[corpus.name]
    for name, array in arrays.items():
        assert _values(array).dtype == np.float32 and np.isfinite(_values(array)).all()
        if corpus.name == "mosei":
            assert array.shape == (len(corpus.table), parts.WIDTHS[name])
        else:
            assert array.values.shape == (array.lengths.sum(), WIDTHS[name]) and len(array.lengths) == len(corpus.table)
            assert (array.lengths.min(), array.lengths.max()) == sequences.STEPS[name.removesuffix("_asr")]
    assert len(corpus.table) < 25000


def test_at_full_scale_every_count_is_official(full):
    table.expect(full[0])


def test_seeds_make_twins(usual):
    corpus, arrays = usual
    scale = twins.scale(corpus.name)
    again, same = dialogues.make(corpus.name, seed=twins.SEED, scale=scale)
    pd.testing.assert_frame_equal(again.table, corpus.table)
    other, different = dialogues.make(corpus.name, seed=5, scale=scale)
    for name, array in arrays.items():
        np.testing.assert_array_equal(_values(array), _values(same[name]))
        assert not np.array_equal(_values(array)[:10], _values(different[name])[:10])
    assert not other.table[["utterance", "label"]].equals(corpus.table[["utterance", "label"]])


def test_the_usual_twin_is_small_and_every_protocol_has_every_class_in_every_split(usual):
    corpus, _ = usual
    assert 400 <= len(corpus.table) <= 700
    for protocol in PROTOCOLS[corpus.name]:
        for fold in range(splits.folds(protocol)):
            found = pd.Series(splits.assign(corpus.table, protocol, fold))
            classes = corpus.table["label"].groupby(found.to_numpy()).agg(lambda c: set(c) - {-1})
            rare = {corpus.labels.index("disgust")} if corpus.name == "iemocap8" else set()
            for split in official.SPLITS:
                assert classes[split] | rare == set(range(len(corpus.labels))), (protocol, fold, split)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.01, 0.03, 0.3])
def test_a_small_twin_keeps_actors_and_classes(name, scale):
    corpus, _ = dialogues.make(name, seed=2, scale=scale)
    assert set(corpus.table["label"]) - {-1} == set(range(len(corpus.labels)))
    if name != "ravdess":
        assert len(corpus.table) <= max(250, 1.2 * scale * len(dialogues.make(name)[0].table))
    speakers = corpus.table["speaker"]
    if name.startswith("iemocap"):
        assert set(speakers) == {f"0{s}{sex}" for s in range(1, 6) for sex in "FM"}
        assert corpus.table["dialogue"].str.match("Ses0[1-5][FM]_").all()
        assert (speakers.str[:2] == corpus.table["dialogue"].str[3:5]).all()
    if name == "ravdess":
        assert set(speakers) == {f"{a:02d}" for a in range(1, 25)}
        assert (corpus.table.groupby("speaker")["label"].nunique() == 8).all()


def test_every_actor_shows_every_class_that_is_not_rare(usual):
    corpus, _ = usual
    if corpus.name.startswith("iemocap"):
        counts = corpus.table.groupby(["speaker", "label"]).size().unstack(fill_value=0)
        common = [k for k, c in enumerate(corpus.labels) if c != "disgust"]
        assert (counts[common] > 0).all(axis=None)
        if corpus.name == "iemocap8":
            disgust = corpus.table[corpus.table["label"] == corpus.labels.index("disgust")]
            assert set(disgust["speaker"]) == {"01M", "03M"} and list(disgust["split"]) == ["train"] * 2


def test_swaps_change_no_count():
    labels, group = np.repeat(range(4), (30, 10, 8, 2)), pd.Series(np.arange(50) // 10)
    within = pd.Series(np.arange(50) % 2)
    before = labels.copy()
    parts.cover(labels, group, within)
    for side in (0, 1):
        np.testing.assert_array_equal(np.bincount(labels[within == side]), np.bincount(before[within == side]))
    assert all({0, 1, 2} <= set(labels[group == g]) for g in range(5))


def test_the_names_of_the_clips_are_the_official_ones(full):
    corpus, _ = full
    if corpus.name != "ravdess":
        return
    parts = corpus.table["utterance"].str.split("-", expand=True)
    assert (parts[0] == "03").all() and (parts[1] == "01").all()
    assert (parts[2].astype(int) - 1 == corpus.table["label"]).all() and (parts[6] == corpus.table["speaker"]).all()
    assert set(parts[3]) == {"01", "02"} and set(parts[3][parts[2] == "01"]) == {"01"}
    assert parts[4].value_counts().tolist() == parts[5].value_counts().tolist() == [720, 720]
    assert (corpus.table["dialogue"] == corpus.table["utterance"]).all()
    assert corpus.table.groupby(parts[4])["text"].nunique().tolist() == [1, 1]


@pytest.mark.parametrize("name", ["iemocap4", "iemocap8", "mosi", "mosei"])
def test_feelings_last(name):
    turns = dialogues.make(name, scale=0.25)[0].table
    what = "score" if name in official.SENTIMENT else "label"
    follows = turns["dialogue"] == turns["dialogue"].shift()
    now, last = turns[what][follows], turns[what].shift()[follows]
    if what == "score":
        assert now.corr(last) > 0.3
    else:
        assert (now == last).mean() > (turns["label"].value_counts(normalize=True) ** 2).sum() + 0.2


@pytest.mark.parametrize(("name", "step"), [("mosi", 5), ("mosei", 3)])
def test_scores_are_whole_parts(name, step):
    t = dialogues.make(name, scale=0.25)[0].table
    score = t["score"].dropna()
    np.testing.assert_allclose(score * step, (score * step).round(), atol=1e-3)
    assert (score.min(), score.max()) == (-3, 3)
    assert (t["score"].isna().sum() > 0) == (name == "mosi") and (t["label"][t["score"].isna()] == -1).all()
    assert (t["speaker"] == t["dialogue"]).all()


def _floor(x: np.ndarray, corpus) -> float:
    y, split = corpus.table["label"].to_numpy(), corpus.table["split"].to_numpy()
    train, test = (split == "train") & (y >= 0), (split == "test") & (y >= 0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(x[train], y[train])
    return f1_score(y_true=y[test], y_pred=probe.predict(x[test]), average="weighted")


def _majority(corpus) -> float:
    y, split = corpus.table["label"].to_numpy(), corpus.table["split"].to_numpy()
    y_true = y[(split == "test") & (y >= 0)]
    most = np.bincount(y[(split == "train") & (y >= 0)]).argmax()
    return f1_score(y_true=y_true, y_pred=np.full(len(y_true), most), average="weighted")


@pytest.mark.parametrize("name", ["iemocap4", "iemocap8", "ravdess"])
def test_floors_leave_room_above_and_fusion_and_time_matter(name):
    corpus, arrays = dialogues.make(name, scale=1.0 if name == "ravdess" else 0.5)
    own = {m: a for m, a in arrays.items() if m != "text_asr"}
    scores = {m: _floor(_pooled(a), corpus) for m, a in arrays.items()}
    fused = _floor(np.concatenate([_pooled(a) for a in own.values()], axis=1), corpus)
    assert _majority(corpus) + 0.2 < max(scores.values()) and fused < 0.85
    assert fused > max(scores.values()) + 0.05
    assert list(own) == sorted(own, key=scores.get, reverse=True)
    assert scores.get("text_asr", 0) < scores.get("text", 1) - 0.02
    assert fused + 0.05 < _floor(np.concatenate([_telling(a) for a in own.values()], axis=1), corpus) < 0.95


@pytest.mark.parametrize("name", official.SENTIMENT)
def test_scores_can_be_told_and_fusion_helps(name):
    corpus, arrays = dialogues.make(name, scale=1.0 if name == "mosi" else 0.2)
    score, split = corpus.table["score"].to_numpy(), corpus.table["split"].to_numpy()
    train, test = (split == "train") & ~np.isnan(score), (split == "test") & ~np.isnan(score)

    def correlation(x: np.ndarray) -> float:
        found = make_pipeline(StandardScaler(), Ridge(100)).fit(x[train], score[train]).predict(x[test])
        return np.corrcoef(found, score[test])[0, 1]

    scores = {m: correlation(_means(a)) for m, a in arrays.items()}
    fused = correlation(np.concatenate([_means(a) for a in arrays.values()], axis=1))
    assert 0.5 < min(scores.values()) and max(scores.values()) + 0.03 < fused < 0.9
    assert list(scores) == sorted(scores, key=scores.get, reverse=True)
    classes = _floor(np.concatenate([_pooled(a) for a in arrays.values()], axis=1), corpus)
    assert _majority(corpus) + 0.2 < classes < 0.75


def test_a_run_on_the_usual_twin_can_learn(usual):
    corpus, arrays = usual
    x = np.concatenate([_pooled(a) for m, a in arrays.items() if m != "text_asr"], axis=1)
    assert _floor(x, corpus) > _majority(corpus) + 0.1


def test_a_fifth_of_the_steps_is_misheard():
    _, arrays = dialogues.make("iemocap4", scale=0.1)
    text, asr = arrays["text"], arrays["text_asr"]
    np.testing.assert_array_equal(text.lengths, asr.lengths)
    other = (text.values != asr.values).any(axis=1)
    assert other.mean() == pytest.approx(0.2, abs=0.005)
    where = {step.tobytes(): i for i, step in enumerate(text.values)}
    who = np.repeat(np.arange(len(text.lengths)), text.lengths)
    assert all(who[where[asr.values[i].tobytes()]] != who[i] for i in np.flatnonzero(other))


def test_images_are_smooth():
    corpus, arrays = dialogues.make("ravdess")
    means = pd.DataFrame(_means(arrays["visual"])).groupby(corpus.table["label"]).mean().to_numpy()
    images = (means - means.mean(0)).reshape(-1, 8, 8)
    for axis in (1, 2):
        of_noise = 2 * images.var()
        assert (np.diff(images, axis=axis) ** 2).mean() < 0.5 * of_noise
