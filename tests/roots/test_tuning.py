"""Encoders that learn: what they learn from, what they must not see, and that a second stage reads their vectors."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from filelock import FileLock
from tiny_encoders import save_text_encoder

from merlib import cli, declarations, registry
from merlib.baselines.encoders import TextEncoder
from merlib.data import folders, splits, store, table
from merlib.errors import DeclarationError, FeatureError, RequestError
from merlib.features import text
from merlib.roots import extract, tuning
from merlib.study import notebook, planning, runs
from merlib.twins import dialogues

PARTS = 5  # of [learned.cross_fitted]


@pytest.fixture(scope="module")
def corpus():
    return dialogues.make("meld", seed=1, scale=0.012)[0]


@pytest.fixture(scope="module")
def encoder(corpus, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("bert"))
    save_text_encoder(folder, corpus, "bert")
    return folder


@pytest.fixture
def lab(places, corpus, encoder):
    """A root "lab" with the corpus, and the ids that the encoder reads."""
    table.save(corpus, folders.root_path("lab") / "meld")
    how = {"encoder": encoder, "pool": "ids", "context": "dialogue", "max_tokens": 32, "trained_on": "nothing"}
    extract.encode_text("lab", "meld", name="text_ids_minilm", **how)
    return places


def tuned(encoder: str, name: str = "tuned", paper: str = "mfcre", **options):
    change = {"model.encoder": encoder, "model.dim": 8, "train.epochs": 2, "train.precision": "float32"}
    (file,) = tuning.fine_tune("lab", "meld", paper, name, change=change, device="cpu", progress=False, **options)
    return file


def vectors(file) -> np.ndarray:
    corpus = folders.dataset("lab", "meld", features=()).corpus
    return store.read(file.parents[1], file.stem, ids=corpus.ids).values


def with_labels(corpus, rows: np.ndarray):
    """The same corpus with other labels in some rows."""
    label = corpus.table["label"].where(~rows, (corpus.table["label"] + 1) % len(corpus.labels))
    return replace(corpus, table=corpus.table.assign(label=label))


def test_the_vectors_are_those_of_the_trained_network_and_the_passport_says_what_it_learned_from(lab, corpus, encoder):
    file = tuned(encoder)
    passport, part = store.read_passport(file), corpus.table.set_index("utterance")["split"]
    assert file.stem == "tuned_s0_f0" and passport.extractor.endswith("dialogue of 32 tokens, tuned on train")
    assert set(passport.learned_from) == set(part[part == "train"].index)
    assert set(passport.selected_on) == set(part[part == "val"].index)
    assert passport.trained_on == f"nothing; labels of meld train ({(part == 'train').sum()} utterances)"
    (planned, *_), _ = planning.plan(
        declarations.load("mfcre"), "table_encoders", row="minilm_1e4", data="lab",
        change={"model.encoder": encoder, "model.dim": 8, "train.epochs": 2, "train.precision": "float32"},
    )  # fmt: skip
    assert planned.run.finished, "the row's own run is the encoder: its scores are records"
    with np.load(planned.run.folder / "predictions.npz") as predictions:
        row = {u: i for i, u in enumerate(corpus.ids)}
        own = vectors(file)[[row[u] for u in predictions["ids"]]]
        np.testing.assert_allclose(own, predictions["embedding"], atol=2e-3)
    again = vectors(file)
    file.unlink()
    torch.backends.cuda.enable_flash_sdp(True)  # as in a process that finds the encoder in the cache and trains nothing
    np.testing.assert_array_equal(vectors(tuned(encoder)), again)


def test_an_encoder_learns_from_nothing_but_the_labels_of_its_training_split(lab, corpus, encoder):
    file = tuned(encoder)
    before = vectors(file)
    for part, same in (("test", True), ("train", False)):
        table.save(with_labels(corpus, corpus.table["split"].to_numpy() == part), folders.root_path("lab") / "meld")
        runs._dataset.cache_clear()
        file.unlink()
        file = tuned(encoder)
        assert np.array_equal(vectors(file), before) == same


def test_a_cross_fitted_encoder_has_not_seen_what_it_encodes(lab, corpus, encoder):
    split = corpus.table["split"].to_numpy(str)
    part = splits.parts(corpus.table, split, PARTS)
    assert set(part[split == "train"]) == set(range(1, PARTS + 1)) and not part[split != "train"].any()
    assert (corpus.table.assign(part=part).groupby("dialogue")["part"].nunique() == 1).all()
    first = tuned(encoder, "cross_fitted")
    before = vectors(first)
    assert "cross-fitted in 5 parts" in store.read_passport(first).extractor
    assert "logistic regression on val" in store.read_passport(first).note
    mean = tuned(encoder, "averaged")
    assert "mean of 5 encoders, each tuned on train without one part" in store.read_passport(mean).extractor
    rows = "others" in store.read_passport(first).note.split("(")[0]  # what validation chose for the other utterances
    assert np.array_equal(vectors(mean)[part == 0], before[part == 0]) == rows
    assert (vectors(mean)[part > 0] != before[part > 0]).any(axis=1).all()
    table.save(with_labels(corpus, part == 2), folders.root_path("lab") / "meld")
    runs._dataset.cache_clear()
    first.unlink()
    after = vectors(tuned(encoder, "cross_fitted"))
    np.testing.assert_array_equal(before[part == 2], after[part == 2])
    for other in (1, 3, 4, 5):
        assert (before[part == other] != after[part == other]).any(), "these encoders have learned from part 2"


def test_what_another_process_trains_comes_last(lab, encoder, monkeypatch):
    execute, trained = runs.execute, []

    def held(run, *, wait=True, **options):
        part = run.recipe["protocol"].get("without", 0)
        run.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(run.folder / ".lock") if part == 1 and not wait else nullcontext():
            trained.append((part, execute(run, wait=wait, **options) is not None))

    monkeypatch.setattr(runs, "execute", held)
    tuned(encoder, "cross_fitted")
    rest = [(part, True) for part in range(2, PARTS + 1)]
    assert trained == [(0, True), (1, False), *rest, (0, True), (1, True), *rest]


def test_no_run_tests_or_validates_on_what_its_encoder_has_seen(lab, corpus, encoder):
    file = tuned(encoder)
    paper = declarations.load("mfcre")
    ((planned, *_), _) = planning.plan(paper, "table_encoders", row="logistic_tuned", data="lab")
    assert planned.run.arrays == {"text": "tuned_s0_f0"}
    planned.run.splits()
    seen = store.read_passport(file)
    for field, where, ids in (
        ("learned_from", "val", seen.selected_on[:1]), ("learned_from", "test", None), ("selected_on", "test", None)
    ):  # fmt: skip
        ids = ids or (corpus.table["utterance"][corpus.table["split"] == "test"].iloc[0],)
        feature = planned.run.dataset.features["tuned_s0_f0"]
        wrong = replace(feature, passport=replace(feature.passport, **{field: ids}))
        leaky = replace(planned.run.dataset, features={"tuned_s0_f0": wrong})
        run = replace(planned.run)
        run.__dict__["dataset"] = leaky
        with pytest.raises(FeatureError, match=f"seen the labels of 1 of the .* utterances of {where}, first {ids[0]}"):
            run.splits()


def test_states_of_tokens_are_those_of_the_tuned_encoder(lab, corpus, encoder, tmp_path, monkeypatch):
    paper = declarations.load("mfcre")
    learned = {name: each.model_copy(update={"tokens": True}) for name, each in paper.learned.items()}
    monkeypatch.setattr(declarations, "load", lambda name: paper.model_copy(update={"learned": learned}))
    file = tuned(encoder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    change = {"model.encoder": encoder, "model.dim": 8, "train.epochs": 2, "train.precision": "float32"}
    (planned, *_), _ = planning.plan(paper, "table_encoders", row="minilm_1e4", data="lab", change=change)
    runs.network(planned.run, "cpu").encoder.save_pretrained(tmp_path / "learned")
    tokenizer.save_pretrained(tmp_path / "learned")
    how = {"pool": "tokens", "context": "dialogue", "max_tokens": 32}
    expected = text.encode(corpus, encoder=str(tmp_path / "learned"), **how)
    frozen = text.encode(corpus, encoder=encoder, **how)
    found = store.read(file.parents[1], file.stem, ids=corpus.ids)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_allclose(found.values, expected.values, rtol=5e-3, atol=5e-3)
    assert np.abs(found.values - frozen.values).max() > 0.05 and found.values.dtype == np.float16
    assert found.passport.extractor.endswith("tuned on train, states of tokens")
    crossed = tuned(encoder, "cross_fitted")
    assert store.read(crossed.parents[1], crossed.stem, ids=corpus.ids).values.shape == found.values.shape


def test_the_command_adds_the_arrays_and_a_notebook_tells_what_they_have_learned_from(lab, encoder, capsys):
    changes = [f"--set={key}" for key in (f"model.encoder={encoder}", "model.dim=8", "train.epochs=1")]
    cli.main(["data", "fine-tune", "lab", "meld", "mfcre", "tuned", "--seeds", "0,2", *changes])
    assert [line.rpartition("/")[2] for line in capsys.readouterr().out.split()] == [
        "tuned_s0_f0.safetensors", "tuned_s2_f0.safetensors",
    ]  # fmt: skip
    shown = notebook.learned(declarations.load("mfcre"), "lab")
    assert list(shown.index) == [("meld", "tuned_s0_f0"), ("meld", "tuned_s2_f0")]
    assert (shown["learned from"] > shown["selected on"]).all() and shown["note"].str.startswith("seed ").all()


def test_without_what_an_encoder_reads_nothing_is_learned(lab):
    store.path(folders.root_path("lab") / "meld", "text_ids_minilm").unlink()
    with pytest.raises(RequestError, match="lab/meld has no array that one of .*: make token ids by"):
        tuning.fine_tune("lab", "meld", "mfcre", "tuned")
    with pytest.raises(RequestError, match="tunde"):
        tuning.fine_tune("lab", "meld", "mfcre", "tunde")


def test_a_batch_learns_what_its_tables_read_and_the_root_allows():
    paper, arrays = declarations.load("mfcre"), {"meld": ["text_ids_minilm", "text"], "iemocap6": ["text"]}
    assert declarations.wanted(paper, ["table4"], arrays) == [("meld", "tuned")]
    assert declarations.wanted(paper, ["table_encoders"], arrays) == [
        ("meld", "tuned"),
        ("meld", "cross_fitted"),
        ("meld", "averaged"),
    ]
    assert declarations.encoder_of(paper, "tuned", "meld", ["text_ids", "text_ids_minilm"])[1].id == "roberta"


def test_rows_wait_for_the_vectors_of_their_own_seed(lab, encoder):
    tuned(encoder)
    paper = declarations.load("mfcre")
    planned, skipped = planning.plan(paper, "table_encoders", row=["bigru_tuned", "bigru_cross_fitted"], data="lab")
    assert [each.row.id for each in planned] == ["bigru_tuned"]
    remedy = "; `merlib data fine-tune` makes what an encoder has learned"
    assert skipped == [f"bigru_cross_fitted on meld (TAV): no cross_fitted_s0_f0, audio, visual{remedy}"]
    _, skipped = planning.plan(paper, "table_encoders", row="bigru_tuned", data="lab", seed=1)
    assert skipped == [f"bigru_tuned on meld (TAV): no tuned_s1_f0, audio, visual{remedy}"]
    tuned(encoder, seeds=(1,))
    (one,), _ = planning.plan(paper, "table_encoders", row="bigru_tuned", data="lab", seed=1)
    assert one.run.recipe_id == planned[0].run.recipe_id and one.run.id != planned[0].run.id


def test_a_paper_that_tunes_its_encoder_reads_it_where_it_is_and_frozen_vectors_elsewhere(lab, encoder):
    """With one for all seeds: a row whose seeds had read different vectors would be no row."""
    extract.encode_text("lab", "meld", name="text", encoder=encoder, max_tokens=32)
    paper = declarations.load("mfcre")
    for seed in (0, 1):
        ((planned,), _) = planning.plan(paper, "table3", row="bigru", data="lab", seed=seed)
        assert planned.run.arrays == {"text": "text"}
        assert declarations.substitutes(paper, "meld", planned.run.recipe) == ["frozen_text"]
    tuned(encoder)
    ((planned,), _) = planning.plan(paper, "table3", row="bigru", data="lab")
    assert planned.run.arrays == {"text": "tuned_s0_f0"}
    assert declarations.substitutes(paper, "meld", planned.run.recipe) == []
    planned, skipped = planning.plan(paper, "table3", row="bigru", data="lab", seed=1)
    assert not planned and skipped == [
        "bigru on meld (TAV): no tuned_s1_f0, audio, visual; `merlib data fine-tune` makes what an encoder has learned"
    ]


def test_another_encoders_array_is_not_overwritten(lab, encoder):
    file = tuned(encoder)
    with pytest.raises(FeatureError, match="of other weights. Delete it, or take another root"):
        file.rename(file.with_name("cross_fitted_s0_f0.safetensors"))
        tuned(encoder, "cross_fitted")


def test_gradients_reach_the_whole_encoder_and_padding_changes_nothing(corpus, encoder):
    section = {"encoder": encoder, "pool": "words", "dim": 8, "dropout": 0.0, "checkpointing": False}
    given = {"dims": {"text": 2}, "classes": 7, "sentiment": False}
    net = registry.build("model", section | {"name": "text_encoder"}, **given)
    assert isinstance(net, TextEncoder) and all("pooler" not in name for name, _ in net.named_parameters())
    array = text.encode(corpus, encoder=encoder, pool="ids", context="dialogue", max_tokens=32)
    rows = [torch.tensor(part) for part in np.split(array.values, array.lengths.cumsum()[:-1])[:5]]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(x.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    outputs = net.eval()({"text": x, "text_mask": mask})
    alone = [net({"text": row[None], "text_mask": torch.ones(1, len(row), dtype=torch.bool)}) for row in rows]
    torch.testing.assert_close(outputs["logits"], torch.cat([each["logits"] for each in alone]), rtol=1e-4, atol=1e-5)
    mean = text.encode(corpus, encoder=encoder, pool="mean", context="dialogue", max_tokens=32).values[:5]
    torch.testing.assert_close(outputs["embedding"], net.head(torch.tensor(mean))["embedding"], rtol=1e-4, atol=1e-5)
    outputs["logits"].square().sum().backward()
    unread = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert not unread, "every weight learns"


def test_ids_of_another_encoder_are_refused(lab, corpus, encoder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    save_text_encoder(str(other), corpus, "roberta")
    with pytest.raises(DeclarationError, match=r"reads the ids of its own tokens, .*--pool ids --encoder"):
        tuned(str(other))
